//! The access log of one generation: which requests have a line, and what it says.

use super::{field::Needs, layout::Layout};

/// Billionths of a whole.
pub const SHARE_WHOLE: u32 = 1_000_000_000;

/// Endpoints of the proxy itself that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkippedEndpoint {
    /// `/health`
    Health,
    /// `/ready`
    Ready,
    /// `/metrics`
    Metrics,
}

impl SkippedEndpoint {
    /// Every endpoint.
    pub const ALL: [Self; 3] = [Self::Health, Self::Ready, Self::Metrics];

    /// Its name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Rules of one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogRules {
    /// Form of a line.
    pub layout: Layout,
    needs: Needs,
    skip: u8,
    share: u32,
}

impl Default for AccessLogRules {
    /// A JSON line with the usual fields for each request.
    fn default() -> Self {
        Self::new(Layout::default(), &[], SHARE_WHOLE)
    }
}

impl AccessLogRules {
    /// Lines of this form; none for the endpoints of `skip`, and one for `share` billionths of the
    /// responses with a status of 2xx or 3xx.
    pub fn new(layout: Layout, skip: &[SkippedEndpoint], share: u32) -> Self {
        let needs = layout.needs();
        let skip = skip.iter().fold(0, |all, endpoint| all | endpoint.bit());
        Self { layout, needs, skip, share: share.min(SHARE_WHOLE) }
    }

    /// Facts that must be noted of a request for its line.
    pub const fn needs(&self) -> Needs {
        self.needs
    }

    /// Returns true if some requests have no line.
    pub const fn is_selective(&self) -> bool {
        self.skip != 0 || self.share < SHARE_WHOLE
    }

    /// Returns true if requests for this endpoint have no line.
    pub const fn skips(&self, endpoint: SkippedEndpoint) -> bool {
        self.skip & endpoint.bit() != 0
    }

    /// Returns true if this response is the next of its share. `sum` is what the core's responses
    /// have added up to since the last one. Counting, in place of a random choice, makes the share
    /// exact. It is no measure against clients that want to hide some of their requests.
    pub(super) fn samples(&self, status: u16, is_aborted: bool, sum: &mut u32) -> bool {
        if self.share == SHARE_WHOLE || is_aborted || !(200..400).contains(&status) {
            return true;
        }
        // Both are below two billion together.
        *sum += self.share;
        let is_due = *sum >= SHARE_WHOLE;
        if is_due {
            *sum -= SHARE_WHOLE;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(share: u32, status: u16, is_aborted: bool) -> usize {
        let rules = AccessLogRules::new(Layout::default(), &[], share);
        let mut sum = 0;
        (0..1_000).filter(|_| rules.samples(status, is_aborted, &mut sum)).count()
    }

    #[test]
    fn the_share_is_exact_and_of_good_responses_only() {
        for (share, lines) in [(SHARE_WHOLE, 1_000), (250_000_000, 250), (1_000_000, 1), (0, 0)] {
            for status in [200, 206, 304, 308] {
                assert_eq!(sampled(share, status, false), lines, "{share} of {status}");
            }
            for status in [0, 400, 404, 502] {
                assert_eq!(sampled(share, status, false), 1_000, "{share} of {status}");
            }
            assert_eq!(sampled(share, 200, true), 1_000);
        }
        let third = sampled(333_333_333, 200, false);
        assert!((332..=333).contains(&third), "{third}");
    }

    #[test]
    fn rules_that_leave_nothing_out_are_not_selective() {
        assert!(!AccessLogRules::default().is_selective());
        let rules = AccessLogRules::new(Layout::default(), &[SkippedEndpoint::Ready], SHARE_WHOLE);
        assert!(rules.is_selective());
        let skipped = SkippedEndpoint::ALL.map(|endpoint| rules.skips(endpoint));
        assert_eq!(skipped, [false, true, false]);
    }
}
