//! The attempts to get a response: on a pooled connection if there is one, and once more on a fresh
//! one if that proves stale.

use std::{io, ops::Range, time::Duration};

use crate::{
    data_plane::{
        fetch::request::ObjectRequest,
        upstream::{
            body::{Body, LARGE_BODY_BYTES_MIN, Passage},
            connect::Connector,
            connection::Connection,
            error::{Kind, Phase, UpstreamError},
        },
    },
    protocol::http1::{Progress, ResponseHead, parse_response},
    system::{
        buffers::{LARGE_BYTES, PooledBuffer, SMALL_BYTES},
        clock::Monotonic,
    },
};

/// Interim responses (1xx) to one request that are absorbed; S3 sends none, or one. Without a bound
/// a server could hold a request for ever.
const INTERIM_RESPONSES_MAX: usize = 16;

/// Bytes that are read at once of the head of an object that is likely to be spliced: an ordinary
/// head fits, and little of the body.
const HEAD_READ_BYTES_MAX: usize = 4_096;

/// Bytes that are read at once of a head, and of the body behind it, that share their connection
/// with others: an object of 64 KiB fits.
const SHARED_READ_BYTES_MAX: usize = 65_536 + SMALL_BYTES;

/// The body of a response whose head is complete.
#[derive(Debug)]
pub(crate) struct Fetched<'c> {
    pub(crate) body: Body<'c>,
    message: Range<usize>,
}

impl Fetched<'_> {
    /// The bytes that the head's spans point into, until the body is waited for.
    pub(crate) fn message(&self) -> &[u8] {
        self.body.bytes(self.message.clone())
    }
}

/// The bytes that have arrived: a head, and what follows it.
struct Arrived<'c> {
    buffer: PooledBuffer<'c>,
    message: Range<usize>,
}

