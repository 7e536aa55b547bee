//! The rest of a plain body, moved from socket to socket inside the kernel.

use std::time::Duration;

use crate::{
    data_plane::{
        client::send::writable,
        core::Core,
        exchange::client::Cut,
        upstream::{body::Body, error::Kind},
    },
    system::{
        reactor::{CloseReason, OnDemand},
        socket::Socket,
        splice::{LONG_BYTES_MIN, Pipe, PipeInUse},
        stream::Stream,
    },
};

/// The client's side of a body that is moved.
#[derive(Debug)]
pub(super) struct Destination<'d> {
    pub(super) stream: &'d Stream,
    /// Time in which the client has to take a part.
    pub(super) client_write: Duration,
    /// Bytes that its socket took.
    pub(super) sent: &'d mut u64,
}

/// Moves the rest of the body. False when it is not worth it, or the kernel has no pipe for it:
/// copy instead.
pub(super) async fn relay(
    core: &Core,
    body: &mut Body<'_>,
    mut client: Destination<'_>,
) -> Result<bool, Cut> {
    let Some(left) = body.left_to_splice() else { return Ok(false) };
    body.release_buffer();
    let upstream = body.connection().stream().splice_fd();
    let Some(sockets) = upstream.zip(client.stream.splice_fd()) else { return Ok(false) };
    let mut taken_pipe = core.pipes.take(left, core.reactor.clock.coarse());
    let Some(pipe) = taken_pipe.as_mut().and_then(PipeInUse::pipe) else { return Ok(false) };
    let mut taken = 0;
    let moved = pump(core, body, sockets, pipe, &mut client, left, &mut taken).await;
    body.spliced(taken);
    moved.map(|()| true)
}

/// Moves `left` bytes, counting those that have left the upstream socket and those that have
/// reached the client's.
async fn pump(
    core: &Core,
    body: &Body<'_>,
    (upstream, client_socket): (&Socket, &Socket),
    pipe: &mut Pipe,
    client: &mut Destination<'_>,
    left: u64,
    taken: &mut u64,
) -> Result<(), Cut> {
    let upstream_registration = upstream.registration();
    // Reporting on demand takes calls, which only a body with much to come earns back.
    let mut on_demand = None;
    let mut this_turn = 0;
    while *taken < left || pipe.filled > 0 {
        if pipe.filled == 0 {
            match pipe.fill(upstream, left - *taken) {
                Ok(Some(0)) => return Err(Cut::Upstream(body.failure(Kind::Truncated))),
                Ok(Some(count)) => *taken += count as u64,
                Ok(None) => {
                    // Finding nothing has used up the wake-up of an end that came before.
                    if body.connection().ended() == CloseReason::ClientGone {
                        return Err(Cut::Upstream(body.failure(Kind::Reset)));
                    }
                    let deadline = upstream_registration.deadline(body.read_timeout());
                    match &on_demand {
                        None => upstream.readable().await,
                        Some(arrives) => OnDemand::readable(arrives).await,
                    }
                    drop(deadline);
                    if body.connection().ended() != CloseReason::Open {
                        return Err(Cut::Upstream(body.failure(Kind::Reset)));
                    }
                    this_turn = 0;
                    continue;
                }
                Err(_) => return Err(Cut::Upstream(body.failure(Kind::Reset))),
            }
        }
        let is_full = match pipe.empty(client_socket) {
            Ok(Some(count)) => {
                *client.sent += count as u64;
                this_turn += count;
                false
            }
            Ok(None) => true,
            Err(_) => return Err(Cut::Client),
        };
        if !is_full && this_turn < core.reactor.turns.spliced_bytes() {
            continue;
        }
        if left - *taken >= LONG_BYTES_MIN {
            on_demand.get_or_insert_with(|| upstream_registration.on_demand());
        }
        if is_full {
            // When the client's socket is reported, there is room for a good deal.
            writable(client.stream, client.client_write).await?;
        } else {
            core.reactor.turns.next().await;
        }
        this_turn = 0;
    }
    Ok(())
}
