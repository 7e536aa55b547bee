//! One object from S3, for whoever wants it: the request, as often as it takes to get a response,
//! and the connection that the response comes on.
//!
//! Knows neither the client's connection nor the version of HTTP that it speaks: only what is to be
//! asked for, and who waits for it.

pub(crate) mod attempt;
pub(crate) mod notes;
pub(crate) mod request;
