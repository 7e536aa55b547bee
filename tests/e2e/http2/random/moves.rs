//! What a client may do: moves of a case, and how often each of them is made.

use proptest::{
    collection::{SizeRange, vec},
    option,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::{Index, select},
};

use super::{BODY_BYTES_MAX, FRAME_BYTES_MAX, PADDED, WINDOW};
use crate::support::http2_frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW, PING,
    PRIORITY, RST_STREAM, SETTINGS, TABLE_SIZE, WINDOW_UPDATE, fields, frame, get, settings,
};

const PUSH_PROMISE: u8 = 5;
const WITH_PRIORITY: u8 = 0x20;

/// A stream by its place in the case.
#[derive(Clone, Debug)]
pub(super) enum Which {
    Connection,
    /// One that was begun, if there is one, else the next.
    Begun(Index),
    Next,
    Even,
    Idle,
}

/// A frame, or one with so many bytes of nothing.
#[derive(Clone, Debug)]
pub(super) struct Sent<T> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: Which,
    pub(super) payload: T,
}

/// Something that a client does.
#[derive(Clone, Debug)]
pub(super) enum Move {
    Ask(Ask),
    /// A request that is none, by its number in [`malformed`].
    Malformed(Index),
    Body {
        stream: Index,
        length: usize,
        padding: Option<u8>,
        ends: bool,
    },
    Trailers {
        stream: Index,
        is_right: bool,
    },
    Reset(Index),
    Widen {
        stream: Option<Index>,
        by: u32,
    },
    Settings(Vec<(u16, u32)>),
    Ping,
    PingAnswer([u8; 8]),
    Priority {
        stream: Which,
        on: Which,
        bytes: usize,
    },
    Unknown(Sent<usize>),
    /// Sends what is there, and reads until a ping is answered.
    Wait,
    /// Gets everything that was asked for.
    Finish,
    /// A section that was changed at a place.
    Changed(Index, u8),
    Section(Vec<u8>),
    /// A request on a stream that is not new, or on an even one.
    Again(Option<Index>),
    GoAway,
    /// A frame of which nobody knows what it is.
    Anything(Sent<Vec<u8>>),
    /// A frame that ends the connection.
    Broken(Sent<Vec<u8>>),
    /// The head of a frame that is too long.
    Long {
        kind: u8,
        bytes: u32,
    },
    /// A section that something else comes into.
    Interrupted(Sent<usize>),
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) skipped: u32,
    pub(super) length: usize,
    /// The first byte of each literal.
    coding: u8,
    is_dense: bool,
    padding: Option<u8>,
    has_priority: bool,
    parts: Vec<Index>,
    pub(super) has_body: bool,
}

impl Ask {
    pub(super) fn section(&self, target: &str) -> Vec<u8> {
        let literal = |coding, name, value| {
            let mut field = fields(&[(name, value)]);
            field[0] = coding;
            field
        };
        let place = [(":authority", "test"), (":path", target)];
        let [authority, path] = place.map(|(name, value)| literal(self.coding, name, value));
        if self.is_dense {
            // A table of nothing and of 4,096 bytes, GET and http of the fixed table, and a field
            // that is put into the table and repeated from there.
            let begin = [0x20, 0x3f, 0xe1, 0x1f, 0x82, 0x86];
            [&begin[..], &authority, &path, &literal(0x40, "x-a", "b"), &[0xbe]].concat()
        } else {
            let method = literal(self.coding, ":method", "GET");
            [method, literal(self.coding, ":scheme", "http"), authority, path].concat()
        }
    }

    /// The section in frames.
    pub(super) fn frames(&self, stream: u32, section: &[u8]) -> Vec<u8> {
        let mut cuts: Vec<_> = self.parts.iter().map(|cut| cut.index(section.len())).collect();
        cuts.sort_unstable();
        let has = |flag, is_set| if is_set { flag } else { 0 };
        let first = cuts.first().map_or(section, |cut| &section[..*cut]);
        let priority: &[u8] = if self.has_priority { &[0x80, 0, 0, 7, 200] } else { b"" };
        let padding = vec![0; self.padding.unwrap_or_default().into()];
        let payload = [self.padding.as_slice(), priority, first, &padding].concat();
        let flags = has(END_STREAM, !self.has_body)
            | has(END_HEADERS, cuts.is_empty())
            | has(PADDED, self.padding.is_some())
            | has(WITH_PRIORITY, self.has_priority);
        let mut out = frame(HEADERS, flags, stream, payload);
        for (at, from) in cuts.iter().enumerate() {
            let next = cuts.get(at + 1);
            let part = &section[*from..*next.unwrap_or(&section.len())];
            out.extend(frame(CONTINUATION, has(END_HEADERS, next.is_none()), stream, part));
        }
        out
    }
}

