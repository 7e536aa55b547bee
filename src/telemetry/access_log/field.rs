//! The parts of a request that a line can have, and their names.

/// Declares the fields. `usual` ones are in a line unless they are taken away; `of` says what a
/// field needs to be noted while the request is served.
macro_rules! fields {
    ($($(#[$meta:meta])* $Field:ident = $name:literal $kind:ident $(of $need:ident)?,)+) => {
        /// A part of a request that a line can have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Field {
            $($(#[$meta])* $Field,)+
        }

        impl Field {
            /// All fields, the usual ones first and in their order.
            pub const ALL: &[Self] = &[$(Self::$Field),+];

            /// Its name in the configuration and in a line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$Field => $name,)+
                }
            }

            const fn kind(self) -> Kind {
                match self {
                    $(Self::$Field => Kind::$kind,)+
                }
            }

            /// Noted for it while the request is served.
            const fn need(self) -> Needs {
                match self {
                    $($(Self::$Field => Needs::$need,)?)+
                    _ => Needs::NOTHING,
                }
            }
        }
    };
}

/// Origin of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One of ours, in a line unless it is taken away.
    Usual,
    /// One of ours, in a line if it is asked for.
    More,
    /// One of OpenTelemetry's semantic conventions, in a line if it is asked for
    /// (<https://opentelemetry.io/docs/specs/semconv/http/http-spans/>).
    Otel,
}

fields! {
    /// `access`, which tells a line from one of the process log.
    Log = "log" Usual,
    /// End of the request.
    Time = "time" Usual,
    /// Id that was sent as `X-Request-Id`.
    RequestId = "request_id" Usual,
    /// Trace that the request belongs to.
    TraceId = "trace_id" Usual,
    /// Part of the trace that sent the request.
    ParentId = "parent_id" Usual,
    /// Client, as found behind trusted proxies.
    Client = "client" Usual,
    /// Other end of the connection.
    Peer = "peer" Usual,
    /// Version of TLS.
    TlsVersion = "tls_version" Usual,
    /// Cipher suite.
    TlsCipher = "tls_cipher" Usual,
    /// Host name of the handshake.
    Sni = "sni" Usual,
    /// Protocol with its version.
    Protocol = "protocol" Usual,
    /// Method as received.
    Method = "method" Usual,
    /// Path as received, without query.
    Path = "path" Usual,
    /// Bucket that the path was routed to.
    Bucket = "bucket" Usual,
    /// Source of its credentials.
    Credentials = "credentials" Usual,
    /// Status of the response.
    Status = "status" Usual,
    /// Code of a response of the proxy's own.
    Code = "code" Usual,
    /// Reason why the token was refused.
    AuthReason = "auth_reason" Usual,
    /// Body bytes sent.
    Bytes = "bytes" Usual,
    /// Time from the end of the head to the end of the response.
    DurationMs = "duration_ms" Usual,
    /// Time from the request to S3 to its response.
    UpstreamMs = "upstream_ms" Usual,
    /// Generation that served it.
    Generation = "generation" Usual,
    /// `sub` of the token.
    Sub = "sub" Usual,
    /// Set if the response was cut short.
    Aborted = "aborted" Usual,
    /// Host that was asked, with its port where one was named.
    Host = "host" More of HEAD,
    /// `User-Agent`.
    UserAgent = "user_agent" More of HEAD,
    /// `Referer`, without query.
    Referer = "referer" More of HEAD,
    /// `X-Forwarded-For`, as received.
    XForwardedFor = "x_forwarded_for" More of HEAD,
    /// `Range`.
    Range = "range" More of HEAD,
    /// Address of S3 that was asked last.
    UpstreamAddress = "upstream_address" More of UPSTREAM,
    /// Status of S3's last response.
    UpstreamStatus = "upstream_status" More of UPSTREAM,
    /// Times that S3 was asked.
    Attempts = "attempts" More of UPSTREAM,
    /// `x-amz-request-id` of S3's last response.
    S3RequestId = "s3_request_id" More of UPSTREAM,
    /// Time from the end of the head to the first byte of the response.
    TtfbMs = "ttfb_ms" More of FIRST_BYTE,
    /// Id of the key that verified the token.
    Kid = "kid" More of KEY_ID,
    /// Side that cut the response short.
    AbortedBy = "aborted_by" More,
    /// Address of the client, without port.
    OtelClientAddress = "client.address" Otel,
    /// Its port.
    OtelClientPort = "client.port" Otel,
    /// Address of the other end of the connection, without port.
    OtelPeerAddress = "network.peer.address" Otel,
    /// Its port.
    OtelPeerPort = "network.peer.port" Otel,
    /// `http`.
    OtelProtocolName = "network.protocol.name" Otel,
    /// `1.0`, `1.1` or `2`.
    OtelProtocolVersion = "network.protocol.version" Otel,
    /// `1.2` or `1.3`.
    OtelTlsVersion = "tls.protocol.version" Otel,
    /// Cipher suite.
    OtelTlsCipher = "tls.cipher" Otel,
    /// Host name of the handshake.
    OtelSni = "tls.client.server_name" Otel,
    /// Method, if it is a registered one; else `_OTHER`.
    OtelMethod = "http.request.method" Otel,
    /// Method as received, if it is another one.
    OtelMethodOriginal = "http.request.method_original" Otel,
    /// `http` or `https`.
    OtelScheme = "url.scheme" Otel,
    /// Path as received, without query.
    OtelPath = "url.path" Otel,
    /// Prefix of the bucket that the path was routed to.
    OtelRoute = "http.route" Otel of HEAD,
    /// Host that was asked.
    OtelServerAddress = "server.address" Otel of HEAD,
    /// Its port, where one was named.
    OtelServerPort = "server.port" Otel of HEAD,
    /// Status of the response, if there was one.
    OtelStatus = "http.response.status_code" Otel,
    /// Body bytes sent.
    OtelBodySize = "http.response.body.size" Otel,
    /// Code of a failure, or its status.
    OtelErrorType = "error.type" Otel,
    /// `User-Agent`.
    OtelUserAgent = "user_agent.original" Otel of HEAD,
    /// `Referer`, without query.
    OtelReferer = "http.request.header.referer" Otel of HEAD,
    /// `Range`.
    OtelRange = "http.request.header.range" Otel of HEAD,
    /// `X-Forwarded-For`, as received.
    OtelXForwardedFor = "http.request.header.x-forwarded-for" Otel of HEAD,
    /// `x-amz-request-id` of S3's last response.
    OtelAwsRequestId = "aws.request_id" Otel of UPSTREAM,
}

