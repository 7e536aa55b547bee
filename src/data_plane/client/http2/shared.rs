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
        client::http2::{budget::Budget, lane::Lane, wire::Wire},
        core::{Core, open::Role},
        upstream::body::HeldUp,
    },
    system::{reactor::Presence, tls::Negotiated},
    telemetry::labels::Http2Reset,
};

/// State that the tasks of one connection have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Rc<Core>,
    pub(super) role: Role,
    pub(super) peer: SocketAddr,
    /// The client's socket.
    pub(super) client: Presence,
    /// The TLS session that carries the connection, if there is one.
    pub(super) tls: Option<Negotiated>,
    pub(super) budget: RefCell<Budget>,
    // Never borrowed across a wait.
    pub(super) wire: RefCell<Wire>,
    pub(super) held_up: HeldUp,
    tasks: Cell<usize>,
    /// The task of the connection.
    task: RefCell<Option<Waker>>,
    /// Set if that task is woken already.
    is_woken: Cell<bool>,
}

impl Shared {
    pub(super) fn new(
        core: &Rc<Core>,
        role: Role,
        (peer, client): (SocketAddr, Presence),
        tls: Option<Negotiated>,
        budget: Budget,
    ) -> Self {
        Self {
            core: Rc::clone(core),
            role,
            peer,
            client,
            tls,
            budget: RefCell::new(budget),
            wire: RefCell::new(Wire::new(&core.buffers)),
            held_up: HeldUp::default(),
            tasks: Cell::new(0),
            task: RefCell::default(),
            is_woken: Cell::new(false),
        }
    }

    /// Wakes this task when frames wait to be sent, and when no stream has a task any more.
    pub(super) fn listen(&self, context: &Context<'_>) {
        self.is_woken.set(false);
        let mut task = self.task.borrow_mut();
        match &mut *task {
            Some(waker) => waker.clone_from(context.waker()),
            None => *task = Some(context.waker().clone()),
        }
    }

    /// Wakes the task of the connection, once for all that streams do in a turn.
    pub(super) fn wake(&self) {
        if !self.is_woken.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }

    /// Number of streams that have a task.
    pub(super) fn tasks(&self) -> usize {
        self.tasks.get()
    }

    /// Waits until no stream has a task.
    pub(super) async fn tasks_over(&self) {
        poll_fn(|context| {
            self.listen(context);
            if self.tasks() > 0 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Counts a stream that ended before its response did.
    pub(super) fn count_reset(&self, reason: Http2Reset) {
        self.core.cells.http2.resets(reason).inc();
    }
}

/// A stream with a task, for as long as this lives.
#[derive(Debug)]
pub(super) struct OpenStream {
    pub(super) shared: Rc<Shared>,
    pub(super) lane: Rc<Lane>,
}

impl OpenStream {
    pub(super) fn new(shared: &Rc<Shared>, lane: Rc<Lane>) -> Self {
        lane.is_begun.set(true);
        shared.tasks.set(shared.tasks.get() + 1);
        shared.core.cells.http2.streams.inc();
        shared.core.cells.http2.requests.inc();
        Self { shared: Rc::clone(shared), lane }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.wire.borrow_mut().finish(&self.lane);
        shared.core.cells.http2.streams.dec();
        shared.tasks.set(shared.tasks.get().saturating_sub(1));
        // What it sent last, or that it was the last one.
        shared.wake();
    }
}