/// Sections that HTTP/2 forbids.
pub(super) fn malformed(target: &str) -> Vec<Vec<u8>> {
    let good = get(target);
    let with = |name, value| [&good[..], &fields(&[(name, value)])].concat();
    vec![
        fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "test")]),
        with(":path", target),
        with(":status", "200"),
        with("Range", "bytes=0-1"),
        with("connection", "close"),
        with("te", "gzip"),
        with("a", "b\r\nc: d"),
        with("host", "other"),
        with("content-length", "5"),
    ]
}

fn stream() -> impl Strategy<Value = Which> {
    prop_oneof![
        3 => any::<Index>().prop_map(Which::Begun),
        1 => Just(Which::Next),
        1 => Just(Which::Even),
        1 => Just(Which::Idle),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let lengths = select(vec![0, 1, 1_000, 16_375, 16_376, 70_000, BODY_BYTES_MAX]);
    let padding = option::weighted(0.2, any::<u8>());
    let parts = prop_oneof![3 => Just(vec![]), 1 => vec(any::<Index>(), 1..4)];
    let coding = select(vec![0, 0x10, 0x40]);
    let flags = (any::<bool>(), any::<bool>(), prop_oneof![3 => Just(false), 1 => Just(true)]);
    (0..3_u32, lengths, coding, padding, parts, flags).prop_map(
        |(skipped, length, coding, padding, parts, (is_dense, has_priority, has_body))| Ask {
            skipped,
            length,
            coding,
            is_dense,
            padding,
            has_priority,
            parts,
            has_body,
        },
    )
}

/// Settings that a client may have.
fn allowed_settings() -> impl Strategy<Value = Vec<(u16, u32)>> {
    let tables = select(vec![0, 1, 4_095, 4_096, 65_536, u32::MAX]);
    let windows = select(vec![0, 0, 1, 100, 20_000, WINDOW, 1_000_000, 0x7fff_ffff]);
    let setting = prop_oneof![
        2 => (Just(TABLE_SIZE), tables),
        4 => (Just(INITIAL_WINDOW), windows),
        1 => (Just(2), 0..2_u32),
        1 => (Just(5), FRAME_BYTES_MAX..1 << 24),
        1 => (select(vec![0, 3, 6, 7, 8, 9, 0xffff]), any::<u32>()),
    ];
    vec(setting, 0..4)
}

fn sent<T: std::fmt::Debug>(
    kind: impl Strategy<Value = u8>,
    flags: impl Strategy<Value = u8>,
    stream: impl Strategy<Value = Which>,
    payload: impl Strategy<Value = T>,
) -> impl Strategy<Value = Sent<T>> {
    (kind, flags, stream, payload).prop_map(|(kind, flags, stream, payload)| Sent {
        kind,
        flags,
        stream,
        payload,
    })
}

fn bytes(length: impl Into<SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), length)
}

fn index() -> impl Strategy<Value = Index> {
    any::<Index>()
}

/// What a client may do, and what ends a stream at most.
fn usual() -> impl Strategy<Value = Move> {
    use Move::*;
    let part = (index(), 0..16_000_usize, option::weighted(0.2, any::<u8>()), any::<bool>())
        .prop_map(|(stream, length, padding, ends)| Body { stream, length, padding, ends });
    let increments = select(vec![0, 1, 10, 1_000, 20_000, 1_000_000, 0x7fff_0000, 0x7fff_ffff]);
    let unknown = sent(10..=u8::MAX, any::<u8>(), stream(), 0..=FRAME_BYTES_MAX as usize);
    prop_oneof![
        9 => ask().prop_map(Ask),
        2 => index().prop_map(Malformed),
        3 => part,
        1 => (index(), any::<bool>()).prop_map(|(stream, is_right)| Trailers { stream, is_right }),
        1 => index().prop_map(Reset),
        3 => (index(), increments.clone())
            .prop_map(|(stream, by)| Widen { stream: Some(stream), by }),
        2 => increments.prop_map(|by| Widen { stream: None, by: by.max(1) }),
        4 => allowed_settings().prop_map(Settings),
        1 => Just(Ping),
        1 => any::<[u8; 8]>().prop_map(PingAnswer),
        1 => (stream(), stream()).prop_map(|(stream, on)| Priority { stream, on, bytes: 5 }),
        1 => unknown.prop_map(Unknown),
        3 => Just(Wait),
        1 => Just(Finish),
    ]
}

