//! Media types in the rules of a bucket.

use crate::{config::scalar::Text, policy::site::media_range::MediaRange};

/// Reads a media type, or all of a kind.
pub(super) fn media_range(text: &Text<'_>) -> Result<MediaRange, String> {
    MediaRange::parse(&text.value).map_err(|problem| format!("{problem}, found {}", text.shown()))
}
