//! The clients' side of HTTP/1: connections, the heads and bodies that come on them, and the
//! responses that go back. What a request means is the exchange's business.

mod body;
pub(crate) mod connection;
mod input;
pub(crate) mod refusal;
mod send;
mod splice;
pub(crate) mod writer;
