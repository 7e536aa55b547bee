//! Finding out whether pauses pay, by working with and without them in turn.
//!
//! The work of a core is cut into spells of equally many responses. A spell is compared with the
//! one before and the one after it if both were of the other kind, so that a load that grows or
//! falls makes no difference. Two things count: the processor time of the core, and the time that
//! passed. Clients that wait for a response before they ask again wait longer if more time passes.
//! How long others wait cannot be seen. For their sake pauses that are not short pay only where
//! less time passes: then all wait less.
//!
//! A core goes on with what has paid so far, and does the opposite now and then.

use std::cell::{Cell, RefCell};

/// Responses in a spell: 6 to 25 ms of a busy core, if objects are small.
const SPELL_RESPONSES: u32 = 512;

/// A spell ends after so much time, in nanoseconds, however few responses there were. Then it is
/// not compared. So a core that begins fewer than 10,240 responses a second makes no pauses: there
/// is little to save, and it would take seconds to find out.
const SPELL_NS_MAX: u64 = 50_000_000;

/// Differences are counted in parts of this.
const ONE: i64 = 1 << 20;

/// Pauses pay where processor time differs by at most this: by -2 %, or more below zero. A
/// difference is that of two figures divided by their sum, so -1 % is a ratio of 0.98.
const COST_MAX: i64 = -ONE / 100;

/// And where time differs by at most this, if they are short: by 3 %. A mean is that far off by
/// chance if spells scatter by 15 %.
const TIME_MAX_SHORT: i64 = ONE * 15 / 1_000;

/// Or by at most this, if they are long: by -3 %, which chance alone rarely brings.
const TIME_MAX_LONG: i64 = -TIME_MAX_SHORT;

/// Pauses that save processor time, and miss the limit of time by less than this, are tried often.
const UNDECIDED: i64 = ONE / 100;

/// A difference counts as at most this, a ratio of 1.3, so that one bad spell among many says
/// little.
const DIFFERENCE_MAX: i64 = ONE / 8;

/// Comparisons that a mean remembers, and before which nothing is concluded: a quarter of a second
/// at 60,000 responses a second. Spells scatter by 5 to 10 %, so fewer would leave it to chance.
const COMPARISONS: i64 = 32;

/// Spells of one kind between two of the other, once something was concluded: at least and at
/// most. A ninth of the time at most goes to what does not pay.
const GAP_MIN: u64 = 8;
const GAP_MAX: u64 = 64;

/// A core that uses less than this part of its time without pauses, in percent, has time to spare.
/// So it makes no pauses and tries none.
const BUSY_PERCENT: i64 = 33;

/// A core that uses less than this with pauses has, too. They do not save half.
const BUSY_PAUSING_PERCENT: i64 = 16;

/// A new spell counts for this part of the mean use.
const USE_PART: i64 = 8;

/// The clocks of a core, or what passed by them, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) time: u64,
    pub(super) processor: u64,
}

/// A spell that is over.
#[derive(Clone, Copy, Debug)]
struct Spell {
    pausing: bool,
    took: Clocks,
}

/// A moving mean of differences.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    number: i64,
    value: i64,
    variance: i64,
}

impl Mean {
    fn add(&mut self, difference: i64) {
        self.number = COMPARISONS.min(self.number + 1);
        let off = difference - self.value;
        self.value += off / self.number;
        self.variance += (off * (difference - self.value) - self.variance) / self.number;
    }

    /// The mean and two standard errors, as if the comparisons had no spell in common.
    fn upper_bound(&self) -> i64 {
        self.value + 2 * (self.variance.max(0) / self.number.max(1)).isqrt()
    }
}

/// By how much two figures differ. If chance alone decides which is which, that is zero on average,
/// however they scatter.
fn difference(of: u64, from: u64) -> i64 {
    // In units of 1,024 ns, and 73 minutes at most, so that the product fits.
    let [of, from] =
        [of, from].map(|figure| i64::from(u32::try_from(figure >> 10).unwrap_or(u32::MAX)));
    ((of - from) * ONE / (of + from).max(1)).clamp(-DIFFERENCE_MAX, DIFFERENCE_MAX)
}

