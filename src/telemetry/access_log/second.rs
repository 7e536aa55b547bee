//! Times of lines: the second is rendered once for all lines that end in it.

use crate::protocol::text::{
    date::{SECONDS_PER_DAY, civil_from_days},
    decimal::last_digits,
};

/// Names of the months in the Common Log Format.
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

const TEXT: &[u8; 20] = b"1970-01-01T00:00:00.";

/// A second, as lines write it.
#[derive(Debug)]
pub struct Second {
    unix: u64,
    text: [u8; TEXT.len()],
}

impl Default for Second {
    /// The first of 1970.
    fn default() -> Self {
        Self { unix: 0, text: *TEXT }
    }
}

impl Second {
    /// Appends a time of RFC 3339 section 5.6 with milliseconds, in UTC:
    /// `2026-02-28T23:59:59.999Z`.
    pub fn write_time(&mut self, unix_ms: u64, out: &mut Vec<u8>) {
        let (unix, ms) = (unix_ms / 1_000, unix_ms % 1_000);
        if unix != self.unix {
            self.render(unix);
        }
        out.extend_from_slice(&self.text);
        out.extend_from_slice(&last_digits::<3>(ms));
        out.push(b'Z');
    }

    /// Appends a time of the Common Log Format, in UTC: `28/Feb/2026:23:59:59 +0000`.
    pub(super) fn write_common(&mut self, unix_ms: u64, out: &mut Vec<u8>) {
        let unix = unix_ms / 1_000;
        if unix != self.unix {
            self.render(unix);
        }
        let [y0, y1, y2, y3, _, m0, m1, _, d0, d1, _, time @ .., _] = &self.text;
        let month = usize::from((m0 - b'0') * 10 + (m1 - b'0'));
        out.extend_from_slice(&[*d0, *d1, b'/']);
        out.extend_from_slice(MONTHS[(month + 11) % 12]);
        out.extend_from_slice(&[b'/', *y0, *y1, *y2, *y3, b':']);
        out.extend_from_slice(time);
        out.extend_from_slice(b" +0000");
    }

    fn render(&mut self, unix: u64) {
        self.unix = unix;
        let (year, month, day) = civil_from_days(unix / SECONDS_PER_DAY);
        let second = unix % SECONDS_PER_DAY;
        self.text[..4].copy_from_slice(&last_digits::<4>(year));
        for (at, value) in
            [(5, month), (8, day), (11, second / 3_600), (14, second / 60 % 60), (17, second % 60)]
        {
            self.text[at..at + 2].copy_from_slice(&last_digits::<2>(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_second_and_of_others_have_their_times() {
        let mut second = Second::default();
        for (unix_ms, time) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (999, "1970-01-01T00:00:00.999Z"),
            (1_772_323_199_999, "2026-02-28T23:59:59.999Z"),
            (1_772_323_199_000, "2026-02-28T23:59:59.000Z"),
            (1_772_323_200_000, "2026-03-01T00:00:00.000Z"),
            // The clock was set back.
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
        ] {
            let mut out = Vec::new();
            second.write_time(unix_ms, &mut out);
            assert_eq!(str::from_utf8(&out), Ok(time));
        }
    }

    #[test]
    fn the_common_log_format_names_months() {
        let mut second = Second::default();
        for (unix_ms, time) in [
            (0, "01/Jan/1970:00:00:00 +0000"),
            (1_772_323_199_999, "28/Feb/2026:23:59:59 +0000"),
            (1_767_225_599_000, "31/Dec/2025:23:59:59 +0000"),
        ] {
            let mut out = Vec::new();
            second.write_common(unix_ms, &mut out);
            assert_eq!(str::from_utf8(&out), Ok(time));
        }
    }
}
