//! The calendar: from a count of seconds to year, month and day (UTC, no leap seconds).

/// Seconds of a day, as POSIX counts them.
pub const SECONDS_PER_DAY: u64 = 86_400;

/// 9999-12-31T23:59:59Z: the last second that a year of four digits can name.
pub const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

const DAYS_FROM_MARCH_OF_YEAR_0_TO_EPOCH: u64 = 719_468;

/// Days after which the calendar repeats: an era of 400 years.
const DAYS_PER_ERA: u64 = 146_097;

/// Year, month (1 to 12) and day (1 to 31) of a count of days since 1970-01-01, in the proleptic
/// Gregorian calendar.
///
/// Years are counted from the first of March, so that the leap day is the last day of its year
/// and month lengths follow one linear formula: 153 days in every five months from March on.
pub const fn civil_from_days(days_since_epoch: u64) -> (u64, u64, u64) {
    let days = days_since_epoch + DAYS_FROM_MARCH_OF_YEAR_0_TO_EPOCH;
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + (month <= 2) as u64;
    (year, month, day)
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar; none before that day, and
/// none for a day that does not exist.
pub fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || !(1970..=9_999).contains(&year) {
        return None;
    }
    let year_from_march = if month > 2 { year } else { year - 1 };
    let (era, year_of_era) = (year_from_march / 400, year_from_march % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * DAYS_PER_ERA + day_of_era).checked_sub(DAYS_FROM_MARCH_OF_YEAR_0_TO_EPOCH)?;
    // The 31st of a shorter month would be a day of the next one.
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

/// Seconds since 1970-01-01T00:00:00Z of a time as AWS writes it: `2026-11-29T06:12:06Z`, with or
/// without a fraction of a second (RFC 3339 section 5.6), in UTC only.
pub fn parse_utc(text: &str) -> Option<u64> {
    let (seconds, rest) = text.as_bytes().split_at_checked("2026-11-29T06:12:06".len())?;
    let fraction = rest.strip_suffix(b"Z").or_else(|| rest.strip_suffix(b"+00:00"))?;
    let is_fraction = match fraction.split_first() {
        None => true,
        Some((b'.', digits)) => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    for (at, mark) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        if seconds.get(at) != Some(&mark) {
            return None;
        }
    }
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = seconds.get(from..to)?;
        let digits = digits.iter().all(u8::is_ascii_digit).then_some(digits)?;
        str::from_utf8(digits).ok()?.parse().ok()
    };
    let days = days_from_civil(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    // A leap second has no number of its own in POSIX time.
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?.min(59));
    let is_time = is_fraction && hour < 24 && minute < 60 && number(17, 19)? <= 60;
    is_time.then_some(days * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_leads_back_to_its_number() {
        for days in 0..200_000 {
            let (year, month, day) = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), Some(days));
        }
        for (year, month, day) in [
            (2023, 2, 29),
            (2023, 4, 31),
            (2023, 13, 1),
            (2023, 0, 1),
            (2023, 1, 0),
            (1969, 12, 31),
        ] {
            assert_eq!(days_from_civil(year, month, day), None, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn times_are_read_as_aws_writes_them() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2013-05-24T00:00:00Z", 1_369_353_600),
            ("2015-08-30T12:36:00.123Z", 1_440_938_160),
            ("2015-08-30T12:36:00+00:00", 1_440_938_160),
            ("2016-12-31T23:59:60Z", 1_483_228_799),
            ("9999-12-31T23:59:59Z", UNIX_SECONDS_MAX),
        ] {
            assert_eq!(parse_utc(text), Some(seconds), "{text}");
        }
        for text in [
            "",
            "2015-08-30",
            "2015-08-30T12:36:00",
            "2015-08-30T12:36:00+01:00",
            "2015-08-30 12:36:00Z",
            "2015-08-30T24:00:00Z",
            "2015-08-30T12:60:00Z",
            "2015-08-30T12:36:61Z",
            "2015-08-30T12:36:00.Z",
            "2015-08-30T12:36:00.x1Z",
            "2015-02-30T12:36:00Z",
            "+015-08-30T12:36:00Z",
            "2015-08-30T12:36:0\u{e9}Z",
            "1440938160",
        ] {
            assert_eq!(parse_utc(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_five_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..200_000 {
            assert_eq!(civil_from_days(days), (year, month, day), "day {days}");
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let month_days = match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > month_days {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn the_last_second_is_in_the_year_9999() {
        assert_eq!(civil_from_days(UNIX_SECONDS_MAX / SECONDS_PER_DAY), (9999, 12, 31));
        assert_eq!(civil_from_days(UNIX_SECONDS_MAX / SECONDS_PER_DAY + 1), (10_000, 1, 1));
    }
}
