//! Errors of one request, and the status, code and message that the client gets for each.
//!
//! A [`Fault`] is the vocabulary only. `data_plane::exchange::respond` is the one place
//! that turns it into bytes.

/// An error for which this proxy makes the response itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No configured prefix matches the path.
    NoRoute,
    /// No bucket is served for the host that is asked (RFC 9110 section 15.5.20).
    NoHost,
    /// A request for the bucket of another host than the TLS connection was made for.
    OtherHost,
    /// The path names a bucket but no object in it.
    NoKey,
    /// Bad percent-encoding, control characters, invalid UTF-8 or a dot segment.
    BadPath,
    /// A query that asks for something else than the object: a version, a part or a sub-resource
    /// that the bucket does not let through, or one in a form that means nothing.
    QueryNotSupported,
    /// A target with scheme `https` on a plain connection (RFC 9110 section 7.4).
    Misdirected,
    /// A request on a plain connection, where only TLS is served.
    HttpsRequired,
    /// A request in plain where TLS is spoken.
    PlainHttp,
    /// The object key is longer than S3 allows.
    KeyTooLong,
    /// The message breaks RFC 9112 (syntax or framing).
    BadRequest,
    /// A transfer coding other than `chunked` (RFC 9112 section 6.1).
    UnknownTransferCoding,
    /// A protocol version other than HTTP/1.0 or HTTP/1.1.
    VersionNotSupported,
    /// A method other than GET, HEAD or OPTIONS.
    MethodNotAllowed,
    /// An `Expect` other than `100-continue` (RFC 9110 section 10.1.1).
    ExpectationFailed,
    /// Request target over `limits.uri_bytes`.
    UriTooLong,
    /// Head over `limits.header_bytes` or `limits.headers`.
    HeadTooLarge,
    /// Body over `limits.body_bytes`.
    BodyTooLarge,
    /// The head did not arrive within `timeouts.client_header`, or the body in as long again.
    HeadTimeout,
    /// A parameter of a listing is not what it has to be.
    InvalidListQuery,
    /// No token in any configured source.
    MissingToken,
    /// The same, with a signature of AWS in its place.
    SignedRequest,
    /// A token that is not good; the text is the class of error that the client may know.
    InvalidToken(&'static str),
    /// A good token whose claims do not fit.
    ClaimsRefused,
    /// The admin API is closed because JWT is off.
    AdminClosed,
    /// No such admin resource.
    AdminNotFound,
    /// The query of an admin request is not exactly what it has to be.
    InvalidQuery,
    /// No address, connection refused or reset, or no TLS.
    UpstreamRefused,
    /// Connect, first byte or read took too long.
    UpstreamTimeout,
    /// The upstream's response breaks RFC 9112, or ended before its head was complete.
    UpstreamProtocol,
    /// S3 refused our own credentials or signature.
    UpstreamCredentials,
    /// An error of S3 with this status, which is not to be seen as it is.
    Hidden(u16),
    /// No descriptor or memory is left for a connection to S3.
    OutOfDescriptors,
    /// Too many clients ask for the metrics page at once.
    TooManyScrapes,
    /// Too many clients ask for a listing at once.
    TooManyListings,
    /// The request came back to the instance that sent it (RFC 5842 section 7.2).
    LoopDetected,
    /// The control plane dropped what was asked of it, or has no room for it.
    NoReply,
    /// Over `server.max_connections`, or over what the admin listener may have.
    TooManyConnections,
    /// The process is stopping.
    ShuttingDown,
    /// A bug: a task of ours panicked or a part of the process is gone.
    Internal,
}

