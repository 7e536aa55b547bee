//! Keys of a bucket for browsers and websites.

mod query;

pub use query::QueryParameters;
