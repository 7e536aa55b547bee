//! `reload.watch`: notices that the configuration file, or a file that it names, is another one.
//!
//! It looks at what `stat` says of each path, ten times a second, and follows symbolic links: a
//! file that was written into, one that was renamed over the old one and a swapped `..data` link
//! of a Kubernetes volume all look different then. Event interfaces of the kernel would have to
//! watch every directory on the way of every link, and say nothing on network file systems.
//!
//! A change counts when nothing has changed any more for [`SETTLE`], so that a file which is being
//! written is not read half. What a reload has read already is no news: the preparation notes
//! what it saw before it read, and hands that over here.
//!
//! Certificates change without the configuration. Their files are looked at whether the others are
//! watched or not, and a change of them is told apart.
//!
//! After a rollback the running content is not that of the file. Files that only the running
//! content names are watched too, and a change of them is told apart: the file on disk is not what
//! it asks for.
//!
//! Included files are watched through their patterns, so that one that appears is noticed too.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use crossbeam_channel::Receiver;

use crate::{
    control_plane::{
        fingerprints::{Fingerprint, Seen},
        jobs::{Finished, JobId, Purpose, Runner},
    },
    system::clock::Monotonic,
};

/// Time between two looks.
const POLL: Duration = Duration::from_millis(100);

/// Time between two looks at certificates only. Nobody waits for them.
const CERTIFICATE_POLL: Duration = Duration::from_millis(500);

/// Time without a change after which a change is believed to be complete. Editors and copy
/// programs write within milliseconds; who writes slower than this should rename.
pub const SETTLE: Duration = Duration::from_millis(200);

/// With thousands of secret files a look takes a while; the pause after it is at least so many
/// times as long, so that watching takes at most a twentieth of a processor.
const PAUSE_FACTOR: u32 = 20;

/// Time for a look. `stat` waits for ever where a network file system has lost its server.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a look that failed.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// Files that changed, the certificates aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The configuration file, or a file that it names.
    File,
    /// A file that only the running content names, which is not the file's.
    RunningContent,
}

/// Changes that a look has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Of the configuration.
    pub changed: Option<Changed>,
    /// Set if certificates changed.
    pub certificates: bool,
}

/// Files as they were found, and how long finding them took.
#[derive(Debug)]
pub struct Look {
    found: Seen,
    took: Duration,
}

/// The files that are watched. The thread only looks at them; what it found is judged here.
#[derive(Debug)]
pub struct Watcher {
    looks: Runner<Vec<PathBuf>, Look>,
    watch: WatchedFiles,
    is_on: bool,
    /// A look at what is watched now.
    looking: Option<JobId>,
    next_look: Monotonic,
    /// Set if the last look failed.
    is_blind: bool,
}

impl Watcher {
    /// Starts the thread, which looks at nothing before it is told to; looks arrive at the
    /// receiver, and belong to [`Watcher::looked`].
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> io::Result<(Self, Receiver<Finished<Look>>)> {
        Self::start_with(Fingerprint::of)
    }

    /// Starts a watcher that looks at a file with `look`.
    fn start_with(
        look: impl Fn(&Path) -> Option<Fingerprint> + Send + Sync + 'static,
    ) -> io::Result<(Self, Receiver<Finished<Look>>)> {
        let purpose = Purpose { name: "yt-watch", timeout: LOOK_TIMEOUT, when_idle: || {} };
        let (looks, looked) = Runner::start(purpose, move |paths: Vec<PathBuf>| {
            let start = Monotonic::now();
            let found = paths.into_iter().map(|path| {
                let print = look(&path);
                (path, print)
            });
            let found = found.collect();
            Look { found, took: Duration::from_nanos(Monotonic::now().since(start)) }
        })?;
        let watcher = Self {
            looks,
            watch: WatchedFiles::default(),
            is_on: false,
            looking: None,
            next_look: Monotonic(0),
            is_blind: false,
        };
        Ok((watcher, looked))
    }

    /// Switches watching on or off, for all files but certificates.
    pub fn watch(&mut self, on: bool) {
        if self.is_on != on {
            self.is_on = on;
            // A look under way may be at other files.
            self.looking = None;
        }
    }

    /// Watches these files as certificates, and no others; notes what was read of them.
    pub fn watch_certificates(&mut self, files: impl IntoIterator<Item = PathBuf>, seen: &Seen) {
        self.watch.watch_certificates(files, seen);
        self.looking = None;
    }

