//! A page as JSON.

use serde::Serialize;

use super::{Listed, ListedObject};

/// The document.
#[derive(Serialize)]
struct Page<'l> {
    prefix: &'l str,
    prefixes: &'l [String],
    objects: Vec<Object<'l>>,
    next: Option<&'l str>,
}

#[derive(Serialize)]
struct Object<'l> {
    key: &'l str,
    size: u64,
    last_modified: &'l str,
    etag: &'l str,
}

impl<'l> From<&'l ListedObject> for Object<'l> {
    fn from(object: &'l ListedObject) -> Self {
        let ListedObject { key, size, modified, etag, .. } = object;
        Self { key, size: *size, last_modified: modified, etag }
    }
}

/// Appends a page: the prefix that was asked for, the prefixes and objects below it, and the
/// `continuation-token` of the next page, if there is one.
pub fn append_json(prefix: &str, listed: &Listed, next: Option<&str>, out: &mut Vec<u8>) {
    let objects = listed.objects.iter().map(Object::from).collect();
    let page = Page { prefix, prefixes: &listed.prefixes, objects, next };
    // Text, numbers and memory: nothing that could fail.
    let _ = serde_json::to_writer(&mut *out, &page);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_page_is_json_whatever_its_keys_hold() {
        let key = "a/\"b\\\u{1}\u{2028}</script>八";
        let object = ListedObject {
            key: key.to_owned(),
            size: u64::MAX,
            modified: "2026-11-29T10:00:00.000Z".to_owned(),
            etag: "\"e\"".to_owned(),
            ..Default::default()
        };
        let listed =
            Listed { objects: vec![object], prefixes: vec!["a/c/".to_owned()], is_truncated: true };
        let mut out = Vec::new();
        append_json("a/", &listed, Some("t"), &mut out);
        let page: Value = serde_json::from_slice(&out).unwrap();
        let object = json!({
            "key": key,
            "size": u64::MAX,
            "last_modified": "2026-11-29T10:00:00.000Z",
            "etag": "\"e\"",
        });
        let expected =
            json!({ "prefix": "a/", "prefixes": ["a/c/"], "objects": [object], "next": "t" });
        assert_eq!(page, expected);
    }
}
