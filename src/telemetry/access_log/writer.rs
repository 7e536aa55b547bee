//! The thread that writes the access log.

use std::{
    fs::{File, OpenOptions},
    io, mem,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};

use super::batch::{BATCH_BYTES, Batch};
use crate::telemetry::lines::LineOutput;

/// Mode of a new log file. It holds paths and subjects, so others may not read it.
const FILE_MODE: u32 = 0o640;

/// Shortest time between two warnings about lines that could not be written.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// Capacity beyond which a buffer is not reused, in bytes: one that a few huge lines made grow.
const REUSED_BYTES_MAX: usize = 2 * BATCH_BYTES;

/// An open file, or standard output.
#[derive(Debug)]
pub struct AccessLogTarget {
    output: LineOutput<File>,
    /// None for standard output, which cannot be opened again.
    path: Option<PathBuf>,
    /// Set if opening it created the file.
    created: bool,
}

impl AccessLogTarget {
    /// Opens standard output for `-`, else the file for appending; it is created with mode 0640
    /// (less the umask) if it is not there. Takes as long as the file system does.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn open(path: &str) -> io::Result<Self> {
        if path == "-" {
            let output = LineOutput::new(standard_output()?);
            return Ok(Self { output, path: None, created: false });
        }
        let (file, created) = match open_file(Path::new(path), OpenOptions::create_new) {
            Ok(file) => (file, true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                (open_file(Path::new(path), OpenOptions::create)?, false)
            }
            Err(e) => return Err(e),
        };
        Ok(Self { output: LineOutput::new(file), path: Some(path.into()), created })
    }

    /// Closes a target that was opened only to see whether it can be, and leaves no file behind
    /// that was not there before.
    pub fn discard(self) {
        if let Some(path) = self.path.filter(|_| self.created) {
            let _ = std::fs::remove_file(path);
        }
    }

    #[cfg(test)]
    pub(super) const fn from_file(file: File) -> Self {
        Self { output: LineOutput::new(file), path: None, created: false }
    }
}

/// A second descriptor of standard output, so that it is written like any other file: whole
/// batches, and errors that are seen.
fn standard_output() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// `O_NONBLOCK`: a named pipe without a reader is an error instead of a reload that hangs.
/// `O_NOCTTY`: a terminal does not become the one whose hang-up ends this process.
fn open_file(
    path: &Path,
    creating: fn(&mut OpenOptions, bool) -> &mut OpenOptions,
) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = OpenOptions::new();
    creating(&mut options, true).append(true).mode(FILE_MODE).custom_flags(flags).open(path)
}

/// Commands that the writer has not carried out yet. The newest target wins, so a writer that hangs
/// in a write collects no descriptors.
#[derive(Debug, Default)]
struct Commands {
    target: Option<AccessLogTarget>,
    reopen: bool,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    commands: Mutex<Commands>,
    lost_lines: AtomicU64,
}

/// Commands the writer thread. Nothing here waits for it but [`AccessLogHandle::stop`].
#[derive(Debug)]
pub struct AccessLogHandle {
    shared: Arc<Shared>,
    wake: Sender<()>,
    stopped: Receiver<()>,
    thread: JoinHandle<()>,
}

impl AccessLogHandle {
    pub(super) fn start(
        target: AccessLogTarget,
        batches: Receiver<Batch>,
        emptied: Sender<Vec<u8>>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (wake, woken) = bounded(1);
        let (done, stopped) = bounded(0);
        let writer = Writer {
            target,
            batches,
            emptied,
            shared: Arc::clone(&shared),
            warned_lost_lines: 0,
            last_error: None,
        };
        let thread = thread::Builder::new().name("yt-access-log".to_owned()).spawn(move || {
            writer.run(&woken);
            drop(done);
        })?;
        Ok(Self { shared, wake, stopped, thread })
    }

    /// Opens the file anew after it was renamed (SIGUSR1). When that fails the old one is kept
    /// and a warning logged.
    pub fn reopen(&self) {
        self.command(|commands| commands.reopen = true);
    }

