//! Bytes of a frame, wherever they are.

/// Bytes of a frame, wherever they are: an XDP buffer, a socket buffer, a slice.
pub trait Frame {
    /// The length of the frame on the wire, from the Ethernet header on.
    fn length(&self) -> usize;

    /// `N` bytes from `offset` on, if the frame has them.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// A header from `offset` on, if the frame has all of it.
    fn header<H: Fields>(&self, offset: usize) -> Option<H>;
}

/// A header as it stands in a frame. Each field is read by one load; from an array of bytes the compiler chooses loads
/// that lie across the fields, and puts these together with shifts.
///
/// # Safety
///
/// `repr(C)`, made of integers only, without padding.
pub unsafe trait Fields: Copy {}

/// Bytes that can be changed.
pub trait FrameMut: Frame {
    /// Writes `bytes` at `offset`; nothing, where the frame doesn't have them.
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()>;
}

impl Frame for [u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    fn header<H: Fields>(&self, offset: usize) -> Option<H> {
        let bytes = self.get(offset..offset.checked_add(size_of::<H>())?)?;
        // SAFETY: as many bytes as the header has, and any bytes are one.
        Some(unsafe { bytes.as_ptr().cast::<H>().read_unaligned() })
    }
}

impl FrameMut for [u8] {
    fn write<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) -> Option<()> {
        self.get_mut(offset..offset.checked_add(N)?)?.copy_from_slice(&bytes);
        Some(())
    }
}
