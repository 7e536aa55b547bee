//! The listening sockets of the process: one of each address for each worker.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use super::exit::Failure;
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
        let open = |key: &str, address: SocketAddr| {
            listener::open(address, workers)
                .map_err(|error| Failure::CouldNotStart(cannot_listen(key, address, &error)))
        };
        let main = open("server.port", main)?;
        let tls = match &settings.server.tls {
            None => Vec::new(),
            Some(tls) => {
                open("server.tls.port", SocketAddr::new(settings.server.address, tls.port))?
            }
        };
        let admin = match admin {
            None => Vec::new(),
            Some(address) => open("admin.listen", address)?,
        };
        Ok(Self { main, tls, admin })
    }

    /// The addresses that clients and operators connect to.
    pub(super) fn addresses(&self) -> Addresses {
        let first = |listeners: &[TcpListener]| listeners.first()?.local_addr().ok();
        Addresses { main: first(&self.main), tls: first(&self.tls), admin: first(&self.admin) }
    }
}

/// First port that everybody may listen on, by default (`ip_unprivileged_port_start`, `ip(7)`).
const UNPRIVILEGED_PORT: u16 = 1_024;

/// Sentence about an address that a key asks for and the kernel refuses, with what to do.
fn cannot_listen(key: &str, address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => format!("stop what listens there, or write another {key}"),
        io::ErrorKind::PermissionDenied if address.port() < UNPRIVILEGED_PORT => format!(
            "ports below {UNPRIVILEGED_PORT} need CAP_NET_BIND_SERVICE (AmbientCapabilities= in a \
             systemd unit) or the sysctl net.ipv4.ip_unprivileged_port_start=0 (securityContext of \
             a pod in Kubernetes); give it, or write another port in {key}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            let key = if key == "admin.listen" { key } else { "server.address" };
            format!("write an address of this host in {key}, such as 0.0.0.0 for all of them")
        }
        _ => return format!("cannot listen on {address} ({key}): {error}"),
    };
    format!("cannot listen on {address} ({key}): {error}; {advice}")
}

/// The addresses that the process listens on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) main: Option<SocketAddr>,
    pub(super) tls: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_address_says_what_to_do() {
        let told = |key, address: &str, code| {
            cannot_listen(key, address.parse().unwrap(), &io::Error::from_raw_os_error(code))
        };
        assert_eq!(
            told("server.port", "0.0.0.0:80", libc::EACCES),
            "cannot listen on 0.0.0.0:80 (server.port): Permission denied (os error 13); ports \
             below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd unit) or the \
             sysctl net.ipv4.ip_unprivileged_port_start=0 (securityContext of a pod in Kubernetes); \
             give it, or write another port in server.port"
        );
        for (key, address, code, end) in [
            ("server.tls.port", "[::]:443", libc::EACCES, "write another port in server.tls.port"),
            ("server.port", "0.0.0.0:8080", libc::EACCES, "Permission denied (os error 13)"),
            ("admin.listen", "127.0.0.1:9090", libc::EADDRINUSE, "or write another admin.listen"),
            (
                "server.port",
                "192.0.2.1:80",
                libc::EADDRNOTAVAIL,
                "write an address of this host in server.address, such as 0.0.0.0 for all of them",
            ),
        ] {
            let told = told(key, address, code);
            assert!(told.ends_with(end), "{told}");
            assert!(told.starts_with(&format!("cannot listen on {address} ({key}): ")), "{told}");
        }
    }
}
