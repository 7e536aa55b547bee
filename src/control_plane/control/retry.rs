//! Another attempt after one that was refused for a reason that may pass by itself.
//!
//! With `reload.watch` nobody stands by who would try again: credentials that S3 does not know yet,
//! or a file system that is away, must not keep a file from being adopted until it changes.
//!
//! A rollback takes the place of the file: what it adopted is not undone by another attempt of a
//! file that was refused before. Who has what runs read anew, because a file that it names has
//! changed, takes no decision of that kind.

use std::time::Duration;

use crate::{
    control_plane::{backoff::Backoff, history::Trigger, prepare::Refusal, reload::Change},
    system::clock::Monotonic,
};

/// Pause before the first further attempt; it doubles with each refusal.
const PAUSE_MIN: Duration = Duration::from_secs(10);

/// Longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_mins(5);

/// The attempt to come, if there is to be one.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    at: Option<Monotonic>,
    is_file_refused: bool,
    pauses: Backoff,
}

impl Default for Retry {
    fn default() -> Self {
        Self { at: None, is_file_refused: false, pauses: Backoff::new(PAUSE_MIN, PAUSE_MAX) }
    }
}

impl Retry {
    /// Notes that an attempt begins: that of a file is one to come no more.
    pub(super) fn begins(&mut self, change: &Change) {
        if *change == Change::File {
            self.at = None;
        }
    }

    /// Notes how an attempt was prepared, while files are watched.
    pub(super) fn note(
        &mut self,
        attempt: (&Change, Trigger),
        refusal: Option<&Refusal>,
        is_watching: bool,
        now: Monotonic,
    ) {
        match (attempt, refusal) {
            // Nothing is adopted that would take the place of the file.
            ((Change::DryRun, _) | (Change::Rollback(_), Trigger::Watch), _)
            | ((Change::Rollback(_), _), Some(_)) => {}
            ((Change::File | Change::Rollback(_), _), None) => *self = Self::default(),
            ((Change::File, _), Some(refusal)) => {
                if is_watching && refusal.may_pass {
                    let next = now.plus(self.pauses.fail());
                    self.at.get_or_insert(next);
                }
                self.is_file_refused = true;
            }
        }
    }

    /// Lets the time come if the file was refused and nothing was adopted in its place, or if it is
    /// being prepared and may be refused: the reason may have passed.
    pub(super) fn try_again(&mut self, is_preparing_file: bool) {
        if self.is_file_refused || is_preparing_file {
            self.at = Some(Monotonic(0));
        }
    }

    /// Returns true once when the time has come.
    pub(super) fn is_due(&mut self, now: Monotonic) -> bool {
        self.at.take_if(|at| now >= *at).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Problems, model::Generation};

    const FILE: (&Change, Trigger) = (&Change::File, Trigger::Watch);

    fn refusal(may_pass: bool) -> Refusal {
        Refusal { problems: Problems::default(), may_pass }
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_begin_anew_after_a_success() {
        let mut retry = Retry::default();
        let mut now = Monotonic(1);
        let mut refuse = |retry: &mut Retry| {
            retry.note(FILE, Some(&refusal(true)), true, now);
            let mut pause = Duration::ZERO;
            while !retry.is_due(now.plus(pause)) {
                pause += Duration::from_secs(1);
            }
            now = now.plus(pause);
            assert!(!retry.is_due(now), "once");
            pause.as_secs()
        };
        let pauses = [(); 7].map(|()| refuse(&mut retry));
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        retry.note(FILE, None, true, Monotonic(1));
        assert_eq!(refuse(&mut retry), 10);
    }

    #[test]
    fn only_a_watched_file_whose_refusal_may_pass_is_tried_again() {
        let late = Monotonic(u64::MAX);
        let due = |change: Change, refusal: Option<Refusal>, is_watching| {
            let mut retry = Retry::default();
            retry.note((&change, Trigger::Api), refusal.as_ref(), is_watching, Monotonic(1));
            retry.is_due(late)
        };
        assert!(due(Change::File, Some(refusal(true)), true));
        assert!(!due(Change::File, Some(refusal(true)), false));
        assert!(!due(Change::File, Some(refusal(false)), true));
        assert!(!due(Change::File, None, true));
        assert!(!due(Change::Rollback(Generation(1)), Some(refusal(true)), true));

        // A dry run, a refused rollback, or what runs read anew in between changes nothing; a
        // rollback is what is wanted.
        let mut retry = Retry::default();
        let old = Change::Rollback(Generation(1));
        retry.note(FILE, Some(&refusal(true)), true, Monotonic(1));
        retry.note((&Change::DryRun, Trigger::Api), None, true, Monotonic(1));
        retry.note((&old, Trigger::Api), Some(&refusal(false)), true, Monotonic(1));
        retry.note((&old, Trigger::Watch), None, true, Monotonic(1));
        assert!(retry.clone().is_due(late));
        retry.note((&old, Trigger::Api), None, true, Monotonic(1));
        assert!(!retry.is_due(late));
    }

    #[test]
    fn what_comes_while_the_file_is_prepared_is_kept_beyond_its_refusal() {
        let now = Monotonic(1);
        for may_pass in [true, false] {
            let mut retry = Retry::default();
            let mut refuse = |comes: bool| {
                retry.begins(&Change::File);
                if comes {
                    retry.try_again(true);
                }
                retry.note(FILE, Some(&refusal(may_pass)), true, now);
                retry.is_due(now)
            };
            assert_eq!([refuse(false), refuse(true), refuse(false)], [false, true, false]);
            retry.try_again(true);
            retry.note(FILE, None, true, now);
            assert!(!retry.is_due(now), "it was adopted");
        }
    }
}
