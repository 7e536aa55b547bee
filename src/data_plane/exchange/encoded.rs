//! Passing a body on in a coding: frames as they arrive from S3, through an encoder, in turns that
//! leave the core to others.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use crate::{
    data_plane::{
        core::{Core, encoders::LentEncoder},
        exchange::client::{Cut, ResponseWriter},
        upstream::body::{Body, Frame},
    },
    protocol::content_coding::{Coding, EncodeError, Operation},
    system::{buffers::PooledBuffer, clock::Monotonic},
    telemetry::cells::CompressionCells,
};

/// Body bytes that are read at a time.
const READ_BYTES: usize = 65_536;

/// Coded bytes that are passed on at a time: little enough that the end of a short body leaves with
/// what is before it.
const PART_BYTES: usize = 4_096;

/// Pause of S3 after which the client gets what was coded so far. A coding that is interrupted is
/// longer, so this is not done for the gaps between packets.
const FLUSH_AFTER: Duration = Duration::from_millis(50);

/// Longest time for which a part of the response is kept back from the client while S3 goes on
/// without such a pause, but so slowly that no block of the coding fills. Four interruptions a
/// second lengthen a body by some bytes each.
const HELD_MAX: Duration = Duration::from_millis(250);

/// Body bytes that may be coded before others get their turn: a quarter of a millisecond of work.
/// Encoders gather blocks of up to 128 KiB, so that now and then a turn of zstd is longer.
const fn turn_bytes(coding: Coding) -> usize {
    match coding {
        Coding::Zstd => 65_536,
        Coding::Gzip => 32_768,
        Coding::Brotli => 16_384,
    }
}

/// Passes the rest of the body on, to its end, and counts what was coded. A body that is cut short
/// has no end in its coding either.
///
/// # Errors
/// The side that ended it.
pub(super) async fn stream_encoded(
    core: &Core,
    body: &mut Body<'_>,
    encoder: LentEncoder<'_>,
    cells: &CompressionCells,
    response: &mut impl ResponseWriter,
) -> Result<(), Cut> {
    let coding = encoder.coding();
    let mut coded = Coded {
        encoder,
        output: core.buffers.small(),
        filled: 0,
        // The head.
        held_since: Some(core.reactor.clock.refresh()),
        read: 0,
        written: 0,
        response,
    };
    let passed = pass(core, body, turn_bytes(coding), &mut coded).await;
    let Coded { encoder, output, read, written, response, .. } = coded;
    cells.record(coding, read, written);
    // Neither is needed for what is left, which others may wait for too.
    drop((encoder, output));
    passed?;
    Ok(response.finish().await?)
}

/// Passes the rest of the body on, so many bytes of it in a turn, without the end of the response.
async fn pass<R: ResponseWriter>(
    core: &Core,
    body: &mut Body<'_>,
    turn_bytes: usize,
    coded: &mut Coded<'_, R>,
) -> Result<(), Cut> {
    let clock = &core.reactor.clock;
    let mut this_turn = 0;
    loop {
        match body.buffered().map_err(Cut::Upstream)? {
            Frame::Data(frame) => {
                for part in body.bytes(frame).chunks(turn_bytes) {
                    if this_turn + part.len() > turn_bytes {
                        core.reactor.turns.next().await;
                        this_turn = 0;
                    }
                    this_turn += part.len();
                    if coded.held_since.is_none() {
                        coded.held_since = Some(clock.refresh());
                    }
                    core.reactor.let_sends_go();
                    coded.write(part).await?;
                }
            }
            Frame::Wait => {
                let arrival = body.wait(READ_BYTES);
                let arrived = match coded.held_since {
                    None => Some(arrival.await),
                    Some(since) => match patience(since, clock.refresh()) {
                        Duration::ZERO => None,
                        patience => within(core, patience, arrival).await,
                    },
                };
                match arrived {
                    Some(arrived) => arrived.map_err(Cut::Upstream)?,
                    None => coded.flush().await?,
                }
            }
            Frame::End => {
                body.release_buffer();
                core.reactor.let_sends_go();
                return coded.finish().await;
            }
        }
    }
}

/// Time to wait for more of the body before the client gets what it lacks since then.
fn patience(held_since: Monotonic, now: Monotonic) -> Duration {
    let held = Duration::from_nanos(now.since(held_since));
    HELD_MAX.saturating_sub(held).min(FLUSH_AFTER)
}

/// The result of a future that completes in time.
async fn within<T>(core: &Core, time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut over = pin!(core.reactor.sleep(time));
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => over.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// A coded body on its way to the client.
struct Coded<'c, R> {
    encoder: LentEncoder<'c>,
    /// Coded bytes that were not passed on, at its beginning.
    output: PooledBuffer<'c>,
    filled: usize,
    /// Time from which on the client lacks a part of the response; none if it has all of it.
    held_since: Option<Monotonic>,
    /// Bytes that were coded so far.
    read: u64,
    /// Bytes that they were coded into.
    written: u64,
    response: &'c mut R,
}

impl<R: ResponseWriter> Coded<'_, R> {
    async fn write(&mut self, part: &[u8]) -> Result<(), Cut> {
        self.run(Operation::Encode, part).await
    }

    /// Sends the head and all that was coded so far.
    async fn flush(&mut self) -> Result<(), Cut> {
        self.run(Operation::Flush, &[]).await?;
        self.pass_on().await?;
        self.held_since = None;
        Ok(self.response.flush().await?)
    }

    /// Passes the end of the coding on.
    async fn finish(&mut self) -> Result<(), Cut> {
        self.run(Operation::Finish, &[]).await?;
        self.pass_on().await
    }

    /// Goes on until the operation is done.
    async fn run(&mut self, operation: Operation, mut input: &[u8]) -> Result<(), Cut> {
        loop {
            if self.filled == self.output.len() {
                self.pass_on().await?;
            }
            let room = self.output.get_mut(self.filled..).unwrap_or_default();
            let step = self.encoder.step(operation, input, room).map_err(|EncodeError| {
                tracing::error!("an encoder failed; the response is cut short");
                Cut::Proxy
            })?;
            input = input.get(step.read..).unwrap_or_default();
            self.filled += step.written;
            self.read += step.read as u64;
            self.written += step.written as u64;
            if step.is_done {
                return Ok(());
            }
        }
    }

    async fn pass_on(&mut self) -> Result<(), Cut> {
        let filled = std::mem::take(&mut self.filled);
        for part in self.output.get(..filled).unwrap_or_default().chunks(PART_BYTES) {
            self.response.write(part).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_kept_back_for_longer_than_a_quarter_of_a_second() {
        let since = Monotonic(1_000_000_000);
        let after = |ms| patience(since, since.plus(Duration::from_millis(ms)));
        for (ms, left) in [(0, 50), (200, 50), (201, 49), (249, 1), (250, 0), (9_000, 0)] {
            assert_eq!(after(ms), Duration::from_millis(left), "after {ms} ms");
        }
    }
}
