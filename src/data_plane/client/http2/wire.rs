//! The open streams of one connection, the windows, and the frames to the client.

use std::{collections::VecDeque, rc::Rc};

use crate::{
    data_plane::client::http2::{
        lane::Lane,
        limits::{
            DATA_BYTES_MAX, ERROR_RESETS_MAX, FRAME_BYTES_MAX, READ_BYTES_MAX,
            RECEIVE_WINDOW_BYTES, RELEASED_BYTES_MIN, REMEMBERED_STREAMS_MAX, WINDOW_BYTES_MAX,
        },
        output::Output,
        patience::Taken,
    },
    protocol::http2::{
        ACK, Code, END_HEADERS, END_STREAM, FrameHead, FrameKind, hpack::append_table_size_zero,
    },
    system::buffers::Buffers,
};

/// Window of a stream and of the connection, in bytes, until something else is said (RFC 9113
/// section 6.9.2).
const INITIAL_WINDOW_BYTES: i64 = 65_535;

/// Size of the dynamic table, in bytes, until something else is said (RFC 9113 section 6.5.2).
const TABLE_BYTES_DEFAULT: u32 = 4_096;

/// The way a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// Both sides have said all.
    Whole,
    /// The client reset it.
    ByClient,
    /// We reset it; frames that were on their way are ignored.
    ByUs,
}

/// A stream by its number.
#[derive(Debug)]
pub(super) enum Found {
    Open(Rc<Lane>),
    /// It ended not long ago.
    Closed(Closed),
    /// It ended long ago, or was passed over.
    Forgotten,
    /// It has not begun.
    Idle,
}

/// Size of the dynamic table for responses, which is not used whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TableSize {
    /// As long as the client does not want it to be smaller, there is nothing to be said.
    Default,
    /// The next field section has to say that it is empty.
    Owed,
    /// It was said; no size that the client allows is smaller.
    Zero,
}

/// The open streams of one connection, the windows, and the frames to the client.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) output: Output,
    /// By number.
    open: Vec<Rc<Lane>>,
    /// Number of the newest stream of the client.
    newest: u32,
    closed: VecDeque<(u32, Closed)>,
    /// Bytes of bodies that the client takes in all.
    window: i64,
    /// The same of a new stream.
    initial_window: i64,
    /// Announcement to the client that the dynamic table is not used.
    table: TableSize,
    /// Bytes of bodies that the client may send in all.
    receive_window: u32,
    /// Bytes that it may be told it may send again.
    released: u32,
    /// Streams that wait for room in the window of the connection or in the output.
    waiting: Vec<Rc<Lane>>,
    /// Parts of bodies that were appended.
    parts: u64,
    /// Bytes of bodies that were appended.
    body: u64,
    /// Bytes of them that the client has taken.
    taken: Taken,
    /// Bytes that were taken from the output and encrypted, and that the socket has not taken.
    encrypted: usize,
    /// Streams that we reset because of the client's errors.
    error_resets: usize,
}

impl Wire {
    /// A connection that begins.
    pub(super) fn new(buffers: &Rc<Buffers>) -> Self {
        Self {
            output: Output::new(buffers),
            open: Vec::new(),
            newest: 0,
            closed: VecDeque::new(),
            window: INITIAL_WINDOW_BYTES,
            initial_window: INITIAL_WINDOW_BYTES,
            table: TableSize::Default,
            receive_window: RECEIVE_WINDOW_BYTES,
            released: 0,
            waiting: Vec::new(),
            parts: 0,
            body: 0,
            taken: Taken::default(),
            encrypted: 0,
            error_resets: 0,
        }
    }

