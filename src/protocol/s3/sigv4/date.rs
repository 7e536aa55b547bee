//! The time of a request, as `SigV4` writes it.

use std::fmt;

/// Seconds in a day; UTC as POSIX counts it has no leap seconds.
const DAY_SECONDS: u64 = 86_400;

/// 9999-12-31T23:59:59Z, the last second that four digits of a year can name.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

/// Days from 0000-03-01 to 1970-01-01 in the Gregorian calendar.
const EPOCH_DAYS: u64 = 719_468;

/// Days in the 400 years after which the Gregorian calendar repeats.
const ERA_DAYS: u64 = 146_097;

/// A UTC time in the basic ISO 8601 form of `x-amz-date`: `20150830T123600Z`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AmzDate([u8; 16]);

impl AmzDate {
    /// Writes seconds since 1970-01-01T00:00:00Z. The form has four digits for the year, so times
    /// after 9999 become its last second.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(UNIX_SECONDS_MAX);
        let (year, month, day) = civil_from_days(seconds / DAY_SECONDS);
        let of_day = seconds % DAY_SECONDS;
        let mut text = *b"00000000T000000Z";
        let mut put = |at: usize, value: u64| {
            text[at] = decimal_digit(value / 10);
            text[at + 1] = decimal_digit(value);
        };
        put(0, year / 100);
        put(2, year % 100);
        put(4, month);
        put(6, day);
        put(9, of_day / 3600);
        put(11, of_day / 60 % 60);
        put(13, of_day % 60);
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

/// The last decimal digit of `value`, in ASCII.
const fn decimal_digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

/// Year, month and day of a count of days since 1970-01-01.
///
/// Counts years from the first of March, so that the leap day is a year's last day and month
/// lengths follow one linear formula (153 days in every five months from March on).
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS;
    let era = days / ERA_DAYS;
    let of_era = days % ERA_DAYS;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + (month <= 2) as u64;
    (year, month, day)
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

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..=ERA_DAYS {
            assert_eq!(civil_from_days(days), (year, month, day), "day {days}");
            let length = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}
