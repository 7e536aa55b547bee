//! Going to sleep less often.
//!
//! Each time that a sleeping core is woken costs it some microseconds: more than it then needs for
//! what woke it. Under load its sockets are quiet for a few microseconds at a time, many thousand
//! times a second. A core that finds them so may pause instead: it sleeps for a while in which
//! nothing wakes it, and then finds many events at once. Network cards moderate their interrupts
//! for the same reason (`ethtool(8)`, `rx-usecs`).
//!
//! What a pause may cost is time. So it is no longer than S3 takes to begin a response, and a core
//! pauses only while it has little time to spare, while pauses bring events together, and while it
//! finds that they pay (`trial.rs`): that they save processor time, and either are short against
//! the time that S3 takes or make responses come sooner. What was measured is in
//! docs/PERFORMANCE.md and bench/TRIED.md.

use std::{cell::Cell, fmt, time::Duration};

use crate::system::{
    clock::{self, Monotonic},
    process,
    trial::{Clocks, Trial},
};

/// The longest pause, in nanoseconds.
const LONGEST_NS: u64 = 200_000;

/// The shortest pause, in nanoseconds. One of 20 us costs as much as it saves.
const SHORTEST_NS: u64 = 40_000;

/// Pauses are short if S3 takes at least so many times as long as the longest one to begin a
/// response. A request meets two of them at most.
const SHORT_PART: u64 = 10;

/// The longest pause that may be asked for, in microseconds.
const CHOICE_MAX_US: u32 = 10_000;

/// Looks at the sockets without a response of S3 after which what is known of S3 no longer counts.
const LOOKS_KNOWN: u32 = 64;

/// The least median of times to a first byte in nanoseconds, so that it has a step.
const FIRST_BYTE_MIN_NS: u64 = 1_024;

/// A response moves the median by this part of it: up if it is slower, down if not. So it is what
/// most responses take, however slow the others are.
const MEDIAN_PART: u64 = 64;

/// Tasks that must run after a pause for it to be worth its cost. An event of a listener is one
/// event, and a task for each connection.
const RUNS_MIN: u64 = 4;

/// Looks without a pause after one that was not worth it: at least and at most.
const LOOKS_WITHOUT_MIN: u32 = 4;
const LOOKS_WITHOUT_MAX: u32 = 1_024;

/// Which pauses a core makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PausesChoice {
    /// Those that bring events together.
    #[default]
    Usual,
    /// None.
    Never,
    /// One of this length whenever there is nothing to do, in microseconds, at most 10,000.
    Always(u32),
}

impl PausesChoice {
    /// Reads `never` or a number of microseconds; anything else is the usual choice.
    pub fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(micros) => Self::Always(CHOICE_MAX_US.min(micros)),
            Err(_) if text == "never" => Self::Never,
            Err(_) => Self::Usual,
        }
    }
}

/// The ways to go on when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// To sleep until something happens.
    Sleep,
    /// To pause for so long, and to sleep if nothing has happened then.
    Pause(Duration),
}

/// The pauses of one core.
pub struct Pauses {
    choice: PausesChoice,
    /// The trial of the usual choice.
    trial: Trial,
    /// Median of the times that S3 takes to begin a response, in nanoseconds, while there are no
    /// pauses.
    first_byte_ns: Cell<u64>,
    /// Looks for which that still counts.
    known: Cell<u32>,
    /// Looks that are to come before the next pause.
    without: Cell<u32>,
    /// Looks without a pause after the next one that is not worth it.
    penalty: Cell<u32>,
    /// Runs of tasks before the present turn, if it is the first one after a pause.
    runs_before: Cell<Option<u64>>,
    /// Done in the next pause, in place of it.
    #[cfg(test)]
    meanwhile: Cell<Option<Box<dyn FnOnce()>>>,
}

impl fmt::Debug for Pauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pauses").field("choice", &self.choice).finish_non_exhaustive()
    }
}

