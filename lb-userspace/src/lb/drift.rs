//! What others have taken away of what is attached and pinned, and putting it back.

use std::fs;
use std::path::Path;

use aya::Ebpf;
use lb_common::abi::Control;

use super::maps::{Maps, NAMES};
use super::{Error, LoadBalancer, XdpMode, links, provide_bpffs};
use crate::net::Netns;

/// What was not as it should be, and is again: [`LoadBalancer::repair`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repaired {
    /// Maps were not pinned. They and all flows are what they were: this process holds them.
    Pins,
    /// The uplink had no program, as its link was not pinned, or as the interface is another one of the same name.
    Uplink,
    /// This interface of a tenant's had no program, as the link was not pinned.
    Tenant(String),
}

impl LoadBalancer {
    /// Compares pins and attached programs with what should be, and puts back what is missing. Returns what was. An
    /// interface that is not there now is left alone. To be called every few seconds: it takes well under a millisecond
    /// where nothing is missing.
    ///
    /// # Errors
    /// The first thing that can't be put back. What comes before it is put back; the call is to be made again.
    pub fn repair(&mut self) -> Result<Vec<Repaired>, Error> {
        let mut repaired = Vec::new();
        if self.pin_again()? {
            repaired.push(Repaired::Pins);
        }
        let interfaces = links::interfaces(&self.transit)?;
        if let Some(&index) = interfaces.get(&self.uplink)
            && self.attach_uplink_again(index)?
        {
            repaired.push(Repaired::Uplink);
        }
        for link in self.tenants.values() {
            if interfaces.contains_key(&link.interface) && !links::holds_tenant(&self.pins, link) {
                links::attach_tenant(&mut self.ebpf, &self.pins, &self.transit, link)?;
                repaired.push(Repaired::Tenant(link.interface.clone()));
            }
        }
        Ok(repaired)
    }

    fn pin_again(&self) -> Result<bool, Error> {
        let is_missing = |name: &&&str| !self.pins.join(name).exists();
        let missing: Vec<&str> = NAMES.iter().filter(is_missing).copied().collect();
        if missing.is_empty() {
            return Ok(false);
        }
        provide_bpffs(&self.pins)?;
        fs::create_dir_all(&self.pins).map_err(Error::file("creating", &self.pins))?;
        for name in missing {
            let map = self.ebpf.map(name).ok_or(Error::MissingPart(name))?;
            let path = self.pins.join(name);
            map.pin(&path).map_err(|error| Error::file("pinning", &path)(std::io::Error::other(error)))?;
        }
        Ok(true)
    }

    fn attach_uplink_again(&mut self, index: u32) -> Result<bool, Error> {
        let control = self.maps.control()?;
        let is_held = links::holds_uplink(&self.pins, &self.uplink, self.mode, control.handing_over != 0);
        if control.uplink == index && is_held {
            return Ok(false);
        }
        let (transit, uplink) = (&self.transit, &self.uplink);
        self.mode = attach_uplink(&mut self.ebpf, &mut self.maps, &self.pins, (transit, uplink, index))?;
        self.follow_uplink()?;
        Ok(true)
    }
}

/// Attaches the programs to the uplink, of this name and with this index now, and tells them which interface it is.
pub(super) fn attach_uplink(
    ebpf: &mut Ebpf,
    maps: &mut Maps,
    pins: &Path,
    (transit, name, index): (&Netns, &str, u32),
) -> Result<XdpMode, Error> {
    let before = maps.control()?;
    // Nothing is handed over to an interface that is gone.
    let handing_over = if before.handing_over == index { index } else { 0 };
    maps.set_control(&Control { uplink: index, handing_over, ..before })?;
    let mode = links::attach_uplink(ebpf, pins, transit, name)?;
    let hands_over = links::attach_transmit(ebpf, pins, transit, name, mode)?;
    maps.set_control(&Control { handing_over: if hands_over { index } else { 0 }, ..maps.control()? })?;
    Ok(mode)
}
