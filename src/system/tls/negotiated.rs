//! The outcome of a handshake with a client: what was agreed on, or the reason why nothing was.

use std::io;

use rustls::{
    CipherSuite, CommonState, Error, HandshakeKind, InvalidMessage, PeerIncompatible,
    ProtocolVersion,
};

/// Names of protocols in ALPN (RFC 7301 section 6, RFC 9113 section 3.2).
pub(super) const HTTP_1_1: &[u8] = b"http/1.1";
pub(super) const HTTP_2: &[u8] = b"h2";

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// The protocol that a client chose with ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// It chose none.
    None,
    /// `http/1.1`
    Http11,
    /// `h2`
    Http2,
}

/// Everything that was agreed on with a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// Version of TLS.
    pub version: TlsVersion,
    /// Name of the cipher suite in IANA's registry.
    pub cipher: &'static str,
    /// The host name that the client asked for (RFC 6066 section 3), in lower case.
    pub sni: Option<Box<str>>,
    /// The protocol within.
    pub alpn: Alpn,
    /// True if an earlier session was resumed.
    pub resumed: bool,
}

impl Negotiated {
    /// That of a connection that has shaken hands.
    pub(super) fn of(connection: &CommonState, sni: Option<Box<str>>) -> Self {
        Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            cipher: connection.negotiated_cipher_suite().map_or("", |suite| name_of(suite.suite())),
            sni,
            alpn: match connection.alpn_protocol() {
                Some(HTTP_2) => Alpn::Http2,
                Some(_) => Alpn::Http11,
                None => Alpn::None,
            },
            resumed: Self::is_resumed(connection),
        }
    }

    pub(super) fn is_resumed(connection: &CommonState) -> bool {
        connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// The name in IANA's registry; empty for a suite that is never chosen.
fn name_of(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        _ => suite.as_str().unwrap_or_default(),
    }
}

/// The reason why a handshake with a client failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// It was not over in time, or not before the process ended.
    Timeout,
    /// The client closed the connection.
    Closed,
    /// The first bytes are not those of TLS.
    NotTls,
    /// No version in common.
    Version,
    /// No cipher suite, group or signature in common.
    Cipher,
    /// No protocol in common.
    Protocol,
    /// The client has shown no certificate.
    CertificateMissing,
    /// The client's certificate is not good.
    CertificateRefused,
    /// The client says that it does not go on, because of our certificate above all.
    Alert,
    /// A message that breaks the rules.
    Malformed,
}

impl HandshakeFailure {
    /// The reason for an error of a handshake.
    pub(in crate::system) fn of(error: &io::Error) -> Self {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return Self::of_tls(error);
        }
        match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::ConnectionAborted => Self::Timeout,
            io::ErrorKind::InvalidData => Self::Malformed,
            _ => Self::Closed,
        }
    }

    fn of_tls(error: &Error) -> Self {
        match error {
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => Self::Version,
            Error::PeerIncompatible(_) => Self::Cipher,
            Error::NoApplicationProtocol => Self::Protocol,
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::InvalidCertificate(_) => Self::CertificateRefused,
            Error::AlertReceived(_) => Self::Alert,
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            ) => Self::NotTls,
            _ => Self::Malformed,
        }
    }
}
