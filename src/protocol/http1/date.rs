//! The one date format that is sent (IMF-fixdate, RFC 9110 section 5.6.7).

use crate::protocol::text::{
    date::{SECONDS_PER_DAY, UNIX_SECONDS_MAX, civil_from_days},
    decimal::last_digits,
};

/// Bytes of `Sun, 06 Nov 1994 08:49:37 GMT`.
pub const IMF_FIXDATE_BYTES: usize = 29;

/// Writes a time, in seconds since 1970-01-01T00:00:00Z, as an HTTP date.
///
/// The format has four digits for the year, so times after 9999 give its last second.
pub fn imf_fixdate(unix_seconds: u64) -> [u8; IMF_FIXDATE_BYTES] {
    const WEEKDAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let unix_seconds = unix_seconds.min(UNIX_SECONDS_MAX);
    let days = unix_seconds / SECONDS_PER_DAY;
    let second_of_day = unix_seconds % SECONDS_PER_DAY;
    let (year, month, day) = civil_from_days(days);
    let three = |names: &[u8], index: u64| -> [u8; 3] {
        let at = usize::try_from(index).unwrap_or_default() * 3;
        names.get(at..at + 3).and_then(|name| name.try_into().ok()).unwrap_or(*b"   ")
    };

    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    out[0..3].copy_from_slice(&three(WEEKDAYS, days % 7));
    out[5..7].copy_from_slice(&last_digits::<2>(day));
    out[8..11].copy_from_slice(&three(MONTHS, month - 1));
    out[12..16].copy_from_slice(&last_digits::<4>(year));
    out[17..19].copy_from_slice(&last_digits::<2>(second_of_day / 3_600));
    out[20..22].copy_from_slice(&last_digits::<2>(second_of_day / 60 % 60));
    out[23..25].copy_from_slice(&last_digits::<2>(second_of_day % 60));
    out
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
        assert_eq!(text(UNIX_SECONDS_MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(text(u64::MAX), text(UNIX_SECONDS_MAX));
    }
}
