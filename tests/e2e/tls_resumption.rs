//! Sessions that resume: on every core, across reloads, and with a certificate of the client; and
//! those that must not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::HandshakeKind;

use crate::support::{
    config::Config,
    proxy::Proxy,
    reload::{adopt, touched},
    site::{Authority, Site, VERSIONS, Visitor},
};

/// Visits that find a core by chance: with two cores, all but one in 2^31 such series have met
/// both.
const VISITS: usize = 32;

/// Whether the next visit resumes the session of the one before it.
#[track_caller]
fn resumes(visitor: &Visitor, proxy: &Proxy) -> bool {
    let mut client = visitor.connect(proxy);
    // A ticket of TLS 1.3 comes with the response.
    assert_eq!(client.get("/health").status, 200);
    client.session().handshake_kind() == Some(HandshakeKind::Resumed)
}

fn resumed_total(proxy: &Proxy) -> usize {
    let page = proxy.metrics();
    page.lines()
        .filter(|line| line.starts_with("yatagarasu_tls_handshakes_total{"))
        .filter(|line| line.contains("resumed=\"true\""))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>().unwrap())
        .sum()
}

/// Lines of random keys, in base64.
fn key_lines(count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            let mut key = [0; 80];
            aws_lc_rs::rand::fill(&mut key).unwrap();
            STANDARD.encode(key)
        })
        .collect()
}

#[test]
fn a_session_resumes_on_every_core_and_across_reloads() {
    for version in VERSIONS {
        let site = Site::new();
        let config = Config::unreachable().with_tls().with_jwt(&[]).set("server.threads", 2);
        let proxy = site.start(&config);
        let visitor = site.visitor_with(version);
        assert!(!resumes(&visitor, &proxy));
        for _ in 0..VISITS {
            assert!(resumes(&visitor, &proxy), "{version:?}");
        }
        for number in 0..3 {
            adopt(&proxy, &touched(&config, number));
            assert!(resumes(&visitor, &proxy), "{version:?} after {number} reloads");
        }
        // Another certificate for the same name.
        let renewed = site.issue(&["localhost"]);
        std::fs::write(proxy.directory().join("site.pem"), renewed.pem()).unwrap();
        std::fs::write(proxy.directory().join("site.key"), renewed.key_pem()).unwrap();
        crate::support::reload::reload(&proxy);
        assert!(resumes(&visitor, &proxy), "{version:?} with a new certificate");
        assert_eq!(resumed_total(&proxy), VISITS + 4);
    }
}

#[test]
fn a_session_belongs_to_the_name_that_it_was_made_for() {
    for version in VERSIONS {
        let site = Site::new();
        let other = site.issue(&["other.test"]);
        let launch = site.launch();
        launch.write("other.pem", &other.pem());
        launch.write("other.key", &other.key_pem());
        let pairs = serde_json::json!([
            { "cert_file": "site.pem", "key_file": "site.key" },
            { "cert_file": "other.pem", "key_file": "other.key" },
        ]);
        let config = Config::unreachable().with_tls().set("server.tls.certificates", pairs);
        let proxy = launch.config(&config).start();
        let visitor = site.visitor_with(version);
        for (name, resumes) in
            [("localhost", false), ("other.test", false), ("localhost", true), ("other.test", true)]
        {
            let mut client = visitor.try_connect(proxy.tls_address(), name).unwrap();
            assert_eq!(client.get("/health").status, 200);
            let kind = client.session().handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), resumes, "{version:?} {name}");
        }
    }
}

