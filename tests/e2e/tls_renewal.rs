//! Certificates that change while the proxy runs: by renamed files, by a swapped `..data` link, by
//! a reload; and what stays when they cannot be used.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use serde_json::{Value, json};

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::{Launch, Proxy, field},
    raw_client::Client,
    reload::{Done, adopt, config_of, counts, post, touched},
    scripted_origin::{ScriptedOrigin, response_bytes},
    token::{self, bearer},
    waiting::wait_until,
};

const EXPIRY: &str = "yatagarasu_tls_certificate_expiry_timestamp_seconds";
const RENEWED: &str = "yatagarasu_tls_certificate_renewals_total{result=\"success\"}";
const FAILED: &str = "yatagarasu_tls_certificate_renewals_total{result=\"failure\"}";

type Identity = CertifiedKey<KeyPair>;

/// A certificate for `a.test` until the beginning of this year.
fn identity(year: i32) -> Identity {
    let signing_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 1, 1);
    CertifiedKey { cert: params.self_signed(&signing_key).unwrap(), signing_key }
}

/// Replaces a file in one step.
fn put(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join("new"), text).unwrap();
    fs::rename(directory.join("new"), directory.join(name)).unwrap();
}

fn put_pair(directory: &Path, identity: &Identity) {
    put(directory, "site.pem", &identity.cert.pem());
    put(directory, "site.key", &identity.signing_key.serialize_pem());
}

fn with_tls(config: Config) -> Config {
    let pair = json!({ "cert_file": "site.pem", "key_file": "site.key" });
    config.set("server.tls", json!({ "port": 0, "certificates": [pair] }))
}

/// A proxy that shows this certificate, in front of an origin.
fn start(origin: &ScriptedOrigin, identity: &Identity) -> Proxy {
    let launch = Launch::new();
    put_pair(launch.directory(), identity);
    launch.config(&with_tls(config_of(origin.url()))).start()
}

