//! The deadlines of one core, ordered by the tick in which they are due.
//!
//! A deadline is set for each request and hardly ever passes, so setting it must be a store. Each
//! member is listed once, in the bucket of a tick that is not later than its deadline. While
//! deadlines move on it stays there; when the tick comes, the member is asked when it is due now,
//! and listed again. The buckets are lists linked through their members: nothing is allocated, and
//! a member that leaves is gone at once.

use std::cell::Cell;

use crate::system::{alarm::TICK, clock::Monotonic};

/// Buckets of a core. What is due later than so many ticks from now (102 s) is asked once on its
/// way: most deadlines are shorter.
const BUCKETS: usize = 1_024;

const TICK_NS: u64 = TICK.as_secs() * 1_000_000_000 + TICK.subsec_nanos() as u64;

/// No member.
const NONE: u32 = u32::MAX;

/// Members by the tick in which they are asked next. A member is known by a small number.
#[derive(Debug)]
pub(super) struct Wheel {
    first: Box<[Cell<u32>]>,
    /// The tick up to which all buckets were swept. Its own is swept again with the next.
    swept: Cell<u64>,
}

/// A member's place in the wheel.
#[derive(Debug)]
pub(super) struct Place {
    /// Start of the tick in whose bucket it is, in nanoseconds; `u64::MAX` in none.
    from: Cell<u64>,
    before: Cell<u32>,
    behind: Cell<u32>,
}

impl Default for Place {
    fn default() -> Self {
        Self { from: Cell::new(u64::MAX), before: Cell::new(NONE), behind: Cell::new(NONE) }
    }
}

impl Place {
    /// Returns true if it is asked too late for this deadline.
    pub(super) fn is_later_than(&self, deadline: Monotonic) -> bool {
        deadline.0 < self.from.get()
    }
}

impl Wheel {
    pub(super) fn new(now: Monotonic) -> Self {
        let first = (0..BUCKETS).map(|_| Cell::new(NONE)).collect();
        Self { first, swept: Cell::new(now.0 / TICK_NS) }
    }

