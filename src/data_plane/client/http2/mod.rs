//! HTTP/2 towards clients: the connection and its frames are the `h2` crate's, over our own
//! streams; what a request means is the exchange's business, as in HTTP/1.
//!
//! A connection is one task ([`connection`]), and each of its streams another ([`stream`]), so that
//! a panic ends one stream only. `h2` reads and writes through a [`transport`], which gathers the
//! frames of all streams into few sends and counts the frames of the client against a [`budget`].
//!
//! Deliberately absent: server push, priorities (RFC 9113 section 5.3.2), and extended CONNECT.

mod body;
mod budget;
mod chunk;
pub(super) mod connection;
mod limits;
mod outlet;
mod shared;
mod stream;
mod transport;
mod writer;
