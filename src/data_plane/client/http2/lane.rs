//! State of one stream that its task and the task of the connection have in common.

use std::{
    cell::{Cell, RefCell},
    task::{Context, Waker},
};

use crate::data_plane::client::http2::limits::RECEIVE_WINDOW_BYTES;

/// One open stream.
#[derive(Debug)]
pub(super) struct Lane {
    /// Its number.
    pub(super) id: u32,
    /// Bytes of body that the client takes (RFC 9113 section 6.9); below zero if it has taken
    /// some back.
    pub(super) window: Cell<i64>,
    /// Set once the response is complete.
    pub(super) has_sent_all: Cell<bool>,
    /// Set once the request is complete.
    pub(super) has_received_all: Cell<bool>,
    /// Set once it was reset, by whomever, or the connection is over.
    pub(super) is_gone: Cell<bool>,
    /// Set once something is done for it.
    pub(super) is_begun: Cell<bool>,
    /// Set while it waits for room in what all streams share.
    pub(super) is_waiting: Cell<bool>,
    /// Number of its newest part of a body among those of all streams.
    pub(super) last_part: Cell<u64>,
    /// End of that part among the bytes of all bodies.
    pub(super) body_end: Cell<u64>,
    /// Bytes of the request's body that are still to come, if that was declared.
    pub(super) declared: Cell<Option<u64>>,
    /// Bytes of it that have arrived, and that nobody has looked at.
    pub(super) arrived: Cell<u64>,
    /// Bytes that the client may send.
    pub(super) receive_window: Cell<u32>,
    /// Bytes that it may be told it may send again.
    pub(super) released: Cell<u32>,
    task: RefCell<Option<Waker>>,
}

impl Lane {
    /// A stream that begins, with a declared length of its body.
    pub(super) fn new(id: u32, window: i64, declared: Option<u64>) -> Self {
        Self {
            id,
            window: Cell::new(window),
            has_sent_all: Cell::new(false),
            has_received_all: Cell::new(false),
            is_gone: Cell::new(false),
            is_begun: Cell::new(false),
            is_waiting: Cell::new(false),
            last_part: Cell::new(0),
            body_end: Cell::new(0),
            declared: Cell::new(declared),
            arrived: Cell::new(0),
            receive_window: Cell::new(RECEIVE_WINDOW_BYTES),
            released: Cell::new(0),
            task: RefCell::default(),
        }
    }

    /// The task of the stream is woken by what happens next.
    pub(super) fn listen(&self, context: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        match &mut *task {
            Some(waker) => waker.clone_from(context.waker()),
            None => *task = Some(context.waker().clone()),
        }
    }

    /// Wakes the task of the stream.
    pub(super) fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }

    /// Wakes the task of the stream because its window is wider, unless it waits for something that
    /// all share, in its turn.
    pub(super) fn wake_for_window(&self) {
        if !self.is_waiting.get() {
            self.wake();
        }
    }

    /// Notes that it is over before its time.
    pub(super) fn leave(&self) {
        self.is_gone.set(true);
        self.wake();
    }
}
