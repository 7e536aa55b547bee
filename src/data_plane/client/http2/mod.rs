//! HTTP/2 towards clients, over our own streams. What a request means is the exchange's business,
//! as in HTTP/1.
//!
//! A connection is one task ([`connection`]), and each of its streams another ([`stream`]), so that
//! a panic ends one stream only. The task of the connection takes in the frames of the client
//! ([`receive`]), which are counted against a [`budget`], and sends those of all streams together
//! ([`output`]). What a stream and its connection have in common is a [`lane`]; all of them, the
//! windows and the frames out are the [`wire`].
//!
//! Deliberately absent: server push, priorities (RFC 9113 section 5.3.2), and extended CONNECT.

mod body;
mod budget;
pub(super) mod connection;
mod deadlines;
mod lane;
mod limits;
mod outlet;
mod output;
mod patience;
mod receive;
mod shared;
mod stream;
mod wire;
mod writer;
