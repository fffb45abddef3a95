//! The flow table: what is recorded, within each service's quota, and what gives its place to another.
//!
//! A daemon sweeps the table once a second. Where none does, a place is wanted before one is given back; so a flow
//! for which there is none has its part of the table swept.

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_for_each_map_elem;
use lb_common::abi::{Control, FlowKey, FlowUse, FlowValue, Quota, sweep_order};
use lb_common::hash;
use lb_common::recent::Mark;

use crate::maps::{self, FlowPart, FlowWords};
use crate::{atomic, clock, sweep};

/// A part that was swept in the last so many seconds isn't swept for a place: a daemon does it, or there is nothing to be had.
const SWEPT_LATELY: u64 = 2;

/// The flow's entry.
#[inline(always)]
pub(crate) fn find(control: &Control, hash: u64, key: &FlowKey) -> Option<*mut FlowValue> {
    maps::flow_part(hash::part(hash, control.flow_parts))?.get_ptr_mut(key).map(<*mut FlowWords>::cast)
}

/// Records a flow, if its service's quota has room for it now. Whether it is recorded. For where the stack has no room for
/// [`insert`].
#[inline(always)]
pub(crate) fn insert_if_room(control: &Control, hash: u64, key: &FlowKey, value: &FlowValue) -> bool {
    let part = maps::flow_part(hash::part(hash, control.flow_parts));
    part.is_some_and(|part| put_into(&control.quota, part, key, value))
}

/// Records a flow, if its service's quota has room for it, where need be after what is over has been deleted. Whether it is
/// recorded.
#[inline(always)]
pub(crate) fn insert(control: &Control, hash: u64, key: &FlowKey, value: &FlowValue) -> bool {
    put(hash::part(hash, control.flow_parts), key, value) != 0
}

/// Deletes a flow's entry, if it still has one.
#[inline(always)]
pub(crate) fn remove(control: &Control, hash: u64, key: &FlowKey) {
    if let Some(part) = maps::flow_part(hash::part(hash, control.flow_parts)) {
        remove_from(control, part, key);
    }
}

/// As above, where its part is known.
#[inline(always)]
fn remove_from(control: &Control, part: &FlowPart, key: &FlowKey) {
    // Another CPU may have deleted it already, and has counted it.
    if part.remove(key).is_ok() {
        give_back(&control.quota, key.service.index);
    }
}

/// A function of its own, for its stack: few packets come here. Returns 1 where the flow is recorded, else 0.
#[inline(never)]
fn put(number: u32, key: &FlowKey, value: &FlowValue) -> u32 {
    let now = clock::now();
    clock::tick(now);
    let Ok(control) = maps::control() else { return 0 };
    let Some(part) = maps::flow_part(number) else { return 0 };
    let is_recorded = put_into(&control.quota, part, key, value)
        || (sweep_for_room(number, part, now) && put_into(&control.quota, part, key, value));
    if !is_recorded {
        count_refused(key.service.index);
    }
    u32::from(is_recorded)
}

#[inline(always)]
fn put_into(quota: &Quota, part: &FlowPart, key: &FlowKey, value: &FlowValue) -> bool {
    const EEXIST: i32 = -17;
    if !take(quota, key.service.index) {
        return false;
    }
    // SAFETY: both are 16 bytes of the same alignment, and any bytes are words.
    let words = unsafe { &*core::ptr::from_ref(value).cast::<FlowWords>() };
    match part.insert(key, words, u64::from(BPF_NOEXIST)) {
        Ok(()) => true,
        Err(error) => {
            give_back(quota, key.service.index);
            // Another CPU has been faster.
            i64::from(error) == i64::from(EEXIST)
        }
    }
}

/// Takes a place of a service's quota. Whether there was one.
#[inline(always)]
fn take(quota: &Quota, service: u16) -> bool {
    let (Some(usage), Some(common)) = (maps::flow_use(service), maps::flow_common()) else { return false };
    let used = used(usage);
    // SAFETY: a word of a live map value.
    let before = unsafe { atomic::fetch_add(used, 1) };
    if before < u64::from(quota.share) {
        return true;
    }
    if before < u64::from(quota.most) {
        // SAFETY: a live map value.
        if unsafe { atomic::fetch_add(common, 1) } < u64::from(quota.common) {
            return true;
        }
        // SAFETY: as above.
        unsafe { atomic::fetch_sub(common, 1) };
    }
    // SAFETY: as above.
    unsafe { atomic::fetch_sub(used, 1) };
    false
}

