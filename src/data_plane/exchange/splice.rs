//! A large plain body, moved from socket to socket inside the kernel.

use crate::{
    data_plane::exchange::{Exchange, body::Body, respond, stream::End},
    system::{
        splice::Pipe,
        turn::TURN_BYTES,
        watch::{Ended, Shut},
    },
    telemetry::labels::UpstreamError,
};

/// Moves the rest of the body. False when the kernel has no pipe for it: copy instead.
pub(crate) async fn relay(
    exchange: &Exchange<'_>,
    body: &mut Body<'_>,
    sent: &mut u64,
) -> Result<bool, End> {
    let Some(mut pipe) = exchange.core.pipes.take() else {
        return Ok(false);
    };
    let moved = pump(exchange, body, &mut pipe, sent).await;
    exchange.core.pipes.give_back(pipe);
    moved.map(|()| true)
}

async fn pump(
    exchange: &Exchange<'_>,
    body: &mut Body<'_>,
    pipe: &mut Pipe,
    sent: &mut u64,
) -> Result<(), End> {
    let read_timeout = body.read_timeout();
    let mut this_turn = 0;
    while let Some(left) = body.left_to_splice().filter(|left| *left > 0 || pipe.filled > 0) {
        if left > 0 && pipe.filled == 0 {
            match pipe.fill(body.connection.socket(), left) {
                Ok(Some(0)) => return Err(End::Upstream(ended(body, UpstreamError::Truncated))),
                Ok(Some(count)) => body.spliced(count as u64),
                Ok(None) => {
                    let socket = body.connection.socket();
                    socket.watch().arm(read_timeout, Shut::Both);
                    socket.readable().await;
                    socket.watch().disarm();
                    if body.connection.ended() != Ended::No {
                        return Err(End::Upstream(ended(body, UpstreamError::Reset)));
                    }
                    this_turn = 0;
                    continue;
                }
                Err(_) => return Err(End::Upstream(ended(body, UpstreamError::Reset))),
            }
        }
        match pipe.drain(exchange.socket) {
            Ok(Some(count)) => {
                *sent += count as u64;
                this_turn += count;
            }
            Ok(None) => {
                respond::client_writable(exchange).await;
                this_turn = 0;
            }
            Err(_) => return Err(End::Client),
        }
        if this_turn >= TURN_BYTES {
            exchange.core.watches.turns.next().await;
            this_turn = 0;
        }
    }
    Ok(())
}

fn ended(body: &Body<'_>, otherwise: UpstreamError) -> UpstreamError {
    match body.connection.ended() {
        Ended::Deadline => UpstreamError::ReadTimeout,
        _ => otherwise,
    }
}
