//! One core's copy of a generation, with what the core derives from it.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use crossbeam_channel::Sender;

use crate::{
    data_plane::{core::deferred_drop::DeferredDrop, upstream::endpoint::EndpointState},
    handoff::{
        message::FromWorker,
        release::Release,
        snapshot::{Bucket, Snapshot},
    },
    policy::auth::TokenCache,
    protocol::s3::{AmzDate, DailyKey, DayKey, RecentSignatures, Signer},
    telemetry::cells::BucketCells,
};

/// One core's copy of a generation, with what the core derives from it. All of it dies with the
/// generation, so a rotated secret can never be honoured from a cache.
#[derive(Debug)]
pub(crate) struct Local {
    release: Option<Release>,
    pub(super) endpoint_states: Vec<Rc<EndpointState>>,
    signing: Vec<RefCell<DailyKey>>,
    signatures: RefCell<RecentSignatures>,
    pub(crate) tokens: RefCell<TokenCache>,
    retired: Sender<FromWorker>,
    deferred: Rc<DeferredDrop>,
}

impl Local {
    pub(crate) fn new(
        release: Release,
        endpoint_states: Vec<Rc<EndpointState>>,
        retired: Sender<FromWorker>,
        deferred: Rc<DeferredDrop>,
    ) -> Self {
        let signing = release.buckets.iter().map(|_| RefCell::default()).collect();
        Self {
            release: Some(release),
            endpoint_states,
            signing,
            signatures: RefCell::default(),
            tokens: RefCell::new(TokenCache::new()),
            retired,
            deferred,
        }
    }

    fn release(&self) -> &Release {
        // The option is emptied in `drop` only, after which nobody can hold a reference.
        match &self.release {
            Some(release) => release,
            None => unreachable!("a dropped generation was used"),
        }
    }

    /// A worker's counters of the bucket of this index.
    pub(crate) fn cells_of(&self, index: usize, worker: usize) -> Option<&Arc<BucketCells>> {
        self.release().counters.buckets.get(index)?.cells.get(worker)
    }

    /// The slot in which uses of the key of this index are counted.
    pub(crate) fn key_slot(&self, key: usize) -> Option<usize> {
        self.release().counters.key_slots.get(key).copied()
    }

    pub(crate) fn endpoint_of(&self, bucket: &Bucket) -> Option<&Rc<EndpointState>> {
        self.endpoint_states.get(bucket.endpoint)
    }

    /// Gives up the verified tokens, because new requests use a newer generation: those that are
    /// still served with this one have been permitted.
    pub(super) fn give_up_tokens(&self) {
        self.deferred.add(self.tokens.take());
    }

    /// Gives `sign` the signing key of a bucket for a day, which is derived once per day, core,
    /// generation and version of the credentials, and the signatures made lately.
    pub(crate) fn with_signing_key(
        &self,
        signer: Signer,
        secret: &[u8],
        region: &str,
        date: &AmzDate,
        sign: impl FnOnce(&mut DayKey, &mut RecentSignatures),
    ) {
        if let Some(daily) = self.signing.get(signer.bucket) {
            let mut daily = daily.borrow_mut();
            let key = daily.get(signer.serial, secret, date, region);
            sign(key, &mut self.signatures.borrow_mut());
        }
    }
}

impl std::ops::Deref for Local {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        self.release()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Freeing 10,000 buckets takes milliseconds: that is the control thread's work.
        if let Some(release) = self.release.take() {
            let _ = self.retired.try_send(FromWorker::Retired(release));
        }
        self.give_up_tokens();
    }
}