    /// Notes what was read of certificates.
    pub fn read_certificates(&mut self, seen: Seen) {
        self.watch.read_certificates(seen);
        self.looking = None;
    }

    /// Notes what an attempt has read for the configuration file. One that failed may not have come
    /// as far as the files that the configuration names: then those of before stay watched.
    pub fn read_file(&mut self, seen: Seen, complete: bool) {
        self.watch.read_file(seen, complete);
        // A look from before knows nothing of this.
        self.looking = None;
    }

    /// Notes what was read for a content that is not the file's and runs from now on.
    pub fn read_running_content(&mut self, seen: Seen) {
        self.watch.read_running_content(seen);
        self.looking = None;
    }

    /// Begins a look when it is time for one.
    pub fn turn(&mut self, now: Monotonic) {
        self.looks.check(now);
        if self.looking.is_some() || now < self.next_look {
            return;
        }
        let paths = self.watch.paths(self.is_on);
        if !paths.is_empty() {
            self.looking = Some(self.looks.submit(paths));
        }
    }

    /// Takes what a look has found. Returns what has changed and settled.
    pub fn looked(&mut self, look: Finished<Look>, now: Monotonic) -> News {
        if self.looking != Some(look.job) {
            return News::default();
        }
        self.looking = None;
        match look.outcome {
            Ok(Look { found, took }) => {
                self.is_blind = false;
                let poll = if self.is_on { POLL } else { CERTIFICATE_POLL };
                self.next_look = now.plus(poll.max(took * PAUSE_FACTOR));
                let certificates = self.watch.look_at_certificates(&found, now);
                let changed = if self.is_on { self.watch.look(found, now) } else { None };
                News { changed, certificates }
            }
            Err(failure) => {
                if !self.is_blind {
                    tracing::error!("the watched files cannot be looked at: {failure}");
                }
                self.is_blind = true;
                self.next_look = now.plus(FAILED_PAUSE);
                News::default()
            }
        }
    }
}

/// Known and found files: the decision, without files and clocks.
#[derive(Debug, Default)]
struct WatchedFiles {
    /// As read by the last attempt to adopt the file, or as told of last.
    of_file: Seen,
    /// Further files that the running content names.
    of_running: Seen,
    /// Found to differ, and since when.
    unsettled: Option<(Seen, Monotonic)>,
    /// Files of certificates, as read last, which count neither among those of the file nor among
    /// those of the running content.
    certificates: Seen,
    /// Certificates that were found to differ, and since when.
    unsettled_certificates: Option<(Seen, Monotonic)>,
}

impl WatchedFiles {
    fn watch_certificates(&mut self, files: impl IntoIterator<Item = PathBuf>, seen: &Seen) {
        let known = std::mem::take(&mut self.certificates);
        for file in files {
            // Of a file that was not read now, what was read earlier is still what is used.
            let print = seen.get(&file).or_else(|| known.get(&file)).copied().flatten();
            self.certificates.insert(file, print);
        }
        self.unsettled_certificates = None;
    }

    fn read_certificates(&mut self, seen: Seen) {
        for (file, print) in seen {
            if let Some(known) = self.certificates.get_mut(&file) {
                *known = print;
            }
        }
        self.unsettled_certificates = None;
    }

    /// Returns true if certificates changed and are settled at `now`.
    fn look_at_certificates(&mut self, found: &Seen, now: Monotonic) -> bool {
        if self.certificates.iter().all(|(file, print)| found.get(file) == Some(print)) {
            self.unsettled_certificates = None;
            return false;
        }
        let print_of = |file: &PathBuf| found.get(file).copied().flatten();
        let found: Seen =
            self.certificates.keys().map(|file| (file.clone(), print_of(file))).collect();
        let settled = settle(&mut self.unsettled_certificates, found, now);
        settled.map(|found| self.certificates = found).is_some()
    }

    fn read_file(&mut self, seen: Seen, complete: bool) {
        if complete {
            self.of_file = seen;
            self.of_running.clear();
        } else {
            self.of_running.retain(|path, _| !seen.contains_key(path));
            self.of_file.extend(seen);
        }
        self.unsettled = None;
    }

