//! Who has how much of the flow table.
//!
//! The programs count entries as they are made and deleted, and keep each service within its quota. Here the quota is
//! made from the number of services, and what was counted is compared with what a sweep has found.

use lb_common::abi::{Control, FlowUse, Quota, SweepOrder, sweep_order};
use serde::{Deserialize, Serialize};

use super::maps::Maps;
use super::{Error, LoadBalancer};

/// How full the flow table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTableUse {
    /// Entries, of live flows and of those that have ended a moment ago.
    pub used: u64,
    /// Entries for which there is room (`max_flows`).
    pub room: u64,
}

/// What a service has of the flow table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceUse {
    /// Its entries in the flow table, of live flows and of those that have ended a moment ago.
    pub flow_entries: u64,
    /// The most that it may have. A part is its own; what is beyond that it has as long as others don't need it.
    pub flow_quota: u64,
    /// Flows that weren't recorded, since the quota or the table was full. Their packets go to the owner of their slot; when that
    /// changes, they may break.
    pub flows_refused: u64,
}

impl ServiceUse {
    fn of(usage: FlowUse, quota: &Quota) -> Self {
        Self { flow_entries: usage.used, flow_quota: u64::from(quota.most), flows_refused: usage.refused }
    }
}

impl Maps {
    /// How full the flow table is.
    pub(super) fn flow_table_use(&self) -> Result<FlowTableUse, Error> {
        let used = self.flow_uses()?.iter().map(|usage| usage.used).sum();
        Ok(FlowTableUse { used, room: u64::from(self.control()?.flow_room) })
    }

    /// What the service in a place has of it.
    pub(super) fn service_use(&self, service: u16) -> Result<ServiceUse, Error> {
        Ok(ServiceUse::of(self.flow_use(service)?, &self.control()?.quota))
    }
}

impl LoadBalancer {
    /// Shares the table among the services that there are.
    pub(super) fn share_flow_table(&mut self) -> Result<(), Error> {
        let before = self.maps.control()?;
        let services = u32::try_from(self.registry.services().count()).unwrap_or(u32::MAX);
        let quota = Quota::of(before.flow_room, services);
        if quota == before.quota {
            return Ok(());
        }
        self.maps.set_control(&Control { quota, ..before })?;
        // What is beyond a share is another number now.
        self.put_common_right(0)
    }

    /// Puts right what the service in a place is counted to use, where a sweep has found another number.
    pub(super) fn put_use_right(
        &self,
        service: u16,
        before: FlowUse,
        found: u32,
        tolerance: u64,
    ) -> Result<(), Error> {
        let after = self.maps.flow_use(service)?.used;
        let by = drift(before.used, after, u64::from(found), tolerance);
        self.adjust(u32::from(service), by)
    }

    /// Puts right what the services are counted to use of the common half.
    pub(super) fn put_common_right(&self, tolerance: u64) -> Result<(), Error> {
        let quota = self.maps.control()?.quota;
        let before = self.maps.flow_common()?;
        let found = self.maps.flow_uses()?.iter().map(|usage| quota.beyond_share(usage.used)).sum();
        let by = drift(before, self.maps.flow_common()?, found, tolerance);
        self.adjust(sweep_order::COMMON, by)
    }

    fn adjust(&self, with: u32, by: i64) -> Result<(), Error> {
        if by == 0 {
            return Ok(());
        }
        tracing::debug!(with, by, "the flow table's use was counted wrong");
        self.order(SweepOrder { what: sweep_order::ADJUST, with, by: by.cast_unsigned() }).map(drop)
    }

    /// How many entries may come and go unnoticed while they are counted.
    pub(super) fn tolerance(&self) -> Result<u64, Error> {
        Ok(u64::from(self.maps.control()?.flow_room / 256))
    }
}

/// By how much a count is wrong that was `before` and `after` while so much was found. What comes and goes meanwhile is no fault.
fn drift(before: u64, after: u64, found: u64, tolerance: u64) -> i64 {
    // A count that was taken down too often is below zero.
    let (before, after, found) = (before.cast_signed(), after.cast_signed(), found.cast_signed());
    let tolerance = tolerance.cast_signed();
    if found < before.min(after) - tolerance || found > before.max(after) + tolerance {
        found - after
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::drift;

    #[test]
    fn a_count_is_put_right_where_it_is_wrong() {
        assert_eq!(drift(500, 500, 500, 10), 0);
        assert_eq!(drift(500, 500, 499, 0), -1);
        assert_eq!(drift(500, 520, 540, 10), 20);
        assert_eq!(drift(500, 520, 480, 10), -40);
        assert_eq!(drift(u64::MAX, u64::MAX, 3, 0), 4, "below zero");
    }

    #[test]
    fn what_comes_and_goes_is_no_fault() {
        for found in 490..=530 {
            assert_eq!(drift(500, 520, found, 10), 0);
            assert_eq!(drift(520, 500, found, 10), 0);
        }
    }
}