    /// Writes to another target from now on; lines handed over before may go to either.
    pub fn switch(&self, target: AccessLogTarget) {
        self.command(|commands| {
            commands.target = Some(target);
            commands.reopen = false;
        });
    }

    /// Lines lost because a write failed.
    pub fn lost_lines(&self) -> u64 {
        self.shared.lost_lines.load(Relaxed)
    }

    /// Writes what was handed over and ends the thread. Returns false if it has not
    /// ended within `grace`: it hangs in a write, and only the end of the process ends it.
    pub fn stop(self, grace: Duration) -> bool {
        self.command(|commands| commands.stop = true);
        // The thread never sends: it drops its end when it is done.
        match self.stopped.recv_timeout(grace) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => false,
            _ => self.thread.join().is_ok(),
        }
    }

    fn command(&self, change: impl FnOnce(&mut Commands)) {
        change(&mut self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner));
        // Full means that it has been woken already and will see this command too.
        let _ = self.wake.try_send(());
    }
}

/// State of the thread.
struct Writer {
    target: AccessLogTarget,
    batches: Receiver<Batch>,
    emptied: Sender<Vec<u8>>,
    shared: Arc<Shared>,
    warned_lost_lines: u64,
    last_error: Option<io::Error>,
}

impl Writer {
    fn run(mut self, woken: &Receiver<()>) {
        let mut batches = self.batches.clone();
        // Armed after a warning: until it fires, further losses are only counted.
        let mut quiet = never();
        let mut is_quiet = false;
        loop {
            select! {
                recv(batches) -> batch => match batch {
                    Ok(batch) => self.write(batch),
                    // No sink is left; commands may still come.
                    Err(_) => batches = never(),
                },
                recv(woken) -> wake => {
                    // An error means that the handle is gone without a stop.
                    if wake.is_err() || self.carry_out() {
                        break;
                    }
                }
                recv(quiet) -> _ => {
                    quiet = never();
                    is_quiet = false;
                }
            }
            if !is_quiet && self.warn() {
                quiet = after(WARN_INTERVAL);
                is_quiet = true;
            }
        }
        while let Ok(batch) = self.batches.try_recv() {
            self.write(batch);
        }
        self.warn();
    }

    /// Carries out the waiting commands. Returns true for a stop.
    fn carry_out(&mut self) -> bool {
        let commands = {
            let mut commands = self.shared.commands.lock().unwrap_or_else(PoisonError::into_inner);
            mem::take(&mut *commands)
        };
        if let Some(target) = commands.target {
            self.target = target;
        }
        if commands.reopen
            && let Some(path) = &self.target.path
        {
            match open_file(path, OpenOptions::create) {
                Ok(file) => self.target.output = LineOutput::new(file),
                Err(error) => {
                    let path = path.display();
                    tracing::warn!(%path, %error, "cannot reopen the access log, keeping the old file");
                }
            }
        }
        commands.stop
    }

    fn write(&mut self, mut batch: Batch) {
        if let Err((written, error)) = self.target.output.write(&batch.bytes) {
            let lost = memchr::memchr_iter(b'\n', &batch.bytes[written..]).count() as u64;
            self.shared.lost_lines.fetch_add(lost, Relaxed);
            self.last_error = Some(error);
        }
        if batch.bytes.capacity() <= REUSED_BYTES_MAX {
            batch.bytes.clear();
            // Enough are waiting already if this one finds no place.
            let _ = self.emptied.try_send(batch.bytes);
        }
    }

    /// Logs lines lost since the last warning. Returns false if there are none.
    fn warn(&mut self) -> bool {
        let lost_lines = self.shared.lost_lines.load(Relaxed);
        let Some(error) = self.last_error.take() else { return false };
        let lines = lost_lines - self.warned_lost_lines;
        tracing::warn!(lines, %error, "access log lines lost");
        self.warned_lost_lines = lost_lines;
        true
    }
}
