//! Decisions of the uplink's program, as it makes them.
//!
//! The program begins with a tail call into an array with room for one program, `watchers`. The watcher puts its own there:
//! the same code on the same maps, which tells what it does. The array is open in the watcher only, and the kernel empties one
//! that is open nowhere, so a watcher that is killed leaves nothing. An empty array costs nothing: the kernel has compiled the
//! call to a jump over it.

mod sample;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::{ProgramError, Xdp, loaded_programs};
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use lb_common::abi::Address;
use lb_common::watch::{Counts, Decision, Filter};

pub use sample::Sample;

use super::{Look, uplink_program};
use crate::lb::maps::NAMES;
use crate::lb::tenants::mask;
use crate::lb::{Error, address, registry};
use crate::object::watch_object;
use crate::service::ServiceSelector;

/// The array of programs into which the uplink's calls, and its only place.
const WATCHERS: &str = "watchers";
const PLACE: u32 = 0;

/// Which packets are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchFilter {
    /// Only to this service, or to this VIP.
    pub service: Option<ServiceSelector>,
    /// Only from these clients.
    pub client: Option<IpNet>,
    /// Also what isn't sent to a VIP, and so is the kernel's.
    pub all: bool,
    /// Of each CPU's packets, one in so many; at least 1.
    pub every: u32,
}

/// A look at each decision. Ends with this value, and with this process.
pub struct Watch {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    counts: PerCpuArray<MapData, Counts>,
    seat: Seat,
    pins: PathBuf,
}

/// The watcher's place before the uplink's program.
struct Seat {
    /// The program that is watched.
    uplink: u32,
    /// Open here and nowhere else: the kernel empties the array when it is closed.
    watchers: OwnedFd,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("uplink", &self.seat.uplink).finish_non_exhaustive()
    }
}

/// How many packets there were for a watcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// Those that its filter wants, shown or not.
    pub wanted: u64,
    /// Those that it read too slowly for.
    pub lost: u64,
}

impl Look {
    /// Begins to watch. Takes as long as the verifier: some ten milliseconds, during which packets flow.
    ///
    /// # Errors
    ///
    /// [`Error::NoUplink`] where no program is attached; [`Error::Watched`] where somebody watches already;
    /// [`Error::NotWatchable`] where the program there has no place for a watcher; the errors of loading a program.
    pub fn watch(&self, filter: &WatchFilter) -> Result<Watch, Error> {
        let mut loader = EbpfLoader::new();
        for &name in NAMES {
            loader.map_pin_path(name, self.pins.join(name));
        }
        let mut ebpf = loader.load(watch_object().ok_or(Error::NoObject)?)?;
        let mut take = |name: &'static str| ebpf.take_map(name).ok_or(Error::MissingPart(name));
        let mut settings = Array::try_from(take("watch_filter")?).map_err(Error::map("watch_filter"))?;
        settings.set(0, kernel_filter(filter)?, 0).map_err(Error::map("watch_filter"))?;
        let counts = PerCpuArray::try_from(take("watch_counts")?).map_err(Error::map("watch_counts"))?;
        let ring = RingBuf::try_from(take("watch_ring")?).map_err(Error::map("watch_ring"))?;
        program(&mut ebpf)?.load().map_err(Error::program("watch"))?;
        let seat = Seat::take(&self.pins, program(&mut ebpf)?)?;
        Ok(Watch { ebpf, ring, counts, seat, pins: self.pins.clone() })
    }
}

impl Watch {
    /// The next decision, if there is one. Where there is none, wait until the descriptor is readable.
    pub fn read(&mut self) -> Option<Sample> {
        let item = self.ring.next()?;
        let bytes = <&[u8; size_of::<Decision>()]>::try_from(&*item).ok()?;
        // SAFETY: any bytes are a decision: `Pod`.
        let decision = unsafe { bytes.as_ptr().cast::<Decision>().read_unaligned() };
        Some(Sample::of(&decision))
    }

    /// How many packets there were.
    pub fn watched(&self) -> Result<Watched, Error> {
        let counts = self.counts.get(&0, 0).map_err(Error::map("watch_counts"))?;
        Ok(Watched {
            wanted: counts.iter().map(|counts| counts.wanted).sum(),
            lost: counts.iter().map(|counts| counts.lost).sum(),
        })
    }

    /// Goes over to the program that has taken the place of the one that is watched: a new daemon brings its own. Also takes
    /// its place again where the kernel has emptied it after the watcher before, which it does somewhat later. To be called
    /// now and then. Whether there was another program.
    ///
    /// # Errors
    ///
    /// As [`Look::watch`].
    pub fn follow(&mut self) -> Result<bool, Error> {
        let program = program(&mut self.ebpf)?;
        let mine = program.info().map_err(Error::program("watch"))?.id();
        let before = self.seat.uplink;
        if uplink_program(&self.pins) == Some(before) && self.seat.holder()? == Some(mine) {
            return Ok(false);
        }
        self.seat = Seat::take(&self.pins, program)?;
        Ok(self.seat.uplink != before)
    }
}

impl Seat {
    fn take(pins: &Path, program: &Xdp) -> Result<Self, Error> {
        let (uplink, watchers) = watchers(pins)?;
        let seat = Self { uplink, watchers };
        if seat.holder()?.is_some() {
            return Err(Error::Watched);
        }
        let map = Map::ProgramArray(MapData::from_fd(seat.watchers()?).map_err(Error::map(WATCHERS))?);
        let mut array = ProgramArray::try_from(map).map_err(Error::map(WATCHERS))?;
        let program = program.fd().map_err(Error::program("watch"))?;
        array.set(PLACE, program, 0).map_err(Error::map(WATCHERS))?;
        Ok(seat)
    }

