//! Live values on their way to workers: none is lost, none comes twice at a time, none comes back.

use super::*;

fn host() -> HostPort {
    ("127.0.0.1".into(), 9)
}

/// The first live values in a worker's inbox; other messages are dropped.
fn take(fixture: &Fixture, worker: usize) -> Option<Arc<LiveTable>> {
    loop {
        if let ToWorker::Renew(live) = fixture.workers[worker].take()? {
            return Some(live);
        }
    }
}

fn acknowledge(fixture: &Fixture, worker: usize, live: &LiveTable) {
    let message = FromWorker::Renewed { worker, version: live.version() };
    fixture.to_control.send(message).unwrap();
}

/// Turns for some time, to see that something does not happen.
fn turn_for(fixture: &mut Fixture, time: Duration) {
    let end = Monotonic::now().plus(time);
    while Monotonic::now() < end {
        fixture.turn(Duration::from_millis(1));
    }
}

#[test]
fn a_worker_whose_inbox_is_full_gets_the_live_values_when_there_is_room() {
    let mut fixture = Fixture::new(1, 1, 10.0);
    fixture.control.workers.reply(
        0,
        Ticket::new(1),
        admin::history(&History::default(), Generation(1), "id"),
    );
    fixture.control.live.set_addresses(&host(), vec![address(1, 9)]);
    let newest = fixture.control.live.newest().version();
    turn_for(&mut fixture, 4 * RENEW_INTERVAL);
    assert!(matches!(fixture.workers[0].take(), Some(ToWorker::Reply { .. })));
    let got = std::cell::RefCell::new(None);
    fixture.until(|fixture| *got.borrow_mut() = take(fixture, 0), |_| got.borrow().is_some());
    assert_eq!(got.take().unwrap().version(), newest);
}

#[test]
fn a_worker_that_does_not_acknowledge_gets_no_second_table_but_is_woken_again() {
    let mut fixture = Fixture::new(1, 256, 10.0);
    fixture.control.live.set_addresses(&host(), vec![address(1, 9)]);
    let got = std::cell::RefCell::new(None);
    fixture.until(|fixture| *got.borrow_mut() = take(fixture, 0), |_| got.borrow().is_some());
    let first = got.take().unwrap();
    for number in 2..6 {
        fixture.control.live.set_addresses(&host(), vec![address(number, 9)]);
        turn_for(&mut fixture, 2 * RENEW_INTERVAL);
    }
    assert!(take(&fixture, 0).is_none(), "it has one to acknowledge");

    // The wake-up for the first one may have been lost: the bell rings until it is acknowledged.
    while fixture.workers[0].was_rung() {}
    let rung = std::cell::Cell::new(false);
    fixture.until(|fixture| rung.set(fixture.workers[0].was_rung()), |_| rung.get());

    acknowledge(&fixture, 0, &first);
    fixture.until(|fixture| *got.borrow_mut() = take(fixture, 0), |_| got.borrow().is_some());
    let newest = got.take().unwrap();
    assert_eq!(**newest.addresses(&host()).unwrap(), [address(5, 9)], "the newest at once");
    acknowledge(&fixture, 0, &newest);
    fixture.until(
        |_| {},
        |fixture| {
            fixture.control.workers.live_versions() == [fixture.control.live.newest().version()]
        },
    );
    turn_for(&mut fixture, 4 * RENEW_INTERVAL);
    assert!(take(&fixture, 0).is_none(), "what is acknowledged is not sent again");
}

/// The name of a new bucket is resolved while the attempt that brings it is prepared; then a
/// refresh comes, and another address, all before the commit.
#[test]
fn what_changes_between_compiling_and_the_commit_reaches_the_workers() {
    let (release_one, gate) = crossbeam_channel::bounded::<()>(0);
    let (has_compiled, compiled) = unbounded();
    let mut fixture = Fixture::preparing(
        1,
        256,
        10.0,
        Box::new(move |origin, job, seen| {
            let prepared = prepare::prepare(origin, job, seen);
            has_compiled.send(()).unwrap();
            gate.recv().unwrap();
            prepared
        }),
    );
    let host: HostPort = ("new.test".into(), 9);
    fixture.names.lock().unwrap().insert(host.clone(), 1);
    fixture.write(&content(11, 10.0).replace("127.0.0.1:9", "new.test:9"));
    fixture.ask(0, 1, false);
    fixture.until(|_| {}, |fixture| fixture.control.queue.current.is_some());
    compiled.recv().unwrap();

    fixture.control.refresh_at = Monotonic(0);
    fixture.turn(Duration::from_millis(1));
    assert!(fixture.control.live.newest().addresses(&host).is_some(), "a refresh forgets nothing");
    fixture.control.live.set_addresses(&host, vec![address(2, 9)]);
    fixture.turn(RENEW_INTERVAL);
    while fixture.workers[0].take().is_some() {}

    let adopted = std::cell::RefCell::new(None);
    let mut released = false;
    fixture.until(
        |fixture| {
            released = released || release_one.try_send(()).is_ok();
            if let Some(ToWorker::Adopt { live, .. }) = fixture.workers[0].take() {
                *adopted.borrow_mut() = Some(live);
            }
        },
        |_| adopted.borrow().is_some(),
    );
    let live = adopted.take().unwrap();
    assert_eq!(**live.addresses(&host).unwrap(), [address(2, 9)]);
    let metrics = fixture.control.metrics;
    assert_eq!((metrics.generation.0, metrics.success_total), (2, 0), "one generation, no other");
}

