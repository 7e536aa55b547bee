//! The frames of a client: what each of them changes, and what is an error (RFC 9113 sections 5 and
//! 6).

use std::rc::Rc;

use crate::{
    data_plane::client::http2::{
        lane::Lane,
        limits::{
            FRAME_BYTES_MAX, RESETS_AT_ONCE_MAX, TASKS_PER_STREAM, WINDOW_BYTES_MAX,
            decoded_bytes_max, head_bytes_max,
        },
        shared::Shared,
        stream::{Arrived, Asked, log_malformed},
        wire::{Closed, Found},
    },
    protocol::http2::{
        ACK, Code, END_HEADERS, END_STREAM, FrameHead, FrameKind, HeadWriter, RefusedHead,
        hpack::{Decoder, Undecodable},
        number,
    },
    telemetry::labels::Http2Reset,
};

/// Payload of the ping that asks whether the client has heard of the end.
pub(super) const LAST_PING: [u8; 8] = *b"the end?";

/// Bytes of one setting.
const SETTING_BYTES: u32 = 6;

/// Something of the client that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    /// It breaks RFC 9113.
    Error(Code),
    /// More frames or resets than it has use for.
    Flood,
}

impl From<Code> for Offence {
    fn from(code: Code) -> Self {
        Self::Error(code)
    }
}

impl From<Undecodable> for Offence {
    fn from(undecodable: Undecodable) -> Self {
        match undecodable {
            Undecodable::Malformed => Self::Error(Code::COMPRESSION_ERROR),
            Undecodable::TooLong => Self::Flood,
        }
    }
}

/// A field section that begins.
#[derive(Clone, Copy, Debug)]
struct Section {
    stream: u32,
    ends_stream: bool,
    /// Number of its first frame.
    frame: u64,
}

/// A field section that a client has started and not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenSection {
    /// Number of its first frame among those of the connection.
    pub(super) frame: u64,
    /// Set if so few bytes have arrived that they may belong to any frame.
    pub(super) is_guess: bool,
}

/// The state of what a client sends.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a connection")]
pub(super) struct Receiver {
    /// Concurrent streams that the client was told it may have.
    streams_max: usize,
    decoder: Decoder,
    /// A field section that goes on in another frame.
    open: Option<(Section, Vec<u8>)>,
    /// Whole frames that have arrived.
    frames: u64,
    has_settings: bool,
    /// Set once the client has said that it begins nothing more.
    leaves: bool,
    /// Set once the client was asked whether it has heard of the end.
    is_asked: bool,
    /// Set once it has.
    has_heard: bool,
    /// The last stream that is served, once the client was told.
    last: Option<u32>,
    /// Streams of this turn that were reset before anything was done for them.
    at_once: usize,
    /// Streams of this turn, which begin at its end.
    pub(super) accepted: Vec<Arrived>,
}

impl Receiver {
    /// The beginning of a connection with so many concurrent streams.
    pub(super) fn new(streams_max: u32) -> Self {
        Self {
            streams_max: usize::try_from(streams_max).unwrap_or(usize::MAX),
            decoder: Decoder::default(),
            open: None,
            frames: 0,
            has_settings: false,
            leaves: false,
            is_asked: false,
            has_heard: false,
            last: None,
            at_once: 0,
            accepted: Vec::new(),
        }
    }

    /// The field section that the client has started and not completed, if `begun`, the bytes of a
    /// frame that have arrived, may be a part of one or one was left open.
    pub(super) fn open_section(&self, begun: &[u8]) -> Option<OpenSection> {
        if let Some((section, _)) = &self.open {
            return Some(OpenSection { frame: section.frame, is_guess: false });
        }
        let head = FrameHead::read(begun);
        let may_be_fields = head.map_or(!begun.is_empty(), |head| head.kind.is_fields());
        may_be_fields.then_some(OpenSection { frame: self.frames, is_guess: head.is_none() })
    }

    /// Returns true once the client has sent its first settings.
    pub(super) fn has_settings(&self) -> bool {
        self.has_settings
    }

    /// Returns true once nothing new is to be expected of the client.
    pub(super) fn is_last(&self) -> bool {
        self.leaves || self.last.is_some()
    }

    /// Notes that the client is asked whether it has heard of the end.
    pub(super) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// Returns true once the client has heard of the end, or its time for that `is_over`, and was
    /// not told yet what is the last stream.
    pub(super) fn is_to_be_told(&self, is_over: bool) -> bool {
        (self.has_heard || is_over) && self.last.is_none()
    }

