//! Counters of one core.

/// Counters of one bucket on one core.
#[derive(Debug, Default)]
pub struct BucketCells {}
