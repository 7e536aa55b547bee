//! The calendar: from a count of seconds to year, month and day (UTC, no leap seconds).

/// Seconds of a day, as POSIX counts them.
pub const SECONDS_PER_DAY: u64 = 86_400;

/// 9999-12-31T23:59:59Z: the last second that a year of four digits can name.
pub const UNIX_SECONDS_MAX: u64 = 253_402_300_799;

/// Year, month (1 to 12) and day (1 to 31) of a count of days since 1970-01-01, in the proleptic
/// Gregorian calendar.
///
/// Years are counted from the first of March, so that the leap day is the last day of its year
/// and month lengths follow one linear formula: 153 days in every five months from March on.
pub const fn civil_from_days(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0_TO_EPOCH: u64 = 719_468;
    // The calendar repeats after an era of 400 years.
    const DAYS_PER_ERA: u64 = 146_097;
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

#[cfg(test)]
mod tests {
    use super::*;

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
