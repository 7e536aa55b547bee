//! Host names to addresses, off the hot path: looked up when a name is new, refreshed from then
//! on, and the last good answer kept when a refresh fails.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::{
    control_plane::{jobs, live::LiveValues},
    handoff::live::HostPort,
    system::clock::Monotonic,
};

/// Time between two look-ups of a name in use. Amazon S3's own records live for seconds to a
/// minute.
pub const REFRESH: Duration = Duration::from_secs(30);

/// Time for names that were never resolved, at a start or a reload. Late addresses arrive by
/// themselves; until then that bucket answers 502.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Threads that look names up. `getaddrinfo` blocks, so a dead name server holds one of them for
/// seconds.
const THREADS: usize = 8;

#[derive(Debug, Default)]
struct Shared {
    /// Names that were asked for and whose look-up has not ended.
    asked: Mutex<HashSet<HostPort>>,
    ended: Condvar,
    /// The last look-ups of names.
    last: Mutex<HashMap<HostPort, LastLookUp>>,
}

/// The last look-ups of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastLookUp {
    /// Time of the last one that gave addresses.
    pub succeeded: Option<Monotonic>,
    /// Reason why the last one gave none.
    pub error: Option<String>,
}

impl Shared {
    fn last(&self) -> MutexGuard<'_, HashMap<HostPort, LastLookUp>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_success(&self, host: &HostPort) {
        let succeeded = Some(Monotonic::now());
        self.last().insert(host.clone(), LastLookUp { succeeded, error: None });
    }

    fn note_failure(&self, host: &HostPort, error: &str) {
        self.last().entry(host.clone()).or_default().error = Some(error.to_owned());
    }
}

/// The resolver: cheap to clone, used by the preparation and the control thread. What it finds is
/// in the live values.
#[derive(Clone, Debug)]
pub struct Resolver {
    live: LiveValues,
    shared: Arc<Shared>,
    jobs: Sender<HostPort>,
}

/// Starts the resolver, which writes into `live`.
pub fn start(live: LiveValues) -> Resolver {
    start_with(live, |host| (&*host.0, host.1).to_socket_addrs().map(Iterator::collect))
}

/// Starts a resolver that asks `ask` for the addresses of a host.
pub(super) fn start_with(
    live: LiveValues,
    ask: impl Fn(&HostPort) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> Resolver {
    let ask = Arc::new(ask);
    let (jobs, todo) = unbounded::<HostPort>();
    let shared = Arc::new(Shared::default());
    for number in 0..THREADS {
        let (todo, live, shared, ask) =
            (todo.clone(), live.clone(), Arc::clone(&shared), Arc::clone(&ask));
        let started = jobs::keep(format!("yt-resolve-{number}"), move || {
            look_up(&todo, &shared, &live, &*ask);
        });
        if let Err(error) = started {
            tracing::warn!(%error, "a resolver thread could not be started");
        }
    }
    Resolver { live, shared, jobs }
}

fn look_up(
    todo: &Receiver<HostPort>,
    shared: &Shared,
    live: &LiveValues,
    ask: &impl Fn(&HostPort) -> io::Result<Vec<SocketAddr>>,
) {
    while let Ok(host) = todo.recv() {
        let _ends = EndOfLookUp { host: &host, shared };
        match ask(&host) {
            Ok(addresses) if !addresses.is_empty() => {
                live.set_addresses(&host, addresses);
                shared.note_success(&host);
            }
            Ok(_) => {
                shared.note_failure(&host, "no address");
                tracing::warn!(host = &*host.0, "the host name has no address");
            }
            Err(error) => {
                shared.note_failure(&host, &error.to_string());
                tracing::warn!(host = &*host.0, %error, "the host name does not resolve");
            }
        }
    }
}

/// A look-up under way. One that panics has ended too: the name must be asked for again.
struct EndOfLookUp<'l> {
    host: &'l HostPort,
    shared: &'l Shared,
}

impl Drop for EndOfLookUp<'_> {
    fn drop(&mut self) {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(self.host);
        self.shared.ended.notify_all();
    }
}

/// The address that a literal is; names have none.
pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

