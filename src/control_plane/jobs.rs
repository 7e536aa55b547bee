//! Threads that may block, for the control thread that may not.
//!
//! A [`Runner`] does jobs of one kind, one after the other. Every job has an outcome, whatever
//! happens to it: its result, or the reason why there is none. A panic costs the job in which it
//! happened and nothing else. A job that is not done in time cannot be ended from outside (a read
//! from a network file system whose server is gone does not come back), so its thread is given up
//! and another one takes its place; what it may still find out is dropped.
//!
//! [`keep`] is for loops without jobs: a loop that panics begins again after a pause.
//!
//! Deliberately absent: schedules. Who wants a job repeated hands it in again.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::{
    control_plane::backoff::Backoff,
    system::{clock::Monotonic, process},
};

/// Nice value of threads that no request waits for: where a worker needs the processor, they get a
/// sixtieth of it.
const BACKGROUND_NICE: i32 = 19;

/// Threads of one runner that may hang at a time. Each holds its stack and what its job has built
/// so far; a file that hangs once hangs the next job too.
const HANGING_MAX: usize = 4;

/// Pause before a loop begins again after its first panic; it doubles with each further one.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);

/// Longest of these pauses.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Name and bounds of a runner.
#[derive(Clone, Copy, Debug)]
pub struct Purpose {
    /// Name of its thread, at most 15 bytes.
    pub name: &'static str,
    /// Time for one job.
    pub timeout: Duration,
    /// Called on the thread whenever no job is left.
    pub when_idle: fn(),
}

/// Number of a job, unique to its runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct JobId(u64);

/// Outcome of a job.
#[derive(Debug)]
pub struct Finished<R> {
    /// Number of the job.
    pub job: JobId,
    /// Its result.
    pub outcome: Result<R, Failure>,
}

/// Reason why a job has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It panicked.
    Panicked,
    /// It took longer than this.
    TimedOut(Duration),
    /// So many earlier jobs took too long and still hang.
    Hanging(usize),
    /// The kernel refused a thread.
    NoThread(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked => f.write_str("an internal error, which the log describes"),
            Self::TimedOut(timeout) => write!(
                f,
                "not done after {} s: a file or a device that it needs does not respond",
                timeout.as_secs_f64()
            ),
            Self::Hanging(count) => write!(
                f,
                "{count} earlier attempts still wait for a file or a device that does not respond"
            ),
            Self::NoThread(error) => write!(f, "no thread can be started: {error}"),
        }
    }
}

/// State of a runner's threads.
#[derive(Debug, Default)]
struct State {
    /// Number of the thread that takes jobs; earlier ones were given up.
    thread: u64,
    /// Cleared when there is no thread that takes jobs.
    is_staffed: bool,
    /// The job that the thread does, and since when.
    running: Option<(JobId, Monotonic)>,
    /// Threads that were given up and have not come back.
    hanging: usize,
}

struct Shared<J, R> {
    purpose: Purpose,
    work: Box<dyn Fn(J) -> R + Send + Sync>,
    todo: Receiver<(JobId, J)>,
    done: Sender<Finished<R>>,
    state: Mutex<State>,
}

impl<J, R> Shared<J, R> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, job: JobId, outcome: Result<R, Failure>) {
        // A receiver that is gone wants no outcomes.
        let _ = self.done.send(Finished { job, outcome });
    }
}

/// A thread that does jobs of one kind, from the outside.
pub struct Runner<J, R> {
    shared: Arc<Shared<J, R>>,
    jobs: Sender<(JobId, J)>,
    next: JobId,
}

