//! Who may have how much of the flow table: a part of `control`, and the values of `flow_use` and `flow_common`.

/// How the room of the flow table is shared. Half of it is guaranteed, in equal shares, to the services that there are; the
/// other half is common, and no service may have more than half of that.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Quota {
    /// The flows that each service may have whatever the others do.
    pub share: u32,
    /// The flows that all services together may have beyond their shares.
    pub common: u32,
    /// The most that one service may have.
    pub most: u32,
}

impl Quota {
    /// That of a table with so much room, for so many services. A service that is alone has all of it.
    #[must_use]
    pub const fn of(room: u32, services: u32) -> Self {
        if services <= 1 {
            return Self { share: room, common: 0, most: room };
        }
        let share = room / 2 / services;
        let common = room - share * services;
        Self { share, common, most: share + common / 2 }
    }

    /// How many of a service's flows are beyond its share.
    #[inline(always)]
    #[must_use]
    pub const fn beyond_share(&self, used: u64) -> u64 {
        used.saturating_sub(self.share as u64)
    }
}

/// What a service has of the flow table: value of `flow_use`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlowUse {
    /// The entries of its flows, live or ended.
    pub used: u64,
    /// The flows that were not recorded, since its quota or the table was full.
    pub refused: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Quota;

    #[test]
    fn half_is_guaranteed_and_half_is_common() {
        assert_eq!(Quota::of(1_000, 0), Quota { share: 1_000, common: 0, most: 1_000 });
        assert_eq!(Quota::of(1_000, 1), Quota { share: 1_000, common: 0, most: 1_000 });
        assert_eq!(Quota::of(1_000, 2), Quota { share: 250, common: 500, most: 500 });
        assert_eq!(Quota::of(1_000, 10), Quota { share: 50, common: 500, most: 300 });
        assert_eq!(Quota::of(7, 5), Quota { share: 0, common: 7, most: 3 });
    }

    #[test]
    fn what_is_beyond_a_share_counts_as_common() {
        let quota = Quota::of(1_000, 2);
        assert_eq!((quota.beyond_share(0), quota.beyond_share(250), quota.beyond_share(251)), (0, 0, 1));
    }

    proptest! {
        /// Whoever has filled the common half, and others their shares: each share is left for its service.
        #[test]
        fn the_shares_and_the_common_half_fit(room in 1u32..=1 << 24, services in 2u32..5_000) {
            let Quota { share, common, most } = Quota::of(room, services);
            prop_assert!(u64::from(share) * u64::from(services) + u64::from(common) <= u64::from(room));
            prop_assert!(most <= room / 2 + room % 2 + share);
            prop_assert!(common >= room / 2);
        }
    }
}
