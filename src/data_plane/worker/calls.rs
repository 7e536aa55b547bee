//! Requests that wait for an answer of the control thread.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    task::{Poll, Waker},
};

use crate::handoff::message::{Answer, Ticket, TicketWatch};

/// The calls of one core that are under way.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    ticket: TicketWatch,
}

#[derive(Debug)]
enum State {
    Asked,
    Polled(Waker),
    Answered(Answer),
}

impl Calls {
    /// A ticket for a new call.
    pub(crate) fn open(&self) -> Ticket {
        let number = self.next.get();
        self.next.set(number + 1);
        let ticket = Ticket::new(number);
        let waiting = Waiting { state: State::Asked, ticket: ticket.watch() };
        self.waiting.borrow_mut().insert(number, waiting);
        ticket
    }

    /// Forgets a call whose client is gone.
    pub(crate) fn close(&self, number: u64) {
        self.waiting.borrow_mut().remove(&number);
    }

    /// Hands an answer to the request that waits for it.
    pub(crate) fn answer(&self, ticket: &Ticket, answer: Answer) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(entry) = waiting.get_mut(&ticket.number())
            && let State::Polled(waker) =
                std::mem::replace(&mut entry.state, State::Answered(answer))
        {
            waker.wake();
        }
    }

    /// Ends all calls without an answer.
    pub(crate) fn end(&self) {
        self.end_those(|_| true);
    }

    /// Ends the calls whose ticket was dropped, so that no answer can come. Call it each tick.
    pub(crate) fn end_dropped(&self) {
        if !self.waiting.borrow().is_empty() {
            self.end_those(|call| {
                !matches!(call.state, State::Answered(_)) && call.ticket.is_dropped()
            });
        }
    }

    fn end_those(&self, ends: impl Fn(&Waiting) -> bool) {
        for (_, call) in self.waiting.borrow_mut().extract_if(|_, call| ends(call)) {
            if let State::Polled(waker) = call.state {
                waker.wake();
            }
        }
    }

    /// Waits for the answer; `None` when there will be none.
    pub(crate) async fn wait(&self, number: u64) -> Option<Answer> {
        poll_fn(|context| {
            let mut waiting = self.waiting.borrow_mut();
            let Some(call) = waiting.get_mut(&number) else { return Poll::Ready(None) };
            match std::mem::replace(&mut call.state, State::Polled(context.waker().clone())) {
                State::Answered(answer) => {
                    waiting.remove(&number);
                    Poll::Ready(Some(answer))
                }
                State::Asked | State::Polled(_) => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn answer(status: u16) -> Answer {
        Answer { status, content_type: "", code: "", body: [].into() }
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut std::task::Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_call_whose_ticket_was_dropped_ends_without_an_answer() {
        let calls = Calls::default();
        let (lost, kept) = (calls.open(), calls.open());
        let mut of_lost = pin!(calls.wait(lost.number()));
        let mut of_kept = pin!(calls.wait(kept.number()));
        calls.end_dropped();
        assert_eq!(
            (poll(of_lost.as_mut()), poll(of_kept.as_mut())),
            (Poll::Pending, Poll::Pending)
        );
        drop(lost);
        calls.end_dropped();
        assert_eq!(poll(of_lost.as_mut()), Poll::Ready(None));
        assert_eq!(poll(of_kept.as_mut()), Poll::Pending);
        calls.answer(&kept, answer(200));
        drop(kept);
        calls.end_dropped();
        assert_eq!(poll(of_kept.as_mut()), Poll::Ready(Some(answer(200))));
        assert!(calls.waiting.borrow().is_empty());
    }

    #[test]
    fn a_message_that_is_dropped_on_its_way_drops_the_ticket() {
        let calls = Calls::default();
        let (sending, receiving) = crossbeam_channel::unbounded();
        let ticket = calls.open();
        let mut waited = pin!(calls.wait(ticket.number()));
        sending.send(ticket).unwrap();
        calls.end_dropped();
        assert_eq!(poll(waited.as_mut()), Poll::Pending, "it may be read yet");
        drop(receiving);
        calls.end_dropped();
        assert_eq!(poll(waited.as_mut()), Poll::Ready(None));
    }
}
