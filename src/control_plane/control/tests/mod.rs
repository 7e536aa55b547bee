//! The control thread with workers that a test plays: stalled, slow, deaf, or well.

mod certificates;
mod interleavings;
mod live_values;
mod supervision;

use std::{
    collections::HashMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crossbeam_channel::{Sender, unbounded};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    control_plane::{
        files::{ConfigPlace, ProcessEnvironment},
        fingerprints::Seen,
        key_sets,
        learning::{Learner, learn_names},
        live,
        prepare::{self, Job, Origin, Ready, Refusal},
        providers::credentials::outside::RealWorld,
        resolver, tls,
        workers::RENEW_INTERVAL,
    },
    handoff::{
        live::{HostPort, LiveTable},
        message::{CallReply, Ticket, ToWorker},
    },
    model::Generation,
    policy::auth::install_crypto,
    system::{
        inbox::{UnclaimedInbox, inbox},
        tls::TicketKeys,
    },
    telemetry::{access_log, log},
};

/// An operator's command as a worker passes it on.
fn command_call(command: Command) -> Call {
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 1)).into();
    Call::Command { command, request_id: "id".into(), subject: None, client }
}

/// Time for a message that is known to come.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A control thread without a thread, and everything around it.
struct Fixture {
    control: Control,
    inputs: Inputs,
    to_control: Sender<FromWorker>,
    signals: Sender<Signal>,
    workers: Vec<UnclaimedInbox<ToWorker>>,
    names: Names,
    directory: TempDir,
}

/// A configuration whose limit on header fields is `version`, so that a snapshot tells it.
fn content(version: usize, reload_timeout: f64) -> String {
    format!(
        "server: {{ limits: {{ headers: {version} }} }}\n\
         admin: {{ reload_timeout: {reload_timeout} }}\n\
         buckets:\n\
         - name: a\n  path_prefix: /a\n  s3: {{ bucket: aaa, region: r, endpoint: 'http://127.0.0.1:9', anonymous: true }}\n"
    )
}

/// The smallest version that is a good limit.
const FIRST_VERSION: usize = 10;

/// Answers of the name server of a test: the last number of an address in 10.0.0.0/8.
type Names = Arc<Mutex<HashMap<HostPort, u32>>>;

fn address(number: u32, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0000 + number), port))
}

fn resolver_of(names: &Names, live: &LiveValues) -> Resolver {
    let names = Arc::clone(names);
    resolver::start_with(live.clone(), move |host| {
        let number = names.lock().unwrap().get(host).copied();
        Ok(number.map(|number| address(number, host.1)).into_iter().collect())
    })
}

type Preparing = Box<dyn Fn(&Origin, &Job, &mut Seen) -> Result<Ready, Refusal> + Send + Sync>;

impl Fixture {
    fn new(workers: usize, capacity: usize, reload_timeout: f64) -> Self {
        Self::preparing(workers, capacity, reload_timeout, Box::new(prepare::prepare))
    }

    fn preparing(workers: usize, capacity: usize, timeout: f64, preparing: Preparing) -> Self {
        Self::with_files(workers, capacity, &content(FIRST_VERSION, timeout), |_| (), preparing)
    }

    /// With files that the configuration names, written into the directory that is passed.
    fn with_files(
        workers: usize,
        capacity: usize,
        text: &str,
        files: impl FnOnce(&Path),
        preparing: Preparing,
    ) -> Self {
        install_crypto();
        let directory = tempfile::tempdir().unwrap();
        files(directory.path());
        let path = directory.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        let place = ConfigPlace::new(&path, None);
        let environment = ProcessEnvironment::capture();
        let (content, loaded) = prepare::load(&place, &environment, None, &mut Seen::new())
            .expect("a good configuration");
        let (live, bell) = live::start();
        let names = Names::default();
        let resolver = resolver_of(&names, &live);
        learn_names(&resolver, &loaded.settings);
        let release = prepare::first(&loaded, workers).unwrap();
        let key_sets = key_sets::start(live.clone());
        let tickets = TicketKeys::of_process().unwrap();
        if let Some(server) = tls::server(&loaded.settings.server, &tickets).unwrap() {
            live.set_tls_server(server);
        }
        let (certificates, read) = Certificates::start(place.clone(), tickets.clone()).unwrap();
        let outside = Arc::new(RealWorld::new(environment.clone()));
        let credentials = CredentialSources::new(live.clone(), outside);
        let origin = Origin {
            place: place.clone(),
            environment,
            live: live.clone(),
            tickets,
            learner: Learner {
                resolver: resolver.clone(),
                key_sets: key_sets.clone(),
                credentials: credentials.clone(),
            },
        };
        let (preparation, prepared) =
            Preparation::start_with(move |job, seen| preparing(&origin, job, seen)).unwrap();
        let (watcher, looked) = Watcher::start().unwrap();
        let (scrapes, rendered) = Scrapes::start().unwrap();
        let (to_control, from_workers) = unbounded();
        let (signals, signalled) = unbounded();
        let (sending, receiving) = (0..workers).map(|_| inbox(capacity).unwrap()).unzip();
        let control = Control {
            config: place,
            workers: Workers::new(sending, Generation::FIRST, live.newest().version()),
            cores: CoreCells::for_workers(workers).into_vec().into(),
            running: Running { release, settings: Arc::new(loaded.settings), content },
            preparation,
            live,
            resolver,
            key_sets,
            credentials,
            watcher,
            certificates,
            service: ServiceManager::default(),
            scrapes,
            access_log: access_log::start("/dev/null").unwrap().0,
            log: log::nowhere(),
            queue: Queue::default(),
            history: History::default(),
            metrics: ReloadMetrics {
                generation: Generation::FIRST,
                last_reload_successful: true,
                ..ReloadMetrics::default()
            },
            restart_required: Vec::new(),
            last: None,
            started: Monotonic::now(),
            refresh_at: Monotonic::now().plus(REFRESH),
            retry: Retry::default(),
            drain: None,
        };
        let inputs = Inputs {
            workers: from_workers,
            signals: signalled,
            prepared,
            live: bell,
            rendered,
            looked,
            read,
        };
        Self { control, inputs, to_control, signals, workers: receiving, names, directory }
    }

