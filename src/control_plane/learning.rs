//! Values that a start or a reload needs for the first time: all of them are asked for at once, and
//! waited for together.

use std::{panic::resume_unwind, thread, time::Duration};

use crate::{
    config::{Settings, settings::BucketSettings},
    control_plane::{
        key_sets::KeyFetcher,
        providers::credentials::CredentialSources,
        resolver::{RESOLVE_TIMEOUT, Resolver},
    },
    handoff::live::HostPort,
    policy::auth::AuthPolicy,
    protocol::s3::address,
};

/// Time that a start, or a reload that names new sources, waits for all of them together. What
/// comes later is used by itself.
pub const LEARN_TIMEOUT: Duration = Duration::from_secs(5);

/// All that renews itself and is asked for over the network.
#[derive(Clone, Debug)]
pub struct Learner {
    /// Names to addresses.
    pub resolver: Resolver,
    /// Key sets.
    pub key_sets: KeyFetcher,
    /// Sources of credentials.
    pub credentials: CredentialSources,
}

impl Learner {
    /// Asks for what is new in a configuration, and waits for it. Returns a warning about each
    /// thing that is not there then.
    pub fn learn(&self, settings: &Settings, policy: &AuthPolicy) -> Vec<String> {
        let names = || learn_names(&self.resolver, settings);
        let key_sets = || self.key_sets.learn(policy, LEARN_TIMEOUT);
        let credentials = || self.credentials.learn(&settings.sources(), LEARN_TIMEOUT);
        let [names, key_sets, credentials] = at_once([&names, &key_sets, &credentials]);
        [names, key_sets, credentials].concat()
    }
}

/// Work of one of several threads.
type Work<'w> = &'w (dyn Fn() -> Vec<String> + Sync);

/// The results of work that waits, each on a thread of its own.
fn at_once<const N: usize>(all: [Work<'_>; N]) -> [Vec<String>; N] {
    thread::scope(|scope| {
        let started = all.map(|work| {
            let thread = thread::Builder::new().name("yt-learn".to_owned());
            (work, thread.spawn_scoped(scope, work))
        });
        started.map(|(work, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // Without a thread it has to be done here, one after the other.
            Err(_) => work(),
        })
    })
}

/// Resolves the names that are new and tells which ones could not be.
pub fn learn_names(resolver: &Resolver, settings: &Settings) -> Vec<String> {
    let hosts = hosts(settings);
    resolver
        .learn(&hosts, RESOLVE_TIMEOUT)
        .into_iter()
        .map(|(host, _)| {
            format!(
                "the endpoint host '{host}' does not resolve; its buckets answer 502 until it does"
            )
        })
        .collect()
}

/// The hosts of all endpoints, each once.
fn hosts(settings: &Settings) -> Vec<HostPort> {
    let host_of = |bucket: &BucketSettings| -> HostPort {
        let s3 = &bucket.s3;
        let endpoint = s3.endpoint.as_ref();
        let url = address(endpoint, &s3.region, &s3.bucket, &s3.key_prefix, s3.addressing).url;
        (url.host.into(), url.port)
    };
    let mut hosts: Vec<HostPort> = settings.buckets.iter().map(host_of).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Barrier,
    };

    use super::*;

    /// None of them could end if they were done one after the other.
    #[test]
    fn all_work_is_under_way_at_once_and_its_results_keep_their_order() {
        let together = Barrier::new(3);
        let work = |result: &'static str| {
            let together = &together;
            move || {
                together.wait();
                vec![result.to_owned()]
            }
        };
        let (a, b, c) = (work("a"), work("b"), work("c"));
        assert_eq!(at_once([&a, &b, &c]).concat(), ["a", "b", "c"]);
    }

    #[test]
    fn a_panic_is_passed_on() {
        let (good, bad) = (Vec::new, || panic!("this one is meant to fail"));
        assert!(catch_unwind(AssertUnwindSafe(|| at_once([&good, &bad]))).is_err());
    }
}
