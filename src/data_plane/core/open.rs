//! Open connections and listeners of one core, the guards that count them, and the step of
//! stopping.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crossbeam_channel::Sender;
use slab::Slab;

use crate::{
    handoff::message::{DrainStep, FromWorker},
    telemetry::{
        access_log::AccessLogSink,
        cells::{CoreCells, Gauge},
        labels::ConnectionState,
    },
};

/// The purpose of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Objects, and the built-in endpoints unless they have a listener of their own.
    Main,
    /// The built-in endpoints only.
    Admin,
}

impl Role {
    /// The gauge of a core for open connections to such a listener.
    pub(crate) fn connections(self, cells: &CoreCells) -> &Gauge {
        match self {
            Self::Main => &cells.main_connections,
            Self::Admin => &cells.admin_connections,
        }
    }
}

/// Everything that one core has open. Tells the control thread when the core has come to the end of
/// a step of stopping.
#[derive(Debug)]
pub(crate) struct Open {
    worker: usize,
    step: Cell<DrainStep>,
    counts: Counts,
    cells: Arc<CoreCells>,
    access_log: Rc<RefCell<AccessLogSink>>,
    to_control: Sender<FromWorker>,
    /// Tasks that wait for the next step.
    waiting: RefCell<Vec<Waker>>,
    /// Tasks that are told of every step.
    watching: RefCell<Slab<Waker>>,
}

#[derive(Debug, Default)]
struct Counts {
    main_listeners: Cell<usize>,
    admin_listeners: Cell<usize>,
    main_connections: Cell<usize>,
    admin_requests: Cell<usize>,
}

impl Open {
    pub(crate) fn new(
        worker: usize,
        cells: Arc<CoreCells>,
        access_log: Rc<RefCell<AccessLogSink>>,
        to_control: Sender<FromWorker>,
    ) -> Self {
        Self {
            worker,
            step: Cell::default(),
            counts: Counts::default(),
            cells,
            access_log,
            to_control,
            waiting: RefCell::default(),
            watching: RefCell::default(),
        }
    }

    /// The step of stopping.
    pub(crate) fn step(&self) -> DrainStep {
        self.step.get()
    }

    /// Begins a step of stopping, and ends it when there is nothing to wait for.
    pub(crate) fn begin(&self, step: DrainStep) {
        self.step.set(step);
        self.waiting.take().into_iter().for_each(Waker::wake);
        for (_, waker) in self.watching.borrow().iter() {
            waker.wake_by_ref();
        }
        self.report_done();
    }

    /// Waits for `ready`, but at most until a step has started.
    pub(crate) async fn until(&self, step: DrainStep, ready: impl Future<Output = ()>) {
        let mut ready = std::pin::pin!(ready);
        poll_fn(|context| {
            if self.step() >= step || ready.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            self.wake_at_next_step(context);
            Poll::Pending
        })
        .await;
    }

    fn wake_at_next_step(&self, context: &Context<'_>) {
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
    }

    /// Client connections of the main listener.
    pub(crate) fn main_connections(&self) -> usize {
        self.counts.main_connections.get()
    }

    fn report_done(&self) {
        let step = self.step();
        if self.counts.is_done(step) {
            let mut access_log = self.access_log.borrow_mut();
            access_log.flush();
            // The process ends at this report: lines that wait for the writer come first.
            if step < DrainStep::Ending || access_log.is_empty() {
                let _ = self.to_control.try_send(FromWorker::Drained { worker: self.worker, step });
            }
        }
    }

    /// Hands over what the access log holds, and makes the report that waited for that.
    pub(crate) fn flush_access_log(&self) {
        let waits = !self.access_log.borrow().is_empty();
        self.access_log.borrow_mut().flush();
        if waits && self.step() == DrainStep::Ending {
            self.report_done();
        }
    }
}

/// One task that is woken at every step of stopping, for as long as this lives.
#[derive(Debug)]
pub(crate) struct StepWatch {
    open: Rc<Open>,
    key: Option<usize>,
}

impl StepWatch {
    pub(crate) fn new(open: &Rc<Open>) -> Self {
        Self { open: Rc::clone(open), key: None }
    }

    /// Wakes this task from now on.
    pub(crate) fn wake(&mut self, context: &Context<'_>) {
        let mut watching = self.open.watching.borrow_mut();
        match self.key.and_then(|key| watching.get_mut(key)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.key = Some(watching.insert(context.waker().clone())),
        }
    }
}

impl Drop for StepWatch {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.open.watching.borrow_mut().remove(key);
        }
    }
}

