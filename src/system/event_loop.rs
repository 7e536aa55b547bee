//! The event loop of one core: run what can run, send what has come together, wait for sockets.
//!
//! The runtime (monoio) runs the tasks. It is entered for one round of them at a time, and the wait
//! between is here: one system call for each turn of the loop, in the epoll instance that knows all
//! sockets, the timer and the bells of other threads. (A turn of a busy core that pauses may have
//! more.) The runtime itself has nothing to wait for, so that its own event loop is never entered.
//!
//! A core may wait only when no task can run. The runtime does not tell, so each task counts when
//! it runs ([`spawn`]): a round in which none did found none.
//!
//! A task gives out wakers that are a number (`numbered_waker`). Those of the runtime count
//! references with atomic operations, each of which waits until the processor has written what it
//! was told to write before, such as a response that is about to be sent. So a task is kept until
//! it ends or its loop does, even if nobody can wake it any more.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    mem::ManuallyDrop,
    pin::{Pin, pin},
    ptr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker},
};

use monoio::{LegacyDriver, RuntimeBuilder, task::JoinHandle};
use slab::Slab;

/// Rounds of tasks after which the sockets are looked at, though some task can run still. Tasks
/// that a look has woken run in the first, and those that they wake in the next: streams of HTTP/2
/// and their connection wake each other many times until all that has arrived is passed on.
const ROUNDS_MAX: u32 = 32;

thread_local! {
    /// Runs of tasks of this thread so far.
    static RUNS: Cell<u64> = const { Cell::new(0) };
    /// The runtime's wakers of the tasks of this thread that have run and are not over.
    static TASKS: RefCell<Slab<Waker>> = const { RefCell::new(Slab::new()) };
    /// Loops of this thread that have ended.
    static LOOP: Cell<u64> = const { Cell::new(0) };
    /// The sockets that the loop of this thread waits for.
    static WAITED_FOR: RefCell<Option<Rc<dyn Sockets>>> = const { RefCell::new(None) };
}

/// The sockets of one core, as far as its event loop has to do with them.
pub(super) trait Sockets {
    /// Sends what has come together. Returns true if that was anything.
    fn submit_sends(&self) -> bool;

    /// Wakes whoever waits for something that has happened, and the tasks that let others go first.
    /// Waits until something happens if it may, and no such task waits; it may pause before that.
    fn look(&self, may_wait: bool);
}

/// Runs `future` as a task of the calling thread's event loop. Every task of an event loop must be
/// started here: of others the loop does not know that they can run.
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output>
where
    F::Output: 'static,
{
    monoio::spawn(Counted { future, place: Place::default() })
}

/// Runs of tasks of the calling thread so far.
pub(super) fn runs() -> u64 {
    RUNS.get()
}

pin_project_lite::pin_project! {
    /// A task that counts when it runs.
    struct Counted<F> {
        #[pin]
        future: F,
        place: Place,
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        RUNS.set(RUNS.get() + 1);
        let this = self.project();
        let waker = numbered_waker(this.place.of(context));
        this.future.poll(&mut Context::from_waker(&waker))
    }
}

/// The place of a task in [`TASKS`], from its first run on.
#[derive(Default)]
struct Place(Option<Taken>);

#[derive(Clone, Copy)]
struct Taken {
    place: usize,
    /// The loop that had it: another one on the same thread has other tasks.
    of_loop: u64,
}

impl Place {
    /// The place of the task that runs in this context.
    #[inline]
    fn of(&mut self, context: &Context<'_>) -> usize {
        let take = || Taken {
            place: TASKS.with_borrow_mut(|tasks| tasks.insert(context.waker().clone())),
            of_loop: LOOP.get(),
        };
        self.0.get_or_insert_with(take).place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(Taken { place, .. }) = self.0.filter(|taken| taken.of_loop == LOOP.get()) else {
            return;
        };
        // A thread that ends has no tasks left.
        let removed = TASKS.try_with(|tasks| tasks.borrow_mut().try_remove(place));
        // Dropped when nothing is borrowed: with the last waker of a task its future is dropped.
        drop(removed);
    }
}

/// A waker of the task in this place, which costs nothing to clone or to drop. One that is left
/// over when its task has ended wakes the next task in that place, or none. On another thread it
/// wakes none of this one.
#[inline]
fn numbered_waker(place: usize) -> ManuallyDrop<Waker> {
    let raw = RawWaker::new(ptr::without_provenance(place), &NUMBERED);
    // SAFETY: the functions take the pointer for a number and own nothing, so that they may be
    // called on any thread, in any order and any number of times (`RawWakerVTable`). What they look
    // the number up in belongs to the thread that calls.
    #[expect(unsafe_code, reason = "a waker without a reference count has no safe constructor")]
    let waker = unsafe { Waker::from_raw(raw) };
    ManuallyDrop::new(waker)
}

static NUMBERED: RawWakerVTable =
    RawWakerVTable::new(|place| RawWaker::new(place, &NUMBERED), wake, wake, |_| {});