#[test]
fn a_client_with_a_certificate_resumes_until_the_authority_changes() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    for version in VERSIONS {
        let site = Site::new();
        let launch = site.launch();
        launch.write("clients.pem", &ours.pem());
        let open = Config::unreachable().with_tls().with_jwt(&[]).set("server.threads", 2);
        let config = open.clone().set("server.tls.client_ca_file", "clients.pem");
        let proxy = launch.config(&config).start();
        let visitor = site.visitor_of(&[version], Some(&ours.issue(&["client"])));
        assert!(!resumes(&visitor, &proxy));
        assert!(resumes(&visitor, &proxy), "{version:?}");
        // The same file with another content: the same authority, and one more.
        let both = format!("{}{}", others.pem(), ours.pem());
        std::fs::write(proxy.directory().join("clients.pem"), both).unwrap();
        crate::support::reload::reload(&proxy);
        assert!(!resumes(&visitor, &proxy), "{version:?} with another content");
        assert!(resumes(&visitor, &proxy), "{version:?}");
        // Without it, and with it again.
        adopt(&proxy, &open);
        let stranger = site.visitor_with(version);
        assert!(!resumes(&stranger, &proxy));
        assert!(resumes(&stranger, &proxy));
        adopt(&proxy, &config);
        let refusal = stranger.refusal(&proxy);
        assert!(refusal.contains("CertificateRequired"), "{refusal}");
        // What the stranger has left must not help a client that shows nothing.
        let refusal = stranger.refusal(&proxy);
        assert!(refusal.contains("CertificateRequired"), "{refusal}");
    }
}

#[test]
fn clients_must_show_a_certificate_of_the_authority() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let site = Site::new();
    let launch = site.launch();
    launch.write("clients.pem", &ours.pem());
    let config = Config::unreachable().with_tls().set("server.tls.client_ca_file", "clients.pem");
    let proxy = launch.config(&config).start();
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let good = site.visitor_of(&[version], Some(&ours.issue(&["client"])));
        assert_eq!(good.get(&proxy, "/health").status, 200);
        let none = site.visitor_with(version).refusal(&proxy);
        assert!(none.contains("CertificateRequired"), "{none}");
        let other = site.visitor_of(&[version], Some(&others.issue(&["client"]))).refusal(&proxy);
        assert!(other.contains("alert"), "{other}");
        for reason in ["certificate_missing", "certificate_refused"] {
            let series = format!("yatagarasu_tls_handshake_failures_total{{reason=\"{reason}\"}}");
            let expected = f64::from(u32::try_from(number + 1).unwrap());
            assert_eq!(proxy.metric(&series), Some(expected), "{reason}");
        }
    }
    // The plain listener asks for none.
    assert_eq!(proxy.get("/health").status, 200);
}

#[test]
fn instances_with_the_same_ticket_keys_resume_each_others_sessions() {
    let site = Site::new();
    let lines = key_lines(3);
    let start = |lines: &[String]| {
        let launch = site.launch();
        launch.write("tickets", &lines.join("\n"));
        let config = Config::unreachable()
            .with_tls()
            .with_jwt(&[])
            .set("server.tls.ticket_keys_file", "tickets");
        launch.config(&config).start()
    };
    for version in VERSIONS {
        let visitor = site.visitor_with(version);
        let (first, second) = (start(&lines[..1]), start(&lines[..1]));
        assert!(!resumes(&visitor, &first));
        assert!(resumes(&visitor, &second));
        assert!(resumes(&visitor, &first));
        // The key gets a successor on one of them, then on both, and is taken out.
        let rotate = |proxy: &Proxy, lines: &[String]| {
            std::fs::write(proxy.directory().join("tickets"), lines.join("\n")).unwrap();
            crate::support::reload::reload(proxy);
        };
        let both = [lines[1].clone(), lines[0].clone()];
        rotate(&second, &both);
        assert!(resumes(&visitor, &second), "an old ticket with the second key of the file");
        assert!(!resumes(&visitor, &first), "a ticket of a key that this one has not got");
        rotate(&first, &both);
        assert!(resumes(&visitor, &first));
        rotate(&first, &lines[1..2]);
        assert!(resumes(&visitor, &first));
        rotate(&first, &lines[2..]);
        assert!(!resumes(&visitor, &first), "a key that was taken out");
        assert!(resumes(&visitor, &first), "a ticket of the key that came");
    }
}
