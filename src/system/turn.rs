//! Giving others on the same core their turn.
//!
//! A task that always finds its sockets ready never waits, and then the event loop does not run.
//! Waking oneself does not help: the runtime runs such a task again before all others. So a busy
//! task waits until the event loop has gone round.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Poll, Waker},
};

/// Body bytes that may be moved without waiting before others get their turn: about a tenth of a
/// millisecond of work.
pub const TURN_BYTES: usize = 1_048_576;

/// The same for bytes that the kernel moves from socket to socket, several times faster than they
/// can be copied.
const TURN_SPLICED_BYTES: usize = 4 * 1_048_576;

/// The least that a body moves in its turn, in bytes, however many others there are.
const TURN_SPLICED_BYTES_MIN: usize = 262_144;

/// The most tasks of a turn of which each may move [`TURN_SPLICED_BYTES`]. More of them share what
/// so many would move, down to [`TURN_SPLICED_BYTES_MIN`] each.
const TURN_FULL_TASKS: usize = 8;

/// Requests of one connection that may be answered without waiting before others get their turn.
pub const TURN_REQUESTS: u32 = 32;

/// The tasks of one core that wait for their next turn.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: RefCell<Vec<Waker>>,
    /// Tasks that the present turn has woken: those that waited for it, and one for each event.
    woken: Cell<usize>,
}

impl Turns {
    /// Completes after the event loop has looked at everything else once.
    pub async fn next(&self) {
        let mut asked = false;
        poll_fn(|context| {
            if std::mem::replace(&mut asked, true) {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Returns true if some task waits, so that the event loop must not.
    pub(super) fn are_awaited(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Bytes of a spliced body that may be moved in the present turn before others get theirs.
    pub fn spliced_bytes(&self) -> usize {
        let all = TURN_FULL_TASKS * TURN_SPLICED_BYTES;
        (all / self.woken.get().max(TURN_FULL_TASKS)).max(TURN_SPLICED_BYTES_MIN)
    }

    /// The event loop has gone round, and found so many events.
    pub(super) fn begin(&self, events: usize) {
        self.woken.set(events + self.waiting.borrow().len());
        if self.are_awaited() {
            self.waiting.take().into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::fd::AsRawFd, rc::Rc};

    use super::*;
    use crate::system::{
        event_loop,
        reactor::{CloseReason, Reactor},
        socket::{Socket, pair},
    };

    #[test]
    fn a_task_that_never_waits_otherwise_leaves_others_and_timers_their_turn() {
        let turns_taken = event_loop::run(|| async move {
            let reactor = Reactor::start().unwrap();
            let over = Rc::new(Cell::new(false));
            let busy = (0..3).map(|_| {
                let (reactor, over) = (Rc::clone(&reactor), Rc::clone(&over));
                event_loop::spawn(async move {
                    let mut taken = 0_u64;
                    while !over.get() {
                        reactor.turns.next().await;
                        taken += 1;
                    }
                    taken
                })
            });
            let busy: Vec<_> = busy.collect();
            reactor.sleep(std::time::Duration::from_millis(5)).await;
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

    #[test]
    fn a_turn_with_many_tasks_moves_less_of_each_body() {
        let turns = Turns::default();
        let moved =
            [(0, 0), (1, 0), (4, 4), (8, 8), (0, 64), (1_000, 1)].map(|(events, waiting)| {
                turns.waiting.borrow_mut().extend((0..waiting).map(|_| Waker::noop().clone()));
                turns.begin(events);
                turns.spliced_bytes()
            });
        let full = TURN_SPLICED_BYTES;
        assert_eq!(moved, [full, full, full, full / 2, full / 8, TURN_SPLICED_BYTES_MIN]);
    }

    /// Runs `test` on an event loop, which may come to hang. At every look at its sockets something
    /// has happened.
    fn under_a_flood<F: Future<Output = ()> + 'static>(test: fn(Rc<Reactor>) -> F) {
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let always_writable = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            event_loop::run(|| async {
                let reactor = Reactor::start().unwrap();
                reactor.poller.flood(always_writable.as_raw_fd());
                test(reactor).await;
            })
            .unwrap();
            let _ = done.send(());
        });
        let ended = is_done.recv_timeout(std::time::Duration::from_mins(1));
        assert!(ended.is_ok());
    }

    #[test]
    fn a_flood_of_events_does_not_keep_those_waiting_that_were_woken() {
        under_a_flood(|reactor| async move {
            let (ours, theirs) = pair().unwrap();
            let socket = Socket::new(ours, &reactor).unwrap();
            drop(theirs);
            socket.readable().await;
        });
    }

    #[test]
    fn waits_that_fail_do_not_stop_the_event_loop() {
        under_a_flood(|reactor| async move {
            reactor.poller.fail(3);
            let beating = Rc::clone(&reactor);
            event_loop::spawn(async move { beating.every_tick(|| beating.tick()).await });
            let (ours, _theirs) = pair().unwrap();
            let socket = Socket::new(ours, &reactor).unwrap();
            socket.registration().arm(std::time::Duration::from_millis(1));
            socket.readable().await;
            assert_eq!(socket.registration().close_reason(), CloseReason::Deadline);
        });
    }

    #[test]
    fn deadlines_sleepers_and_ticks_come_though_some_task_can_always_run() {
        under_a_flood(|reactor| async move {
            let over = Rc::new(Cell::new(false));
            // Two tasks wake each other for ever.
            let wakers: [Rc<Cell<Option<Waker>>>; 2] = Default::default();
            for (own, other) in [(0, 1), (1, 0)] {
                let (own, other) = (Rc::clone(&wakers[own]), Rc::clone(&wakers[other]));
                let over = Rc::clone(&over);
                event_loop::spawn(poll_fn(move |context| {
                    own.set(Some(context.waker().clone()));
                    other.take().into_iter().for_each(Waker::wake);
                    if over.get() { Poll::Ready(()) } else { Poll::Pending }
                }));
            }
            for _ in 0..100 {
                let (reactor, over) = (Rc::clone(&reactor), Rc::clone(&over));
                event_loop::spawn(async move {
                    while !over.get() {
                        reactor.turns.next().await;
                    }
                });
            }
            let beating = Rc::clone(&reactor);
            event_loop::spawn(async move { beating.every_tick(|| beating.tick()).await });
            let (ours, _theirs) = pair().unwrap();
            let socket = Socket::new(ours, &reactor).unwrap();
            socket.registration().arm(std::time::Duration::from_millis(1));
            socket.readable().await;
            assert_eq!(socket.registration().close_reason(), CloseReason::Deadline);
            reactor.sleep(std::time::Duration::from_millis(1)).await;
            over.set(true);
        });
    }
}
