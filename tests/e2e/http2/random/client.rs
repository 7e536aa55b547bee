//! A client that makes the moves of a case, and knows what each of them may lead to.

use std::collections::{BTreeMap, VecDeque};

use proptest::{prop_assert, prop_assert_eq, sample::Index, test_runner::TestCaseError};

use super::{
    BYTES, Checked, FRAME_BYTES_MAX, PADDED, STREAMS_MAX, WINDOW, World, body,
    moves::{Ask, Case, Move, Sent, Which, malformed},
};
use crate::support::http2_frames::{
    ACK, CANCEL, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, INITIAL_WINDOW, NO_ERROR,
    PING, PRIORITY, RST_STREAM, RawHttp2, SETTINGS, WINDOW_UPDATE, fields, frame, get, settings,
    window_update,
};

/// Resets by a client that are no flood in any case.
const RESETS_MAX: usize = 2 * STREAMS_MAX;

const WINDOW_MAX: i64 = (1 << 31) - 1;
/// No stream comes so far.
const IDLE: u32 = 0x7fff_fff1;
const REFUSED_STREAM: u32 = 7;

/// What the connection may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Lives,
    /// It may be told to go.
    Unknown,
    /// It must be told to go, and nothing is done any more.
    Ends,
}

/// What a stream may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// This response, whole.
    Response {
        number: usize,
        length: usize,
    },
    Reset,
    Anything,
}

/// The windows of a stream or of the connection.
#[derive(Debug)]
struct Windows {
    /// Bytes that the proxy may send; of a stream, besides the initial window.
    open: i64,
    /// Bytes that were given and not taken before.
    extra: i64,
    /// Bytes that were taken and not given back.
    owed: u32,
    /// Bytes that we may send.
    room: i64,
}

impl Windows {
    fn new(open: i64) -> Self {
        Self { open, extra: 0, owed: 0, room: WINDOW.into() }
    }

    fn widen(&mut self, by: u32) {
        self.open += i64::from(by);
        self.extra += i64::from(by);
    }

    fn receive(&mut self, length: u32) {
        self.open -= i64::from(length);
        self.owed += length;
    }

    /// Gives back what was taken, if it is so much.
    fn give_back(&mut self, least: u32) -> Option<u32> {
        let owed = (self.owed >= least).then(|| std::mem::take(&mut self.owed))?;
        self.open += i64::from(owed);
        Some(owed)
    }
}

#[derive(Debug)]
struct Begun {
    wanted: Wanted,
    /// The request is complete.
    is_asked: bool,
    has_head: bool,
    /// Bytes of the body.
    got: usize,
    is_over: bool,
    windows: Windows,
}

/// One connection, and what it may come to.
pub(super) struct Client<'w> {
    world: &'w World,
    case: &'w Case,
    connection: RawHttp2,
    /// Frames that were not sent yet.
    batch: Vec<u8>,
    spoilt: Option<(Index, u8)>,
    fate: Fate,
    /// Something was sent of which nobody knows what it is.
    is_blind: bool,
    /// It may have said that it goes.
    leaves: bool,
    streams: BTreeMap<u32, Begun>,
    newest: u32,
    resets: usize,
    windows: Windows,
    /// The initial window that was sent last, and the one that was acknowledged last.
    initial: u32,
    acknowledged: u32,
    /// Initial windows that were not acknowledged.
    settings: VecDeque<u32>,
    /// Pings that were not answered.
    pings: VecDeque<Vec<u8>>,
    sent_pings: u64,
    /// The code that it was told to go with.
    goaway: Option<u32>,
    pub(super) has_ended: bool,
}

impl<'w> Client<'w> {
    pub(super) fn begin(world: &'w World, case: &'w Case) -> Self {
        let (address, buffer) = (world.proxy.address(), case.receive_buffer);
        let mut client = Self {
            world,
            case,
            connection: RawHttp2::with_receive_buffer(address, buffer, &case.settings),
            batch: Vec::new(),
            spoilt: case.spoilt,
            fate: Fate::Lives,
            is_blind: false,
            leaves: false,
            streams: BTreeMap::new(),
            newest: 0,
            resets: 0,
            windows: Windows::new(WINDOW.into()),
            initial: WINDOW,
            acknowledged: WINDOW,
            settings: VecDeque::new(),
            pings: VecDeque::new(),
            sent_pings: 0,
            goaway: None,
            has_ended: false,
        };
        client.note_settings(&case.settings);
        if case.spoilt.is_some() {
            client.lose();
        }
        client
    }

