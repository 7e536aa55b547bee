//! HTTP/2 (RFC 9113) as far as it is not left to the `h2` crate: how a connection begins, what its
//! frames are by their heads, and request heads in the form of HTTP/1.1.
//!
//! Deliberately absent: HPACK, flow control and the states of streams, which are `h2`'s; and a
//! second reading of paths, hosts and fields, which is that of
//! [`parse_request`](crate::protocol::http1::parse_request).

mod frames;
mod head;
mod preface;

pub use frames::{FrameHead, FrameKind, FrameScan};
pub use head::{Malformed, append_head};
pub use preface::{Begins, PREFACE, begins};
