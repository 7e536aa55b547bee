//! The one date format that is sent (IMF-fixdate, RFC 9110 section 5.6.7).

/// Bytes of `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const IMF_FIXDATE_BYTES: usize = 29;

/// The last second of the year 9999: the format has four digits for the year.
const SECOND_MAX: u64 = 253_402_300_799;

const SECONDS_A_DAY: u64 = 86_400;

/// Writes a time, in seconds since 1970-01-01T00:00:00Z, as an HTTP date. Times after the year
/// 9999 give its last second.
pub fn imf_fixdate(unix_seconds: u64) -> [u8; IMF_FIXDATE_BYTES] {
    const WEEKDAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    // All parts are far below the limits of the types they are cut to.
    let unix_seconds = unix_seconds.min(SECOND_MAX);
    let days = unix_seconds / SECONDS_A_DAY;
    let second_of_day = unix_seconds % SECONDS_A_DAY;
    let (year, month, day) = civil_from_days(days);
    let three = |names: &[u8], index: u64| -> [u8; 3] {
        let at = usize::try_from(index).unwrap_or_default() * 3;
        names.get(at..at + 3).and_then(|name| name.try_into().ok()).unwrap_or(*b"   ")
    };

    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    out[0..3].copy_from_slice(&three(WEEKDAYS, days % 7));
    out[5..7].copy_from_slice(&two_digits(day));
    out[8..11].copy_from_slice(&three(MONTHS, month - 1));
    out[12..14].copy_from_slice(&two_digits(year / 100));
    out[14..16].copy_from_slice(&two_digits(year % 100));
    out[17..19].copy_from_slice(&two_digits(second_of_day / 3_600));
    out[20..22].copy_from_slice(&two_digits(second_of_day / 60 % 60));
    out[23..25].copy_from_slice(&two_digits(second_of_day % 60));
    out
}

const fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

/// Year, month (1 to 12) and day (1 to 31) of the proleptic Gregorian calendar.
///
/// Years are counted from March, so that the leap day comes last, in eras of 400 years.
const fn civil_from_days(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_FROM_MARCH_OF_YEAR_0_TO_EPOCH: u64 = 719_468;
    const DAYS_AN_ERA: u64 = 146_097;
    let days = days_since_epoch + DAYS_FROM_MARCH_OF_YEAR_0_TO_EPOCH;
    let (era, day_of_era) = (days / DAYS_AN_ERA, days % DAYS_AN_ERA);
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

    fn text(unix_seconds: u64) -> String {
        String::from_utf8(imf_fixdate(unix_seconds).to_vec()).unwrap()
    }

    #[test]
    fn dates_of_the_standard_and_edges() {
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(text(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert_eq!(text(4_107_542_400), "Mon, 01 Mar 2100 00:00:00 GMT");
        assert_eq!(text(SECOND_MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(u64::MAX), text(SECOND_MAX));
    }

    #[test]
    fn every_day_of_five_centuries_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..182_622 {
            assert_eq!(civil_from_days(days), (year, month, day));
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
}
