//! The access log: one line for each request, in the form and with the fields that are configured.
//!
//! A worker formats its lines into a buffer of its own ([`AccessLogSink`]) and hands full buffers
//! over a bounded channel to one thread ([`AccessLogHandle`]) that writes them. No worker
//! ever waits for a disk or a pipe: what the writer cannot take is dropped and counted.
//!
//! Tokens and queries are never in a line: a query is cut off even if the caller hands one over.
//!
//! The usual fields in JSON are what nearly everybody logs, so `record` writes them in one go.
//! Everything else asks for each field's value (`value`).

mod batch;
mod combined;
mod field;
mod layout;
mod more;
mod record;
mod rules;
mod second;
mod sink;
mod template;
mod value;
mod writer;

use std::io;

use crossbeam_channel::bounded;

pub use self::{
    batch::BATCH_BYTES,
    field::{Field, Needs},
    layout::Layout,
    more::More,
    record::{AbortedBy, AccessRecord, TlsFacts, write_record},
    rules::{AccessLogRules, SHARE_WHOLE, SkippedEndpoint},
    second::Second,
    sink::{AccessLogSink, AccessLogSinks},
    template::{TEMPLATE_BYTES_MAX, Template, TemplateError},
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
