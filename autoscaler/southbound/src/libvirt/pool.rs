//! Where the instances' disks and seeds are: a storage pool of libvirt's own, so that it can be on another host. What
//! is in it is ours, and found by its name: `<domain>.qcow2`, `<domain>.seed`.

use virt::connect::Connect;
use virt::error::ErrorNumber;
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;

use super::connection::Fault;
use super::xml;
use crate::scope::Scope;
use sluice_logic::group::InstanceId;
use sluice_logic::spec::VmDisk;

/// What the names of an instance's files end with.
const OVERLAY: &str = ".qcow2";
const SEED: &str = ".seed";
const SUFFIXES: [&str; 2] = [OVERLAY, SEED];

/// One message of libvirt's protocol carries so much.
const CHUNK: usize = 64 << 10;

/// The pool of a scope, and the directory that it is.
#[derive(Debug, Clone)]
pub(super) struct PoolPlace {
    name: String,
    directory: String,
}

impl PoolPlace {
    pub(super) fn of(scope: &Scope, directory: &str) -> Self {
        Self { name: scope.name().to_owned(), directory: directory.trim_end_matches('/').to_owned() }
    }

    /// The path of an instance's disk.
    pub(super) fn overlay(&self, domain: &str) -> String {
        format!("{}/{domain}{OVERLAY}", self.directory)
    }

    /// The path of an instance's seed.
    pub(super) fn seed(&self, domain: &str) -> String {
        format!("{}/{domain}{SEED}", self.directory)
    }

    /// The pool, made if need be, ready for use.
    pub(super) fn ensure(&self, connect: &Connect) -> Result<Pool, Fault> {
        let pool = match self.find(connect)? {
            Some(pool) => pool,
            None => self.define(connect)?,
        };
        if !pool.is_active()? {
            self.activate(&pool)?;
        }
        Ok(Pool(pool))
    }

    /// The pool, if it is there and can be used. What it can't show isn't there.
    pub(super) fn open(&self, connect: &Connect) -> Result<Option<Pool>, Fault> {
        let Some(pool) = self.find(connect)? else { return Ok(None) };
        let usable = pool.is_active()? || self.activate(&pool).is_ok();
        Ok(usable.then_some(Pool(pool)))
    }

    fn find(&self, connect: &Connect) -> Result<Option<StoragePool>, Fault> {
        let pool = match StoragePool::lookup_by_name(connect, &self.name) {
            Err(error) if error.code() == ErrorNumber::NoStoragePool => return Ok(None),
            pool => pool?,
        };
        let found: xml::ReadPool = quick_xml::de::from_str(&pool.get_xml_desc(0)?)
            .map_err(|error| Fault::Other(format!("the pool `{}` can't be read: {error}", self.name)))?;
        if found.target.path != self.directory {
            return Err(Fault::Other(format!(
                "libvirt has a pool `{}` already, which is {}, not {}: give the daemon another `name`, or the cloud \
                 that pool",
                self.name, found.target.path, self.directory
            )));
        }
        Ok(Some(pool))
    }

    fn define(&self, connect: &Connect) -> Result<StoragePool, Fault> {
        let document = xml::text("pool", &xml::Pool::of_directory(&self.name, &self.directory))?;
        match StoragePool::define_xml(connect, &document, 0) {
            Ok(pool) => Ok(pool),
            // Another call was first.
            Err(error) => self.find(connect)?.ok_or_else(|| error.into()),
        }
    }

    /// Makes the directory, if need be, and looks at what is in it.
    fn activate(&self, pool: &StoragePool) -> Result<(), Fault> {
        let done = pool.build(0).and_then(|_| pool.create(0));
        match done {
            Err(error) if !pool.is_active()? => {
                Err(Fault::Other(format!("the pool {} can't be used: {}", self.directory, error.message())))
            }
            _ => Ok(()),
        }
    }

    /// Removes the pool, and its directory if nothing is in it.
    pub(super) fn remove(&self, connect: &Connect) -> Result<(), Fault> {
        let Some(pool) = self.find(connect)? else { return Ok(()) };
        if pool.is_active()? {
            pool.destroy()?;
        }
        if let Err(error) = pool.delete(0) {
            tracing::debug!(directory = self.directory, %error, "the pool's directory is left");
        }
        Ok(pool.undefine()?)
    }
}

/// A pool that can be used.
#[derive(Debug)]
pub(super) struct Pool(StoragePool);

impl Pool {
    /// Makes an instance's disk. What is there already was half made by an earlier attempt.
    pub(super) fn make_overlay(&self, domain: &str, disk: &VmDisk) -> Result<(), Fault> {
        let name = format!("{domain}{OVERLAY}");
        self.delete(&name)?;
        let image = path_text(&disk.image)?;
        let volume = xml::Volume::overlay(&name, image, disk.format.name(), disk.size);
        StorageVol::create_xml(&self.0, &xml::text("volume", &volume)?, 0)?;
        Ok(())
    }

    /// Makes an instance's seed.
    pub(super) fn make_seed(&self, connect: &Connect, domain: &str, bytes: &[u8]) -> Result<(), Fault> {
        self.make_raw(connect, &format!("{domain}{SEED}"), bytes).map(|_| ())
    }

    /// Makes a file with these bytes.
    pub(super) fn make_raw(&self, connect: &Connect, name: &str, bytes: &[u8]) -> Result<StorageVol, Fault> {
        self.delete(name)?;
        let document = xml::text("volume", &xml::Volume::raw(name, bytes.len() as u64))?;
        let volume = StorageVol::create_xml(&self.0, &document, 0)?;
        let stream = Stream::new(connect, 0)?;
        volume.upload(&stream, 0, bytes.len() as u64, 0)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = stream.send(&rest[..rest.len().min(CHUNK)])?;
            rest = &rest[sent..];
        }
        stream.finish()?;
        Ok(volume)
    }

    /// Removes all that the instance has in the pool.
    pub(super) fn delete_of(&self, domain: &str) -> Result<(), Fault> {
        SUFFIXES.iter().try_for_each(|suffix| self.delete(&format!("{domain}{suffix}")))
    }

    /// Removes a file. None of that name is a success.
    pub(super) fn delete(&self, name: &str) -> Result<(), Fault> {
        let gone = |error: &virt::error::Error| error.code() == ErrorNumber::NoStorageVolume;
        match StorageVol::lookup_by_name(&self.0, name).and_then(|volume| volume.delete(0)) {
            Err(error) if !gone(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The instances that have something in the pool.
    pub(super) fn instances(&self, scope: &Scope) -> Result<Vec<InstanceId>, Fault> {
        let mut found = Vec::new();
        for volume in self.0.list_all_volumes(0)? {
            let name = volume.get_name()?;
            let domain = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix));
            found.extend(domain.and_then(|domain| scope.instance_of_domain(domain)));
        }
        Ok(found)
    }
}

/// A path as libvirt takes it.
pub(super) fn path_text(path: &std::path::Path) -> Result<&str, Fault> {
    path.to_str().ok_or_else(|| Fault::Other(format!("{} is not UTF-8", path.display())))
}