fn status(proxy: &Proxy) -> Value {
    let fields = bearer(&token::for_role("admin"));
    let mut client = Client::connect(proxy.admin_address());
    let response = client.request("GET", "/admin/status", &[("Authorization", &fields)]);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

fn tls_address(proxy: &Proxy) -> SocketAddr {
    let event = proxy.stderr().event("TLS listening").expect("a listener for TLS");
    field(&event, "address").and_then(Value::as_str).unwrap().parse().unwrap()
}

/// A client that trusts these certificates.
fn client(trusted: &[&Identity]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for identity in trusted {
        roots.add(identity.cert.der().clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Stream {
    let name = ServerName::try_from("a.test").unwrap();
    let socket = TcpStream::connect(address).unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(connection, socket)
}

/// One request on an open connection; the body of its 200, which has this length.
fn get(stream: &mut Stream, length: usize) -> Result<Vec<u8>, String> {
    let request = b"GET /products/a HTTP/1.1\r\nHost: a.test\r\n\r\n";
    stream.write_all(request).map_err(|error| error.to_string())?;
    let mut response = Vec::new();
    let mut chunk = vec![0; 65_536];
    loop {
        let head = response.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(end) = head.map(|at| at + 4)
            && response.len() >= end + length
        {
            let good = response.starts_with(b"HTTP/1.1 200 ") && response.len() == end + length;
            return good.then(|| response.split_off(end)).ok_or_else(|| "another response".into());
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Err("the end of the connection".to_owned()),
            Ok(read) => response.extend_from_slice(&chunk[..read]),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// The certificate that a new connection is shown.
fn shown(proxy: &Proxy, trusted: &[&Identity]) -> CertificateDer<'static> {
    let mut stream = connect(tls_address(proxy), &client(trusted));
    stream.conn.complete_io(&mut stream.sock).unwrap();
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

fn wait_expiry(proxy: &Proxy, year: i32) {
    let seconds = f64::from(u32::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).unwrap());
    let series = format!("{EXPIRY}{{name=\"a.test\"}}");
    wait_until("the expiry", || proxy.metric(&series) == Some(seconds));
}

/// Waits until every core has the certificates that the process has; returns their version.
fn wait_cores(proxy: &Proxy) -> u64 {
    let mut newest = 0;
    wait_until("every core", || {
        let certificate = status(proxy)["certificates"][0].take();
        newest = certificate["version"].as_u64().unwrap();
        let workers = certificate["worker_versions"].as_array().unwrap();
        workers.iter().all(|version| version.as_u64() == Some(newest))
    });
    newest
}

#[test]
fn a_pair_that_was_renamed_over_is_used_by_the_next_handshake_without_a_reload() {
    let (old, new) = (identity(2090), identity(2091));
    let origin = ScriptedOrigin::serving("x");
    let proxy = start(&origin, &old);
    wait_expiry(&proxy, 2090);
    assert_eq!(&shown(&proxy, &[&old]), old.cert.der());
    let mut kept = connect(tls_address(&proxy), &client(&[&old]));
    get(&mut kept, 1).unwrap();
    let before = wait_cores(&proxy);

    put_pair(proxy.directory(), &new);
    wait_expiry(&proxy, 2091);
    assert!(wait_cores(&proxy) > before);
    assert_eq!(&shown(&proxy, &[&old, &new]), new.cert.der());
    get(&mut kept, 1).expect("a connection from before goes on");

    let status = status(&proxy);
    let certificate = &status["certificates"][0];
    assert_eq!(
        (&certificate["name"], &certificate["last_error"]),
        (&json!("a.test"), &Value::Null)
    );
    assert_eq!(certificate["names"], json!(["a.test"]));
    assert!(proxy.metric(RENEWED).unwrap() >= 1.0);
    assert_eq!((counts(&proxy), proxy.metric("config_generation")), ((0, 0), Some(1.0)));
    assert!(!proxy.output().contains("PRIVATE"));
}

#[test]
fn a_secret_that_is_swapped_by_its_data_link_is_used() {
    let launch = Launch::new();
    let mount = launch.path("mount");
    let version = |year: i32| {
        let identity = identity(year);
        let folder = mount.join(format!("..version{year}"));
        fs::create_dir_all(&folder).unwrap();
        put_pair(&folder, &identity);
        symlink(format!("..version{year}"), mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        identity
    };
    version(2090);
    for name in ["site.pem", "site.key"] {
        symlink(format!("..data/{name}"), mount.join(name)).unwrap();
    }
    let pair = json!({ "cert_file": "mount/site.pem", "key_file": "mount/site.key" });
    let config =
        with_tls(Config::unreachable().with_jwt(&[])).set("server.tls.certificates", json!([pair]));
    let proxy = launch.config(&config).start();
    for year in 2091..2094 {
        let identity = version(year);
        wait_expiry(&proxy, year);
        wait_cores(&proxy);
        assert_eq!(&shown(&proxy, &[&identity]), identity.cert.der());
    }
    assert_eq!(proxy.metric(FAILED), Some(0.0), "both files change at once");
    assert_eq!(proxy.metric(RENEWED), Some(3.0));
}

#[test]
fn a_pair_that_does_not_fit_keeps_the_last_good_one_and_says_so() {
    let (old, new) = (identity(2090), identity(2091));
    let origin = ScriptedOrigin::serving("x");
    let proxy = start(&origin, &old);
    put(proxy.directory(), "site.pem", &new.cert.pem());
    wait_until("the failure", || proxy.metric(FAILED) == Some(1.0));
    let key = "server.tls.certificates[0].key_file";
    proxy.stderr().wait_for(key);
    proxy.stderr().wait_for("does not belong to the certificate");
    let error = status(&proxy)["certificates"][0]["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("does not belong to the certificate"), "{error}");
    wait_expiry(&proxy, 2090);
    assert_eq!(&shown(&proxy, &[&old, &new]), old.cert.der());

    put(proxy.directory(), "site.key", &new.signing_key.serialize_pem());
    wait_expiry(&proxy, 2091);
    wait_cores(&proxy);
    assert_eq!(&shown(&proxy, &[&old, &new]), new.cert.der());
    assert_eq!(status(&proxy)["certificates"][0]["last_error"], Value::Null);
    // A file that is gone is no other matter.
    let failed = proxy.metric(FAILED);
    fs::remove_file(proxy.directory().join("site.key")).unwrap();
    wait_until("another failure", || proxy.metric(FAILED) > failed);
    assert_eq!(&shown(&proxy, &[&new]), new.cert.der());
    assert_eq!((counts(&proxy), proxy.metric("config_generation")), ((0, 0), Some(1.0)));
}

#[test]
fn a_reload_brings_certificates_and_a_refused_one_leaves_those_that_run() {
    let (old, new) = (identity(2090), identity(2091));
    let origin = ScriptedOrigin::serving("x");
    let proxy = start(&origin, &old);
    let other = json!({ "cert_file": "other.pem", "key_file": "other.key" });
    let config = with_tls(config_of(origin.url())).set("server.tls.certificates", json!([other]));
    put(proxy.directory(), "other.pem", &new.cert.pem());
    put(proxy.directory(), "other.key", &old.signing_key.serialize_pem());
    proxy.write_config(&config);
    let refused = post(&proxy, "/admin/reload", &[]);
    assert_eq!(refused.status, 400, "{refused:?}");
    let key = &refused.json()["errors"][0]["key"];
    assert_eq!(key, "server.tls.certificates[0].key_file");
    assert_eq!(&shown(&proxy, &[&old]), old.cert.der());

    put(proxy.directory(), "other.key", &new.signing_key.serialize_pem());
    let report = adopt(&proxy, &config);
    let applied = ["cert_file", "key_file"].map(|key| format!("server.tls.certificates[0].{key}"));
    assert_eq!(report["applied"], json!(applied));
    assert_eq!(&shown(&proxy, &[&old, &new]), new.cert.der(), "after the 200");
    // From now on these files are watched.
    let last = identity(2092);
    put(proxy.directory(), "other.pem", &last.cert.pem());
    put(proxy.directory(), "other.key", &last.signing_key.serialize_pem());
    wait_expiry(&proxy, 2092);
}

/// `reload.watch` is about the configuration: certificates that run are renewed beside it.
#[test]
fn a_watched_configuration_is_not_reloaded_for_a_renewal_but_tried_again_after_a_refusal() {
    let (old, new) = (identity(2090), identity(2091));
    let origin = ScriptedOrigin::serving("x");
    let launch = Launch::new();
    put_pair(launch.directory(), &old);
    let config = with_tls(config_of(origin.url())).set("reload.watch", true);
    let proxy = launch.config(&config).start();
    put_pair(proxy.directory(), &new);
    wait_expiry(&proxy, 2091);
    assert_eq!((counts(&proxy), proxy.metric("config_generation")), ((0, 0), Some(1.0)));

    // Refused for a certificate that runs, and adopted when that fits again.
    let failed = proxy.metric(FAILED);
    put(proxy.directory(), "site.pem", &old.cert.pem());
    wait_until("the failed renewal", || proxy.metric(FAILED) > failed);
    proxy.write_config(&touched(&config, 1));
    wait_until("the refusal", || counts(&proxy) == (0, 1));
    put(proxy.directory(), "site.pem", &new.cert.pem());
    wait_until("another attempt", || proxy.metric("config_generation") == Some(2.0));
    // Refused for one that does not run yet.
    let other = json!({ "cert_file": "other.pem", "key_file": "other.key" });
    put(proxy.directory(), "other.pem", &old.cert.pem());
    proxy.write_config(&config.set("server.tls.certificates", json!([other])));
    wait_until("the refusal", || counts(&proxy).1 == 2);
    put(proxy.directory(), "other.key", &old.signing_key.serialize_pem());
    wait_until("another attempt", || proxy.metric("config_generation") == Some(3.0));
    wait_expiry(&proxy, 2090);
}

#[test]
fn a_section_that_appears_or_goes_needs_a_restart() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = start(&origin, &identity(2090));
    let without = touched(&config_of(origin.url()), 1);
    proxy.write_config(&without);
    let report = post(&proxy, "/admin/reload", &[]).json();
    // The rest of the file is adopted.
    assert_eq!(report["changed"], true, "{report}");
    let waiting = report["restart_required"][0].as_str().unwrap();
    assert_eq!(waiting, "server.tls: running a listener on port 0, file nothing");
    wait_expiry(&proxy, 2090);
    proxy.write_config(&with_tls(without));
    let report = post(&proxy, "/admin/reload", &[]).json();
    assert_eq!(report["restart_required"], json!([]), "{report}");
}

/// Opens a gate when dropped, so that what waits at it ends although the test failed.
struct Opens<'a>(&'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Connections that go on, new ones, and a download, while the pair changes again and again.
#[test]
fn renewals_under_load_lose_nothing() {
    const BODY: usize = 100_000;
    const ROUNDS: i32 = 5;
    let gate = Gate::default();
    let identities: Vec<Identity> = (0..=ROUNDS).map(|round| identity(2090 + round)).collect();
    let closed = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, number| {
        let response = response_bytes("200 OK", &[], &vec![b'x'; BODY]);
        while conn.request().is_some() {
            let (first, rest) = response.split_at(BODY / 2);
            conn.send(first);
            // The download begins under one certificate and ends under the last.
            if number == 0 {
                while !closed.pass_within(std::time::Duration::from_millis(50)) {}
            }
            conn.send(rest);
        }
    });
    let proxy = start(&origin, &identities[0]);
    let address = tls_address(&proxy);
    let config = client(&identities.iter().collect::<Vec<_>>());
    let body = vec![b'x'; BODY];
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let download = scope.spawn(|| get(&mut connect(address, &config), BODY));
        wait_until("the download to begin", || origin.accepted() == 1);
        let (_done, _open) = (Done(&done), Opens(&gate));
        let (done, served, config, body) = (&done, &served, &config, &body);
        for number in 0..3 {
            scope.spawn(move || {
                let mut stream = connect(address, config);
                while !done.load(Ordering::SeqCst) {
                    if number == 0 {
                        stream = connect(address, config);
                    }
                    assert_eq!(get(&mut stream, BODY).as_ref(), Ok(body));
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 1..=ROUNDS {
            let before = served.load(Ordering::SeqCst);
            put_pair(proxy.directory(), &identities[usize::try_from(round).unwrap()]);
            wait_expiry(&proxy, 2090 + round);
            wait_until("requests in between", || served.load(Ordering::SeqCst) > before + 5);
        }
        done.store(true, Ordering::SeqCst);
        gate.open();
        assert_eq!(download.join().unwrap().as_ref(), Ok(body));
    });
    wait_cores(&proxy);
    let last = &identities[identities.len() - 1];
    assert_eq!(&shown(&proxy, &[last]), last.cert.der());
    assert_eq!((counts(&proxy), proxy.metric("config_generation")), ((0, 0), Some(1.0)));
}

/// An authority, and a client with a certificate of it.
fn authority() -> (String, (CertificateDer<'static>, PrivateKeyDer<'static>)) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, key);
    let client_key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&client_key, &issuer).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(client_key.serialize_der());
    (pem, (certificate.der().clone(), key.into()))
}

#[test]
fn no_session_resumes_after_the_authority_of_clients_has_changed() {
    let site = identity(2090);
    let (first_ca, (certificate, key)) = authority();
    let (second_ca, _) = authority();
    let origin = ScriptedOrigin::serving("x");
    let launch = Launch::new();
    put_pair(launch.directory(), &site);
    put(launch.directory(), "ca.pem", &first_ca);
    let config = with_tls(config_of(origin.url())).set("server.tls.client_ca_file", "ca.pem");
    let proxy = launch.config(&config).start();
    let mut roots = RootCertStore::empty();
    roots.add(site.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    let client = Arc::new(client);
    let kind = |proxy: &Proxy| {
        let mut stream = connect(tls_address(proxy), &client);
        get(&mut stream, 1).map(|_| stream.conn.handshake_kind().unwrap())
    };
    assert_eq!(kind(&proxy), Ok(HandshakeKind::Full));
    assert_eq!(kind(&proxy), Ok(HandshakeKind::Resumed));
    // A new certificate of the site changes nothing about who the clients are.
    let version = |proxy: &Proxy| status(proxy)["certificates"][0]["version"].as_u64();
    let before = version(&proxy);
    // The same authority beside another one is another set of authorities.
    put(proxy.directory(), "ca.pem", &format!("{first_ca}{second_ca}"));
    wait_until("the new authorities", || version(&proxy) > before);
    wait_cores(&proxy);
    assert_eq!(kind(&proxy), Ok(HandshakeKind::Full));
    assert_eq!(kind(&proxy), Ok(HandshakeKind::Resumed));
    // By a reload, and without the client's own authority.
    put(proxy.directory(), "other-ca.pem", &second_ca);
    adopt(&proxy, &config.clone().set("server.tls.client_ca_file", "other-ca.pem"));
    assert!(kind(&proxy).is_err(), "neither resumed nor let in");
    // An unrelated reload keeps sessions.
    adopt(&proxy, &touched(&config, 1));
    assert_eq!(kind(&proxy), Ok(HandshakeKind::Full), "not even by the authorities of before");
    assert_eq!(kind(&proxy), Ok(HandshakeKind::Resumed));
    adopt(&proxy, &touched(&config, 2));
    assert_eq!(kind(&proxy), Ok(HandshakeKind::Resumed));
}