impl Resolver {
    /// Looks up the names that are not known yet, all at once, and waits for them until `timeout`.
    /// Returns those that are still unknown.
    pub fn learn(&self, hosts: &[HostPort], timeout: Duration) -> Vec<HostPort> {
        let live = self.live.newest();
        let unknown: Vec<&HostPort> =
            hosts.iter().filter(|host| live.addresses(host).is_none()).collect();
        self.ask(unknown.iter().copied());
        let deadline = Monotonic::now().plus(timeout);
        let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waiting = unknown.iter().any(|host| asked.contains(*host));
            let left = Duration::from_nanos(deadline.since(Monotonic::now()));
            if !waiting || left.is_zero() {
                break;
            }
            asked = self
                .shared
                .ended
                .wait_timeout(asked, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        drop(asked);
        let live = self.live.newest();
        unknown.into_iter().filter(|host| live.addresses(host).is_none()).cloned().collect()
    }

    /// Returns true while a look-up has not ended.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        !self.shared.asked.lock().unwrap().is_empty()
    }

    /// The last look-ups of a host; none of an address, which needs none.
    pub fn last(&self, host: &HostPort) -> LastLookUp {
        self.shared.last().get(host).cloned().unwrap_or_default()
    }

    /// Looks names up again, without waiting, and forgets what was found out about others.
    pub fn refresh(&self, hosts: &[HostPort]) {
        let kept: HashSet<&HostPort> = hosts.iter().collect();
        self.shared.last().retain(|host, _| kept.contains(host));
        self.ask(hosts.iter());
    }

    fn ask<'h>(&self, hosts: impl Iterator<Item = &'h HostPort>) {
        for host in hosts {
            if let Some(address) = literal(&host.0, host.1) {
                self.live.set_addresses(host, vec![address]);
                continue;
            }
            let mut asked = self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.insert(host.clone()) {
                let _ = self.jobs.send(host.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;
    use crate::control_plane::live;

    #[test]
    fn literals_need_no_look_up() {
        let (live, _bell) = live::start();
        let resolver = start(live.clone());
        let hosts = [(Box::from("127.0.0.1"), 80), (Box::from("::1"), 81)];
        assert!(resolver.learn(&hosts, Duration::ZERO).is_empty());
        let table = live.newest();
        assert_eq!(**table.addresses(&hosts[0]).unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(**table.addresses(&hosts[1]).unwrap(), ["[::1]:81".parse().unwrap()]);
    }

    #[test]
    fn localhost_resolves_and_changes_once() {
        let (live, bell) = live::start();
        let resolver = start(live.clone());
        let host: HostPort = (Box::from("localhost"), 9);
        assert!(resolver.learn(std::slice::from_ref(&host), Duration::from_secs(20)).is_empty());
        let first = live.newest();
        assert!(first.addresses(&host).is_some_and(|addresses| !addresses.is_empty()));
        bell.recv().unwrap();
        resolver.refresh(std::slice::from_ref(&host));
        while resolver.is_busy() {
            thread::yield_now();
        }
        assert_eq!(live.newest().version(), first.version());
    }

    #[test]
    fn the_last_look_up_is_told_with_its_error_and_forgotten_with_its_name() {
        let (live, _bell) = live::start();
        let asked = AtomicUsize::new(0);
        let resolver = start_with(live, move |host| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(vec![SocketAddr::from(([10, 0, 0, 1], host.1))]),
            _ => Err(io::Error::other("no name server")),
        });
        let hosts = [(Box::from("a.test"), 9)];
        assert!(resolver.learn(&hosts, Duration::from_secs(20)).is_empty());
        let first = resolver.last(&hosts[0]);
        assert!(first.succeeded.is_some() && first.error.is_none());
        resolver.refresh(&hosts);
        while resolver.is_busy() {
            thread::yield_now();
        }
        let second = resolver.last(&hosts[0]);
        assert_eq!(
            (second.succeeded, second.error.as_deref()),
            (first.succeeded, Some("no name server"))
        );
        resolver.refresh(&[]);
        assert_eq!(resolver.last(&hosts[0]), LastLookUp::default());
    }

    #[test]
    fn a_look_up_that_panics_ends_and_its_thread_goes_on() {
        let (live, _bell) = live::start();
        let asked = AtomicUsize::new(0);
        let resolver = start_with(live, move |host| {
            // More often than there are threads.
            assert!(asked.fetch_add(1, Ordering::Relaxed) > THREADS, "this one is meant to fail");
            Ok(vec![SocketAddr::from(([10, 0, 0, 1], host.1))])
        });
        let host: HostPort = (Box::from("a.test"), 9);
        let mut tries = 0;
        while !resolver.learn(std::slice::from_ref(&host), Duration::from_secs(20)).is_empty() {
            tries += 1;
        }
        assert_eq!(tries, THREADS + 1);
    }
}