impl Counts {
    /// Returns true if a step of stopping is complete.
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

/// Adds one to a count of its core for as long as it lives.
#[derive(Debug)]
struct Counted {
    open: Rc<Open>,
    count: fn(&Counts) -> &Cell<usize>,
}

impl Counted {
    fn new(open: &Rc<Open>, count: fn(&Counts) -> &Cell<usize>) -> Self {
        let cell = count(&open.counts);
        cell.set(cell.get() + 1);
        Self { open: Rc::clone(open), count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let cell = (self.count)(&self.open.counts);
        cell.set(cell.get().saturating_sub(1));
        self.open.report_done();
    }
}

/// One listener, from before its first connection until it is closed.
#[derive(Debug)]
pub(crate) struct ListenerGuard(#[expect(dead_code, reason = "counts until dropped")] Counted);

impl ListenerGuard {
    pub(crate) fn new(open: &Rc<Open>, role: Role) -> Self {
        Self(Counted::new(
            open,
            match role {
                Role::Main => |counts| &counts.main_listeners,
                Role::Admin => |counts| &counts.admin_listeners,
            },
        ))
    }
}

/// One request on the admin listener.
#[derive(Debug)]
pub(crate) struct AdminRequestGuard(#[expect(dead_code, reason = "counts until dropped")] Counted);

impl AdminRequestGuard {
    pub(crate) fn new(open: &Rc<Open>) -> Self {
        Self(Counted::new(open, |counts| &counts.admin_requests))
    }
}

/// One client connection, counted in its state for as long as it lives, also when its task
/// panics.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    open: Rc<Open>,
    role: Role,
    state: Cell<ConnectionState>,
    _counted: Option<Counted>,
}

impl ConnectionGuard {
    pub(crate) fn new(open: &Rc<Open>, role: Role) -> Self {
        open.cells.connections(ConnectionState::Active).inc();
        role.connections(&open.cells).inc();
        Self {
            open: Rc::clone(open),
            role,
            state: Cell::new(ConnectionState::Active),
            _counted: (role == Role::Main)
                .then(|| Counted::new(open, |counts| &counts.main_connections)),
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn set_state(&self, state: ConnectionState) {
        let old = self.state.replace(state);
        if old != state {
            self.open.cells.connections(old).dec();
            self.open.cells.connections(state).inc();
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.open.cells.connections(self.state.get()).dec();
        self.role.connections(&self.open.cells).dec();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::telemetry::access_log::{self, AccessLogRules, AccessRecord};

    #[test]
    fn the_last_report_waits_for_lines_that_the_writer_has_no_room_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // A reader that doesn't read: the pipe fills, then the queue.
        let reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let (handle, sinks) = access_log::start(path.to_str().unwrap()).unwrap();
        let cells = Arc::new(CoreCells::default());
        let sink = Rc::new(RefCell::new(sinks.sink(Arc::clone(&cells))));
        let (to_control, reports) = crossbeam_channel::unbounded();
        let open = Open::new(0, Arc::clone(&cells), Rc::clone(&sink), to_control);
        while cells.access_log_dropped.get() == 0 {
            sink.borrow_mut().push(&AccessLogRules::default(), &AccessRecord::EXAMPLE);
        }
        sink.borrow_mut().push(&AccessLogRules::default(), &AccessRecord::EXAMPLE);
        open.begin(DrainStep::Closing);
        assert!(matches!(reports.try_recv(), Ok(FromWorker::Drained { .. })));
        open.begin(DrainStep::Ending);
        open.flush_access_log();
        assert!(reports.try_recv().is_err(), "lines are still here");
        let reading = std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
        while reports.is_empty() {
            open.flush_access_log();
            std::thread::yield_now();
        }
        assert!(sink.borrow().is_empty());
        drop((handle, reading));
    }

    #[test]
    fn a_step_is_done_when_nothing_that_it_waits_for_is_open() {
        let counts = Counts::default();
        let done = |counts: &Counts| {
            [
                DrainStep::Serving,
                DrainStep::NotReady,
                DrainStep::Closing,
                DrainStep::AdminClosing,
                DrainStep::Ending,
            ]
            .map(|step| counts.is_done(step))
        };
        assert_eq!(done(&counts), [false, false, true, true, true]);
        for (count, expected) in [
            (&counts.main_listeners, [false, false, false, true, true]),
            (&counts.main_connections, [false, false, false, true, false]),
            (&counts.admin_listeners, [false, false, true, false, true]),
            (&counts.admin_requests, [false, false, false, false, false]),
        ] {
            count.set(1);
            assert_eq!(done(&counts), expected);
            count.set(0);
        }
    }
}
