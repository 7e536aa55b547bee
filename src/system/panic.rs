//! Keeping a panic inside the task that caused it.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, UnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// Runs a future to its end, or to the panic that ended it.
///
/// # Errors
/// The panic's payload.
pub async fn caught<F: Future + UnwindSafe>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(payload) => Poll::Ready(Err(payload)),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        future::poll_fn,
        rc::Rc,
        task::Waker,
    };

    use super::*;

    /// Sets its cell when dropped.
    struct Guard(Rc<Cell<bool>>);

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut std::task::Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_panic_ends_its_future_and_gives_back_what_it_held() {
        let dropped = Rc::new(Cell::new(false));
        let shared = Rc::new(RefCell::new(0));
        let guard = Guard(Rc::clone(&dropped));
        let borrowed = Rc::clone(&shared);
        let future = async move {
            let _guard = guard;
            let mut polls = 0;
            poll_fn(|_| {
                polls += 1;
                if polls == 1 { Poll::Pending } else { Poll::Ready(()) }
            })
            .await;
            let _held = borrowed.borrow_mut();
            panic!("in the second poll, with something borrowed");
        };
        let mut future = pin!(caught(AssertUnwindSafe(future)));
        assert!(poll(future.as_mut()).is_pending());
        assert!(!dropped.get());
        assert!(matches!(poll(future.as_mut()), Poll::Ready(Err(_))));
        assert!(dropped.get());
        *shared.borrow_mut() += 1;
    }

    #[test]
    fn a_future_without_a_panic_gives_its_output() {
        let mut future = pin!(caught(AssertUnwindSafe(async { 7 })));
        assert!(matches!(poll(future.as_mut()), Poll::Ready(Ok(7))));
    }
}
