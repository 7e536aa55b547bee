//! Changes between two configurations, as key paths. They never hold a value of a hot key, so that
//! a secret cannot end up in a report.

use std::fmt::Display;

/// The report of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Key paths that change with the reload: `buckets[products].s3.secret_key`; a bucket that
    /// is new or gone is `buckets[name]`.
    pub applied: Vec<String>,
    /// Keys that wait for a restart: `server.port: running 8080, file 9090`.
    pub restart_required: Vec<String>,
    /// Set if anything changes with the reload.
    pub hot_changed: bool,
}

/// Changes found so far.
#[derive(Debug, Default)]
pub(super) struct Changes {
    applied: Vec<String>,
    restart_required: Vec<String>,
}

impl Changes {
    /// Notes a change that a reload brings.
    pub(super) fn hot(&mut self, path: impl Display) {
        self.applied.push(path.to_string());
    }

    /// Notes a change that waits for a restart.
    pub(super) fn restart(&mut self, path: impl Display, running: &str, new: &str) {
        self.restart_required.push(format!("{path}: running {running}, file {new}"));
    }
}

impl From<Changes> for Difference {
    fn from(changes: Changes) -> Self {
        let Changes { applied, restart_required } = changes;
        Self { hot_changed: !applied.is_empty(), applied, restart_required }
    }
}
