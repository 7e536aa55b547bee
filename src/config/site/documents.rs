//! `index`, `redirect_directories`, `missing`, `spa` and `error_pages` of a bucket.

use crate::{
    config::{declare::Value, keys::Key, scalar::Text, section::Section},
    model::limits::OBJECT_KEY_BYTES_MAX,
    policy::site::documents::{ERROR_STATUSES, MISSING_STATUSES},
    protocol::s3::{PathError, check_decoded_text},
};

/// `buckets[].missing`, without repetitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(pub Vec<u16>);

impl Value for Missing {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        if !section.is_written(key.name) {
            return Self(vec![404]);
        }
        let mut statuses = section.parsed_scalars(key.name, missing_status);
        statuses.sort_unstable();
        statuses.dedup();
        if section.is_empty_list(key.name) && !section.is_noted(key.name) {
            section.error(key.name, "is empty; write [404] or [404, 403], or remove the key");
        }
        Self(statuses)
    }
}

fn missing_status(text: &Text<'_>) -> Result<u16, String> {
    let status = text.value.parse().ok().filter(|status| MISSING_STATUSES.contains(status));
    status.ok_or_else(|| {
        format!(
            "expected 403, 404 or 410, the responses that may mean that there is no such object, \
             found {}",
            text.shown()
        )
    })
}

/// `buckets[].error_pages`: keys of objects by status, in the order of the statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages(pub Vec<(u16, String)>);

impl Value for ErrorPages {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let mut pages = section.map(key.name, |status, text| {
            match (error_status(status), error_page(&text.value)) {
                (Ok(status), Ok(path)) => Ok((status, path)),
                (Err(problem), Ok(_)) => Err(problem),
                (Ok(_), Err(problem)) => Err(problem.to_owned()),
                (Err(status), Err(path)) => Err(format!("{status}; its value: {path}")),
            }
        });
        pages.sort();
        Self(pages)
    }
}

/// The key of an object by its path.
fn error_page(path: &str) -> Result<String, &'static str> {
    let key = path.strip_prefix('/').ok_or(
        "expected the path of an object of this bucket, such as /404.html, without the bucket's \
         path_prefix",
    )?;
    check_document(key)?;
    if key.is_empty() {
        return Err("names no object; write a path such as /404.html");
    }
    Ok(key.to_owned())
}

fn error_status(key: &str) -> Result<u16, String> {
    let (least, most) = ERROR_STATUSES;
    let is_plain = key.len() == 3 && key.bytes().all(|byte| byte.is_ascii_digit());
    let status = key.parse().ok().filter(|status| is_plain && (least..=most).contains(status));
    status.ok_or_else(|| format!("is not the status of an error; write one from {least} to {most}"))
}

/// Checks the key of a document: relative to the bucket, decoded.
pub(crate) fn check_document(key: &str) -> Result<(), &'static str> {
    if key.starts_with('/') {
        return Err("begins with a '/' too many; write the key of an object, such as index.html");
    }
    if key.ends_with('/') {
        return Err("ends with '/', as a directory does; write the key of an object in it");
    }
    if key.len() > OBJECT_KEY_BYTES_MAX {
        return Err("is too long, because an S3 key has at most 1024 bytes; write a shorter one");
    }
    check_decoded_text(key).map_err(|problem| match problem {
        PathError::DotSegment => "has a '.' or '..' segment; write the key without it",
        _ => "has control characters; remove them",
    })
}

/// The keys of a bucket that name objects.
pub(crate) struct DocumentKeys<'k> {
    pub(crate) index: &'k str,
    pub(crate) spa: &'k str,
    pub(crate) error_pages: &'k ErrorPages,
    /// Set if the bucket is listed.
    pub(crate) is_listed: bool,
}

impl DocumentKeys<'_> {
    /// Notes what is wrong between keys: one that needs another, and objects that cannot exist.
    pub(crate) fn check(&self, section: Section<'_>, redirect_directories: bool, key_prefix: &str) {
        let Self { index, spa, error_pages, is_listed } = *self;
        if redirect_directories && index.is_empty() && !section.is_noted("index") {
            section.error(
                "redirect_directories",
                "is true, but no index says what a directory has to have; write one, such as \
                 index: index.html",
            );
        }
        let uses_missing = redirect_directories
            || (is_listed && !index.is_empty())
            || ["spa", "error_pages"].iter().any(|name| section.is_written(name));
        if section.is_written("missing") && !uses_missing {
            section.warning(
                "missing",
                "is not used without spa, error_pages, redirect_directories, or a listing beside \
                 an index; write one of them, or remove it",
            );
        }
        let room = OBJECT_KEY_BYTES_MAX.saturating_sub(key_prefix.len());
        let pages = error_pages.0.iter().map(|(_, key)| ("error_pages", key.as_str()));
        for (name, key) in [("index", index), ("spa", spa)].into_iter().chain(pages) {
            if key.len() > room && !section.is_noted(name) {
                section.error(
                    name,
                    "is too long behind s3.key_prefix, because an S3 key has at most 1024 bytes; \
                     write a shorter one",
                );
            }
        }
    }
}
