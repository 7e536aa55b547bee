//! Messages between the control thread and the workers.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use crate::{
    handoff::{
        credentials::SourceId,
        live::{LiveTable, LiveVersion},
        release::Release,
    },
    model::{ClientAddress, Generation},
    system::{ring::IoKind, send_ring::Sending},
};

/// From the control thread to one worker.
#[derive(Debug)]
pub enum ToWorker {
    /// Serve this generation from now on.
    Adopt {
        /// The generation.
        release: Release,
        /// The live values of the moment, among them all that the generation needs.
        live: Arc<LiveTable>,
    },
    /// Use these live values from the next request on, unless newer ones are known.
    Renew(Arc<LiveTable>),
    /// The reply to a [`FromWorker::Call`].
    Reply {
        /// The call's ticket.
        ticket: Ticket,
        /// The reply.
        reply: CallReply,
    },
    /// A step of stopping.
    Drain(DrainStep),
}

/// The steps of stopping, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainStep {
    /// Not stopping.
    #[default]
    Serving,
    /// `/ready` returns 503; everything else goes on.
    NotReady,
    /// The listener closes, idle connections may send one more request for a moment, responses
    /// carry `Connection: close`.
    Closing,
    /// The admin listener is closed too.
    AdminClosing,
    /// The process is about to end: what is in flight is cut and recorded, the access log handed
    /// over.
    Ending,
}

impl DrainStep {
    /// Its words in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::NotReady => "not ready",
            Self::Closing => "closing",
            Self::AdminClosing => "closing the admin listener",
            Self::Ending => "ending",
        }
    }
}

/// From a worker to the control thread.
#[derive(Debug)]
pub enum FromWorker {
    /// The event loop runs.
    Running {
        /// Index of the worker.
        worker: usize,
        /// The kernel interface that it uses beside epoll.
        io: IoKind,
        /// Why the kernel gave no better one.
        refused: Option<String>,
        /// The way in which small sends leave it.
        sends: Sending,
        /// True if it may pause when it has nothing to do for a moment.
        pauses: bool,
        /// The processor it is pinned to, if the kernel allowed it.
        core: Option<usize>,
    },
    /// The worker could not start, or its thread ended.
    Failed {
        /// Index of the worker.
        worker: usize,
        /// The cause.
        error: String,
    },
    /// Every request that starts on this worker from now on sees this generation.
    Adopted {
        /// Index of the worker.
        worker: usize,
        /// The generation.
        generation: Generation,
    },
    /// Every request that starts on this worker from now on uses live values of this version.
    Renewed {
        /// Index of the worker.
        worker: usize,
        /// Version of the table that it has.
        version: LiveVersion,
    },
    /// A token named a key that the set of this source does not have: it may be renewed by now.
    UnknownKey {
        /// Id of the source.
        source: Arc<str>,
    },
    /// S3 refused credentials of a source that had not ended yet: there may be others by now.
    RefusedCredentials {
        /// The source.
        source: SourceId,
        /// Number of the credentials.
        serial: u64,
    },
    /// A generation that no request of this worker uses any more, to be dropped over there.
    Retired(Release),
    /// A client asks for something that the control plane knows.
    Call {
        /// Index of the worker.
        worker: usize,
        /// To be repeated in the reply.
        ticket: Ticket,
        /// The request.
        call: Call,
    },
    /// Nothing is left that a step of stopping waits for.
    Drained {
        /// Index of the worker.
        worker: usize,
        /// The step.
        step: DrainStep,
    },
}

/// The name of a call. Its holder owes a reply. The worker sees when the last copy is dropped
/// without one, wherever that happens, and responds to the client itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    number: u64,
    owed: Arc<()>,
}

/// A view of a [`Ticket`] that does not keep it.
#[derive(Clone, Debug)]
pub struct TicketView(Weak<()>);

impl Ticket {
    /// The ticket of the call that has this number on its worker.
    pub fn new(number: u64) -> Self {
        Self { number, owed: Arc::new(()) }
    }

    /// The number of the call.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// A view by which its end is seen.
    pub fn view(&self) -> TicketView {
        TicketView(Arc::downgrade(&self.owed))
    }
}

impl TicketView {
    /// Returns true if the ticket was dropped.
    pub fn is_dropped(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// A client's request that the control plane serves.
#[derive(Debug)]
pub enum Call {
    /// The metrics page.
    Metrics,
    /// A command of an authorised operator.
    Command {
        /// The command.
        command: Command,
        /// To be repeated in the body of the reply.
        request_id: Box<str>,
        /// `sub` of the token, for the log.
        subject: Option<Box<str>>,
        /// Its sender, for the log.
        client: ClientAddress,
    },
}

/// Every command that an operator may give through `/admin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `POST /admin/reload`
    Reload {
        /// `?dry_run=true`: report only.
        dry_run: bool,
        /// `If-Match`: the generation that must be running.
        if_match: Option<IfMatch>,
    },
    /// `POST /admin/jwks/refresh`
    RefreshKeys,
    /// `GET /admin/status`
    Status,
    /// `GET /admin/config/history`
    History,
    /// `POST /admin/credentials/refresh`
    RefreshCredentials,
    /// `POST /admin/rollback?to=N`
    Rollback {
        /// The generation whose content to adopt.
        to: Generation,
        /// `If-Match`: the generation that must be running.
        if_match: Option<IfMatch>,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload { dry_run: true, .. } => f.write_str("reload, dry run"),
            Self::Reload { .. } => f.write_str("reload"),
            Self::RefreshKeys => f.write_str("refresh of key sets"),
            Self::Status => f.write_str("status"),
            Self::History => f.write_str("history"),
            Self::RefreshCredentials => f.write_str("refresh of credentials"),
            Self::Rollback { to, .. } => write!(f, "rollback to {to}"),
        }
    }
}

/// The value of an `If-Match` header (RFC 9110 section 13.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: any generation.
    Any,
    /// Entity tags, without their quotes; that of a generation is its number. None of them matches
    /// nothing.
    Tags(Vec<Box<[u8]>>),
}

impl IfMatch {
    /// The condition that this generation runs.
    pub fn only(running: Generation) -> Self {
        Self::Tags([running.to_string().into_bytes().into()].into())
    }

    /// Returns true if the condition holds while `running` runs. Tags are characters, not numbers.
    pub fn holds(&self, running: Generation) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => {
                let running = running.to_string();
                tags.iter().any(|tag| **tag == *running.as_bytes())
            }
        }
    }
}

/// A reply of the control plane to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallReply {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type` of the body.
    pub content_type: &'static str,
    /// `code` for the access log, empty for success.
    pub code: &'static str,
    /// The body, which several clients may be reading.
    pub body: Arc<[u8]>,
}
