//! systemd: `Type=notify` and `Type=notify-reload` (`sd_notify(3)`).

use std::{os::unix::net::UnixDatagram, path::Path};

use yatagarasu::system::clock::monotonic_micros;

use crate::support::{
    proxy::Launch,
    reload::{config, touched},
    scripted_origin::ScriptedOrigin,
    waiting::DEADLINE,
};

/// Plays the service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(socket)
    }

    /// The next datagram.
    #[track_caller]
    fn next(&self) -> String {
        let mut bytes = [0; 4_096];
        let length = self.0.recv(&mut bytes).expect("a datagram");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// A reload's two datagrams; returns the status.
    #[track_caller]
    fn reload(&self, signalled: u64) -> String {
        let reloading = self.next();
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("both in one");
        // systemd ignores a reply that is older than its signal.
        assert!(at.parse::<u64>().unwrap() >= signalled, "{reloading}");
        let ready = self.next();
        ready.strip_prefix("READY=1\nSTATUS=").expect("ready again").to_owned()
    }
}

#[test]
fn the_service_manager_is_told_of_every_step() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let launch = Launch::new();
    let path = launch.path("notify");
    let manager = Manager::bind(&path);
    let launch = launch.environment("NOTIFY_SOCKET", path.to_str().unwrap());
    let mut proxy = launch.config(&first).start();
    assert_eq!(manager.next(), "READY=1\nSTATUS=serving generation 1");

    proxy.write_config(&touched(&first, 1));
    let before = monotonic_micros();
    proxy.signal("HUP");
    assert_eq!(manager.reload(before), "serving generation 2");

    proxy.write_config_text("nonsense");
    let before = monotonic_micros();
    proxy.signal("HUP");
    let status = manager.reload(before);
    assert!(status.starts_with("reload failed, still serving generation 2: "), "{status}");

    proxy.signal("TERM");
    assert_eq!(manager.next(), "STOPPING=1\nSTATUS=draining");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_socket_that_cannot_be_used_is_a_warning() {
    let origin = ScriptedOrigin::serving("x");
    let proxy =
        Launch::new().environment("NOTIFY_SOCKET", "vsock:2:1").config(&config(&origin)).start();
    proxy.stderr().wait_for("NOTIFY_SOCKET");
    assert_eq!(proxy.get("/products/x").status, 200);
}
