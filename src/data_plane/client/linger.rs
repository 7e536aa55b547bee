//! A lingering close (RFC 9112 section 9.6): our side ends first, and what the client still sends
//! is read for a while, since answering that with a reset could eat the tail of our response.

use std::time::Duration;

use crate::{
    data_plane::core::Core,
    system::{reactor::CloseReason, stream::Stream},
};

/// Time that a lingering close waits for the client to end its side, and as long again whenever it
/// has taken something of what the kernel still holds for it. Long enough for what it was still
/// sending to arrive, since answering that with a reset could eat the tail of our response (RFC
/// 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that a lingering close reads and throws away at most.
const LINGER_BYTES_MAX: usize = 4 * 1_048_576;

/// Ends our side, then reads and discards until the client has ended its own.
pub(super) async fn linger(core: &Core, stream: &Stream) {
    stream.finish();
    stream.registration().arm_sending(LINGER);
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX && stream.registration().close_reason() == CloseReason::Open
    {
        stream.readable().await;
        let mut buffer = core.buffers.small();
        match stream.try_read(&mut buffer) {
            Ok(Some(0)) | Err(_) => break,
            Ok(Some(count)) => discarded += count,
            // Records without data could come for ever.
            Ok(None) => core.reactor.turns.next().await,
        }
    }
}