fn wake(place: *const ()) {
    let wake = |tasks: &RefCell<Slab<Waker>>| {
        tasks.borrow().get(place.addr()).into_iter().for_each(Waker::wake_by_ref);
    };
    // A thread that ends has no tasks left.
    let _ = TASKS.try_with(wake);
}

/// Makes the loop of this thread wait for these sockets, and for no others.
pub(super) fn wait_for(sockets: Rc<dyn Sockets>) {
    WAITED_FOR.set(Some(sockets));
}

/// Builds an event loop on the calling thread and runs the future that `start` makes. It is to
/// start a [`Reactor`](crate::system::reactor::Reactor), without which the loop waits for nothing.
/// Wakers of its tasks are for this thread only; other threads ring a bell that is a socket.
///
/// # Errors
/// When the kernel has no descriptors left.
pub fn run<F: Future>(start: impl FnOnce() -> F) -> io::Result<F::Output> {
    // The runtime's own events are never waited for, so it gets the least room for them.
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().with_entries(256).build()?;
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut main = pin!(start());
    // Tasks end before what they may have been given of this.
    let _guard = WaitGuard;
    let mut turn = Turn::default();
    loop {
        // The runtime polls this when it has run the tasks that could, and returns.
        let round = poll_fn(|_| {
            if woken.0.swap(false, Ordering::Relaxed) {
                RUNS.set(RUNS.get() + 1);
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return Poll::Ready(Some(output));
                }
            }
            turn.end_round();
            Poll::Ready(None)
        });
        if let Some(output) = runtime.block_on(round) {
            return Ok(output);
        }
    }
}

/// Makes the thread wait for no sockets any more when dropped, be it by a panic, and drops its
/// tasks.
struct WaitGuard;

impl Drop for WaitGuard {
    fn drop(&mut self) {
        WAITED_FOR.set(None);
        LOOP.set(LOOP.get() + 1);
        drop(TASKS.take());
    }
}

/// Set when the main future can go on.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The present turn of the loop.
#[derive(Default)]
struct Turn {
    /// Rounds of tasks since the last look.
    rounds: u32,
    /// Runs of tasks before the present round.
    runs_before: u64,
}

