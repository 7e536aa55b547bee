//! The newest live values: written by whatever renews them, read by the control thread.
//!
//! The bell only says that there is something new; what it is, is in the table. So a bell that
//! nobody hears, or that rings once for two changes, loses nothing.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{
    handoff::{
        credentials::{Credentials, SourceId},
        key_sets::LiveKeys,
        live::{HostPort, LiveTable, LiveVersion},
    },
    system::tls::TlsServer,
};

/// The one place of the live values. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveValues {
    /// Changed in place until it is handed out, then copied.
    table: Arc<Mutex<Arc<LiveTable>>>,
    bell: Sender<()>,
}

/// Starts with an empty table. The receiver gets a message when the table is a newer one.
pub fn start() -> (LiveValues, Receiver<()>) {
    let (bell, rung) = bounded(1);
    (LiveValues { table: Arc::default(), bell }, rung)
}

impl LiveValues {
    fn ring(&self) {
        // A full channel has rung already.
        let _ = self.bell.try_send(());
    }

    /// The newest table.
    pub fn newest(&self) -> Arc<LiveTable> {
        Arc::clone(&self.table())
    }

    /// Replaces the addresses of a host. Returns whether they are others than before: name servers
    /// rotate their responses, and another order is no change.
    pub fn set_addresses(&self, host: &HostPort, addresses: Vec<SocketAddr>) -> bool {
        let mut table = self.table();
        if table.addresses(host).is_some_and(|before| are_the_same(before, &addresses)) {
            return false;
        }
        Arc::make_mut(&mut table).set_addresses(host.clone(), addresses.into());
        drop(table);
        self.ring();
        true
    }

    /// Replaces the key set of a source, or takes it away. Returns the version of the table that
    /// has it so.
    pub fn set_keys(&self, source: &Arc<str>, keys: Option<LiveKeys>) -> LiveVersion {
        let mut table = self.table();
        let version = |set: &LiveKeys| set.keys.version();
        if table.key_set(source).map(version) != keys.as_ref().map(version) {
            Arc::make_mut(&mut table).set_keys(source, keys);
            self.ring();
        }
        table.version()
    }

    /// Replaces what the next TLS handshakes use.
    pub fn set_tls_server(&self, server: TlsServer) {
        Arc::make_mut(&mut self.table()).set_tls_server(server);
        self.ring();
    }

    /// Drops the addresses of all other hosts.
    pub fn keep_hosts(&self, hosts: &[HostPort]) {
        let hosts: HashSet<&HostPort> = hosts.iter().collect();
        let mut table = self.table();
        if table.has_other_hosts(&hosts) {
            Arc::make_mut(&mut table).keep_hosts(&hosts);
        }
    }

    /// Replaces the credentials of a source by the next version. Returns the version of the table.
    pub fn set_credentials(
        &self,
        source: SourceId,
        credentials: Credentials,
        ends: Option<u64>,
    ) -> LiveVersion {
        let mut table = self.table();
        Arc::make_mut(&mut table).set_credentials(source, credentials, ends);
        let version = table.version();
        drop(table);
        self.ring();
        version
    }

    /// Drops the credentials of all other sources.
    pub fn keep_sources(&self, sources: &HashSet<SourceId>) {
        let mut table = self.table();
        if table.all_credentials().any(|(source, _)| !sources.contains(&source)) {
            Arc::make_mut(&mut table).keep_sources(sources);
        }
    }

    fn table(&self) -> MutexGuard<'_, Arc<LiveTable>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn are_the_same(before: &[SocketAddr], now: &[SocketAddr]) -> bool {
    let sorted = |addresses: &[SocketAddr]| {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        sorted
    };
    sorted(before) == sorted(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_order_is_no_change_and_another_address_is() {
        let (live, bell) = start();
        let host: HostPort = ("a".into(), 80);
        let (one, two) = ("10.0.0.1:80".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        assert!(live.set_addresses(&host, vec![one, two]));
        let first = live.newest();
        assert!(!live.set_addresses(&host, vec![two, one]));
        assert_eq!(live.newest().version(), first.version());
        assert!(live.set_addresses(&host, vec![two]));
        assert!(live.newest().version() > first.version());
        assert_eq!(**first.addresses(&host).unwrap(), [one, two], "what was handed out stays");
        // Two changes ring at least once.
        bell.try_recv().unwrap();
    }
}
