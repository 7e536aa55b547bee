//! The clients' side of HTTP/1 and HTTP/2: connections, the heads and bodies that come on them, and
//! the responses that go back. What a request means is the exchange's business.

mod body;
pub(crate) mod connection;
pub(crate) mod handshake;
mod http2;
mod input;
mod linger;
pub(crate) mod proxy_header;
pub(crate) mod refusal;
mod send;
mod splice;
pub(crate) mod writer;
