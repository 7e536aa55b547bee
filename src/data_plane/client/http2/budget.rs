//! The frames and resets that a client may send besides its requests. Both come back with time and
//! with what the client gets for them, so that a flood of frames which cost it nothing ends the
//! connection (RFC 9113 section 10.5) while one that is busy never runs short.

use crate::{
    protocol::http2::{FrameHead, FrameKind},
    system::clock::Monotonic,
};

/// Frames that a client may send at once.
const FRAMES_MAX: u32 = 2_000;

/// Frames that come back in a second: pings to keep the connection alive are far fewer.
const FRAMES_PER_SECOND: u64 = 50;

/// Frames that come back with each response: settings, priorities and window updates around it.
const FRAMES_PER_RESPONSE: u32 = 8;

/// Bytes sent to the client with which a frame comes back: a client may update two windows for
/// every 4 KiB that it reads.
const BYTES_PER_FRAME: usize = 1_024;

/// Bytes that a field section may mean for each frame that it is charged as: a few bytes may repeat
/// thousands, so their number on the wire says little.
const DECODED_BYTES_PER_FRAME: usize = 4_096;

/// Resets for each concurrent stream that a client may send at once: all that it has, twice.
const RESETS_PER_STREAM: u32 = 2;

/// Resets that come back in a second, as when somebody moves through a film.
const RESETS_PER_SECOND: u64 = 10;

/// A data frame of at least so many bytes is worth its head; it has a budget of its own, which is
/// flow control.
const DATA_BYTES_MIN: u32 = 256;

/// Frames that one of settings counts for: all streams are gone through for it.
const SETTINGS_COST: u32 = 4;

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// The client has sent too many of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flood;

/// A number that goes down with use and comes back with time.
#[derive(Debug)]
struct Allowance {
    left: u32,
    most: u32,
    per_second: u64,
    since: Monotonic,
}

impl Allowance {
    fn new(most: u32, per_second: u64, now: Monotonic) -> Self {
        Self { left: most, most, per_second, since: now }
    }

    fn take(&mut self, cost: u32, now: Monotonic) -> Result<(), Flood> {
        if self.left < cost {
            let back = now.since(self.since).saturating_mul(self.per_second);
            let back = back / NANOSECONDS_PER_SECOND;
            if back > 0 {
                self.since = now;
                self.give_back(u32::try_from(back).unwrap_or(u32::MAX));
            }
        }
        self.left = self.left.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }

    fn give_back(&mut self, count: u32) {
        self.left = self.left.saturating_add(count).min(self.most);
    }
}

/// The frames and resets that the client of one connection has left.
#[derive(Debug)]
pub(super) struct Budget {
    frames: Allowance,
    resets: Allowance,
    /// Bytes sent that have not made up for a frame yet.
    bytes: usize,
}

impl Budget {
    /// The budget of a new connection with so many concurrent streams.
    pub(super) fn new(max_concurrent_streams: u32, now: Monotonic) -> Self {
        let resets = max_concurrent_streams.saturating_mul(RESETS_PER_STREAM);
        Self {
            frames: Allowance::new(FRAMES_MAX, FRAMES_PER_SECOND, now),
            resets: Allowance::new(resets, RESETS_PER_SECOND, now),
            bytes: 0,
        }
    }

    /// Charges a frame of the client.
    pub(super) fn take(&mut self, frame: FrameHead, now: Monotonic) -> Result<(), Flood> {
        let cost = match frame.kind {
            FrameKind::Data if frame.length >= DATA_BYTES_MIN => return Ok(()),
            FrameKind::Settings if !frame.is_ack() => SETTINGS_COST,
            _ => 1,
        };
        self.frames.take(cost, now)
    }

    /// Charges the reset of an open stream. A further one, with which a client may answer each
    /// frame that was on its way (RFC 9113 section 5.4.2), is a frame like others.
    pub(super) fn take_reset(&mut self, now: Monotonic) -> Result<(), Flood> {
        self.resets.take(1, now)
    }

    /// Charges what a field section means, beyond what an ordinary one does.
    pub(super) fn take_decoded(&mut self, bytes: usize, now: Monotonic) -> Result<(), Flood> {
        let cost = u32::try_from(bytes / DECODED_BYTES_PER_FRAME).unwrap_or(u32::MAX);
        self.frames.take(cost, now)
    }

    /// Notes a response that is complete.
    pub(super) fn responded(&mut self) {
        self.frames.give_back(FRAMES_PER_RESPONSE);
        self.resets.give_back(1);
    }

