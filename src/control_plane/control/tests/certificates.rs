//! Certificates that change while the configuration stays.

use std::cell::Cell;

use super::*;
use crate::handoff::live::LiveVersion;

/// Certificates `site` and `other`, and the section that names them.
fn text(version: usize) -> String {
    let tls = "tls: { certificates: [{ cert_file: site.pem, key_file: site.key }, \
               { cert_file: other.pem, key_file: other.key }] }";
    content(version, 10.0).replace("server: { ", &format!("server: {{ {tls}, "))
}

fn write_chain(directory: &Path, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed(vec![format!("{name}.test")]).unwrap();
    fs::write(directory.join(format!("{name}.pem")), made.cert.pem()).unwrap();
    made.signing_key.serialize_pem()
}

fn write_pair(directory: &Path, name: &str) {
    let key = write_chain(directory, name);
    fs::write(directory.join(format!("{name}.key")), key).unwrap();
}

fn write_pairs(directory: &Path) {
    for name in ["site", "other"] {
        write_pair(directory, name);
    }
}

fn fixture_preparing(preparing: Preparing) -> Fixture {
    Fixture::with_files(2, 256, &text(FIRST_VERSION), write_pairs, preparing)
}

fn fixture() -> Fixture {
    fixture_preparing(Box::new(prepare::prepare))
}

/// Version of the certificates that the next connection would be shown.
fn version(fixture: &Fixture) -> LiveVersion {
    fixture.control.live.newest().tls_version()
}

fn work(fixture: &mut Fixture) {
    (0..2).for_each(|index| fixture.work(index, &mut Vec::new()));
}

fn wait_counts(fixture: &mut Fixture, counts: (u64, u64)) {
    fixture.until(work, |fixture| fixture.control.certificates.counts() == counts);
}

#[test]
fn a_renewed_pair_reaches_every_worker_and_moves_no_generation_and_no_counter() {
    let mut fixture = fixture();
    let before = fixture.control.metrics;
    for round in 1..4 {
        let known = version(&fixture);
        write_pair(fixture.directory.path(), "other");
        fixture.control.certificates_changed();
        wait_counts(&mut fixture, (round, 0));
        let newest = fixture.control.live.newest().version();
        assert!(version(&fixture) > known);
        fixture.until(work, |f| f.control.workers.live_versions() == [newest; 2]);
    }
    assert_eq!(fixture.control.metrics, before);
    assert!(fixture.control.last.is_none());
    // A reload compares with what runs now.
    fixture.ask(0, 1, false);
    fixture.until(work, |fixture| fixture.control.last.is_some());
    let (report, _) = fixture.control.last.as_ref().unwrap();
    assert!(!report.changed, "{report:?}");
    assert_eq!(fixture.control.running.release.generation, Generation::FIRST);
}

#[test]
fn files_that_hold_the_same_are_no_renewal() {
    let mut fixture = fixture();
    let known = version(&fixture);
    fixture.control.certificates_changed();
    fixture.turn(Duration::from_millis(1));
    let finished = fixture.inputs.read.recv_timeout(TIMEOUT).unwrap();
    fixture.control.certificates_read(finished);
    assert_eq!(version(&fixture), known);
    assert_eq!(fixture.control.certificates.counts(), (0, 0));
}

#[test]
fn a_pair_of_which_one_file_came_first_waits_for_the_other_while_others_are_renewed() {
    let mut fixture = fixture();
    let known = version(&fixture);
    let directory = fixture.directory.path().to_owned();
    let key = write_chain(&directory, "site");
    fixture.control.certificates_changed();
    wait_counts(&mut fixture, (0, 1));
    assert_eq!(version(&fixture), known, "the last good one serves");
    let problem = |fixture: &Fixture, index| {
        fixture.control.certificates.problem_of(index).map(str::to_owned)
    };
    assert!(problem(&fixture, 0).unwrap().contains("does not belong to the certificate"));
    assert_eq!(problem(&fixture, 1), None);
    write_pair(&directory, "other");
    fixture.control.certificates_changed();
    wait_counts(&mut fixture, (1, 2));
    fs::write(directory.join("site.key"), key).unwrap();
    fixture.control.certificates_changed();
    wait_counts(&mut fixture, (2, 2));
    assert_eq!(problem(&fixture, 0), None);
    assert_eq!(fixture.control.metrics.failure_total, 0);
}