impl<J, R> fmt::Debug for Runner<J, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Purpose { name, .. } = self.shared.purpose;
        f.debug_struct("Runner")
            .field("name", &name)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl<J: Send + 'static, R: Send + 'static> Runner<J, R> {
    /// Starts the thread; outcomes arrive at the receiver, in the order of the jobs.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        purpose: Purpose,
        work: impl Fn(J) -> R + Send + Sync + 'static,
    ) -> io::Result<(Self, Receiver<Finished<R>>)> {
        let (jobs, todo) = unbounded();
        let (done, finished) = unbounded();
        let state = Mutex::new(State { is_staffed: true, ..State::default() });
        let shared = Arc::new(Shared { purpose, work: Box::new(work), todo, done, state });
        spawn(&shared, 0)?;
        Ok((Self { shared, jobs, next: JobId(0) }, finished))
    }

    /// Hands in a job.
    pub fn submit(&mut self, job: J) -> JobId {
        let id = self.next;
        self.next = JobId(id.0 + 1);
        // `shared` holds a receiver.
        let _ = self.jobs.send((id, job));
        id
    }

    /// Gives up a job that is not done in time, and the thread with it. To be called every now and
    /// then with the time.
    pub fn check(&self, now: Monotonic) {
        let Purpose { name, timeout, .. } = self.shared.purpose;
        let mut state = self.shared.state();
        if let Some((job, since)) = state.running
            && now >= since.plus(timeout)
        {
            state.running = None;
            state.is_staffed = false;
            state.thread += 1;
            state.hanging += 1;
            tracing::error!(thread = name, hanging = state.hanging, "a job takes too long");
            self.shared.report(job, Err(Failure::TimedOut(timeout)));
        }
        if state.is_staffed {
            return;
        }
        let started = if state.hanging < HANGING_MAX {
            spawn(&self.shared, state.thread).map_err(|error| Failure::NoThread(error.to_string()))
        } else {
            Err(Failure::Hanging(state.hanging))
        };
        match started {
            Ok(()) => state.is_staffed = true,
            Err(failure) => {
                for (job, _) in self.shared.todo.try_iter() {
                    self.shared.report(job, Err(failure.clone()));
                }
            }
        }
    }
}

fn spawn<J, R>(shared: &Arc<Shared<J, R>>, thread: u64) -> io::Result<()>
where
    J: Send + 'static,
    R: Send + 'static,
{
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name(shared.purpose.name.to_owned())
        .spawn(move || {
            process::lower_priority(BACKGROUND_NICE);
            serve(&shared, thread);
        })
        .map(drop)
}

fn serve<J, R>(shared: &Shared<J, R>, thread: u64) {
    while let Ok((id, job)) = shared.todo.recv() {
        shared.state().running = Some((id, Monotonic::now()));
        let result = catch_unwind(AssertUnwindSafe(|| (shared.work)(job)));
        let mut state = shared.state();
        if state.thread != thread {
            state.hanging -= 1;
            tracing::warn!(
                thread = shared.purpose.name,
                hanging = state.hanging,
                "a job that took too long has come to its end; its result is dropped"
            );
            return;
        }
        state.running = None;
        // While the state is held: who sees the job ended may rely on its outcome being there.
        shared.report(id, result.map_err(|_| Failure::Panicked));
        drop(state);
        if shared.todo.is_empty() {
            (shared.purpose.when_idle)();
        }
    }
}

/// Runs a loop on a thread of its own until it returns. A loop that panics begins again after a
/// pause, so it must find all that it needs in what it owns.
///
/// # Errors
/// When the thread cannot be started.
pub fn keep(name: String, body: impl FnMut() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.clone())
        .spawn(move || restart_after_panics(&name, body, thread::sleep))
        .map(drop)
}

