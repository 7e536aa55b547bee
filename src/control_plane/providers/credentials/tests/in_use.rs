//! The sources in use, with a clock that the test turns.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use super::*;
use crate::{
    config::settings::{SourceKind, SourceSettings},
    control_plane::{
        live::{self, LiveValues},
        providers::credentials::{CredentialSources, CredentialStatus, renewal::Moment},
    },
    handoff::{credentials::SourceId, live::LiveVersion},
    system::clock::Monotonic,
};

/// Longest wait for something that is known to come.
const PATIENCE: Duration = Duration::from_secs(20);

fn container(name: &str) -> SourceSettings {
    SourceSettings {
        name: name.to_owned(),
        kind: SourceKind::Container,
        endpoint: Some(format!("http://127.0.0.1/{name}")),
        ..SourceSettings::default_chain()
    }
}

/// Sources in a world, and the time.
struct InUse {
    sources: CredentialSources,
    live: LiveValues,
    now: Moment,
}

impl InUse {
    fn new(world: World) -> Self {
        let (live, _) = live::start();
        let sources = CredentialSources::new(live.clone(), Arc::new(world));
        Self { sources, live, now: Moment::now() }
    }

    fn later(&mut self, seconds: u64) {
        self.now.monotonic = self.now.monotonic.plus(Duration::from_secs(seconds));
        self.now.unix_seconds += seconds;
    }

    /// Turns, at the time of the test, until a condition holds.
    #[track_caller]
    fn until(&self, holds: impl Fn(&CredentialStatus) -> bool) {
        let end = Monotonic::now().plus(PATIENCE);
        loop {
            self.sources.turn(self.now);
            let all = self.status();
            if all.iter().any(&holds) {
                return;
            }
            assert!(Monotonic::now() < end, "it never came: {all:?}");
            thread::yield_now();
        }
    }

    /// Turns until a condition holds, as time goes by: a look that was under way before may use up
    /// the moment at which one is due.
    #[track_caller]
    fn until_looks(&mut self, holds: impl Fn(&Self) -> bool) {
        let end = Monotonic::now().plus(PATIENCE);
        while !holds(self) {
            assert!(Monotonic::now() < end, "it never came: {:?}", self.status());
            self.later(2);
            self.sources.turn(self.now);
            thread::yield_now();
        }
    }

    fn status(&self) -> Vec<CredentialStatus> {
        let all = self.live.newest().version();
        let known = ["a", "b", "prod", "files"].map(|name| container(name).id());
        let wanted: HashSet<_> = known.into_iter().chain([files().id()]).collect();
        self.sources.status(&wanted, &[all, LiveVersion(0)], self.now)
    }

    fn key(&self, source: &SourceSettings) -> Option<String> {
        let table = self.live.newest();
        table.credentials(source.id()).map(|found| found.credentials.access_key.to_string())
    }
}

fn files() -> SourceSettings {
    SourceSettings {
        name: "files".to_owned(),
        kind: SourceKind::Profile,
        ..SourceSettings::default_chain()
    }
}

/// Text of a time so many seconds from now.
fn ends_in(now: Moment, seconds: u64) -> String {
    let (year, month, day) =
        crate::protocol::text::date::civil_from_days((now.unix_seconds + seconds) / 86_400);
    let of_day = (now.unix_seconds + seconds) % 86_400;
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[test]
fn one_fetch_serves_all_and_a_new_version_comes_before_the_end() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let start = Moment::now();
    let world = World::new(&[]).responding(move |_| {
        let number = counted.fetch_add(1, Ordering::SeqCst) as u64;
        Ok((200, document(&format!("KEY{number}"), &ends_in(start, 3_600 * (number + 1)))))
    });
    let mut used = InUse::new(world);
    let source = container("prod");
    assert!(used.sources.learn(std::slice::from_ref(&source), PATIENCE).is_empty());
    assert!(used.sources.learn(&[source.clone(), source.clone()], PATIENCE).is_empty());
    assert_eq!((count.load(Ordering::SeqCst), used.key(&source).unwrap()), (1, "KEY0".to_owned()));
    used.until(|status| status.version == 1);
    let status = &used.status()[0];
    assert_eq!((&*status.source, &*status.workers), ("prod", &[1, 0][..]));
    assert_eq!(status.ends, Some(start.unix_seconds + 3_600));
    assert_eq!((status.successes, status.failures, status.last_error.as_ref()), (1, 0, None));

    used.later(3_000);
    used.sources.turn(used.now);
    // It counts from the fetch, which began by the real clock.
    assert!((2_900..=3_000).contains(&used.status()[0].age_seconds.unwrap()));
    used.later(300);
    used.until(|status| status.version == 2);
    assert_eq!(used.key(&source).unwrap(), "KEY1");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    // An operator does not wait for the time.
    let asked = used.sources.refresh(&HashSet::from([source.id()]));
    assert_eq!(asked.iter().map(|name| &**name).collect::<Vec<_>>(), ["prod"]);
    assert!(used.sources.refresh(&HashSet::from([container("a").id()])).is_empty());
    used.until(|status| status.version == 3);
}

