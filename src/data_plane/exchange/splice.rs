//! A large plain body, moved from socket to socket inside the kernel.

use crate::{
    data_plane::{
        exchange::{Exchange, respond::client_writable, stream::End},
        upstream::{body::Body, error::Kind},
    },
    system::{
        splice::Pipe,
        watch::{Ended, OnDemand, Shut},
    },
};

/// Bytes that are moved without waiting before others get their turn: moving is several times faster
/// than copying.
const TURN_BYTES: usize = 4 * 1_048_576;

/// Moves the rest of the body. False when it is not worth it, or the kernel has no pipe for it: copy
/// instead.
pub(crate) async fn relay(
    exchange: &Exchange<'_>,
    body: &mut Body<'_>,
    sent: &mut u64,
) -> Result<bool, End> {
    let Some(left) = body.left_to_splice() else { return Ok(false) };
    let Some(mut pipe) = exchange.core.pipes.take(exchange.core.watches.clock.coarse()) else {
        return Ok(false);
    };
    body.release_buffer();
    let mut taken = 0;
    let moved = pump(exchange, body, &mut pipe, left, &mut taken, sent).await;
    body.spliced(taken);
    exchange.core.pipes.give_back(pipe);
    moved.map(|()| true)
}

/// Moves `left` bytes, counting those that have left the upstream socket and those that have
/// reached the client's.
async fn pump(
    exchange: &Exchange<'_>,
    body: &Body<'_>,
    pipe: &mut Pipe,
    left: u64,
    taken: &mut u64,
    sent: &mut u64,
) -> Result<(), End> {
    let (upstream, client) = (body.connection().socket(), exchange.socket);
    let upstream_watch = upstream.watch();
    // A body that is over in one turn is not worth the calls that this takes.
    let mut on_demand = None;
    let mut this_turn = 0;
    while *taken < left || pipe.filled > 0 {
        if pipe.filled == 0 {
            match pipe.fill(upstream, left - *taken) {
                Ok(Some(0)) => return Err(End::Upstream(body.failure(Kind::Truncated))),
                Ok(Some(count)) => *taken += count as u64,
                Ok(None) => {
                    upstream_watch.arm(body.read_timeout(), Shut::Both);
                    match &on_demand {
                        None => upstream.readable().await,
                        Some(arrives) => OnDemand::readable(arrives).await,
                    }
                    upstream_watch.disarm();
                    if body.connection().ended() != Ended::No {
                        return Err(End::Upstream(body.failure(Kind::Reset)));
                    }
                    this_turn = 0;
                    continue;
                }
                Err(_) => return Err(End::Upstream(body.failure(Kind::Reset))),
            }
        }
        let is_full = match pipe.drain(client) {
            Ok(Some(count)) => {
                *sent += count as u64;
                this_turn += count;
                false
            }
            Ok(None) => true,
            Err(_) => return Err(End::Client),
        };
        if !is_full && this_turn < TURN_BYTES {
            continue;
        }
        on_demand.get_or_insert_with(|| upstream_watch.on_demand());
        if is_full {
            // When the client's socket is reported, there is room for a good deal.
            let client_write = exchange.local.timeouts.client_write;
            client_writable(client, client_write).await.map_err(|_| End::Client)?;
        } else {
            exchange.core.watches.turns.next().await;
        }
        this_turn = 0;
    }
    Ok(())
}