impl Pauses {
    /// The pauses of the calling thread. If the kernel cannot end them in time, none are made
    /// unless they were asked for.
    pub(super) fn new(choice: PausesChoice) -> Self {
        let choice = match choice {
            PausesChoice::Usual if !process::let_sleeps_end_in_time() => PausesChoice::Never,
            choice => choice,
        };
        Self {
            choice,
            trial: Trial::default(),
            first_byte_ns: Cell::new(FIRST_BYTE_MIN_NS),
            known: Cell::new(0),
            without: Cell::new(0),
            penalty: Cell::new(LOOKS_WITHOUT_MIN),
            runs_before: Cell::new(None),
            #[cfg(test)]
            meanwhile: Cell::new(None),
        }
    }

    /// Returns false if none are made whatever happens.
    pub(super) fn are_made(&self) -> bool {
        self.choice != PausesChoice::Never
    }

    /// Notes that a response began now, so many nanoseconds after its request was sent to S3, as
    /// this core sees it: behind all that it had to do first.
    #[inline]
    pub(super) fn note_first_byte(&self, now: Monotonic, after_ns: u64) {
        self.note_response(now.0, after_ns, clock::thread_processor_ns);
    }

    #[inline]
    fn note_response(&self, now: u64, after_ns: u64, processor: impl FnOnce() -> u64) {
        if self.choice == PausesChoice::Usual {
            self.known.set(LOOKS_KNOWN);
            // Pauses must not make for longer ones.
            if !self.trial.is_on() {
                self.move_median(after_ns);
            }
            if self.trial.note_response(now) {
                let now = Clocks { time: now, processor: processor() };
                let pauses_are_short = self.first_byte_ns.get() >= SHORT_PART * LONGEST_NS;
                self.trial.end_spell(now, pauses_are_short);
            }
        }
    }

    fn move_median(&self, after_ns: u64) {
        let median = self.first_byte_ns.get();
        let step = median / MEDIAN_PART;
        self.first_byte_ns.set(if after_ns > median {
            median.saturating_add(step)
        } else {
            (median - step).max(FIRST_BYTE_MIN_NS)
        });
    }

    /// Says what to do if this look, which may sleep, finds nothing.
    #[inline]
    pub(super) fn plan_look(&self) -> Plan {
        match self.choice {
            PausesChoice::Usual if self.trial.is_on() => self.plan_usual(),
            PausesChoice::Usual | PausesChoice::Never => Plan::Sleep,
            PausesChoice::Always(micros) => Plan::Pause(Duration::from_micros(micros.into())),
        }
    }

    fn plan_usual(&self) -> Plan {
        let Some(known) = self.known.get().checked_sub(1) else { return Plan::Sleep };
        self.known.set(known);
        let first_byte = self.first_byte_ns.get();
        if first_byte < SHORTEST_NS {
            return Plan::Sleep;
        }
        if let Some(remaining) = self.without.get().checked_sub(1) {
            self.without.set(remaining);
            return Plan::Sleep;
        }
        Plan::Pause(Duration::from_nanos(first_byte.min(LONGEST_NS)))
    }

    /// Makes a pause, after so many runs of tasks.
    pub(super) fn make(&self, pause: Duration, runs: u64) {
        self.runs_before.set(Some(runs));
        #[cfg(test)]
        if let Some(meanwhile) = self.meanwhile.take() {
            return meanwhile();
        }
        std::thread::sleep(pause);
    }

    /// Does this in place of the next pause.
    #[cfg(test)]
    pub(super) fn in_next(&self, meanwhile: impl FnOnce() + 'static) {
        self.meanwhile.set(Some(Box::new(meanwhile)));
    }

    /// Time that S3 usually takes to begin a response.
    #[cfg(test)]
    pub(super) fn first_byte(&self) -> Duration {
        Duration::from_nanos(self.first_byte_ns.get())
    }

    /// Learns that S3 takes so long to begin a response, and that pauses pay.
    #[cfg(test)]
    pub(super) fn settle(&self, first_byte: Duration) {
        let nanos = u64::try_from(first_byte.as_nanos()).unwrap_or(u64::MAX);
        self.trial.keep(false);
        (0..1_000).for_each(|_| self.note_response(0, nanos, || 0));
        self.trial.keep(true);
    }

