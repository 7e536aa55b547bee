//! HTTP/2 (RFC 9113) as bytes: how a connection begins, the heads of its frames, HPACK, and request
//! heads in the form of HTTP/1.1.
//!
//! Deliberately absent: flow control and the states of streams, which are the data plane's; and a
//! second reading of paths, hosts and fields, which is that of
//! [`parse_request`](crate::protocol::http1::parse_request).

mod frames;
mod head;
pub mod hpack;
mod preface;

pub use frames::{
    ACK, Code, END_HEADERS, END_STREAM, FRAME_HEAD_BYTES, FrameHead, FrameKind, number,
};
pub use head::{FIELD_OVERHEAD_BYTES, Head, HeadWriter, RefusedHead};
pub use preface::{Begins, PREFACE, begins};
