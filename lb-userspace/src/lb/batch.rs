//! Many entries of a map by one system call.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use aya::Pod;
use aya::maps::MapData;

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` in `linux/bpf.h`; Linux 5.6.
const LOOKUP_BATCH: libc::c_int = 24;

/// `BPF_MAP_UPDATE_BATCH` of the same; for maps of maps, Linux 5.16.
const UPDATE_BATCH: libc::c_int = 26;

/// Entries a call. The kernel copies whole buckets, so it has to hold the fullest; a bucket of a map that is full has a
/// few.
const ENTRIES: u32 = 4_096;

/// The part of `union bpf_attr` in `linux/bpf.h` that batch calls have.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Shows each entry of a hash map to `visit`, until it breaks. Whether it has seen all.
///
/// Each bucket is locked for as long as it takes to copy it, so packets hardly notice. An entry that is added or removed
/// meanwhile may be missed or seen; one that stays is seen exactly once, which the walk from key to key (aya's iterator)
/// doesn't hold: it begins anew where the key it stands on is removed.
pub(super) fn for_each<K: Pod, V: Pod>(
    map: &MapData,
    mut visit: impl FnMut(&K, &V) -> ControlFlow<()>,
) -> io::Result<bool> {
    let mut keys = Vec::<K>::with_capacity(ENTRIES as usize);
    let mut values = Vec::<V>::with_capacity(ENTRIES as usize);
    let mut position: Option<u32> = None;
    loop {
        let is_last = fill(map, &mut position, &mut keys, &mut values)?;
        for (key, value) in keys.iter().zip(&values) {
            if visit(key, value).is_break() {
                return Ok(false);
            }
        }
        if is_last {
            return Ok(true);
        }
    }
}

/// Reads on from `position`, the number of a bucket, and moves it. Whether the map has no more.
fn fill<K: Pod, V: Pod>(
    map: &MapData,
    position: &mut Option<u32>,
    keys: &mut Vec<K>,
    values: &mut Vec<V>,
) -> io::Result<bool> {
    let mut next = 0_u32;
    let mut attributes = BatchAttributes {
        in_batch: position.as_ref().map_or(0, |position| address(ptr::from_ref(position).cast())),
        out_batch: address(ptr::from_mut(&mut next).cast()),
        keys: address(keys.as_mut_ptr().cast()),
        values: address(values.as_mut_ptr().cast()),
        count: ENTRIES,
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the addresses are those of `position`, `next` and of room for as many keys and values as `count` says, all
    // alive and not otherwise used until the call returns; the map's sizes are those of K and V, as its owner has checked.
    let is_last = match unsafe { call(LOOKUP_BATCH, &mut attributes) } {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    let count = attributes.count.min(ENTRIES) as usize;
    // SAFETY: the kernel has written so many keys, and any bytes are one: `Pod`.
    unsafe { keys.set_len(count) };
    // SAFETY: as above.
    unsafe { values.set_len(count) };
    *position = Some(next);
    Ok(is_last)
}

/// Puts maps into the places of an array of maps. After each single one the kernel would wait until no program can use what
/// was there before; here it waits once.
pub(super) fn put_maps(array: &MapData, places: &[u32], maps: &[BorrowedFd<'_>]) -> io::Result<()> {
    let descriptors: Vec<RawFd> = maps.iter().map(AsRawFd::as_raw_fd).collect();
    let mut attributes = BatchAttributes {
        in_batch: 0,
        out_batch: 0,
        keys: address(places.as_ptr().cast()),
        values: address(descriptors.as_ptr().cast()),
        count: u32::try_from(places.len().min(descriptors.len())).unwrap_or(u32::MAX),
        map: array.fd().as_fd().as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the addresses are those of at least `count` places and descriptors, which the kernel only reads; both have the
    // four bytes that an array of maps takes.
    unsafe { call(UPDATE_BATCH, &mut attributes) }
}

fn address(pointer: *const u8) -> u64 {
    pointer.expose_provenance() as u64
}

/// # Safety
///
/// The attributes' addresses hold what the command reads and writes, for as many entries as they count.
unsafe fn call(command: libc::c_int, attributes: &mut BatchAttributes) -> io::Result<()> {
    let attributes = ptr::from_mut(attributes);
    // SAFETY: as the caller promises; the size is that of the attributes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<BatchAttributes>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
