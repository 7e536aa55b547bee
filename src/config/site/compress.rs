//! `compress` of a bucket.

use crate::{
    config::{
        advice,
        declare::{Value, declare},
        keys::{Key, integer, texts},
        scalar::Text,
        section::Section,
        site::media_range::media_range,
    },
    policy::site::media_range::MediaRange,
    protocol::content_coding::Coding,
};

/// Largest `min_bytes`; nobody means to leave out bodies that are longer.
const MIN_BYTES_MAX: u64 = 1_073_741_824;

declare! {
    /// `buckets[].compress`.
    pub struct CompressSettings, check = check_compress {
        /// Media types to compress, such as `text/html`, `application/json` or `text/*`, without
        /// parameters.
        types: CompressedTypes = texts().otherwise("nothing is compressed"),
        /// Length from which on a body is compressed.
        min_bytes: u64 = integer(0, MIN_BYTES_MAX, "bytes").is("1024"),
        /// Codings that clients may get, of `zstd`, `br` and `gzip`; of those that a client likes
        /// equally, the first.
        algorithms: Algorithms = texts().is("[zstd, br, gzip]"),
    }
}

/// Notes a section that changes nothing.
fn check_compress(_: &CompressSettings, section: Section<'_>) {
    if section.is_there && section.has_keys() && !section.has("types") && !section.is_meant("types")
    {
        section.warning(
            "types",
            "is missing, so nothing is compressed; write types, such as [text/html], or remove \
             the section",
        );
    }
}

/// `buckets[].compress.types`, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompressedTypes(pub Vec<MediaRange>);

impl Value for CompressedTypes {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let mut types = section.parsed_texts(key.name, |text| media_range(&text));
        types.sort_unstable();
        types.dedup();
        Self(types)
    }
}

/// `buckets[].compress.algorithms`, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Algorithms(pub Vec<Coding>);

impl Value for Algorithms {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        if !section.is_written(key.name) {
            return Self(Coding::ALL.to_vec());
        }
        let mut all = Vec::new();
        section.parsed_texts(key.name, |text| {
            let coding = coding(&text)?;
            if all.contains(&coding) {
                return Err(format!("{} is written twice; remove one", coding.name()));
            }
            all.push(coding);
            Ok(())
        });
        if section.is_empty_list(key.name) && !section.is_noted(key.name) {
            section.error(key.name, "is empty; write some of zstd, br and gzip, or remove the key");
        }
        Self(all)
    }
}

fn coding(text: &Text<'_>) -> Result<Coding, String> {
    let named = Coding::ALL.into_iter().find(|coding| coding.name() == text.value);
    named.ok_or_else(|| {
        let advice = advice::choice(text, &Coding::ALL.map(Coding::name));
        format!("expected zstd, br or gzip, found {}{advice}", text.shown())
    })
}
