//! Values that renew themselves: they change while the configuration stays.
//!
//! All of them together are one immutable, numbered table. A table replaces the one before as a
//! whole, so news can be neither lost nor taken back by older news: a worker keeps the table with
//! the higher version, whatever the order in which two of them arrive. Tables say nothing about
//! generations; a generation names what it needs and finds it in the table of the moment.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use crate::{
    handoff::{
        credentials::{Credentials, LiveCredentials, SourceId},
        key_sets::LiveKeys,
    },
    policy::auth::{KeySet, KeySets},
    system::{clock::CoreClock, tls::TlsServer},
};

/// Number of a table. It grows by at least one with every change of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LiveVersion(pub u64);

/// A host, by name or address (no brackets), and a port.
pub type HostPort = (Box<str>, u16);

/// All live values at one version.
#[derive(Clone, Debug, Default)]
pub struct LiveTable {
    version: LiveVersion,
    /// With the version of the table that they came in.
    addresses: HashMap<HostPort, (LiveVersion, Arc<[SocketAddr]>)>,
    /// By the id of their source.
    key_sets: HashMap<Arc<str>, LiveKeys>,
    /// With the version of the table that it came in.
    tls_server: Option<(LiveVersion, TlsServer)>,
    credentials: HashMap<SourceId, Arc<LiveCredentials>>,
}

/// The key sets of a table that are good by a clock, which is looked at only where a set is needed.
#[derive(Clone, Copy, Debug)]
pub struct GoodKeys<'t> {
    table: &'t LiveTable,
    clock: &'t CoreClock,
}

impl KeySets for GoodKeys<'_> {
    fn key_set(&self, source: &str) -> Option<&KeySet> {
        let set = self.table.key_set(source)?;
        (self.clock.coarse() < set.good_until.get()).then_some(&*set.keys)
    }
}

impl LiveTable {
    /// Its version.
    pub const fn version(&self) -> LiveVersion {
        self.version
    }

    /// Addresses of a host in the order in which the name server gave them; none when the name was
    /// never resolved. Never empty.
    pub fn addresses(&self, host: &HostPort) -> Option<&Arc<[SocketAddr]>> {
        self.addresses.get(host).map(|(_, addresses)| addresses)
    }

    /// Version of the table that brought the present addresses of a host.
    pub fn addresses_version(&self, host: &HostPort) -> LiveVersion {
        self.addresses.get(host).map(|(version, _)| *version).unwrap_or_default()
    }

    /// Replaces the addresses of a host.
    pub fn set_addresses(&mut self, host: HostPort, addresses: Arc<[SocketAddr]>) {
        self.version.0 += 1;
        self.addresses.insert(host, (self.version, addresses));
    }

    /// Certificates and rules for the next TLS handshake; none without a listener for TLS.
    pub fn tls_server(&self) -> Option<&TlsServer> {
        self.tls_server.as_ref().map(|(_, server)| server)
    }

    /// Version of the table that brought the present [`LiveTable::tls_server`].
    pub fn tls_version(&self) -> LiveVersion {
        self.tls_server.as_ref().map(|(version, _)| *version).unwrap_or_default()
    }

    /// Replaces what the next handshakes use.
    pub fn set_tls_server(&mut self, server: TlsServer) {
        self.version.0 += 1;
        self.tls_server = Some((self.version, server));
    }

    /// The key set of a source, whether it is still good or not.
    pub fn key_set(&self, source: &str) -> Option<&LiveKeys> {
        self.key_sets.get(source)
    }

    /// The key sets that are good by a core's clock.
    pub const fn good_keys<'t>(&'t self, clock: &'t CoreClock) -> GoodKeys<'t> {
        GoodKeys { table: self, clock }
    }

    /// Replaces the key set of a source, or takes it away.
    pub fn set_keys(&mut self, source: &Arc<str>, keys: Option<LiveKeys>) {
        self.version.0 += 1;
        match keys {
            Some(keys) => self.key_sets.insert(Arc::clone(source), keys),
            None => self.key_sets.remove(source),
        };
    }

    /// The newest credentials of a source; none before the first ones have come.
    pub fn credentials(&self, source: SourceId) -> Option<&Arc<LiveCredentials>> {
        self.credentials.get(&source)
    }

    /// All credentials.
    pub fn all_credentials(&self) -> impl Iterator<Item = (SourceId, &Arc<LiveCredentials>)> {
        self.credentials.iter().map(|(source, credentials)| (*source, credentials))
    }

