//! A gate that one thread opens and others wait at: how scripts are delayed without sleeping.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// Closed at first; stays open once opened. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets everybody through from now on.
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits for at most `timeout`; whether the gate is open.
    pub(crate) fn pass_within(&self, timeout: Duration) -> bool {
        let guard = self.0.0.lock().unwrap();
        *self.0.1.wait_timeout_while(guard, timeout, |open| !*open).unwrap().0
    }
}
