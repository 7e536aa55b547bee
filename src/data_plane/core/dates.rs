//! The present second in the forms that requests and responses need.

use std::cell::Cell;

use crate::{
    protocol::{
        http1::{IMF_FIXDATE_BYTES, imf_fixdate},
        s3::AmzDate,
    },
    system::clock::{self, Monotonic},
};

/// The present second in the forms that requests and responses need, made once per second.
#[derive(Debug)]
pub(crate) struct Dates {
    /// The wall clock in milliseconds at the last tick, and the monotonic time then.
    base: Cell<(u64, Monotonic)>,
    second: Cell<u64>,
    http: Cell<[u8; IMF_FIXDATE_BYTES]>,
    amz: Cell<AmzDate>,
}

impl Dates {
    pub(crate) fn new() -> Self {
        let dates = Self {
            base: Cell::new((clock::unix_millis(), Monotonic::now())),
            second: Cell::new(0),
            http: Cell::new(imf_fixdate(0)),
            amz: Cell::new(AmzDate::from_unix(0)),
        };
        dates.render(clock::unix_seconds());
        dates
    }

    /// Reads the wall clock. Call it each tick, so that a clock that was set is followed.
    pub(crate) fn refresh(&self) {
        self.base.set((clock::unix_millis(), Monotonic::now()));
    }

    /// Milliseconds since the Unix epoch at a monotonic time near now.
    pub(crate) fn unix_millis(&self, at: Monotonic) -> u64 {
        let (millis, base) = self.base.get();
        millis + at.since(base) / 1_000_000
    }

    /// Seconds since the Unix epoch at a monotonic time near now; updates the rendered forms.
    pub(crate) fn unix_seconds(&self, at: Monotonic) -> u64 {
        let second = self.unix_millis(at) / 1_000;
        if second != self.second.get() {
            self.render(second);
        }
        second
    }

    /// Seconds since the Unix epoch when a request or a tick last asked.
    pub(crate) fn now(&self) -> u64 {
        self.second.get()
    }

    fn render(&self, second: u64) {
        self.second.set(second);
        self.http.set(imf_fixdate(second));
        self.amz.set(AmzDate::from_unix(second));
    }

    /// `Date` of a response (RFC 9110 section 6.6.1).
    pub(crate) fn http(&self) -> [u8; IMF_FIXDATE_BYTES] {
        self.http.get()
    }

    /// `x-amz-date` of a signed request.
    pub(crate) fn amz(&self) -> AmzDate {
        self.amz.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_second_is_rendered_anew() {
        let dates = Dates::new();
        let now = Monotonic::now();
        let second = dates.unix_seconds(now);
        let later = dates.unix_seconds(now.plus(std::time::Duration::from_secs(3)));
        assert_eq!(later, second + 3);
        assert_eq!(dates.amz(), AmzDate::from_unix(later));
    }
}
