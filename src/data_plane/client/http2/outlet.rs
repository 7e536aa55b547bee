//! The sending side of a stream, which the response writer and the watch over the client share.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use crate::{
    data_plane::{
        client::http2::{
            lane::Lane,
            limits::{DATA_BYTES_MAX, READ_BYTES_MAX},
            patience::Taken,
            shared::Shared,
        },
        exchange::client::ClientGone,
    },
    protocol::http2::Code,
};

/// The sending side of one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outlet<'o> {
    pub(super) shared: &'o Shared,
    pub(super) lane: &'o Rc<Lane>,
}

impl Outlet<'_> {
    /// Ready once a head may be sent.
    pub(super) fn poll_head(&self, context: &Context<'_>) -> Poll<Result<(), ClientGone>> {
        if self.lane.is_gone.get() {
            return Poll::Ready(Err(ClientGone));
        }
        if self.shared.wire.borrow_mut().has_head_room(self.lane) {
            return Poll::Ready(Ok(()));
        }
        self.lane.listen(context);
        self.shared.wake();
        Poll::Pending
    }

    /// Sends a head, if there is room for it; `is_all` if no body follows.
    pub(super) fn head(&self, section: &[u8], is_all: bool) {
        self.shared.wire.borrow_mut().head(self.lane, section, is_all);
        self.shared.wake();
    }

    /// Ready with the number of bytes that may be sent now, at most `wanted`.
    pub(super) fn poll_room(
        &self,
        wanted: usize,
        context: &Context<'_>,
    ) -> Poll<Result<usize, ClientGone>> {
        if self.lane.is_gone.get() {
            return Poll::Ready(Err(ClientGone));
        }
        if let Some(room) =
            self.shared.wire.borrow_mut().room(self.lane, wanted.min(DATA_BYTES_MAX))
        {
            return Poll::Ready(Ok(room));
        }
        self.lane.listen(context);
        self.shared.wake();
        Poll::Pending
    }

    /// Bytes of the body that are worth reading now, if there is room for any. While few bodies are
    /// held up, what there is room for is not asked: to read ahead saves calls.
    pub(super) fn room(&self) -> Option<usize> {
        if self.shared.held_up.are_many() {
            self.shared.wire.borrow().room_to_read(self.lane)
        } else {
            Some(READ_BYTES_MAX)
        }
    }

    /// Sends a part of the body, for which there was room.
    pub(super) fn data(&self, part: &[u8], is_last: bool) {
        self.shared.wire.borrow_mut().data(self.lane, part, is_last);
        self.shared.wake();
    }

    /// Bytes of all bodies that the client has taken.
    pub(super) fn taken(&self) -> Taken {
        self.shared.wire.borrow().taken()
    }

    /// Notes what the client has acknowledged. Returns the bytes of all bodies that this is, up to
    /// the end of what was sent of this one. A system call.
    pub(super) fn look_what_is_delivered(&self) -> u64 {
        let mut wire = self.shared.wire.borrow_mut();
        if let Some(bytes) = self.shared.core.reactor.unacknowledged_bytes(self.shared.client) {
            wire.note_unacknowledged(bytes);
        }
        wire.taken().acknowledged.min(self.lane.body_end.get())
    }

    /// True if the stream waits for something that all share, and not for its own window.
    pub(super) fn waits_with_others(&self) -> bool {
        self.lane.is_waiting.get()
    }

    /// True if the client has reset the stream, or the connection is over.
    pub(super) fn is_gone(&self) -> bool {
        self.lane.is_gone.get()
    }

    /// Ready once the client has reset the stream, or the connection is over.
    pub(super) fn poll_gone(&self, context: &Context<'_>) -> Poll<()> {
        if self.lane.is_gone.get() {
            return Poll::Ready(());
        }
        self.lane.listen(context);
        Poll::Pending
    }

    /// Ends the stream before its time.
    pub(super) fn reset(&self, code: Code) {
        if !self.is_gone() {
            self.shared.wire.borrow_mut().reset(self.lane.id, code);
        }
    }

    /// Ends the stream because of an error of the client.
    pub(super) fn reset_for_error(&self, code: Code) {
        if !self.is_gone() {
            self.shared.wire.borrow_mut().reset_for_error(self.lane.id, code);
        }
    }
}
