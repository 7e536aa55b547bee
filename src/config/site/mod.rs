//! Keys of a bucket for browsers and websites.

mod cors;
pub(super) mod documents;
mod headers;
mod hosts;
mod query;

pub use cors::CorsSettings;
pub use headers::HeadersSettings;
pub(super) use headers::check_fields;
pub use hosts::{HostPatterns, PathPrefix};
pub use query::QueryParameters;