    /// Replaces the file in one step, as the preparation may read it at any time.
    fn write(&self, text: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.directory.path().join("config.yaml")).unwrap();
    }

    fn turn(&mut self, timeout: Duration) {
        assert_eq!(self.control.turn(&mut self.inputs, timeout), None);
    }

    /// Turns until `done`, playing workers with `work` in between.
    #[track_caller]
    fn until(&mut self, mut work: impl FnMut(&mut Self), done: impl Fn(&Self) -> bool) {
        let deadline = Monotonic::now().plus(TIMEOUT);
        while !done(self) {
            assert!(Monotonic::now() < deadline, "nothing comes of it");
            self.turn(Duration::from_millis(1));
            work(self);
        }
    }

    fn ask(&self, worker: usize, ticket: u64, dry_run: bool) {
        let command = Command::Reload { dry_run, if_match: None };
        let call = command_call(command);
        let ticket = Ticket::new(ticket);
        self.to_control.send(FromWorker::Call { worker, ticket, call }).unwrap();
    }

    /// Worker `index` reads its inbox, adopts, acknowledges, and keeps the replies.
    fn work(&self, index: usize, replies: &mut Vec<CallReply>) {
        while let Some(message) = self.workers[index].take() {
            match message {
                ToWorker::Adopt { release, .. } => {
                    let generation = release.generation;
                    self.to_control
                        .send(FromWorker::Adopted { worker: index, generation })
                        .unwrap();
                }
                ToWorker::Reply { reply, .. } => replies.push(reply),
                ToWorker::Renew(live) => {
                    let version = live.version();
                    self.to_control.send(FromWorker::Renewed { worker: index, version }).unwrap();
                }
                ToWorker::Drain(_) => {}
            }
        }
    }
}

