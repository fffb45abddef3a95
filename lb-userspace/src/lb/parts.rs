//! The flow table, which is made of parts: small hash maps in an array of maps.

use std::os::fd::AsFd as _;
use std::path::Path;

use aya::maps::{ArrayOfMaps, HashMap, IterableMap as _, Map, MapData, MapError};
use lb_common::abi::{FlowKey, FlowValue};

use super::{Error, batch};

/// The map's name.
pub(super) const FLOWS: &str = "flows";

/// A part of the flow table, or another table of flows, open for reading.
pub(super) type Flows = HashMap<MapData, FlowKey, FlowValue>;

/// So many parts are made at once: each is an open file until it is in its place.
const AT_ONCE: u32 = 128;

/// The parts of a flow table.
pub(super) struct Parts {
    array: ArrayOfMaps<MapData, Flows>,
    /// The same map once more: the typed one doesn't lend it.
    data: MapData,
    count: u32,
}

impl Parts {
    /// Opens those that are pinned below a folder.
    pub(super) fn from_pins(pins: &Path) -> Result<Self, Error> {
        Self::new(MapData::from_pin(pins.join(FLOWS)).map_err(failed)?)
    }

    /// Takes those of a map.
    pub(super) fn new(data: MapData) -> Result<Self, Error> {
        let count = data.info().map_err(failed)?.max_entries();
        let copy = data.fd().as_fd().try_clone_to_owned().map_err(Error::file("opening the map", FLOWS))?;
        let map = Map::from_map_data(MapData::from_fd(copy).map_err(failed)?).map_err(failed)?;
        let array = match map {
            Map::ArrayOfMaps(data) => Map::ArrayOfMaps(data).try_into().map_err(failed)?,
            _ => return Err(Error::MissingPart(FLOWS)),
        };
        Ok(Self { array, data, count })
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// One of them. `None` where it hasn't been made.
    pub(super) fn get(&self, number: u32) -> Result<Option<Flows>, Error> {
        match self.array.get(&number, 0) {
            Ok(part) => Ok(Some(part)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Those that have been made.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<Flows, Error>> + '_ {
        (0..self.count).filter_map(|number| self.get(number).transpose())
    }

    /// Makes those that there aren't yet: all of a new table, or what a daemon that died while it made them has left.
    pub(super) fn complete(&mut self, entries: u32) -> Result<(), Error> {
        let mut missing = Vec::new();
        for number in 0..self.count {
            if self.get(number)?.is_none() {
                missing.push(number);
            }
        }
        missing.chunks(AT_ONCE as usize).try_for_each(|places| self.make(places, entries))
    }

    fn make(&mut self, places: &[u32], entries: u32) -> Result<(), Error> {
        let made = places.iter().map(|_| Flows::create(entries, 0)).collect::<Result<Vec<_>, _>>();
        let made = made.map_err(failed)?;
        let descriptors: Vec<_> = made.iter().map(|part| part.map().fd().as_fd()).collect();
        batch::put_maps(&self.data, places, &descriptors).map_err(Error::file("filling the map", FLOWS))
    }
}

fn failed(error: MapError) -> Error {
    Error::map(FLOWS)(error)
}
