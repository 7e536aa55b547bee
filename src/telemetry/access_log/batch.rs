//! Lines of the access log on their way from a core to the writer.

/// Bytes that a sink collects before it hands them over by itself. Large enough that a
/// write costs little for each line, small enough to stay in the core's cache.
pub const BATCH_BYTES: usize = 65_536;

/// Lines on their way from a sink to the writer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}