/// The findings so far.
#[derive(Debug, Default)]
struct Record {
    /// Set if pauses are short against the time that S3 takes.
    are_short: bool,
    /// The two spells before the present one, the last of them first.
    earlier: [Option<Spell>; 2],
    cost: Mean,
    time: Mean,
    pays: bool,
    /// Mean use of the processor without pauses, in percent.
    used: i64,
    /// Spells until one of the other kind.
    spells_remaining: u64,
    gap: u64,
}

impl Record {
    /// A spell is over, with all its responses or not. Returns whether there are pauses in the next
    /// one.
    fn end_spell(&mut self, spell: Spell, is_whole: bool, now: u64) -> bool {
        if !is_whole {
            self.note_use(spell);
            self.earlier = [None; 2];
            return false;
        }
        if let [Some(between), Some(before)] = self.earlier
            && before.pausing == spell.pausing
            && between.pausing != spell.pausing
        {
            self.compare(between, [before, spell]);
        }
        self.earlier = [Some(spell), self.earlier[0]];
        // A spell that is compared must not decide whether it is.
        let next = self.choose(now);
        self.note_use(spell);
        next
    }

    fn note_use(&mut self, Spell { pausing, took }: Spell) {
        let percent = took.processor.saturating_mul(100) / took.time.max(1);
        let used = i64::try_from(percent).unwrap_or(100).min(100);
        if !pausing {
            let more = if self.used == 0 { used } else { (used - self.used) / USE_PART };
            self.used += more + (used - self.used - more).signum();
        } else if used < BUSY_PAUSING_PERCENT {
            self.used = used;
        }
    }

    fn compare(&mut self, between: Spell, others: [Spell; 2]) {
        let mean = |of: fn(Clocks) -> u64| {
            let both = others.map(|other| difference(of(between.took), of(other.took)));
            let sum: i64 = both.iter().sum();
            if between.pausing { sum / 2 } else { -sum / 2 }
        };
        let (cost, time) = (mean(|took| took.processor), mean(|took| took.time));
        self.cost.add(cost);
        self.time.add(time);
        if self.cost.number >= COMPARISONS {
            self.conclude(cost, time);
        }
    }

    /// Judges by all comparisons, of which the last one gave these differences.
    fn conclude(&mut self, cost: i64, time: i64) {
        let time_max = if self.are_short { TIME_MAX_SHORT } else { TIME_MAX_LONG };
        let is_within_limits = |cost, time| cost <= COST_MAX && time <= time_max;
        let as_before = is_within_limits(cost, time) == self.pays;
        self.gap = if as_before { self.gap * 2 } else { self.gap / 2 }.clamp(GAP_MIN, GAP_MAX);
        let bound = if self.pays { self.cost.value } else { self.cost.upper_bound() };
        self.pays = is_within_limits(bound, self.time.value);
        if !self.pays && bound <= COST_MAX && self.time.value - time_max < UNDECIDED {
            self.gap = GAP_MIN;
        }
    }

    fn choose(&mut self, now: u64) -> bool {
        if self.used < BUSY_PERCENT {
            return false;
        }
        if let Some(remaining) = self.spells_remaining.checked_sub(1) {
            self.spells_remaining = remaining;
            return self.pays;
        }
        // Before anything is concluded it is left to chance, because a load may come and go in step
        // with spells.
        self.spells_remaining = if self.gap == 0 { 1 + (now >> 6) % 2 } else { self.gap };
        !self.pays
    }
}

/// The trial of one core.
#[derive(Debug)]
pub(super) struct Trial {
    is_on: Cell<bool>,
    /// Responses until the present spell is over.
    remaining: Cell<u32>,
    /// When it began; at 0 before there was one.
    began: Cell<Clocks>,
    record: RefCell<Record>,
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            is_on: Cell::new(false),
            remaining: Cell::new(SPELL_RESPONSES),
            began: Cell::new(Clocks { time: 0, processor: 0 }),
            record: RefCell::default(),
        }
    }
}