#[test]
fn the_same_credentials_again_are_no_new_version() {
    let start = Moment::now();
    let world =
        World::new(&[]).responding(move |_| Ok((200, document("KEY", &ends_in(start, 3_600)))));
    let mut used = InUse::new(world);
    assert!(used.sources.learn(&[container("a")], PATIENCE).is_empty());
    let version = used.live.newest().version();
    used.later(3_300);
    used.until(|status| status.successes == 2);
    used.later(29);
    used.sources.turn(used.now);
    used.later(1);
    used.until(|status| status.successes == 3);
    let status = &used.status()[0];
    assert_eq!((status.version, status.failures, status.last_error.as_ref()), (1, 0, None));
    assert_eq!(used.live.newest().version(), version);
}

#[test]
fn the_last_good_ones_stay_while_renewals_fail() {
    let (step, start) = (Arc::new(AtomicUsize::new(0)), Moment::now());
    let of_world = Arc::clone(&step);
    let world = World::new(&[]).responding(move |asked| {
        let seconds = match of_world.load(Ordering::SeqCst) {
            0 => 3_600,
            1 if asked.url.ends_with("/a") => {
                return Ok((200, format!("{{\"AccessKeyId\":\"{CANARY}\"}}")));
            }
            2 if asked.url.ends_with("/a") => 3_601,
            _ => 90_000,
        };
        Ok((200, document("KEY", &ends_in(start, seconds))))
    });
    let mut used = InUse::new(world);
    assert!(used.sources.learn(&[container("a"), container("b")], PATIENCE).is_empty());
    step.store(1, Ordering::SeqCst);
    used.later(3_300);
    used.until(|status| &*status.source == "a" && status.failures == 1);
    // The other one is not affected.
    used.until(|status| &*status.source == "b" && status.version == 2);
    for (failures, pause) in [(2, 1), (3, 2), (4, 4), (5, 8), (6, 15)] {
        used.later(pause);
        used.until(|status| status.failures == failures);
    }
    let status = &used.status()[0];
    assert_eq!((status.version, status.ends), (1, Some(start.unix_seconds + 3_600)));
    let error = status.last_error.clone().unwrap();
    assert!(error.contains("has no AccessKeyId") && !error.contains(CANARY), "{error}");
    assert_eq!(used.key(&container("a")).unwrap(), "KEY");
    assert!(!format!("{:?}{:?}", used.live.newest(), used.status()).contains(CANARY));
    // Credentials that have ended replace nothing.
    step.store(2, Ordering::SeqCst);
    used.later(600);
    used.until(|status| status.failures == 7);
    let error = used.status()[0].last_error.clone().unwrap();
    assert!(error.contains("s before they came; is the clock of this machine right?"), "{error}");
    assert_eq!(used.status()[0].version, 1);
    // It recovers by itself.
    step.store(3, Ordering::SeqCst);
    used.later(15);
    used.until(|status| &*status.source == "a" && status.version == 2);
    assert_eq!(used.status()[0].last_error, None);
}

#[test]
fn a_source_that_cannot_work_is_told_and_not_waited_for() {
    let used = InUse::new(World::new(&[]));
    let env = SourceSettings {
        name: "prod".to_owned(),
        kind: SourceKind::Env,
        ..SourceSettings::default_chain()
    };
    let warnings = used.sources.learn(&[env], Duration::from_hours(1));
    assert_eq!(
        warnings,
        ["credentials[prod]: there are none (AWS_ACCESS_KEY_ID is not set); its buckets answer \
          502 until there are"]
    );
    // One that may come is waited for, as long as there is time.
    let warnings = used.sources.learn(&[container("a")], Duration::ZERO);
    assert!(warnings[0].starts_with("credentials[a]: there are none ("), "{warnings:?}");
    assert_eq!(used.key(&container("a")), None);
}

#[test]
fn a_source_that_hangs_holds_nobody_up() {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let world = World::new(&[]).responding(move |asked| {
        if asked.url.ends_with("/a") {
            let _ = held.recv();
        }
        Ok((200, document("KEY", LATE)))
    });
    let mut used = InUse::new(world);
    used.sources.learn(&[container("a"), container("b")], Duration::ZERO);
    used.until(|status| &*status.source == "b" && status.version == 1);
    assert_eq!(used.key(&container("a")), None);
    // Its thread is given up, and another one asks again.
    used.until(|status| {
        used.sources.check(Monotonic::now().plus(Duration::from_hours(1)));
        &*status.source == "a" && status.failures == 1
    });
    assert!(used.status()[0].last_error.clone().unwrap().starts_with("not done after 30 s"));
    drop(release);
    used.later(1);
    used.until(|status| &*status.source == "a" && status.version == 1);
}

