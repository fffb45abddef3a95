//! Which tenants whose files are gone may go: pure.
//!
//! One tenant's file is deleted on purpose; all of them together are gone by an accident: a wrong `rsync --delete`, a
//! `git checkout` of another branch, a volume that is not mounted. So more than one and more than a half of all that
//! are gone within [`WINDOW`] are held until a person confirms, or their files are back.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use sluice_logic::spec::TenantName;

/// A file must be gone for so long before it counts as gone: some editors move a file away before they write it anew.
pub const SETTLE: Duration = Duration::from_secs(1);

/// Files that are gone within so long of each other are gone at once.
pub const WINDOW: Duration = Duration::from_mins(1);

/// What becomes of a tenant whose file is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its file has been gone for a moment only.
    Settling,
    /// It stays in force until a person confirms.
    Held,
    /// It leaves.
    Leaving,
}

/// A tenant whose file is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absence {
    pub(super) since: Instant,
    pub(super) fate: Fate,
    /// A person has said that it may go.
    pub(super) is_confirmed: bool,
}

impl Absence {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, fate: Fate::Settling, is_confirmed: false }
    }
}

/// The tenants whose files are gone, and those that went lately.
#[derive(Debug, Default)]
pub(super) struct Removals {
    absent: BTreeMap<TenantName, Absence>,
    /// When the files of tenants were gone of which nothing is left, and that no person confirmed.
    left: VecDeque<Instant>,
    /// The host file lets any number go at once.
    pub(super) all_allowed: bool,
}

impl Removals {
    pub(super) fn get(&self, tenant: &TenantName) -> Option<&Absence> {
        self.absent.get(tenant)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TenantName, &Absence)> {
        self.absent.iter()
    }

    /// Its file is gone; since when, if that is not known yet.
    pub(super) fn is_gone(&mut self, tenant: &TenantName, now: Instant) {
        self.absent.entry(tenant.clone()).or_insert_with(|| Absence::new(now));
    }

    /// Goes on with a removal of a daemon before this one.
    pub(super) fn resume(&mut self, tenant: TenantName, since: Instant, is_confirmed: bool) {
        self.absent.insert(tenant, Absence { since, fate: Fate::Leaving, is_confirmed });
    }

    /// Its file is back. What would have become of it; `None` where it was not gone.
    pub(super) fn is_back(&mut self, tenant: &TenantName) -> Option<Fate> {
        self.absent.remove(tenant).map(|absence| absence.fate)
    }

    /// A person says that a tenant may go. Whether its file is gone.
    pub(super) fn confirm(&mut self, tenant: &TenantName) -> bool {
        let absence = self.absent.get_mut(tenant);
        absence.map(|absence| absence.is_confirmed = true).is_some()
    }

    /// Nothing is left of it.
    pub(super) fn has_left(&mut self, tenant: &TenantName) {
        if let Some(absence) = self.absent.remove(tenant).filter(|absence| !absence.is_confirmed) {
            self.left.push_back(absence.since);
        }
    }

    /// Decides what becomes of each, where `tenants` are in force, those whose files are gone included, and the directory
    /// `is_known` to be the one that had their files. Returns those whose fate changes.
    pub(super) fn decide(&mut self, tenants: usize, is_known: bool, now: Instant) -> Vec<(TenantName, Fate)> {
        let is_recent = |since: Instant| now.saturating_duration_since(since) < WINDOW;
        self.left.retain(|since| is_recent(*since));
        let counts = |absence: &&Absence| {
            !absence.is_confirmed && (absence.fate == Fate::Held || is_recent(absence.since))
        };
        let gone = self.absent.values().filter(counts).count() + self.left.len();
        let are_many = gone > 1 && 2 * gone > tenants + self.left.len();
        let holds = !is_known || (are_many && !self.all_allowed);
        let mut changed = Vec::new();
        for (tenant, absence) in &mut self.absent {
            let has_settled = now.saturating_duration_since(absence.since) >= SETTLE;
            let fate = match absence.fate {
                _ if absence.is_confirmed => Fate::Leaving,
                Fate::Settling if !has_settled => Fate::Settling,
                // That others are confirmed, or back, says nothing of this one.
                Fate::Held => Fate::Held,
                // What began to leave before the others were gone stays with them, unless that was long ago.
                Fate::Leaving if !is_known || !is_recent(absence.since) => Fate::Leaving,
                _ if holds => Fate::Held,
                _ => Fate::Leaving,
            };
            if std::mem::replace(&mut absence.fate, fate) != fate {
                changed.push((tenant.clone(), fate));
            }
        }
        changed
    }

