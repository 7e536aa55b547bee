//! Properties that requests and responses share, and the methods.

/// Protocol version of a message (RFC 9112 section 2.3). Others are refused, and the parsers of
/// this module never give [`Version::Http2`]: it is for a message that is read in the form of
/// HTTP/1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// The protocol with its version, as logs name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    /// The version as `Via` has it (RFC 9110 section 7.6.3), and the space behind it.
    pub(super) const fn in_via(self) -> &'static [u8] {
        match self {
            Self::Http10 => b"1.0 ",
            Self::Http11 => b"1.1 ",
            Self::Http2 => b"2 ",
        }
    }
}

/// State of a head after a call to its parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head is complete and has been written to the caller's struct.
    Complete,
    /// More bytes are needed: append them to the same buffer and call again with all of it.
    Partial,
}

/// A request method, as far as it matters here. Names are case-sensitive
/// (RFC 9110 section 9.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// GET
    #[default]
    Get,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// Any other, CONNECT and TRACE among them; none is served.
    /// [`RequestHead::method_span`](super::RequestHead::method_span) has its name.
    Other,
}
