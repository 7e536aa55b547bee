//! A generation as it is handed out: the snapshot, and beside it the counters that it counts in.

use std::{ops::Deref, sync::Arc};

use crate::{
    handoff::snapshot::Snapshot,
    telemetry::{cells::BucketCells, key_slots::KeySlots},
};

/// A snapshot with its counters. Reads as the snapshot.
#[derive(Clone, Debug)]
pub struct Release {
    /// The configuration, which never changes.
    pub snapshot: Arc<Snapshot>,
    /// The counters, which outlive it.
    pub counters: Arc<Counters>,
}

impl Deref for Release {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// The counters that a generation counts in. Those of a name that two generations have are the
/// same.
#[derive(Debug)]
pub struct Counters {
    /// Those of each bucket, by its index in [`Snapshot::buckets`].
    pub buckets: Vec<BucketCounters>,
    /// Which counter belongs to which key label; grows with each generation.
    pub jwt_keys: KeySlots,
    /// For each key of [`Snapshot::auth`], by index, its slot among `CoreCells::jwt_key_uses`.
    pub key_slots: Box<[usize]>,
}

/// The counters of one bucket.
#[derive(Clone, Debug)]
pub struct BucketCounters {
    /// The `bucket` label: the bucket's name, or that of the cells which all buckets share.
    pub label: Arc<str>,
    /// One set per worker, by worker index; each has a single writer.
    pub cells: Box<[Arc<BucketCells>]>,
}