fn json(reply: &CallReply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

#[test]
fn a_stalled_worker_is_named_bounded_and_catches_up_by_itself() {
    let mut fixture = Fixture::new(3, 256, 2.0);
    let mut replies = Vec::new();
    fixture.write(&content(11, 2.0));
    fixture.ask(0, 1, false);
    // Worker 2 does not read its inbox.
    fixture.until(
        |fixture| (0..2).for_each(|index| fixture.work(index, &mut replies)),
        |fixture| fixture.control.last.is_some(),
    );
    fixture.work(0, &mut replies);
    let [reply] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((reply.status, reply.code), (504, "reload_partial"));
    let report = json(reply);
    assert_eq!(report["status"], "partial");
    assert_eq!(report["config_generation"], 2);
    assert_eq!(report["lagging_workers"], serde_json::json!([2]));
    assert_eq!(report["workers"], 2);
    let metrics = fixture.control.metrics;
    assert_eq!((metrics.success_total, metrics.failure_total), (0, 1));
    assert_eq!(fixture.control.workers.lagging(Generation(2)), [2]);

    // It wakes up and finds the generation in its inbox; nobody has to ask again.
    fixture.until(
        |fixture| fixture.work(2, &mut Vec::new()),
        |fixture| fixture.control.workers.lagging(Generation(2)).is_empty(),
    );
    // What it missed does not keep later reloads from succeeding.
    fixture.write(&content(12, 2.0));
    fixture.ask(0, 2, false);
    fixture.until(
        |fixture| (0..3).for_each(|index| fixture.work(index, &mut Vec::new())),
        |fixture| fixture.control.metrics.success_total == 1,
    );
}

/// The inbox is bounded, and the newest generation is what fits in.
#[test]
fn a_worker_whose_inbox_is_full_gets_the_newest_generation_when_there_is_room() {
    let mut fixture = Fixture::new(2, 1, 0.02);
    for version in 11..20 {
        fixture.write(&content(version, 0.02));
        fixture.signals.send(Signal::Reload).unwrap();
        let attempts = (version - 10) as u64;
        fixture.until(
            |fixture| fixture.work(0, &mut Vec::new()),
            |fixture| fixture.control.metrics.failure_total == attempts,
        );
    }
    assert_eq!(fixture.control.running.release.generation, Generation(10));
    // Its inbox holds the first one that it was sent, and then the last.
    let mut seen = Vec::new();
    fixture.until(
        |fixture| {
            while let Some(ToWorker::Adopt { release, .. }) = fixture.workers[1].take() {
                let generation = release.generation;
                seen.push(generation.0);
                fixture.to_control.send(FromWorker::Adopted { worker: 1, generation }).unwrap();
            }
        },
        |fixture| fixture.control.workers.lagging(Generation(10)).is_empty(),
    );
    assert_eq!(seen, [2, 10]);
}

#[test]
fn a_panic_while_preparing_is_a_failed_reload() {
    let panics = AtomicBool::new(true);
    let mut fixture = Fixture::preparing(
        1,
        256,
        10.0,
        Box::new(move |origin, job, seen| {
            assert!(!panics.swap(false, Ordering::Relaxed), "this one is meant to fail");
            prepare::prepare(origin, job, seen)
        }),
    );
    fixture.write(&content(11, 10.0));
    fixture.ask(0, 1, false);
    fixture.until(|_| {}, |fixture| fixture.control.last.is_some());
    let mut replies = Vec::new();
    fixture.work(0, &mut replies);
    assert_eq!(replies[0].status, 400);
    assert!(json(&replies[0])["error"].as_str().unwrap().contains("internal error"));
    let metrics = fixture.control.metrics;
    assert_eq!((metrics.success_total, metrics.failure_total), (0, 1));
    assert_eq!(fixture.control.running.release.generation, Generation::FIRST);
    // The thread lives on.
    fixture.signals.send(Signal::Reload).unwrap();
    fixture.until(
        |fixture| fixture.work(0, &mut Vec::new()),
        |fixture| fixture.control.metrics.success_total == 1,
    );
    assert_eq!(fixture.control.running.release.generation, Generation(2));
}

/// Each attempt moves exactly one counter, and a dry run none.
#[test]
fn every_attempt_is_counted_once_and_a_dry_run_never() {
    let mut fixture = Fixture::new(1, 256, 10.0);
    for (text, dry_run, counted) in [
        (content(11, 10.0), true, (0, 0)),
        ("nonsense".to_owned(), true, (0, 0)),
        ("nonsense".to_owned(), false, (0, 1)),
        (content(11, 10.0), false, (1, 1)),
        (content(11, 10.0), false, (2, 1)),
    ] {
        fixture.write(&text);
        fixture.ask(0, 1, dry_run);
        let mut replies = Vec::new();
        let asked = std::cell::Cell::new(false);
        fixture.until(
            |fixture| {
                fixture.work(0, &mut replies);
                asked.set(!replies.is_empty());
            },
            |_| asked.get(),
        );
        let metrics = fixture.control.metrics;
        assert_eq!((metrics.success_total, metrics.failure_total), counted, "{text}");
    }
    assert!(fixture.control.metrics.last_reload_successful);
}

/// No reply is about an older state of the file than the question.
#[test]
fn a_question_that_comes_during_an_attempt_is_answered_by_a_later_one() {
    let (release_one, gate) = crossbeam_channel::bounded::<()>(0);
    let (has_read, first_read) = unbounded();
    let mut fixture = Fixture::preparing(
        1,
        256,
        10.0,
        Box::new(move |origin, job, seen| {
            let prepared = prepare::prepare(origin, job, seen);
            let _ = has_read.send(());
            let _ = gate.recv();
            prepared
        }),
    );
    fixture.write(&content(11, 10.0));
    fixture.ask(0, 1, false);
    fixture.until(|_| {}, |fixture| fixture.control.queue.current.is_some());
    first_read.recv().unwrap();
    // The attempt has read the file; who asks now means what is written now.
    fixture.write("nonsense");
    fixture.ask(0, 2, false);
    fixture.turn(Duration::from_millis(1));
    let mut replies = Vec::new();
    let mut release = 2;
    let count = std::cell::Cell::new(0);
    fixture.until(
        |fixture| {
            if release > 0 && release_one.try_send(()).is_ok() {
                release -= 1;
            }
            fixture.work(0, &mut replies);
            count.set(replies.len());
        },
        |_| count.get() == 2,
    );
    assert_eq!(replies[0].status, 200, "the first question is about the first file");
    assert_eq!(replies[1].status, 400, "the second question is about the second file");
}
