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
