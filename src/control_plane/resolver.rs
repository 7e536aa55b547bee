//! Host names to addresses, off the hot path: looked up when a name is new, refreshed from then
//! on, and the last good answer kept when a refresh fails.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::system::clock::Monotonic;

/// How often a name in use is looked up again. Amazon S3's own records live for seconds to a
/// minute.
pub const REFRESH: Duration = Duration::from_secs(30);

/// How long a start or a reload waits for names that were never resolved. What is late arrives by
/// itself; until then that bucket answers 502.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Threads that look names up. `getaddrinfo` blocks, so a dead name server holds one of them for
/// seconds.
const THREADS: usize = 8;

/// A host and a port.
pub type HostPort = (Box<str>, u16);

/// A name whose addresses are new.
#[derive(Debug)]
pub struct Resolved {
    /// The name and port.
    pub host: HostPort,
    /// Its addresses, never empty.
    pub addresses: Arc<[SocketAddr]>,
}

#[derive(Debug, Default)]
struct Known {
    addresses: HashMap<HostPort, Arc<[SocketAddr]>>,
    /// Names that were asked for and have not been answered.
    asked: HashSet<HostPort>,
}

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    answered: Condvar,
}

/// The resolver: cheap to clone, used by the preparation and the control thread.
#[derive(Clone, Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
    jobs: Sender<HostPort>,
}

/// Starts the resolver; news of changed names arrive at the receiver.
pub fn start() -> (Resolver, Receiver<Resolved>) {
    let (jobs, todo) = unbounded::<HostPort>();
    let (news, changed) = unbounded();
    let shared = Arc::new(Shared::default());
    for number in 0..THREADS {
        let (todo, news, shared) = (todo.clone(), news.clone(), Arc::clone(&shared));
        let spawned = thread::Builder::new()
            .name(format!("yt-resolve-{number}"))
            .spawn(move || look_up(&todo, &shared, &news));
        if let Err(error) = spawned {
            tracing::warn!(%error, "a resolver thread could not be started");
        }
    }
    (Resolver { shared, jobs }, changed)
}

fn look_up(todo: &Receiver<HostPort>, shared: &Shared, news: &Sender<Resolved>) {
    while let Ok(host) = todo.recv() {
        let found: Result<Vec<SocketAddr>, _> =
            (&*host.0, host.1).to_socket_addrs().map(Iterator::collect);
        let mut known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.asked.remove(&host);
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                let mut sorted = addresses.clone();
                sorted.sort_unstable();
                let old = known.addresses.get(&host).map(|old| {
                    let mut old = old.to_vec();
                    old.sort_unstable();
                    old
                });
                // Name servers rotate their answers; a new order is no news.
                if old.as_ref() != Some(&sorted) {
                    let addresses: Arc<[SocketAddr]> = addresses.into();
                    known.addresses.insert(host.clone(), Arc::clone(&addresses));
                    let _ = news.send(Resolved { host, addresses });
                }
            }
            Ok(_) => tracing::warn!(host = &*host.0, "the host name has no address"),
            Err(error) => tracing::warn!(host = &*host.0, %error, "the host name does not resolve"),
        }
        drop(known);
        shared.answered.notify_all();
    }
}

/// The address that a literal is; names have none.
pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

impl Resolver {
    /// Looks up the names that are not known yet, all at once, and waits for them a while.
    /// Returns those that are still unknown.
    pub fn learn(&self, hosts: &[HostPort], patience: Duration) -> Vec<HostPort> {
        let wanted: Vec<&HostPort> =
            hosts.iter().filter(|host| literal(&host.0, host.1).is_none()).collect();
        self.ask(wanted.iter().copied(), true);
        let deadline = Monotonic::now().plus(patience);
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let waiting = wanted.iter().any(|host| known.asked.contains(*host));
            let left = Duration::from_nanos(deadline.since(Monotonic::now()));
            if !waiting || left.is_zero() {
                return wanted
                    .iter()
                    .filter(|host| !known.addresses.contains_key(**host))
                    .map(|host| (**host).clone())
                    .collect();
            }
            known = self
                .shared
                .answered
                .wait_timeout(known, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Looks names up again, without waiting, and forgets all others.
    pub fn refresh(&self, hosts: &[HostPort]) {
        let wanted: HashSet<&HostPort> = hosts.iter().collect();
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .addresses
            .retain(|host, _| wanted.contains(host));
        self.ask(hosts.iter().filter(|host| literal(&host.0, host.1).is_none()), false);
    }

    fn ask<'h>(&self, hosts: impl Iterator<Item = &'h HostPort>, only_unknown: bool) {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        for host in hosts {
            if only_unknown && known.addresses.contains_key(host) {
                continue;
            }
            if known.asked.insert(host.clone()) {
                let _ = self.jobs.send(host.clone());
            }
        }
    }

    /// The addresses known now; empty for a name that was never resolved.
    pub fn addresses(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        if let Some(address) = literal(host, port) {
            return vec![address];
        }
        let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.addresses.get(&(Box::from(host), port)).map(|a| a.to_vec()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_need_no_look_up() {
        let (resolver, _changed) = start();
        let hosts = [(Box::from("127.0.0.1"), 80), (Box::from("::1"), 81)];
        assert!(resolver.learn(&hosts, Duration::ZERO).is_empty());
        assert_eq!(resolver.addresses("127.0.0.1", 80), ["127.0.0.1:80".parse().unwrap()]);
        assert_eq!(resolver.addresses("::1", 81), ["[::1]:81".parse().unwrap()]);
    }

    #[test]
    fn localhost_resolves_and_is_news_once() {
        let (resolver, changed) = start();
        let host: HostPort = (Box::from("localhost"), 9);
        assert!(resolver.learn(std::slice::from_ref(&host), Duration::from_secs(20)).is_empty());
        assert!(!resolver.addresses("localhost", 9).is_empty());
        assert_eq!(changed.recv().unwrap().host, host);
        resolver.refresh(std::slice::from_ref(&host));
        assert!(resolver.learn(&[host], Duration::from_secs(20)).is_empty());
        assert!(changed.try_recv().is_err());
    }
}
