//! Keys of a bucket for browsers and websites.

mod compress;
mod cors;
pub(super) mod documents;
mod headers;
mod hosts;
mod listing;
mod media_range;
mod query;

pub use compress::{Algorithms, CompressSettings, CompressedTypes};
pub use cors::CorsSettings;
pub use headers::HeadersSettings;
pub(super) use headers::check_fields;
pub use hosts::{HostPatterns, PathPrefix};
pub use listing::{Formats, ListingSettings};
pub use query::QueryParameters;
