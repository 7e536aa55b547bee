//! Failures between this proxy and S3: the one place where they become a metric label, a fault for
//! the client, and a decision to try again.

use std::{fmt, io, net::SocketAddr};

use crate::{
    model::Fault,
    system::{listener::is_exhausted, reactor::CloseReason},
    telemetry::labels::UpstreamErrorReason,
};

/// A request to S3 that failed.
#[derive(Debug)]
pub(crate) struct UpstreamError {
    kind: Kind,
    phase: Phase,
    /// True if the connection had served a request before.
    reused: bool,
    detail: Option<Box<Detail>>,
}

/// The cause of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The host name has no address.
    NoAddress,
    /// The connection could not be established.
    Refused,
    /// This process or system has no descriptor or memory left for a socket.
    OutOfDescriptors,
    /// The TLS handshake failed.
    Handshake,
    /// The time of the phase has passed.
    TimedOut,
    /// The connection was reset, or failed in another way.
    Reset,
    /// The connection ended before the message did.
    Truncated,
    /// The response breaks RFC 9112.
    Malformed,
    /// A 408 (RFC 9110 section 15.5.9) on a connection that had been idle: the server gave up
    /// waiting for a request before this one arrived.
    IdleTooLong,
    /// S3 refused the proxy's key, token or signature.
    Credentials,
    /// The proxy's clock is wrong, according to S3.
    ClockSkew,
    /// Nobody waits for the response any more. S3 is not at fault.
    ClientGone,
}

/// The part of a request that a failure ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// TCP connect.
    Connect,
    /// TLS handshake.
    Tls,
    /// Nothing has come back yet.
    Send,
    /// Nothing but interim responses (1xx) has come back.
    Interim,
    /// The response has started.
    Head,
    /// The head was complete.
    Body,
}

#[derive(Debug)]
struct Detail {
    address: SocketAddr,
    error: Option<io::Error>,
}

impl UpstreamError {
    pub(crate) fn new(kind: Kind, phase: Phase) -> Self {
        Self { kind, phase, reused: false, detail: None }
    }

    /// A failure of an established connection, from what ended it on this side if anything did.
    pub(crate) fn ended(ended: CloseReason, otherwise: Kind, phase: Phase) -> Self {
        let kind = match ended {
            CloseReason::Open => otherwise,
            CloseReason::Deadline => Kind::TimedOut,
            CloseReason::ClientGone => Kind::ClientGone,
        };
        Self::new(kind, phase)
    }

    /// A failure to establish a connection to `address`.
    pub(crate) fn connecting(address: SocketAddr, phase: Phase, error: io::Error) -> Self {
        let kind = match (error.kind(), phase) {
            _ if is_exhausted(&error) => Kind::OutOfDescriptors,
            (io::ErrorKind::ConnectionAborted, Phase::Connect | Phase::Tls) => Kind::ClientGone,
            (io::ErrorKind::TimedOut, _) => Kind::TimedOut,
            (_, Phase::Tls) => Kind::Handshake,
            _ => Kind::Refused,
        };
        let detail = Some(Box::new(Detail { address, error: Some(error) }));
        Self { detail, ..Self::new(kind, phase) }
    }

    /// The same of a connection to `address`, which had served a request before or not.
    #[must_use]
    pub(crate) fn of(self, address: SocketAddr, reused: bool) -> Self {
        Self { reused, detail: Some(Box::new(Detail { address, error: None })), ..self }
    }

    /// Returns true if the request may be sent once more, on a fresh connection: one that had been
    /// idle ended before a byte of the response (RFC 9112 section 9.3.1), or with a 408. S3 has not
    /// seen the request, or will not respond to it.
    pub(crate) fn is_retryable(&self) -> bool {
        let stale = matches!(self.kind, Kind::Reset | Kind::Truncated) && self.phase == Phase::Send;
        self.reused && (stale || self.kind == Kind::IdleTooLong)
    }

    /// Returns true if nobody waits for the response.
    pub(crate) fn is_client_gone(&self) -> bool {
        self.kind == Kind::ClientGone
    }

    /// Returns true if closing something may help.
    pub(crate) fn is_out_of_descriptors(&self) -> bool {
        self.kind == Kind::OutOfDescriptors
    }

    /// Returns true if another address of the endpoint may do better: this one took the connection
    /// and then gave no response.
    pub(crate) fn is_of_address(&self) -> bool {
        let silent = matches!(self.kind, Kind::TimedOut | Kind::Reset | Kind::Truncated);
        silent && self.phase == Phase::Send && !self.reused
    }

