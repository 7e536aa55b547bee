//! The access log: one JSON line for each request.
//!
//! A worker formats its lines into a buffer of its own ([`AccessLogSink`]) and hands full buffers
//! over a bounded channel to one thread ([`AccessLogHandle`]) that writes them. No worker
//! ever waits for a disk or a pipe: what the writer cannot take is dropped and counted.
//!
//! Tokens and queries are never in a line; [`write_record`] cuts a query off even if it is
//! handed one.

mod batch;
mod record;
mod second;
mod sink;
mod writer;

use std::io;

use crossbeam_channel::bounded;

pub use self::{
    batch::BATCH_BYTES,
    record::{AccessRecord, TlsFacts, write_record},
    second::Second,
    sink::{AccessLogSink, AccessLogSinks},
    writer::{AccessLogHandle, AccessLogTarget},
};

/// Batches that may wait for the writer: 8 MiB in all, a second of 40,000 requests/s.
const BATCHES_WAITING_MAX: usize = 128;

/// Starts the writer on `path` (see [`AccessLogTarget::open`]); the second value makes the sinks.
///
/// # Errors
/// The file cannot be opened, or the thread cannot be started.
pub fn start(path: &str) -> io::Result<(AccessLogHandle, AccessLogSinks)> {
    start_on(AccessLogTarget::open(path)?)
}

fn start_on(target: AccessLogTarget) -> io::Result<(AccessLogHandle, AccessLogSinks)> {
    let (full, batches) = bounded(BATCHES_WAITING_MAX);
    let (emptied, empty) = bounded(BATCHES_WAITING_MAX);
    let handle = AccessLogHandle::start(target, batches, emptied)?;
    Ok((handle, AccessLogSinks::new(full, empty)))
}

#[cfg(test)]
mod tests;
