//! `reload.watch`: notices that the configuration file, or a file that it names, is another one.
//!
//! It looks at what `stat` says of each path, ten times a second, and follows symbolic links: a
//! file that was written into, one that was renamed over the old one and a swapped `..data` link
//! of a Kubernetes volume all look different then. Event interfaces of the kernel would have to
//! watch every folder on the way of every link, and say nothing on network file systems.
//!
//! A change counts when nothing has changed any more for [`SETTLE`], so that a file which is being
//! written is not read half. What a reload has read already is no news: the preparation notes
//! what it saw before it read, and hands that over here.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::{
    control_plane::prepare::BACKGROUND_NICE,
    system::{clock::Monotonic, process},
};

/// Time between two looks.
const POLL: Duration = Duration::from_millis(100);

/// How long nothing may change before a change is believed to be complete. Editors and copy
/// programs write within milliseconds; who writes slower than this should rename.
pub const SETTLE: Duration = Duration::from_millis(200);

/// With thousands of secret files a look takes a while; the pause after it is at least so many
/// times as long, so that watching takes at most a twentieth of a processor.
const PAUSE_FACTOR: u32 = 20;

/// What tells a file from what it was.
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

enum Note {
    Watch(bool),
    Seen { seen: Seen, complete: bool },
}

/// The files changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed;

/// The thread that looks.
#[derive(Clone, Debug)]
pub struct Watcher {
    notes: Sender<Note>,
}

impl Watcher {
    /// Starts the thread, which looks at nothing before it is told to; changes arrive at the
    /// receiver.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start() -> io::Result<(Self, Receiver<Changed>)> {
        let (notes, inbox) = unbounded();
        let (outbox, changed) = unbounded();
        thread::Builder::new().name("yt-watch".to_owned()).spawn(move || {
            process::lower_priority(BACKGROUND_NICE);
            look_again_and_again(&inbox, &outbox);
        })?;
        Ok((Self { notes }, changed))
    }

    /// Switches watching on or off.
    pub fn watch(&self, on: bool) {
        let _ = self.notes.send(Note::Watch(on));
    }

    /// Notes what an attempt has read. One that failed may not have come as far as the files that
    /// the configuration names: then those of before stay watched.
    pub fn seen(&self, seen: Seen, complete: bool) {
        let _ = self.notes.send(Note::Seen { seen, complete });
    }
}

fn look_again_and_again(notes: &Receiver<Note>, changes: &Sender<Changed>) {
    let mut watch = Watch::default();
    let mut on = false;
    let mut pause = POLL;
    loop {
        let note = if on {
            notes.recv_timeout(pause)
        } else {
            notes.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match note {
            Ok(Note::Watch(wanted)) => on = wanted,
            Ok(Note::Seen { seen, complete }) => watch.read(seen, complete),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let start = Monotonic::now();
                let found = watch.find();
                let end = Monotonic::now();
                pause = POLL.max(Duration::from_nanos(end.since(start)) * PAUSE_FACTOR);
                if watch.look(found, end) && changes.send(Changed).is_err() {
                    return;
                }
            }
        }
    }
}

/// What is known and what was found: the decision, without a clock.
#[derive(Debug, Default)]
struct Watch {
    /// As read by the last attempt, or as told of last.
    known: Seen,
    /// Found to differ, and since when.
    unsettled: Option<(Seen, Monotonic)>,
}

impl Watch {
    fn read(&mut self, seen: Seen, complete: bool) {
        if complete {
            self.known = seen;
        } else {
            self.known.extend(seen);
        }
        self.unsettled = None;
    }

    /// The files that are known, as they are now.
    fn find(&self) -> Seen {
        self.known.keys().map(|path| (path.clone(), Fingerprint::of(path))).collect()
    }

    /// Whether what was found at `now` is a change that has settled.
    fn look(&mut self, found: Seen, now: Monotonic) -> bool {
        if found == self.known {
            self.unsettled = None;
            return false;
        }
        match &self.unsettled {
            Some((same, since)) if *same == found => {
                if now < since.plus(SETTLE) {
                    return false;
                }
                self.known = found;
                self.unsettled = None;
                true
            }
            _ => {
                self.unsettled = Some((found, now));
                false
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
        let mut watch = Watch::default();
        watch.read(one(10), true);
        assert!(!watch.look(one(10), at(0)));
        assert!(!watch.look(one(11), at(100)));
        assert!(!watch.look(one(11), at(299)));
        assert!(watch.look(one(11), at(300)));
        assert!(!watch.look(one(11), at(1_000)));
    }

    #[test]
    fn a_file_that_is_being_written_has_not_settled() {
        let mut watch = Watch::default();
        watch.read(one(100), true);
        for step in 0..50 {
            assert!(!watch.look(one(step), at(step * 150)), "{step}");
        }
        assert!(!watch.look(one(100), at(8_000)), "it is what it was");
        assert!(!watch.look(one(101), at(8_100)));
        assert!(watch.look(one(101), at(8_300)));
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
        let mut watch = Watch::default();
        watch.read(Seen::from([(path.clone(), Fingerprint::of(&path))]), true);
        let mut looks = (0..).map(|number| number * LOOK_MS).peekable();
        for part in 0..PARTS {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"part").unwrap();
            while let Some(now) = looks.next_if(|now| *now < (part + 1) * PART_MS) {
                assert!(!watch.look(watch.find(), at(now)), "part {part} at {now} ms");
            }
        }
        let told: Vec<bool> = looks.take(4).map(|now| watch.look(watch.find(), at(now))).collect();
        assert_eq!(told, [false, true, false, false]);
    }

    #[test]
    fn what_a_reload_has_read_is_no_news() {
        let mut watch = Watch::default();
        watch.read(one(1), true);
        assert!(!watch.look(one(2), at(0)));
        watch.read(one(2), true);
        assert!(!watch.look(one(2), at(500)));
        assert!(!watch.look(one(2), at(1_000)));
    }

    #[test]
    fn what_changed_while_it_was_read_is_news() {
        let mut watch = Watch::default();
        watch.read(one(1), true);
        assert!(!watch.look(one(2), at(0)));
        assert!(watch.look(one(2), at(200)));
        // The attempt that this started saw 2 and read; 3 was written behind its back.
        watch.read(one(2), true);
        assert!(!watch.look(one(3), at(400)));
        assert!(watch.look(one(3), at(600)));
    }

    #[test]
    fn a_failed_attempt_does_not_forget_the_files_it_did_not_reach() {
        let mut watch = Watch::default();
        let mut both = one(1);
        both.insert(PathBuf::from("key"), None);
        watch.read(both, true);
        watch.read(one(2), false);
        assert_eq!(watch.known.len(), 2);
        watch.read(one(3), true);
        assert_eq!(watch.known.len(), 1);
    }

    #[test]
    fn a_missing_file_and_a_link_to_another_are_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        assert_eq!(Fingerprint::of(&path), None);
        for name in ["a", "b"] {
            fs::write(folder.path().join(name), "same").unwrap();
        }
        std::os::unix::fs::symlink("a", &path).unwrap();
        let first = Fingerprint::of(&path);
        assert_eq!(first, Fingerprint::of(&folder.path().join("a")));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("b", &path).unwrap();
        assert_ne!(first, Fingerprint::of(&path));
    }
}
