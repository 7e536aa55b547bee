//! Certificates that change while the configuration stays: read again when their files change, and
//! used from the next handshake on.
//!
//! The files are read on a thread of their own. A pair that does not fit, as when one of its files
//! is replaced before the other, keeps its last good content, and keeps no other pair from being
//! renewed. It is read again when a file changes, and after a pause, because the reason may lie
//! where no look at the file shows it.
//!
//! A reload reads the same files. What is read beside it may be older, so nothing is read while a
//! configuration is prepared, and what was read before it ended is read again.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use crossbeam_channel::Receiver;

use crate::{
    config::{Problem, Settings, settings::TlsSettings},
    control_plane::{
        backoff::Backoff,
        files::ConfigPlace,
        fingerprints::Seen,
        jobs::{Finished, JobId, Purpose, Runner},
        noted_files::NotedFiles,
        tls,
    },
    model::Generation,
    system::{
        clock::{Monotonic, unix_seconds},
        tls::{TicketKeys, TlsServer},
    },
};

/// Time for reading all files.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause before files are read again that could not be used; it doubles each time.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(10);

/// Longest of these pauses.
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(5);

/// Outcome of reading all files.
#[derive(Debug)]
pub struct Reading {
    /// The changed content; none where nothing changed.
    pub renewed: Option<Renewed>,
    /// Files that cannot be used, so that their last good content stays.
    pub problems: Vec<Problem>,
    /// The files, as they were before they were read.
    pub seen: Seen,
}

/// Content that takes the place of the running one.
#[derive(Debug)]
pub struct Renewed {
    /// The running settings with it.
    pub settings: Arc<Settings>,
    /// The server for it.
    pub server: TlsServer,
    /// Warnings about it.
    pub warnings: Vec<Problem>,
}

/// The thread that reads, and what came of it.
#[derive(Debug)]
pub struct Certificates {
    files: Runner<Arc<Settings>, Reading>,
    /// A reading under way, and the generation whose files it reads.
    reading: Option<(JobId, Generation)>,
    /// Time of the next reading.
    due: Option<Monotonic>,
    /// Pauses after readings of which a part could not be used.
    retries: Backoff,
    /// Time of the last reading that found all of them good.
    good_at: Monotonic,
    renewed_total: u64,
    failed_total: u64,
    problems: Vec<Problem>,
}

/// Paths of all files of certificates, as the watcher knows them.
pub fn paths(place: &ConfigPlace, settings: &Settings) -> Vec<PathBuf> {
    let files = settings.server.tls.iter().flat_map(TlsSettings::files);
    files.map(|file| place.directory().join(file)).collect()
}

fn read(place: &ConfigPlace, of_process: &TicketKeys, settings: &Arc<Settings>) -> Reading {
    let Some(tls) = &settings.server.tls else {
        return Reading { renewed: None, problems: Vec::new(), seen: Seen::new() };
    };
    let files = NotedFiles::new(place, Seen::new(), None);
    let (tls, mut problems) = tls.read_again(&files);
    let seen = files.into_seen();
    let mut server = settings.server.clone();
    server.tls = Some(tls);
    let renewed = match tls::successor(&settings.server, &server, of_process) {
        Ok(None) => None,
        Ok(Some(made)) => Some(Renewed {
            warnings: tls::warnings(&server, unix_seconds()),
            settings: Arc::new(Settings { server, ..(**settings).clone() }),
            server: made,
        }),
        Err(found) => {
            problems.extend(found.errors);
            None
        }
    };
    Reading { renewed, problems, seen }
}