impl Field {
    /// The field of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// Returns true if it is in a line unless it is taken away.
    pub fn is_usual(self) -> bool {
        self.kind() == Kind::Usual
    }

    /// Returns true if its name is one of OpenTelemetry's semantic conventions.
    pub fn is_otel(self) -> bool {
        self.kind() == Kind::Otel
    }

    /// The fields of a line from which nothing is taken.
    pub fn usual() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|field| field.is_usual())
    }
}

/// Facts that are noted while a request is served, because a line has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs(u8);

impl Needs {
    /// Nothing but what every record has.
    pub const NOTHING: Self = Self(0);
    /// Fields of the request's head.
    pub const HEAD: Self = Self(1);
    /// The attempts to get a response of S3.
    pub const UPSTREAM: Self = Self(2);
    /// The time of the response's first byte.
    pub const FIRST_BYTE: Self = Self(4);
    /// The id of the key that verified the token.
    pub const KEY_ID: Self = Self(8);

    /// All that these fields need.
    pub fn of(fields: impl IntoIterator<Item = Field>) -> Self {
        Self(fields.into_iter().fold(0, |all, field| all | field.need().0))
    }

    /// Returns true if one of `some` is among them.
    pub const fn has(self, some: Self) -> bool {
        self.0 & some.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_the_usual_fields_come_first() {
        for (place, field) in Field::ALL.iter().enumerate() {
            assert_eq!(Field::named(field.name()), Some(*field));
            let before = &Field::ALL[..place];
            assert!(before.iter().all(|other| other.name() != field.name()), "{field:?}");
            assert!(!field.is_usual() || before.iter().all(|other| other.is_usual()), "{field:?}");
        }
        assert_eq!(Field::named("nobody"), None);
    }

    #[test]
    fn the_documentation_has_every_field() {
        let page = include_str!("../../../docs/METRICS.md");
        let (_, section) = page.split_once("### More fields\n").unwrap();
        let (section, _) = section.split_once("### Formats\n").unwrap();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| "));
        let names = rows.filter_map(|row| row.split_once(" |")).flat_map(|row| row.0.split(", "));
        let names = names.filter(|name| !["Field", "OpenTelemetry"].contains(name));
        let documented: Vec<_> = names.collect();
        let more: Vec<_> =
            Field::ALL.iter().filter(|field| !field.is_usual()).map(|field| field.name()).collect();
        assert_eq!(documented, more);
    }

    #[test]
    fn the_usual_fields_need_nothing() {
        assert_eq!(Needs::of(Field::usual()), Needs::NOTHING);
        assert!(Needs::of([Field::Kid, Field::Host]).has(Needs::KEY_ID));
        assert!(!Needs::of([Field::Kid, Field::Host]).has(Needs::UPSTREAM));
    }
}