    /// Lists a member to be asked at `at`, or at the next sweep if that is sooner than it can be.
    pub(super) fn list<'p>(
        &self,
        member: u32,
        at: Monotonic,
        places: &impl Fn(u32) -> Option<&'p Place>,
    ) {
        let Some(place) = places(member) else { return };
        self.leave(member, places);
        let swept = self.swept.get();
        let tick = (at.0 / TICK_NS).clamp(swept, swept + BUCKETS as u64 - 1);
        place.from.set(tick * TICK_NS);
        let behind = self.bucket(tick).replace(member);
        place.behind.set(behind);
        if let Some(behind) = places(behind) {
            behind.before.set(member);
        }
    }

    /// Takes a member out.
    pub(super) fn leave<'p>(&self, member: u32, places: &impl Fn(u32) -> Option<&'p Place>) {
        let Some(place) = places(member) else { return };
        let from = place.from.replace(u64::MAX);
        if from == u64::MAX {
            return;
        }
        let before = place.before.replace(NONE);
        let behind = place.behind.replace(NONE);
        match places(before) {
            Some(before) => before.behind.set(behind),
            None => self.bucket(from / TICK_NS).set(behind),
        }
        if let Some(behind) = places(behind) {
            behind.before.set(before);
        }
    }

    /// Asks all members whose tick has come, and lists each again for when it says. `ask` must not
    /// take members out. Returns how many were asked.
    pub(super) fn sweep<'p>(
        &self,
        now: Monotonic,
        places: &impl Fn(u32) -> Option<&'p Place>,
        mut ask: impl FnMut(u32) -> Option<Monotonic>,
    ) -> usize {
        let this_tick = (now.0 / TICK_NS).max(self.swept.get());
        let from = self.swept.replace(this_tick);
        let mut asked = 0;
        // After a pause of the process all buckets have come. The present tick's comes first: a
        // member that is due always is listed there again, and must not be asked twice.
        for back in 0..=(this_tick - from).min(BUCKETS as u64 - 1) {
            let mut next = self.bucket(this_tick - back).replace(NONE);
            while let Some(place) = places(next) {
                let member = next;
                next = place.behind.replace(NONE);
                place.before.set(NONE);
                place.from.set(u64::MAX);
                asked += 1;
                if let Some(at) = ask(member) {
                    self.list(member, at, places);
                }
            }
        }
        asked
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder is what is wanted")]
    fn bucket(&self, tick: u64) -> &Cell<u32> {
        &self.first[tick as usize % BUCKETS]
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use super::*;

    /// Members with their deadlines, as sockets have them.
    struct Members {
        wheel: Wheel,
        places: Vec<Place>,
        deadlines: RefCell<Vec<Option<Monotonic>>>,
    }

    impl Members {
        fn new(count: usize) -> Self {
            Self {
                wheel: Wheel::new(Monotonic(0)),
                places: (0..count).map(|_| Place::default()).collect(),
                deadlines: RefCell::new(vec![None; count]),
            }
        }

        fn place(&self, member: u32) -> Option<&Place> {
            self.places.get(usize::try_from(member).unwrap())
        }

        fn arm(&self, member: u32, deadline: Monotonic) {
            self.deadlines.borrow_mut()[usize::try_from(member).unwrap()] = Some(deadline);
            if self.place(member).unwrap().is_later_than(deadline) {
                self.wheel.list(member, deadline, &|member| self.place(member));
            }
        }

        fn leave(&self, member: u32) {
            self.wheel.leave(member, &|member| self.place(member));
        }

        /// Those that are due, and how many were asked.
        fn sweep(&self, now: Monotonic) -> (Vec<u32>, usize) {
            let mut due = Vec::new();
            let asked = self.wheel.sweep(now, &|member| self.place(member), |member| {
                let deadline = &mut self.deadlines.borrow_mut()[usize::try_from(member).unwrap()];
                if deadline.is_some_and(|deadline| deadline <= now) {
                    due.push(member);
                    *deadline = None;
                }
                *deadline
            });
            due.sort_unstable();
            (due, asked)
        }
    }

    fn at(seconds: f64) -> Monotonic {
        Monotonic(0).plus(Duration::from_secs_f64(seconds))
    }

    #[test]
    fn a_tick_costs_what_is_due_and_not_what_is_open() {
        let members = Members::new(10_001);
        for member in 0..10_000 {
            members.arm(member, at(60.0));
        }
        members.arm(10_000, at(5.0));
        let (mut asked, mut due) = (0, Vec::new());
        for tick in 0..590 {
            // Requests come and go on a few of them, and each moves its deadline.
            members.arm(tick % 10, at(60.0 + f64::from(tick) * 0.1));
            let (of_tick, asked_in_tick) = members.sweep(at(f64::from(tick) * 0.1));
            asked += asked_in_tick;
            due.extend(of_tick);
        }
        assert_eq!(due, [10_000]);
        assert!(asked <= 3, "{asked}");
        let (due, _) = members.sweep(at(60.0));
        assert_eq!(due, (10..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_deadline_passes_in_its_tick_however_it_was_moved() {
        let members = Members::new(4);
        members.arm(0, at(500.0));
        members.arm(1, at(500.0));
        members.arm(1, at(2.05));
        members.arm(2, at(1.0));
        members.arm(2, at(3_600.0));
        members.arm(3, at(2.05));
        members.leave(3);
        let mut due = Vec::new();
        for tick in 0..40_000 {
            let now = at(f64::from(tick) * 0.1);
            due.extend(members.sweep(now).0.into_iter().map(|member| (member, tick)));
        }
        assert_eq!(due, [(1, 21), (0, 5_000), (2, 36_000)]);
    }

    #[test]
    fn after_a_long_pause_all_that_is_due_is_asked_once() {
        let members = Members::new(3_000);
        for member in 0..3_000 {
            members.arm(member, at(f64::from(member)));
        }
        let (due, asked) = members.sweep(at(2_000.0));
        assert_eq!(due, (0..=2_000).collect::<Vec<_>>());
        assert!(asked <= 2 * 3_000);
        let (due, _) = members.sweep(at(86_400.0));
        assert_eq!(due, (2_001..3_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_member_that_is_always_due_is_asked_once_in_a_sweep() {
        let members = Members::new(2);
        let places = |member| members.place(member);
        for member in 0..2 {
            members.wheel.list(member, Monotonic(0), &places);
        }
        for seconds in [0.1, 0.2, 0.3, 0.7, 0.8, 5_000.0, 5_000.1] {
            let asked = members.wheel.sweep(at(seconds), &places, |_| Some(Monotonic(0)));
            assert_eq!(asked, 2, "{seconds}");
        }
    }

    #[test]
    fn members_leave_from_every_place_of_a_bucket() {
        for left in 0..3 {
            let members = Members::new(3);
            for member in 0..3 {
                members.arm(member, at(1.0));
            }
            members.leave(left);
            members.leave(left);
            let (due, asked) = members.sweep(at(1.0));
            assert_eq!((due.len(), asked), (2, 2));
            assert!(!due.contains(&left));
        }
    }
}