    /// A turn is over, after so many runs of tasks. Judges by them the pause before it, if there
    /// was one.
    #[inline]
    pub(super) fn end_turn(&self, runs: u64) {
        if let Some(before) = self.runs_before.take() {
            self.judge(runs.wrapping_sub(before));
        }
    }

    fn judge(&self, runs: u64) {
        let penalty = self.penalty.get();
        if runs >= RUNS_MIN {
            self.penalty.set((penalty / 2).max(LOOKS_WITHOUT_MIN));
        } else {
            self.without.set(penalty);
            self.penalty.set((penalty * 2).min(LOOKS_WITHOUT_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(1);

    /// Where responses take so long, and pauses pay.
    fn settled(first_byte: Duration) -> Pauses {
        let pauses = Pauses::new(PausesChoice::Usual);
        pauses.settle(first_byte);
        pauses
    }

    /// Looks so often, each time after a response of S3. Each pause makes so many tasks run.
    /// Returns the number of pauses.
    fn look(pauses: &Pauses, times: usize, runs: u64) -> usize {
        let each = || {
            pauses.note_response(0, u64::MAX, || 0);
            match pauses.plan_look() {
                Plan::Sleep => false,
                Plan::Pause(pause) => {
                    pauses.in_next(|| ());
                    pauses.make(pause, 100);
                    pauses.end_turn(100 + runs);
                    // Later turns say nothing of it.
                    pauses.end_turn(u64::MAX);
                    true
                }
            }
        };
        (0..times).filter(|_| each()).count()
    }

    #[test]
    fn a_pause_is_no_longer_than_s3_takes() {
        for (first_byte_us, pause_us) in [(50, 50), (100, 100), (180, 180), (5_000, 200)] {
            let pauses = settled(Duration::from_micros(first_byte_us));
            let Plan::Pause(pause) = pauses.plan_look() else { panic!("it sleeps") };
            let expected = Duration::from_micros(pause_us);
            // The median moves in steps of a 64th.
            assert!(pause.abs_diff(expected) <= expected / 60, "{pause:?}");
        }
    }

    #[test]
    fn pauses_do_not_make_for_longer_ones() {
        let pauses = settled(Duration::from_micros(50));
        (0..1_000).for_each(|_| pauses.note_response(0, 1_000_000, || 0));
        let Plan::Pause(pause) = pauses.plan_look() else { panic!("it sleeps") };
        assert!(pause < Duration::from_micros(52), "{pause:?}");
    }

    #[test]
    fn there_is_no_pause_where_s3_is_fast_or_unknown() {
        let pauses = Pauses::new(PausesChoice::Usual);
        pauses.trial.keep(true);
        assert_eq!(pauses.plan_look(), Plan::Sleep);
        let pauses = settled(Duration::from_micros(38));
        assert_eq!(pauses.plan_look(), Plan::Sleep);
        pauses.settle(SLOW);
        assert!(matches!(pauses.plan_look(), Plan::Pause(_)));
        pauses.settle(Duration::from_micros(38));
        assert_eq!(pauses.plan_look(), Plan::Sleep);
    }

    #[test]
    fn slow_responses_do_not_make_up_for_fast_ones() {
        let pauses = settled(Duration::from_micros(30));
        pauses.trial.keep(false);
        for number in 0..10_000 {
            let after = if number % 3 == 0 { u64::MAX } else { 30_000 };
            pauses.note_response(0, after, || 0);
        }
        pauses.trial.keep(true);
        assert_eq!(pauses.plan_look(), Plan::Sleep);
    }

    #[test]
    fn a_core_for_which_pauses_do_not_pay_makes_none() {
        let pauses = settled(SLOW);
        pauses.trial.keep(false);
        assert_eq!(look(&pauses, 1_000, RUNS_MIN), 0);
        pauses.trial.keep(true);
        assert_eq!(look(&pauses, 1_000, RUNS_MIN), 1_000);
    }

    /// A core answers so many requests, which S3 takes so many microseconds for, and looks after
    /// each. Requests take so many nanoseconds of time, 7,000 of the processor without pauses, and
    /// 6,000 with them. Returns how often it paused.
    fn answer(requests: u64, first_byte_us: u64, time_without: u64, time_with: u64) -> usize {
        let pauses = Pauses::new(PausesChoice::Usual);
        let (mut time, mut processor) = (1 << 40, 0);
        let each = |number: u64| {
            // One in each spell is fast: the last one.
            let first_byte_us = if number.is_multiple_of(512) { 10 } else { first_byte_us };
            let pausing = pauses.trial.is_on();
            time += if pausing { time_with } else { time_without };
            processor += if pausing { 6_000 } else { 7_000 };
            pauses.note_response(time, first_byte_us * 1_000, || processor);
            matches!(pauses.plan_look(), Plan::Pause(_))
        };
        (0..requests).map(each).filter(|&paused| paused).count()
    }

    #[test]
    fn a_core_finds_out_that_pauses_pay() {
        let requests = 200_000;
        // Where S3 takes its time, it is enough that they save some of the processor's.
        assert!(answer(requests, 2_100, 10_000, 10_000) > 150_000);
        assert!(answer(requests, 2_100, 10_000, 11_000) < 30_000);
        // Where it does not, responses must come sooner with them.
        assert!(answer(requests, 1_900, 10_000, 10_000) < 30_000);
        assert!(answer(requests, 1_900, 10_000, 9_000) > 150_000);
        // A core with time to spare does not look for it.
        assert_eq!(answer(requests, 2_100, 22_000, 22_000), 0);
    }

    #[test]
    fn a_core_that_never_pauses_tries_nothing() {
        let never = Pauses::new(PausesChoice::Never);
        let mut time = 1 << 40;
        for _ in 0..100_000 {
            time += 10_000;
            never.note_response(time, 1_000_000, || panic!("it reads a clock"));
        }
        assert!(!never.trial.is_on());
    }

    #[test]
    fn responses_are_noted_with_the_clocks_of_the_core() {
        let note = |step: Duration| {
            let pauses = Pauses::new(PausesChoice::Usual);
            let mut now = Monotonic::now();
            for number in 0..1_024 {
                now = now.plus(step);
                pauses.note_first_byte(now, 5_000_000);
                if number == 10 {
                    // More than all the steps of a microsecond, and next to nothing of the others.
                    let end = clock::thread_processor_ns() + 2_000_000;
                    while clock::thread_processor_ns() < end {}
                }
            }
            assert!(pauses.first_byte().as_micros() > 4_900);
            pauses.trial.used_percent()
        };
        assert_eq!(note(Duration::from_micros(1)), 100);
        assert_eq!(note(Duration::from_secs(1)), 0);
    }

    #[test]
    fn pauses_that_bring_little_get_rare_and_come_back() {
        let pauses = settled(SLOW);
        assert!(look(&pauses, 10_000, RUNS_MIN - 1) < 20);
        assert_eq!(pauses.penalty.get(), LOOKS_WITHOUT_MAX);
        // Each that is worth it makes the next one that is not cheaper.
        for penalty in [512, 256, 128, 64, 32, 16, 8, 4, 4] {
            while look(&pauses, 1, RUNS_MIN) == 0 {}
            assert_eq!(pauses.penalty.get(), penalty);
        }
        assert_eq!(look(&pauses, 1_000, RUNS_MIN), 1_000);
    }

    #[test]
    fn a_core_that_answers_without_s3_does_not_pause() {
        let pauses = settled(SLOW);
        let planned = (0..1_000).filter(|_| pauses.plan_look() != Plan::Sleep).count();
        assert_eq!(planned, LOOKS_KNOWN as usize);
    }

    #[test]
    fn the_choice_is_obeyed() {
        let never = Pauses::new(PausesChoice::parse("never"));
        never.settle(SLOW);
        assert_eq!(never.plan_look(), Plan::Sleep);
        let always = Pauses::new(PausesChoice::parse("70"));
        assert_eq!(always.plan_look(), Plan::Pause(Duration::from_micros(70)));
        assert_eq!(PausesChoice::parse("4000000000"), PausesChoice::Always(CHOICE_MAX_US));
        assert_eq!(PausesChoice::parse(""), PausesChoice::Usual);
    }
}