    fn place(&self, id: u32) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |lane| lane.id)
    }

    /// Looks for a stream.
    pub(super) fn find(&self, id: u32) -> Found {
        // A client has no streams with even numbers (RFC 9113 section 5.1.1).
        if id > self.newest || id.is_multiple_of(2) {
            return Found::Idle;
        }
        if let Some(lane) = self.place(id).ok().and_then(|at| self.open.get(at)) {
            return Found::Open(Rc::clone(lane));
        }
        let closed = self.closed.iter().rev().find(|(closed, _)| *closed == id);
        closed.map_or(Found::Forgotten, |(_, how)| Found::Closed(*how))
    }

    /// Number of open streams.
    pub(super) fn open_streams(&self) -> usize {
        self.open.len()
    }

    /// Number of the newest stream of the client.
    pub(super) fn newest(&self) -> u32 {
        self.newest
    }

    /// Opens the next stream.
    pub(super) fn open(&mut self, id: u32, declared: Option<u64>) -> Rc<Lane> {
        let lane = Rc::new(Lane::new(id, self.initial_window, declared));
        self.newest = id;
        self.open.push(Rc::clone(&lane));
        lane
    }

    /// Passes over the next stream, which is reset.
    pub(super) fn refuse(&mut self, id: u32, code: Code) {
        self.newest = self.newest.max(id);
        self.reset_for_error(id, code);
    }

    /// Takes a stream out, which ended in this way.
    pub(super) fn close(&mut self, id: u32, how: Closed) -> Option<Rc<Lane>> {
        if self.closed.len() == REMEMBERED_STREAMS_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back((id, how));
        self.place(id).ok().map(|at| self.open.remove(at))
    }

    /// Notes that both sides of a stream may be complete.
    pub(super) fn ended(&mut self, lane: &Lane) {
        if lane.has_sent_all.get() && lane.has_received_all.get() && !lane.is_gone.get() {
            self.close(lane.id, Closed::Whole);
        }
    }

    /// Resets a stream.
    pub(super) fn reset(&mut self, id: u32, code: Code) {
        self.frame(FrameKind::RstStream, 0, id, &code.0.to_be_bytes());
        if let Some(lane) = self.close(id, Closed::ByUs) {
            lane.leave();
        }
    }

    /// Resets a stream because of an error of the client.
    pub(super) fn reset_for_error(&mut self, id: u32, code: Code) {
        self.error_resets += 1;
        self.reset(id, code);
    }

    /// True if there were so many of these that the connection is to end.
    pub(super) fn has_too_many_resets(&self) -> bool {
        self.error_resets > ERROR_RESETS_MAX
    }

    /// The task of a stream has ended: what is not complete is reset.
    pub(super) fn finish(&mut self, lane: &Lane) {
        if lane.is_gone.get() || (lane.has_sent_all.get() && lane.has_received_all.get()) {
            return;
        }
        // RFC 9113 section 8.1: a client may stop sending a body that nobody wants.
        let is_complete = lane.has_sent_all.get();
        let code = if is_complete { Code::NO_ERROR } else { Code::INTERNAL_ERROR };
        self.reset(lane.id, code);
    }

    /// The connection is over, and so are its streams.
    pub(super) fn end_all(&mut self) {
        self.open.drain(..).for_each(|lane| lane.leave());
        self.waiting.clear();
    }

    /// Appends a frame.
    pub(super) fn frame(&mut self, kind: FrameKind, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        self.output.frame(FrameHead { kind, flags, length, stream }, payload);
    }

    /// Appends settings.
    pub(super) fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend_from_slice(&name.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        self.frame(FrameKind::Settings, 0, 0, &payload);
    }

    /// Appends the word that no streams after this one will be served.
    pub(super) fn go_away(&mut self, last: u32, code: Code) {
        let payload = (u64::from(last) << 32) | u64::from(code.0);
        self.frame(FrameKind::GoAway, 0, 0, &payload.to_be_bytes());
    }

    /// Takes settings of the client over, and says so.
    ///
    /// # Errors
    /// The code of what is wrong with them (RFC 9113 section 6.5.2).
    pub(super) fn take_settings(&mut self, payload: &[u8]) -> Result<(), Code> {
        const HEADER_TABLE_SIZE: u16 = 1;
        const ENABLE_PUSH: u16 = 2;
        const INITIAL_WINDOW_SIZE: u16 = 4;
        const MAX_FRAME_SIZE: u16 = 5;
        let mut initial_window = self.initial_window;
        for setting in payload.as_chunks::<6>().0 {
            let [high, low, value @ ..] = *setting;
            let value = u32::from_be_bytes(value);
            match u16::from_be_bytes([high, low]) {
                // RFC 9113 section 4.3.1
                HEADER_TABLE_SIZE
                    if value < TABLE_BYTES_DEFAULT && self.table == TableSize::Default =>
                {
                    self.table = TableSize::Owed;
                }
                ENABLE_PUSH if value > 1 => return Err(Code::PROTOCOL_ERROR),
                INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_BYTES_MAX => {
                    return Err(Code::FLOW_CONTROL_ERROR);
                }
                INITIAL_WINDOW_SIZE => initial_window = i64::from(value),
                // More than the least is of no use.
                MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                    return Err(Code::PROTOCOL_ERROR);
                }
                // Others are about what is not sent.
                _ => {}
            }
        }
        if initial_window != self.initial_window {
            self.set_initial_window(initial_window)?;
        }
        self.frame(FrameKind::Settings, ACK, 0, b"");
        Ok(())
    }

    /// Windows of open streams change with it, and may get below zero (RFC 9113 section 6.9.2).
    fn set_initial_window(&mut self, window: i64) -> Result<(), Code> {
        let change = window - std::mem::replace(&mut self.initial_window, window);
        for lane in &self.open {
            let window = lane.window.get() + change;
            if window > WINDOW_BYTES_MAX {
                return Err(Code::FLOW_CONTROL_ERROR);
            }
            lane.window.set(window);
            if change > 0 {
                lane.wake_for_window();
            }
        }
        Ok(())
    }

    /// Widens the window of the connection.
    ///
    /// # Errors
    /// It would be too wide.
    pub(super) fn widen(&mut self, by: u32) -> Result<(), Code> {
        self.window += i64::from(by);
        if self.window > WINDOW_BYTES_MAX {
            return Err(Code::FLOW_CONTROL_ERROR);
        }
        self.wake_waiting();
        Ok(())
    }

    /// Notes how many bytes that were taken from the output are encrypted and wait for the socket.
    /// Returns true if it has taken some.
    pub(super) fn note_encrypted(&mut self, bytes: usize) -> bool {
        std::mem::replace(&mut self.encrypted, bytes) > bytes
    }

    /// Notes that something was taken from the output, or by the socket.
    pub(super) fn progressed(&mut self) {
        self.taken.sent = self.taken.sent.max(self.body_before(self.unsent()));
        if self.output.room() > DATA_BYTES_MAX {
            self.wake_waiting();
        }
    }

    /// Wakes the streams that wait for something that all share. The first may take all of it, so
    /// that is the one which has sent nothing for longest.
    fn wake_waiting(&mut self) {
        self.waiting.sort_by_key(|lane| lane.last_part.get());
        for lane in self.waiting.drain(..) {
            lane.is_waiting.set(false);
            lane.wake();
        }
    }

    /// Bytes of body that may be appended for a stream now, of so many; `None` if it has to wait.
    /// Whoever waits must listen.
    pub(super) fn room(&mut self, lane: &Rc<Lane>, wanted: usize) -> Option<usize> {
        let windows = lane.window.get().min(self.window);
        let most = wanted.min(FRAME_BYTES_MAX);
        let most = usize::try_from(windows).map_or(0, |windows| windows.min(most));
        // Not a part of it, as long as that waits for the socket only.
        if most > 0 && self.output.room() >= most {
            return Some(most);
        }
        if lane.window.get() > 0 {
            self.wait(lane);
        }
        None
    }

    /// Bytes of body that are worth reading for a stream now, if there is room for any: as many
    /// frames as there is room for, but one at least, because a read costs more than to hold one.
    /// Counted in the largest TLS records of S3 (RFC 8446 section 5.1), so that none is left over.
    pub(super) fn room_to_read(&self, lane: &Lane) -> Option<usize> {
        let windows = usize::try_from(lane.window.get().min(self.window)).unwrap_or(0);
        let room = self.output.room();
        let has_room = windows > 0 && room >= windows.min(DATA_BYTES_MAX);
        has_room.then(|| {
            let frames = windows.min(room) / DATA_BYTES_MAX;
            (frames * FRAME_BYTES_MAX).clamp(FRAME_BYTES_MAX, READ_BYTES_MAX)
        })
    }

    /// True if a head may be appended for a stream now. Whoever waits must listen.
    pub(super) fn has_head_room(&mut self, lane: &Rc<Lane>) -> bool {
        let has_room = self.output.room() > 0;
        if !has_room {
            self.wait(lane);
        }
        has_room
    }

    /// Bytes of all bodies that the client has taken.
    pub(super) fn taken(&self) -> Taken {
        self.taken
    }

    /// Notes how many bytes of what was sent the client has not acknowledged.
    pub(super) fn note_unacknowledged(&mut self, bytes: u64) {
        let under_way = bytes + self.unsent();
        self.taken.acknowledged = self.taken.acknowledged.max(self.body_before(under_way));
    }

    /// Bytes that the socket has not taken yet.
    fn unsent(&self) -> u64 {
        (self.output.len() + self.encrypted) as u64
    }

    /// Bytes of bodies before the last so many bytes of all that was appended, at least: those may
    /// be of bodies all.
    fn body_before(&self, last: u64) -> u64 {
        self.body.saturating_sub(last)
    }

    /// Forgives one error of the client, for a response that is complete.
    pub(super) fn forgive(&mut self) {
        self.error_resets = self.error_resets.saturating_sub(1);
    }

    fn wait(&mut self, lane: &Rc<Lane>) {
        if !lane.is_waiting.replace(true) {
            self.waiting.push(Rc::clone(lane));
        }
    }

    /// Appends the head of a response.
    pub(super) fn head(&mut self, lane: &Lane, section: &[u8], is_all: bool) {
        if self.table == TableSize::Owed {
            self.table = TableSize::Zero;
            let mut first = Vec::with_capacity(section.len() + 1);
            append_table_size_zero(&mut first);
            first.extend_from_slice(section);
            return self.head(lane, &first, is_all);
        }
        let (first, mut rest) = section.split_at(section.len().min(FRAME_BYTES_MAX));
        let is_end = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
        let flags = is_end(rest) | if is_all { END_STREAM } else { 0 };
        self.frame(FrameKind::Headers, flags, lane.id, first);
        while !rest.is_empty() {
            let part;
            (part, rest) = rest.split_at(rest.len().min(FRAME_BYTES_MAX));
            self.frame(FrameKind::Continuation, is_end(rest), lane.id, part);
        }
        if is_all {
            lane.has_sent_all.set(true);
            self.ended(lane);
        }
    }

    /// Appends a part of a body, for which there was room.
    pub(super) fn data(&mut self, lane: &Lane, part: &[u8], is_last: bool) {
        let length = i64::try_from(part.len()).unwrap_or(i64::MAX);
        self.parts += 1;
        self.body += part.len() as u64;
        lane.last_part.set(self.parts);
        lane.body_end.set(self.body);
        self.window -= length;
        lane.window.set(lane.window.get() - length);
        self.frame(FrameKind::Data, if is_last { END_STREAM } else { 0 }, lane.id, part);
        if is_last {
            lane.has_sent_all.set(true);
            self.ended(lane);
        }
    }

    /// Notes bytes of a body of the client. They are kept nowhere, so it may send as many again.
    ///
    /// # Errors
    /// They are more than it may send in all.
    pub(super) fn received(&mut self, length: u32) -> Result<(), Code> {
        let left = self.receive_window.checked_sub(length).ok_or(Code::FLOW_CONTROL_ERROR)?;
        self.receive_window = left;
        self.released += length;
        if self.released >= RELEASED_BYTES_MIN {
            let released = std::mem::take(&mut self.released);
            self.receive_window += released;
            self.frame(FrameKind::WindowUpdate, 0, 0, &released.to_be_bytes());
        }
        Ok(())
    }

    /// Notes that bytes of a stream were looked at, so that it may send as many again.
    pub(super) fn release(&mut self, lane: &Lane, length: u32) {
        let released = lane.released.get() + length;
        lane.released.set(released);
        if released < RELEASED_BYTES_MIN || lane.has_received_all.get() || lane.is_gone.get() {
            return;
        }
        lane.released.set(0);
        lane.receive_window.set(lane.receive_window.get() + released);
        self.frame(FrameKind::WindowUpdate, 0, lane.id, &released.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_anywhere_on_the_way_was_not_taken() {
        let buffers = Rc::new(Buffers::default());
        let mut wire = Wire::new(&buffers);
        let lane = Rc::new(Lane::new(1, WINDOW_BYTES_MAX, None));
        let appended = 3 * DATA_BYTES_MAX;
        for _ in 0..3 {
            wire.data(&lane, &[0; DATA_BYTES_MAX], false);
        }
        assert_eq!(lane.body_end.get(), appended as u64);
        let frames = wire.output.len();
        // In the session, in the kernel, and at the client.
        wire.output.sent(frames);
        assert!(!wire.note_encrypted(frames));
        wire.progressed();
        wire.note_unacknowledged(0);
        assert_eq!((wire.taken().sent, wire.taken().acknowledged), (0, 0));
        assert!(wire.note_encrypted(0));
        wire.progressed();
        wire.note_unacknowledged(appended as u64);
        assert_eq!((wire.taken().sent, wire.taken().acknowledged), (appended as u64, 0));
        wire.note_unacknowledged(0);
        assert_eq!(wire.taken().acknowledged, appended as u64);
        // What was taken once stays so.
        wire.note_encrypted(frames);
        wire.progressed();
        wire.note_unacknowledged(appended as u64);
        assert_eq!(
            (wire.taken().sent, wire.taken().acknowledged),
            (appended as u64, appended as u64)
        );
    }
}
