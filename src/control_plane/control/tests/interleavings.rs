//! The handoff under every order of events that a generator can think of: reloads, slow workers,
//! lost wake-ups, full inboxes, several triggers at once, names that get other addresses.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// Small, so that it is full at times.
const INBOX_MESSAGES_MAX: usize = 3;

const WORKERS: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The file gets a newer version.
    Write,
    /// A client of a worker asks for a reload.
    Post(usize),
    /// SIGHUP.
    Signal,
    /// The control thread takes a turn.
    Turn,
    /// A worker's event loop looks at its bell, and reads one message if it rang.
    Wake(usize),
    /// A worker reads on while it is awake.
    Read(usize),
    /// A worker's wake-up gets lost.
    Lose(usize),
    /// A request on a kept-alive connection of a worker.
    Request(usize),
    /// The name server gives the hosts of all versions other addresses.
    Rename,
    /// It is time to look names up again.
    Refresh,
    /// The two oldest messages of a worker change places.
    Swap(usize),
}

/// The file's content, whose bucket is on a host of its own in each version.
fn content_of(version: usize) -> String {
    content(version, 60.0).replace("127.0.0.1:9", &format!("{}:9", host_of(version).0))
}

fn host_of(version: usize) -> HostPort {
    (format!("v{version}.test").into(), 9)
}

fn event() -> impl Strategy<Value = Event> {
    let worker = 0..WORKERS;
    prop_oneof![
        2 => Just(Event::Write),
        2 => worker.clone().prop_map(Event::Post),
        1 => Just(Event::Signal),
        6 => Just(Event::Turn),
        3 => worker.clone().prop_map(Event::Wake),
        3 => worker.clone().prop_map(Event::Read),
        1 => worker.clone().prop_map(Event::Lose),
        3 => worker.clone().prop_map(Event::Request),
        2 => Just(Event::Rename),
        2 => Just(Event::Refresh),
        1 => worker.prop_map(Event::Swap),
    ]
}

/// A worker as the control thread cannot see it.
#[derive(Debug, Default)]
struct Model {
    adopted: u64,
    live: Arc<LiveTable>,
    /// Taken from the inbox, and to be read before what is in there.
    taken: VecDeque<ToWorker>,
    /// It reads its inbox until that is empty; then only the bell wakes it.
    awake: bool,
    /// The generation that the last request on its connection saw.
    seen: u64,
}

struct World {
    fixture: Fixture,
    workers: Vec<Model>,
    version: usize,
    /// Version of the file when each ticket asked.
    asked: HashMap<u64, usize>,
    replied: HashMap<u64, Value>,
    /// Versions by generation.
    versions: HashMap<u64, usize>,
    successes: u64,
    /// Hosts of generations that had addresses when they were committed.
    resolved: HashSet<HostPort>,
    /// The last address that the name server gave.
    number: u32,
}

impl World {
    fn new() -> Self {
        // No attempt runs out of time here: a partial one may end before all workers adopted.
        let fixture = Fixture::new(WORKERS, INBOX_MESSAGES_MAX, 60.0);
        let live = fixture.control.live.newest();
        let workers = (0..WORKERS)
            .map(|_| Model { adopted: 1, live: Arc::clone(&live), ..Model::default() })
            .collect();
        Self {
            fixture,
            workers,
            version: FIRST_VERSION,
            asked: HashMap::new(),
            replied: HashMap::new(),
            versions: HashMap::from([(1, FIRST_VERSION)]),
            successes: 0,
            resolved: HashSet::new(),
            number: 0,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Write => {
                self.version += 1;
                self.rename();
                self.fixture.write(&content_of(self.version));
            }
            Event::Post(worker) => {
                let ticket = self.asked.len() as u64;
                self.asked.insert(ticket, self.version);
                self.fixture.ask(worker, ticket, false);
            }
            Event::Signal => self.fixture.signals.send(Signal::Reload).unwrap(),
            Event::Turn => self.turn(),
            Event::Wake(worker) => {
                self.workers[worker].awake |= self.fixture.workers[worker].was_rung();
                self.read(worker);
            }
            Event::Read(worker) => self.read(worker),
            Event::Lose(worker) => {
                self.fixture.workers[worker].was_rung();
            }
            Event::Request(worker) => {
                let worker = &mut self.workers[worker];
                assert!(worker.adopted >= worker.seen, "a connection went back in time");
                worker.seen = worker.adopted;
            }
            Event::Rename => self.rename(),
            Event::Refresh => self.fixture.control.refresh_at = Monotonic(0),
            Event::Swap(worker) => {
                let inbox = &self.fixture.workers[worker];
                let taken = &mut self.workers[worker].taken;
                while taken.len() < 2
                    && let Some(message) = inbox.take()
                {
                    taken.push_back(message);
                }
                // Generations arrive in order; whatever else may not.
                if let [ToWorker::Renew(_), _] | [_, ToWorker::Renew(_)] = taken.make_contiguous() {
                    taken.swap(0, 1);
                }
            }
        }
    }