impl Fault {
    /// All of them, of [`Self::Hidden`] one for each code, for the page that lists them.
    pub const ALL: &[Self] = &[
        Self::NoRoute,
        Self::NoHost,
        Self::OtherHost,
        Self::NoKey,
        Self::BadPath,
        Self::QueryNotSupported,
        Self::Misdirected,
        Self::HttpsRequired,
        Self::PlainHttp,
        Self::KeyTooLong,
        Self::BadRequest,
        Self::UnknownTransferCoding,
        Self::VersionNotSupported,
        Self::MethodNotAllowed,
        Self::ExpectationFailed,
        Self::UriTooLong,
        Self::HeadTooLarge,
        Self::BodyTooLarge,
        Self::HeadTimeout,
        Self::InvalidListQuery,
        Self::MissingToken,
        Self::SignedRequest,
        Self::InvalidToken(""),
        Self::ClaimsRefused,
        Self::AdminClosed,
        Self::AdminNotFound,
        Self::InvalidQuery,
        Self::UpstreamRefused,
        Self::UpstreamTimeout,
        Self::UpstreamProtocol,
        Self::UpstreamCredentials,
        Self::Hidden(404),
        Self::Hidden(403),
        Self::Hidden(412),
        Self::Hidden(416),
        Self::Hidden(503),
        Self::Hidden(500),
        Self::Hidden(400),
        Self::Hidden(301),
        Self::OutOfDescriptors,
        Self::TooManyScrapes,
        Self::TooManyListings,
        Self::LoopDetected,
        Self::NoReply,
        Self::TooManyConnections,
        Self::ShuttingDown,
        Self::Internal,
    ];

    /// HTTP status that the client gets.
    pub const fn status(self) -> u16 {
        match self {
            Self::BadPath
            | Self::QueryNotSupported
            | Self::KeyTooLong
            | Self::BadRequest
            | Self::PlainHttp
            | Self::InvalidListQuery
            | Self::InvalidQuery => 400,
            Self::MissingToken | Self::SignedRequest | Self::InvalidToken(_) => 401,
            Self::ClaimsRefused | Self::AdminClosed | Self::HttpsRequired => 403,
            Self::NoRoute | Self::NoKey | Self::AdminNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::HeadTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::UriTooLong => 414,
            Self::ExpectationFailed => 417,
            Self::Misdirected | Self::NoHost | Self::OtherHost => 421,
            Self::HeadTooLarge => 431,
            Self::Internal => 500,
            Self::UnknownTransferCoding => 501,
            Self::UpstreamRefused | Self::UpstreamProtocol | Self::UpstreamCredentials => 502,
            Self::NoReply
            | Self::OutOfDescriptors
            | Self::TooManyConnections
            | Self::TooManyListings
            | Self::TooManyScrapes
            | Self::ShuttingDown => 503,
            Self::UpstreamTimeout => 504,
            Self::VersionNotSupported => 505,
            Self::Hidden(status) => status,
            Self::LoopDetected => 508,
        }
    }

