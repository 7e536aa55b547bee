//! One of the streams that share a socket: it has a deadline and a presence of its own, as a socket
//! has, and no descriptor.
//!
//! Whoever multiplexes the socket says when the peer has left a stream. What waits for something
//! else on behalf of the peer hears of it as it hears of a socket that was closed.

use std::{
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use crate::system::reactor::{CloseReason, Presence, Reactor, Registration};

/// No descriptor, which `poll(2)` passes over.
const NONE: i32 = -1;

/// One of the streams that share a socket.
#[derive(Debug)]
pub struct Substream(Registration);

impl Substream {
    /// A stream whose peer is there, without a deadline.
    pub fn new(reactor: &Rc<Reactor>) -> Self {
        Self(Registration::unwatched(reactor, NONE))
    }

    /// The peer, for sockets to wait on its behalf.
    pub fn presence(&self) -> Presence {
        self.0.presence(false)
    }

    /// Notes that the peer is gone, and wakes whoever waits on its behalf.
    pub fn leave(&self) {
        self.0.readiness.end();
    }

    /// Ends the present wait when `after` has passed.
    pub fn arm(&self, after: Duration) {
        self.0.arm(after);
    }

    /// Takes the deadline away.
    pub fn disarm(&self) {
        self.0.disarm();
    }

    /// Ready once the wait is to end, with the reason: the deadline has passed, or the process
    /// ends. One task at a time may wait.
    pub fn poll_over(&self, context: &Context<'_>) -> Poll<CloseReason> {
        match self.0.close_reason() {
            CloseReason::Open => {
                self.0.readiness.seen();
                let _ = self.0.readiness.poll_readable(context);
                Poll::Pending
            }
            over => Poll::Ready(over),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, os::fd::OwnedFd};

    use super::*;
    use crate::system::{
        event_loop,
        socket::{Socket, pair},
    };

    fn with_reactor<F: Future<Output = ()>>(test: impl Fn(Rc<Reactor>) -> F) {
        event_loop::run(|| async {
            let reactor = Reactor::start().unwrap();
            let beating = Rc::clone(&reactor);
            event_loop::spawn(async move { beating.every_tick(|| beating.tick()).await });
            test(reactor).await;
        })
        .unwrap();
    }

    async fn over(substream: &Substream) -> CloseReason {
        poll_fn(|context| substream.poll_over(context)).await
    }

    #[test]
    fn a_deadline_ends_each_wait_that_it_was_set_for() {
        with_reactor(|reactor| async move {
            let substream = Substream::new(&reactor);
            for _ in 0..2 {
                substream.arm(Duration::from_millis(1));
                assert_eq!(over(&substream).await, CloseReason::Deadline);
            }
            let others = reactor.len();
            drop(substream);
            assert_eq!(reactor.len(), others - 1);
        });
    }

    #[test]
    fn the_end_of_the_process_ends_a_wait_without_a_deadline() {
        with_reactor(|reactor| async move {
            let substream = Rc::new(Substream::new(&reactor));
            let waiting = Rc::clone(&substream);
            let task = event_loop::spawn(async move { over(&waiting).await });
            reactor.turns.next().await;
            reactor.end_all();
            assert_eq!(task.await, CloseReason::ClientGone);
        });
    }

    #[test]
    fn a_wait_on_behalf_of_a_peer_ends_when_it_leaves_the_stream() {
        with_reactor(|reactor| async move {
            let substream = Substream::new(&reactor);
            let (ours, _silent): (OwnedFd, OwnedFd) = pair().unwrap();
            let upstream = Rc::new(Socket::new(ours, &reactor).unwrap());
            upstream.registration().waits_for(Some(substream.presence()));
            let waiting = Rc::clone(&upstream);
            let task = event_loop::spawn(async move {
                waiting.readable().await;
                waiting.registration().close_reason()
            });
            // Longer than a wait is left unchecked.
            reactor.sleep(Duration::from_millis(350)).await;
            assert_eq!(upstream.registration().close_reason(), CloseReason::Open);
            substream.leave();
            assert_eq!(task.await, CloseReason::ClientGone);
        });
    }
}
