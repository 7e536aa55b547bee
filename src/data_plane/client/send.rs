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

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        os::unix::net::UnixStream,
        sync::mpsc::{Sender, channel},
        thread,
    };

    use super::*;
    use crate::system::{
        event_loop,
        reactor::Reactor,
        socket::{Socket, pair},
    };

    /// Two slices with different bytes, which together fit no socket of a pair.
    fn slices() -> (Vec<u8>, Vec<u8>) {
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        (bytes[..3_000].to_vec(), bytes[3_000..].to_vec())
    }

    /// Gives `send` a stream and the slices; returns what it returns and what the client got, which
    /// reads nothing before its sender is dropped.
    fn sent<F: Future<Output = T>, T>(
        send: impl FnOnce(Sender<()>, Stream, Vec<u8>, Vec<u8>) -> F,
    ) -> (T, Vec<u8>) {
        let (held, is_held) = channel();
        let mut client = None;
        let outcome = event_loop::run(|| async {
            let reactor = Reactor::start().unwrap();
            let (ours, theirs) = pair().unwrap();
            let mut theirs = UnixStream::from(theirs);
            theirs.set_nonblocking(false).unwrap();
            client = Some(thread::spawn(move || {
                assert!(is_held.recv().is_err());
                let mut got = Vec::new();
                theirs.read_to_end(&mut got).map(|_| got)
            }));
            let (first, second) = slices();
            send(held, Stream::Plain(Socket::new(ours, &reactor).unwrap()), first, second).await
        });
        (outcome.unwrap(), client.unwrap().join().unwrap().unwrap())
    }

    #[test]
    fn a_client_gets_all_bytes_once_wherever_it_stopped_to_take_them() {
        let (first, second) = slices();
        let whole = [first, second].concat();
        let client_write = Duration::from_mins(1);
        for begun in [0, 1, 2_999, 3_000, 3_001, 50_000] {
            let ((delivered, taken), got) = sent(|held, stream, mut first, second| async move {
                drop(held);
                let all = [&first[..], &second].concat();
                assert_eq!(stream.try_write(&all[..begun], &[]).unwrap().unwrap_or(0), begun);
                deliver(&stream, client_write, &mut first, &second, false, begun).await
            });
            assert_eq!((delivered.is_ok(), taken), (true, whole.len()), "{begun} taken before");
            assert!(got == whole, "{begun} taken before");
        }
    }

    #[test]
    fn what_is_sent_at_once_is_counted_and_not_sent_again() {
        let (first, second) = slices();
        let whole = [first, second].concat();
        let (taken, got) = sent(|held, stream, mut first, second| async move {
            let mut taken = 0;
            let at_once = deliver_at_once(&stream, &first, &second, false, &mut taken);
            drop(held);
            assert!(at_once.is_none() && taken > 0);
            let client_write = Duration::from_mins(1);
            let rest = deliver(&stream, client_write, &mut first, &second, false, taken).await;
            assert!(rest.0.is_ok());
            rest.1
        });
        assert_eq!(taken, whole.len());
        assert!(got == whole);
    }
}
