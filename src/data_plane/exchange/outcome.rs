//! The outcome of a request, which each step returns to the one before it.

use crate::telemetry::access_log::AbortedBy;

/// The response that the client got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Status of the response; 0 when there was none.
    pub(crate) status: u16,
    /// `code` of a response of our own.
    pub(crate) code: &'static str,
    /// Bytes of the body that the client's side took.
    pub(crate) bytes: u64,
    /// Nanoseconds from the request to S3 to the first byte of its response.
    pub(crate) upstream_ns: Option<u64>,
    /// The side that cut the response short, if it was.
    pub(crate) aborted: Option<AbortedBy>,
}