    /// The stable machine-readable `code` of the JSON body and the access log.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::NoHost => "no_host",
            Self::OtherHost => "other_host",
            Self::NoKey => "no_key",
            Self::BadPath => "bad_path",
            Self::QueryNotSupported => "query_not_supported",
            Self::KeyTooLong => "key_too_long",
            Self::Misdirected => "misdirected",
            Self::HttpsRequired => "https_required",
            Self::PlainHttp => "plain_http",
            Self::BadRequest => "bad_request",
            Self::UnknownTransferCoding => "unknown_transfer_coding",
            Self::VersionNotSupported => "version_not_supported",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::ExpectationFailed => "expectation_failed",
            Self::UriTooLong => "uri_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::InvalidListQuery => "invalid_listing_query",
            Self::MissingToken => "missing_token",
            Self::SignedRequest => "signed_request",
            Self::InvalidToken(_) => "invalid_token",
            Self::ClaimsRefused => "claims_refused",
            Self::AdminClosed => "admin_closed",
            Self::AdminNotFound | Self::Hidden(404 | 410) => "not_found",
            Self::InvalidQuery => "invalid_query",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamProtocol => "upstream_protocol_error",
            Self::UpstreamCredentials => "upstream_credentials",
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::TooManyConnections => "too_many_connections",
            Self::LoopDetected => "loop_detected",
            Self::NoReply => "no_reply",
            Self::TooManyListings => "too_many_listings",
            Self::TooManyScrapes => "too_many_scrapes",
            Self::ShuttingDown => "shutting_down",
            Self::Hidden(401 | 403) => "access_denied",
            Self::Hidden(412) => "precondition_failed",
            Self::Hidden(416) => "range_not_satisfiable",
            Self::Hidden(429 | 503) => "slow_down",
            Self::Hidden(500..) => "storage_error",
            Self::Hidden(400..) => "request_refused",
            Self::Hidden(_) => "moved",
            Self::Internal => "internal_error",
        }
    }

    /// The sentence for people in the JSON body. It never holds anything a client sent.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NoRoute => "No bucket is configured for this path",
            Self::NoHost => "No bucket is configured for this host",
            Self::OtherHost => {
                "This connection was made for another host; ask for this one over a new connection"
            }
            Self::NoKey => "The path names no object",
            Self::BadPath => "The path is not valid",
            Self::QueryNotSupported => {
                "This query is not supported: it asks for a version, a part or a sub-resource of \
                 the object, or has a value that means nothing"
            }
            Self::KeyTooLong => "The object key is longer than 1024 bytes",
            Self::Misdirected => "An https target cannot be served on a plain connection",
            Self::HttpsRequired => "Objects are served over https only",
            Self::PlainHttp => "A plain HTTP request was sent to the TLS port; use https",
            Self::BadRequest => "The request is malformed",
            Self::UnknownTransferCoding => "Unknown transfer coding",
            Self::VersionNotSupported => "Only HTTP/1.0 and HTTP/1.1 are supported",
            Self::MethodNotAllowed => "Method not allowed",
            Self::ExpectationFailed => "Unknown expectation",
            Self::UriTooLong => "The request target is too long",
            Self::HeadTooLarge => "The request head is too large",
            Self::BodyTooLarge => "The request body is too large",
            Self::HeadTimeout => "The request did not arrive in time",
            Self::InvalidListQuery => "A parameter of the listing is not valid",
            Self::MissingToken => "Authentication required: Missing token",
            Self::SignedRequest => {
                "Authentication required: an S3 signature is not a token; send none \
                 (--no-sign-request), and a bearer token"
            }
            Self::InvalidToken(class) => class,
            Self::ClaimsRefused => "Access denied: the token's claims do not permit this",
            Self::AdminClosed => "The admin API is closed because JWT authentication is off",
            Self::AdminNotFound => "No such admin resource",
            Self::InvalidQuery => {
                "Nothing was changed: a reload takes no query or exactly one dry_run=true or \
                 dry_run=false, a rollback exactly one to=N"
            }
            Self::UpstreamRefused => "The S3 endpoint could not be reached",
            Self::UpstreamTimeout => "The S3 endpoint did not respond in time",
            Self::UpstreamProtocol => "The S3 endpoint sent a malformed response",
            Self::UpstreamCredentials => "This proxy's credentials for S3 are refused or missing",
            Self::OutOfDescriptors => {
                "The proxy has no file descriptor left for a connection to S3"
            }
            Self::TooManyConnections => "Too many connections",
            Self::LoopDetected => "The request came back: the S3 endpoint leads to this proxy",
            Self::NoReply => "The request was dropped unanswered; try again",
            Self::TooManyListings => "Too many listings are being made; try again",
            Self::TooManyScrapes => "Too many requests wait for the metrics page; try again",
            Self::ShuttingDown => "The server is shutting down",
            Self::Hidden(404 | 410) => "The object does not exist",
            Self::Hidden(401 | 403) => "Access to the object is not permitted",
            Self::Hidden(412) => "A condition of the request does not hold",
            Self::Hidden(416) => "The object has no such range",
            Self::Hidden(429 | 503) => "Too many requests at a time; try again later",
            Self::Hidden(500..) => "The storage failed",
            Self::Hidden(400..) => "The storage refused the request",
            Self::Hidden(_) => "The object is at another place, which cannot be told",
            Self::Internal => "Internal error",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_fault_has_a_code_of_its_own() {
        let own = || Fault::ALL.iter().filter(|fault| !matches!(fault, Fault::Hidden(_)));
        let codes: HashSet<_> = own().map(|fault| fault.code()).collect();
        assert_eq!(codes.len(), own().count());
    }
}
