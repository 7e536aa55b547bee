//! What a worker still has open, and when it has told the control thread that it is done.

use std::{cell::Cell, rc::Rc};

use crate::{
    data_plane::core::Core,
    handoff::message::{DrainStep, FromWorker},
    telemetry::labels::ConnectionState,
};

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Objects, and the built-in endpoints unless they have a listener of their own.
    Main,
    /// The built-in endpoints only.
    Admin,
}

/// What one worker has open.
#[derive(Debug, Default)]
pub(crate) struct OpenCounts {
    main_listeners: Cell<usize>,
    admin_listeners: Cell<usize>,
    main_connections: Cell<usize>,
    admin_requests: Cell<usize>,
}

impl OpenCounts {
    /// Client connections of the main listener.
    pub(crate) fn main_connections(&self) -> usize {
        self.main_connections.get()
    }

    /// Whether a step of stopping is complete.
    fn is_done(&self, step: DrainStep) -> bool {
        let admin_is_quiet = self.admin_requests.get() == 0;
        match step {
            DrainStep::Serving | DrainStep::NotReady => false,
            // Connections that wait in the queue are accepted before the listener closes.
            DrainStep::Closing => {
                self.main_listeners.get() == 0 && self.main_connections.get() == 0 && admin_is_quiet
            }
            DrainStep::AdminClosing => self.admin_listeners.get() == 0 && admin_is_quiet,
            DrainStep::Ending => self.main_connections.get() == 0 && admin_is_quiet,
        }
    }
}

/// Adds one to a count of its core for as long as it lives, and tells the control thread when the
/// core has come to the end of a step.
#[derive(Debug)]
struct Counted {
    core: Rc<Core>,
    count: fn(&OpenCounts) -> &Cell<usize>,
}

impl Counted {
    fn new(core: &Rc<Core>, count: fn(&OpenCounts) -> &Cell<usize>) -> Self {
        let cell = count(&core.open);
        cell.set(cell.get() + 1);
        Self { core: Rc::clone(core), count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let cell = (self.count)(&self.core.open);
        cell.set(cell.get().saturating_sub(1));
        report_done(&self.core);
    }
}

/// Tells the control thread if the present step of stopping is complete.
pub(crate) fn report_done(core: &Core) {
    let step = core.drain.get();
    if core.open.is_done(step) {
        core.access_log.borrow_mut().flush();
        let _ = core.to_control.try_send(FromWorker::Drained { worker: core.worker, step });
    }
}

/// One listener, from before its first connection until it is closed.
#[derive(Debug)]
pub(crate) struct OpenListener(#[expect(dead_code, reason = "counts until dropped")] Counted);

impl OpenListener {
    pub(crate) fn new(core: &Rc<Core>, role: Role) -> Self {
        Self(Counted::new(
            core,
            match role {
                Role::Main => |open| &open.main_listeners,
                Role::Admin => |open| &open.admin_listeners,
            },
        ))
    }
}

/// One request on the admin listener.
#[derive(Debug)]
pub(crate) struct OpenAdminRequest(#[expect(dead_code, reason = "counts until dropped")] Counted);

impl OpenAdminRequest {
    pub(crate) fn new(core: &Rc<Core>) -> Self {
        Self(Counted::new(core, |open| &open.admin_requests))
    }
}

/// One client connection, counted in its state for as long as it lives, also when its task
/// panics.
#[derive(Debug)]
pub(crate) struct Open {
    core: Rc<Core>,
    role: Role,
    state: Cell<ConnectionState>,
    _counted: Option<Counted>,
}

impl Open {
    pub(crate) fn new(core: &Rc<Core>, role: Role) -> Self {
        core.cells.connections(ConnectionState::Active).inc();
        Self {
            core: Rc::clone(core),
            role,
            state: Cell::new(ConnectionState::Active),
            _counted: (role == Role::Main)
                .then(|| Counted::new(core, |open| &open.main_connections)),
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn set_state(&self, state: ConnectionState) {
        let old = self.state.replace(state);
        if old != state {
            self.core.cells.connections(old).dec();
            self.core.cells.connections(state).inc();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.cells.connections(self.state.get()).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_done_when_nothing_that_it_waits_for_is_open() {
        let open = OpenCounts::default();
        let done = |open: &OpenCounts| {
            [
                DrainStep::Serving,
                DrainStep::NotReady,
                DrainStep::Closing,
                DrainStep::AdminClosing,
                DrainStep::Ending,
            ]
            .map(|step| open.is_done(step))
        };
        assert_eq!(done(&open), [false, false, true, true, true]);
        for (count, expected) in [
            (&open.main_listeners, [false, false, false, true, true]),
            (&open.main_connections, [false, false, false, true, false]),
            (&open.admin_listeners, [false, false, true, false, true]),
            (&open.admin_requests, [false, false, false, false, false]),
        ] {
            count.set(1);
            assert_eq!(done(&open), expected);
            count.set(0);
        }
    }
}
