//! Waiting for a condition that is known to come, with a deadline far beyond what it needs.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// How long anything in these tests may take before it counts as never: generous, because a
/// loaded two-core machine is slow and a passing test never waits this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(45);

/// Pause between two looks at a condition.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds.
///
/// # Panics
/// After [`DEADLINE`], naming `what` was awaited.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `condition` holds, for something that is a lot of work: [`wait_until`] several times
/// over.
///
/// # Panics
/// In the end, naming `what` was awaited.
#[track_caller]
pub(crate) fn wait_long_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_within(DEADLINE * 10, what, || condition().then_some(()));
}

/// Waits until `look` finds something and returns it.
///
/// # Panics
/// After [`DEADLINE`], naming `what` was awaited.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_within(DEADLINE, what, look)
}

#[track_caller]
fn wait_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "still waiting after {limit:?}: {what}");
        thread::park_timeout(POLL);
    }
}

/// Waits until nobody listens at this address any more.
#[track_caller]
pub(crate) fn wait_refused(address: SocketAddr) {
    wait_until("the listener to close", || TcpStream::connect(address).is_err());
}
