//! The event loop of a worker: an `io_uring` ring with the cheapest flags that the kernel takes, or
//! epoll.

use std::{fmt, future::Future, io};

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Which event loop a worker may use (`server.io`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// A ring, or epoll with a warning where rings are forbidden (containers often do).
    #[default]
    Auto,
    /// A ring or nothing.
    IoUring,
    /// epoll.
    Epoll,
}

impl IoChoice {
    /// The word in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }

    /// The choice that a word names.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Auto, Self::IoUring, Self::Epoll].into_iter().find(|io| io.as_str() == name)
    }
}

/// Which event loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// `SINGLE_ISSUER | DEFER_TASKRUN` (Linux 6.1).
    RingDeferTaskrun,
    /// `SINGLE_ISSUER | COOP_TASKRUN` (Linux 6.0).
    RingCoopTaskrun,
    /// A ring without flags.
    RingPlain,
    /// epoll.
    Epoll,
}

impl fmt::Display for IoKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RingDeferTaskrun => "io_uring (single issuer, deferred task run)",
            Self::RingCoopTaskrun => "io_uring (single issuer, cooperative task run)",
            Self::RingPlain => "io_uring",
            Self::Epoll => "epoll",
        })
    }
}

/// Entries of the submission queue. A full queue is flushed by a system call of its own, so this
/// only has to cover what one turn of the loop submits.
const RING_ENTRIES: u32 = 1_024;

/// Builds the event loop on the calling thread and runs the future that `start` makes.
///
/// The ladder is tried from the cheapest flags down. A refused ring is reported to `start` as the
/// error that made the next rung necessary, so that it can be logged.
///
/// # Errors
/// When nothing that `choice` allows can be built.
pub fn run<F: Future>(
    choice: IoChoice,
    start: impl FnOnce(IoKind, Option<io::Error>) -> F,
) -> io::Result<F::Output> {
    let mut refused = None;
    if choice != IoChoice::Epoll {
        for kind in [IoKind::RingDeferTaskrun, IoKind::RingCoopTaskrun, IoKind::RingPlain] {
            let built = RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(RING_ENTRIES)
                .uring_builder(flags(kind))
                .build();
            match built {
                Ok(mut runtime) => return Ok(runtime.block_on(start(kind, refused))),
                Err(error) => refused = Some(error),
            }
        }
        if choice == IoChoice::IoUring {
            return Err(refused.unwrap_or_else(|| io::Error::other("io_uring refused")));
        }
    }
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().build()?;
    Ok(runtime.block_on(start(IoKind::Epoll, refused)))
}

fn flags(kind: IoKind) -> io_uring::Builder {
    let mut builder = io_uring::IoUring::builder();
    match kind {
        IoKind::RingDeferTaskrun => {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        IoKind::RingCoopTaskrun => {
            builder.setup_single_issuer().setup_coop_taskrun();
        }
        IoKind::RingPlain | IoKind::Epoll => {}
    }
    builder
}
