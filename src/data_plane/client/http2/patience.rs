//! The time in which a client has to take a part of a body.
//!
//! A stream that waits for the client may do so for `server.timeouts.client_write`, and as long
//! again whenever the client has taken a frame of body. Nothing else counts: neither what it sends,
//! nor the answers to that, nor a window that it opens byte by byte, all of which cost it nothing.
//! Waits that end with less than a frame add up, so that a byte now and then puts nothing off.
//!
//! A slow client is not cut. While streams share what it takes, each frame on the connection counts
//! for all of them. One that takes 2 KiB/s takes three frames in 30 s, whether its windows hold the
//! body back or its socket: of what waits there, up to [`OUTPUT_BYTES`] here and far more in the
//! kernel, a frame leaves as often. But the kernel asks for more only once a third of its buffer is
//! free, which may take minutes, and a client opens a stream's window only once it has received
//! what that had room for. So before the end the kernel is asked what the client has acknowledged.
//! A stream of which something is still on its way shares in that, whatever its window.
//!
//! [`OUTPUT_BYTES`]: super::output::OUTPUT_BYTES

use std::time::Duration;

use crate::{data_plane::client::http2::limits::DATA_BYTES_MAX, system::clock::Monotonic};

/// Bytes of bodies that a client has taken, at least.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    /// Taken by the socket.
    pub(super) sent: u64,
    /// Acknowledged when the kernel was last asked.
    pub(super) acknowledged: u64,
}

/// The time that is left to a client for the next frame of a body.
#[derive(Debug)]
pub(super) struct Patience {
    most: Duration,
    spent: Duration,
    /// Bytes taken of all bodies, and of this one, when the time began.
    since: (Taken, u64),
}

impl Patience {
    /// The whole time.
    pub(super) fn new(most: Duration, taken: Taken) -> Self {
        Self { most, spent: Duration::ZERO, since: (taken, 0) }
    }

    /// Time that is left.
    pub(super) fn left(&self) -> Duration {
        self.most.saturating_sub(self.spent)
    }

    /// Notes a wait.
    pub(super) fn spend(&mut self, from: Monotonic, to: Monotonic) {
        self.spent += Duration::from_nanos(to.since(from));
    }

    /// Begins anew if the client has taken a frame in the meantime: of this body, of which so many
    /// bytes were `sent`, or of what went before its end, of which so many were `delivered`. Those
    /// of others count if the stream waits for what all share. If not, it is no excuse that the
    /// client takes them.
    pub(super) fn renew(
        &mut self,
        taken: Taken,
        (sent, delivered): (u64, u64),
        is_shared: bool,
    ) -> bool {
        let (before, sent_before) = self.since;
        let is_frame = |now: u64, before: u64| now.saturating_sub(before) >= DATA_BYTES_MAX as u64;
        let is_renewed = is_frame(sent, sent_before)
            || is_frame(delivered, before.acknowledged)
            || is_shared
                && (is_frame(taken.sent, before.sent)
                    || is_frame(taken.acknowledged, before.acknowledged));
        if is_renewed {
            *self = Self { spent: Duration::ZERO, since: (taken, sent), ..*self };
        }
        is_renewed
    }
}
