//! Validity period of a token: `exp`, `nbf` and `iat` (RFC 7519 section 4.1).

use serde_json::{Map, Value};

use super::denial::DenialReason;
use crate::protocol::text::date::UNIX_SECONDS_MAX;

/// Latest accepted time. A later one is a mistake or an attempt at overflow, never a real expiry.
const NUMERIC_DATE_SECONDS_MAX: u64 = UNIX_SECONDS_MAX;

/// Period in which a token is good, leeway included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// First second of the period, in seconds since 1970.
    opens: u64,
    /// First second after the period; none without `exp`.
    closes: Option<u64>,
}

impl Window {
    /// Reads the three times. A time of the wrong type, below zero or out of range is a
    /// refusal: taking it for absent would make the token good for ever.
    ///
    /// `NumericDate` (RFC 7519 section 2) is a JSON number that may have a fraction; fractions
    /// are rounded against the token, so `exp` down, `nbf` and `iat` up.
    pub(super) fn read(
        claims: &Map<String, Value>,
        leeway_seconds: u64,
        require_exp: bool,
    ) -> Result<Self, DenialReason> {
        let expires = numeric_date(claims, "exp", Rounding::Down)?;
        if expires.is_none() && require_exp {
            return Err(DenialReason::MissingExpiry);
        }
        let not_before = numeric_date(claims, "nbf", Rounding::Up)?;
        // RFC 7519 gives iat no effect, but a token from the future means that one of the two
        // clocks is wrong, and then exp cannot be trusted either.
        let issued = numeric_date(claims, "iat", Rounding::Up)?;
        let starts = not_before.unwrap_or(0).max(issued.unwrap_or(0));
        Ok(Self {
            opens: starts.saturating_sub(leeway_seconds),
            closes: expires.map(|at| at.saturating_add(leeway_seconds)),
        })
    }

    /// Checks that the token is good at a time in seconds since 1970.
    pub(super) fn check(self, now_unix: u64) -> Result<(), DenialReason> {
        if self.closes.is_some_and(|closes| now_unix >= closes) {
            return Err(DenialReason::Expired);
        }
        if now_unix < self.opens {
            return Err(DenialReason::NotYetValid);
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Rounding {
    Down,
    Up,
}

fn numeric_date(
    claims: &Map<String, Value>,
    name: &str,
    rounding: Rounding,
) -> Result<Option<u64>, DenialReason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let Value::Number(number) = value else { return Err(DenialReason::BadTime) };
    let seconds = if let Some(seconds) = number.as_u64() {
        seconds
    } else {
        let fraction = number.as_f64().ok_or(DenialReason::BadTime)?;
        #[expect(clippy::cast_precision_loss, reason = "the limit is far below 2^53")]
        let limit = NUMERIC_DATE_SECONDS_MAX as f64;
        if !(0.0..=limit).contains(&fraction) {
            return Err(DenialReason::BadTime);
        }
        let whole = match rounding {
            Rounding::Down => fraction.floor(),
            Rounding::Up => fraction.ceil(),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, and between 0 and the limit"
        )]
        let seconds = whole as u64;
        seconds
    };
    if seconds > NUMERIC_DATE_SECONDS_MAX {
        return Err(DenialReason::BadTime);
    }
    Ok(Some(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(claims: &Value, leeway: u64) -> Result<Window, DenialReason> {
        Window::read(claims.as_object().unwrap(), leeway, true)
    }

    #[test]
    fn the_edges_are_exact() {
        let window = read(&json!({"exp": 200, "nbf": 100}), 10).unwrap();
        assert_eq!(window.check(89), Err(DenialReason::NotYetValid));
        assert_eq!(window.check(90), Ok(()));
        assert_eq!(window.check(209), Ok(()));
        assert_eq!(window.check(210), Err(DenialReason::Expired));
    }

    #[test]
    fn fractions_round_against_the_token() {
        let window = read(&json!({"exp": 200.9, "nbf": 100.1}), 0).unwrap();
        assert_eq!(window.check(100), Err(DenialReason::NotYetValid));
        assert_eq!(window.check(101), Ok(()));
        assert_eq!(window.check(199), Ok(()));
        assert_eq!(window.check(200), Err(DenialReason::Expired));
    }

    #[test]
    fn issued_in_the_future_is_not_yet_valid() {
        let window = read(&json!({"exp": 200, "iat": 161}), 60).unwrap();
        assert_eq!(window.check(100), Err(DenialReason::NotYetValid));
        assert_eq!(window.check(101), Ok(()));
    }

    #[test]
    fn wrong_types_and_ranges_are_refused_for_each_time() {
        let limit = NUMERIC_DATE_SECONDS_MAX;
        for name in ["exp", "nbf", "iat"] {
            for bad in [
                json!("200"),
                json!(null),
                json!(true),
                json!([200]),
                json!({}),
                json!(-1),
                json!(-0.5),
                json!(limit + 1),
                json!(u64::MAX),
                json!(1e300),
            ] {
                let mut claims = json!({"exp": 200});
                claims[name] = bad.clone();
                assert_eq!(read(&claims, 0), Err(DenialReason::BadTime), "{name} {bad}");
            }
        }
    }

    #[test]
    fn without_exp_a_token_needs_permission_to_live_for_ever() {
        let claims = json!({});
        assert_eq!(read(&claims, 0), Err(DenialReason::MissingExpiry));
        let window = Window::read(claims.as_object().unwrap(), 0, false).unwrap();
        assert_eq!(window.check(u64::MAX), Ok(()));
    }
}
