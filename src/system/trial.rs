//! Whether something pays that a core may do or leave, found out by doing both in turn.
//!
//! The work of a core is cut into spells of equally many responses. In some it does the thing, in
//! others it leaves it. Each spell is compared with the one before and the one after it if both are
//! of the other kind, so that a load that grows or falls makes no difference. Two things count: the
//! processor time of the core, and the time that passed. Clients that wait for a response before
//! they ask again wait longer if more time passes.
//!
//! A core goes on with what has paid so far, and does the opposite now and then.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use crate::system::clock::{self, Monotonic};

/// Responses in a spell: 6 to 25 ms of a busy core.
const SPELL_RESPONSES: u32 = 512;

/// A ratio of one, in the parts in which ratios are counted.
const ONE: i64 = 1 << 16;

/// The thing pays where it leaves at most this part of the processor time,
const COST_MAX: i64 = ONE * 98 / 100;

/// and where at most this part of the time passes. It may be a little more than one, because
/// comparisons are never quite sure.
const TIME_MAX: i64 = ONE * 103 / 100;

/// A greater ratio counts as this: one bad spell says little.
const RATIO_MAX: i64 = 2 * ONE;

/// Comparisons before anything is concluded from them.
const COMPARISONS_MIN: i64 = 8;

/// Comparisons that a mean remembers.
const COMPARISONS_KEPT: i64 = 32;

/// Most spells of one kind between two of the other.
const GAP_MAX: u32 = 64;

/// A core that leaves the thing and uses less than this part of its time, in percent, has time to
/// spare. It tries nothing.
const BUSY_PERCENT: u64 = 45;

/// What the clocks of a core say, or what passed by them, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    time_ns: u64,
    processor_ns: u64,
}

impl Clocks {
    fn read() -> Self {
        Self { time_ns: Monotonic::now().0, processor_ns: clock::thread_processor_ns() }
    }

    const fn since(self, earlier: Self) -> Self {
        Self {
            time_ns: self.time_ns.saturating_sub(earlier.time_ns),
            processor_ns: self.processor_ns.saturating_sub(earlier.processor_ns),
        }
    }
}

/// A spell that is over.
#[derive(Clone, Copy, Debug)]
struct Spell {
    on: bool,
    took: Clocks,
}

/// A moving mean of ratios.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    number: i64,
    value: i64,
    variance: i64,
}

impl Mean {
    fn add(&mut self, ratio: i64) {
        self.number = COMPARISONS_KEPT.min(self.number + 1);
        let off = ratio - self.value;
        self.value += off / self.number;
        self.variance += (off * (ratio - self.value) - self.variance) / self.number;
    }

    /// What the mean is hardly above, however the ratios scatter: two standard errors more.
    fn hardly_above(&self) -> i64 {
        self.value + 2 * (self.variance.max(0) / self.number.max(1)).isqrt()
    }
}

/// What is known so far.
#[derive(Debug, Default)]
struct Record {
    /// When the present spell began.
    began: Option<Clocks>,
    /// The two spells before the present one, the last of them first.
    earlier: [Option<Spell>; 2],
    cost: Mean,
    time: Mean,
    pays: bool,
    busy: bool,
    /// Spells until one of the other kind, and the number to begin with after that.
    left: u32,
    gap: u32,
}

impl Record {
    /// A spell is over. Returns whether the thing is done in the next one.
    fn end_spell(&mut self, on: bool, now: Clocks) -> bool {
        if let Some(began) = self.began.replace(now) {
            let spell = Spell { on, took: now.since(began) };
            self.note(spell);
            self.earlier = [Some(spell), self.earlier[0]];
        }
        self.choose()
    }

    fn note(&mut self, spell: Spell) {
        if !spell.on {
            self.busy = spell.took.processor_ns * 100 >= spell.took.time_ns * BUSY_PERCENT;
        }
        if let [Some(between), Some(before)] = self.earlier
            && before.on == spell.on
            && between.on != spell.on
        {
            self.compare(between, before, spell);
        }
    }

