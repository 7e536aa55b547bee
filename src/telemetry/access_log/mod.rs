//! The access log: one JSON line for each request.
//!
//! A worker formats its lines into a buffer of its own ([`AccessLogSink`]) and hands full buffers
//! over a bounded channel to one thread ([`AccessLogHandle`]) that writes them. No worker
//! ever waits for a disk or a pipe: what the writer cannot take is dropped and counted.
//!
//! Tokens and queries are never in a line; [`write_record`] cuts a query off even if it is
//! handed one.

mod record;
mod sink;
mod writer;

use std::{fs::File, io};

use crossbeam_channel::bounded;

pub use self::{
    record::{AccessRecord, write_record},
    sink::{AccessLogSink, AccessLogSinks},
    writer::{AccessLogHandle, AccessLogTarget},
};

/// Bytes that a sink collects before it hands them over by itself. Large enough that a
/// write costs little for each line, small enough to stay in the core's cache.
pub const BATCH_BYTES: usize = 65_536;

/// Batches that may wait for the writer: 8 MiB in all, a second of 40,000 requests/s.
const BATCHES_WAITING_MAX: usize = 128;

/// Lines on their way from a sink to the writer.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

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

/// A second descriptor of standard output, so that it is written like any other file: whole
/// batches, and errors that are seen.
fn standard_output() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests;