    fn rename(&mut self) {
        self.number += 1;
        let mut names = self.fixture.names.lock().unwrap();
        for version in FIRST_VERSION..=self.version {
            names.insert(host_of(version), self.number);
        }
    }

    fn turn(&mut self) {
        self.fixture.turn(Duration::from_millis(1));
        let control = &self.fixture.control;
        let running = control.running.release.generation.0;
        let version = control.running.release.limits.headers;
        let known = *self.versions.entry(running).or_insert(version);
        assert_eq!(known, version, "a generation has one content");
        let live = control.live.newest();
        let hosts = hosts_of(&control.running.release);
        self.resolved.extend(hosts.into_iter().filter(|host| live.addresses(host).is_some()));
        if control.metrics.success_total > self.successes {
            self.successes = control.metrics.success_total;
            // The moment of the reply: nobody may see an older generation from now on.
            for (index, worker) in self.workers.iter().enumerate() {
                assert!(worker.adopted >= running, "worker {index} was counted and lags");
            }
        }
    }

    fn read(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if !worker.awake {
            return;
        }
        let message = worker.taken.pop_front().or_else(|| self.fixture.workers[index].take());
        let to_control = &self.fixture.to_control;
        let renew = |worker: &mut Model, live| {
            let before = worker.live.version();
            let version = LiveTable::renew(&mut worker.live, live);
            assert!(version >= before, "older values came back");
            to_control.send(FromWorker::Renewed { worker: index, version }).unwrap();
        };
        match message {
            None => worker.awake = false,
            Some(ToWorker::Adopt { release, live }) => {
                renew(worker, live);
                let generation = release.generation;
                assert!(generation.0 >= worker.adopted, "an older generation came later");
                worker.adopted = generation.0;
                for host in hosts_of(&release) {
                    let known = worker.live.addresses(&host).is_some();
                    assert!(known || !self.resolved.contains(&host), "{host:?} got lost");
                }
                to_control.send(FromWorker::Adopted { worker: index, generation }).unwrap();
            }
            Some(ToWorker::Renew(live)) => renew(worker, live),
            Some(ToWorker::Reply { ticket, reply }) => {
                let twice = self.replied.insert(ticket.number(), json(&reply));
                assert_eq!(twice, None, "one question, one reply");
            }
            Some(ToWorker::Drain(_)) => {}
        }
    }

    /// Lets everybody finish: turns and wake-ups only.
    fn settle(&mut self) {
        let deadline = Monotonic::now().plus(TIMEOUT);
        loop {
            for worker in 0..WORKERS {
                self.happen(Event::Wake(worker));
                while self.workers[worker].awake {
                    self.happen(Event::Read(worker));
                }
            }
            self.turn();
            let control = &self.fixture.control;
            let newest = control.running.release.generation;
            let idle = control.queue.current.is_none()
                && control.workers.lagging(newest).is_empty()
                && control.workers.unsent() == 0
                && !control.resolver.is_busy()
                && control
                    .workers
                    .live_versions()
                    .iter()
                    .all(|v| *v == control.live.newest().version())
                && self.fixture.inputs.workers.is_empty()
                && self.fixture.inputs.signals.is_empty();
            if idle {
                break;
            }
            assert!(Monotonic::now() < deadline, "it never ends: {control:?}");
        }
        // The last replies may still lie in inboxes.
        for worker in 0..WORKERS {
            self.workers[worker].awake = true;
            while self.workers[worker].awake {
                self.read(worker);
            }
        }
    }

    fn check_the_end(&self) {
        let control = &self.fixture.control;
        for host in hosts_of(&control.running.release) {
            let wanted = match self.fixture.names.lock().unwrap().get(&host) {
                Some(number) => address(*number, host.1),
                None => resolver::literal(&host.0, host.1).unwrap(),
            };
            for (index, worker) in self.workers.iter().enumerate() {
                let known = worker.live.addresses(&host).map(|known| known.to_vec());
                assert_eq!(known, Some(vec![wanted]), "worker {index}, {host:?}");
            }
        }
        let running = self.fixture.control.running.release.generation.0;
        for (index, worker) in self.workers.iter().enumerate() {
            assert_eq!(worker.adopted, running, "worker {index} is left behind");
        }
        let mut open: Vec<_> =
            self.asked.keys().filter(|ticket| !self.replied.contains_key(ticket)).collect();
        open.sort();
        assert!(open.is_empty(), "no response to the requests {open:?}");
        for (ticket, reply) in &self.replied {
            assert_eq!(reply["status"], "success", "{reply}");
            let generation = reply["config_generation"].as_u64().unwrap();
            let (then, now) = (self.asked[ticket], self.versions[&generation]);
            assert!(now >= then, "asked about version {then}, replied about {now}");
        }
        assert_eq!(self.fixture.control.metrics.failure_total, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn generations_and_live_values_never_go_back_and_replies_are_true(
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
        }
        world.settle();
        world.happen(Event::Refresh);
        world.turn();
        world.settle();
        world.check_the_end();
    }
}
