//! The closed sets of label values. A client cannot add a value to any of them, so the number
//! of series is bounded by the configuration.

/// Declares an enum whose variants index a row of counters, each with its label value.
macro_rules! label_set {
    (
        $(#[$meta:meta])*
        pub enum $name:ident { $( $(#[$variant_meta:meta])* $variant:ident => $label:literal, )+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$variant_meta])* $variant, )+ }

        impl $name {
            /// Every value, in the order of the counters.
            pub const ALL: &[Self] = &[ $( Self::$variant, )+ ];

            /// Number of values.
            pub const COUNT: usize = Self::ALL.len();

            /// The value as it appears in the label.
            pub const fn label(self) -> &'static str {
                match self { $( Self::$variant => $label, )+ }
            }

            /// Position in a row of counters.
            pub(crate) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label_set! {
    /// Label `method` of `yatagarasu_http_requests_total`.
    pub enum Method {
        /// GET.
        Get => "GET",
        /// HEAD.
        Head => "HEAD",
        /// OPTIONS.
        Options => "OPTIONS",
        /// Everything else, known or invented, and heads in which no method could be read.
        Other => "OTHER",
    }
}

label_set! {
    /// Label `reason` of `yatagarasu_connections_rejected_total`.
    pub enum RejectReason {
        /// Over `server.max_connections`.
        Limit => "limit",
        /// Over the number that the admin listener may have.
        AdminLimit => "admin_limit",
        /// `accept` failed for want of file descriptors (EMFILE, ENFILE); one count for each
        /// back-off.
        FdExhausted => "fd_exhausted",
        /// `accept` failed for another reason.
        AcceptError => "accept_error",
        /// No good PROXY protocol header (`server.proxy_protocol`).
        ProxyProtocol => "proxy_protocol",
    }
}

label_set! {
    /// Labels `cipher` and `version` of `yatagarasu_tls_handshakes_total`, as IANA names them.
    pub enum TlsCipher {
        /// TLS 1.3.
        Aes128 => "TLS_AES_128_GCM_SHA256",
        /// TLS 1.3.
        Aes256 => "TLS_AES_256_GCM_SHA384",
        /// TLS 1.3.
        ChaCha20 => "TLS_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, with an ECDSA or Ed25519 certificate.
        EcdsaAes128 => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, with an ECDSA or Ed25519 certificate.
        EcdsaAes256 => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, with an ECDSA or Ed25519 certificate.
        EcdsaChaCha20 => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        /// TLS 1.2, with an RSA certificate.
        RsaAes128 => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        /// TLS 1.2, with an RSA certificate.
        RsaAes256 => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        /// TLS 1.2, with an RSA certificate.
        RsaChaCha20 => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    }
}

impl TlsCipher {
    /// The cipher of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|cipher| cipher.label() == name).copied()
    }

    /// The version of TLS that has it.
    pub const fn version(self) -> &'static str {
        match self {
            Self::Aes128 | Self::Aes256 | Self::ChaCha20 => "1.3",
            _ => "1.2",
        }
    }
}

label_set! {
    /// Label `reason` of `yatagarasu_tls_handshake_failures_total`.
    pub enum TlsFailure {
        /// The handshake was not over within `timeouts.client_header`, or before the process ended.
        Timeout => "timeout",
        /// The client closed the connection.
        Closed => "closed",
        /// HTTP without TLS, or something else that is not TLS.
        NotTls => "not_tls",
        /// No version in common.
        Version => "version",
        /// No cipher suite, group or signature in common.
        Cipher => "cipher",
        /// No protocol in common (ALPN).
        Protocol => "protocol",
        /// The client has shown no certificate.
        CertificateMissing => "certificate_missing",
        /// The client's certificate is not good.
        CertificateRefused => "certificate_refused",
        /// The client ended the handshake with an alert, because of our certificate above all.
        Alert => "alert",
        /// A message that breaks the rules.
        Malformed => "malformed",
    }
}

label_set! {
    /// Label `reason` of `yatagarasu_auth_failures_total`: finer than the response to the client.
    pub enum AuthFailure {
        /// No token in any configured source.
        Missing => "missing",
        /// Not a JWT: parts, base64url, JSON, duplicate claims, size, an unknown `crit`.
        Malformed => "malformed",
        /// An algorithm that no configured key has.
        Algorithm => "algorithm",
        /// A `kid` for which there is no key.
        UnknownKey => "unknown_key",
        /// The key set of its provider never came, or is too old.
        NoKeySet => "no_key_set",
        /// No key verifies it.
        Signature => "signature",
        /// `exp` has passed.
        Expired => "expired",
        /// `nbf` has not come.
        NotYetValid => "not_yet_valid",
        /// A time claim is missing or of the wrong type.
        InvalidTime => "invalid_time",
        /// `iss` is not the configured one.
        Issuer => "issuer",
        /// `aud` has no configured audience.
        Audience => "audience",
        /// A good token whose claims do not fit (403).
        Claims => "claims",
        /// The admin API is closed because JWT is off (403).
        AdminClosed => "admin_closed",
    }
}

label_set! {
    /// Label `reason` of `yatagarasu_upstream_errors_total`.
    pub enum UpstreamErrorReason {
        /// The endpoint refused the connection.
        Refused => "refused",
        /// TCP connect and TLS handshake took too long.
        ConnectTimeout => "connect_timeout",
        /// No first byte of the response head in time.
        FirstByteTimeout => "first_byte_timeout",
        /// The response head began and did not end in time.
        HeadTimeout => "head_timeout",
        /// The body stopped arriving.
        ReadTimeout => "read_timeout",
        /// The response breaks RFC 9112.
        Protocol => "protocol",
        /// The connection was reset, or failed in another way.
        Reset => "reset",
        /// The connection ended before the message did.
        Truncated => "truncated",
        /// S3 refused the proxy's key, token or signature.
        Credentials => "credentials",
        /// The proxy's clock is wrong, according to S3 (`RequestTimeTooSkewed`).
        ClockSkew => "clock_skew",
        /// The TLS handshake failed.
        Tls => "tls",
        /// The host name has no address.
        NoAddress => "no_address",
        /// No descriptor or memory was left for a socket.
        OutOfDescriptors => "out_of_descriptors",
    }
}

label_set! {
    /// Label `state` of `yatagarasu_connections` and `yatagarasu_upstream_connections`.
    pub enum ConnectionState {
        /// A request is in progress on it, or the first one is awaited.
        Active => "active",
        /// Kept alive between two requests.
        Idle => "idle",
    }
}

label_set! {
    /// Label `reason` of `yatagarasu_http2_resets_total`.
    pub enum Http2Reset {
        /// The client reset the stream.
        Client => "client",
        /// The client reset the stream before anything was done for it.
        AtOnce => "at_once",
        /// The process serves as many requests over HTTP/2 as it may (`server.max_connections`).
        Limit => "limit",
        /// The request breaks RFC 9113.
        Malformed => "malformed",
        /// The client took nothing of a response for too long.
        Stalled => "stalled",
        /// A response could not be completed.
        Cut => "cut",
    }
}

label_set! {
    /// Label `reason` of `yatagarasu_http2_goaways_total`.
    pub enum Http2GoAway {
        /// The process stops.
        Stop => "stop",
        /// No stream was open for `client_idle`.
        Idle => "idle",
        /// A head, or the client's first frame, did not come in time.
        Timeout => "timeout",
        /// More frames or resets than a client has use for.
        Flood => "flood",
        /// The client broke RFC 9113.
        Protocol => "protocol",
    }
}

/// Statuses with a counter of their own: those of this proxy's own responses and of S3 servers'
/// responses to GET and HEAD. The most frequent ones come first, so that they share a cache line.
const STATUSES: [u16; 24] = [
    200, 206, 304, 404, 403, 401, 204, 301, 307, 400, 405, 408, 412, 413, 414, 416, 417, 429, 431,
    500, 501, 502, 503, 504,
];

/// Labels of the other statuses, by class; `none` is for a client that left before its response.
const OTHER_STATUSES: [&str; 5] = ["none", "2xx", "3xx", "4xx", "5xx"];

/// Number of counters in a row by status.
pub(crate) const STATUS_SLOTS: usize = STATUSES.len() + OTHER_STATUSES.len();

/// First status code that no class of RFC 9110 section 15 covers.
const STATUS_END: u16 = 600;

/// Slot of each status code below [`STATUS_END`].
static STATUS_SLOT: [u8; STATUS_END as usize] = status_slots();

#[expect(clippy::cast_possible_truncation, reason = "slots are fewer than 256")]
const fn status_slots() -> [u8; STATUS_END as usize] {
    let mut slots = [0; STATUS_END as usize];
    let mut status = 0;
    while status < slots.len() {
        let class = match status {
            0 => 0,
            1..300 => 1,
            300..400 => 2,
            400..500 => 3,
            _ => 4,
        };
        slots[status] = (STATUSES.len() + class) as u8;
        status += 1;
    }
    let mut known = 0;
    while known < STATUSES.len() {
        slots[STATUSES[known] as usize] = known as u8;
        known += 1;
    }
    slots
}

/// Slot of a status code. Codes beyond 599 count as `5xx`, the way clients must take them
/// (RFC 9110 section 15).
pub(crate) fn status_slot(status: u16) -> usize {
    let last = STATUS_SLOTS - 1;
    // The `min` is free and tells the compiler that a row is never indexed beyond its end.
    STATUS_SLOT.get(usize::from(status)).map_or(last, |slot| usize::from(*slot).min(last))
}

/// Label of a slot.
pub(crate) fn status_label(slot: usize) -> String {
    match STATUSES.get(slot) {
        Some(status) => status.to_string(),
        None => OTHER_STATUSES[(slot - STATUSES.len()).min(OTHER_STATUSES.len() - 1)].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_known_status_has_its_own_slot_and_label() {
        let slots: HashSet<_> = STATUSES.iter().map(|status| status_slot(*status)).collect();
        assert_eq!(slots.len(), STATUSES.len());
        for status in STATUSES {
            assert_eq!(status_label(status_slot(status)), status.to_string());
        }
    }

    #[test]
    fn other_statuses_share_the_slot_of_their_class() {
        for (status, label) in [
            (0, "none"),
            (207, "2xx"),
            (302, "3xx"),
            (418, "4xx"),
            (505, "5xx"),
            (599, "5xx"),
            (600, "5xx"),
        ] {
            assert_eq!(status_label(status_slot(status)), label, "{status}");
        }
    }

    #[test]
    fn no_status_is_out_of_bounds() {
        for status in 0..=u16::MAX {
            assert!(status_slot(status) < STATUS_SLOTS, "{status}");
        }
    }

    #[test]
    fn a_cipher_is_known_by_its_name() {
        for cipher in TlsCipher::ALL {
            assert_eq!(TlsCipher::named(cipher.label()), Some(*cipher));
        }
        assert_eq!(TlsCipher::named("TLS_NULL_WITH_NULL_NULL"), None);
    }

    #[test]
    fn label_values_are_distinct() {
        let labels: HashSet<_> = UpstreamErrorReason::ALL.iter().map(|e| e.label()).collect();
        assert_eq!(labels.len(), UpstreamErrorReason::COUNT);
        let labels: HashSet<_> = AuthFailure::ALL.iter().map(|e| e.label()).collect();
        assert_eq!(labels.len(), AuthFailure::COUNT);
    }

    #[test]
    fn index_follows_the_order_of_all() {
        for (position, reason) in UpstreamErrorReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), position);
        }
    }
}
