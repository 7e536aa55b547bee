//! Reasons to refuse a request: in full for the log and the counters, as a class for the client.

use std::{fmt, rc::Rc};

use crate::model::Fault;

/// Message to the client about any token that is not good. It is the same for all, so that it tells
/// nothing about keys and secrets (RFC 8725 section 3.2 and the oracle attacks that it cites).
const INVALID: &str = "Authentication failed: Invalid token";
/// Message sent only after the signature was verified: the client should get a new token.
const EXPIRED: &str = "Authentication failed: Token expired";
/// Message sent only after the signature was verified: a clock is wrong, or the token is for later.
const NOT_YET_VALID: &str = "Authentication failed: Token not yet valid";

/// A request that authentication refuses.
#[derive(Clone, PartialEq, Eq)]
pub struct Denial {
    /// Error for the client.
    pub fault: Fault,
    /// Exact reason, for the log and the counters.
    pub reason: DenialReason,
    /// The token's `sub`, when its signature was good; not part of `Debug`.
    pub subject: Option<Rc<str>>,
    /// Its `kid`, in the same case; not part of `Debug`.
    pub key_id: Option<Rc<str>>,
    /// The provider that has no key of the token's `kid`, as an index for
    /// `AuthPolicy::key_source`: its set may be renewed by now.
    pub unknown_key_of: Option<usize>,
}

impl Denial {
    pub(super) fn new(reason: DenialReason) -> Self {
        Self::of_token(reason, None, None)
    }

    pub(super) fn of_token(
        reason: DenialReason,
        subject: Option<Rc<str>>,
        key_id: Option<Rc<str>>,
    ) -> Self {
        Self { fault: reason.fault(), reason, subject, key_id, unknown_key_of: None }
    }
}

impl fmt::Debug for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denial")
            .field("fault", &self.fault)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Exact reason, of a fixed set, so that it can be a metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DenialReason {
    /// No configured source holds a token.
    MissingToken,
    /// The admin API is closed because JWT is off.
    AdminClosed,
    /// One source holds two different tokens.
    Ambiguous,
    /// Longer than `TOKEN_BYTES_MAX`.
    TooLong,
    /// Not three parts of strict base64url, or not JSON objects without duplicate names.
    Malformed,
    /// The header demands an extension (`crit`, RFC 7515 section 4.1.11); none is known.
    Critical,
    /// `alg` is not that of the key (RFC 8725 section 3.1).
    BadAlgorithm,
    /// No key has the token's `kid`, and there is none without an id.
    UnknownKey,
    /// The key set that could have the key never came, or is too old to be used.
    NoKeySet,
    /// The signature does not verify.
    BadSignature,
    /// `exp`, `nbf` or `iat` is not a number of seconds in range.
    BadTime,
    /// No `exp` although `require_exp` is on.
    MissingExpiry,
    /// Past `exp` and leeway.
    Expired,
    /// Before `nbf` or `iat`, leeway considered.
    NotYetValid,
    /// `iss` is missing or not the configured one.
    BadIssuer,
    /// `aud` is missing, of the wrong type, or has no member of `jwt.audience`.
    BadAudience,
    /// Its provider's tokens may not be used for this.
    Provider,
    /// A claim rule does not hold.
    Claims,
    /// A `path_prefix` rule does not permit this object key.
    Path,
}

impl DenialReason {
    /// Every reason.
    pub const ALL: [Self; 19] = [
        Self::MissingToken,
        Self::AdminClosed,
        Self::Ambiguous,
        Self::TooLong,
        Self::Malformed,
        Self::Critical,
        Self::BadAlgorithm,
        Self::UnknownKey,
        Self::NoKeySet,
        Self::BadSignature,
        Self::BadTime,
        Self::MissingExpiry,
        Self::Expired,
        Self::NotYetValid,
        Self::BadIssuer,
        Self::BadAudience,
        Self::Provider,
        Self::Claims,
        Self::Path,
    ];

    /// Log field and metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::AdminClosed => "admin_closed",
            Self::Ambiguous => "ambiguous_token",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Critical => "critical_extension",
            Self::BadAlgorithm => "bad_algorithm",
            Self::UnknownKey => "unknown_key",
            Self::NoKeySet => "no_key_set",
            Self::BadSignature => "bad_signature",
            Self::BadTime => "bad_time",
            Self::MissingExpiry => "missing_expiry",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::BadIssuer => "bad_issuer",
            Self::BadAudience => "bad_audience",
            Self::Provider => "provider",
            Self::Claims => "claims",
            Self::Path => "path",
        }
    }

    /// Error for the client.
    const fn fault(self) -> Fault {
        match self {
            Self::MissingToken => Fault::MissingToken,
            Self::AdminClosed => Fault::AdminClosed,
            Self::Expired => Fault::InvalidToken(EXPIRED),
            Self::NotYetValid => Fault::InvalidToken(NOT_YET_VALID),
            Self::Provider | Self::Claims | Self::Path => Fault::ClaimsRefused,
            Self::Ambiguous
            | Self::TooLong
            | Self::Malformed
            | Self::Critical
            | Self::BadAlgorithm
            | Self::UnknownKey
            | Self::NoKeySet
            | Self::BadSignature
            | Self::BadTime
            | Self::MissingExpiry
            | Self::BadIssuer
            | Self::BadAudience => Fault::InvalidToken(INVALID),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_a_label_of_its_own() {
        let labels: HashSet<_> = DenialReason::ALL.map(DenialReason::as_str).into();
        assert_eq!(labels.len(), DenialReason::ALL.len());
    }

    #[test]
    fn a_client_learns_one_text_for_everything_before_the_signature() {
        for reason in [
            DenialReason::Malformed,
            DenialReason::BadAlgorithm,
            DenialReason::UnknownKey,
            DenialReason::BadSignature,
            DenialReason::BadIssuer,
        ] {
            assert_eq!(reason.fault().message(), INVALID, "{reason:?}");
            assert_eq!(reason.fault().status(), 401, "{reason:?}");
        }
    }
}
