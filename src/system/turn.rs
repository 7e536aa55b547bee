//! Giving others on the same core their turn.
//!
//! A task that always finds its sockets ready never waits, and then neither the event loop nor a
//! timer runs. Waking oneself does not help: the runtime looks at timers only when no task is
//! runnable. So a busy task waits until the event loop has gone round.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use crate::system::poller::Poller;

/// Body bytes that may be moved without waiting before others get their turn: about a tenth of a
/// millisecond of work.
pub const TURN_BYTES: usize = 1_048_576;

/// Requests of one connection that may be answered without waiting before others get their turn.
pub const TURN_REQUESTS: u32 = 32;

/// The tasks of one core that wait for their next turn.
#[derive(Debug)]
pub struct Turns {
    poller: Rc<Poller>,
    rung: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Turns {
    pub(super) fn new(poller: Rc<Poller>) -> Self {
        Self { poller, rung: Cell::new(false), waiting: RefCell::default() }
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
                self.poller.ring();
            }
            Poll::Pending
        })
        .await;
    }

    /// The event loop has gone round.
    pub(super) fn begin(&self) {
        self.rung.set(false);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::{
        ring::{self, IoChoice},
        watch::Watches,
    };

    #[test]
    fn a_task_that_never_waits_otherwise_leaves_others_and_timers_their_turn() {
        for choice in [IoChoice::Auto, IoChoice::Epoll] {
            let turns_taken = ring::run(choice, |_, _| async move {
                let watches = Watches::start().unwrap();
                let over = Rc::new(Cell::new(false));
                let busy = (0..3).map(|_| {
                    let (watches, over) = (Rc::clone(&watches), Rc::clone(&over));
                    monoio::spawn(async move {
                        let mut taken = 0_u64;
                        while !over.get() {
                            watches.turns.next().await;
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
