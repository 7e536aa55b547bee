//! `listing` of a bucket.

use crate::{
    config::{
        advice,
        declare::{Value, declare},
        keys::{Key, boolean, texts},
        scalar::Text,
        section::Section,
    },
    policy::site::listing::Format,
};

declare! {
    /// `buckets[].listing`.
    pub struct ListingSettings, check = check_listing {
        /// Lists the bucket to everybody who may read it.
        enabled: bool = boolean().is("false"),
        /// Forms of a listing: `html` and `json` of each path that ends with `/`, by the client's
        /// `Accept`, the first of them where it has no preference; `s3` for S3 clients that do not
        /// sign.
        formats: Formats = texts().is("[html, json, s3]"),
    }
}

/// `buckets[].listing.formats`, without repetitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formats(pub Vec<Format>);

const FORMATS: [(&str, Format); 3] =
    [("html", Format::Html), ("json", Format::Json), ("s3", Format::S3)];

impl Value for Formats {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        if !section.is_written(key.name) {
            return Self(FORMATS.map(|(_, format)| format).to_vec());
        }
        let mut formats = Vec::new();
        for format in section.parsed_texts(key.name, |text| format(&text)) {
            if !formats.contains(&format) {
                formats.push(format);
            }
        }
        Self(formats)
    }
}

fn format(text: &Text<'_>) -> Result<Format, String> {
    let known = FORMATS.iter().find(|(name, _)| *name == text.value);
    let format = known.map(|(_, format)| *format);
    format.ok_or_else(|| {
        let advice = advice::choice(text, &FORMATS.map(|(name, _)| name));
        format!("expected html, json or s3, found {}{advice}", text.shown())
    })
}

fn check_listing(listing: &ListingSettings, section: Section<'_>) {
    if section.has("formats") && section.is_empty_list("formats") {
        section.error("formats", "is empty; write html, json or s3, or enabled: false");
    }
    if !listing.enabled && !section.is_noted("enabled") && section.is_written("formats") {
        section.warning("formats", "has no effect without enabled: true; write it, or remove it");
    }
}
