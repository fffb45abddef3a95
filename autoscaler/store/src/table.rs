//! The database's tables, and the ledger that bounds them.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use redb::{Error, ReadableTable, TableDefinition, WriteTransaction};

/// Rows by tenant and minute.
type Rows = TableDefinition<'static, (&'static str, i64), &'static [u8]>;

/// Bytes by table and tenant: redb could count them only by walking its trees.
const LEDGER: TableDefinition<'static, (&'static str, &'static str), u64> = TableDefinition::new("ledger");

/// What a row is charged beside its own bytes: its key, and its share of the tree.
const OVERHEAD: u64 = 64;
/// redb's page.
const PAGE: u64 = 4096;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// Samples as they were taken.
    Fine,
    /// One-minute roll-ups of instances.
    Instances,
    /// One-minute roll-ups of the group.
    Groups,
    /// Decisions.
    Decisions,
}

impl Table {
    pub(crate) const ALL: [Self; 4] = [Self::Fine, Self::Instances, Self::Groups, Self::Decisions];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Instances => "instances",
            Self::Groups => "groups",
            Self::Decisions => "decisions",
        }
    }

    pub(crate) fn rows(self) -> Rows {
        TableDefinition::new(self.name())
    }
}

/// The bytes that each tenant has in each table.
pub(crate) type Ledger = BTreeMap<(String, Table), u64>;

/// Makes the tables that are not there, so that a reader finds them.
pub(crate) fn create(transaction: &WriteTransaction) -> Result<(), Error> {
    for table in Table::ALL {
        transaction.open_table(table.rows())?;
    }
    transaction.open_table(LEDGER)?;
    Ok(())
}

/// Writes a row in place of the one that may be there.
pub(crate) fn put(
    transaction: &WriteTransaction,
    table: Table,
    tenant: &str,
    minute: i64,
    row: &[u8],
) -> Result<(), Error> {
    let before =
        transaction.open_table(table.rows())?.insert((tenant, minute), row)?.map(|b| size(b.value()));
    charge(transaction, table, tenant, |bytes| bytes.saturating_sub(before.unwrap_or(0)) + size(row))
}

/// Removes a tenant's rows of a span of minutes.
pub(crate) fn remove(
    transaction: &WriteTransaction,
    table: Table,
    tenant: &str,
    minutes: RangeInclusive<i64>,
) -> Result<(), Error> {
    let mut removed = 0;
    let mut rows = transaction.open_table(table.rows())?;
    let (first, last) = minutes.into_inner();
    rows.retain_in((tenant, first)..=(tenant, last), |_, row| {
        removed += size(row);
        false
    })?;
    if removed == 0 {
        return Ok(());
    }
    charge(transaction, table, tenant, |bytes| bytes.saturating_sub(removed))
}

/// Removes a tenant's oldest rows of a table: as many as give back so many bytes, or all.
pub(crate) fn shrink(
    transaction: &WriteTransaction,
    table: Table,
    tenant: &str,
    bytes: u64,
) -> Result<(), Error> {
    let (mut found, mut last) = (0, None);
    let rows = transaction.open_table(table.rows())?;
    for row in rows.range((tenant, i64::MIN)..=(tenant, i64::MAX))? {
        let (key, row) = row?;
        found += size(row.value());
        last = Some(key.value().1);
        if found >= bytes {
            break;
        }
    }
    drop(rows);
    match last {
        Some(last) => remove(transaction, table, tenant, i64::MIN..=last),
        // The ledger is wrong, by a bug: it must not make us try for ever.
        None => charge(transaction, table, tenant, |_| 0),
    }
}

/// The newest minute of which there is any row.
pub(crate) fn newest(transaction: &WriteTransaction) -> Result<Option<i64>, Error> {
    let mut newest = None;
    for (tenant, table) in ledger(transaction)?.keys() {
        let rows = transaction.open_table(table.rows())?;
        let last = rows.range((tenant.as_str(), i64::MIN)..=(tenant.as_str(), i64::MAX))?.next_back();
        newest = newest.max(last.transpose()?.map(|(key, _)| key.value().1));
    }
    Ok(newest)
}

/// The ledger.
pub(crate) fn ledger(transaction: &WriteTransaction) -> Result<Ledger, Error> {
    let mut found = Ledger::new();
    for entry in transaction.open_table(LEDGER)?.iter()? {
        let (key, bytes) = entry?;
        let (name, tenant) = key.value();
        if let Some(table) = Table::ALL.into_iter().find(|table| table.name() == name) {
            found.insert((tenant.to_owned(), table), bytes.value());
        }
    }
    Ok(found)
}

fn charge(
    transaction: &WriteTransaction,
    table: Table,
    tenant: &str,
    change: impl FnOnce(u64) -> u64,
) -> Result<(), Error> {
    let mut ledger = transaction.open_table(LEDGER)?;
    let key = (table.name(), tenant);
    let now = change(ledger.get(key)?.map_or(0, |bytes| bytes.value()));
    if now == 0 {
        ledger.remove(key)?;
    } else {
        ledger.insert(key, now)?;
    }
    Ok(())
}

/// What a row takes. One that is larger than a page gets pages of its own, of which redb takes a power of two.
fn size(row: &[u8]) -> u64 {
    let bytes = row.len() as u64 + OVERHEAD;
    if bytes > PAGE { bytes.next_power_of_two() } else { bytes }
}
