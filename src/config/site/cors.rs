//! `buckets[].cors`: pages of other origins.

use crate::{
    config::{
        declare::{Value, declare},
        keys::{DAY_SECONDS, Key, boolean, integer, texts},
        section::Section,
    },
    policy::site::cors::{OriginError, OriginRule},
    protocol::text::token::is_token,
};

/// Most names in a list. Responses carry the whole list.
const NAMES_MAX: usize = 100;

/// Longest name in a list, in bytes.
const NAME_BYTES_MAX: usize = 128;

declare! {
    /// `buckets[].cors`.
    pub struct CorsSettings, check = check_cors {
        /// Origins whose pages may read responses: `https://www.example.com`,
        /// `https://*.example.com` (one label) or `*`.
        origins: Vec<OriginRule> = texts().otherwise("none"),
        /// Methods that pages may ask with.
        methods: CorsMethods = texts().otherwise("`GET`, `HEAD`"),
        /// Request fields that pages may send besides the usual ones; `*` is all but
        /// `Authorization`.
        headers: FieldNames = texts().otherwise("none"),
        /// Response fields that pages may read besides the usual ones.
        expose: FieldNames = texts().otherwise("none"),
        /// Time for which browsers may remember that they asked.
        max_age: u32 = integer(0, DAY_SECONDS as u64, "seconds").is("600"),
        /// Lets pages send cookies and other credentials that the browser keeps.
        credentials: bool = boolean().is("false"),
    }
}

/// `buckets[].cors.methods`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsMethods(pub Vec<&'static str>);

/// Names of header fields, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldNames(pub Vec<String>);

impl FieldNames {
    fn has_wildcard(&self) -> bool {
        self.0.iter().any(|name| name == "*")
    }
}

impl Value for Vec<OriginRule> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let mut origins = section.parsed_texts(key.name, |text| {
            OriginRule::parse(&text.value).map_err(|error| match error {
                OriginError::SentAs(_) if text.from_variable => {
                    "is not what browsers send; write scheme, host and, where it is not the \
                     scheme's own, port, in lower case"
                        .to_owned()
                }
                error => error.to_string(),
            })
        });
        origins.sort_unstable();
        origins.dedup();
        origins
    }
}

impl Value for CorsMethods {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        const SERVED: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

        if !section.is_written(key.name) {
            return Self(vec!["GET", "HEAD"]);
        }
        if section.is_empty_list(key.name) {
            section.error(key.name, "is empty; write methods, or remove it for GET and HEAD");
        }
        Self(section.parsed_texts(key.name, |text| {
            let served = SERVED.into_iter().find(|method| *method == text.value);
            served
                .ok_or_else(|| "is not a method of buckets; write GET, HEAD or OPTIONS".to_owned())
        }))
    }
}

impl Value for FieldNames {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let names = section.parsed_texts(key.name, |text| {
            if !is_token(text.value.as_bytes()) {
                return Err("is not the name of a header field; write letters, digits and \
                            dashes, such as Authorization, or \"*\""
                    .to_owned());
            }
            if text.value.len() > NAME_BYTES_MAX {
                return Err(format!("is longer than {NAME_BYTES_MAX} bytes; shorten it"));
            }
            Ok(text.value.into_owned())
        });
        if names.len() > NAMES_MAX {
            section.error(key.name, format!("has more than {NAMES_MAX} names; shorten it"));
        }
        Self(names)
    }
}

/// Notes what a browser would not accept together
/// (<https://fetch.spec.whatwg.org/#cors-protocol-and-credentials>).
fn check_cors(cors: &CorsSettings, section: Section<'_>) {
    if section.is_there
        && section.has_keys()
        && !section.has("origins")
        && !section.is_meant("origins")
    {
        section.warning(
            "origins",
            "is missing, so the section changes nothing; write origins, or remove it",
        );
    }
    let is_public = cors.origins.contains(&OriginRule::Any);
    if is_public && cors.origins.len() > 1 {
        section.error("origins", "holds \"*\" and others; keep \"*\", or the others");
    }
    if cors.origins.iter().any(OriginRule::is_broad) {
        section.warning(
            "origins",
            "holds a wildcard for every name below a top-level name, which others may register; \
             write more of the name",
        );
    }
    if !cors.credentials {
        return;
    }
    for (name, has_wildcard, instead) in [
        ("origins", is_public, "the origins of your pages"),
        ("headers", cors.headers.has_wildcard(), "the names"),
        ("expose", cors.expose.has_wildcard(), "the names"),
    ] {
        if has_wildcard {
            section.error(
                name,
                format!(
                    "holds \"*\", which browsers do not take for everything where credentials is \
                     true; write {instead}, or credentials: false"
                ),
            );
        }
    }
}