#[test]
fn refused_credentials_are_replaced_early_unless_they_were_already() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let world = World::new(&[]).responding(move |_| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        Ok((200, document(&format!("KEY{number}"), LATE)))
    });
    let mut used = InUse::new(world);
    let source = container("a");
    assert!(used.sources.learn(std::slice::from_ref(&source), PATIENCE).is_empty());
    let serial = |used: &InUse| used.live.newest().credentials(source.id()).unwrap().serial;
    let first = serial(&used);
    used.later(100);
    used.sources.refused(source.id(), first);
    used.until(|status| status.version == 2);
    assert_eq!(used.key(&source).unwrap(), "KEY1");
    // A core that has not heard of them refuses the old ones again.
    used.later(100);
    used.sources.refused(source.id(), first);
    used.sources.refused(SourceId(0), serial(&used));
    assert!(!used.sources.entries()[0].renewal.clone().begin(used.now));
    used.sources.refused(source.id(), serial(&used));
    used.until(|status| status.version == 3);
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn a_source_that_nothing_names_is_forgotten() {
    let world = World::new(&[]).responding(|_| Ok((200, document("KEY", LATE))));
    let used = InUse::new(world);
    let (a, b) = (container("a"), container("b"));
    assert!(used.sources.learn(&[a.clone(), b.clone()], PATIENCE).is_empty());
    used.sources.keep(&HashSet::from([b.id()]));
    assert_eq!((used.key(&a), used.key(&b).as_deref()), (None, Some("KEY")));
    assert_eq!(used.status().len(), 1);
    // Another definition of the same name is another source.
    let other = SourceSettings { endpoint: Some("http://127.0.0.1/c".to_owned()), ..b.clone() };
    assert!(used.sources.learn(std::slice::from_ref(&other), PATIENCE).is_empty());
    assert_ne!(other.id(), b.id());
    assert_eq!(used.key(&other).as_deref(), Some("KEY"));
}

#[test]
fn changed_files_are_read_again_and_unchanged_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    let of = |key: &str| format!("[default]\naws_access_key_id={key}\naws_secret_access_key=s\n");
    std::fs::write(&path, of("FIRST")).unwrap();
    let is_broken = Arc::new(AtomicBool::new(false));
    let world = World::new(&[("AWS_SHARED_CREDENTIALS_FILE", &path.display().to_string())]);
    let world = RealFiles { world, is_broken: Arc::clone(&is_broken) };
    let (live, _) = live::start();
    let sources = CredentialSources::new(live.clone(), Arc::new(world));
    let mut used = InUse { sources, live, now: Moment::now() };
    let source = files();
    assert!(used.sources.learn(std::slice::from_ref(&source), PATIENCE).is_empty());
    assert_eq!(used.key(&source).unwrap(), "FIRST");
    for _ in 0..3 {
        used.later(100);
        used.sources.turn(used.now);
        thread::yield_now();
    }
    assert_eq!(used.status()[0].successes, 1);
    // Replaced as a whole, as tools do that rotate keys.
    std::fs::write(directory.path().join("new"), of("SECOND")).unwrap();
    std::fs::rename(directory.path().join("new"), &path).unwrap();
    used.until_looks(|used| used.key(&source).unwrap() == "SECOND");
    assert_eq!(used.status()[0].version, 2);

    // A look that fails is no fetch that failed, and is tried again.
    is_broken.store(true, Ordering::SeqCst);
    used.until_looks(|used| used.status()[0].last_error.is_some());
    let status = used.status()[0].clone();
    assert_eq!((status.successes, status.failures), (2, 0), "{status:?}");
    let error = status.last_error.unwrap();
    assert!(error.starts_with("the shared files cannot be looked at: an internal"), "{error}");
    assert_eq!(used.key(&source).unwrap(), "SECOND");
    is_broken.store(false, Ordering::SeqCst);
    used.until_looks(|used| used.status()[0].last_error.is_none());
    assert_eq!(used.status()[0].successes, 2);
}

/// A world with the files of this machine.
struct RealFiles {
    world: World,
    /// Set while no variable can be read.
    is_broken: Arc<AtomicBool>,
}

impl Outside for RealFiles {
    fn variable(&self, name: &str) -> Option<String> {
        assert!(!self.is_broken.load(Ordering::SeqCst), "this one is meant to fail");
        self.world.variable(name)
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|error| error.to_string())
    }

    fn ask(
        &self,
        url: &HttpUrl,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, FetchError> {
        self.world.ask(url, request, timeout)
    }

    fn unix_seconds(&self) -> u64 {
        self.world.unix_seconds()
    }
}