    /// When a fate may change without anything that happens.
    pub(super) fn next(&self) -> Option<Instant> {
        let settling = self.absent.values().filter(|absence| absence.fate == Fate::Settling);
        settling.map(|absence| absence.since + SETTLE).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TenantName {
        TenantName::try_from(text.to_owned()).unwrap()
    }

    /// Removals of tenants in virtual time.
    struct Course {
        removals: Removals,
        tenants: usize,
        begin: Instant,
    }

    impl Course {
        fn of(tenants: usize) -> Self {
            Self { removals: Removals::default(), tenants, begin: Instant::now() }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.begin + Duration::from_secs(seconds)
        }

        /// The files of these are gone from a second on; what is decided then.
        fn gone(&mut self, seconds: u64, names: &[&str]) -> Vec<(String, Fate)> {
            let now = self.at(seconds);
            for tenant in names {
                self.removals.is_gone(&name(tenant), now);
            }
            self.decide(seconds)
        }

        fn decide(&mut self, seconds: u64) -> Vec<(String, Fate)> {
            let changed = self.removals.decide(self.tenants, true, self.at(seconds));
            changed.into_iter().map(|(tenant, fate)| (tenant.to_string(), fate)).collect()
        }

        fn left(&mut self, tenant: &str) {
            self.removals.has_left(&name(tenant));
            self.tenants -= 1;
        }
    }

    fn all(names: &[&str], fate: Fate) -> Vec<(String, Fate)> {
        names.iter().map(|tenant| ((*tenant).to_owned(), fate)).collect()
    }

    #[test]
    fn one_leaves_once_its_file_has_been_gone_for_a_moment() {
        for tenants in [1, 2, 9] {
            let mut course = Course::of(tenants);
            assert_eq!(course.gone(0, &["a"]), []);
            assert_eq!(course.removals.next(), Some(course.at(0) + SETTLE));
            assert_eq!(course.decide(1), all(&["a"], Fate::Leaving));
            assert_eq!(course.decide(2), [], "said once");
            assert_eq!(course.removals.is_back(&name("a")), Some(Fate::Leaving));
        }
    }

    #[test]
    fn more_than_one_and_more_than_a_half_are_held() {
        let mut course = Course::of(4);
        course.gone(0, &["a", "b"]);
        assert_eq!(course.decide(1), all(&["a", "b"], Fate::Leaving), "a half is not more than that");
        let mut course = Course::of(3);
        course.gone(0, &["a", "b"]);
        assert_eq!(course.decide(1), all(&["a", "b"], Fate::Held));
        assert_eq!(course.decide(100_000), [], "however long it takes");
        assert!(course.removals.confirm(&name("a")) && !course.removals.confirm(&name("c")));
        assert_eq!(course.decide(100_001), all(&["a"], Fate::Leaving), "b was not confirmed");
    }

    #[test]
    fn one_after_the_other_is_at_once_too() {
        let mut course = Course::of(4);
        course.gone(0, &["a"]);
        assert_eq!(course.decide(1), all(&["a"], Fate::Leaving));
        course.left("a");
        course.gone(20, &["b"]);
        assert_eq!(course.decide(21), all(&["b"], Fate::Leaving));
        assert_eq!(course.gone(40, &["c"]), all(&["b"], Fate::Held), "what has begun to leave comes back");
        assert_eq!(course.decide(41), all(&["c"], Fate::Held));
        let mut course = Course::of(4);
        course.gone(0, &["a"]);
        course.decide(1);
        course.gone(30, &["b"]);
        course.decide(31);
        course.gone(61, &["c"]);
        assert_eq!(course.decide(62), all(&["c"], Fate::Leaving), "the first was long ago");
        for (second, fate) in [(59, Fate::Held), (60, Fate::Leaving)] {
            let mut course = Course::of(3);
            course.gone(0, &["a"]);
            course.decide(1);
            course.left("a");
            course.gone(58, &["b"]);
            assert_eq!(
                course.decide(second),
                all(&["b"], fate),
                "{second} s after one that nothing is left of"
            );
        }
    }

    #[test]
    fn files_that_come_back_clear_the_hold() {
        let mut course = Course::of(3);
        course.gone(0, &["a", "b", "c"]);
        assert_eq!(course.decide(1).len(), 3);
        assert_eq!(course.removals.is_back(&name("a")), Some(Fate::Held));
        course.removals.is_back(&name("b"));
        assert_eq!(course.decide(2), [], "what is not back waits for a person");
        course.gone(3, &["a"]);
        assert_eq!(course.decide(4), all(&["a"], Fate::Held), "two of three are gone again");
    }

    #[test]
    fn a_directory_that_is_another_one_tells_of_no_removal() {
        let mut course = Course::of(1);
        course.removals.is_gone(&name("a"), course.at(0));
        let decide = |course: &mut Course, known, at| {
            let now = course.at(at);
            course.removals.decide(1, known, now).into_iter().map(|(_, fate)| fate).collect::<Vec<_>>()
        };
        assert_eq!(decide(&mut course, false, 1), [Fate::Held]);
        assert_eq!(decide(&mut course, false, 9_999), []);
        assert_eq!(decide(&mut course, true, 10_000), [], "a person is to say so");
        assert_eq!(course.removals.is_back(&name("a")), Some(Fate::Held));
        course.removals.is_gone(&name("a"), course.at(10_001));
        assert_eq!(decide(&mut course, true, 10_002), [Fate::Leaving]);
        assert_eq!(decide(&mut course, false, 10_003), [], "it leaves already");
    }

    #[test]
    fn the_host_file_may_allow_all_at_once_and_a_restart_forgets_no_confirmation() {
        let mut course = Course::of(2);
        course.removals.all_allowed = true;
        course.gone(0, &["a", "b"]);
        assert_eq!(course.decide(1), all(&["a", "b"], Fate::Leaving));
        let mut course = Course::of(2);
        for (tenant, confirmed) in [("a", true), ("b", false)] {
            let since = course.at(0);
            course.removals.resume(name(tenant), since, confirmed);
        }
        assert_eq!(course.decide(1), [], "one of two is left to judge");
    }
}