impl Turn {
    /// A round of tasks is over. Ends the turn if nothing more can run in it.
    fn end_round(&mut self) {
        let runs = RUNS.get();
        let could_run = std::mem::replace(&mut self.runs_before, runs) != runs;
        self.rounds += 1;
        if could_run && self.rounds < ROUNDS_MAX {
            return;
        }
        let Some(sockets) = WAITED_FOR.with_borrow(Option::clone) else {
            // Before there is a reactor there is nothing to wait in.
            if !could_run {
                std::thread::yield_now();
            }
            return;
        };
        // Those who hear of the outcome of a send can run.
        let has_sent = sockets.submit_sends();
        if has_sent && self.rounds < ROUNDS_MAX {
            return;
        }
        self.rounds = 0;
        sockets.look(!could_run && !has_sent);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::system::{
        reactor::Reactor,
        socket::{Socket, pair},
    };

    /// Links of a chain of tasks, each of which wakes the next: one can run at a time, so that the
    /// runtime runs a few of them in a round.
    const LINKS: usize = 1_000;

    #[test]
    fn the_loop_does_not_wait_while_one_task_wakes_another() {
        run(|| async {
            let reactor = Reactor::start().unwrap();
            let wakers: Rc<Vec<Cell<Option<Waker>>>> =
                Rc::new((0..=LINKS).map(|_| Cell::default()).collect());
            for link in 0..LINKS {
                let wakers = Rc::clone(&wakers);
                let mut has_waited = false;
                spawn(poll_fn(move |context| {
                    if std::mem::replace(&mut has_waited, true) {
                        wakers[link + 1].take().into_iter().for_each(Waker::wake);
                        return Poll::Ready(());
                    }
                    wakers[link].set(Some(context.waker().clone()));
                    Poll::Pending
                }));
            }
            // Now all of them wait, and so does this.
            reactor.turns.next().await;
            let before = reactor.poller.waits();
            let mut has_begun = false;
            poll_fn(|context| {
                if std::mem::replace(&mut has_begun, true) {
                    return Poll::Ready(());
                }
                wakers[LINKS].set(Some(context.waker().clone()));
                wakers[0].take().into_iter().for_each(Waker::wake);
                Poll::Pending
            })
            .await;
            assert_eq!(reactor.poller.waits(), before);
        })
        .unwrap();
    }

    /// A task that waits for ever and counts when it runs, and its first waker.
    fn waits_for_ever(runs: &Rc<Cell<u32>>) -> Rc<Cell<Option<Waker>>> {
        let (runs, first) = (Rc::clone(runs), Rc::new(Cell::new(None)));
        let given = Rc::clone(&first);
        spawn(poll_fn(move |context| {
            runs.set(runs.get() + 1);
            let known = given.take().unwrap_or_else(|| context.waker().clone());
            given.set(Some(known));
            Poll::<()>::Pending
        }));
        first
    }

    #[test]
    fn a_waker_wakes_its_task_as_often_as_it_is_asked_to_and_on_this_thread_only() {
        run(|| async {
            let reactor = Reactor::start().unwrap();
            let (one, other) = (Rc::default(), Rc::default());
            let waker = waits_for_ever(&one);
            waits_for_ever(&other);
            reactor.turns.next().await;
            assert_eq!((one.get(), other.get()), (1, 1));
            let waker = waker.take().unwrap();
            waker.wake_by_ref();
            reactor.turns.next().await;
            assert_eq!((one.get(), other.get()), (2, 1));
            let another = waker.clone();
            waker.wake();
            reactor.turns.next().await;
            assert_eq!((one.get(), other.get()), (3, 1));
            std::thread::spawn(move || another.wake()).join().unwrap();
            reactor.turns.next().await;
            assert_eq!((one.get(), other.get()), (3, 1));
        })
        .unwrap();
    }

    #[test]
    fn a_waker_that_is_left_over_harms_nobody() {
        let left = Rc::new(Cell::new(None));
        let given = Rc::clone(&left);
        run(|| async {
            let reactor = Reactor::start().unwrap();
            spawn(poll_fn(move |context| {
                given.set(Some(context.waker().clone()));
                Poll::Ready(())
            }))
            .await;
            let left = left.take().unwrap();
            left.wake_by_ref();
            let runs = Rc::default();
            waits_for_ever(&runs);
            reactor.turns.next().await;
            assert_eq!(runs.get(), 1);
            // This one has its place.
            left.wake_by_ref();
            reactor.turns.next().await;
            assert_eq!(runs.get(), 2);
            reactor.turns.next().await;
            assert_eq!(runs.get(), 2);
            left
        })
        .unwrap()
        .wake();
    }

    #[test]
    fn a_task_that_outlives_its_loop_takes_no_place_of_the_next() {
        // The handle keeps the task, and with it the place that it had.
        let handle = run(|| async {
            let reactor = Reactor::start().unwrap();
            let handle = spawn(std::future::pending::<()>());
            reactor.turns.next().await;
            [handle]
        });
        run(|| async {
            let reactor = Reactor::start().unwrap();
            let runs = Rc::default();
            let waker = waits_for_ever(&runs);
            reactor.turns.next().await;
            drop(handle);
            waker.take().unwrap().wake();
            reactor.turns.next().await;
            assert_eq!(runs.get(), 2);
        })
        .unwrap();
    }

    #[test]
    fn tasks_that_wait_are_dropped_with_their_loop() {
        let runs = Rc::default();
        let waker = run(|| async {
            let reactor = Reactor::start().unwrap();
            let waker = waits_for_ever(&runs);
            reactor.turns.next().await;
            waker
        });
        assert_eq!(Rc::strong_count(&runs), 1);
        assert_eq!(Rc::strong_count(&waker.unwrap()), 1);
    }

    #[test]
    fn the_loop_does_not_wait_while_a_task_waits_for_its_turn() {
        run(|| async {
            let reactor = Reactor::start().unwrap();
            let before = reactor.poller.waits();
            for _ in 0..10 {
                reactor.turns.next().await;
            }
            assert_eq!(reactor.poller.waits(), before);
        })
        .unwrap();
    }

    #[test]
    fn a_loop_without_anything_to_do_waits_for_its_ticks() {
        run(|| async {
            let reactor = Reactor::start().unwrap();
            let beats = Rc::new(Cell::new(0));
            let (beating, counted) = (Rc::clone(&reactor), Rc::clone(&beats));
            spawn(async move { beating.every_tick(|| counted.set(counted.get() + 1)).await });
            let before = reactor.poller.looks();
            reactor.sleep(Duration::from_millis(350)).await;
            // One for each tick, and for the sleeper.
            let looks = reactor.poller.looks() - before;
            assert!(looks <= 2 * (beats.get() + 1), "{looks} looks, {} ticks", beats.get());
        })
        .unwrap();
    }

    #[test]
    fn the_main_future_is_polled_only_when_it_is_woken() {
        run(|| async {
            let reactor = Reactor::start().unwrap();
            let mut polls = 0;
            let (ours, theirs) = pair().unwrap();
            let socket = Rc::new(Socket::new(ours, &reactor).unwrap());
            let waiting = Rc::clone(&socket);
            spawn(async move {
                waiting.readable().await;
                drop(theirs);
            });
            let mut sleep = pin!(reactor.sleep(Duration::from_millis(250)));
            poll_fn(|context| {
                polls += 1;
                sleep.as_mut().poll(context)
            })
            .await;
            assert_eq!(polls, 2);
        })
        .unwrap();
    }

    #[test]
    fn a_loop_that_has_ended_waits_for_no_sockets_also_after_a_panic() {
        for panics in [false, true] {
            let ended = std::panic::catch_unwind(|| {
                run(|| async {
                    let reactor = Reactor::start().unwrap();
                    let (ours, theirs) = pair().unwrap();
                    let socket = Socket::new(ours, &reactor).unwrap();
                    drop(theirs);
                    assert_eq!(socket.recv(&mut [0; 8]).await.unwrap(), 0);
                    assert!(!panics, "on purpose");
                })
            });
            assert_eq!(ended.is_err(), panics);
            assert!(WAITED_FOR.with_borrow(Option::is_none));
        }
    }
}
