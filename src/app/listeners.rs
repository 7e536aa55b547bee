//! The listening sockets of the process: one of each address for each worker.

use std::net::{SocketAddr, TcpListener};

use super::exit::{Failure, because};
use crate::{config::Settings, system::listener};

/// Every worker's share of the addresses that the process listens on.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) main: Vec<TcpListener>,
    /// Empty without TLS.
    pub(super) tls: Vec<TcpListener>,
    /// Empty where the main listener serves the admin endpoints.
    pub(super) admin: Vec<TcpListener>,
}

impl Listeners {
    /// Opens all of them before anything is started.
    pub(super) fn open(settings: &Settings, workers: usize) -> Result<Self, Failure> {
        let main = SocketAddr::new(settings.server.address, settings.server.port);
        let admin = settings.admin.listen;
        let main =
            listener::open(main, workers).map_err(because(&format!("cannot listen on {main}")))?;
        let tls = match &settings.server.tls {
            None => Vec::new(),
            Some(tls) => {
                let address = SocketAddr::new(settings.server.address, tls.port);
                listener::open(address, workers)
                    .map_err(because(&format!("cannot listen on server.tls.port {address}")))?
            }
        };
        let admin = match admin {
            None => Vec::new(),
            Some(address) => listener::open(address, workers)
                .map_err(because(&format!("cannot listen on admin.listen {address}")))?,
        };
        Ok(Self { main, tls, admin })
    }

    /// The addresses that clients and operators connect to.
    pub(super) fn addresses(&self) -> Addresses {
        let first = |listeners: &[TcpListener]| listeners.first()?.local_addr().ok();
        Addresses { main: first(&self.main), tls: first(&self.tls), admin: first(&self.admin) }
    }
}

/// The addresses that the process listens on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) main: Option<SocketAddr>,
    pub(super) tls: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
}