#[test]
fn live_values_move_neither_the_generation_nor_the_reload_counters() {
    let mut fixture = Fixture::new(2, 256, 10.0);
    let before = fixture.control.metrics;
    for number in 1..20 {
        fixture.control.live.set_addresses(&host(), vec![address(number, 9)]);
        let newest = fixture.control.live.newest().version();
        fixture.until(
            |fixture| (0..2).for_each(|index| fixture.work(index, &mut Vec::new())),
            |fixture| fixture.control.workers.live_versions() == [newest; 2],
        );
    }
    let after = fixture.control.metrics;
    assert_eq!(after.generation, before.generation);
    assert_eq!((after.success_total, after.failure_total), (0, 0));
    assert!(fixture.control.last.is_none());
}

/// A bucket at this host, and perhaps a source of credentials and one of keys that it alone needs.
fn with_sources(version: usize, host: &str, is_more: bool) -> String {
    let (source, signed, provider) = if is_more {
        (
            "credentials: [{ name: old, source: env }]",
            "credentials: old",
            "{ name: corp, issuer: 'https://id.example', jwks_url: 'http://127.0.0.1:1/keys' }",
        )
    } else {
        ("credentials: []", "anonymous: true", "")
    };
    format!(
        "server: {{ limits: {{ headers: {version} }} }}\n{source}\n\
         jwt: {{ secret: '0123456789-0123456789-0123456789', providers: [{provider}] }}\n\
         buckets:\n\
         - name: a\n  path_prefix: /a\n  auth: {{ enabled: false }}\n  \
           s3: {{ bucket: aaa, region: r, endpoint: 'http://{host}:9', {signed} }}\n"
    )
}

/// It still serves with what an older generation names.
#[test]
fn a_worker_that_lags_keeps_what_its_generation_needs() {
    let mut fixture = Fixture::new(1, 256, 10.0);
    let (old, new): (HostPort, HostPort) = (("old.test".into(), 9), ("new.test".into(), 9));
    fixture.names.lock().unwrap().extend([(old.clone(), 1), (new.clone(), 2)]);
    fixture.write(&with_sources(11, "old.test", true));
    fixture.ask(0, 1, false);
    fixture.until(
        |fixture| fixture.work(0, &mut Vec::new()),
        |fixture| fixture.control.metrics.success_total == 1,
    );
    let before = fixture.control.running.release.clone();
    let has = |fixture: &mut Fixture| {
        fixture.control.refresh_at = Monotonic(0);
        fixture.turn(Duration::from_millis(1));
        let (control, now) = (&fixture.control, Moment::now());
        [
            control.live.newest().addresses(&old).is_some(),
            control.key_sets.status(&before.auth).len() == 1,
            control.credentials.status(&sources_of(&before), &[], now).len() == 1,
        ]
    };
    assert_eq!(has(&mut fixture), [true; 3]);

    fixture.write(&with_sources(12, "new.test", false));
    fixture.ask(0, 2, false);
    fixture.until(|_| {}, |fixture| fixture.control.running.release.generation == Generation(3));
    assert_eq!(has(&mut fixture), [true; 3], "it has not adopted the generation without them");
    fixture.until(
        |fixture| fixture.work(0, &mut Vec::new()),
        |fixture| fixture.control.metrics.success_total == 2,
    );
    assert_eq!(has(&mut fixture), [false; 3]);
    assert!(fixture.control.live.newest().addresses(&new).is_some());
}

/// Sources that an attempt has learned belong to nothing that runs.
#[test]
fn sources_of_a_dry_run_are_neither_shown_nor_asked() {
    let mut fixture = Fixture::new(1, 256, 10.0);
    fixture.names.lock().unwrap().insert(("old.test".into(), 9), 1);
    fixture.write(&with_sources(11, "old.test", true));
    fixture.ask(0, 1, true);
    let reply = |fixture: &mut Fixture| {
        let mut replies = Vec::new();
        let is_answered = std::cell::Cell::new(false);
        fixture.until(
            |fixture| {
                fixture.work(0, &mut replies);
                is_answered.set(!replies.is_empty());
            },
            |_| is_answered.get(),
        );
        json(&replies[0])
    };
    assert_eq!(reply(&mut fixture)["status"], "success");
    let mut ask = |ticket, command| {
        let (call, ticket) = (command_call(command), Ticket::new(ticket));
        fixture.to_control.send(FromWorker::Call { worker: 0, ticket, call }).unwrap();
        reply(&mut fixture)
    };
    let page = ask(2, Command::Status);
    for list in ["credentials", "jwks"] {
        assert_eq!(page[list], serde_json::json!([]), "{page}");
    }
    assert_eq!(ask(3, Command::RefreshKeys)["providers"], serde_json::json!([]));
    assert_eq!(ask(4, Command::RefreshCredentials)["sources"], serde_json::json!([]));
}