impl Trial {
    /// Returns true while pauses are to be made.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on.get()
    }

    /// Notes that a response has begun at this time, and returns true if a spell ends with it. Then
    /// [`Trial::end_spell`] is to be called.
    #[inline]
    pub(super) fn note_response(&self, now: u64) -> bool {
        let remaining = self.remaining.get() - 1;
        self.remaining.set(remaining);
        remaining == 0 || now.saturating_sub(self.began.get().time) > SPELL_NS_MAX
    }

    /// Ends a spell. Pauses, if there are any, are short or not.
    #[cold]
    pub(super) fn end_spell(&self, now: Clocks, pauses_are_short: bool) {
        let is_whole = self.remaining.replace(SPELL_RESPONSES) == 0;
        let began = self.began.replace(now);
        let took = Clocks {
            time: now.time.saturating_sub(began.time),
            processor: now.processor.saturating_sub(began.processor),
        };
        let spell = Spell { pausing: self.is_on.get(), took };
        let mut record = self.record.borrow_mut();
        record.are_short = pauses_are_short;
        self.is_on.set(record.end_spell(spell, is_whole, now.time));
    }

    /// Mean use of the processor without pauses, in percent.
    #[cfg(test)]
    pub(super) fn used_percent(&self) -> i64 {
        self.record.borrow().used
    }

    /// Makes pauses or none from now on, whatever they bring.
    #[cfg(test)]
    pub(super) fn keep(&self, on: bool) {
        self.is_on.set(on);
        self.remaining.set(u32::MAX);
        self.began.set(Clocks { time: u64::MAX, processor: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time of a spell, and processor time of it, in microseconds.
    type Took = (u64, u64);

    /// A core on which spells take as long as a test says.
    struct Core {
        trial: Trial,
        now: Clocks,
        pauses_are_short: bool,
        /// Nanoseconds below a microsecond or two, which no clock gets right.
        noise: Box<dyn FnMut(u64) -> u64>,
    }

    impl Core {
        fn new() -> Self {
            let now = Clocks { time: 1 << 40, processor: 0 };
            let noise = Box::new(scattered(7, 100));
            let core = Self { trial: Trial::default(), now, pauses_are_short: true, noise };
            assert!(core.trial.note_response(now.time));
            core.trial.end_spell(now, true);
            core
        }

        /// Works for a spell of so many responses.
        fn work_for(&mut self, responses: u32, (time, processor): Took) {
            let began = self.now;
            for number in 1..=u64::from(responses) {
                let of = |all: u64| all * 1_000 * number / u64::from(responses);
                self.now.time = began.time + of(time);
                self.now.processor = began.processor + of(processor);
                if self.trial.note_response(self.now.time) {
                    self.trial.end_spell(self.now, self.pauses_are_short);
                }
            }
        }

        /// Works for so many spells, whose number and kind say what they take. Returns those in
        /// which there were pauses.
        fn work(&mut self, spells: u32, mut took: impl FnMut(u32, bool) -> Took) -> Vec<u32> {
            let mut paused = Vec::new();
            for number in 0..spells {
                let is_on = self.trial.is_on();
                if is_on {
                    paused.push(number);
                }
                self.work_for(SPELL_RESPONSES, took(number, is_on));
                self.now.time += (self.noise)(1_000);
            }
            paused
        }

        fn pays(&self) -> bool {
            self.trial.record.borrow().pays
        }
    }

    /// Numbers around a mean, which scatter evenly by at most so many percent.
    fn scattered(seed: u64, percent: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |mean| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
            mean * (100 - percent + (state >> 33) % (2 * percent + 1)) / 100
        }
    }

    const SEEDS: u32 = 100;

    /// The number of spells with pauses, of 1,000 for each seed, if they take so long with them and
    /// `(10_000, 6_000)` without.
    fn paused(percent: u64, with: Took, pauses_are_short: bool) -> usize {
        let each = |seed| {
            let mut scatter = scattered(u64::from(seed), percent);
            let mut core = Core::new();
            core.pauses_are_short = pauses_are_short;
            core.work(1_000, |_, on| {
                let (time, processor) = if on { with } else { (10_000, 6_000) };
                (scatter(time), scatter(processor))
            })
            .len()
        };
        (0..SEEDS).map(each).sum::<usize>() / SEEDS as usize
    }

    #[test]
    fn at_first_both_are_tried_in_turn() {
        let tried = Core::new().work(200, |_, _| (10_000, 6_000));
        let (first, later): (Vec<_>, Vec<_>) = tried.into_iter().partition(|&number| number < 60);
        assert!((19..=30).contains(&first.len()), "{first:?}");
        assert!(later.len() < 20, "{later:?}");
    }

    #[test]
    fn pauses_that_save_processor_time_are_made() {
        for (percent, with, least) in [
            (0, (10_000, 5_840), 930),
            (5, (10_000, 5_400), 900),
            (10, (10_000, 5_100), 850),
            (10, (9_000, 5_100), 850),
        ] {
            let paused = paused(percent, with, true);
            assert!(paused > least, "{percent} {with:?}: {paused}");
        }
    }

    #[test]
    fn pauses_that_cost_time_or_save_too_little_are_not_made() {
        for (percent, with) in [
            (0, (10_000, 5_950)),
            (0, (10_500, 5_000)),
            (10, (10_000, 6_000)),
            (10, (10_000, 6_600)),
            (10, (11_500, 5_000)),
            (40, (10_000, 6_000)),
        ] {
            let paused = paused(percent, with, true);
            assert!(paused < 150, "{percent} {with:?}: {paused}");
        }
    }

    #[test]
    fn long_pauses_must_make_responses_come_sooner() {
        assert!(paused(5, (10_000, 5_000), false) < 150);
        assert!(paused(5, (9_900, 5_000), false) < 200);
        assert!(paused(5, (9_000, 5_000), false) > 850);
    }

    #[test]
    fn what_differs_by_chance_does_not_pay_however_rarely_it_differs() {
        let believed = (0..SEEDS).filter(|&seed| {
            let mut chance = scattered(u64::from(seed), 100);
            let mut core = Core::new();
            // One spell in ten takes twenty times as long.
            core.work(
                2_000,
                |_, _| if chance(50) < 10 { (45_000, 40_000) } else { (2_250, 2_000) },
            );
            core.pays()
        });
        let believed = believed.count();
        assert!(believed < 10, "{believed}");
    }

    #[test]
    fn a_load_that_changes_makes_no_difference() {
        for (begins, percent) in [(2_000, 102), (100_000_000, 98)] {
            let mut core = Core::new();
            let mut time = begins;
            core.work(500, |_, _| {
                time = time * percent / 100;
                (time.min(48_000), time.min(48_000) / 2)
            });
            let record = core.trial.record.borrow();
            for mean in [record.cost, record.time] {
                assert_eq!(mean.number, COMPARISONS);
                assert!(mean.value.abs() < ONE / 1_000, "{mean:?}");
            }
        }
    }

    #[test]
    fn a_core_with_time_to_spare_tries_nothing() {
        let spare = |_, on| (10_000, if on { 1_000 } else { 3_200 });
        let mut core = Core::new();
        assert!(core.work(1_000, spare).is_empty());
        // It begins once there is more to do, and ends when there is no more.
        let paused = core.work(1_000, |_, on| (10_000, if on { 2_000 } else { 3_500 })).len();
        assert!(paused > 800, "{paused}");
        let paused = core.work(1_000, spare).len();
        assert!(paused <= 2, "{paused}");
    }

    #[test]
    fn the_use_of_a_core_is_not_that_of_its_last_spell() {
        let mut scatter = scattered(1, 60);
        let tried = Core::new().work(1_000, |_, _| (10_000, scatter(2_400)));
        assert!(tried.is_empty(), "{tried:?}");
    }

    #[test]
    fn a_core_finds_out_that_pauses_no_longer_pay_and_that_they_do_again() {
        let mut core = Core::new();
        for worse in [(10_000, 6_100), (12_000, 5_000), (12_000, 7_000)] {
            core.work(1_000, |_, on| (10_000, if on { 5_000 } else { 6_000 }));
            assert!(core.pays());
            core.work(1_000, |_, on| if on { worse } else { (10_000, 6_000) });
            assert!(!core.pays(), "{worse:?}");
        }
    }

    #[test]
    fn one_bad_spell_changes_nothing() {
        for kind in [false, true] {
            let mut core = Core::new();
            let took = |on| (10_000, if on { 5_000 } else { 6_000 });
            core.work(300, |_, on| took(on));
            // Of two spells beside each other that differ, so that it is compared.
            let mut last = kind;
            let mut is_over = false;
            let paused = core.work(300, |_, on| {
                let is_bad = !is_over && on == kind && last != kind;
                last = on;
                is_over |= is_bad;
                (if is_bad { 45_000 } else { took(on).0 }, took(on).1)
            });
            assert!(is_over);
            assert!(paused.len() > 250, "{}", paused.len());
        }
    }

    #[test]
    fn loads_that_come_and_go_in_step_with_spells_are_not_mistaken() {
        for phase in [1, 2, 3, 5, 9, 65] {
            for offset in [0, 1] {
                let mut core = Core::new();
                let paused = core.work(3_000, |number, _| {
                    let parts = if (number + offset) / phase % 2 == 0 { 1 } else { 5 };
                    (2_000 * parts, 1_500 * parts)
                });
                assert!(paused.len() < 600, "{phase} {offset}: {}", paused.len());
            }
        }
    }

    #[test]
    fn a_spell_is_so_many_responses_and_no_longer_than_that() {
        let mut core = Core::new();
        core.work(100, |_, on| (10_000, if on { 5_000 } else { 6_000 }));
        assert!(core.pays() && core.trial.is_on());
        // The load is nearly gone: the next response after a twentieth of a second ends it.
        core.work_for(1, (49_000, 100));
        assert!(core.trial.is_on());
        core.work_for(1, (2_000, 100));
        assert!(!core.trial.is_on());
        assert!(core.trial.record.borrow().earlier.iter().all(Option::is_none));
    }

    #[test]
    fn spells_that_take_nothing_differ_by_nothing() {
        assert_eq!(difference(0, 0), 0);
        assert_eq!(difference(u64::MAX, 0), ONE / 8);
        assert_eq!(difference(0, u64::MAX), -ONE / 8);
        assert_eq!(difference(102_400, 98_304), ONE * 2 / 98);
        assert!(Core::new().work(100, |_, _| (0, 0)).is_empty());
    }

    #[test]
    fn the_bound_of_a_mean_is_two_standard_errors_above_it() {
        let mut mean = Mean::default();
        for number in 0..1_000 {
            mean.add(if number % 2 == 0 { 9_000 } else { 1_000 });
        }
        assert!((mean.value - 5_000).abs() < 200, "{mean:?}");
        // They are 4,000 off it, and 32 count.
        let error = mean.upper_bound() - mean.value;
        assert!((error - 2 * 4_000 * 100 / 566).abs() < 50, "{error}");
        let mut steady = Mean::default();
        (0..100).for_each(|_| steady.add(-3_000));
        assert_eq!([steady.value, steady.upper_bound()], [-3_000; 2]);
    }

    #[test]
    fn what_was_found_lasts_until_the_mean_is_beyond_a_limit() {
        let scattered = Mean { number: COMPARISONS, value: COST_MAX - 100, variance: 1 << 30 };
        for pays in [false, true] {
            let mut record = Record { pays, are_short: true, cost: scattered, ..Record::default() };
            record.conclude(COST_MAX, 0);
            assert_eq!(record.pays, pays);
        }
    }

    #[test]
    fn pauses_that_hardly_miss_the_limit_of_time_are_tried_often() {
        let saves = Mean { number: COMPARISONS, value: 2 * COST_MAX, variance: 0 };
        let spends = Mean { value: 0, ..saves };
        let [hardly, clearly] =
            [1, 2 * UNDECIDED].map(|over| Mean { value: TIME_MAX_SHORT + over, ..saves });
        for (cost, time, gap) in
            [(saves, hardly, GAP_MIN), (saves, clearly, 32), (spends, hardly, 32)]
        {
            let mut record = Record { are_short: true, gap: 16, cost, time, ..Record::default() };
            record.conclude(0, ONE);
            assert!(!record.pays);
            assert_eq!(record.gap, gap, "{cost:?} {time:?}");
        }
    }
}
