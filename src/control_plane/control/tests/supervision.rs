//! Helper threads that panic, hang or end.

use std::{
    fs::OpenOptions,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crossbeam_channel::never;

use super::*;
use crate::{
    config::{Problem, Problems},
    control_plane::prepare::PREPARE_TIMEOUT,
    handoff::credentials::Signing,
};

/// Makes a named pipe, whose opening waits until somebody opens its other end.
fn make_fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_file_that_hangs_fails_the_attempt_in_time_and_later_ones_succeed() {
    let (entering, started) = unbounded();
    let hangs = AtomicBool::new(true);
    let mut fixture = Fixture::preparing(
        1,
        256,
        10.0,
        Box::new(move |origin, job, seen| {
            if hangs.swap(false, Ordering::Relaxed) {
                entering.send(()).unwrap();
                drop(fs::File::open(origin.place.directory().join("fifo")).unwrap());
            }
            prepare::prepare(origin, job, seen)
        }),
    );
    let fifo = fixture.directory.path().join("fifo");
    make_fifo(&fifo);
    fixture.write(&content(11, 10.0));
    fixture.ask(0, 1, false);
    fixture.until(|_| {}, |fixture| fixture.control.queue.current.is_some());
    started.recv().unwrap();
    fixture.control.preparation.check(Monotonic::now().plus(PREPARE_TIMEOUT));
    fixture.until(|_| {}, |fixture| fixture.control.last.is_some());
    let mut replies = Vec::new();
    fixture.work(0, &mut replies);
    assert_eq!(replies[0].status, 400);
    let error = json(&replies[0])["error"].as_str().unwrap().to_owned();
    assert!(error.contains("not done after 60 s"), "{error}");
    assert_eq!(fixture.control.metrics.failure_total, 1);

    // Another thread prepares the next attempt, and what the first one still finds is dropped.
    fixture.ask(0, 2, false);
    fixture.until(
        |fixture| fixture.work(0, &mut replies),
        |fixture| fixture.control.metrics.success_total == 1,
    );
    drop(OpenOptions::new().write(true).open(&fifo).unwrap());
    fixture.write(&content(12, 10.0));
    fixture.ask(0, 3, false);
    fixture.until(
        |fixture| fixture.work(0, &mut replies),
        |fixture| fixture.control.metrics.success_total == 2,
    );
    assert_eq!(fixture.control.running.release.generation, Generation(3));
}

#[test]
fn a_page_that_panics_ends_its_calls_and_the_next_one_is_rendered() {
    let mut fixture = Fixture::new(1, 256, 10.0);
    let panics = AtomicBool::new(true);
    let (scrapes, rendered) = Scrapes::start_with(move |job| {
        assert!(!panics.swap(false, Ordering::Relaxed), "this one is meant to fail");
        crate::control_plane::scrapes::scrape(&job)
    })
    .unwrap();
    fixture.control.scrapes = scrapes;
    fixture.inputs.rendered = rendered;
    let ask = |fixture: &Fixture| {
        let ticket = Ticket::new(1);
        let view = ticket.view();
        let call = Call::Metrics;
        fixture.to_control.send(FromWorker::Call { worker: 0, ticket, call }).unwrap();
        view
    };
    let mut replies = Vec::new();
    let lost = ask(&fixture);
    fixture.until(|fixture| fixture.work(0, &mut replies), |_| lost.is_dropped());
    assert!(replies.is_empty(), "the worker responds, which has seen the end of the ticket");
    let good = ask(&fixture);
    fixture.until(|fixture| fixture.work(0, &mut replies), |_| good.is_dropped());
    assert_eq!(replies[0].status, 200);
}

/// A channel whose other end is gone is always ready to be read.
#[test]
fn threads_that_are_gone_do_not_keep_the_control_thread_busy() {
    let mut fixture = Fixture::new(1, 256, 10.0);
    drop(std::mem::replace(&mut fixture.signals, unbounded().0));
    drop(std::mem::replace(&mut fixture.to_control, unbounded().0));
    let pause = Duration::from_millis(100);
    // It sees that they are gone, and the addresses of the start.
    for _ in 0..3 {
        fixture.turn(pause);
    }
    let start = Monotonic::now();
    fixture.turn(pause);
    assert!(Monotonic::now() >= start.plus(pause));
}

#[test]
fn a_watched_file_is_tried_again_after_a_refusal_that_may_pass() {
    let mut fixture = refusing(2, true, usize::MAX, never());
    fixture.write(&watched(11));
    fixture.signals.send(Signal::Reload).unwrap();
    let work = |fixture: &mut Fixture| fixture.work(0, &mut Vec::new());
    fixture.until(work, |fixture| fixture.control.metrics.success_total == 1);
    fixture.write(&watched(12));
    fixture.until(work, |fixture| fixture.control.metrics.failure_total == 1);
    assert_eq!(fixture.control.running.release.generation, Generation(2));
    // The file is the same, and time passes.
    fixture.control.retry.try_again(false);
    fixture.until(work, |fixture| fixture.control.metrics.success_total == 2);
    assert_eq!(fixture.control.running.release.generation, Generation(3));
    assert_eq!(fixture.control.metrics.failure_total, 1);
}

#[test]
fn a_file_that_only_the_old_content_names_is_watched_after_a_rollback() {
    let mut fixture = Fixture::new(1, 256, 10.0);
    let key = fixture.directory.path().join("key");
    let signed = |version| {
        let signed = "access_key: AK, secret_key_file: key";
        let text = content(version, 10.0).replace("anonymous: true", signed);
        format!("{text}reload: {{ watch: true }}\n")
    };
    let plain = |version| format!("{}reload: {{ watch: true }}\n", content(version, 10.0));
    let secret = |fixture: &Fixture| {
        let bucket = &fixture.control.running.release.buckets[0];
        match &bucket.signing {
            Signing::Keys(keys) => Some(keys.secret_key.expose().to_vec()),
            Signing::Anonymous | Signing::Source(_) => None,
        }
    };
    let work = |fixture: &mut Fixture| fixture.work(0, &mut Vec::new());
    let reaches = |fixture: &mut Fixture, generation| {
        fixture.until(work, |fixture| {
            let control = &fixture.control;
            control.running.release.generation.0 == generation && control.queue.current.is_none()
        });
    };
    fs::write(&key, "first").unwrap();
    fixture.write(&signed(11));
    fixture.signals.send(Signal::Reload).unwrap();
    reaches(&mut fixture, 2);
    fixture.write(&plain(12));
    reaches(&mut fixture, 3);
    let command = Command::Rollback { to: Generation(2), if_match: None };
    let call = command_call(command);
    fixture.to_control.send(FromWorker::Call { worker: 0, ticket: Ticket::new(1), call }).unwrap();
    reaches(&mut fixture, 4);
    assert_eq!(secret(&fixture).unwrap(), b"first");

    fs::write(&key, "second").unwrap();
    reaches(&mut fixture, 5);
    assert_eq!(secret(&fixture).unwrap(), b"second", "the content that was gone back to");
    // The file is still what is adopted when it changes.
    fixture.write(&plain(13));
    reaches(&mut fixture, 6);
    assert_eq!(secret(&fixture), None);
}

/// Asks to go back to a generation.
fn roll_back(fixture: &Fixture, to: u64) {
    let call = command_call(Command::Rollback { to: Generation(to), if_match: None });
    fixture.to_control.send(FromWorker::Call { worker: 0, ticket: Ticket::new(1), call }).unwrap();
}

/// Turns until so many attempts have succeeded and failed.
fn reaches_counts(fixture: &mut Fixture, counts: (u64, u64)) {
    let work = |fixture: &mut Fixture| fixture.work(0, &mut Vec::new());
    fixture.until(work, |fixture| {
        let control = &fixture.control;
        let found = (control.metrics.success_total, control.metrics.failure_total);
        found == counts && control.queue.current.is_none()
    });
}

/// Two generations of the file.
fn two_generations(fixture: &mut Fixture, text: impl Fn(usize) -> String) {
    for (version, successes) in [(11, 1), (12, 2)] {
        fixture.write(&text(version));
        // The watch asks by itself.
        if !fixture.control.is_watching() {
            fixture.signals.send(Signal::Reload).unwrap();
        }
        reaches_counts(fixture, (successes, 0));
    }
}

/// Two generations of the file, and the first of them again.
fn gone_back(fixture: &mut Fixture, text: impl Fn(usize) -> String) {
    two_generations(fixture, text);
    roll_back(fixture, 2);
    reaches_counts(fixture, (3, 0));
}

#[test]
fn a_change_of_the_old_content_does_not_undo_a_file_that_is_being_adopted() {
    let (release_one, gate) = crossbeam_channel::bounded::<()>(0);
    let attempts = AtomicUsize::new(0);
    let mut fixture = Fixture::preparing(
        1,
        256,
        10.0,
        Box::new(move |origin, job, seen| {
            if attempts.fetch_add(1, Ordering::Relaxed) == 3 {
                let _ = gate.recv();
            }
            prepare::prepare(origin, job, seen)
        }),
    );
    gone_back(&mut fixture, |version| content(version, 10.0));
    fixture.write(&content(13, 10.0));
    fixture.signals.send(Signal::Reload).unwrap();
    let work = |fixture: &mut Fixture| fixture.work(0, &mut Vec::new());
    fixture.until(work, |fixture| fixture.control.is_preparing());
    fixture.control.looked(News { changed: Some(Changed::RunningContent), certificates: false });
    release_one.send(()).unwrap();
    reaches_counts(&mut fixture, (4, 0));
    for _ in 0..3 {
        fixture.turn(Duration::from_millis(1));
        assert!(fixture.control.queue.current.is_none());
    }
    assert_eq!(fixture.control.running.release.generation, Generation(5));
    assert_eq!(fixture.control.running.settings.server.limits.headers, 13);
}

/// A fixture whose attempt of this number is refused, for a reason that may pass or not, and whose
/// attempt of the other waits for the gate first.
fn refusing(number: usize, may_pass: bool, waiting: usize, gate: Receiver<()>) -> Fixture {
    let attempts = AtomicUsize::new(0);
    Fixture::preparing(
        1,
        256,
        10.0,
        Box::new(move |origin, job, seen| {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed) + 1;
            if attempt == waiting {
                let _ = gate.recv();
            }
            if attempt == number {
                let problems = Problems::from(Problem::of_file("S3 does not know the key yet"));
                return Err(Refusal { problems, may_pass });
            }
            prepare::prepare(origin, job, seen)
        }),
    )
}

