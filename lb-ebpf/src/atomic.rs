//! Words that several CPUs change at once. The compiler has no such operations for BPF; the kernel has them, since Linux 5.12.

use core::arch::asm;

/// Adds to a word. Returns what it was before.
///
/// # Safety
///
/// The pointer is a live map value's, or into one, and is aligned.
#[inline(always)]
pub(crate) unsafe fn fetch_add(word: *mut u64, number: u64) -> u64 {
    let mut before = number;
    // SAFETY: one instruction, on memory that the caller vouches for.
    unsafe {
        asm!(
            "{before} = atomic_fetch_add((u64 *)({word} + 0), {before})",
            word = in(reg) word,
            before = inout(reg) before,
            options(nostack),
        );
    }
    before
}

/// Subtracts from a word. Returns what it was before.
///
/// # Safety
///
/// As for [`fetch_add`].
#[inline(always)]
pub(crate) unsafe fn fetch_sub(word: *mut u64, number: u64) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { fetch_add(word, number.wrapping_neg()) }
}

/// Gives a word another value, if it still has the one that is expected. Whether it had.
///
/// # Safety
///
/// As for [`fetch_add`].
#[inline(always)]
pub(crate) unsafe fn replace(word: *mut u64, expected: u64, new: u64) -> bool {
    let mut found = expected;
    // SAFETY: as above.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") found,
            options(nostack),
        );
    }
    found == expected
}
