//! The BPF object, embedded by the build script.

use aya::include_bytes_aligned;

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-lb.o"));

static WATCH_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-lb-watch.o"));

static BRIDGE_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/sluice-lb-bridge.o"));

/// The ELF object with the program of bridges, likewise.
pub(crate) fn bridge_object() -> Option<&'static [u8]> {
    (!BRIDGE_OBJECT.is_empty()).then_some(BRIDGE_OBJECT)
}

/// The ELF object with the watcher's programs, likewise.
pub(crate) fn watch_object() -> Option<&'static [u8]> {
    (!WATCH_OBJECT.is_empty()).then_some(WATCH_OBJECT)
}

/// The ELF object with the XDP and tc programs, aligned to 8 bytes as the loader wants it.
///
/// `None` where the crate was built without a BPF toolchain: `cargo xtask setup` installs one, and the next
/// `cargo build` embeds the object.
#[must_use]
pub fn object() -> Option<&'static [u8]> {
    (!OBJECT.is_empty()).then_some(OBJECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_embedded_is_an_elf_object_or_nothing() {
        if let Some(object) = object() {
            assert_eq!(object.get(..4), Some(b"\x7fELF".as_slice()));
            assert_eq!(object.as_ptr().align_offset(8), 0, "the loader casts ELF headers in place");
        }
    }
}
