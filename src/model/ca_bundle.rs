//! Certificates of authorities that a configuration names.

use std::{fmt, sync::Arc};

/// The content of a `ca_file`. Two are equal when their content is.
#[derive(Clone)]
pub struct CaBundle {
    /// PEM, with at least one certificate that parses.
    pub pem: Arc<[u8]>,
    /// SHA-256 of the content in hexadecimal.
    pub digest: Arc<str>,
}

impl PartialEq for CaBundle {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for CaBundle {}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaBundle({})", self.digest)
    }
}
