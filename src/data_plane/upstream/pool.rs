//! Idle connections of one core to one endpoint, newest first.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::Duration,
};

use crate::{
    data_plane::upstream::connection::Connection, system::clock::Monotonic,
    telemetry::cells::BucketCells,
};

/// Longest time without a request. S3 itself closes after about 20 s of silence; a server of
/// one's own may keep it for longer, and then reuse is worth having.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// The same for a connection over the limit.
const SPARE_MAX: Duration = Duration::from_secs(1);

/// Limits on the connections that a bucket keeps to its endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keeping {
    /// Idle connections at rest.
    pub(crate) most: usize,
    /// Age beyond which a connection serves no further request.
    pub(crate) max_age: Duration,
}

/// The idle connections to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Idle>>,
    retired: Cell<bool>,
    /// The limits of the bucket that gave one back last.
    keeping: Cell<Keeping>,
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: Monotonic,
}

impl Pool {
    /// Takes connections back again, after a newer generation named the endpoint again.
    pub(crate) fn revive(&self) {
        self.retired.set(false);
    }

    /// Closes the idle connections, and later each busy one as it comes back.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.evict();
    }

    /// Closes the idle connections. Returns true if there were any.
    pub(crate) fn evict(&self) -> bool {
        !self.idle.take().is_empty()
    }

    /// The idle connection that was used last and is still usable.
    pub(crate) fn take(
        &self,
        max_age: Duration,
        now: Monotonic,
        cells: &Arc<BucketCells>,
    ) -> Option<Box<Connection>> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if !idle.connection.is_over(max_age, now) && idle.connection.is_quiet() {
                idle.connection.take_for(cells);
                return Some(idle.connection);
            }
            // Too old, closed by the server, or bytes arrived that nobody asked for.
        }
    }

    /// Keeps a connection whose response was complete. More than are wanted are kept only until a
    /// [`Pool::sweep`] finds that they were not needed for a while: under load, connections are
    /// idle for microseconds between two requests, and closing them there would mean connecting
    /// again at once.
    pub(crate) fn give_back(
        &self,
        mut connection: Box<Connection>,
        keeping: Keeping,
        now: Monotonic,
    ) {
        let unwanted = self.retired.get() || keeping.most == 0;
        if unwanted || connection.is_over(keeping.max_age, now) {
            return;
        }
        self.keeping.set(keeping);
        connection.rest();
        self.idle.borrow_mut().push(Idle { connection, since: now });
    }

    /// Closes idle connections that were idle for too long, are too old, were closed by the server,
    /// received bytes, or lead to an address that is gone.
    pub(crate) fn sweep(&self, now: Monotonic) {
        let Keeping { most, max_age } = self.keeping.get();
        let mut kept = Vec::new();
        let all = self.idle.take();
        // The oldest come first, so those over the limit are the ones that were needed least.
        let mut over = all.len().saturating_sub(most);
        for idle in all {
            let idle_for = Duration::from_nanos(now.since(idle.since));
            let spare = over > 0 && idle_for >= SPARE_MAX;
            let expired = idle_for >= IDLE_MAX || idle.connection.is_over(max_age, now);
            if !expired && !spare && idle.connection.is_quiet() {
                kept.push(idle);
            } else {
                over = over.saturating_sub(1);
            }
        }
        *self.idle.borrow_mut() = kept;
    }
}
