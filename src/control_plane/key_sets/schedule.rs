//! The times at which one key set is renewed. It reads no clock: the time is an argument.

use std::time::Duration;

use crate::{
    control_plane::backoff::Backoff, policy::auth::spec::FetchSettings, system::clock::Monotonic,
};

/// Shortest time for which a response may name itself fresh: many providers say minutes for keys
/// that they change once in months.
const FRESH_MIN: Duration = Duration::from_mins(5);

/// Longest of these times.
const FRESH_MAX: Duration = Duration::from_hours(24);

/// Least time between two renewals that unknown key ids ask for. Anybody can invent them.
const UNKNOWN_ID_PAUSE: Duration = Duration::from_secs(30);

/// Pause after the first failure; it doubles with each further one.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest of these pauses.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(15);

/// Part of the time between two renewals by which they differ among processes, one in so many, so
/// that processes which started together do not ask together for ever.
const JITTER_PART: u64 = 10;

/// Renewals of one set.
#[derive(Debug)]
pub(super) struct Schedule {
    refresh: Duration,
    max_stale: Duration,
    due: Monotonic,
    /// Start of the last renewal.
    started: Option<Monotonic>,
    is_running: bool,
    /// Set if a token named a key that the set does not have.
    is_wanted: bool,
    /// Last time at which the provider was known to publish the set.
    confirmed: Option<Monotonic>,
    retries: Backoff,
}

impl Schedule {
    /// The first renewal is due now.
    pub(super) const fn new(now: Monotonic, settings: &FetchSettings) -> Self {
        Self {
            refresh: settings.refresh,
            max_stale: settings.max_stale,
            due: now,
            started: None,
            is_running: false,
            is_wanted: false,
            confirmed: None,
            retries: Backoff::new(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX),
        }
    }

    /// Takes the times of a configuration that came since.
    pub(super) fn change(&mut self, now: Monotonic, settings: &FetchSettings) {
        (self.refresh, self.max_stale) = (settings.refresh, settings.max_stale);
        if self.confirmed.is_some() && self.failures() == 0 {
            self.due = self.due.min(now.plus(self.longest_pause()));
        }
    }

    /// Time of the next renewal; none while one is under way.
    pub(super) fn next(&self) -> Option<Monotonic> {
        if self.is_running {
            return None;
        }
        let wanted = self.started.filter(|_| self.is_wanted).map(|at| at.plus(UNKNOWN_ID_PAUSE));
        Some(wanted.map_or(self.due, |wanted| wanted.min(self.due)))
    }

    /// Time at which the set is too old, if there is one.
    pub(super) fn stale_at(&self) -> Option<Monotonic> {
        self.confirmed.map(|at| at.plus(self.max_stale))
    }

    /// Last time at which the set was known to be the provider's.
    pub(super) const fn confirmed(&self) -> Option<Monotonic> {
        self.confirmed
    }

    /// Failures since the last success.
    pub(super) const fn failures(&self) -> u32 {
        self.retries.failures()
    }

    /// Notes that a token named a key that the set does not have.
    pub(super) const fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Makes the next renewal due.
    pub(super) const fn demand(&mut self, now: Monotonic) {
        self.due = now;
    }

    /// Begins a renewal. One that is demanded from here on follows it.
    pub(super) const fn begin(&mut self, now: Monotonic) {
        self.started = Some(now);
        self.is_running = true;
        self.is_wanted = false;
        self.due = Monotonic(u64::MAX);
    }

    /// Ends a renewal that confirmed or replaced the set, which is fresh for some time if the
    /// response says so. `random` makes processes differ.
    pub(super) fn succeeded(&mut self, now: Monotonic, fresh: Option<Duration>, random: u64) {
        self.is_running = false;
        self.retries.succeed();
        self.confirmed = Some(now);
        let pause = fresh.map_or(self.refresh, |fresh| fresh.clamp(FRESH_MIN, FRESH_MAX));
        let nanos = u64::try_from(pause.min(self.longest_pause()).as_nanos()).unwrap_or(u64::MAX);
        let earlier = random % (nanos / JITTER_PART).max(1);
        self.due = self.due.min(now.plus(Duration::from_nanos(nanos - earlier)));
    }

    /// Ends a renewal that failed.
    pub(super) fn failed(&mut self, now: Monotonic) {
        self.is_running = false;
        self.due = self.due.min(now.plus(self.retries.fail()));
    }