    fn compare(&mut self, between: Spell, before: Spell, after: Spell) {
        let ratio = |of: fn(Clocks) -> u64| {
            // In about microseconds, which fit.
            let micros = |spell: Spell| (of(spell.took) >> 10).min(u64::from(u32::MAX));
            let (one, both) = (2 * micros(between), micros(before) + micros(after));
            let (with, without) = if between.on { (one, both) } else { (both, one) };
            let parts = i64::try_from((with << 16) / without.max(1)).unwrap_or(RATIO_MAX);
            parts.min(RATIO_MAX)
        };
        let cost = ratio(|took| took.processor_ns);
        let time = ratio(|took| took.time_ns);
        self.cost.add(cost);
        self.time.add(time);
        if self.cost.number >= COMPARISONS_MIN {
            self.conclude(cost, time);
        }
    }

    /// Judges by all comparisons, of which the last one gave these ratios.
    fn conclude(&mut self, cost: i64, time: i64) {
        let pays = |cost, time| cost <= COST_MAX && time <= TIME_MAX;
        // The less is new, the rarer is the opposite of what pays.
        self.gap = if pays(cost, time) == self.pays { self.gap * 2 } else { self.gap / 2 };
        self.pays = if self.pays {
            pays(self.cost.value, self.time.value)
        } else {
            pays(self.cost.hardly_above(), self.time.hardly_above())
        };
    }

    fn choose(&mut self) -> bool {
        if !self.busy {
            return false;
        }
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return self.pays;
        }
        self.gap = self.gap.clamp(1, GAP_MAX);
        self.left = self.gap;
        !self.pays
    }
}

/// The trial of one thing on one core.
pub(super) struct Trial {
    on: Cell<bool>,
    /// Responses until the present spell is over.
    left: Cell<u32>,
    record: RefCell<Record>,
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("on", &self.on).finish_non_exhaustive()
    }
}

impl Default for Trial {
    fn default() -> Self {
        Self { on: Cell::new(false), left: Cell::new(SPELL_RESPONSES), record: RefCell::default() }
    }
}

