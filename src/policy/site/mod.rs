//! Rules of one bucket for browsers and websites. Each rule has a file of its own and a field
//! here, which is none where nothing of it is configured.

pub mod compress;
pub mod cors;
pub mod documents;
pub mod headers;
pub mod listing;
pub mod media_range;
pub mod query;

use std::sync::Arc;

use compress::Compress;
use cors::Cors;
use documents::Documents;
use headers::Headers;
use listing::Listing;
use query::AllowedQuery;

/// Rules of one bucket for browsers and websites.
#[derive(Debug, Default)]
pub struct Site {
    /// Documents of a website.
    pub documents: Option<Documents>,
    /// Parameters of a query that reach S3.
    pub query: Option<AllowedQuery>,
    /// Pages of other origins that may read the bucket.
    pub cors: Option<Cors>,
    /// Changes to the fields of responses; buckets without their own share one.
    pub headers: Option<Arc<Headers>>,
    /// Set if nothing may tell of S3.
    pub hide_s3: bool,
    /// Compression of responses.
    pub compress: Option<Compress>,
    /// Listings of the bucket.
    pub listing: Option<Listing>,
}

impl Site {
    /// True if there is no rule at all.
    pub fn is_empty(&self) -> bool {
        let Self { query, cors, headers, hide_s3, documents, compress, listing } = self;
        query.is_none()
            && cors.is_none()
            && headers.is_none()
            && !hide_s3
            && documents.is_none()
            && compress.is_none()
            && listing.is_none()
    }
}