fn restart_after_panics(name: &str, mut body: impl FnMut(), mut pause: impl FnMut(Duration)) {
    let mut pauses = Backoff::new(RESTART_PAUSE_MIN, RESTART_PAUSE_MAX);
    loop {
        let started = Monotonic::now();
        if catch_unwind(AssertUnwindSafe(&mut body)).is_ok() {
            return;
        }
        if Monotonic::now() >= started.plus(RESTART_PAUSE_MAX) {
            pauses.succeed();
        }
        let next = pauses.fail();
        tracing::error!(thread = name, pause_s = next.as_secs_f64(), "a thread begins again");
        pause(next);
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    const TIMEOUT: Duration = Duration::from_mins(1);

    const PURPOSE: Purpose = Purpose { name: "yt-test", timeout: TIMEOUT, when_idle: || {} };

    /// A time at which every job that has started is late.
    fn late() -> Monotonic {
        Monotonic::now().plus(TIMEOUT)
    }

    #[test]
    fn a_panic_costs_one_job() {
        let (mut runner, finished) = Runner::start(PURPOSE, |number: u32| 10 / number).unwrap();
        let jobs = [5, 0, 2].map(|number| runner.submit(number));
        let outcomes = [Ok(2), Err(Failure::Panicked), Ok(5)];
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            let found = finished.recv().unwrap();
            assert_eq!((found.job, found.outcome), (job, outcome));
        }
    }

    #[test]
    fn a_job_that_hangs_is_given_up_and_the_next_ones_are_done() {
        let (release, held) = bounded::<()>(0);
        let (entering, started) = unbounded();
        let (mut runner, finished) = Runner::start(PURPOSE, move |hangs: bool| {
            entering.send(()).unwrap();
            if hangs {
                let _ = held.recv();
            }
            hangs
        })
        .unwrap();
        let hanging = runner.submit(true);
        let next = runner.submit(false);
        started.recv().unwrap();
        runner.check(Monotonic::now());
        assert!(finished.try_recv().is_err(), "it has all its time");
        runner.check(late());
        let found = finished.recv().unwrap();
        assert_eq!((found.job, found.outcome), (hanging, Err(Failure::TimedOut(TIMEOUT))));
        let found = finished.recv().unwrap();
        assert_eq!((found.job, found.outcome), (next, Ok(false)));
        // What it finds out later is news to nobody.
        release.send(()).unwrap();
        while runner.shared.state().hanging > 0 {
            thread::yield_now();
        }
        assert!(finished.try_recv().is_err());
        runner.submit(false);
        assert_eq!(finished.recv().unwrap().outcome, Ok(false));
    }

    #[test]
    fn with_many_threads_that_hang_jobs_fail_at_once_until_one_comes_back() {
        let (release, held) = bounded::<()>(0);
        let (entering, started) = unbounded();
        let (mut runner, finished) = Runner::start(PURPOSE, move |hangs: bool| {
            entering.send(()).unwrap();
            if hangs {
                let _ = held.recv();
            }
        })
        .unwrap();
        for _ in 0..HANGING_MAX {
            runner.submit(true);
            started.recv().unwrap();
            runner.check(late());
            assert_eq!(finished.recv().unwrap().outcome, Err(Failure::TimedOut(TIMEOUT)));
        }
        runner.submit(false);
        runner.check(Monotonic::now());
        assert_eq!(finished.recv().unwrap().outcome, Err(Failure::Hanging(HANGING_MAX)));
        release.send(()).unwrap();
        while runner.shared.state().hanging == HANGING_MAX {
            thread::yield_now();
        }
        runner.submit(false);
        runner.check(Monotonic::now());
        assert_eq!(finished.recv().unwrap().outcome, Ok(()));
        drop(release);
    }

    #[test]
    fn a_loop_that_panics_begins_again_after_pauses_that_grow() {
        let mut left = 12;
        let mut pauses = Vec::new();
        let body = || {
            left -= 1;
            assert_eq!(left, 0, "this one is meant to fail");
        };
        restart_after_panics("test", body, |pause| pauses.push(pause));
        assert_eq!(pauses.len(), 11);
        assert_eq!(pauses[..3], [1, 2, 4].map(|number| number * RESTART_PAUSE_MIN));
        assert_eq!(pauses[10], RESTART_PAUSE_MAX);
    }
}