    /// Label `reason` of `yatagarasu_upstream_errors_total`; none when S3 did nothing wrong.
    pub(crate) fn reason(&self) -> Option<UpstreamErrorReason> {
        Some(match self.kind {
            Kind::NoAddress => UpstreamErrorReason::NoAddress,
            Kind::Refused => UpstreamErrorReason::Refused,
            Kind::OutOfDescriptors => UpstreamErrorReason::OutOfDescriptors,
            Kind::Handshake => UpstreamErrorReason::Tls,
            Kind::TimedOut => match self.phase {
                Phase::Connect | Phase::Tls => UpstreamErrorReason::ConnectTimeout,
                Phase::Send | Phase::Interim => UpstreamErrorReason::FirstByteTimeout,
                Phase::Head => UpstreamErrorReason::HeadTimeout,
                Phase::Body => UpstreamErrorReason::ReadTimeout,
            },
            Kind::Reset | Kind::IdleTooLong => UpstreamErrorReason::Reset,
            Kind::Truncated => match self.phase {
                // Nothing had started that could have been cut short.
                Phase::Send => UpstreamErrorReason::Reset,
                _ => UpstreamErrorReason::Truncated,
            },
            Kind::Malformed => UpstreamErrorReason::Protocol,
            Kind::Credentials => UpstreamErrorReason::Credentials,
            Kind::ClockSkew => UpstreamErrorReason::ClockSkew,
            Kind::ClientGone => return None,
        })
    }

    /// The response that the client gets when nothing was sent to it yet; none when it is gone.
    pub(crate) fn fault(&self) -> Option<Fault> {
        Some(match self.kind {
            Kind::NoAddress | Kind::Refused | Kind::Handshake => Fault::UpstreamRefused,
            Kind::OutOfDescriptors => Fault::OutOfDescriptors,
            Kind::TimedOut => Fault::UpstreamTimeout,
            Kind::Reset | Kind::Truncated | Kind::Malformed | Kind::IdleTooLong => {
                Fault::UpstreamProtocol
            }
            Kind::Credentials | Kind::ClockSkew => Fault::UpstreamCredentials,
            Kind::ClientGone => return None,
        })
    }

    /// The address that it happened at, where that is known.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.detail.as_ref().map(|detail| detail.address)
    }

    /// The kernel's number of the error, where there is one (`errno(3)`).
    pub(crate) fn errno(&self) -> Option<i32> {
        self.detail.as_ref()?.error.as_ref()?.raw_os_error()
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.phase {
            Phase::Connect => "connecting",
            Phase::Tls => "TLS handshake",
            Phase::Send => "waiting for the response",
            Phase::Interim => "waiting for the final response",
            Phase::Head => "reading the head of the response",
            Phase::Body => "reading the body of the response",
        };
        let cause = self.detail.as_ref().and_then(|detail| detail.error.as_ref());
        match (cause, self.kind) {
            (Some(cause), _) => write!(f, "{doing}: {cause}"),
            (None, Kind::NoAddress) => f.write_str("the host name has no address"),
            (None, kind) => {
                let what = match kind {
                    Kind::TimedOut => "timed out",
                    Kind::Malformed => "it is malformed",
                    Kind::Truncated => "the connection ended",
                    Kind::Reset => "the connection failed",
                    Kind::IdleTooLong => "408 on an idle connection",
                    Kind::Credentials => "S3 refused the credentials",
                    Kind::ClockSkew => "S3 refused the clock",
                    Kind::ClientGone => "the client is gone",
                    Kind::NoAddress | Kind::Refused | Kind::OutOfDescriptors | Kind::Handshake => {
                        "failed"
                    }
                };
                write!(f, "{doing}: {what}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

    fn reason(kind: Kind, phase: Phase) -> &'static str {
        UpstreamError::new(kind, phase).reason().map_or("", UpstreamErrorReason::label)
    }

    #[test]
    fn a_timeout_is_named_after_what_did_not_come_in_time() {
        for (phase, label) in [
            (Phase::Connect, "connect_timeout"),
            (Phase::Tls, "connect_timeout"),
            (Phase::Send, "first_byte_timeout"),
            (Phase::Interim, "first_byte_timeout"),
            (Phase::Head, "head_timeout"),
            (Phase::Body, "read_timeout"),
        ] {
            assert_eq!(reason(Kind::TimedOut, phase), label);
        }
    }

    #[test]
    fn only_a_reused_connection_without_a_byte_of_a_response_may_be_replaced() {
        let phases = [Phase::Send, Phase::Interim, Phase::Head, Phase::Body];
        for kind in [Kind::Reset, Kind::Truncated, Kind::TimedOut, Kind::Malformed] {
            for phase in phases {
                let stale = matches!(kind, Kind::Reset | Kind::Truncated) && phase == Phase::Send;
                let error = |reused| UpstreamError::new(kind, phase).of(ADDRESS, reused);
                assert!(!error(false).is_retryable(), "{kind:?} {phase:?}");
                assert_eq!(error(true).is_retryable(), stale, "{kind:?} {phase:?}");
            }
        }
        assert!(
            UpstreamError::new(Kind::IdleTooLong, Phase::Head).of(ADDRESS, true).is_retryable()
        );
    }

    #[test]
    fn what_the_kernel_refuses_for_want_of_descriptors_or_memory_is_not_the_servers_fault() {
        for errno in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let error = io::Error::from_raw_os_error(errno);
            let error = UpstreamError::connecting(ADDRESS, Phase::Connect, error);
            assert_eq!(error.fault(), Some(Fault::OutOfDescriptors));
            assert_eq!(error.errno(), Some(errno));
        }
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let refused = UpstreamError::connecting(ADDRESS, Phase::Connect, refused);
        assert_eq!(refused.fault(), Some(Fault::UpstreamRefused));
        assert_eq!(refused.to_string(), "connecting: Connection refused (os error 111)");
    }
}