    fn may(&mut self, fate: Fate) {
        let fate = if self.is_blind { fate.min(Fate::Unknown) } else { fate };
        self.fate = self.fate.max(fate);
    }

    /// Knows nothing any more but that the connection has to answer or to end.
    fn lose(&mut self) {
        (self.is_blind, self.leaves) = (true, true);
        self.may(Fate::Unknown);
    }

    /// A target that S3 is never asked for.
    fn forbidden(&self) -> &'static str {
        // It may be changed on its way.
        if self.case.spoilt.is_some() { "/nothing" } else { "/products/forbidden" }
    }

    fn number(&self, which: &Which) -> u32 {
        let next = self.newest + 1 + self.newest % 2;
        match which {
            Which::Connection => 0,
            Which::Begun(_) if self.streams.is_empty() => next,
            Which::Begun(index) => {
                *self.streams.keys().nth(index.index(self.streams.len())).unwrap()
            }
            Which::Next => next,
            Which::Even => 2,
            Which::Idle => IDLE,
        }
    }

    fn begun(&mut self, index: Index) -> Option<(u32, &mut Begun)> {
        let number = self.number(&Which::Begun(index));
        Some((number, self.streams.get_mut(&number)?))
    }

    /// Appends a frame.
    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) {
        self.batch.extend(frame(kind, flags, stream, payload));
    }

    fn section(&mut self, stream: u32, section: impl AsRef<[u8]>) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, section);
    }

    fn open(&mut self, skipped: u32, wanted: Wanted, is_asked: bool) -> u32 {
        self.newest = self.number(&Which::Next) + 2 * skipped;
        let wanted = if self.leaves { Wanted::Anything } else { wanted };
        let windows = Windows::new(0);
        let begun = Begun { wanted, is_asked, has_head: false, got: 0, is_over: false, windows };
        self.streams.insert(self.newest, begun);
        self.newest
    }

    /// Does what the case says.
    pub(super) fn go(&mut self, one: &Move) -> Checked {
        match one {
            Move::Ask(ask) => self.ask(ask),
            Move::Malformed(index) => {
                let stream = self.open(0, Wanted::Reset, true);
                let sections = malformed(self.forbidden());
                self.section(stream, &sections[index.index(sections.len())]);
            }
            Move::Body { stream, length, padding, ends } => {
                self.body(*stream, *length, *padding, *ends);
            }
            Move::Trailers { stream, is_right } => self.trailers(*stream, *is_right),
            Move::Reset(index) => self.reset(*index),
            Move::Widen { stream, by } => self.widen(*stream, *by),
            Move::Settings(of_client) => self.settings(of_client),
            Move::Ping => self.ping(),
            Move::PingAnswer(payload) => self.frame(PING, ACK, 0, payload),
            Move::Priority { stream, on, bytes } => {
                if *bytes != 5 {
                    self.lose();
                }
                let payload = [&self.number(on).to_be_bytes()[..], &[16, 0]].concat();
                self.frame(PRIORITY, 0, self.number(stream), &payload[..*bytes]);
            }
            Move::Unknown(Sent { kind, flags, stream, payload }) => {
                self.frame(*kind, *flags, self.number(stream), vec![0; *payload]);
            }
            Move::Wait => self.wait()?,
            Move::Finish => self.finish()?,
            Move::Changed(place, byte) => {
                let mut section = get("/nothing");
                let place = place.index(section.len());
                section[place] = *byte;
                self.section_of_anything(&section);
            }
            Move::Section(section) => self.section_of_anything(section),
            Move::Again(index) => self.again(*index),
            Move::GoAway => {
                self.leaves = true;
                self.frame(GOAWAY, 0, 0, [0; 8]);
            }
            Move::Anything(Sent { kind, flags, stream, payload }) => {
                self.lose();
                self.frame(*kind, *flags, self.number(stream), payload);
            }
            Move::Broken(Sent { kind, flags, stream, payload }) => {
                self.frame(*kind, *flags, self.number(stream), payload);
                self.may(Fate::Ends);
            }
            Move::Long { kind, bytes } => {
                let head = (bytes << 8) | u32::from(*kind);
                self.batch.extend([&head.to_be_bytes()[..], &[0, 0, 0, 0, 1]].concat());
                self.may(Fate::Ends);
            }
            Move::Interrupted(Sent { kind, flags, stream, payload }) => {
                self.frame(HEADERS, END_STREAM, self.number(&Which::Next), get(self.forbidden()));
                self.frame(*kind, *flags, self.number(stream), vec![0; *payload]);
                self.may(Fate::Ends);
            }
        }
        Ok(())
    }

    fn ask(&mut self, ask: &Ask) {
        let (number, target) = if self.fate == Fate::Ends || self.case.spoilt.is_some() {
            (0, self.forbidden().to_owned())
        } else {
            self.world.target(ask.length)
        };
        let wanted = Wanted::Response { number, length: ask.length };
        let stream = self.open(ask.skipped, wanted, !ask.has_body);
        self.batch.extend(ask.frames(stream, &ask.section(&target)));
    }

    fn section_of_anything(&mut self, section: &[u8]) {
        let stream = self.open(0, Wanted::Anything, true);
        self.section(stream, section);
        self.may(Fate::Unknown);
    }

    fn body(&mut self, index: Index, length: usize, padding: Option<u8>, ends: bool) {
        let padded = vec![0; padding.unwrap_or_default().into()];
        let payload = [padding.as_slice(), &BYTES[..length], &padded].concat();
        let sent = i64::try_from(payload.len()).unwrap();
        let Some((number, stream)) = self.begun(index) else { return };
        stream.windows.room -= sent;
        if stream.is_asked || stream.windows.room < 0 {
            stream.wanted = Wanted::Anything;
        }
        stream.is_asked |= ends;
        self.windows.room -= sent;
        if self.windows.room < 0 {
            self.may(Fate::Unknown);
        }
        let flags = if ends { END_STREAM } else { 0 } | padding.map_or(0, |_| PADDED);
        self.frame(DATA, flags, number, payload);
    }

    fn trailers(&mut self, index: Index, is_right: bool) {
        let Some((number, stream)) = self.begun(index) else { return };
        if std::mem::replace(&mut stream.is_asked, true) || !is_right {
            stream.wanted = Wanted::Anything;
            self.may(Fate::Unknown);
        }
        let field = if is_right { ("a", "b") } else { (":path", "/") };
        self.section(number, fields(&[field]));
    }

    fn again(&mut self, index: Option<Index>) {
        let earlier = usize::try_from(self.newest.div_ceil(2)).unwrap();
        let number = match index {
            Some(index) if earlier > 0 => 1 + 2 * u32::try_from(index.index(earlier)).unwrap(),
            _ => self.number(&Which::Even),
        };
        let begun = self.streams.get_mut(&number);
        let fate = if begun.is_some() { Fate::Unknown } else { Fate::Ends };
        if let Some(stream) = begun {
            stream.wanted = Wanted::Anything;
        }
        self.section(number, get(self.forbidden()));
        self.may(fate);
    }

    fn reset(&mut self, index: Index) {
        let Some((number, stream)) = self.begun(index) else { return };
        (stream.wanted, stream.is_asked) = (Wanted::Anything, true);
        self.resets += 1;
        if self.resets > RESETS_MAX {
            self.may(Fate::Unknown);
        }
        self.frame(RST_STREAM, 0, number, CANCEL.to_be_bytes());
    }

    fn widen(&mut self, index: Option<Index>, by: u32) {
        let Some(index) = index else {
            self.windows.widen(by);
            if i64::from(WINDOW) + self.windows.extra > WINDOW_MAX {
                self.may(Fate::Unknown);
            }
            return self.batch.extend(window_update(0, by));
        };
        let most = WINDOW_MAX - i64::from(self.initial);
        let Some((number, stream)) = self.begun(index) else { return };
        stream.windows.widen(by);
        if by == 0 || stream.windows.extra > most {
            stream.wanted = Wanted::Anything;
        }
        self.batch.extend(window_update(number, by));
    }

    fn settings(&mut self, of_client: &[(u16, u32)]) {
        self.note_settings(of_client);
        self.batch.extend(settings(of_client));
    }

    fn note_settings(&mut self, settings: &[(u16, u32)]) {
        for (_, window) in settings.iter().filter(|(name, _)| *name == INITIAL_WINDOW) {
            self.initial = *window;
            let most = WINDOW_MAX - i64::from(*window);
            let mut is_too_wide = false;
            for stream in self.streams.values_mut().filter(|one| one.windows.extra > most) {
                stream.wanted = Wanted::Anything;
                is_too_wide = true;
            }
            if is_too_wide {
                self.may(Fate::Unknown);
            }
        }
        self.settings.push_back(self.initial);
    }

    fn ping(&mut self) {
        self.sent_pings += 1;
        let payload = self.sent_pings.to_be_bytes();
        self.pings.push_back(payload.to_vec());
        self.frame(PING, 0, 0, payload);
    }

    /// Sends what is there, spoilt and cut as the case says.
    pub(super) fn send(&mut self) {
        let mut bytes = std::mem::take(&mut self.batch);
        if let Some((place, byte)) = self.spoilt.take_if(|_| !bytes.is_empty()) {
            let place = place.index(bytes.len());
            bytes[place] = byte;
            complete(&mut bytes);
        }
        let mut cuts: Vec<_> =
            self.case.cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for to in cuts.into_iter().chain([bytes.len()]) {
            // If the connection has ended, reading tells.
            self.connection.try_send(&bytes[from..to]);
            from = to;
        }
    }

    /// Sends what is there, and reads until then or to the end.
    fn read_until(&mut self, is_done: impl Fn(&Self) -> bool) -> Checked {
        self.send();
        while !self.has_ended && !is_done(self) {
            match self.connection.next() {
                Some(frame) => self.take(&frame)?,
                None => self.has_ended = true,
            }
        }
        Ok(())
    }

    /// Waits for the answer to a ping, or for the end.
    fn wait(&mut self) -> Checked {
        if self.spoilt.is_some() {
            self.send();
            // Not the ping.
            self.spoilt = None;
        }
        self.ping();
        self.read_until(|client| client.pings.is_empty())
    }

    /// Gets everything that was asked for, unless the connection has ended for a reason.
    pub(super) fn finish(&mut self) -> Checked {
        for (number, stream) in &mut self.streams {
            if !std::mem::replace(&mut stream.is_asked, true) {
                self.batch.extend(frame(DATA, END_STREAM, *number, b""));
            }
        }
        self.settings(&[(INITIAL_WINDOW, WINDOW)]);
        self.give_back(1);
        self.wait()?;
        prop_assert!(self.has_ended || self.fate < Fate::Ends, "an answer in spite of an error");
        while !self.has_ended && !self.is_blind && self.over() < self.streams.len() {
            prop_assert!(self.settings.is_empty(), "settings were not acknowledged");
            self.give_back(FRAME_BYTES_MAX);
            let over = self.over();
            self.read_until(|client| client.over() > over || client.owed() >= FRAME_BYTES_MAX)?;
        }
        if self.has_ended {
            let is_told = self.goaway.is_some_and(|code| code != NO_ERROR);
            let is_complete = self.over() == self.streams.len();
            let may_end = match self.fate {
                Fate::Lives => self.leaves && is_complete,
                Fate::Unknown | Fate::Ends => self.leaves || is_told,
            };
            prop_assert!(may_end, "ended, with {:?}", self.goaway);
        }
        Ok(())
    }

    /// Streams of which nothing more is expected.
    fn over(&self) -> usize {
        let is_over = |one: &&Begun| one.is_over || one.wanted == Wanted::Anything;
        self.streams.values().filter(is_over).count()
    }

    /// What has to be given back at most of one window.
    fn owed(&self) -> u32 {
        let open = self.streams.values().filter(|one| !one.is_over);
        open.map(|one| one.windows.owed).fold(self.windows.owed, u32::max)
    }

    fn give_back(&mut self, least: u32) {
        let open = self.streams.iter_mut().filter(|(_, one)| !one.is_over);
        let windows = open.map(|(number, one)| (*number, &mut one.windows));
        for (number, windows) in windows.chain([(0, &mut self.windows)]) {
            if let Some(owed) = windows.give_back(least) {
                self.batch.extend(window_update(number, owed));
            }
        }
    }

    /// Takes in what the proxy says.
    fn take(&mut self, frame: &Frame) -> Checked {
        match (frame.kind, frame.flags) {
            (GOAWAY, _) => self.goaway = frame.numbers().get(1).copied(),
            _ if self.is_blind => {
                if frame.kind == PING && self.pings.back() == Some(&frame.payload) {
                    self.pings.clear();
                }
            }
            (PING, ACK) => {
                let asked = self.pings.pop_front();
                prop_assert_eq!(asked.as_ref(), Some(&frame.payload));
            }
            (SETTINGS, ACK) => {
                let acknowledged = self.settings.pop_front();
                prop_assert!(acknowledged.is_some(), "settings that were not sent");
                self.acknowledged = acknowledged.unwrap_or_default();
            }
            (SETTINGS, _) => {}
            (WINDOW_UPDATE, _) => {
                let stream = self.streams.get_mut(&frame.stream);
                let windows = stream.map_or(&mut self.windows, |stream| &mut stream.windows);
                windows.room += i64::from(frame.numbers()[0]);
            }
            _ => self.take_part(frame)?,
        }
        Ok(())
    }

    /// Takes in a frame of a response.
    fn take_part(&mut self, frame: &Frame) -> Checked {
        let may_be_refused = self.streams.len() > STREAMS_MAX;
        let Some(stream) = self.streams.get_mut(&frame.stream) else {
            return Err(TestCaseError::fail(format!("{frame:?}")));
        };
        if frame.kind == DATA && !frame.payload.is_empty() {
            let length = u32::try_from(frame.payload.len()).unwrap();
            self.windows.receive(length);
            stream.windows.receive(length);
            let of_stream = i64::from(self.acknowledged) + stream.windows.open;
            let is_held = length <= FRAME_BYTES_MAX && self.windows.open >= 0 && of_stream >= 0;
            prop_assert!(is_held, "more than the windows: {length}");
        }
        match (stream.wanted, frame.kind) {
            (Wanted::Anything, _) => {}
            (wanted, RST_STREAM) if !stream.is_over => {
                let is_refused = may_be_refused && frame.numbers() == [REFUSED_STREAM];
                prop_assert!(wanted == Wanted::Reset || is_refused, "{frame:?}");
            }
            (Wanted::Response { .. }, HEADERS) if !stream.has_head => {
                // The size of the table may come first (RFC 7541 section 4.2).
                let fields = frame.payload.strip_prefix(b"\x20").unwrap_or(&frame.payload);
                prop_assert!(fields.starts_with(b"\x88"), "not 200: {frame:?}");
                stream.has_head = true;
            }
            (Wanted::Response { number, length }, DATA) if stream.has_head && !stream.is_over => {
                let rest = &body(number, length)[stream.got..];
                prop_assert!(rest.starts_with(&frame.payload), "another body");
                stream.got += frame.payload.len();
            }
            _ => prop_assert!(false, "{frame:?} for {stream:?}"),
        }
        stream.is_over |= frame.ends_stream() || frame.kind == RST_STREAM;
        if let Wanted::Response { length, .. } = stream.wanted {
            prop_assert!(!frame.ends_stream() || stream.got == length, "a body that is cut");
        }
        Ok(())
    }
}

/// Completes the frame that the bytes end in the middle of, unless it is too long anyway.
fn complete(bytes: &mut Vec<u8>) {
    let mut end = 0;
    while end < bytes.len() {
        bytes.resize(bytes.len().max(end + 9), 0);
        let length = u32::from_be_bytes([0, bytes[end], bytes[end + 1], bytes[end + 2]]);
        if length > FRAME_BYTES_MAX {
            return;
        }
        end += 9 + length as usize;
        bytes.resize(bytes.len().max(end), 0);
    }
}
