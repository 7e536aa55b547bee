//! Longest-prefix routing.
/// Placeholder
#[derive(Debug)]
pub struct Router;
