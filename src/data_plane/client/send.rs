//! Sending to a client, which has a time for each step of progress.

use std::{io, time::Duration};

use crate::{
    data_plane::exchange::client::ClientGone,
    system::{reactor::CloseReason, stream::Stream},
};

/// Sends `first`, which it may empty, and `second`, giving the client `client_write` for each step
/// of progress; also the bytes that its socket took. Where `ends` is set they are the last ones on
/// the connection.
pub(super) async fn deliver(
    stream: &Stream,
    client_write: Duration,
    first: &mut Vec<u8>,
    mut second: &[u8],
    ends: bool,
) -> (Result<(), ClientGone>, usize) {
    let mut taken = 0;
    if second.is_empty() {
        match stream.write_together(first).await {
            Ok(count) if first.is_empty() => return (Ok(()), count),
            Ok(count) => taken = count,
            Err(error) => return (Err(gone(error)), 0),
        }
    }
    let mut first = &**first;
    while !first.is_empty() || !second.is_empty() {
        if first.is_empty() {
            first = std::mem::take(&mut second);
        }
        match stream.try_write_part(first, second, ends) {
            Ok(Some(sent)) => {
                taken += sent;
                let of_first = sent.min(first.len());
                first = first.get(of_first..).unwrap_or_default();
                second = second.get(sent - of_first..).unwrap_or_default();
            }
            Ok(None) => {
                if let Err(gone) = writable(stream, client_write).await {
                    return (Err(gone), taken);
                }
            }
            Err(error) => return (Err(gone(error)), taken),
        }
    }
    // What follows may be long in coming: nothing is kept until then.
    let sent = loop {
        match stream.try_flush() {
            Ok(true) => break Ok(()),
            Ok(false) => {
                if let Err(gone) = writable(stream, client_write).await {
                    break Err(gone);
                }
            }
            Err(error) => break Err(gone(error)),
        }
    };
    (sent, taken)
}

/// The meaning of a failed send. Apart, so that the code of every response is not longer for it.
#[cold]
fn gone(error: io::Error) -> ClientGone {
    drop(error);
    ClientGone
}

/// Waits until the client takes more.
///
/// # Errors
/// It takes nothing for `client_write`, or the process ends. Its socket is left as it is: an
/// orderly end behind a part of a body that ends with the connection would make that look whole.
pub(super) async fn writable(stream: &Stream, client_write: Duration) -> Result<(), ClientGone> {
    let _deadline = stream.registration().sending_deadline(client_write);
    stream.writable().await;
    match stream.registration().close_reason() {
        CloseReason::Open => Ok(()),
        CloseReason::Deadline | CloseReason::ClientGone => Err(ClientGone),
    }
}
