//! Keys of a bucket for browsers and websites.

mod cors;
mod hosts;
mod query;

pub use cors::CorsSettings;
pub use hosts::{HostPatterns, PathPrefix};
pub use query::QueryParameters;