    /// The id of the program that is there: by it the kernel shows what such an array has.
    fn holder(&self) -> Result<Option<u32>, Error> {
        let map = Map::Array(MapData::from_fd(self.watchers()?).map_err(Error::map(WATCHERS))?);
        let ids: Array<_, u32> = Array::try_from(map).map_err(Error::map(WATCHERS))?;
        match ids.get(&PLACE, 0) {
            Ok(id) => Ok(Some(id)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(Error::map(WATCHERS)(error)),
        }
    }

    fn watchers(&self) -> Result<OwnedFd, Error> {
        self.watchers.try_clone().map_err(Error::file("copying a descriptor of", WATCHERS))
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    let program = ebpf.program_mut("watch").ok_or(Error::MissingPart("watch"))?;
    program.try_into().map_err(|error: ProgramError| Error::program("watch")(error))
}

/// The program on the uplink, and its array for a watcher.
fn watchers(pins: &Path) -> Result<(u32, OwnedFd), Error> {
    let id = uplink_program(pins).ok_or(Error::NoUplink)?;
    let mut programs = loaded_programs().flatten();
    let program = programs.find(|info| info.id() == id).ok_or(Error::NoUplink)?;
    let maps = program.map_ids().map_err(Error::program("uplink"))?.unwrap_or_default();
    for map in maps {
        let map = open_map(map).map_err(Error::file("opening a map of", "uplink"))?;
        let copy = map.try_clone().map_err(Error::file("copying a descriptor of", WATCHERS))?;
        let info = MapData::from_fd(copy).and_then(|map| map.info()).map_err(Error::map(WATCHERS))?;
        if info.name() == WATCHERS.as_bytes() {
            return Ok((id, map));
        }
    }
    Err(Error::NotWatchable)
}

/// Opens a map by its id. Not by aya, which closes it in between: then the kernel would empty it, somewhat later.
fn open_map(id: u32) -> io::Result<OwnedFd> {
    /// `BPF_MAP_GET_FD_BY_ID` of `enum bpf_cmd` in `linux/bpf.h`; Linux 4.13.
    const GET_FD_BY_ID: libc::c_int = 14;
    // The part of `union bpf_attr` that the call has: the id, the next one, flags.
    let attributes = [id, 0, 0];
    // SAFETY: the kernel reads as many bytes as are said, all numbers.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, GET_FD_BY_ID, attributes.as_ptr(), size_of_val(&attributes)) };
    let descriptor = RawFd::try_from(result).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn kernel_filter(filter: &WatchFilter) -> Result<Filter, Error> {
    const EVERY_BIT: Address = Address { bytes: [0xff; 16] };
    let mut wanted = Filter { every: filter.every.max(1), all: u8::from(filter.all), ..Filter::default() };
    if let Some(client) = filter.client {
        wanted.client = address::from_ip(client.network());
        wanted.client_mask = mask(client);
    }
    match filter.service {
        None => {}
        Some(ServiceSelector::Vip(vip)) => {
            (wanted.vip, wanted.vip_mask) = (address::from_ip(vip), EVERY_BIT);
        }
        Some(ServiceSelector::One(key)) => {
            (wanted.vip, wanted.vip_mask) = (address::from_ip(key.vip), EVERY_BIT);
            let endpoint = registry::endpoint(&key)?;
            (wanted.port, wanted.protocol) = (endpoint.port, endpoint.protocol);
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(service: Option<&str>, client: Option<&str>) -> Filter {
        let service = service.map(|text| text.parse().expect("a service"));
        let client = client.map(|text| text.parse().expect("a subnet"));
        kernel_filter(&WatchFilter { service, client, all: false, every: 1 }).expect("a filter")
    }

    fn address(text: &str) -> Address {
        address::from_ip(text.parse().expect("an address"))
    }

    #[test]
    fn a_service_is_its_vip_port_and_protocol() {
        let (client, vip) = (address("198.51.100.7"), address("45.45.45.45"));
        let one = filter(Some("45.45.45.45:80/tcp"), None);
        assert!(one.takes(&client, &vip, 6, 80));
        assert!(!one.takes(&client, &vip, 6, 81) && !one.takes(&client, &vip, 17, 80));
        assert!(filter(Some("45.45.45.45:*/tcp"), None).takes(&client, &vip, 6, 81));
        assert!(filter(Some("45.45.45.45"), None).takes(&client, &vip, 1, 0));
        let pings = filter(Some("2001:db8::45/icmp"), None);
        assert!(pings.takes(&client, &address("2001:db8::45"), 58, 0));
    }

    #[test]
    fn a_subnet_of_one_family_has_no_client_of_the_other() {
        let vip = address("45.45.45.45");
        let all_ipv4 = filter(None, Some("0.0.0.0/0"));
        assert!(all_ipv4.takes(&address("198.51.100.7"), &vip, 6, 80));
        assert!(!all_ipv4.takes(&address("2001:db8::7"), &vip, 6, 80));
        let some = filter(None, Some("198.51.100.0/24"));
        assert!(some.takes(&address("198.51.100.7"), &vip, 6, 80));
        assert!(!some.takes(&address("198.51.101.7"), &vip, 6, 80));
    }
}
