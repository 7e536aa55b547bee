//! Longest-prefix routing.

use std::collections::HashMap;

/// Placeholder.
#[derive(Debug)]
pub struct Router(pub HashMap<String, usize>);

/// Placeholder.
#[derive(Debug)]
pub struct DuplicatePrefix {
    /// The prefix.
    pub prefix: String,
}

impl Router {
    /// Placeholder.
    pub fn build<'a>(
        prefixes: impl IntoIterator<Item = (&'a str, usize)>,
    ) -> Result<Self, DuplicatePrefix> {
        Ok(Self(prefixes.into_iter().map(|(prefix, index)| (prefix.to_owned(), index)).collect()))
    }
}
