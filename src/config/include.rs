//! `include`: names of further files, which are handed to the walk.

use super::{declare::Value, keys::Key, section::Section};

/// `include`. The files that it names are handed to the walk; what counts of them is among the
/// buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Include;

impl Value for Include {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.text_or_texts(key.name, |text| section.walk.include(&text.value));
        Self
    }
}