    /// Notes bytes that the client's socket took.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes;
        let frames = self.bytes / BYTES_PER_FRAME;
        self.bytes %= BYTES_PER_FRAME;
        self.frames.give_back(u32::try_from(frames).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const STREAMS: u32 = 10;

    fn frame(kind: FrameKind) -> FrameHead {
        FrameHead { kind, flags: 0, length: 8, stream: 1 }
    }

    /// Resets of open streams that a client gets through at a point in time.
    fn resets(budget: &mut Budget, now: Monotonic) -> u32 {
        (0_u32..10_000).take_while(|_| budget.take_reset(now).is_ok()).map(|_| 1).sum()
    }

    /// Frames of a kind that a client gets through at a point in time.
    fn passed(budget: &mut Budget, kind: FrameKind, now: Monotonic) -> u32 {
        (0_u32..10_000).take_while(|_| budget.take(frame(kind), now).is_ok()).map(|_| 1).sum()
    }

    #[test]
    fn a_flood_of_anything_ends() {
        let now = Monotonic(1);
        for (kind, most) in [
            (FrameKind::Ping, FRAMES_MAX),
            (FrameKind::Priority, FRAMES_MAX),
            (FrameKind::WindowUpdate, FRAMES_MAX),
            (FrameKind::Headers, FRAMES_MAX),
            (FrameKind::Continuation, FRAMES_MAX),
            (FrameKind::Data, FRAMES_MAX),
            (FrameKind::Other, FRAMES_MAX),
            (FrameKind::Settings, FRAMES_MAX / SETTINGS_COST),
            (FrameKind::RstStream, FRAMES_MAX),
        ] {
            let mut budget = Budget::new(STREAMS, now);
            assert_eq!(passed(&mut budget, kind, now), most, "{kind:?}");
        }
        let mut budget = Budget::new(STREAMS, now);
        let large = FrameHead { length: DATA_BYTES_MIN, ..frame(FrameKind::Data) };
        assert!((0..10_000).all(|_| budget.take(large, now).is_ok()));
    }

    #[test]
    fn long_field_sections_cost_more_than_a_response_gives_back() {
        let now = Monotonic(1);
        let mut budget = Budget::new(STREAMS, now);
        for _ in 0..10_000 {
            budget.take(frame(FrameKind::Headers), now).unwrap();
            budget.take_decoded(8_192, now).unwrap();
            budget.responded();
        }
        let sections = (0..10_000).take_while(|_| {
            budget.responded();
            budget.take_decoded(100_000, now).is_ok()
        });
        assert!(sections.count() < 200);
    }

    #[test]
    fn time_brings_frames_and_resets_back_up_to_their_bounds() {
        let start = Monotonic(1);
        let mut budget = Budget::new(STREAMS, start);
        assert_eq!(resets(&mut budget, start), STREAMS * RESETS_PER_STREAM);
        assert_eq!(passed(&mut budget, FrameKind::Ping, start), FRAMES_MAX);
        let later = start.plus(Duration::from_secs(2));
        assert_eq!(resets(&mut budget, later), 20);
        assert_eq!(passed(&mut budget, FrameKind::Ping, later), 100);
        let much_later = later.plus(Duration::from_hours(1));
        assert_eq!(passed(&mut budget, FrameKind::Ping, much_later), FRAMES_MAX);
    }

    #[test]
    fn a_client_that_gets_something_never_runs_short() {
        let now = Monotonic(1);
        let mut budget = Budget::new(STREAMS, now);
        for _ in 0..10_000 {
            budget.take(frame(FrameKind::Headers), now).unwrap();
            for _ in 0..4 {
                budget.take(frame(FrameKind::WindowUpdate), now).unwrap();
            }
            budget.take(frame(FrameKind::RstStream), now).unwrap();
            budget.take_reset(now).unwrap();
            budget.responded();
        }
        // A large body whose reader updates two windows for each 4 KiB.
        for _ in 0..100_000 {
            budget.sent(4_096);
            budget.take(frame(FrameKind::WindowUpdate), now).unwrap();
            budget.take(frame(FrameKind::WindowUpdate), now).unwrap();
        }
        // A body that is asked for byte by byte.
        let dribbled = (0..10_000).take_while(|_| {
            budget.sent(10);
            budget.take(frame(FrameKind::WindowUpdate), now).is_ok()
        });
        assert!(dribbled.count() < 3_000);
    }
}
