//! Keys of a bucket for browsers and websites.

mod hosts;
mod query;

pub use hosts::{HostPatterns, PathPrefix};
pub use query::QueryParameters;
