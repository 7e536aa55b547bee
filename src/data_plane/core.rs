//! What one core owns, and its own copy of the running generation.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use crossbeam_channel::Sender;

use crate::{
    data_plane::{
        fading::Fading,
        upstream::endpoint::EndpointState,
        worker::{calls::Calls, open::OpenCounts},
    },
    handoff::{
        live::LiveTable,
        message::{DrainStep, FromWorker},
        snapshot::{Bucket, Endpoint, Snapshot},
    },
    policy::auth::TokenCache,
    protocol::{
        http1::{IMF_FIXDATE_BYTES, Pseudonym, imf_fixdate},
        s3::{AmzDate, DailyKey, RecentSignatures, SigningKey},
        text::hex,
    },
    system::{
        buffers::Buffers,
        clock::{self, Monotonic},
        process,
        splice::Pipes,
        watch::Watches,
    },
    telemetry::{access_log::AccessLogSink, cells::CoreCells},
};

/// Everything that belongs to one core. Lives as long as the process.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) worker: usize,
    pub(crate) current: RefCell<Rc<Local>>,
    /// What renews itself, at the newest version that arrived here.
    pub(crate) live: RefCell<Arc<LiveTable>>,
    pub(crate) watches: Rc<Watches>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) pipes: Pipes,
    pub(crate) endpoints: RefCell<HashMap<Arc<str>, Rc<EndpointState>>>,
    /// This core's counters; nobody else writes them.
    pub(crate) cells: Arc<CoreCells>,
    /// Every core's counters, to be read only.
    pub(crate) fleet: Arc<[Arc<CoreCells>]>,
    pub(crate) max_connections: u64,
    pub(crate) admin_elsewhere: bool,
    /// Name of this process in the `Via` of its requests.
    pub(crate) pseudonym: Pseudonym,
    pub(crate) drain: Cell<DrainStep>,
    pub(crate) open: OpenCounts,
    pub(crate) calls: Calls,
    /// Requests for the metrics page that are being served.
    pub(crate) scrapes: Cell<usize>,
    pub(crate) to_control: Sender<FromWorker>,
    /// What is left of generations that are over.
    pub(crate) fading: Rc<Fading>,
    pub(crate) access_log: RefCell<AccessLogSink>,
    pub(crate) ids: RequestIds,
    pub(crate) dates: Dates,
    /// When a warning about a bucket was last logged, by index.
    pub(crate) warned: RefCell<HashMap<Option<usize>, Monotonic>>,
}

/// Time between two warnings about the same bucket.
const WARN_INTERVAL_NS: u64 = 60_000_000_000;

impl Core {
    /// This core's copy of the newest generation that it has adopted.
    pub(crate) fn current(&self) -> Rc<Local> {
        Rc::clone(&self.current.borrow())
    }

    /// Whether answers must end their connection because the process stops.
    pub(crate) fn is_closing(&self) -> bool {
        self.drain.get() >= DrainStep::Closing
    }

    /// Whether a warning about this bucket is due: one per bucket and interval, so that a client
    /// can't flood the log.
    pub(crate) fn may_warn(&self, bucket: Option<usize>) -> bool {
        let now = self.watches.clock.coarse();
        let mut warned = self.warned.borrow_mut();
        match warned.get(&bucket) {
            Some(at) if now.since(*at) < WARN_INTERVAL_NS => false,
            _ => {
                warned.insert(bucket, now);
                true
            }
        }
    }

    /// Uses live values from now on, unless newer ones came before them.
    pub(crate) fn renew(&self, live: Arc<LiveTable>) {
        let version = LiveTable::renew(&mut self.live.borrow_mut(), live);
        let _ = self.to_control.try_send(FromWorker::Renewed { worker: self.worker, version });
    }

    /// Makes a snapshot the one that every request from now on uses. Endpoints that both generations
    /// name keep their connections; the idle connections of the others are closed.
    pub(crate) fn adopt(&self, snapshot: Arc<Snapshot>) {
        let generation = snapshot.generation;
        let start = Monotonic::now();
        let by_index = self.endpoints_of(&snapshot);
        let local = Rc::new(Local::new(
            snapshot,
            by_index,
            self.to_control.clone(),
            Rc::clone(&self.fading),
        ));
        self.current.replace(local).give_up_tokens();
        self.cells.generation.set(generation.0);
        let _ = self.to_control.try_send(FromWorker::Adopted { worker: self.worker, generation });
        let micros = Monotonic::now().since(start) / 1_000;
        tracing::debug!(
            worker = self.worker,
            generation = generation.0,
            micros,
            "generation adopted"
        );
    }

