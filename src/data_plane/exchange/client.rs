//! The client as an exchange sees it: a presence that may end, a body to be discarded, and a
//! response that is written. Each version of HTTP has its own; an exchange does not know which it
//! is.

use crate::{
    data_plane::upstream::{
        body::{Body, Passage},
        error::UpstreamError,
    },
    model::Fault,
    protocol::http1::{BodyLength, ResponseHead},
    system::{
        clock::{CoreClock, Monotonic},
        reactor::Presence,
    },
};

/// The body of a request, which has no use.
pub(crate) trait RequestBody {
    /// True if nothing of it is left to be discarded.
    fn is_over(&self) -> bool;

    /// Reads all of it and keeps nothing.
    ///
    /// # Errors
    /// The fault to respond with when it is malformed, over its limit, cut short or late. The
    /// connection, or the stream, ends with the response.
    async fn discard(&mut self) -> Result<(), Fault>;
}

/// The client left, or takes nothing.
#[derive(Debug)]
pub(crate) struct ClientGone;

/// The start of a response: that there was one, and its time where that is asked for.
#[derive(Debug, Default)]
pub(crate) struct Start {
    is_made: bool,
    is_timed: bool,
    at: Option<Monotonic>,
}

impl Start {
    /// Notes that a part of the response is sent.
    pub(crate) fn make(&mut self, clock: &CoreClock) {
        if self.is_timed && !self.is_made {
            self.at = Some(clock.refresh());
        }
        self.is_made = true;
    }

    /// Returns true if a part of the response was sent.
    pub(crate) fn is_made(&self) -> bool {
        self.is_made
    }

    /// Asks for its time.
    pub(crate) fn ask(&mut self) {
        self.is_timed = true;
    }

    /// Its time, if it was asked for.
    pub(crate) fn at(&self) -> Option<Monotonic> {
        self.at
    }
}

/// Reason why a body was not passed on to its end.
#[derive(Debug)]
pub(crate) enum Cut {
    /// The client left, or takes nothing.
    Client,
    /// S3 failed.
    Upstream(UpstreamError),
    /// This process cannot go on.
    Proxy,
}

impl From<ClientGone> for Cut {
    fn from(ClientGone: ClientGone) -> Self {
        Self::Client
    }
}

/// A response on its way to the client.
pub(crate) trait ResponseWriter {
    /// The presence of the client, for whatever waits on its behalf.
    fn presence(&self) -> Presence;

    /// Ends the connection, or the stream, with this response.
    fn end_connection(&mut self);

    /// Notes that the response is cut short because its client takes it too slowly.
    fn give_up(&mut self);

    /// Begins a head, in place of a response of which nothing was sent.
    fn begin(&mut self, status: u16, reason: &[u8]);

    /// Adds a field.
    fn field(&mut self, name: &str, value: &[u8]);

    /// Adds the end-to-end fields of a response of S3, whose head is in `message`, and `Via`.
    fn fields_of(&mut self, head: &ResponseHead, message: &[u8]);

    /// The field lines of the head so far, as the end of these bytes from this place on.
    fn field_lines(&mut self) -> (&mut Vec<u8>, usize);

    /// Ends the head: a body of this length follows. `declared` is the `Content-Length` where there
    /// may be one without a body.
    fn end_head(&mut self, length: BodyLength, declared: Option<u64>);

    /// True if the body goes to the client; it does not in a response to HEAD.
    fn has_body(&self) -> bool;

    /// Bytes of the body that are worth reading now: what was read is held until the client has
    /// taken it. `None` if it takes nothing at the moment.
    fn room(&self) -> Option<usize>;

    /// Waits until there is room.
    async fn wait_for_room(&mut self) -> Result<(), ClientGone>;

    /// Keeps a short frame of the body, to be passed on together with what follows. False, with
    /// nothing done, where that is not worth it.
    fn gather(&mut self, frame: &[u8]) -> bool;

    /// Passes a frame of the body on, now or together with what follows.
    async fn write(&mut self, frame: &[u8]) -> Result<(), ClientGone>;

    /// Sends what was kept back.
    async fn flush(&mut self) -> Result<(), ClientGone>;

    /// Ends the body and sends what was kept back.
    async fn finish(&mut self) -> Result<(), ClientGone>;

    /// The way that a large body takes to the client.
    fn passage(&self) -> Passage;

    /// Moves the rest of a body past this process. False where that is not possible, or not worth
    /// it.
    async fn splice(&mut self, body: &mut Body<'_>) -> Result<bool, Cut>;

    /// The start of the response.
    fn start(&mut self) -> &mut Start;

    /// Bytes of the body that the client's side took.
    fn body_bytes(&self) -> u64;
}
