//! Requests that wait for an answer of the control thread.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    task::{Poll, Waker},
};

use crate::handoff::message::Answer;

/// The calls of one core that are under way.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waiting>>,
}

#[derive(Debug)]
enum Waiting {
    Asked,
    Polled(Waker),
    Answered(Answer),
}

impl Calls {
    /// A ticket for a new call.
    pub(crate) fn open(&self) -> u64 {
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        self.waiting.borrow_mut().insert(ticket, Waiting::Asked);
        ticket
    }

    /// Forgets a call whose client is gone.
    pub(crate) fn close(&self, ticket: u64) {
        self.waiting.borrow_mut().remove(&ticket);
    }

    /// Hands an answer to the request that waits for it.
    pub(crate) fn answer(&self, ticket: u64, answer: Answer) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(entry) = waiting.get_mut(&ticket)
            && let Waiting::Polled(waker) = std::mem::replace(entry, Waiting::Answered(answer))
        {
            waker.wake();
        }
    }

    /// Ends all calls without an answer.
    pub(crate) fn end(&self) {
        for (_, entry) in self.waiting.borrow_mut().drain() {
            if let Waiting::Polled(waker) = entry {
                waker.wake();
            }
        }
    }

    /// Waits for the answer; `None` when there will be none.
    pub(crate) async fn wait(&self, ticket: u64) -> Option<Answer> {
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            match waiting.remove(&ticket) {
                None => Poll::Ready(None),
                Some(Waiting::Answered(answer)) => Poll::Ready(Some(answer)),
                Some(Waiting::Asked | Waiting::Polled(_)) => {
                    waiting.insert(ticket, Waiting::Polled(context.waker().clone()));
                    Poll::Pending
                }
            }
        })
        .await
    }
}
