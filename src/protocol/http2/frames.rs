//! The heads of frames (RFC 9113 section 4.1), their flags, and the codes of errors.

/// Length of the head of a frame, in bytes.
pub const FRAME_HEAD_BYTES: usize = 9;

/// Flag of DATA and HEADERS: the stream ends with it.
pub const END_STREAM: u8 = 0x1;
/// Flag of HEADERS and CONTINUATION: the field section ends with it.
pub const END_HEADERS: u8 = 0x4;
/// Flag of SETTINGS and PING: it answers one.
pub const ACK: u8 = 0x1;
/// Flag of DATA and HEADERS: padding follows.
const PADDED: u8 = 0x8;
/// Flag of HEADERS: advice that nobody follows any more comes first.
const PRIORITY: u8 = 0x20;

/// Length of that advice, in bytes.
const PRIORITY_BYTES: usize = 5;

/// Type of a frame (RFC 9113 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A part of a body.
    Data,
    /// The beginning of a field section.
    Headers,
    /// Advice that nobody follows any more.
    Priority,
    /// The end of a stream before its time.
    RstStream,
    /// Settings, or that they were taken over.
    Settings,
    /// Announces a stream of a server, which a client may not send (RFC 9113 section 8.4).
    PushPromise,
    /// Asks for an answer, or is one.
    Ping,
    /// The end of the connection is near.
    GoAway,
    /// Lets the other side send more.
    WindowUpdate,
    /// More of a field section.
    Continuation,
    /// A type that is not known.
    Other,
}

impl FrameKind {
    const fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Other,
        }
    }

    /// Returns true if the payload is a part of a field section.
    pub const fn is_fields(self) -> bool {
        matches!(self, Self::Headers | Self::Continuation)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Its type.
    pub kind: FrameKind,
    /// Its flags.
    pub flags: u8,
    /// Length of the payload, in bytes.
    pub length: u32,
    /// Its stream, or 0 for the connection.
    pub stream: u32,
}

impl FrameHead {
    /// The head that these bytes begin with.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [high, middle, low, kind, flags, a, b, c, d, ..] = *bytes else { return None };
        Some(Self {
            kind: FrameKind::of(kind),
            flags,
            length: u32::from_be_bytes([0, high, middle, low]),
            // The first bit is reserved.
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
        })
    }

    /// Its bytes. The type must be a known one, and the length one that a frame may have.
    pub fn bytes(self) -> [u8; FRAME_HEAD_BYTES] {
        debug_assert!(self.kind != FrameKind::Other && self.length < 1 << 24);
        let [_, high, middle, low] = self.length.to_be_bytes();
        let [a, b, c, d] = self.stream.to_be_bytes();
        [high, middle, low, self.kind as u8, self.flags, a, b, c, d]
    }

    /// Returns true if a flag is set.
    pub const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns true for an acknowledgement, if the type is one that has them.
    pub const fn is_ack(self) -> bool {
        matches!(self.kind, FrameKind::Settings | FrameKind::Ping) && self.has(ACK)
    }

    /// The payload without padding and advice, of DATA and HEADERS.
    ///
    /// # Errors
    /// It has no room for them, or more padding than payload.
    pub fn content(self, payload: &[u8]) -> Result<&[u8], Code> {
        let mut content = payload;
        let mut padding = 0;
        if self.has(PADDED) {
            let (length, rest) = content.split_first().ok_or(Code::FRAME_SIZE_ERROR)?;
            (padding, content) = (usize::from(*length), rest);
        }
        if self.kind == FrameKind::Headers && self.has(PRIORITY) {
            content = content.get(PRIORITY_BYTES..).ok_or(Code::FRAME_SIZE_ERROR)?;
        }
        let length = content.len().checked_sub(padding).ok_or(Code::PROTOCOL_ERROR)?;
        content.get(..length).ok_or(Code::PROTOCOL_ERROR)
    }
}

/// The number that these bytes begin with.
pub fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// An error code (RFC 9113 section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

#[expect(missing_docs, reason = "the names are those of the specification")]
impl Code {
    pub const NO_ERROR: Self = Self(0x0);
    pub const PROTOCOL_ERROR: Self = Self(0x1);
    pub const INTERNAL_ERROR: Self = Self(0x2);
    pub const FLOW_CONTROL_ERROR: Self = Self(0x3);
    pub const SETTINGS_TIMEOUT: Self = Self(0x4);
    pub const STREAM_CLOSED: Self = Self(0x5);
    pub const FRAME_SIZE_ERROR: Self = Self(0x6);
    pub const REFUSED_STREAM: Self = Self(0x7);
    pub const CANCEL: Self = Self(0x8);
    pub const COMPRESSION_ERROR: Self = Self(0x9);
    pub const ENHANCE_YOUR_CALM: Self = Self(0xb);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: FrameKind, flags: u8) -> FrameHead {
        FrameHead { kind, flags, length: 0x01_0203, stream: 0x7fff_fffe }
    }

    #[test]
    fn heads_come_back() {
        for byte in 0..=9 {
            let head = head(FrameKind::of(byte), 0x2d);
            let bytes = head.bytes();
            assert_eq!(bytes, [1, 2, 3, byte, 0x2d, 0x7f, 0xff, 0xff, 0xfe]);
            assert_eq!(FrameHead::read(&bytes), Some(head));
            assert_eq!(FrameHead::read(&bytes[..8]), None);
        }
        let reserved = FrameHead::read(&[0, 0, 0, 0xfa, 0, 0xff, 0xff, 0xff, 0xff]).unwrap();
        assert_eq!((reserved.kind, reserved.stream), (FrameKind::Other, 0x7fff_ffff));
    }

    #[test]
    fn content_is_without_padding_and_advice() {
        use FrameKind::{Data, Headers};
        for (kind, flags, payload, expected) in [
            (Data, 0, &b"body"[..], Ok(&b"body"[..])),
            (Data, PADDED, b"\x02body..", Ok(b"body")),
            (Data, PADDED, b"\x04body", Ok(b"")),
            (Data, PADDED, b"\x05body", Err(Code::PROTOCOL_ERROR)),
            (Data, PADDED, b"", Err(Code::FRAME_SIZE_ERROR)),
            (Data, PRIORITY, b"body", Ok(b"body")),
            (Headers, PRIORITY, b"12345fields", Ok(b"fields")),
            (Headers, PRIORITY, b"1234", Err(Code::FRAME_SIZE_ERROR)),
            (Headers, PRIORITY | PADDED, b"\x0212345fields..", Ok(b"fields")),
            (Headers, PRIORITY | PADDED, b"\x0112345", Err(Code::PROTOCOL_ERROR)),
        ] {
            assert_eq!(
                head(kind, flags).content(payload),
                expected,
                "{kind:?} {flags} {payload:?}"
            );
        }
    }
}