/// What may end the connection, or must.
fn unusual() -> impl Strategy<Value = Move> {
    use Move::*;
    // Those of integers, of the size of the table, and of what is in it.
    let byte = prop_oneof![select(vec![0, 0x3f, 0x40, 0x7f, 0x80, 0xbe, 0xff]), any::<u8>()];
    let kind = || 0..12_u8;
    let other = kind().prop_filter("a continuation", |kind| *kind != CONTINUATION);
    let streams = || prop_oneof![1 => Just(Which::Connection), 3 => stream()];
    let priority = (stream(), stream(), select(vec![0, 4, 6]));
    prop_oneof![
        1 => (index(), any::<u8>()).prop_map(|(place, byte)| Changed(place, byte)),
        1 => vec(byte, 0..60).prop_map(Section),
        2 => option::weighted(0.7, index()).prop_map(Again),
        1 => Just(GoAway),
        1 => priority.prop_map(|(stream, on, bytes)| Priority { stream, on, bytes }),
        2 => sent(kind(), any::<u8>(), streams(), bytes(0..40)).prop_map(Anything),
        6 => broken().prop_map(Broken),
        1 => (kind(), FRAME_BYTES_MAX + 1..1 << 24).prop_map(|(kind, bytes)| Long { kind, bytes }),
        1 => sent(other, any::<u8>(), streams(), 0..20_usize).prop_map(Interrupted),
    ]
}

/// Frames that end the connection (RFC 9113 sections 4.2, 5.1 and 6).
fn broken() -> impl Strategy<Value = Sent<Vec<u8>>> {
    use Which::{Begun, Connection, Even, Idle, Next};
    const SECTION: u8 = END_HEADERS | END_STREAM;
    let flags = any::<u8>;
    let on = |which: Which| Just(which);
    let not = |right: usize| {
        bytes(0..20).prop_filter("of the right size", move |bytes| bytes.len() != right)
    };
    let not_sixes = bytes(1..20).prop_filter("of sixes", |bytes| bytes.len() % 6 != 0);
    let setting = prop_oneof![
        (Just(2), 2..=u32::MAX),
        (Just(INITIAL_WINDOW), 1_u32 << 31..=u32::MAX),
        (Just(5), prop_oneof![0..FRAME_BYTES_MAX, 1_u32 << 24..=u32::MAX]),
    ];
    let setting = setting.prop_map(|setting| settings(&[setting]).split_off(9));
    let padding = || {
        (1..=u8::MAX, bytes(0..20)).prop_map(|(padding, mut bytes)| {
            bytes.truncate(usize::from(padding) - 1);
            [&[padding], &bytes[..]].concat()
        })
    };
    let of_streams = select(vec![DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION]);
    let of_connections = select(vec![SETTINGS, PING, GOAWAY]);
    let of_begun = select(vec![DATA, RST_STREAM, WINDOW_UPDATE]);
    let nothing = select(vec![vec![0; 4], vec![0x80, 0, 0, 0]]);
    prop_oneof![
        sent(of_streams, flags(), on(Connection), bytes(0..20)),
        sent(of_connections, flags(), stream(), bytes(0..20)),
        sent(of_begun, Just(0), select(vec![Idle, Even, Next]), Just(vec![0, 0, 0, 1])),
        sent(select(vec![PUSH_PROMISE, CONTINUATION]), flags(), stream(), bytes(0..20)),
        sent(Just(SETTINGS), Just(0), on(Connection), not_sixes),
        sent(Just(SETTINGS), Just(0), on(Connection), setting),
        sent(Just(SETTINGS), Just(ACK), on(Connection), bytes(1..20)),
        sent(Just(PING), flags(), on(Connection), not(8)),
        sent(Just(GOAWAY), flags(), on(Connection), bytes(0..8)),
        sent(select(vec![RST_STREAM, WINDOW_UPDATE]), flags(), stream(), not(4)),
        sent(Just(WINDOW_UPDATE), flags(), on(Connection), nothing),
        sent(Just(DATA), Just(PADDED), index().prop_map(Begun), padding()),
        sent(Just(HEADERS), Just(PADDED | SECTION), on(Next), padding()),
        sent(Just(HEADERS), Just(WITH_PRIORITY | SECTION), on(Next), bytes(0..5)),
    ]
}

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) receive_buffer: usize,
    pub(super) settings: Vec<(u16, u32)>,
    pub(super) moves: Vec<Move>,
    /// Places where what is sent is cut.
    pub(super) cuts: Vec<Index>,
    /// A byte that is put at a place of what is sent first.
    pub(super) spoilt: Option<(Index, u8)>,
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    let moves = (vec(usual(), 1..25), option::weighted(0.6, unusual()), vec(usual(), 0..4));
    let buffers = select(vec![16_384, 1_000_000]);
    let spoilt = option::weighted(0.1, any::<(Index, u8)>());
    (buffers, allowed_settings(), moves, vec(any::<Index>(), 0..6), spoilt).prop_map(
        |(receive_buffer, settings, (first, unusual, last), cuts, spoilt)| {
            let moves = first.into_iter().chain(unusual).chain(last).collect();
            Case { receive_buffer, settings, moves, cuts, spoilt }
        },
    )
}