    /// Longest time without a renewal: one must have its time, and another try, before the set is
    /// too old.
    fn longest_pause(&self) -> Duration {
        self.max_stale / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(refresh: u64, max_stale: u64) -> Schedule {
        let (refresh, max_stale) = (Duration::from_secs(refresh), Duration::from_secs(max_stale));
        Schedule::new(at(0), &FetchSettings { refresh, max_stale, ca: None })
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(0).plus(Duration::from_secs(seconds))
    }

    fn seconds(time: Option<Monotonic>) -> Option<u64> {
        time.map(|time| time.0 / 1_000_000_000)
    }

    #[test]
    fn a_set_is_renewed_when_the_response_says_so_within_bounds_or_after_refresh() {
        for (fresh, pause) in [
            (None, 3_600),
            (Some(0), 300),
            (Some(299), 300),
            (Some(7_200), 7_200),
            (Some(900_000), 86_400),
        ] {
            let mut schedule = schedule(3_600, 1_000_000);
            assert_eq!(schedule.next(), Some(at(0)), "at once");
            schedule.begin(at(1));
            assert_eq!(schedule.next(), None, "one at a time");
            schedule.succeeded(at(2), fresh.map(Duration::from_secs), 0);
            assert_eq!(schedule.next(), Some(at(2 + pause)), "{fresh:?}");
        }
    }

    #[test]
    fn a_set_is_renewed_long_before_it_is_too_old() {
        let mut schedule = schedule(3_600, 600);
        schedule.begin(at(0));
        schedule.succeeded(at(0), Some(Duration::from_hours(24)), 0);
        assert_eq!((schedule.next(), schedule.stale_at()), (Some(at(300)), Some(at(600))));
    }

    #[test]
    fn processes_differ_by_up_to_a_tenth() {
        for random in [1, 12_345_678_901_234, u64::MAX] {
            let mut schedule = schedule(1_000, 1_000_000);
            schedule.begin(at(0));
            schedule.succeeded(at(0), None, random);
            let next = seconds(schedule.next()).unwrap();
            assert!((900..=1_000).contains(&next), "{next}");
        }
    }

    #[test]
    fn failures_are_tried_again_after_pauses_that_grow_to_a_bound() {
        let mut schedule = schedule(3_600, 86_400);
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            schedule.begin(at(now));
            schedule.failed(at(now));
            let next = seconds(schedule.next()).unwrap();
            pauses.push(next - now);
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
        assert_eq!(schedule.stale_at(), None, "there never was a set");
        schedule.begin(at(now));
        schedule.succeeded(at(now), None, 0);
        schedule.begin(at(now));
        schedule.failed(at(now));
        assert_eq!(schedule.next(), Some(at(now + 1)), "a success begins anew");
        assert_eq!(schedule.stale_at(), Some(at(now + 86_400)), "the last success counts");
    }

    #[test]
    fn a_flood_of_unknown_ids_asks_once_in_half_a_minute() {
        let mut schedule = schedule(3_600, 86_400);
        let mut started = Vec::new();
        for now in 0..300 {
            for _ in 0..1_000 {
                schedule.want();
            }
            if schedule.next().is_some_and(|next| next <= at(now)) {
                schedule.begin(at(now));
                schedule.want();
                schedule.succeeded(at(now), None, 0);
                started.push(now);
            }
        }
        assert_eq!(started, [0, 30, 60, 90, 120, 150, 180, 210, 240, 270]);
    }

    #[test]
    fn an_unknown_id_long_after_the_last_renewal_asks_at_once_and_failures_do_not_ask_more() {
        let mut schedule = schedule(3_600, 86_400);
        schedule.begin(at(0));
        schedule.succeeded(at(0), None, 0);
        schedule.want();
        assert!(schedule.next().is_some_and(|next| next <= at(1_000)));
        schedule.begin(at(1_000));
        schedule.failed(at(1_000));
        schedule.want();
        assert_eq!(schedule.next(), Some(at(1_001)), "the retry, which is earlier");
    }

    #[test]
    fn an_operator_need_not_wait_and_a_demand_during_a_renewal_follows_it() {
        let mut schedule = schedule(3_600, 86_400);
        schedule.begin(at(0));
        schedule.demand(at(1));
        schedule.succeeded(at(2), None, 0);
        assert_eq!(schedule.next(), Some(at(1)));
        schedule.begin(at(2));
        schedule.succeeded(at(3), None, 0);
        schedule.demand(at(4));
        assert_eq!(schedule.next(), Some(at(4)));
    }

    #[test]
    fn a_shorter_time_in_a_new_configuration_counts_from_now_on() {
        let mut schedule = schedule(3_600, 86_400);
        schedule.begin(at(0));
        schedule.succeeded(at(0), None, 0);
        let (refresh, max_stale) = (Duration::from_mins(1), Duration::from_secs(100));
        schedule.change(at(10), &FetchSettings { refresh, max_stale, ca: None });
        assert_eq!((schedule.next(), schedule.stale_at()), (Some(at(60)), Some(at(100))));
    }
}
