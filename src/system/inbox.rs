//! Waking a worker from another thread: a bounded channel, and one byte on a local socket whose
//! other end the worker's own event loop reads.

use std::{io, os::fd::OwnedFd, rc::Rc};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::system::{
    reactor::Reactor,
    socket::{Socket, pair},
};

/// The sending end, for another thread.
#[derive(Debug)]
pub struct InboxSender<T> {
    channel: Sender<T>,
    bell: OwnedFd,
}

/// The receiving end before it has reached its worker.
#[derive(Debug)]
pub struct UnclaimedInbox<T> {
    channel: Receiver<T>,
    bell: OwnedFd,
}

/// The receiving end on its worker.
#[derive(Debug)]
pub struct InboxReceiver<T> {
    channel: Receiver<T>,
    bell: Socket,
}

/// The other side is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// An inbox that holds at most `capacity` messages.
///
/// # Errors
/// When the kernel has no descriptors left.
pub fn inbox<T>(capacity: usize) -> io::Result<(InboxSender<T>, UnclaimedInbox<T>)> {
    let (sender, receiver) = bounded(capacity);
    let (ours, theirs) = pair()?;
    let sender = InboxSender { channel: sender, bell: ours };
    Ok((sender, UnclaimedInbox { channel: receiver, bell: theirs }))
}

impl<T> InboxSender<T> {
    /// Queues a message and wakes the worker. Gives the message back when the inbox is full or
    /// the worker is gone.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.channel.try_send(message).map_err(|e| match e {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
        })?;
        self.ring();
        Ok(())
    }

    /// Wakes the worker. A full socket means that it has been woken often enough already.
    pub fn ring(&self) {
        let _ = socket2::SockRef::from(&self.bell)
            .send_with_flags(&[0], libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
    }
}

impl<T> UnclaimedInbox<T> {
    /// Hands the receiving end to the event loop of the calling thread.
    ///
    /// # Errors
    /// When the event loop cannot register it.
    pub fn claim(self, reactor: &Rc<Reactor>) -> io::Result<InboxReceiver<T>> {
        Ok(InboxReceiver { channel: self.channel, bell: Socket::new(self.bell, reactor)? })
    }
}

/// For tests that play a worker without an event loop.
#[cfg(test)]
impl<T> UnclaimedInbox<T> {
    /// Returns true if the bell has rung since the last time it was asked.
    pub(crate) fn was_rung(&self) -> bool {
        let mut rung = [std::mem::MaybeUninit::uninit(); 64];
        let bell = socket2::SockRef::from(&self.bell);
        bell.recv_with_flags(&mut rung, libc::MSG_DONTWAIT).is_ok_and(|count| count > 0)
    }

    /// The next message, if there is one.
    pub(crate) fn take(&self) -> Option<T> {
        self.channel.try_recv().ok()
    }
}

impl<T> InboxReceiver<T> {
    /// The next message.
    ///
    /// # Errors
    /// [`Gone`] when the sending side no longer exists and every message was received.
    pub async fn receive(&self) -> Result<T, Gone> {
        let mut rung = [0_u8; 64];
        loop {
            if let Ok(message) = self.channel.try_recv() {
                return Ok(message);
            }
            match self.bell.recv(&mut rung).await {
                Ok(0) | Err(_) => return self.channel.try_recv().map_err(|_| Gone),
                Ok(_) => {}
            }
        }
    }
}
