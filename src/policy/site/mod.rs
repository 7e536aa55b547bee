//! Rules of one bucket for browsers and websites. Each rule has a file of its own and a field
//! here, which is none where nothing of it is configured.

pub mod query;

use query::AllowedQuery;

/// Rules of one bucket for browsers and websites.
#[derive(Debug, Default)]
pub struct Site {
    /// Parameters of a query that reach S3.
    pub query: Option<AllowedQuery>,
}

impl Site {
    /// True if there is no rule at all.
    pub fn is_empty(&self) -> bool {
        self.query.is_none()
    }
}