    /// Closes idle connections to S3 and free pipes, because descriptors are needed elsewhere;
    /// whether there were any connections.
    pub(crate) fn evict_idle(&self) -> bool {
        self.pipes.shrink();
        self.endpoints.borrow().values().fold(false, |any, endpoint| endpoint.evict() | any)
    }

    /// The state of a snapshot's endpoints, by index. What did not change costs a comparison of
    /// pointers: with thousands of endpoints, hashing all their keys would hold requests up.
    fn endpoints_of(&self, snapshot: &Snapshot) -> Vec<Rc<EndpointState>> {
        let before = self.current();
        let mut known = self.endpoints.borrow_mut();
        let mut by_index = Vec::with_capacity(snapshot.endpoints.len());
        let mut moved = HashSet::new();
        let unchanged = |index: usize, endpoint: &Arc<Endpoint>| {
            let old = before.endpoints.get(index)?;
            before.endpoint_states.get(index).filter(|_| Arc::ptr_eq(old, endpoint))
        };
        for (index, endpoint) in snapshot.endpoints.iter().enumerate() {
            if let Some(state) = unchanged(index, endpoint) {
                by_index.push(Rc::clone(state));
                continue;
            }
            moved.insert(Arc::clone(&endpoint.key));
            let state = known
                .entry(Arc::clone(&endpoint.key))
                .or_insert_with(|| Rc::new(EndpointState::new(Arc::clone(endpoint))));
            state.refresh(endpoint);
            by_index.push(Rc::clone(state));
        }
        for (index, old) in before.endpoints.iter().enumerate() {
            let stays = snapshot.endpoints.get(index).is_some_and(|new| Arc::ptr_eq(old, new));
            if stays || moved.contains(&old.key) {
                continue;
            }
            if let Some(orphan) = known.remove(&old.key) {
                orphan.retire();
            }
        }
        by_index
    }
}

/// One core's copy of a generation, with what the core derives from it. All of it dies with the
/// generation, so a rotated secret can never be honoured from a cache.
#[derive(Debug)]
pub(crate) struct Local {
    snapshot: Option<Arc<Snapshot>>,
    endpoint_states: Vec<Rc<EndpointState>>,
    signing: Vec<RefCell<DailyKey>>,
    signatures: RefCell<RecentSignatures>,
    pub(crate) tokens: RefCell<TokenCache>,
    retired: Sender<FromWorker>,
    fading: Rc<Fading>,
}

impl Local {
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        endpoint_states: Vec<Rc<EndpointState>>,
        retired: Sender<FromWorker>,
        fading: Rc<Fading>,
    ) -> Self {
        let signing = snapshot.buckets.iter().map(|_| RefCell::default()).collect();
        Self {
            snapshot: Some(snapshot),
            endpoint_states,
            signing,
            signatures: RefCell::default(),
            tokens: RefCell::new(TokenCache::new()),
            retired,
            fading,
        }
    }

    pub(crate) fn endpoint_of(&self, bucket: &Bucket) -> Option<&Rc<EndpointState>> {
        self.endpoint_states.get(bucket.endpoint)
    }

    /// Gives up the verified tokens, because new requests use a newer generation: those that are
    /// still served with this one have been permitted.
    fn give_up_tokens(&self) {
        self.fading.add(self.tokens.take());
    }

    /// Gives `sign` the signing key of a bucket for a day, which is derived once per day, core and
    /// generation, and the signatures made lately.
    pub(crate) fn with_signing_key(
        &self,
        index: usize,
        bucket: &Bucket,
        date: &AmzDate,
        sign: impl FnOnce(&SigningKey, &mut RecentSignatures),
    ) {
        let Some(credentials) = &bucket.credentials else { return };
        if let Some(daily) = self.signing.get(index) {
            let secret = credentials.secret_key.expose();
            let mut daily = daily.borrow_mut();
            let key = daily.get(secret, date, &bucket.region);
            sign(key, &mut self.signatures.borrow_mut());
        }
    }
}