    fn read_running_content(&mut self, seen: Seen) {
        self.of_running.clear();
        for (path, print) in seen {
            if let Some(known) = self.of_file.get_mut(&path) {
                *known = print;
            } else {
                self.of_running.insert(path, print);
            }
        }
        self.unsettled = None;
    }

    /// The certificates, and all other files where they are watched too.
    fn paths(&self, others: bool) -> Vec<PathBuf> {
        let content = self.of_file.keys().chain(self.of_running.keys()).filter(|_| others);
        let content = content.filter(|path| !self.certificates.contains_key(*path));
        self.certificates.keys().chain(content).cloned().collect()
    }

    /// Returns what changed, the certificates aside, if it is settled at `now`.
    fn look(&mut self, mut found: Seen, now: Monotonic) -> Option<Changed> {
        found.retain(|path, _| !self.certificates.contains_key(path));
        let differs = |known: &Seen| {
            let mut known = known.iter().filter(|(path, _)| !self.certificates.contains_key(*path));
            known.any(|(path, print)| found.get(path) != Some(print))
        };
        let changed = if differs(&self.of_file) {
            Changed::File
        } else if differs(&self.of_running) {
            Changed::RunningContent
        } else {
            self.unsettled = None;
            return None;
        };
        let found = settle(&mut self.unsettled, found, now)?;
        for known in [&mut self.of_file, &mut self.of_running] {
            for (path, print) in known {
                if !self.certificates.contains_key(path) {
                    *print = found.get(path).copied().flatten();
                }
            }
        }
        Some(changed)
    }
}