    /// Replaces the credentials of a source by the next version.
    pub fn set_credentials(
        &mut self,
        source: SourceId,
        credentials: Credentials,
        ends: Option<u64>,
    ) {
        self.version.0 += 1;
        let version = self.credentials.get(&source).map_or(1, |before| before.version + 1);
        let serial = self.version.0;
        let next = Arc::new(LiveCredentials { version, serial, credentials, ends });
        self.credentials.insert(source, next);
    }

    /// Drops the credentials of all other sources.
    pub fn keep_sources(&mut self, sources: &HashSet<SourceId>) {
        if self.credentials.keys().any(|source| !sources.contains(source)) {
            self.version.0 += 1;
            self.credentials.retain(|source, _| sources.contains(source));
        }
    }

    /// Replaces the table that a worker holds by one that arrives, unless a newer one came before
    /// it. Returns the version that the worker then has.
    pub fn renew(held: &mut Arc<Self>, arrived: Arc<Self>) -> LiveVersion {
        if arrived.version > held.version {
            *held = arrived;
        }
        held.version
    }

    /// Returns true if it has addresses of hosts that are not among these.
    pub fn has_other_hosts(&self, hosts: &HashSet<&HostPort>) -> bool {
        self.addresses.keys().any(|host| !hosts.contains(host))
    }

    /// Drops the addresses of all other hosts.
    pub fn keep_hosts(&mut self, hosts: &HashSet<&HostPort>) {
        if self.has_other_hosts(hosts) {
            self.version.0 += 1;
            self.addresses.retain(|host, _| hosts.contains(host));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostPort {
        (name.into(), 80)
    }

    #[test]
    fn an_older_table_never_replaces_a_newer_one() {
        let addresses: Arc<[SocketAddr]> = Arc::from(["10.0.0.1:80".parse().unwrap()]);
        let mut older = LiveTable::default();
        older.set_addresses(host("a"), Arc::clone(&addresses));
        let mut newer = older.clone();
        newer.set_addresses(host("b"), addresses);
        let (older, newer) = (Arc::new(older), Arc::new(newer));
        let mut held = Arc::default();
        assert_eq!(LiveTable::renew(&mut held, Arc::clone(&newer)), LiveVersion(2));
        assert_eq!(LiveTable::renew(&mut held, older), LiveVersion(2));
        assert!(Arc::ptr_eq(&held, &newer));
    }

    #[test]
    fn credentials_have_a_version_and_a_number_that_nothing_else_has() {
        let of = |key: &str| Credentials {
            access_key: key.into(),
            secret_key: crate::model::Secret::new("s"),
            session_token: None,
        };
        let (one, two) = (SourceId(1), SourceId(2));
        let mut table = LiveTable::default();
        table.set_credentials(one, of("a"), Some(100));
        table.set_credentials(two, of("b"), None);
        table.set_credentials(one, of("c"), Some(200));
        let found = |table: &LiveTable, source| {
            table.credentials(source).map(|found| (found.version, found.serial, found.ends))
        };
        assert_eq!(found(&table, one), Some((2, 3, Some(200))));
        assert_eq!(found(&table, two), Some((1, 2, None)));
        assert!(table.credentials(one).unwrap().are_good(199));
        assert!(!table.credentials(one).unwrap().are_good(200));
        // Those that come back are others than those that went.
        table.keep_sources(&HashSet::from([two]));
        assert_eq!((found(&table, one), table.version()), (None, LiveVersion(4)));
        table.keep_sources(&HashSet::from([two]));
        assert_eq!(table.version(), LiveVersion(4), "nothing changed");
        table.set_credentials(one, of("a"), None);
        assert_eq!(found(&table, one), Some((1, 5, None)));
    }

    #[test]
    fn every_change_has_a_version_of_its_own() {
        let mut table = LiveTable::default();
        let addresses: Arc<[SocketAddr]> = Arc::from(["10.0.0.1:80".parse().unwrap()]);
        table.set_addresses(host("a"), Arc::clone(&addresses));
        table.set_addresses(host("b"), addresses);
        assert_eq!(table.version(), LiveVersion(2));
        assert_eq!(table.addresses_version(&host("a")), LiveVersion(1));
        assert_eq!(table.addresses_version(&host("b")), LiveVersion(2));
        assert_eq!(table.addresses_version(&host("c")), LiveVersion(0));
        let older = table.clone();
        table.keep_hosts(&HashSet::from([&host("b")]));
        assert_eq!(table.version(), LiveVersion(3));
        assert_eq!(table.addresses(&host("a")), None);
        assert!(table.addresses(&host("b")).is_some());
        assert!(older.addresses(&host("a")).is_some(), "a table that was handed out stays");
        table.keep_hosts(&HashSet::from([&host("b")]));
        assert_eq!(table.version(), LiveVersion(3), "nothing changed");
    }
}
