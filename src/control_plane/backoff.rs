//! Pauses between tries that fail: each is twice as long as the one before, up to a bound.

use std::time::Duration;

/// Pauses of one thing that is tried again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Pauses from the first to the longest.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// Notes a failure. Returns the pause before the next try.
    pub fn fail(&mut self) -> Duration {
        // More would leave the range of a u32.
        let pause = self.min.saturating_mul(1 << self.failures.min(31)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Notes a success: the next pause is the first one again.
    pub const fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
        let mut pauses = || [(); 6].map(|()| backoff.fail().as_secs());
        assert_eq!(pauses(), [1, 2, 4, 8, 15, 15]);
        (0..1_000).for_each(|_| assert_eq!(pauses(), [15; 6]));
        assert_eq!(backoff.failures(), 6_006);
        backoff.succeed();
        assert_eq!((backoff.failures(), backoff.fail().as_secs()), (0, 1));
    }
}
