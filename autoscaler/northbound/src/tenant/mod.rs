//! Tenant files.
//!
//! A tenant file has one of two forms, told apart by the key with the tenant's name. Keys may be written with
//! spaces or underscores: `nw name` is `nw_name`. Durations are `120s`, `5m`, `2m30s`, `500ms`; a bare number is
//! in seconds.
//!
//! The **flat form** is that of the original system:
//!
//! | key | meaning | default |
//! | --- | --- | --- |
//! | `t_name` | the tenant's name | required |
//! | `nw_name` | its network's name | required |
//! | `subnet` | the network's addresses | required |
//! | `subnet_addr` | the gateway, an address of the subnet | the first address |
//! | `subnet_mask` | the subnet's mask once more; must agree | |
//! | `dhcp_start`, `dhcp_end` | the addresses given to instances | all but the gateway |
//! | `min_containers`, `max_containers` (or `min_instances`, `max_instances`) | the group's limits | required |
//! | `public_ip` | the VIP: ICMP echo and TCP on every port | required |
//! | `spread`, `slow_start` | who shares new flows evenly, and how slowly a new instance takes its share | `by_instance`, `0s` |
//! | `policy` | `dynamic` (or `reactive`) scales by CPU, `proactive` by the CPU that is expected, `none` leaves the number to people | required |
//! | `threshold` | CPU utilisation, see below | required with `dynamic` |
//! | `window` | the mean is taken over so long | `5m` |
//! | `buffer_time`, `cool_down` | the group's pace | `120s`, `300s` |
//! | `cpus`, `request_cost`, `port`, `command` | the template | `0.5`, `2ms`, `80`, the built-in responder |
//! | `should_log`, `should_encrypt_pwd` | `1` or `0` | `1` |
//!
//! The **structured form** says the same and all the rest; `examples/tenants/structured.yml` has every key with
//! its default and unit.
//!
//! **Thresholds.** CPU utilisation is measured against the cores that the template grants. A number up to 1 is a
//! fraction (`0.3` is 30 %), a number above 1 is percent (`60` is 60 %), and a text with `%` is percent (`0.5%`).
//! The threshold of any other metric is a number in that metric's unit.

mod conflicts;
mod dates;
mod draft;
mod flat;
mod metrics;
mod service;
mod soundness;
mod structured;
mod template;
#[cfg(test)]
mod tests;

use std::time::Duration;

use sluice_logic::spec::TenantSpec;

pub use conflicts::{
    Conflict, check_clouds, check_host_addresses, check_reserved, check_windows, cross_check,
};
pub use dates::check_dates;
pub(crate) use draft::min_instances;
pub(crate) use flat::policies as policy_by_name;

use crate::diagnostic::{Diagnostic, Faults, Place, Source};
use crate::reader::normalised;
use crate::yaml::{Kind, Node};

/// Default of `buffer_time`.
pub const DEFAULT_BUFFER_TIME: Duration = Duration::from_mins(2);
/// Default of `cool_down`.
pub const DEFAULT_COOL_DOWN: Duration = Duration::from_mins(5);
/// Default of a policy's `window`.
pub const DEFAULT_WINDOW: Duration = Duration::from_mins(5);
/// Default of the template's `cpus`, in cores.
pub const DEFAULT_CPUS: f64 = 0.5;
/// Default of the template's `request_cost`.
pub const DEFAULT_REQUEST_COST: Duration = Duration::from_millis(2);
/// Default of the template's `port`.
pub const DEFAULT_PORT: u16 = 80;
/// Default of the template's `start_timeout`.
pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_mins(1);

/// A tenant file that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// What it asks for.
    pub spec: TenantSpec,
    /// What may not do what its author wants, sorted by place.
    pub warnings: Vec<Diagnostic>,
    /// The file, as the reader was told to call it.
    pub file: String,
    places: Places,
}

impl Tenant {
    /// What a file asked for that can't be read again.
    pub(crate) fn recalled(file: String, spec: TenantSpec) -> Self {
        let of = |count| vec![Place::default(); count];
        let places = Places {
            name: Place::default(),
            subnets: of(spec.networks.len()),
            vips: of(spec.services.len()),
            policies: of(spec.policies.len()),
        };
        Self { spec, warnings: Vec::new(), file, places }
    }
}

/// Where the file says what other tenants, or the host, may not go together with.
#[derive(Debug, Clone, PartialEq)]
struct Places {
    name: Place,
    /// Beside [`TenantSpec::networks`].
    subnets: Vec<Place>,
    /// Beside [`TenantSpec::services`].
    vips: Vec<Place>,
    /// Beside [`TenantSpec::policies`].
    policies: Vec<Place>,
}

/// Reads a tenant file. `file` is what messages call it.
///
/// # Errors
/// All faults of the file, and its warnings, sorted by place.
pub fn parse(file: &str, text: &str) -> Result<Tenant, Vec<Diagnostic>> {
    let source = Source { label: file, text };
    source.read(crate::yaml::parse(text), read)
}

pub(crate) fn read(source: Source<'_>, node: &Node) -> Result<Tenant, Vec<Diagnostic>> {
    let mut faults = Faults::new(source);
    let draft = match form(node) {
        Form::Flat => flat::read(&mut faults, node),
        Form::Structured => structured::read(&mut faults, node),
    };
    let made = draft.and_then(|draft| {
        soundness::check(&mut faults, &draft);
        draft.finish(&faults)
    });
    let ((spec, places), warnings) = faults.conclude(made)?;
    Ok(Tenant { spec, warnings, file: source.label.to_owned(), places })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Flat,
    Structured,
}

/// The key with the name decides; with both or none, whichever form has more of the keys that are there.
fn form(node: &Node) -> Form {
    let keys = top_keys(node);
    let has = |name: &str| keys.iter().any(|key| key == name);
    let count = |known: &[&str]| keys.iter().filter(|key| known.contains(&key.as_str())).count();
    match (has("t_name"), has("tenant")) {
        (true, false) => Form::Flat,
        (false, true) => Form::Structured,
        _ if count(flat::KEYS) > count(structured::KEYS) => Form::Flat,
        _ => Form::Structured,
    }
}

/// How many of a file's keys on the first level are a tenant's.
pub(crate) fn familiar_keys(node: &Node) -> usize {
    let known = |key: &String| [flat::KEYS, structured::KEYS].concat().contains(&key.as_str());
    top_keys(node).iter().filter(|key| known(key)).count()
}

pub(crate) fn top_keys(node: &Node) -> Vec<String> {
    let Kind::Mapping(entries) = &node.kind else { return Vec::new() };
    entries
        .iter()
        .filter_map(|(key, _)| match &key.kind {
            Kind::Scalar { text, .. } => Some(normalised(text)),
            _ => None,
        })
        .collect()
}