impl<'r> ObjectRequest<'r> {
    /// Sends the request and reads the head of the final response, on a pooled connection if there
    /// is one, and once more on a fresh one if that proves stale (RFC 9112 section 9.3.1). Notes
    /// the nanoseconds to the response's first byte, also of one that fails then.
    pub(crate) fn fetch(
        &self,
        head: &mut ResponseHead,
        first_byte_ns: &mut Option<u64>,
    ) -> impl Future<Output = Result<Fetched<'r>, UpstreamError>> {
        async move {
            let core = self.core;
            let now = core.reactor.clock.coarse();
            if let Some(connection) =
                self.endpoint.take(self.bucket.max_connection_age, now, self.cells)
            {
                if let Some(notes) = self.notes {
                    notes.attempt(Some(connection.address().socket_address()));
                }
                match self.attempt(&connection, head, first_byte_ns).await {
                    Ok(arrived) => return Ok(self.fetched(head, connection, arrived)),
                    Err(error) if error.is_retryable() => head.reset(),
                    Err(error) => return Err(error),
                }
            }
            if let Some(notes) = self.notes {
                notes.attempt(None);
            }
            // In a box like what follows: rare, and too large for every request to have room for
            // it.
            let opened = Box::pin(self.open()).await;
            if let Some(notes) = self.notes {
                notes.at(match &opened {
                    Ok(connection) => Some(connection.address().socket_address()),
                    Err(error) => error.address(),
                });
            }
            let connection = opened?;
            core.cells.upstream_connects.inc();
            match self.attempt(&connection, head, first_byte_ns).await {
                Ok(arrived) => {
                    connection.address().works();
                    Ok(self.fetched(head, connection, arrived))
                }
                Err(error) => {
                    if error.is_of_address() {
                        connection.address().fails(core.reactor.clock.coarse());
                    }
                    Err(error)
                }
            }
        }
    }

    fn fetched(
        &self,
        head: &ResponseHead,
        connection: Box<Connection>,
        arrived: Arrived<'r>,
    ) -> Fetched<'r> {
        let Arrived { buffer, message } = arrived;
        if let Some(notes) = self.notes {
            notes.responded(head, buffer.get(message.clone()).unwrap_or_default());
        }
        let window = message.start + head.head_len..message.end;
        let timeout = self.bucket.timeouts.read;
        let body = Body::new(&self.core.buffers, connection, buffer, window, head.length, timeout);
        Fetched { body, message }
    }

    /// Opens a connection to the endpoint; when the kernel has no descriptor left for it, once more
    /// in place of connections that nobody uses.
    async fn open(&self) -> Result<Box<Connection>, UpstreamError> {
        let core = self.core;
        self.endpoint.learn(&core.live.borrow(), core.reactor.clock.coarse());
        let connector = Connector {
            reactor: &core.reactor,
            buffers: &core.buffers,
            client: self.client,
            cells: self.cells,
            timeout: self.bucket.timeouts.connect,
        };
        match self.endpoint.open(&connector).await {
            Err(error) if error.is_out_of_descriptors() => {
                core.evict_idle();
                self.endpoint.open(&connector).await
            }
            opened => opened,
        }
    }

    /// Sends the request on a connection and reads the head of the final response.
    fn attempt(
        &self,
        connection: &Connection,
        head: &mut ResponseHead,
        first_byte_ns: &mut Option<u64>,
    ) -> impl Future<Output = Result<Arrived<'r>, UpstreamError>> {
        async move {
            let core = self.core;
            let timeouts = self.bucket.timeouts;
            let clock = &core.reactor.clock;
            // On a pooled connection no time has passed since the request's own reading of the
            // clock.
            let sent = if connection.is_reused() { clock.coarse() } else { clock.refresh() };
            let registration = connection.stream().registration();
            let deadline = registration.deadline(timeouts.first_byte);
            registration.waits_for(self.client);
            {
                let mut request = core.buffers.scratch();
                self.append_to(&mut request);
                if connection.send(&mut request).await.is_err() {
                    return Err(failure(connection, Kind::Reset, Phase::Send));
                }
            }
            connection.wait().await;
            // What arrives with the head is copied; of an object that is to be spliced that should
            // be little.
            let is_plain = connection.stream().splice_fd().is_some();
            let most = match &self.passage {
                Passage::Shared(held_up) if held_up.are_many() => SMALL_BYTES,
                Passage::Shared(_) => SHARED_READ_BYTES_MAX,
                Passage::Spliced if is_plain && self.endpoint.expects().is_large() => {
                    HEAD_READ_BYTES_MAX
                }
                Passage::Spliced | Passage::Copied => LARGE_BYTES,
            };
            let reads_little = most <= SMALL_BYTES;
            let mut buffer = if reads_little { core.buffers.small() } else { core.buffers.large() };
            let mut phase = Phase::Send;
            let mut filled = 0;
            let mut interim = 0;
            loop {
                if filled == buffer.len() {
                    buffer.grow(LARGE_BYTES);
                }
                let room_ends = buffer.len().min(filled + most);
                let room = buffer.get_mut(filled..room_ends).unwrap_or_default();
                let count = match connection.recv(room).await {
                    Ok(0) => return Err(failure(connection, Kind::Truncated, phase)),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        return Err(failure(connection, Kind::Truncated, phase));
                    }
                    Err(_) => return Err(failure(connection, Kind::Reset, phase)),
                };
                let mut begins = filled == 0;
                if begins {
                    *first_byte_ns = Some(core.reactor.first_byte_after(sent));
                }
                filled += count;
                let mut at = 0;
                loop {
                    let unread = buffer.get(at..filled).unwrap_or_default();
                    let malformed =
                        |connection| Err(failure(connection, Kind::Malformed, Phase::Head));
                    match parse_response(unread, self.is_head, head) {
                        Err(_) => return malformed(connection),
                        Ok(Progress::Partial) => break,
                        // We never ask to switch protocols.
                        Ok(Progress::Complete) if head.status == 101 => {
                            return malformed(connection);
                        }
                        Ok(Progress::Complete) if head.is_interim() => {
                            interim += 1;
                            if interim > INTERIM_RESPONSES_MAX {
                                return malformed(connection);
                            }
                            at += head.head_len;
                            head.reset();
                            begins = true;
                        }
                        Ok(Progress::Complete) => {
                            if head.status == 408 && connection.is_reused() && interim == 0 {
                                return Err(failure(connection, Kind::IdleTooLong, Phase::Head));
                            }
                            if self.reads_an_object() && matches!(head.status, 200 | 206) {
                                let is_large = |length| length >= LARGE_BODY_BYTES_MIN;
                                let large = head.content_length.is_some_and(is_large);
                                self.endpoint.expects().learn(large);
                            }
                            return Ok(Arrived { buffer, message: at..filled });
                        }
                    }
                }
                buffer.copy_within(at..filled, 0);
                filled -= at;
                // Interim responses do not prolong the time of the final one's first byte. A head
                // that has started has a time of its own, which its bytes do not prolong.
                if filled == 0 {
                    phase = Phase::Interim;
                    let left = timeouts.first_byte.saturating_sub(between(sent, clock.refresh()));
                    deadline.restart(left);
                } else if begins {
                    phase = Phase::Head;
                    deadline.restart(timeouts.read);
                }
            }
        }
    }
}

fn between(earlier: Monotonic, later: Monotonic) -> Duration {
    Duration::from_nanos(later.since(earlier))
}

fn failure(connection: &Connection, otherwise: Kind, phase: Phase) -> UpstreamError {
    UpstreamError::ended(connection.ended(), otherwise, phase)
        .of(connection.address().socket_address(), connection.is_reused())
}
