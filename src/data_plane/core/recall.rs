//! The recall of something that is held in memory while it is sent to clients: those who send it
//! let go of it, complete or not, because others need the room.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    task::{Context, Poll, Waker},
};

use slab::Slab;

/// The recall of one thing.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    is_made: Cell<bool>,
    /// The tasks that send it.
    waiting: RefCell<Slab<Waker>>,
}

impl Recall {
    /// Ends everything that runs under this recall.
    pub(super) fn make(&self) {
        self.is_made.set(true);
        for (_, waker) in self.waiting.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// The result of a future, which is dropped if the recall comes first: `None` then.
    pub(crate) async fn or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut place = Place { recall: self, key: None };
        poll_fn(|context| {
            if self.is_made.get() {
                return Poll::Ready(None);
            }
            let polled = future.as_mut().poll(context).map(Some);
            if polled.is_pending() {
                place.wake(context);
            }
            polled
        })
        .await
    }
}

/// One task among those that wait, for as long as this lives.
struct Place<'r> {
    recall: &'r Recall,
    key: Option<usize>,
}

impl Place<'_> {
    fn wake(&mut self, context: &Context<'_>) {
        let mut waiting = self.recall.waiting.borrow_mut();
        match self.key.and_then(|key| waiting.get_mut(key)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.key = Some(waiting.insert(context.waker().clone())),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.recall.waiting.borrow_mut().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_recall_wakes_and_ends_all_who_wait_and_all_who_come_later() {
        let recall = Recall::default();
        let counted = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&counted));
        let mut context = Context::from_waker(&waker);
        let mut first = pin!(recall.or(pending::<()>()));
        let mut second = pin!(recall.or(pending::<()>()));
        for _ in 0..2 {
            assert_eq!(first.as_mut().poll(&mut context), Poll::Pending);
            assert_eq!(second.as_mut().poll(&mut context), Poll::Pending);
        }
        assert_eq!(pin!(recall.or(ready(7))).poll(&mut context), Poll::Ready(Some(7)));
        recall.make();
        assert_eq!(counted.0.load(Ordering::SeqCst), 2, "one for each that waits");
        assert_eq!(first.as_mut().poll(&mut context), Poll::Ready(None));
        assert_eq!(second.as_mut().poll(&mut context), Poll::Ready(None));
        assert_eq!(pin!(recall.or(ready(7))).poll(&mut context), Poll::Ready(None));
        assert!(recall.waiting.borrow().is_empty());
    }
}
