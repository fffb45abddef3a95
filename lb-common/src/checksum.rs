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

/// What some data adds to the one's complement sum when it changes (RFC 1624, equation 3, without the checksum): kept
/// apart, since several checksums may cover the same data.
///
/// Changes are of words as they stand in memory, each at an even offset in what the checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Difference(u32);

impl Difference {
    /// Two bytes changed from `old` to `new`.
    #[inline(always)]
    #[must_use]
    pub const fn of_2(old: [u8; 2], new: [u8; 2]) -> Self {
        Self(!u16::from_ne_bytes(old) as u32 + u16::from_ne_bytes(new) as u32)
    }

    /// Four bytes changed from `old` to `new`.
    #[inline(always)]
    #[must_use]
    pub const fn of_4(old: [u8; 4], new: [u8; 4]) -> Self {
        let (old, new) = (!u32::from_ne_bytes(old), u32::from_ne_bytes(new));
        Self((old >> 16) + (old & 0xffff) + (new >> 16) + (new & 0xffff))
    }

    /// Sixteen bytes, two words, changed from `old` to `new`.
    #[inline(always)]
    #[must_use]
    pub const fn of_16(old: [u64; 2], new: [u64; 2]) -> Self {
        let mut sum = 0;
        let mut place = 0;
        while place < 2 {
            sum += halves(!old[place]) + halves(new[place]);
            place += 1;
        }
        Self(sum)
    }

    /// Both changes. Up to a thousand words may come together.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum, as it stands in memory, after the change.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold((!checksum) as u32 + self.0)
    }

    /// As `bpf_l4_csum_replace` takes it.
    #[inline(always)]
    #[must_use]
    pub const fn sum(self) -> u32 {
        self.0
    }
}

/// The sum of a word's four 16-bit parts.
#[inline(always)]
pub(crate) const fn halves(word: u64) -> u32 {
    ((word >> 48) + (word >> 32 & 0xffff) + (word >> 16 & 0xffff) + (word & 0xffff)) as u32
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

    use super::{Difference, of, update_u16, update_u32};

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
        fn differences_add_up(checksum: u16, old: [u64; 2], new: [u64; 2], half: [u8; 2]) {
            let quarters = |words: [u64; 2]| -> [[u8; 4]; 4] {
                core::array::from_fn(|i| {
                    let bytes = words[i / 2].to_ne_bytes();
                    bytes[i % 2 * 4..i % 2 * 4 + 4].try_into().expect("four bytes")
                })
            };
            let (old_parts, new_parts) = (quarters(old), quarters(new));
            let (mut in_steps, mut together) = (checksum, Difference::default());
            for (old, new) in old_parts.into_iter().zip(new_parts) {
                in_steps = update_u32(in_steps, u32::from_ne_bytes(old), u32::from_ne_bytes(new));
                together = together.and(Difference::of_4(old, new));
            }
            prop_assert_eq!(together.apply(checksum), in_steps);
            prop_assert_eq!(Difference::of_16(old, new).apply(checksum), in_steps);
            let zero_to_half = Difference::of_2([0; 2], half);
            prop_assert_eq!(zero_to_half.apply(checksum), update_u16(checksum, 0, u16::from_ne_bytes(half)));
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
