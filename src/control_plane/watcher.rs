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
//! After a rollback the running content is not that of the file. Files that only the running
//! content names are watched too, and a change of them is told apart: the file on disk is not what
//! it asks for.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crossbeam_channel::Receiver;

use crate::{
    control_plane::jobs::{Finished, JobId, Purpose, Runner},
    system::clock::Monotonic,
};

/// Time between two looks.
const POLL: Duration = Duration::from_millis(100);

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

/// Properties that tell a file from what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Also moves when a copy keeps the time of modification.
    changed: (i64, i64),
}

impl Fingerprint {
    /// Of the file that `path` leads to; none if there is none that can be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Files, as they were just before they were read.
pub type Seen = BTreeMap<PathBuf, Option<Fingerprint>>;

/// Files that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The configuration file, or a file that it names.
    File,
    /// A file that only the running content names, which is not the file's.
    RunningContent,
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

    /// Switches watching on or off.
    pub const fn watch(&mut self, on: bool) {
        self.is_on = on;
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
        if self.is_on && self.looking.is_none() && now >= self.next_look {
            self.looking = Some(self.looks.submit(self.watch.paths()));
        }
    }

    /// Takes what a look has found. Returns what has changed and settled.
    pub fn looked(&mut self, look: Finished<Look>, now: Monotonic) -> Option<Changed> {
        if self.looking != Some(look.job) {
            return None;
        }
        self.looking = None;
        match look.outcome {
            Ok(Look { found, took }) => {
                self.is_blind = false;
                self.next_look = now.plus(POLL.max(took * PAUSE_FACTOR));
                self.watch.look(found, now).filter(|_| self.is_on)
            }
            Err(failure) => {
                if !self.is_blind {
                    tracing::error!("reload.watch: the files cannot be looked at: {failure}");
                }
                self.is_blind = true;
                self.next_look = now.plus(FAILED_PAUSE);
                None
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
}

impl WatchedFiles {
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

    fn paths(&self) -> Vec<PathBuf> {
        self.of_file.keys().chain(self.of_running.keys()).cloned().collect()
    }

    /// Returns what changed if it is settled at `now`.
    fn look(&mut self, found: Seen, now: Monotonic) -> Option<Changed> {
        let differs =
            |known: &Seen| known.iter().any(|(path, print)| found.get(path) != Some(print));
        let changed = if differs(&self.of_file) {
            Changed::File
        } else if differs(&self.of_running) {
            Changed::RunningContent
        } else {
            self.unsettled = None;
            return None;
        };
        match &self.unsettled {
            Some((same, since)) if *same == found => {
                if now < since.plus(SETTLE) {
                    return None;
                }
                for known in [&mut self.of_file, &mut self.of_running] {
                    for (path, print) in known {
                        *print = found.get(path).copied().flatten();
                    }
                }
                self.unsettled = None;
                Some(changed)
            }
            _ => {
                self.unsettled = Some((found, now));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

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
        assert_eq!(watch.paths().len(), 2);
        watch.read_file(one(2), true);
        assert_eq!(watch.paths().len(), 1);
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
        assert_eq!(watcher.looked(looks.recv().unwrap(), late), None);
        watcher.turn(late);
        assert!(started.try_recv().is_err(), "not before the pause is over");
        drop(release);
        let mut now = late.plus(FAILED_PAUSE);
        watcher.turn(now);
        assert_eq!(watcher.looked(looks.recv().unwrap(), now), None);
        now = now.plus(SETTLE);
        watcher.turn(now);
        assert_eq!(watcher.looked(looks.recv().unwrap(), now), Some(Changed::File));
    }

    #[test]
    fn a_look_from_before_a_reload_is_dropped() {
        let (mut watcher, looks) = Watcher::start_with(|_| print(1)).unwrap();
        watcher.read_file(one(1), true);
        watcher.watch(true);
        watcher.turn(Monotonic::now());
        let found = looks.recv().unwrap();
        watcher.read_file(one(2), true);
        assert_eq!(watcher.looked(found, Monotonic::now()), None);
        assert!(watcher.watch.unsettled.is_none());
    }
}
