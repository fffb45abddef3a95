//! The Internet checksum, changed as its data changes (RFC 1624).

/// The checksum after a 16-bit word of its data changed from `old` to `new`.
///
/// Equation 3 of RFC 1624: `HC' = ~(~HC + ~m + m')`. Words are taken as they stand in memory: the sum doesn't depend
/// on the byte order (RFC 1071, section 2), as long as all three have the same.
#[inline(always)]
#[must_use]
pub const fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    let sum = (!checksum) as u32 + (!old) as u32 + new as u32;
    !fold(sum)
}

/// The checksum after four bytes of its data, 16-bit aligned, changed from `old` to `new`. All in one byte order.
#[inline(always)]
#[must_use]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    let sum = (!checksum) as u32 + (!old >> 16) + (!old & 0xffff) + (new >> 16) + (new & 0xffff);
    !fold(sum)
}

/// The checksum over `data` (RFC 1071), an odd last byte padded with a zero.
#[must_use]
pub fn of(data: &[u8]) -> u16 {
    !fold(
        data.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum(),
    )
}

/// Adds the carries back in; two rounds are enough for a sum of up to 65,537 words.
#[inline(always)]
pub(crate) const fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{of, update_u16, update_u32};

    /// RFC 1624, section 4: the example on which RFC 1141's formula gives 0xffff.
    #[test]
    fn rfc_1624_example() {
        assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn an_updated_checksum_is_the_one_computed_anew(
            mut data in proptest::collection::vec(any::<u8>(), 20..200),
            place in 0usize..8,
            new in any::<[u8; 4]>(),
        ) {
            // An all-zero sum has two forms; a packet's header is never all zero.
            data[0] = 0x45;
            let at = 2 + place * 2;
            let before = of(&data);
            let old: [u8; 4] = data[at..at + 4].try_into().expect("four bytes");
            data[at..at + 4].copy_from_slice(&new);
            prop_assert_eq!(update_u32(before, u32::from_be_bytes(old), u32::from_be_bytes(new)), of(&data));

            let step = update_u16(before, u16::from_be_bytes([old[0], old[1]]), u16::from_be_bytes([new[0], new[1]]));
            let both = update_u16(step, u16::from_be_bytes([old[2], old[3]]), u16::from_be_bytes([new[2], new[3]]));
            prop_assert_eq!(both, of(&data));
        }

        #[test]
        fn byte_order_does_not_matter(checksum: u16, old: u32, new: u32) {
            prop_assert_eq!(
                update_u32(checksum.swap_bytes(), old.swap_bytes(), new.swap_bytes()).swap_bytes(),
                update_u32(checksum, old, new)
            );
        }
    }
}