/// Returns what was found to differ if it has been the same for long enough, else remembers it.
fn settle(unsettled: &mut Option<(Seen, Monotonic)>, found: Seen, now: Monotonic) -> Option<Seen> {
    let before = unsettled.take().filter(|(same, _)| *same == found);
    let since = before.map_or(now, |(_, since)| since);
    if now >= since.plus(SETTLE) {
        return Some(found);
    }
    *unsettled = Some((found, since));
    None
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(0).plus(Duration::from_millis(millis))
    }

    /// A file of `bytes` bytes.
    fn one(bytes: u64) -> Seen {
        let print = Fingerprint { device: 1, inode: 1, bytes, modified: (1, 0), changed: (1, 0) };
        Seen::from([(PathBuf::from("config.yaml"), Some(print))])
    }

    #[test]
    fn a_change_is_told_once_and_when_it_has_settled() {
        let mut watch = WatchedFiles::default();
        watch.read_file(one(10), true);
        assert_eq!(watch.look(one(10), at(0)), None);
        assert_eq!(watch.look(one(11), at(100)), None);
        assert_eq!(watch.look(one(11), at(299)), None);
        assert_eq!(watch.look(one(11), at(300)), Some(Changed::File));
        assert_eq!(watch.look(one(11), at(1_000)), None);
    }

    #[test]
    fn a_file_that_is_being_written_has_not_settled() {
        let mut watch = WatchedFiles::default();
        watch.read_file(one(100), true);
        for step in 0..50 {
            assert_eq!(watch.look(one(step), at(step * 150)), None, "{step}");
        }
        assert_eq!(watch.look(one(100), at(8_000)), None, "it is what it was");
        assert_eq!(watch.look(one(101), at(8_100)), None);
        assert_eq!(watch.look(one(101), at(8_300)), Some(Changed::File));
    }

    /// A writer that pauses between its parts, for less than [`SETTLE`], and looks at the pace of
    /// the thread: some parts are seen once and some twice.
    #[test]
    fn a_file_is_told_of_when_its_last_part_has_settled_and_not_before() {
        const PARTS: u64 = 20;
        const PART_MS: u64 = 150;
        const LOOK_MS: u64 = 100;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        fs::write(&path, "").unwrap();
        let mut watch = WatchedFiles::default();
        watch.read_file(Seen::from([(path.clone(), Fingerprint::of(&path))]), true);
        let mut look = |now| {
            let found = Seen::from([(path.clone(), Fingerprint::of(&path))]);
            watch.look(found, at(now)).is_some()
        };
        let mut looks = (0..).map(|number| number * LOOK_MS).peekable();
        for part in 0..PARTS {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"part").unwrap();
            while let Some(now) = looks.next_if(|now| *now < (part + 1) * PART_MS) {
                assert!(!look(now), "part {part} at {now} ms");
            }
        }
        let told: Vec<bool> = looks.take(4).map(look).collect();
        assert_eq!(told, [false, true, false, false]);
    }

    #[test]
    fn what_a_reload_has_read_is_no_news() {
        let mut watch = WatchedFiles::default();
        watch.read_file(one(1), true);
        assert_eq!(watch.look(one(2), at(0)), None);
        watch.read_file(one(2), true);
        assert_eq!(watch.look(one(2), at(500)), None);
        assert_eq!(watch.look(one(2), at(1_000)), None);
    }

    #[test]
    fn what_changed_while_it_was_read_is_news() {
        let mut watch = WatchedFiles::default();
        watch.read_file(one(1), true);
        assert_eq!(watch.look(one(2), at(0)), None);
        assert_eq!(watch.look(one(2), at(200)), Some(Changed::File));
        // The attempt that this started saw 2 and read; 3 was written behind its back.
        watch.read_file(one(2), true);
        assert_eq!(watch.look(one(3), at(400)), None);
        assert_eq!(watch.look(one(3), at(600)), Some(Changed::File));
    }

    #[test]
    fn a_failed_attempt_does_not_forget_the_files_it_did_not_reach() {
        let mut watch = WatchedFiles::default();
        let mut both = one(1);
        both.insert(PathBuf::from("key"), None);
        watch.read_file(both, true);
        watch.read_file(one(2), false);
        assert_eq!(watch.of_file.len(), 2);
        watch.read_file(one(3), true);
        assert_eq!(watch.of_file.len(), 1);
    }

    #[test]
    fn a_missing_file_and_a_link_to_another_are_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        assert_eq!(Fingerprint::of(&path), None);
        for name in ["a", "b"] {
            fs::write(directory.path().join(name), "same").unwrap();
        }
        std::os::unix::fs::symlink("a", &path).unwrap();
        let first = Fingerprint::of(&path);
        assert_eq!(first, Fingerprint::of(&directory.path().join("a")));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("b", &path).unwrap();
        assert_ne!(first, Fingerprint::of(&path));
    }

    fn print(bytes: u64) -> Option<Fingerprint> {
        one(bytes).into_values().next().flatten()
    }

    #[test]
    fn a_file_that_only_the_running_content_names_is_told_apart() {
        let key = PathBuf::from("old-key");
        let mut watch = WatchedFiles::default();
        watch.read_file(one(1), true);
        watch.read_running_content(Seen::from([(key.clone(), print(1))]));
        let found = |config: u64, key_bytes: u64| {
            let mut found = one(config);
            found.insert(key.clone(), print(key_bytes));
            found
        };
        assert_eq!(watch.look(found(1, 2), at(0)), None);
        assert_eq!(watch.look(found(1, 2), at(200)), Some(Changed::RunningContent));
        // Where both changed, the file is what counts.
        assert_eq!(watch.look(found(2, 3), at(300)), None);
        assert_eq!(watch.look(found(2, 3), at(500)), Some(Changed::File));
        // A refused file leaves the running content what it was; an adopted one replaces it.
        watch.read_file(one(2), false);
        assert_eq!(watch.paths(true).len(), 2);
        watch.read_file(one(2), true);
        assert_eq!(watch.paths(true).len(), 1);
    }

    #[test]
    fn a_look_that_hangs_is_given_up_and_followed_by_another() {
        let (release, held) = crossbeam_channel::bounded::<()>(0);
        let (entering, started) = crossbeam_channel::unbounded();
        let (mut watcher, looks) = Watcher::start_with(move |_| {
            entering.send(()).unwrap();
            let _ = held.recv();
            print(2)
        })
        .unwrap();
        watcher.read_file(one(1), true);
        watcher.watch(true);
        let start = Monotonic::now();
        watcher.turn(start);
        started.recv().unwrap();
        let late = Monotonic::now().plus(LOOK_TIMEOUT);
        watcher.turn(late);
        assert_eq!(watcher.looked(looks.recv().unwrap(), late), News::default());
        watcher.turn(late);
        assert!(started.try_recv().is_err(), "not before the pause is over");
        drop(release);
        let mut now = late.plus(FAILED_PAUSE);
        watcher.turn(now);
        assert_eq!(watcher.looked(looks.recv().unwrap(), now), News::default());
        now = now.plus(SETTLE);
        watcher.turn(now);
        assert_eq!(watcher.looked(looks.recv().unwrap(), now).changed, Some(Changed::File));
    }

    #[test]
    fn a_look_from_before_a_reload_is_dropped() {
        let (mut watcher, looks) = Watcher::start_with(|_| print(1)).unwrap();
        watcher.read_file(one(1), true);
        watcher.watch(true);
        watcher.turn(Monotonic::now());
        let found = looks.recv().unwrap();
        watcher.read_file(one(2), true);
        assert_eq!(watcher.looked(found, Monotonic::now()), News::default());
        assert!(watcher.watch.unsettled.is_none());
    }

    /// The configuration of [`one`], and certificates of so many bytes.
    fn with_certificates(config: u64, certificates: [u64; 2]) -> Seen {
        let mut found = one(config);
        for (file, bytes) in ["site.pem", "site.key"].into_iter().zip(certificates) {
            found.insert(PathBuf::from(file), print(bytes));
        }
        found
    }

    fn watching_certificates() -> WatchedFiles {
        let mut watch = WatchedFiles::default();
        let seen = with_certificates(1, [1, 1]);
        watch.read_file(seen.clone(), true);
        watch.watch_certificates(["site.pem", "site.key"].map(PathBuf::from), &seen);
        watch
    }

    #[test]
    fn certificates_are_told_apart_from_the_configuration_that_names_them() {
        let mut watch = watching_certificates();
        assert_eq!(watch.paths(false).len(), 2);
        assert_eq!(watch.paths(true).len(), 3);
        for (ms, told) in [(0, false), (199, false), (200, true), (400, false)] {
            let found = with_certificates(1, [2, 2]);
            assert_eq!(watch.look_at_certificates(&found, at(ms)), told, "{ms}");
            assert_eq!(watch.look(found, at(ms)), None, "{ms}");
        }
        // The other way round.
        for (ms, told) in [(500, None), (700, Some(Changed::File))] {
            let found = with_certificates(2, [2, 2]);
            assert!(!watch.look_at_certificates(&found, at(ms)), "{ms}");
            assert_eq!(watch.look(found, at(ms)), told, "{ms}");
        }
    }

    #[test]
    fn one_file_of_a_pair_is_told_of_and_the_other_when_it_follows() {
        let mut watch = watching_certificates();
        let mut look = |certificates, ms| {
            watch.look_at_certificates(&with_certificates(1, certificates), at(ms))
        };
        assert_eq!([look([2, 1], 0), look([2, 1], 200)], [false, true]);
        assert_eq!([look([2, 1], 400), look([2, 2], 500)], [false, false]);
        // It has not settled while it changes.
        assert_eq!([look([2, 3], 699), look([2, 3], 899)], [false, true]);
        watch.read_certificates(with_certificates(9, [2, 3]));
        assert!(!watch.look_at_certificates(&with_certificates(1, [2, 3]), at(2_000)));
    }

    #[test]
    fn what_a_reload_has_read_of_certificates_is_no_news_and_what_it_dropped_is_not_watched() {
        let mut watch = watching_certificates();
        let seen = with_certificates(1, [5, 5]);
        watch.read_file(seen.clone(), true);
        watch.watch_certificates(["site.pem", "site.key"].map(PathBuf::from), &seen);
        for ms in [0, 500] {
            assert!(!watch.look_at_certificates(&seen, at(ms)));
        }
        watch.watch_certificates([], &one(1));
        assert!(watch.paths(false).is_empty());
        let found = with_certificates(1, [6, 6]);
        for ms in [1_000, 2_000] {
            assert!(!watch.look_at_certificates(&found, at(ms)));
        }
    }

    #[test]
    fn certificates_are_looked_at_although_nothing_else_is_watched() {
        let (mut watcher, looks) = Watcher::start_with(|_| print(2)).unwrap();
        watcher.read_file(one(1), true);
        watcher.turn(Monotonic::now());
        assert!(looks.try_recv().is_err());
        watcher.watch_certificates([PathBuf::from("site.pem")], &with_certificates(1, [1, 1]));
        let mut now = Monotonic::now();
        let mut look = |watcher: &mut Watcher, pause| {
            now = now.plus(pause);
            watcher.turn(now);
            watcher.looked(looks.recv().unwrap(), now)
        };
        assert_eq!(look(&mut watcher, Duration::ZERO), News::default());
        let news = look(&mut watcher, CERTIFICATE_POLL);
        assert_eq!(news, News { changed: None, certificates: true });
    }
}
