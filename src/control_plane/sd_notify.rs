//! Telling the service manager (`sd_notify(3)`, systemd `Type=notify` and `Type=notify-reload`)
//! that the process is ready, reloads, or stops.
//!
//! The protocol is one datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names.
//! Nothing is sent when the variable is not set.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use crate::{
    control_plane::report::{Outcome, Report, listed},
    system::clock::monotonic_micros,
};

/// Datagrams that may wait for a service manager that does not read. Then the oldest goes: what it
/// said is out of date.
const WAITING_MAX: usize = 16;

/// Longest status, in bytes. systemd drops a datagram of more than 4,096 bytes (`PIPE_BUF`) with
/// all that it says, and `systemctl status` shows one line.
const STATUS_BYTES_MAX: usize = 1_024;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    waiting: VecDeque<String>,
}

impl ServiceManager {
    /// Opens the socket that `NOTIFY_SOCKET` names: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// When the name is neither, or there are no descriptors left.
    pub fn open(name: Option<&OsStr>) -> io::Result<Self> {
        let Some(name) = name.map(OsStr::as_bytes).filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match name {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            [b'/', ..] => SocketAddr::from_pathname(OsStr::from_bytes(name))?,
            _ => return Err(io::Error::other("neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        // The control thread never waits for anybody.
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some((socket, address)), waiting: VecDeque::new() })
    }

    /// Ready to serve for the first time.
    pub fn ready(&mut self, status: &str) {
        self.send(format!("READY=1\nSTATUS={}", short_line(status)));
    }

    /// A reload begins. The time is in the same datagram, as `notify-reload` wants it.
    pub fn reloading(&mut self) {
        self.send(format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_micros()));
    }

    /// A reload ended. Whether it changed anything or failed, the service is ready again.
    pub fn reloaded(&mut self, report: &Report) {
        let generation = report.generation.0;
        let status = match &report.outcome {
            Outcome::Success | Outcome::WouldSucceed => {
                format!("serving generation {generation}")
            }
            Outcome::Refused(problems) => {
                let first = problems.first().map(ToString::to_string).unwrap_or_default();
                format!("reload failed, still serving generation {generation}: {first}")
            }
            Outcome::Partial(lagging) => {
                let lagging = listed(lagging);
                format!("generation {generation} is not adopted yet by workers {lagging}")
            }
            _ => format!("{}; serving generation {generation}", report.message()),
        };
        self.send(format!("READY=1\nSTATUS={}", short_line(&status)));
    }

    /// The process stops.
    pub fn stopping(&mut self) {
        self.send("STOPPING=1\nSTATUS=draining".to_owned());
    }

    /// Sends what could not be sent so far.
    pub fn flush(&mut self) {
        let Some((socket, address)) = &self.socket else { return };
        while let Some(datagram) = self.waiting.front() {
            match socket.send_to_addr(datagram.as_bytes(), address) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The manager is gone, or was never there: nobody is left to be told.
                Ok(_) | Err(_) => self.waiting.pop_front(),
            };
        }
    }

    fn send(&mut self, datagram: String) {
        if self.socket.is_none() {
            return;
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(datagram);
        self.flush();
    }
}

/// The text as a status: on one line, as a line break would start another variable, and cut where
/// it is too long.
fn short_line(text: &str) -> String {
    let end = text.floor_char_boundary(STATUS_BYTES_MAX);
    let rest = if end < text.len() { "..." } else { "" };
    format!("{}{rest}", text[..end].replace(['\n', '\r'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Problem, model::Generation};

    fn report(outcome: Outcome) -> Report {
        Report {
            outcome,
            generation: Generation(4),
            unix_seconds: 0,
            changed: false,
            workers: 2,
            duration_ms: 0.0,
            applied: Vec::new(),
            restart_required: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1_024];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn send_all(manager: &mut ServiceManager, socket: &UnixDatagram) {
        manager.ready("serving generation 1");
        assert_eq!(received(socket), "READY=1\nSTATUS=serving generation 1");
        let before = monotonic_micros();
        manager.reloading();
        let reloading = received(socket);
        let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("one datagram");
        assert!((before..=monotonic_micros()).contains(&time.parse().unwrap()), "{reloading}");
        manager.reloaded(&report(Outcome::Success));
        assert_eq!(received(socket), "READY=1\nSTATUS=serving generation 4");
        manager.reloaded(&report(Outcome::Refused(vec![Problem::of_file("bad\nX=1")])));
        let failed = "READY=1\nSTATUS=reload failed, still serving generation 4: bad X=1";
        assert_eq!(received(socket), failed);
        manager.stopping();
        assert_eq!(received(socket), "STOPPING=1\nSTATUS=draining");
    }

    #[test]
    fn a_socket_in_the_file_system_is_told_everything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send_all(&mut ServiceManager::open(Some(path.as_os_str())).unwrap(), &socket);
    }

    #[test]
    fn an_abstract_socket_is_told_everything() {
        let name = format!("yatagarasu-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let written = format!("@{name}");
        send_all(&mut ServiceManager::open(Some(OsStr::new(&written))).unwrap(), &socket);
    }

    #[test]
    fn nobody_is_told_without_a_socket() {
        for none in [None, Some(OsStr::new(""))] {
            let mut manager = ServiceManager::open(none).unwrap();
            manager.ready("x");
            assert!(manager.waiting.is_empty());
        }
        assert!(ServiceManager::open(Some(OsStr::new("vsock:2:1"))).is_err());
        // A manager that is gone is no error either.
        let mut gone = ServiceManager::open(Some(OsStr::new("/nowhere/notify"))).unwrap();
        gone.ready("x");
        assert!(gone.waiting.is_empty());
    }

    #[test]
    fn a_long_problem_does_not_keep_the_manager_from_hearing_that_the_service_is_ready() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut manager = ServiceManager::open(Some(path.as_os_str())).unwrap();
        // Two bytes each, so that the bound falls between two characters.
        let long = Problem::of_file("\u{e9}".repeat(5_000));
        manager.reloaded(&report(Outcome::Refused(vec![long])));
        let mut bytes = [0; 12_000];
        let length = socket.recv(&mut bytes).unwrap();
        assert!(length <= 4_096, "systemd would drop all {length} bytes");
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        assert!(text.starts_with("READY=1\nSTATUS=reload failed"), "{text}");
        assert!(text.ends_with("\u{e9}..."), "{text}");
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut manager = ServiceManager::open(Some(path.as_os_str())).unwrap();
        let mut sent = 0;
        while manager.waiting.len() < WAITING_MAX {
            manager.ready(&sent.to_string());
            sent += 1;
        }
        manager.stopping();
        assert_eq!(manager.waiting.len(), WAITING_MAX);
        // Once it reads again, the last word arrives.
        let mut last = String::new();
        while last != "STOPPING=1\nSTATUS=draining" {
            last = received(&socket);
            manager.flush();
        }
    }
}
