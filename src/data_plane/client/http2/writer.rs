//! Responses in HTTP/2: a head, and frames of body as the client's windows let them go.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    data_plane::{
        client::http2::{limits::DATA_BYTES_MAX, outlet::Outlet, patience::Patience},
        core::Core,
        exchange::client::{ClientGone, Cut, ResponseWriter, Start},
        upstream::body::{Body, Passage},
    },
    protocol::{
        http1::{BodyLength, PROXY_NAME, ResponseHead, append_content_length, append_field},
        http2::hpack::{append_lines, append_status},
    },
    system::{
        buffers::Scratch,
        reactor::{CloseReason, Presence},
        substream::Substream,
    },
};

/// The response on one stream.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a response")]
pub(super) struct Writer<'w> {
    core: &'w Core,
    substream: &'w Substream,
    outlet: Outlet<'w>,
    patience: Patience,
    is_head: bool,
    status: u16,
    /// The fields as lines of HTTP/1.1, until the head is complete.
    lines: Option<Scratch<'w>>,
    /// A complete head that was not sent, coded.
    head: Option<Scratch<'w>>,
    has_body: bool,
    /// Body bytes that were kept back.
    kept: Option<Scratch<'w>>,
    start: Start,
    /// Set if the request's body is of no interest any more.
    ends: bool,
    stalled: bool,
    /// Body bytes that the client's windows had room for.
    sent: u64,
}

impl<'w> Writer<'w> {
    /// A response to a client that has `client_write` to take a part of it.
    pub(super) fn new(
        core: &'w Core,
        substream: &'w Substream,
        outlet: Outlet<'w>,
        client_write: Duration,
        is_head: bool,
    ) -> Self {
        Self {
            core,
            substream,
            outlet,
            patience: Patience::new(client_write, outlet.taken()),
            is_head,
            status: 0,
            lines: None,
            head: None,
            has_body: false,
            kept: None,
            start: Start::default(),
            ends: false,
            stalled: false,
            sent: 0,
        }
    }

    /// Returns true if the stream is to end with the response, whatever still comes on it.
    pub(super) fn ends(&self) -> bool {
        self.ends
    }

    /// Returns true if the client took nothing for too long, or too little.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    fn lines(&mut self) -> &mut Vec<u8> {
        let core = self.core;
        self.lines.get_or_insert_with(|| core.buffers.scratch())
    }

    /// Sends what was kept back, and the end behind it if this is all.
    async fn send(&mut self, is_all: bool) -> Result<(), ClientGone> {
        let kept = self.kept.take().filter(|kept| !kept.is_empty());
        if let Some(head) = self.head.take() {
            let held_up = self.outlet.shared.held_up.one();
            self.wait(Outlet::poll_head).await?;
            drop(held_up);
            self.start.make(&self.core.reactor.clock);
            let is_last = is_all && kept.is_none();
            self.outlet.head(&head, is_last);
            if is_last {
                return Ok(());
            }
        }
        let Some(kept) = kept else {
            if !is_all {
                return Ok(());
            }
            // An end without anything needs no room.
            if self.outlet.is_gone() {
                return Err(ClientGone);
            }
            self.outlet.data(b"", true);
            return Ok(());
        };
        let mut rest = &**kept;
        while !rest.is_empty() {
            rest = self.send_part(rest, is_all).await?;
        }
        Ok(())
    }

    /// Sends a part of what is there as soon as there is room for it, and returns the rest.
    async fn send_part<'p>(
        &mut self,
        bytes: &'p [u8],
        is_all: bool,
    ) -> Result<&'p [u8], ClientGone> {
        let wanted = bytes.len();
        let _held_up = self.outlet.shared.held_up.one();
        let room = self.wait(|outlet, context| outlet.poll_room(wanted, context)).await?;
        let (part, rest) = bytes.split_at(room.min(wanted));
        self.sent += part.len() as u64;
        self.outlet.data(part, is_all && rest.is_empty());
        Ok(rest)
    }

    /// Begins the time of the client anew if it has earned that.
    fn renew(&mut self) -> bool {
        let is_shared = self.outlet.waits_with_others();
        self.patience.renew(self.outlet.taken(), (self.sent, 0), is_shared)
    }

    /// The same, before its end. A system call.
    fn renew_at_last(&mut self) -> bool {
        let delivered = self.outlet.look_what_is_delivered();
        let is_shared = self.outlet.waits_with_others();
        self.patience.renew(self.outlet.taken(), (self.sent, delivered), is_shared)
    }

    /// Waits for room, as long as the client takes bodies.
    async fn wait<T>(
        &mut self,
        mut poll: impl FnMut(&Outlet<'w>, &Context<'_>) -> Poll<Result<T, ClientGone>>,
    ) -> Result<T, ClientGone> {
        let clock = &self.core.reactor.clock;
        let mut since = None;
        let room = poll_fn(|context| {
            let room = poll(&self.outlet, context);
            if room.is_ready() {
                return room;
            }
            if self.renew() {
                since = None;
            }
            loop {
                let left = self.patience.left();
                if since.is_none() && !left.is_zero() {
                    self.substream.arm(left);
                    since = Some(clock.coarse());
                }
                let over = match since {
                    Some(_) => ready!(self.substream.poll_over(context)),
                    None => CloseReason::Deadline,
                };
                if over == CloseReason::Deadline && self.renew_at_last() {
                    since = None;
                    continue;
                }
                self.stalled = over == CloseReason::Deadline;
                return Poll::Ready(Err(ClientGone));
            }
        })
        .await;
        if let Some(since) = since {
            self.substream.disarm();
            self.patience.spend(since, clock.coarse());
        }
        room
    }
}