impl std::ops::Deref for Local {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        // The option is emptied in `drop` only, after which nobody can hold a reference.
        match &self.snapshot {
            Some(snapshot) => snapshot,
            None => unreachable!("a dropped generation was used"),
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Freeing 10,000 buckets takes milliseconds: that is the control thread's work.
        if let Some(snapshot) = self.snapshot.take() {
            let _ = self.retired.try_send(FromWorker::Retired(snapshot));
        }
        self.give_up_tokens();
    }
}

/// Length of a request id, in characters.
pub(crate) const REQUEST_ID_CHARS: usize = 32;

/// Ids of requests: 64 random bits of this core, then a counter. Unique without a system call or
/// a shared counter; they need not be secret.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: [u8; 16],
    next: Cell<u64>,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let prefix = hex::lower_u64(process::random_number());
        // The counter starts somewhere too, so that ids of restarts do not look alike.
        let start = process::random_number() >> 16;
        Self { prefix, next: Cell::new(start) }
    }

    pub(crate) fn next(&self) -> [u8; REQUEST_ID_CHARS] {
        let number = self.next.get().wrapping_add(1);
        self.next.set(number);
        let mut id = [0; REQUEST_ID_CHARS];
        id[..16].copy_from_slice(&self.prefix);
        id[16..].copy_from_slice(&hex::lower_u64(number));
        id
    }
}

/// The present second in the forms that requests and answers need, made once per second.
#[derive(Debug)]
pub(crate) struct Dates {
    /// The wall clock in milliseconds at the last tick, and the monotonic time then.
    base: Cell<(u64, Monotonic)>,
    second: Cell<u64>,
    http: Cell<[u8; IMF_FIXDATE_BYTES]>,
    amz: Cell<AmzDate>,
}

impl Dates {
    pub(crate) fn new() -> Self {
        let dates = Self {
            base: Cell::new((clock::unix_millis(), Monotonic::now())),
            second: Cell::new(0),
            http: Cell::new(imf_fixdate(0)),
            amz: Cell::new(AmzDate::from_unix(0)),
        };
        dates.render(clock::unix_seconds());
        dates
    }

    /// Reads the wall clock. Call it each tick, so that a clock that was set is followed.
    pub(crate) fn refresh(&self) {
        self.base.set((clock::unix_millis(), Monotonic::now()));
    }

    /// Milliseconds since the Unix epoch at a monotonic time near now.
    pub(crate) fn unix_millis(&self, at: Monotonic) -> u64 {
        let (millis, base) = self.base.get();
        millis + at.since(base) / 1_000_000
    }

    /// Seconds since the Unix epoch at a monotonic time near now; updates the rendered forms.
    pub(crate) fn unix_seconds(&self, at: Monotonic) -> u64 {
        let second = self.unix_millis(at) / 1_000;
        if second != self.second.get() {
            self.render(second);
        }
        second
    }

    fn render(&self, second: u64) {
        self.second.set(second);
        self.http.set(imf_fixdate(second));
        self.amz.set(AmzDate::from_unix(second));
    }

    /// `Date` of an answer (RFC 9110 section 6.6.1).
    pub(crate) fn http(&self) -> [u8; IMF_FIXDATE_BYTES] {
        self.http.get()
    }

    /// `x-amz-date` of a signed request.
    pub(crate) fn amz(&self) -> AmzDate {
        self.amz.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ_and_are_hex() {
        let ids = RequestIds::new();
        let (a, b) = (ids.next(), ids.next());
        assert_ne!(a, b);
        assert_eq!(a[..16], b[..16]);
        assert!(a.iter().all(u8::is_ascii_hexdigit));
        assert_ne!(RequestIds::new().next()[..16], a[..16]);
    }

    #[test]
    fn a_new_second_is_rendered_anew() {
        let dates = Dates::new();
        let now = Monotonic::now();
        let second = dates.unix_seconds(now);
        let later = dates.unix_seconds(now.plus(std::time::Duration::from_secs(3)));
        assert_eq!(later, second + 3);
        assert_eq!(dates.amz(), AmzDate::from_unix(later));
    }
}
