//! The fields by which the logs of several systems are put together: `X-Request-Id`, and
//! `traceparent` (W3C Trace Context, <https://www.w3.org/TR/trace-context/>).

/// Longest request id that is taken over, in bytes. Those of AWS, nginx and Envoy have 32 to 49.
pub const REQUEST_ID_BYTES_MAX: usize = 128;

/// The request id that a request carries: the only value, of 1 to [`REQUEST_ID_BYTES_MAX`] visible
/// ASCII characters.
pub fn request_id<'b>(values: impl Iterator<Item = &'b [u8]>) -> Option<&'b [u8]> {
    let id = only(values)?;
    let is_good =
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    is_good.then_some(id)
}

/// Place of a request in a trace, as its sender gives it: the lower-case hexadecimal digits of the
/// two ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent<'b> {
    /// The trace that the request belongs to: 32 digits.
    pub trace_id: &'b [u8],
    /// The sender's part of it: 16 digits.
    pub parent_id: &'b [u8],
}

impl<'b> TraceParent<'b> {
    /// Reads the only `traceparent` of a request (W3C Trace Context section 3.2). One that is
    /// repeated or malformed counts as absent.
    pub fn read(values: impl Iterator<Item = &'b [u8]>) -> Option<Self> {
        let (version, value) = field(only(values)?, 2)?;
        let (trace_id, value) = field(value, 32)?;
        let (parent_id, value) = field(value, 16)?;
        let (flags, rest) = value.split_at_checked(2)?;
        // A later version may say more, behind a dash (section 4.3).
        let ends = rest.is_empty() || (version != b"00" && rest.starts_with(b"-"));
        let is_good = ends
            && [version, trace_id, parent_id, flags].into_iter().all(is_lower_hex)
            && version != b"ff"
            && [trace_id, parent_id].into_iter().all(|id| id.iter().any(|digit| *digit != b'0'));
        is_good.then_some(Self { trace_id, parent_id })
    }
}

fn only<'b>(mut values: impl Iterator<Item = &'b [u8]>) -> Option<&'b [u8]> {
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// Splits off so many bytes and the dash behind them.
fn field(value: &[u8], bytes: usize) -> Option<(&[u8], &[u8])> {
    let (field, rest) = value.split_at_checked(bytes)?;
    Some((field, rest.strip_prefix(b"-")?))
}

fn is_lower_hex(digits: &[u8]) -> bool {
    digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn trace(value: &str) -> Option<TraceParent<'_>> {
        TraceParent::read([value.as_bytes()].into_iter())
    }

    #[test]
    fn a_request_id_is_visible_ascii_of_a_bounded_length() {
        let longest = "x".repeat(REQUEST_ID_BYTES_MAX);
        for good in ["a", "Root=1-67891233-abcdef012345678912345678", "!\"\\~", &longest] {
            assert_eq!(request_id([good.as_bytes()].into_iter()), Some(good.as_bytes()));
        }
        let over = format!("{longest}x");
        for bad in ["", "a b", "a\tb", "é", "\u{7f}", &over] {
            assert_eq!(request_id([bad.as_bytes()].into_iter()), None, "{bad:?}");
        }
        assert_eq!(request_id([&b"a"[..], b"a"].into_iter()), None);
        assert_eq!(request_id(std::iter::empty()), None);
    }

    #[test]
    fn a_traceparent_has_four_fields_of_fixed_length() {
        let expected = TraceParent { trace_id: TRACE.as_bytes(), parent_id: PARENT.as_bytes() };
        for good in [
            format!("00-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-ff"),
            format!("cc-{TRACE}-{PARENT}-01"),
            format!("cc-{TRACE}-{PARENT}-01-what-the-future-brings"),
        ] {
            assert_eq!(trace(&good), Some(expected), "{good}");
        }
        let zeros = "0".repeat(32);
        for bad in [
            String::new(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("cc-{TRACE}-{PARENT}-01x"),
            format!("00-{TRACE}-{PARENT}-0"),
            format!("00-{TRACE}-{PARENT}-"),
            format!("00-{TRACE}-{PARENT}"),
            format!("0-{TRACE}-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", PARENT.to_uppercase()),
            format!("00-{TRACE}-{PARENT}-0A"),
            format!("0g-{TRACE}-{PARENT}-01"),
            format!("00-{zeros}-{PARENT}-01"),
            format!("00-{TRACE}-{}-01", &zeros[..16]),
            format!("00_{TRACE}-{PARENT}-01"),
            format!(" 00-{TRACE}-{PARENT}-01"),
        ] {
            assert_eq!(trace(&bad), None, "{bad:?}");
        }
        let twice = format!("00-{TRACE}-{PARENT}-01");
        assert_eq!(TraceParent::read([twice.as_bytes(), twice.as_bytes()].into_iter()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = request_id([&value[..]].into_iter());
            let _ = TraceParent::read([&value[..]].into_iter());
        }

        #[test]
        fn what_is_read_stands_in_the_value(value in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}") {
            if let Some(TraceParent { trace_id, parent_id }) = trace(&value) {
                prop_assert_eq!(&value.as_bytes()[3..35], trace_id);
                prop_assert_eq!(&value.as_bytes()[36..52], parent_id);
            }
        }
    }
}
