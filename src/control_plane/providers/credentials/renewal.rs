//! The time of the next fetch of one source: the decisions, without threads and clocks.
//!
//! Two clocks count. Credentials end by the wall clock; but a wall clock may jump, and the
//! monotonic clock stands still while a machine sleeps. So a fetch is due as soon as either says
//! so.

use std::time::Duration;

use super::outside::SourceProblem;
use crate::{control_plane::backoff::Backoff, system::clock::Monotonic};

/// Time before the end at which credentials are renewed: no service gives new ones much earlier.
const LEAD_SECONDS_MAX: u64 = 300;

/// Part of their life before the end, where that is less.
const LEAD_PART: u64 = 5;

/// Part of that time by which a renewal may be earlier, so that many instances do not ask at once.
const JITTER_PART: u64 = 5;

/// Time until the next fetch after a response with the same end as before.
const SAME_END_PAUSE: Duration = Duration::from_secs(30);

/// Least time from the start of a fetch to one that S3's refusals ask for. Whoever makes requests
/// causes them.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// Pause after the first failure; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// One moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The clock that never jumps.
    pub monotonic: Monotonic,
    /// Seconds since the Unix epoch.
    pub unix_seconds: u64,
}

/// Time of the next fetch, by each clock; none: not because of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Next {
    monotonic: Option<Monotonic>,
    unix_seconds: Option<u64>,
}

/// The schedule of one source.
#[derive(Clone, Debug)]
pub struct Renewal {
    next: Next,
    is_fetching: bool,
    is_asked_for: bool,
    /// Set if S3 refused the newest credentials.
    is_wanted: bool,
    /// Start of the last fetch.
    begun: Option<Monotonic>,
    retries: Backoff,
    /// End and lead of the newest good credentials.
    good: Option<(Option<u64>, u64)>,
}

impl Renewal {
    /// A source that was never asked: it is due at once.
    pub fn new() -> Self {
        Self {
            next: Next { monotonic: Some(Monotonic(0)), unix_seconds: None },
            is_fetching: false,
            is_asked_for: false,
            is_wanted: false,
            begun: None,
            retries: Backoff::new(PAUSE_MIN, PAUSE_MAX),
            good: None,
        }
    }

    /// Asks for a fetch now, or right after the one under way.
    pub fn ask(&mut self) {
        self.is_asked_for = true;
    }

    /// Asks for a fetch because S3 refused the newest credentials, at most one in half a minute.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Returns true if a fetch is to begin, which is under way from then on.
    pub fn begin(&mut self, now: Moment) -> bool {
        let Next { monotonic, unix_seconds } = self.next;
        let may_be_wanted =
            self.begun.is_none_or(|begun| now.monotonic >= begun.plus(REFUSED_PAUSE));
        let is_due = self.is_asked_for
            || self.is_wanted && may_be_wanted
            || monotonic.is_some_and(|at| now.monotonic >= at)
            || unix_seconds.is_some_and(|at| now.unix_seconds >= at);
        if self.is_fetching || !is_due {
            return false;
        }
        self.is_fetching = true;
        (self.is_asked_for, self.is_wanted) = (false, false);
        self.begun = Some(now.monotonic);
        true
    }

    /// Notes the end of the credentials that a fetch gave, and plans the next one. `random` is a
    /// number of which every value is as likely.
    ///
    /// # Errors
    /// They had ended before they came, which counts as a failure.
    pub fn succeeded(
        &mut self,
        ends: Option<u64>,
        now: Moment,
        random: u64,
    ) -> Result<(), SourceProblem> {
        let Some(end) = ends else {
            // Permanent ones: a changed file or an operator asks for the next fetch.
            self.settle(Next::default(), (None, 0));
            return Ok(());
        };
        let left = end.saturating_sub(now.unix_seconds);
        if left == 0 {
            let problem = SourceProblem::may_pass(format!(
                "the credentials ended {} s before they came; is the clock of this machine right?",
                now.unix_seconds - end
            ));
            self.failed(now);
            return Err(problem);
        }
        let lead = match self.good {
            Some((Some(known), lead)) if known == end => lead,
            _ => (left / LEAD_PART).clamp(1, LEAD_SECONDS_MAX),
        };
        let jitter = random % (lead / JITTER_PART + 1);
        let until = left.saturating_sub(lead + jitter);
        let next = if until > 0 {
            Next {
                monotonic: Some(now.monotonic.plus(Duration::from_secs(until))),
                unix_seconds: Some(now.unix_seconds + until),
            }
        } else {
            // The service has none that live longer yet.
            let pause = SAME_END_PAUSE.min(Duration::from_secs(left) / 2).max(PAUSE_MIN);
            Next { monotonic: Some(now.monotonic.plus(pause)), unix_seconds: None }
        };
        self.settle(next, (ends, lead));
        Ok(())
    }

