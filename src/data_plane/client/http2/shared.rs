//! State that the task of a connection and those of its streams have in common.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::{
    data_plane::{
        client::http2::budget::Budget,
        core::{Core, open::Role},
    },
    system::tls::Negotiated,
    telemetry::labels::Http2Reset,
};

/// State that the tasks of one connection have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Rc<Core>,
    pub(super) role: Role,
    pub(super) peer: SocketAddr,
    /// The TLS session that carries the connection, if there is one.
    pub(super) tls: Option<Negotiated>,
    pub(super) budget: RefCell<Budget>,
    streams: Cell<usize>,
    /// The task of the connection.
    task: RefCell<Option<Waker>>,
}

impl Shared {
    pub(super) fn new(
        core: &Rc<Core>,
        role: Role,
        peer: SocketAddr,
        tls: Option<Negotiated>,
        budget: Budget,
    ) -> Self {
        Self {
            core: Rc::clone(core),
            role,
            peer,
            tls,
            budget: RefCell::new(budget),
            streams: Cell::new(0),
            task: RefCell::default(),
        }
    }

    /// Wakes this task when no stream is open any more.
    pub(super) fn wake(&self, context: &Context<'_>) {
        let mut task = self.task.borrow_mut();
        match &mut *task {
            Some(waker) => waker.clone_from(context.waker()),
            None => *task = Some(context.waker().clone()),
        }
    }

    /// Returns true if a stream is open.
    pub(super) fn has_streams(&self) -> bool {
        self.streams.get() > 0
    }

    /// Waits until no stream is open.
    pub(super) async fn streams_over(&self) {
        poll_fn(|context| {
            self.wake(context);
            if self.has_streams() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Counts a stream that ended before its response did.
    pub(super) fn count_reset(&self, reason: Http2Reset) {
        self.core.cells.http2.resets(reason).inc();
    }
}

/// An open stream, for as long as this lives.
#[derive(Debug)]
pub(super) struct OpenStream(pub(super) Rc<Shared>);

impl OpenStream {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        shared.core.cells.http2.streams.inc();
        shared.core.cells.http2.requests.inc();
        Self(Rc::clone(shared))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let shared = &self.0;
        shared.core.cells.http2.streams.dec();
        shared.streams.set(shared.streams.get().saturating_sub(1));
        if !shared.has_streams() {
            shared.task.take().into_iter().for_each(Waker::wake);
        }
    }
}
