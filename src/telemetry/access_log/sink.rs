//! The worker's end of the access log.

use std::{mem, sync::Arc};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::{
    batch::{BATCH_BYTES, Batch},
    record::AccessRecord,
    rules::AccessLogRules,
    second::Second,
};
use crate::telemetry::cells::CoreCells;

/// Makes a sink for each core.
#[derive(Clone, Debug)]
pub struct AccessLogSinks {
    full: Sender<Batch>,
    empty: Receiver<Vec<u8>>,
}

impl AccessLogSinks {
    pub(super) const fn new(full: Sender<Batch>, empty: Receiver<Vec<u8>>) -> Self {
        Self { full, empty }
    }

    #[cfg(test)]
    pub(super) const fn empty_for_tests(&self) -> &Receiver<Vec<u8>> {
        &self.empty
    }

    /// A sink for the core that owns `cells`, where it counts what it must drop.
    pub fn sink(&self, cells: Arc<CoreCells>) -> AccessLogSink {
        AccessLogSink {
            batch: Batch::default(),
            second: Second::default(),
            sampled: 0,
            full: self.full.clone(),
            empty: self.empty.clone(),
            cells,
        }
    }
}

/// Collects the lines of one core. Dropping it hands over what it holds.
#[derive(Debug)]
pub struct AccessLogSink {
    batch: Batch,
    second: Second,
    /// See [`AccessLogRules::samples`].
    sampled: u32,
    full: Sender<Batch>,
    empty: Receiver<Vec<u8>>,
    cells: Arc<CoreCells>,
}

impl AccessLogSink {
    /// Returns true if the response with this status is one of those that have a line.
    pub fn samples(&mut self, rules: &AccessLogRules, status: u16, is_aborted: bool) -> bool {
        rules.samples(status, is_aborted, &mut self.sampled)
    }

    /// Adds a line; hands the buffer over when it is full. Never waits.
    pub fn push(&mut self, rules: &AccessLogRules, record: &AccessRecord<'_>) {
        if self.batch.bytes.capacity() == 0 {
            self.batch.bytes = self.empty.try_recv().unwrap_or_default();
            self.batch.bytes.reserve(BATCH_BYTES);
        }
        rules.layout.write(record, &mut self.second, &mut self.batch.bytes);
        self.batch.lines += 1;
        if self.is_full() {
            self.flush();
        }
    }

    /// Returns true if there is nothing to hand over.
    pub const fn is_empty(&self) -> bool {
        self.batch.lines == 0
    }

    /// Hands the lines over, so that they appear soon; for a timer of the worker. Never waits:
    /// while the writer is behind, a buffer that has room is kept for the next attempt, and a full
    /// one loses its lines to [`CoreCells::access_log_dropped`].
    pub fn flush(&mut self) {
        if self.is_empty() {
            return;
        }
        match self.full.try_send(mem::take(&mut self.batch)) {
            Ok(()) => {}
            Err(TrySendError::Full(batch)) => {
                self.batch = batch;
                if self.is_full() {
                    self.discard();
                }
            }
            Err(TrySendError::Disconnected(batch)) => {
                self.batch = batch;
                self.discard();
            }
        }
    }

    /// Returns true if one more line of usual length might make the buffer grow.
    const fn is_full(&self) -> bool {
        const LINE_BYTES_USUAL: usize = 512;
        self.batch.bytes.len() + LINE_BYTES_USUAL > BATCH_BYTES
    }

    fn discard(&mut self) {
        self.cells.access_log_dropped.add(self.batch.lines);
        self.batch.lines = 0;
        self.batch.bytes.clear();
    }
}

impl Drop for AccessLogSink {
    fn drop(&mut self) {
        self.flush();
        self.discard();
    }
}