    /// Notes a fetch that gave nothing, and plans the next one.
    pub fn failed(&mut self, now: Moment) {
        let pause = self.retries.fail();
        self.is_fetching = false;
        self.next = Next { monotonic: Some(now.monotonic.plus(pause)), unix_seconds: None };
    }

    fn settle(&mut self, next: Next, good: (Option<u64>, u64)) {
        self.next = next;
        self.good = Some(good);
        self.retries.succeed();
        self.is_fetching = false;
    }
}

impl Default for Renewal {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some time of day.
    const START: u64 = 1_700_000_000;

    fn at(monotonic_seconds: u64, unix_seconds: u64) -> Moment {
        Moment { monotonic: Monotonic(monotonic_seconds * 1_000_000_000), unix_seconds }
    }

    /// Both clocks as they usually go.
    fn after(seconds: u64) -> Moment {
        at(1_000 + seconds, START + seconds)
    }

    fn started(now: Moment) -> Renewal {
        let mut renewal = Renewal::new();
        assert!(renewal.begin(now));
        renewal
    }

    /// Seconds after [`START`] at which the next fetch begins.
    fn next(renewal: &Renewal, from: u64) -> u64 {
        (from..from + 200_000).find(|s| renewal.clone().begin(after(*s))).expect("a next fetch")
    }

    #[test]
    fn one_fetch_at_a_time() {
        let mut renewal = started(after(0));
        assert!(!renewal.begin(after(100)));
        renewal.ask();
        assert!(!renewal.begin(after(100)), "after the one under way");
        renewal.succeeded(Some(START + 3_600), after(100), 0).unwrap();
        assert!(renewal.begin(after(100)), "asked for meanwhile");
        assert!(!renewal.begin(after(100)));
    }

    #[test]
    fn renewed_when_five_minutes_or_a_fifth_are_left() {
        for (life, due) in
            [(3_600, 3_300), (43_200, 42_900), (900, 720), (10, 8), (3, 2), (1_500, 1_200)]
        {
            let mut renewal = started(after(0));
            renewal.succeeded(Some(START + life), after(0), 0).unwrap();
            assert_eq!(next(&renewal, 0), due, "{life}");
        }
    }

    #[test]
    fn jitter_is_earlier_by_a_fifth_of_the_lead_at_most() {
        let mut seen = std::collections::BTreeSet::new();
        for random in 0..1_000 {
            let mut renewal = started(after(0));
            renewal.succeeded(Some(START + 3_600), after(0), random * 7_919).unwrap();
            seen.insert(next(&renewal, 3_000));
        }
        assert_eq!(seen.first(), Some(&3_240));
        assert_eq!(seen.last(), Some(&3_300));
        assert!(seen.len() > 50, "{seen:?}");
    }

    #[test]
    fn permanent_ones_are_fetched_again_when_asked_for_only() {
        let mut renewal = started(after(0));
        renewal.succeeded(None, after(0), 0).unwrap();
        assert!(!renewal.clone().begin(after(10_000_000)));
        renewal.ask();
        assert!(renewal.begin(after(1)));
    }

    #[test]
    fn failures_are_tried_again_after_a_second_doubling_to_fifteen() {
        let mut renewal = started(after(0));
        let mut now = 0;
        for pause in [1, 2, 4, 8, 15, 15, 15] {
            renewal.failed(after(now));
            assert_eq!(next(&renewal, now), now + pause);
            now += pause;
            assert!(renewal.begin(after(now)));
        }
        renewal.succeeded(Some(START + now + 3_600), after(now), 0).unwrap();
        now = next(&renewal, now);
        assert!(renewal.begin(after(now)));
        renewal.failed(after(now));
        assert_eq!(next(&renewal, now), now + 1, "they begin anew");
    }