fn watched(version: usize) -> String {
    format!("{}reload: {{ watch: true }}\n", content(version, 10.0))
}

#[test]
fn a_refused_file_is_tried_again_though_what_runs_was_read_anew() {
    let mut fixture = refusing(4, true, usize::MAX, never());
    gone_back(&mut fixture, watched);
    fixture.write(&watched(13));
    reaches_counts(&mut fixture, (3, 1));
    fixture.control.looked(News { changed: Some(Changed::RunningContent), certificates: false });
    reaches_counts(&mut fixture, (4, 1));
    assert_eq!(fixture.control.running.settings.server.limits.headers, 11);
    fixture.control.retry.try_again(false);
    reaches_counts(&mut fixture, (5, 1));
    assert_eq!(fixture.control.running.settings.server.limits.headers, 13);
}

#[test]
fn a_file_is_tried_again_for_a_certificate_that_came_while_it_was_refused() {
    let (release_one, gate) = crossbeam_channel::bounded::<()>(0);
    let mut fixture = refusing(3, false, 3, gate);
    two_generations(&mut fixture, watched);
    fixture.write(&watched(13));
    fixture.until(|_| {}, |fixture| fixture.control.is_preparing());
    fixture.control.certificates_changed();
    release_one.send(()).unwrap();
    reaches_counts(&mut fixture, (3, 1));
    assert_eq!(fixture.control.running.settings.server.limits.headers, 13);
}

