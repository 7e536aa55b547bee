//! Giving others on the same core their turn.
//!
//! A task that always finds its sockets ready never waits, and then neither the event loop nor a
//! timer runs. Waking oneself does not help: the runtime looks at timers only when no task is
//! runnable. So a busy task waits for a byte that it sends to itself through the event loop.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    task::{Poll, Waker},
};

use crate::system::{
    ring::IoKind,
    socket::{Socket, pair},
    watch::Watches,
};

/// Body bytes that may be moved without waiting before others get their turn: about a tenth of a
/// millisecond of work.
pub const TURN_BYTES: usize = 1_048_576;

/// Requests of one connection that may be answered without waiting before others get their turn.
pub const TURN_REQUESTS: u32 = 32;

/// The tasks of one core that wait for their next turn.
#[derive(Debug)]
pub struct Turns {
    bell: Socket,
    rope: OwnedFd,
    rung: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
    io: IoKind,
}

impl Turns {
    /// Starts serving turns on the event loop of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no descriptors left.
    pub fn start(io: IoKind, watches: &Rc<Watches>) -> io::Result<Rc<Self>> {
        let (bell, rope) = pair()?;
        let turns = Rc::new(Self {
            bell: Socket::new(bell, watches)?,
            rope,
            rung: Cell::new(false),
            waiting: RefCell::default(),
            io,
        });
        monoio::spawn(serve(Rc::clone(&turns)));
        Ok(turns)
    }

    /// Completes a turn that a wait for readiness began. A ring's wait is a trip through the event
    /// loop; one over epoll ends at once when the socket is ready.
    pub async fn after_readiness(&self) {
        if self.io == IoKind::Epoll {
            self.next().await;
        }
    }

    /// Completes after the event loop has looked at everything else once.
    pub async fn next(&self) {
        let mut asked = false;
        poll_fn(|context| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            if !self.rung.replace(true) {
                let _ = socket2::SockRef::from(&self.rope)
                    .send_with_flags(&[0], libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
            }
            Poll::Pending
        })
        .await;
    }
}

async fn serve(turns: Rc<Turns>) {
    let mut rung = [0_u8; 16];
    while turns.bell.recv(&mut rung).await.is_ok_and(|length| length > 0) {
        turns.rung.set(false);
        turns.waiting.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::ring::{self, IoChoice};

    #[test]
    fn a_task_that_never_waits_otherwise_leaves_others_and_timers_their_turn() {
        for choice in [IoChoice::Auto, IoChoice::Epoll] {
            let turns_taken = ring::run(choice, |io, _| async move {
                let watches = Rc::new(Watches::default());
                let turns = Turns::start(io, &watches).unwrap();
                let over = Rc::new(Cell::new(false));
                let busy = (0..3).map(|_| {
                    let (turns, over) = (Rc::clone(&turns), Rc::clone(&over));
                    monoio::spawn(async move {
                        let mut taken = 0_u64;
                        while !over.get() {
                            turns.next().await;
                            taken += 1;
                        }
                        taken
                    })
                });
                let busy: Vec<_> = busy.collect();
                crate::system::watch::sleep(std::time::Duration::from_millis(5)).await;
                over.set(true);
                let mut all = Vec::new();
                for task in busy {
                    all.push(task.await);
                }
                all
            })
            .unwrap();
            assert!(turns_taken.iter().all(|taken| *taken > 0), "{turns_taken:?}");
        }
    }
}
