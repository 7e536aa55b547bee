//! Passing a body on: frames as they arrive from S3, or past this process where that is possible.

use crate::{
    data_plane::{
        core::Core,
        exchange::client::{Cut, ResponseWriter},
        upstream::body::{Body, Frame},
    },
    system::turn::TURN_BYTES,
};

/// Passes the rest of the body on, to its end.
///
/// # Errors
/// The side that ended it.
pub(super) fn stream(
    core: &Core,
    body: &mut Body<'_>,
    response: &mut impl ResponseWriter,
) -> impl Future<Output = Result<(), Cut>> {
    async move {
        let mut this_turn = 0;
        loop {
            match body.buffered().map_err(Cut::Upstream)? {
                Frame::Data(frame) if frame.is_empty() => {}
                Frame::Data(frame) => {
                    let bytes = body.bytes(frame);
                    this_turn += bytes.len();
                    if !response.gather(bytes) {
                        response.write(bytes).await?;
                    }
                }
                // What was written is sent or copied, so nobody holds its buffer for a wait.
                Frame::Wait => {
                    body.release_buffer();
                    response.flush().await?;
                    if this_turn >= TURN_BYTES {
                        core.reactor.turns.next().await;
                        this_turn = 0;
                    }
                    if !response.splice(body).await?
                        && !body.wait_for_room(|| response.room()).await.map_err(Cut::Upstream)?
                    {
                        response.wait_for_room().await?;
                    }
                }
                Frame::End => {
                    body.release_buffer();
                    return Ok(response.finish().await?);
                }
            }
        }
    }
}
