//! The kernel interface that a worker uses beside epoll: an `io_uring` ring with the cheapest flags
//! that the kernel takes, or none.

use std::{fmt, io};

use io_uring::IoUring;

use crate::system::send_ring::{ENTRIES, SendRing, SendsChoice};

/// Which kernel interface a worker may use (`server.io`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// A ring, or epoll with a warning where rings are forbidden (containers often do).
    #[default]
    Auto,
    /// A ring, or no start, where small sends are to leave together.
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

/// The kernel interface that a worker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoKind {
    /// `SINGLE_ISSUER | DEFER_TASKRUN` (Linux 6.1).
    RingDeferTaskrun,
    /// `SINGLE_ISSUER | COOP_TASKRUN` (Linux 6.0).
    RingCoopTaskrun,
    /// A ring without flags.
    RingPlain,
    /// epoll alone.
    Epoll,
}

impl IoKind {
    /// The message in the log about what the kernel refused.
    pub const fn refusal_message(self) -> &'static str {
        match self {
            Self::Epoll => "io_uring was refused: small sends leave one by one",
            _ => "an io_uring with better flags was refused",
        }
    }
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

/// The rings to try, the cheapest first.
const LADDER: [IoKind; 3] = [IoKind::RingDeferTaskrun, IoKind::RingCoopTaskrun, IoKind::RingPlain];

/// The kernel interface that a worker has opened.
#[derive(Debug)]
pub struct Opened {
    /// Its kind.
    pub kind: IoKind,
    /// The error that made a worse one necessary than the best.
    pub refused: Option<io::Error>,
    /// The ring, unless there is only epoll.
    pub ring: Option<SendRing>,
}

/// The best that `choice` allows and the kernel gives, for these sends. Where none are to go
/// together no ring is asked for.
///
/// # Errors
/// A ring is demanded and refused.
pub fn open(choice: IoChoice, sends: SendsChoice) -> io::Result<Opened> {
    let mut refused = None;
    if let (IoChoice::Auto | IoChoice::IoUring, SendsChoice::From(turn_events_min)) =
        (choice, sends)
    {
        for kind in LADDER {
            let ring = flags(kind).build(ENTRIES);
            match ring.and_then(|ring| SendRing::new(ring, turn_events_min)) {
                Ok(ring) => return Ok(Opened { kind, refused, ring: Some(ring) }),
                Err(error) if choice == IoChoice::IoUring && kind == IoKind::RingPlain => {
                    return Err(error);
                }
                Err(error) => refused = Some(error),
            }
        }
    }
    Ok(Opened { kind: IoKind::Epoll, refused, ring: None })
}

fn flags(kind: IoKind) -> io_uring::Builder {
    let mut builder = IoUring::builder();
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
