//! A frame in the kernel's buffers.

use aya_ebpf::programs::{TcContext, XdpContext};
use lb_common::packet::{Fields, Frame, FrameMut};

/// The same number, of which the compiler knows nothing any more: else it would derive from a check against the
/// length that the frame holds a byte, and leave out the check against the end that the verifier wants to see.
#[inline(always)]
pub(crate) fn opaque(number: usize) -> usize {
    let mut number = number;
    // Not even a comment in it: a line of its own without an instruction makes line information that the kernel refuses.
    // SAFETY: no instruction at all, and no memory touched.
    unsafe {
        core::arch::asm!("", inout("r1") number, options(pure, nomem, nostack, preserves_flags));
    }
    number
}

/// The part of a frame that a program may read and write directly.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    start: usize,
    end: usize,
    length: usize,
}

impl Window {
    /// All of an XDP frame.
    #[inline(always)]
    pub(crate) fn of_xdp(ctx: &XdpContext) -> Self {
        let (start, end) = (ctx.data(), ctx.data_end());
        Self { start, end, length: opaque(end.wrapping_sub(start)) }
    }

    /// The linear part of a socket buffer; its length is that of the whole.
    #[inline(always)]
    pub(crate) fn of_tc(ctx: &TcContext) -> Self {
        Self { start: ctx.data(), end: ctx.data_end(), length: ctx.len() as usize }
    }

    /// How many bytes can be accessed.
    #[inline(always)]
    pub(crate) fn accessible(&self) -> usize {
        self.end.wrapping_sub(self.start)
    }

    #[inline(always)]
    fn pointer<T>(&self, offset: usize) -> Option<*const T> {
        let at = self.start + offset;
        (at + size_of::<T>() <= self.end).then_some(at as *const T)
    }
}

impl Frame for Window {
    #[inline(always)]
    fn length(&self) -> usize {
        self.length
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let at = self.pointer::<[u8; N]>(offset)?;
        // SAFETY: `pointer` has checked that the window holds N bytes there.
        Some(unsafe { at.read_unaligned() })
    }

    #[inline(always)]
    fn header<H: Fields>(&self, offset: usize) -> Option<H> {
        let at = self.pointer::<H>(offset)?;
        // SAFETY: `pointer` has checked that the window holds the header, which any bytes are.
        Some(unsafe { at.read_unaligned() })
    }
}

impl FrameMut for Window {
    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        let at = self.pointer::<[u8; N]>(offset)?;
        // SAFETY: `pointer` has checked that the window holds N bytes there; the kernel lets this program write them.
        unsafe { at.cast_mut().write_unaligned(bytes) };
        Some(())
    }
}

/// A frame whose headers begin anywhere: each access is checked by itself, at the cost of an instruction or two.
///
/// Where an offset isn't a constant, the compiler leaves out a check that follows from one before, at another offset from
/// the same place; the verifier takes the two for pointers that have nothing to do with one another.
#[derive(Clone, Copy)]
pub(crate) struct Careful(pub(crate) Window);

impl Careful {
    #[inline(always)]
    fn pointer<T>(&self, offset: usize) -> Option<*mut T> {
        let at = opaque(self.0.start + offset);
        (at + size_of::<T>() <= self.0.end).then_some(at as *mut T)
    }
}

impl Frame for Careful {
    #[inline(always)]
    fn length(&self) -> usize {
        self.0.length
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let at = self.pointer::<[u8; N]>(offset)?;
        // SAFETY: `pointer` has checked that the window holds N bytes there.
        Some(unsafe { at.read_unaligned() })
    }

    #[inline(always)]
    fn header<H: Fields>(&self, offset: usize) -> Option<H> {
        let at = self.pointer::<H>(offset)?;
        // SAFETY: `pointer` has checked that the window holds the header, which any bytes are.
        Some(unsafe { at.read_unaligned() })
    }
}

impl FrameMut for Careful {
    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        let at = self.pointer::<[u8; N]>(offset)?;
        // SAFETY: `pointer` has checked that the window holds N bytes there; the kernel lets this program write them.
        unsafe { at.write_unaligned(bytes) };
        Some(())
    }
}
