//! TLS: records over pooled buffers, driven by socket readiness.
//!
//! rustls does the protocol. What is done here is what costs time with large bodies: one read takes
//! in many records, each is decrypted where it arrived, and many leave with one send. All that
//! depends on rustls' unbuffered interface, which its next version changes, is in `records.rs` and
//! `in_place.rs`.
//!
//! Deliberately absent: records in the kernel (`CONFIG_TLS`). The place for it is where a session
//! has shaken hands.

mod certificate;
mod client;
mod in_place;
mod negotiated;
mod records;
mod server;
mod session;
mod tickets;

pub use certificate::{
    CHAIN_FILE_BYTES_MAX, CertificateProblem, KEY_FILE_BYTES_MAX, PairFile, ServerCertificate,
};
pub use client::{TlsClient, has_system_roots};
pub use negotiated::{Alpn, HandshakeFailure, Negotiated, TlsVersion};
pub use server::{ServerPolicy, TlsServer};
pub(super) use session::{ClientSession, Handshake, ServerSession, Session};
pub use tickets::TicketKeys;

#[cfg(test)]
mod tests;