#[test]
fn a_refused_file_is_tried_again_while_dry_runs_follow_each_other() {
    let (release_one, gate) = crossbeam_channel::bounded::<()>(0);
    let mut fixture = refusing(3, true, 4, gate);
    two_generations(&mut fixture, watched);
    fixture.write(&watched(13));
    reaches_counts(&mut fixture, (2, 1));
    fixture.ask(0, 1, true);
    fixture.until(|_| {}, |fixture| fixture.control.is_preparing());
    fixture.control.retry.try_again(false);
    fixture.turn(Duration::from_millis(1));
    assert!(fixture.control.queue.may_adopt(), "asked for behind the dry run");
    release_one.send(()).unwrap();
    reaches_counts(&mut fixture, (3, 1));
}

#[test]
fn no_attempt_of_a_refused_file_undoes_a_rollback_that_is_under_way() {
    let (release_one, gate) = crossbeam_channel::bounded::<()>(0);
    let mut fixture = refusing(3, true, 4, gate);
    two_generations(&mut fixture, watched);
    fixture.write(&watched(13));
    reaches_counts(&mut fixture, (2, 1));
    roll_back(&fixture, 2);
    let work = |fixture: &mut Fixture| fixture.work(0, &mut Vec::new());
    fixture.until(work, |fixture| fixture.control.is_preparing());
    fixture.control.retry.try_again(false);
    fixture.control.certificates_changed();
    fixture.turn(Duration::from_millis(1));
    release_one.send(()).unwrap();
    reaches_counts(&mut fixture, (3, 1));
    for _ in 0..3 {
        fixture.turn(Duration::from_millis(1));
        assert!(!fixture.control.queue.may_adopt());
    }
    assert_eq!(fixture.control.running.settings.server.limits.headers, 11);
}

#[test]
fn a_renewed_certificate_does_not_undo_a_rollback() {
    let mut fixture = Fixture::new(1, 256, 10.0);
    gone_back(&mut fixture, watched);
    roll_back(&fixture, 99);
    reaches_counts(&mut fixture, (3, 1));
    fixture.control.certificates_changed();
    fixture.turn(Duration::from_millis(1));
    assert!(fixture.control.queue.current.is_none());

    // A file that was refused may be good with it.
    fixture.write("buckets: 7\n");
    reaches_counts(&mut fixture, (3, 2));
    fixture.control.certificates_changed();
    reaches_counts(&mut fixture, (3, 3));
    assert_eq!(fixture.control.running.release.generation, Generation(4));
}