impl Certificates {
    /// Starts the thread, which reads the files that the configuration at `place` names. Outcomes
    /// arrive at the receiver, and belong to [`Certificates::finished`].
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        place: ConfigPlace,
        of_process: TicketKeys,
    ) -> io::Result<(Self, Receiver<Finished<Reading>>)> {
        Self::start_with(move |settings| read(&place, &of_process, settings))
    }

    /// Starts the thread with another way of reading.
    pub(super) fn start_with(
        read: impl Fn(&Arc<Settings>) -> Reading + Send + Sync + 'static,
    ) -> io::Result<(Self, Receiver<Finished<Reading>>)> {
        let purpose = Purpose { name: "yt-certificates", timeout: READ_TIMEOUT, when_idle: || {} };
        let (files, readings) = Runner::start(purpose, move |settings| read(&settings))?;
        let certificates = Self {
            files,
            reading: None,
            due: None,
            retries: Backoff::new(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX),
            good_at: Monotonic::now(),
            renewed_total: 0,
            failed_total: 0,
            problems: Vec::new(),
        };
        Ok((certificates, readings))
    }

    /// Notes that a file has changed.
    pub const fn changed(&mut self, now: Monotonic) {
        self.due = Some(now);
    }

    /// Notes that a reload has read all files and found them good.
    pub fn read_by_reload(&mut self, now: Monotonic) {
        self.good_at = now;
        self.due = None;
        self.retries.succeed();
        self.problems.clear();
    }

    /// Begins a reading when it is time for one, unless a configuration is being prepared.
    pub fn turn(
        &mut self,
        settings: &Arc<Settings>,
        generation: Generation,
        is_preparing: bool,
        now: Monotonic,
    ) {
        self.files.check(now);
        if self.reading.is_none() && !is_preparing && self.due.is_some_and(|due| now >= due) {
            self.due = None;
            self.reading = Some((self.files.submit(Arc::clone(settings)), generation));
        }
    }

    /// Takes what the thread has read, counts and logs it. Returns it unless a reload may have read
    /// something newer: then it is read again.
    pub fn finished(
        &mut self,
        finished: Finished<Reading>,
        generation: Generation,
        is_preparing: bool,
        now: Monotonic,
    ) -> Option<Reading> {
        let (_, of) = self.reading.take_if(|(job, _)| *job == finished.job)?;
        if is_preparing || of != generation {
            self.due = Some(now);
            return None;
        }
        let reading = match finished.outcome {
            Ok(reading) => reading,
            Err(failure) => {
                let path = "server.tls".to_owned();
                let message = format!("the files cannot be read: {failure}");
                let problems = vec![Problem::of_key(path, message)];
                Reading { renewed: None, problems, seen: Seen::new() }
            }
        };
        for problem in &reading.problems {
            tracing::warn!("the certificates in use stay what they are: {problem}");
        }
        if reading.problems.is_empty() {
            self.retries.succeed();
            self.good_at = now;
        } else {
            self.failed_total += 1;
            let pause = self.retries.fail();
            // A file that changed meanwhile is not waited for.
            self.due.get_or_insert_with(|| now.plus(pause));
        }
        self.problems.clone_from(&reading.problems);
        if let Some(renewed) = &reading.renewed {
            self.renewed_total += 1;
            tracing::info!("certificates renewed: the next handshake uses them");
            for warning in &renewed.warnings {
                tracing::warn!("{warning}");
            }
        }
        Some(reading)
    }

    /// Time since all of them were last read and found good.
    pub const fn age(&self, now: Monotonic) -> Duration {
        Duration::from_nanos(now.since(self.good_at))
    }

    /// Readings that changed something, and those of which a part could not be used.
    pub const fn counts(&self) -> (u64, u64) {
        (self.renewed_total, self.failed_total)
    }

    /// Reason why the certificate at this index was not read well the last time.
    pub fn problem_of(&self, index: usize) -> Option<&str> {
        let own = format!("server.tls.certificates[{index}].");
        let of_any = "server.tls.certificates[";
        let mut problems = self.problems.iter();
        let found = problems
            .find(|problem| problem.path.starts_with(&own) || !problem.path.starts_with(of_any));
        found.map(|problem| problem.message.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::control_plane::jobs::Failure;

    fn settings() -> Arc<Settings> {
        let text = "buckets:\n- { name: a, path_prefix: /a, s3: { bucket: aaa, region: r, \
                    anonymous: true } }\n";
        let environment = BTreeMap::<String, String>::new();
        let files = BTreeMap::<PathBuf, Vec<u8>>::new();
        Arc::new(crate::config::parse(text.as_bytes(), &environment, &files).unwrap().settings)
    }

    fn problem(path: &str) -> Problem {
        Problem::of_key(path, format!("of {path}"))
    }

    struct Fixture {
        certificates: Certificates,
        settings: Arc<Settings>,
        readings: Receiver<Finished<Reading>>,
        now: Monotonic,
    }

    impl Fixture {
        /// Every reading finds these problems.
        fn new(problems: &'static [&'static str]) -> Self {
            let (certificates, readings) = Certificates::start_with(|_| Reading {
                renewed: None,
                problems: problems.iter().map(|path| problem(path)).collect(),
                seen: Seen::new(),
            })
            .unwrap();
            Self { certificates, settings: settings(), readings, now: Monotonic::now() }
        }

        fn turn(&mut self, is_preparing: bool) {
            self.certificates.turn(&self.settings, Generation(1), is_preparing, self.now);
        }

        fn finish(&mut self, generation: u64, is_preparing: bool) -> bool {
            let finished = self.readings.recv().unwrap();
            let generation = Generation(generation);
            let found = self.certificates.finished(finished, generation, is_preparing, self.now);
            found.is_some()
        }

        fn is_reading(&self) -> bool {
            self.certificates.reading.is_some()
        }
    }

    #[test]
    fn nothing_is_read_until_something_changes_or_while_a_reload_reads() {
        let mut fixture = Fixture::new(&[]);
        fixture.turn(false);
        assert!(!fixture.is_reading());
        fixture.certificates.changed(fixture.now);
        fixture.turn(true);
        assert!(!fixture.is_reading());
        fixture.turn(false);
        assert!(fixture.is_reading());
        assert!(fixture.finish(1, false));
        fixture.turn(false);
        assert!(!fixture.is_reading());
        assert_eq!(fixture.certificates.counts(), (0, 0), "nothing differs");
    }

    #[test]
    fn what_a_reload_may_have_overtaken_is_read_again() {
        let mut fixture = Fixture::new(&["server.tls.client_ca_file"]);
        for (generation, is_preparing, is_good) in [(1, true, false), (2, false, false)] {
            fixture.certificates.changed(fixture.now);
            fixture.turn(false);
            assert_eq!(fixture.finish(generation, is_preparing), is_good);
            fixture.turn(false);
            assert!(fixture.is_reading());
            assert!(fixture.finish(1, false));
        }
        assert_eq!(fixture.certificates.counts(), (0, 2), "what was dropped is not counted");
    }

    #[test]
    fn what_cannot_be_used_is_read_again_after_pauses_that_grow() {
        let mut fixture = Fixture::new(&["server.tls.certificates[0].key_file"]);
        let mut pauses = Vec::new();
        fixture.certificates.changed(fixture.now);
        for _ in 0..8 {
            let mut pause = 0;
            while !fixture.is_reading() {
                fixture.turn(false);
                if !fixture.is_reading() {
                    pause += 1;
                    fixture.now = fixture.now.plus(Duration::from_secs(1));
                }
            }
            pauses.push(pause);
            assert!(fixture.finish(1, false));
        }
        let all = Duration::from_secs(pauses.iter().sum());
        assert!(fixture.certificates.age(fixture.now) >= all, "none was good");
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
        // A change is not waited for, and a reload that reads them well ends it.
        fixture.certificates.changed(fixture.now);
        fixture.turn(false);
        assert!(fixture.is_reading());
        assert!(fixture.finish(1, false));
        assert_eq!(
            fixture.certificates.problem_of(0),
            Some("of server.tls.certificates[0].key_file")
        );
        assert_eq!(fixture.certificates.problem_of(1), None);
        fixture.certificates.read_by_reload(fixture.now);
        assert_eq!(fixture.certificates.age(fixture.now), Duration::ZERO);
        fixture.now = fixture.now.plus(RETRY_PAUSE_MAX);
        fixture.turn(false);
        assert!(!fixture.is_reading());
        assert_eq!(fixture.certificates.problem_of(0), None);
    }

    #[test]
    fn a_reading_that_fails_as_a_whole_concerns_all() {
        let mut fixture = Fixture::new(&[]);
        fixture.certificates.changed(fixture.now);
        fixture.turn(false);
        let Finished { job, .. } = fixture.readings.recv().unwrap();
        let outcome = Err(Failure::TimedOut(READ_TIMEOUT));
        let finished = Finished { job, outcome };
        let found = fixture.certificates.finished(finished, Generation(1), false, fixture.now);
        assert_eq!(found.unwrap().problems.len(), 1);
        assert_eq!(fixture.certificates.counts(), (0, 1));
        assert!(fixture.certificates.problem_of(7).unwrap().contains("not done after 30 s"));
    }
}