    #[test]
    fn a_response_with_the_same_end_is_asked_again_after_half_a_minute() {
        let end = START + 3_600;
        let mut renewal = started(after(0));
        renewal.succeeded(Some(end), after(0), 0).unwrap();
        let mut asked = Vec::new();
        let mut now = 0;
        while now < 3_590 {
            now = next(&renewal, now);
            asked.push(now);
            assert!(renewal.begin(after(now)));
            renewal.succeeded(Some(end), after(now), 0).unwrap();
        }
        assert_eq!(&asked[..4], [3_300, 3_330, 3_360, 3_390]);
        assert!(asked.last().unwrap() >= &3_590, "until the end: {asked:?}");
        // The same end long before is no reason for haste.
        let mut renewal = started(after(0));
        renewal.succeeded(Some(end), after(0), 0).unwrap();
        renewal.ask();
        assert!(renewal.begin(after(60)));
        renewal.succeeded(Some(end), after(60), 0).unwrap();
        assert_eq!(next(&renewal, 60), 3_300);
    }

    #[test]
    fn credentials_that_have_ended_are_a_failure() {
        let mut renewal = started(after(100));
        let problem = renewal.succeeded(Some(START + 40), after(100), 0).unwrap_err();
        assert!(problem.text.contains("ended 60 s before they came"), "{problem}");
        assert_eq!(next(&renewal, 100), 101);
        let mut renewal = started(after(100));
        assert!(renewal.succeeded(Some(START + 100), after(100), 0).is_err());
    }

    #[test]
    fn a_flood_of_refusals_asks_once_in_half_a_minute() {
        let mut renewal = started(after(0));
        renewal.succeeded(Some(START + 36_000), after(0), 0).unwrap();
        let mut asked = Vec::new();
        for now in 1..200 {
            (0..100).for_each(|_| renewal.want());
            if renewal.begin(after(now)) {
                renewal.want();
                renewal.succeeded(Some(START + 36_000), after(now), 0).unwrap();
                asked.push(now);
            }
        }
        assert_eq!(asked, [30, 60, 90, 120, 150, 180]);
        // One refusal long after the last fetch is not put off, and an operator never is.
        let mut renewal = started(after(0));
        renewal.succeeded(Some(START + 36_000), after(0), 0).unwrap();
        renewal.want();
        assert!(renewal.begin(after(1_000)));
        renewal.succeeded(Some(START + 36_000), after(1_000), 0).unwrap();
        assert!(!renewal.clone().begin(after(1_100)), "once");
        renewal.ask();
        assert!(renewal.begin(after(1_001)));
    }

    #[test]
    fn a_wall_clock_that_jumps_ahead_makes_the_renewal_due() {
        let mut renewal = started(after(0));
        renewal.succeeded(Some(START + 3_600), after(0), 0).unwrap();
        assert!(!renewal.clone().begin(at(1_010, START + 3_299)));
        assert!(renewal.begin(at(1_010, START + 3_300)));
    }

    #[test]
    fn a_wall_clock_that_jumps_back_does_not_put_the_renewal_off() {
        let mut renewal = started(after(0));
        renewal.succeeded(Some(START + 3_600), after(0), 0).unwrap();
        assert!(!renewal.clone().begin(at(1_000 + 3_299, START - 86_400)));
        assert!(renewal.begin(at(1_000 + 3_300, START - 86_400)));
    }

    /// The monotonic clock stands still while a machine is suspended or a container is frozen with
    /// its clock.
    #[test]
    fn a_machine_that_slept_renews_when_it_wakes() {
        let mut renewal = started(after(0));
        renewal.succeeded(Some(START + 3_600), after(0), 0).unwrap();
        assert!(renewal.begin(at(1_001, START + 20_000)));
        // Failures are counted by the clock that goes on.
        renewal.failed(at(1_001, START + 20_000));
        assert!(!renewal.clone().begin(at(1_001, START + 90_000)));
        assert!(renewal.begin(at(1_002, START + 20_001)));
    }
}
