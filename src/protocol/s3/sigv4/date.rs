//! The time of a request, as `SigV4` writes it.

use std::fmt;

use crate::protocol::text::{
    date::{SECONDS_PER_DAY, UNIX_SECONDS_MAX, civil_from_days},
    decimal::last_digits,
};

/// A UTC time in the basic ISO 8601 form of `x-amz-date`: `20150830T123600Z`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AmzDate([u8; 16]);

impl AmzDate {
    /// Writes seconds since 1970-01-01T00:00:00Z. The form has four digits for the year, so times
    /// after 9999 become its last second.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(UNIX_SECONDS_MAX);
        let (year, month, day) = civil_from_days(seconds / SECONDS_PER_DAY);
        let second_of_day = seconds % SECONDS_PER_DAY;
        let mut text = *b"00000000T000000Z";
        text[0..4].copy_from_slice(&last_digits::<4>(year));
        text[4..6].copy_from_slice(&last_digits::<2>(month));
        text[6..8].copy_from_slice(&last_digits::<2>(day));
        text[9..11].copy_from_slice(&last_digits::<2>(second_of_day / 3_600));
        text[11..13].copy_from_slice(&last_digits::<2>(second_of_day / 60 % 60));
        text[13..15].copy_from_slice(&last_digits::<2>(second_of_day % 60));
        Self(text)
    }

    /// `20150830T123600Z`
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `20150830T123600Z`
    pub fn as_str(&self) -> &str {
        // All bytes are ASCII by construction; the default is never used.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The day alone, as [`date`](Self::date) gives it.
    pub(super) fn day(&self) -> &[u8; 8] {
        self.0.first_chunk().unwrap_or(&[0; 8])
    }

    /// `20150830`, the day of the credential scope.
    pub fn date(&self) -> &str {
        &self.as_str()[..8]
    }
}

impl fmt::Debug for AmzDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_as_aws_writes_them() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (68_169_599, "19720228T235959Z"),
            (68_169_600, "19720229T000000Z"),
            (68_256_000, "19720301T000000Z"),
            (946_684_799, "19991231T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_369_353_600, "20130524T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (1_709_164_800, "20240229T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (1_709_251_200, "20240301T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (1_735_689_600, "20250101T000000Z"),
            (4_107_542_399, "21000228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (UNIX_SECONDS_MAX, "99991231T235959Z"),
            (u64::MAX, "99991231T235959Z"),
        ] {
            let date = AmzDate::from_unix(seconds);
            assert_eq!(date.as_str(), text);
            assert_eq!(date.as_bytes(), text.as_bytes());
            assert_eq!(date.date(), &text[..8]);
        }
    }
}
