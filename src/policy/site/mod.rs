//! Rules of one bucket for browsers and websites. Each rule has a file of its own and a field
//! here, which is none where nothing of it is configured.

pub mod cors;
pub mod query;

use cors::Cors;
use query::AllowedQuery;

/// Rules of one bucket for browsers and websites.
#[derive(Debug, Default)]
pub struct Site {
    /// Parameters of a query that reach S3.
    pub query: Option<AllowedQuery>,
    /// Pages of other origins that may read the bucket.
    pub cors: Option<Cors>,
}

impl Site {
    /// True if there is no rule at all.
    pub fn is_empty(&self) -> bool {
        let Self { cors, query } = self;
        cors.is_none() && query.is_none()
    }
}