/// Gives a place of a service's quota back.
#[inline(always)]
fn give_back(quota: &Quota, service: u16) {
    let (Some(usage), Some(common)) = (maps::flow_use(service), maps::flow_common()) else { return };
    // SAFETY: a word of a live map value.
    let before = unsafe { atomic::fetch_sub(used(usage), 1) };
    if before > u64::from(quota.share) {
        // SAFETY: a live map value.
        unsafe { atomic::fetch_sub(common, 1) };
    }
}

#[inline(always)]
fn used(usage: *mut FlowUse) -> *mut u64 {
    // SAFETY: a live map value.
    unsafe { &raw mut (*usage).used }
}

#[inline(always)]
fn refused(usage: *mut FlowUse) -> *mut u64 {
    // SAFETY: as above.
    unsafe { &raw mut (*usage).refused }
}

#[inline(always)]
fn count_refused(service: u16) {
    if let Some(refused) = maps::flow_use(service).map(refused) {
        // SAFETY: a word of a live map value.
        unsafe { atomic::fetch_add(refused, 1) };
    }
}

/// Deletes what is over of a part, unless it was swept lately. Whether it did.
#[inline(always)]
fn sweep_for_room(number: u32, part: &FlowPart, now: u64) -> bool {
    let Some(swept) = maps::flow_sweep(number) else { return false };
    // SAFETY: a live map value.
    let before = unsafe { swept.read_volatile() };
    // SAFETY: as above. One CPU sweeps, and the others do without.
    if now.wrapping_sub(before) < SWEPT_LATELY || !unsafe { atomic::replace(swept, before, now) } {
        return false;
    }
    let part: *const FlowPart = part;
    // SAFETY: the part's keys and values are those that the callback takes, and it doesn't use the context.
    unsafe {
        bpf_for_each_map_elem(part.cast_mut().cast(), delete_if_over as *mut c_void, ptr::null_mut(), 0)
    };
    true
}

/// Deletes a flow that is over.
extern "C" fn delete_if_over(
    _part: *mut c_void,
    key: *const FlowKey,
    value: *const FlowValue,
    _context: *mut c_void,
) -> i64 {
    // SAFETY: the kernel calls this with a live element of the table.
    let value = unsafe { *value };
    if sweep::is_over(&value) {
        // SAFETY: as above.
        delete(unsafe { &*key });
    }
    0
}

/// Deletes a flow that is over, and its mark: a client may use the port again in the same epoch, and then that flow has to be
/// recorded too.
#[inline(always)]
pub(crate) fn delete(key: &FlowKey) {
    let Ok(control) = maps::control() else { return };
    let hash = hash::of_flow(key, control.seed);
    remove(control, hash, key);
    maps::not_seen(Mark::of(hash, control.epoch, control.recent_mask));
}

/// A service's place has another owner.
#[inline(always)]
pub(crate) fn clear_refused(service: u32) {
    if let Some(refused) = maps::flow_use(service as u16).map(refused) {
        // SAFETY: a word of a live map value.
        unsafe { refused.write_volatile(0) };
    }
}

/// Notes that a part is swept now.
#[inline(always)]
pub(crate) fn note_sweep(number: u32) {
    if let Some(swept) = maps::flow_sweep(number) {
        // SAFETY: a live map value.
        unsafe { swept.write_volatile(clock::now()) };
    }
}

/// Puts right what a service is counted to use, or what all use of the common half.
#[inline(always)]
pub(crate) fn adjust(service: u32, by: u64) {
    let word = match service {
        sweep_order::COMMON => maps::flow_common(),
        service => maps::flow_use(service as u16).map(used),
    };
    if let Some(word) = word {
        // SAFETY: a word of a live map value.
        unsafe { atomic::fetch_add(word, by) };
    }
}
