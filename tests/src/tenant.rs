//! Tenant files for tests.

use std::net::Ipv4Addr;

use sluice_logic::spec::TenantName;

/// A tenant file.
#[derive(Debug, Clone)]
pub struct TenantFile {
    name: &'static str,
    subnet: u8,
    min: u32,
    max: u32,
    more: String,
    structured: bool,
    others: Vec<(&'static str, u8)>,
}

impl TenantFile {
    /// A group whose number is set by hand, of cheap instances, with a cool-down of 12 s.
    ///
    /// `subnet` is the third number of its network, 10.232.x.0/24, and the last of its VIP, which is 198.51.100.x
    /// and must be above 65.
    #[must_use]
    pub fn new(name: &'static str, subnet: u8, min: u32, max: u32) -> Self {
        let more = "policy: none\nbuffer_time: 1s\ncool_down: 12s\ncpus: 1\nrequest_cost: 0s\n".to_owned();
        Self { name, subnet, min, max, more, structured: false, others: Vec::new() }
    }

    /// The same in the structured form.
    #[must_use]
    pub fn structured(name: &'static str, subnet: u8, min: u32, max: u32) -> Self {
        Self { more: String::new(), structured: true, ..Self::new(name, subnet, min, max) }
    }

    /// Gives it a further network, `<name>-<suffix>`, 10.`second`.x.0/24, in the structured form.
    #[must_use]
    pub fn beside(mut self, suffix: &'static str, second: u8) -> Self {
        self.others.push((suffix, second));
        self
    }

    /// Replaces all that is not name, network and limits.
    #[must_use]
    pub fn with(mut self, more: &str) -> Self {
        more.clone_into(&mut self.more);
        self
    }

    /// Its name.
    ///
    /// # Panics
    /// When the test has given a name that no tenant may have.
    #[must_use]
    pub fn name(&self) -> TenantName {
        TenantName::try_from(self.name.to_owned()).expect("tests give good names")
    }

    /// The file's name.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.yml", self.name)
    }

    /// The public address, on the clients' link.
    #[must_use]
    pub fn vip(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 51, 100, self.subnet)
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { name, subnet, min, max, more, structured, others } = self;
        if *structured {
            let vip = self.vip();
            let network = |(suffix, second): &(&str, u8)| {
                format!(", {{name: {name}-{suffix}, subnet: 10.{second}.{subnet}.0/24}}")
            };
            let others: String = others.iter().map(network).collect();
            return format!(
                "tenant: {name}\nnetworks: [{{name: {name}-net, subnet: 10.232.{subnet}.0/24}}{others}]\nservices: \
                 [{{vip: {vip}, protocol: icmp}}, {{vip: {vip}, protocol: tcp}}]\ngroup: {{min: {min}, max: {max}, buffer_time: \
                 1s, cool_down: 12s}}\n{more}"
            );
        }
        format!(
            "t_name: {name}\nnw_name: {name}-net\nsubnet: 10.232.{subnet}.0/24\npublic_ip: {}\nmin_instances: \
             {min}\nmax_instances: {max}\n{more}",
            self.vip()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_a_good_one() {
        let file = TenantFile::new("web", 80, 2, 5);
        let tenant = sluice_northbound::tenant::parse("web.yml", &file.text());
        let tenant = tenant.unwrap_or_else(|faults| panic!("{faults:#?}\n{}", file.text()));
        assert!(tenant.warnings.is_empty(), "{:#?}", tenant.warnings);
        assert_eq!((tenant.spec.group.min, tenant.spec.group.max), (2, 5));
    }
}