impl ResponseWriter for Writer<'_> {
    fn presence(&self) -> Presence {
        self.substream.presence()
    }

    fn end_connection(&mut self) {
        self.ends = true;
    }

    fn give_up(&mut self) {
        self.stalled = true;
    }

    fn begin(&mut self, status: u16, _reason: &[u8]) {
        self.status = status;
        (self.head, self.kept) = (None, None);
        self.lines().clear();
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        append_field(name, value, self.lines());
    }

    fn fields_of(&mut self, head: &ResponseHead, message: &[u8]) {
        let lines = self.lines();
        head.copy_end_to_end(message, lines);
        head.append_via(message, PROXY_NAME, lines);
    }

    fn field_lines(&mut self) -> (&mut Vec<u8>, usize) {
        (self.lines(), 0)
    }

    fn end_head(&mut self, length: BodyLength, declared: Option<u64>) {
        let (status, is_head) = (self.status, self.is_head);
        // As in HTTP/1, but for the framing, which is that of frames.
        let is_bodiless = is_head || status == 204 || length == BodyLength::None;
        let content_length = match length {
            _ if status == 204 => None,
            BodyLength::Fixed(length) if !is_head => Some(length),
            _ if is_bodiless => declared,
            _ => None,
        };
        if let Some(length) = content_length {
            append_content_length(length, self.lines());
        }
        self.has_body = !is_bodiless;
        let mut head = self.core.buffers.scratch();
        append_status(status, &mut head);
        if let Some(lines) = self.lines.take() {
            append_lines(&lines, &mut head);
        }
        self.head = Some(head);
    }

    fn has_body(&self) -> bool {
        self.has_body
    }

    fn room(&self) -> Option<usize> {
        self.outlet.room()
    }

    async fn wait_for_room(&mut self) -> Result<(), ClientGone> {
        self.wait(|outlet, context| outlet.poll_room(DATA_BYTES_MAX, context)).await.map(drop)
    }

    fn gather(&mut self, _frame: &[u8]) -> bool {
        // `write` keeps short ones.
        false
    }

    async fn write(&mut self, mut frame: &[u8]) -> Result<(), ClientGone> {
        while !frame.is_empty() {
            let is_kept = self.kept.as_ref().is_some_and(|kept| !kept.is_empty());
            // The end may come behind the last part, which is kept back for it.
            if !is_kept && frame.len() > DATA_BYTES_MAX {
                self.send(false).await?;
                frame = self.send_part(frame, false).await?;
                continue;
            }
            let core = self.core;
            let kept = self.kept.get_or_insert_with(|| core.buffers.scratch());
            let left = DATA_BYTES_MAX - kept.len();
            let (first, rest) = frame.split_at(frame.len().min(left));
            if kept.capacity() - kept.len() < first.len() {
                // It goes back to the core only if it has grown no further.
                kept.reserve_exact(left);
            }
            kept.extend_from_slice(first);
            frame = rest;
            if kept.len() == DATA_BYTES_MAX && !frame.is_empty() {
                self.send(false).await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ClientGone> {
        self.send(false).await
    }

    async fn finish(&mut self) -> Result<(), ClientGone> {
        self.send(true).await
    }

    fn passage(&self) -> Passage {
        Passage::Shared(self.outlet.shared.held_up.clone())
    }

    async fn splice(&mut self, _body: &mut Body<'_>) -> Result<bool, Cut> {
        // The kernel cannot put frames around what it moves.
        Ok(false)
    }

    fn start(&mut self) -> &mut Start {
        &mut self.start
    }

    fn body_bytes(&self) -> u64 {
        self.sent
    }
}