    /// Serves no streams after this one.
    pub(super) fn end_after(&mut self, last: u32) {
        self.last = Some(last);
    }

    /// The streams of this turn, all of which begin now.
    pub(super) fn take_accepted(&mut self) -> std::vec::Drain<'_, Arrived> {
        self.at_once = 0;
        self.accepted.drain(..)
    }

    /// Takes in a whole frame.
    pub(super) fn frame(
        &mut self,
        shared: &Shared,
        head: FrameHead,
        payload: &[u8],
    ) -> Result<(), Offence> {
        let number = self.frames;
        self.frames += 1;
        let is_expected = match &self.open {
            Some((section, _)) => {
                head.kind == FrameKind::Continuation && head.stream == section.stream
            }
            None => self.has_settings || (head.kind == FrameKind::Settings && !head.is_ack()),
        };
        let is_of_connection =
            matches!(head.kind, FrameKind::Settings | FrameKind::Ping | FrameKind::GoAway);
        let is_of_both = matches!(head.kind, FrameKind::WindowUpdate | FrameKind::Other);
        if !is_expected || (!is_of_both && is_of_connection != (head.stream == 0)) {
            return Err(Code::PROTOCOL_ERROR.into());
        }
        let is_late = self.last.is_some_and(|last| head.stream > last);
        match head.kind {
            // What the client began before it was told (RFC 9113 section 6.8).
            FrameKind::Data if is_late => shared.wire.borrow_mut().received(head.length)?,
            FrameKind::RstStream | FrameKind::WindowUpdate if is_late => {}
            FrameKind::Data => Self::data(shared, head, payload)?,
            FrameKind::Headers => {
                let ends_stream = head.has(END_STREAM);
                let section = Section { stream: head.stream, ends_stream, frame: number };
                self.fields(shared, head, section, None, head.content(payload)?)?;
            }
            FrameKind::Continuation => {
                let (section, before) = self.open.take().ok_or(Code::PROTOCOL_ERROR)?;
                self.fields(shared, head, section, Some(before), payload)?;
            }
            FrameKind::RstStream => self.reset(shared, head, payload)?,
            FrameKind::Settings => self.settings(shared, head, payload)?,
            FrameKind::Ping => self.ping(shared, head, payload)?,
            FrameKind::GoAway if head.length < 8 => return Err(Code::FRAME_SIZE_ERROR.into()),
            FrameKind::GoAway => self.leaves = true,
            FrameKind::WindowUpdate => Self::window_update(shared, head, payload)?,
            FrameKind::Priority if head.length != 5 => return Err(Code::FRAME_SIZE_ERROR.into()),
            FrameKind::PushPromise => return Err(Code::PROTOCOL_ERROR.into()),
            FrameKind::Priority | FrameKind::Other => {}
        }
        if shared.wire.borrow().has_too_many_resets() { Err(Offence::Flood) } else { Ok(()) }
    }

    fn data(shared: &Shared, head: FrameHead, payload: &[u8]) -> Result<(), Offence> {
        let content = head.content(payload)?;
        let mut wire = shared.wire.borrow_mut();
        let found = wire.find(head.stream);
        if matches!(found, Found::Idle) {
            return Err(Code::PROTOCOL_ERROR.into());
        }
        wire.received(head.length)?;
        let lane = match found {
            Found::Closed(Closed::ByUs) | Found::Forgotten => return Ok(()),
            Found::Open(lane) if !lane.has_received_all.get() => lane,
            _ => {
                wire.reset_for_error(head.stream, Code::STREAM_CLOSED);
                return Ok(());
            }
        };
        let Some(window) = lane.receive_window.get().checked_sub(head.length) else {
            wire.reset_for_error(head.stream, Code::FLOW_CONTROL_ERROR);
            return Ok(());
        };
        lane.receive_window.set(window);
        let length = content.len() as u64;
        if let Some(left) = lane.declared.get() {
            let Some(left) = left.checked_sub(length) else {
                shared.count_reset(Http2Reset::Malformed);
                wire.reset_for_error(head.stream, Code::PROTOCOL_ERROR);
                return Ok(());
            };
            lane.declared.set(Some(left));
        }
        lane.arrived.set(lane.arrived.get() + length);
        let padding = payload.len() - content.len();
        wire.release(&lane, u32::try_from(padding).unwrap_or_default());
        drop(wire);
        if head.has(END_STREAM) {
            end_request(shared, &lane);
        } else {
            lane.wake();
        }
        Ok(())
    }

    /// Takes in a part of a field section, behind what came before.
    fn fields(
        &mut self,
        shared: &Shared,
        head: FrameHead,
        section: Section,
        before: Option<Vec<u8>>,
        part: &[u8],
    ) -> Result<(), Offence> {
        let is_whole = head.has(END_HEADERS);
        if is_whole && before.is_none() {
            return self.section(shared, section, part);
        }
        let mut bytes = before.unwrap_or_default();
        bytes.extend_from_slice(part);
        if is_whole {
            return self.section(shared, section, &bytes);
        }
        // Coded it is seldom longer than what it means.
        let bytes_max = head_bytes_max(&shared.core.current().limits) + FRAME_BYTES_MAX;
        if bytes.len() > bytes_max {
            return Err(Offence::Flood);
        }
        self.open = Some((section, bytes));
        Ok(())
    }

    /// Takes in a whole field section. It is decoded in any case, for later ones may refer to it.
    fn section(&mut self, shared: &Shared, section: Section, bytes: &[u8]) -> Result<(), Offence> {
        let Section { stream, ends_stream, .. } = section;
        if stream.is_multiple_of(2) {
            return Err(Code::PROTOCOL_ERROR.into());
        }
        let found = shared.wire.borrow().find(stream);
        match found {
            Found::Idle if self.last.is_none() => return self.request(shared, section, bytes),
            Found::Closed(Closed::Whole | Closed::ByClient) => {
                return Err(Code::STREAM_CLOSED.into());
            }
            Found::Forgotten => return Err(Code::PROTOCOL_ERROR.into()),
            Found::Idle | Found::Open(_) | Found::Closed(Closed::ByUs) => {}
        }
        let mut is_malformed = !ends_stream;
        let bytes_max = decoded_bytes_max(&shared.core.current().limits);
        let decoded = self
            .decoder
            .decode(bytes, bytes_max, |name, _| is_malformed |= name.starts_with(b":"))?;
        charge(shared, decoded)?;
        if let Found::Open(lane) = found {
            // Trailers, which nobody reads.
            if lane.has_received_all.get() {
                shared.wire.borrow_mut().reset_for_error(stream, Code::STREAM_CLOSED);
            } else if is_malformed {
                shared.count_reset(Http2Reset::Malformed);
                shared.wire.borrow_mut().reset_for_error(stream, Code::PROTOCOL_ERROR);
            } else {
                end_request(shared, &lane);
            }
        }
        Ok(())
    }

    /// Takes in the head of a request.
    fn request(&mut self, shared: &Shared, section: Section, bytes: &[u8]) -> Result<(), Offence> {
        let Section { stream, ends_stream, .. } = section;
        let core = &shared.core;
        let local = core.current();
        let mut text = core.buffers.owned_scratch();
        let mut values = core.buffers.scratch();
        let mut writer = HeadWriter::new(head_bytes_max(&local.limits), &mut text, &mut values);
        let bytes_max = decoded_bytes_max(&local.limits);
        let decoded =
            self.decoder.decode(bytes, bytes_max, |name, value| writer.field(name, value))?;
        charge(shared, decoded)?;
        let head = writer.end();
        let mut wire = shared.wire.borrow_mut();
        let tasks = shared.tasks() + self.accepted.len();
        if wire.open_streams() >= self.streams_max
            || tasks >= self.streams_max.saturating_mul(TASKS_PER_STREAM)
        {
            wire.refuse(stream, Code::REFUSED_STREAM);
            return Ok(());
        }
        let (asked, declared) = match head {
            // RFC 9113 section 8.1.1
            Ok(head) if ends_stream && head.content_length.is_some_and(|length| length > 0) => {
                log_malformed(shared, stream, "there is no body, but Content-Length is not 0");
                shared.count_reset(Http2Reset::Malformed);
                wire.refuse(stream, Code::PROTOCOL_ERROR);
                return Ok(());
            }
            Ok(head) => (Asked::Request { text, is_https: head.is_https }, head.content_length),
            Err(RefusedHead::TooLarge { is_head }) => (Asked::TooMuch { text, is_head }, None),
            Err(RefusedHead::Malformed(reason)) => {
                log_malformed(shared, stream, reason);
                shared.count_reset(Http2Reset::Malformed);
                wire.refuse(stream, Code::PROTOCOL_ERROR);
                return Ok(());
            }
        };
        let lane = wire.open(stream, declared);
        lane.has_received_all.set(ends_stream);
        self.accepted.push(Arrived { lane, asked });
        Ok(())
    }

    fn reset(&mut self, shared: &Shared, head: FrameHead, payload: &[u8]) -> Result<(), Offence> {
        if payload.len() != 4 {
            return Err(Code::FRAME_SIZE_ERROR.into());
        }
        let mut wire = shared.wire.borrow_mut();
        match wire.find(head.stream) {
            Found::Idle => return Err(Code::PROTOCOL_ERROR.into()),
            Found::Closed(_) | Found::Forgotten => return Ok(()),
            Found::Open(lane) => {
                wire.close(head.stream, Closed::ByClient);
                lane.leave();
                let now = shared.core.reactor.clock.coarse();
                shared.budget.borrow_mut().take_reset(now).map_err(|_| Offence::Flood)?;
                if lane.is_begun.get() {
                    return Ok(());
                }
            }
        }
        self.at_once += 1;
        if self.at_once > RESETS_AT_ONCE_MAX { Err(Offence::Flood) } else { Ok(()) }
    }

    fn settings(
        &mut self,
        shared: &Shared,
        head: FrameHead,
        payload: &[u8],
    ) -> Result<(), Offence> {
        let is_sized = if head.has(ACK) {
            head.length == 0
        } else {
            head.length.is_multiple_of(SETTING_BYTES)
        };
        if !is_sized {
            return Err(Code::FRAME_SIZE_ERROR.into());
        }
        if !head.has(ACK) {
            shared.wire.borrow_mut().take_settings(payload)?;
            self.has_settings = true;
        }
        Ok(())
    }

    fn ping(&mut self, shared: &Shared, head: FrameHead, payload: &[u8]) -> Result<(), Offence> {
        if payload.len() != LAST_PING.len() {
            return Err(Code::FRAME_SIZE_ERROR.into());
        }
        if head.has(ACK) {
            self.has_heard |= self.is_asked && payload == LAST_PING;
        } else {
            shared.wire.borrow_mut().frame(FrameKind::Ping, ACK, 0, payload);
        }
        Ok(())
    }

    fn window_update(shared: &Shared, head: FrameHead, payload: &[u8]) -> Result<(), Offence> {
        if payload.len() != 4 {
            return Err(Code::FRAME_SIZE_ERROR.into());
        }
        let by = number(payload).unwrap_or_default() & 0x7fff_ffff;
        let mut wire = shared.wire.borrow_mut();
        if head.stream == 0 {
            return if by == 0 { Err(Code::PROTOCOL_ERROR.into()) } else { Ok(wire.widen(by)?) };
        }
        match wire.find(head.stream) {
            Found::Idle => return Err(Code::PROTOCOL_ERROR.into()),
            Found::Closed(_) | Found::Forgotten => {}
            Found::Open(_) if by == 0 => wire.reset_for_error(head.stream, Code::PROTOCOL_ERROR),
            Found::Open(lane) => {
                let window = lane.window.get() + i64::from(by);
                if window > WINDOW_BYTES_MAX {
                    wire.reset_for_error(head.stream, Code::FLOW_CONTROL_ERROR);
                } else {
                    lane.window.set(window);
                    lane.wake_for_window();
                }
            }
        }
        Ok(())
    }
}

/// Charges what a field section means.
fn charge(shared: &Shared, decoded: usize) -> Result<(), Offence> {
    let now = shared.core.reactor.clock.coarse();
    shared.budget.borrow_mut().take_decoded(decoded, now).map_err(|_| Offence::Flood)
}

/// The request of a stream is complete, unless more of it was declared.
fn end_request(shared: &Shared, lane: &Rc<Lane>) {
    let mut wire = shared.wire.borrow_mut();
    if lane.declared.get().is_some_and(|left| left > 0) {
        shared.count_reset(Http2Reset::Malformed);
        wire.reset_for_error(lane.id, Code::PROTOCOL_ERROR);
    } else {
        lane.has_received_all.set(true);
        wire.ended(lane);
        lane.wake();
    }
}