impl Trial {
    /// Returns true while the thing is to be done.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.on.get()
    }

    /// One more response.
    #[inline]
    pub(super) fn note_response(&self) {
        let left = self.left.get() - 1;
        self.left.set(left);
        if left == 0 {
            self.end_spell();
        }
    }

    #[cold]
    fn end_spell(&self) {
        self.left.set(SPELL_RESPONSES);
        self.on.set(self.record.borrow_mut().end_spell(self.on.get(), Clocks::read()));
    }

    /// Does the thing, or leaves it, whatever it brings.
    #[cfg(test)]
    pub(super) fn keep(&self, on: bool) {
        self.on.set(on);
        self.left.set(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a spell takes, in microseconds: of time, and of the processor.
    type Took = (u64, u64);

    /// A core that has just begun.
    struct Core {
        record: Record,
        now: Clocks,
        on: bool,
    }

    impl Core {
        fn new() -> Self {
            let now = Clocks { time_ns: 0, processor_ns: 0 };
            let mut record = Record::default();
            let on = record.end_spell(false, now);
            Self { record, now, on }
        }

        /// Works for so many spells, whose number and kind say what they take. Returns those in
        /// which the thing was done.
        fn work(&mut self, spells: u32, mut took: impl FnMut(u32, bool) -> Took) -> Vec<u32> {
            let mut done = Vec::new();
            for number in 0..spells {
                let (time, processor) = took(number, self.on);
                self.now.time_ns += time * 1_000;
                self.now.processor_ns += processor * 1_000;
                if self.on {
                    done.push(number);
                }
                self.on = self.record.end_spell(self.on, self.now);
            }
            done
        }
    }

    /// Numbers that scatter evenly by at most this part of their mean, in percent.
    fn scattered(percent: u64) -> impl FnMut(u64) -> u64 {
        let mut state = 1_u64;
        move |mean| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            mean * (100 - percent + (state >> 33) % (2 * percent + 1)) / 100
        }
    }

    #[test]
    fn what_saves_processor_time_is_done_nearly_always() {
        let mut scatter = scattered(10);
        let done = Core::new()
            .work(1_000, |_, on| (scatter(10_000), scatter(if on { 5_400 } else { 6_000 })));
        assert!(done.len() > 900, "{}", done.len());
        // At first both are done in turn.
        assert_eq!(done[..8], [1, 3, 5, 7, 9, 11, 13, 15]);
    }

    #[test]
    fn what_makes_clients_wait_or_saves_nothing_is_left() {
        for (time, processor) in [(11_000, 6_000), (11_000, 5_000), (10_000, 6_600)] {
            let mut scatter = scattered(10);
            let done = Core::new().work(1_000, |_, on| {
                let (time, processor) = if on { (time, processor) } else { (10_000, 6_000) };
                (scatter(time), scatter(processor))
            });
            // Those of the beginning, and one in 65.
            assert!(done.len() < 40, "{time} {processor}: {}", done.len());
        }
    }

    #[test]
    fn what_makes_no_difference_is_not_taken_for_something_that_pays() {
        for percent in [1, 10, 40, 80] {
            let mut scatter = scattered(percent);
            let mut core = Core::new();
            let mut paid = 0;
            for _ in 0..10_000 {
                core.work(1, |_, _| (scatter(10_000), scatter(6_000)));
                paid += u32::from(core.record.pays);
            }
            assert!(paid < 500, "{percent}: {paid}");
        }
    }

    #[test]
    fn a_load_that_changes_makes_no_difference() {
        for (begins, step) in [(20_000, 200), (210_000, -200)] {
            let mut core = Core::new();
            core.work(1_000, |number, _| {
                let time = u64::try_from(begins + step * i64::from(number)).unwrap();
                (time, time / 2)
            });
            assert!(!core.record.pays);
            for mean in [core.record.cost, core.record.time] {
                assert!(mean.number > COMPARISONS_MIN, "{mean:?}");
                assert!((mean.value - ONE).abs() < ONE / 1_000, "{mean:?}");
            }
        }
    }

    #[test]
    fn a_core_with_time_to_spare_tries_nothing() {
        let idle = |_, on| (10_000, if on { 2_000 } else { 4_400 });
        let mut core = Core::new();
        assert!(core.work(1_000, idle).is_empty());
        // It begins once there is more to do, and ends when there is no more.
        let done = core.work(1_000, |_, on| (10_000, if on { 4_000 } else { 4_600 }));
        assert!(done.len() > 900, "{}", done.len());
        let done = core.work(1_000, idle).len();
        assert!(done <= 65, "{done}");
    }

    #[test]
    fn a_core_finds_out_that_it_no_longer_pays_and_that_it_does_again() {
        let mut core = Core::new();
        for _ in 0..3 {
            core.work(1_000, |_, on| (10_000, if on { 5_000 } else { 6_000 }));
            assert!(core.record.pays);
            core.work(1_000, |_, on| (if on { 12_000 } else { 10_000 }, 6_000));
            assert!(!core.record.pays);
        }
    }

    #[test]
    fn one_bad_spell_changes_nothing() {
        let took = |on| (10_000, if on { 5_000 } else { 6_000 });
        for kind in [false, true] {
            let mut core = Core::new();
            core.work(200, |_, on| took(on));
            // The process is stopped for a minute.
            let mut stopped = false;
            let done = core.work(200, |_, on| {
                let stops = on == kind && !stopped;
                stopped |= stops;
                (if stops { 60_000_000 } else { took(on).0 }, took(on).1)
            });
            assert!(stopped);
            assert!(done.len() > 180, "{}", done.len());
        }
    }

    #[test]
    fn a_spell_is_so_many_responses() {
        let trial = Trial::default();
        (1..SPELL_RESPONSES).for_each(|_| trial.note_response());
        assert!(trial.record.borrow().began.is_none());
        trial.note_response();
        assert!(trial.record.borrow().began.is_some());
        assert_eq!(trial.left.get(), SPELL_RESPONSES);
        assert!(!trial.is_on());
    }
}
