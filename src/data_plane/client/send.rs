//! Sending to a client, which has a time for each step of progress.

use std::{io, time::Duration};

use crate::{
    data_plane::exchange::client::ClientGone,
    system::{reactor::CloseReason, stream::Stream},
};

/// Sends what the client takes at once of `first` and `second`, where sends go out one by one, and
/// adds its length to `taken`. `None` if something is left for [`deliver`].
pub(super) fn deliver_at_once(
    stream: &Stream,
    first: &[u8],
    second: &[u8],
    ends: bool,
    taken: &mut usize,
) -> Option<Result<(), ClientGone>> {
    if !stream.sends_alone() {
        return None;
    }
    match stream.try_write_part(first, second, ends) {
        Ok(sent) => *taken += sent.unwrap_or(0),
        Err(error) => return Some(Err(gone(error))),
    }
    if *taken < first.len() + second.len() {
        return None;
    }
    match stream.try_flush() {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(error) => Some(Err(gone(error))),
    }
}

/// Sends what the client has not `taken` of `first`, which it may empty, and of `second`, giving
/// the client `client_write` for each step of progress; also all bytes that its socket took. Where
/// `ends` is set they are the last ones on the connection.
pub(super) fn deliver(
    stream: &Stream,
    client_write: Duration,
    first: &mut Vec<u8>,
    second: &[u8],
    ends: bool,
    mut taken: usize,
) -> impl Future<Output = (Result<(), ClientGone>, usize)> {
    async move {
        let mut of_first = taken.min(first.len());
        let mut second = second.get(taken - of_first..).unwrap_or_default();
        if taken == 0 && second.is_empty() {
            match stream.write_together(first).await {
                Ok(count) if first.is_empty() => return (Ok(()), count),
                // The rest is left in it.
                Ok(count) => (taken, of_first) = (count, 0),
                Err(error) => return (Err(gone(error)), 0),
            }
        }
        let mut first = first.get(of_first..).unwrap_or_default();
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
