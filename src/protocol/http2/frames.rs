//! The frames of a client, by their heads (RFC 9113 section 4.1): enough to count them, and to see
//! whether something that was started is still to be completed. Payloads are passed over.

use super::preface::PREFACE;

/// Length of the head of a frame, in bytes.
const HEAD_BYTES: usize = 9;

const END_HEADERS: u8 = 0x4;
const ACK: u8 = 0x1;

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
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Its type.
    pub kind: FrameKind,
    /// Length of the payload, in bytes.
    pub length: u32,
    /// True for an acknowledgement, if the type is one that has them.
    pub is_ack: bool,
}

/// The place in what a client sends, and what is open there.
#[derive(Clone, Debug)]
pub struct FrameScan {
    preface_left: usize,
    head: [u8; HEAD_BYTES],
    filled: usize,
    payload_left: u32,
    /// Set while the payload is a part of a field section.
    in_fields: bool,
    /// Set if the field section goes on in another frame.
    continues: bool,
    sections: u64,
    has_settings: bool,
}

impl Default for FrameScan {
    /// The beginning of a connection: the preface comes first.
    fn default() -> Self {
        Self {
            preface_left: PREFACE.len(),
            head: [0; HEAD_BYTES],
            filled: 0,
            payload_left: 0,
            in_fields: false,
            continues: false,
            sections: 0,
            has_settings: false,
        }
    }
}

impl FrameScan {
    /// Goes on over the next bytes, and calls `each` with the head of every frame that begins in
    /// them.
    pub fn advance(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHead)) {
        let of_preface = self.preface_left.min(bytes.len());
        self.preface_left -= of_preface;
        bytes = bytes.get(of_preface..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let left = usize::try_from(self.payload_left).unwrap_or(usize::MAX);
                let passed = left.min(bytes.len());
                self.payload_left -= u32::try_from(passed).unwrap_or(u32::MAX);
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            let taken = (HEAD_BYTES - self.filled).min(bytes.len());
            let (head, rest) = bytes.split_at(taken);
            if let Some(room) = self.head.get_mut(self.filled..self.filled + taken) {
                room.copy_from_slice(head);
            }
            self.filled += taken;
            bytes = rest;
            if self.filled == HEAD_BYTES {
                self.filled = 0;
                each(self.begin_frame());
            }
        }
    }

    fn begin_frame(&mut self) -> FrameHead {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let kind = FrameKind::of(kind);
        self.payload_left = length;
        self.in_fields = matches!(kind, FrameKind::Headers | FrameKind::Continuation);
        if self.in_fields {
            if kind == FrameKind::Headers {
                self.sections += 1;
            }
            self.continues = flags & END_HEADERS == 0;
        }
        self.has_settings |= kind == FrameKind::Settings;
        let has_acks = matches!(kind, FrameKind::Settings | FrameKind::Ping);
        FrameHead { kind, length, is_ack: has_acks && flags & ACK != 0 }
    }

    /// Number of the field section of which a part is still to come, if there is one. The head of a
    /// frame that has started may become one.
    pub fn open_section(&self) -> Option<u64> {
        let is_open = self.continues || (self.in_fields && self.payload_left > 0);
        (is_open || self.filled > 0).then_some(self.sections)
    }

    /// Returns true once the first settings have started, which must come first (RFC 9113 section
    /// 3.4).
    pub fn has_settings(&self) -> bool {
        self.has_settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn heads(scan: &mut FrameScan, bytes: &[u8]) -> Vec<FrameHead> {
        let mut heads = Vec::new();
        scan.advance(bytes, |head| heads.push(head));
        heads
    }

    #[test]
    fn frames_are_found_however_their_bytes_are_cut() {
        let mut bytes = PREFACE.to_vec();
        for (kind, flags, length) in
            [(4, 0, 6), (4, 1, 0), (6, 1, 8), (1, 5, 300), (0, 0, 20), (3, 0, 4), (77, 0xff, 1)]
        {
            bytes.extend(frame(kind, flags, &vec![0xff; length]));
        }
        let expected: Vec<_> = [
            (FrameKind::Settings, 6, false),
            (FrameKind::Settings, 0, true),
            (FrameKind::Ping, 8, true),
            (FrameKind::Headers, 300, false),
            (FrameKind::Data, 20, false),
            (FrameKind::RstStream, 4, false),
            (FrameKind::Other, 1, false),
        ]
        .map(|(kind, length, is_ack)| FrameHead { kind, length, is_ack })
        .into();
        for size in [1, 2, 7, 8, 9, 10, 100, bytes.len()] {
            let mut scan = FrameScan::default();
            let found: Vec<_> =
                bytes.chunks(size).flat_map(|part| heads(&mut scan, part)).collect();
            assert_eq!(found, expected, "{size}");
            assert!(scan.has_settings() && scan.open_section().is_none());
        }
    }

    #[test]
    fn a_field_section_is_open_until_its_last_byte() {
        let mut scan = FrameScan::default();
        heads(&mut scan, PREFACE);
        assert_eq!(scan.open_section(), None);
        let whole = frame(1, 4, b"fields");
        heads(&mut scan, &whole[..3]);
        assert_eq!(scan.open_section(), Some(0), "it may be one");
        heads(&mut scan, &whole[3..12]);
        assert_eq!(scan.open_section(), Some(1));
        heads(&mut scan, &whole[12..]);
        assert_eq!(scan.open_section(), None);
        // In three frames, of which the second is empty.
        heads(&mut scan, &frame(1, 0, b"fi"));
        assert_eq!(scan.open_section(), Some(2));
        heads(&mut scan, &frame(9, 0, b""));
        assert_eq!(scan.open_section(), Some(2));
        heads(&mut scan, &frame(9, 4, b"elds"));
        assert_eq!(scan.open_section(), None);
        // A body that has stopped is something else.
        heads(&mut scan, &frame(0, 0, b"body")[..10]);
        assert_eq!(scan.open_section(), None);
    }
}