#[test]
fn a_reload_brings_its_certificates_with_its_generation() {
    let mut fixture = fixture();
    let known = version(&fixture);
    write_pair(fixture.directory.path(), "site");
    fixture.write(&text(11));
    fixture.ask(0, 1, false);
    let adopted = Cell::new(LiveVersion::default());
    fixture.until(
        |fixture| {
            while let Some(message) = fixture.workers[0].take() {
                let ToWorker::Adopt { live, .. } = message else { continue };
                adopted.set(live.tls_version());
            }
        },
        |_| adopted.get() > LiveVersion::default(),
    );
    assert!(adopted.get() > known);
    assert_eq!(fixture.control.certificates.counts(), (0, 0), "a reload is no renewal");
}

#[test]
fn a_refused_reload_leaves_the_certificates_that_run() {
    let mut fixture = fixture();
    let known = version(&fixture);
    write_chain(fixture.directory.path(), "site");
    fixture.write(&text(11));
    fixture.ask(0, 1, false);
    fixture.until(work, |fixture| fixture.control.metrics.failure_total == 1);
    assert_eq!(version(&fixture), known);
    assert_eq!(fixture.control.running.release.generation, Generation::FIRST);
}

/// A reading beside an attempt may be older than that of the attempt.
#[test]
fn certificates_that_change_while_a_reload_is_prepared_are_read_after_it() {
    let (release_one, gate) = crossbeam_channel::bounded::<()>(0);
    let mut fixture = fixture_preparing(Box::new(move |origin, job, seen| {
        let outcome = prepare::prepare(origin, job, seen);
        // Once to tell that the files have been read, once to go on.
        let _ = (gate.recv(), gate.recv());
        outcome
    }));
    fixture.write(&text(11));
    fixture.ask(0, 1, false);
    fixture.until(work, |_| release_one.try_send(()).is_ok());
    write_pair(fixture.directory.path(), "site");
    fixture.control.certificates_changed();
    for _ in 0..20 {
        fixture.turn(Duration::from_millis(1));
    }
    assert_eq!(fixture.control.certificates.counts(), (0, 0));
    let released = Cell::new(false);
    fixture.until(
        |fixture| {
            released.set(released.get() || release_one.try_send(()).is_ok());
            work(fixture);
        },
        |fixture| fixture.control.metrics.success_total == 1,
    );
    let on_disk = fs::read(fixture.directory.path().join("site.pem")).unwrap();
    let key = fs::read(fixture.directory.path().join("site.key")).unwrap();
    let on_disk = crate::system::tls::ServerCertificate::from_pem(&on_disk, &key).unwrap();
    let serves = |fixture: &Fixture| {
        let tls = fixture.control.running.settings.server.tls.as_ref().unwrap();
        *tls.certificates[0].certificate == on_disk
    };
    fixture.control.certificates_changed();
    fixture.until(work, serves);
}

#[test]
fn a_section_that_appears_or_goes_waits_for_a_restart() {
    let mut fixture = fixture();
    let known = version(&fixture);
    fixture.write(&content(11, 10.0));
    fixture.ask(0, 1, false);
    fixture.until(work, |fixture| fixture.control.metrics.success_total == 1);
    let waiting = fixture.control.restart_required.clone();
    assert_eq!(waiting, ["server.tls: running a listener on port 8443, file nothing"]);
    assert_eq!(version(&fixture), known);
    // What still runs is still renewed.
    write_pair(fixture.directory.path(), "site");
    fixture.control.certificates_changed();
    wait_counts(&mut fixture, (1, 0));
    assert!(version(&fixture) > known);

    let mut without = Fixture::new(2, 256, 10.0);
    write_pairs(without.directory.path());
    without.write(&text(11));
    without.ask(0, 1, false);
    without.until(work, |fixture| fixture.control.metrics.success_total == 1);
    let [waiting] = &without.control.restart_required[..] else { panic!() };
    assert_eq!(waiting, "server.tls: running nothing, file a listener on port 8443");
    assert!(without.control.live.newest().tls_server().is_none());
    assert_eq!(without.control.running.release.generation, Generation(2), "the rest is adopted");
}
