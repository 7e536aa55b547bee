//! Commands to the control thread that wait for their reply.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    task::{Poll, Waker},
};

use crate::handoff::message::{CallReply, Ticket, TicketView};

/// The commands of one core that are under way.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    ticket: TicketView,
}

#[derive(Debug)]
enum State {
    Sent,
    Polled(Waker),
    Replied(CallReply),
}

impl Commands {
    /// A ticket for a new command, and the reply that it is owed.
    pub(crate) fn open(&self) -> (Ticket, Reply<'_>) {
        let number = self.next.get();
        self.next.set(number + 1);
        let ticket = Ticket::new(number);
        let waiting = Waiting { state: State::Sent, ticket: ticket.view() };
        self.waiting.borrow_mut().insert(number, waiting);
        (ticket, Reply { commands: self, number })
    }

    /// Hands a reply to the request that waits for it.
    pub(crate) fn reply(&self, ticket: &Ticket, reply: CallReply) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(entry) = waiting.get_mut(&ticket.number())
            && let State::Polled(waker) = std::mem::replace(&mut entry.state, State::Replied(reply))
        {
            waker.wake();
        }
    }

    /// Ends all commands without a reply.
    pub(crate) fn end(&self) {
        self.end_those(|_| true);
    }

    /// Ends the commands whose ticket was dropped, so that no reply can come. Call it each tick.
    pub(crate) fn end_dropped(&self) {
        if !self.waiting.borrow().is_empty() {
            self.end_those(|command| {
                !matches!(command.state, State::Replied(_)) && command.ticket.is_dropped()
            });
        }
    }

    fn end_those(&self, ends: impl Fn(&Waiting) -> bool) {
        for (_, command) in self.waiting.borrow_mut().extract_if(|_, command| ends(command)) {
            if let State::Polled(waker) = command.state {
                waker.wake();
            }
        }
    }
}

/// The reply to a command. Dropping it forgets the command, whose client is gone or was told
/// something else.
#[derive(Debug)]
pub(crate) struct Reply<'c> {
    commands: &'c Commands,
    number: u64,
}

impl Reply<'_> {
    /// Waits for it; `None` when there will be none.
    pub(crate) async fn wait(&self) -> Option<CallReply> {
        poll_fn(|context| {
            let mut waiting = self.commands.waiting.borrow_mut();
            let Some(command) = waiting.get_mut(&self.number) else { return Poll::Ready(None) };
            match std::mem::replace(&mut command.state, State::Polled(context.waker().clone())) {
                State::Replied(reply) => Poll::Ready(Some(reply)),
                State::Sent | State::Polled(_) => Poll::Pending,
            }
        })
        .await
    }
}

impl Drop for Reply<'_> {
    fn drop(&mut self) {
        self.commands.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn page(status: u16) -> CallReply {
        CallReply { status, content_type: "", code: "", body: [].into() }
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut std::task::Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_command_whose_ticket_was_dropped_ends_without_a_reply() {
        let commands = Commands::default();
        let ((lost, reply_to_lost), (kept, reply_to_kept)) = (commands.open(), commands.open());
        let mut of_lost = pin!(reply_to_lost.wait());
        let mut of_kept = pin!(reply_to_kept.wait());
        commands.end_dropped();
        assert_eq!(
            (poll(of_lost.as_mut()), poll(of_kept.as_mut())),
            (Poll::Pending, Poll::Pending)
        );
        drop(lost);
        commands.end_dropped();
        assert_eq!(poll(of_lost.as_mut()), Poll::Ready(None));
        assert_eq!(poll(of_kept.as_mut()), Poll::Pending);
        commands.reply(&kept, page(200));
        drop(kept);
        commands.end_dropped();
        assert_eq!(poll(of_kept.as_mut()), Poll::Ready(Some(page(200))));
    }

    #[test]
    fn a_command_is_forgotten_with_its_reply() {
        let commands = Commands::default();
        let (ticket, reply) = commands.open();
        assert_eq!(poll(pin!(reply.wait())), Poll::Pending);
        drop(reply);
        assert!(commands.waiting.borrow().is_empty());
        commands.reply(&ticket, page(200));
    }

    #[test]
    fn a_message_that_is_dropped_on_its_way_drops_the_ticket() {
        let commands = Commands::default();
        let (sending, receiving) = crossbeam_channel::unbounded();
        let (ticket, reply) = commands.open();
        let mut waited = pin!(reply.wait());
        sending.send(ticket).unwrap();
        commands.end_dropped();
        assert_eq!(poll(waited.as_mut()), Poll::Pending, "it may be read yet");
        drop(receiving);
        commands.end_dropped();
        assert_eq!(poll(waited.as_mut()), Poll::Ready(None));
    }
}
