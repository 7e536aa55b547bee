//! A page for people: one table, without scripts and without anything from elsewhere.

use super::{Listed, ListedObject};
use crate::protocol::{
    s3::{encode_key, path::check_decoded_text},
    text::decimal::append_decimal,
};

/// The style of the page, whose hash is part of [`CONTENT_SECURITY_POLICY`].
const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}\
h1{font-size:1.25rem;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}\
th,td{border-bottom:1px solid #8884;padding:.25rem .5rem;text-align:left}\
td:first-child{overflow-wrap:anywhere;white-space:pre-wrap;width:100%}\
th+th,td+td{text-align:right;white-space:nowrap}\
a{text-decoration:none}a:hover{text-decoration:underline}";

/// The `Content-Security-Policy` of the page: nothing is loaded, run, sent or framed, and only its
/// own style applies (W3C, "Content Security Policy Level 3").
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     style-src 'sha256-cPHH9uaTA2k9yESqrcb/9iAIcldBe7XvecDycxaZFv0='; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Units of a size, each 1,024 of the one before.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A page of a prefix that is empty or ends in `/`.
#[derive(Clone, Copy, Debug)]
pub struct HtmlPage<'l> {
    /// The path that all keys are below, without its last `/`.
    pub root: &'l str,
    /// The prefix.
    pub prefix: &'l str,
    /// The entries.
    pub listed: &'l Listed,
    /// Set if there are entries before these.
    pub is_continued: bool,
    /// The query of the next page, if there is one.
    pub next: Option<&'l str>,
}

impl HtmlPage<'_> {
    /// Appends the document. Links are relative, so that they hold behind another proxy that
    /// changes the path.
    pub fn append_to(&self, out: &mut Vec<u8>) {
        push(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        push(out, "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Index of ");
        for part in [self.root, "/", self.prefix] {
            append_text(part, out);
        }
        push(out, "</title>\n<style>");
        push(out, STYLE);
        push(out, "</style>\n</head>\n<body>\n");
        self.breadcrumb(out);
        push(out, "<table>\n<thead><tr><th scope=\"col\">Name</th><th scope=\"col\">Size</th>");
        push(out, "<th scope=\"col\">Last modified</th></tr></thead>\n<tbody>\n");
        for prefix in &self.listed.prefixes {
            push(out, "<tr><td>");
            self.name(prefix, out);
            push(out, "</td><td></td><td></td></tr>\n");
        }
        for object in &self.listed.objects {
            // The prefix itself, which some tools store to show an empty directory.
            if object.key != self.prefix {
                self.object(object, out);
            }
        }
        push(out, "</tbody>\n</table>\n");
        if self.is_continued || self.next.is_some() {
            self.pages(out);
        }
        push(out, "</body>\n</html>\n");
    }

    /// The path, each part of it a link but the last.
    fn breadcrumb(&self, out: &mut Vec<u8>) {
        push(out, "<nav aria-label=\"Breadcrumb\"><h1>");
        let levels = self.prefix.matches('/').count();
        let mut names = vec![self.root];
        names.extend(self.prefix.split_terminator('/'));
        for (index, name) in names.into_iter().enumerate() {
            let up = levels.saturating_sub(index);
            if up > 0 {
                push(out, "<a href=\"");
                (0..up).for_each(|_| push(out, "../"));
                push(out, "\">");
            }
            push(out, "<bdi>");
            append_text(name, out);
            push(out, "</bdi>/");
            if up > 0 {
                push(out, "</a>");
            }
        }
        push(out, "</h1></nav>\n");
    }

    fn object(&self, object: &ListedObject, out: &mut Vec<u8>) {
        push(out, "<tr><td>");
        self.name(&object.key, out);
        push(out, "</td><td title=\"");
        append_decimal(object.size, out);
        push(out, " bytes\">");
        append_size(object.size, out);
        push(out, "</td><td><time datetime=\"");
        append_text(&object.modified, out);
        push(out, "\">");
        append_text(&short_time(&object.modified), out);
        push(out, "</time></td></tr>\n");
    }

    /// The name of a key below the prefix, which is a link if the key can be asked for.
    fn name(&self, key: &str, out: &mut Vec<u8>) {
        let name = key.strip_prefix(self.prefix).unwrap_or(key);
        let is_linked = check_decoded_text(key).is_ok();
        if is_linked {
            // With a colon, a name alone would be taken for a scheme (RFC 3986 section 4.2).
            push(out, "<a href=\"./");
            encode_key(name.as_bytes(), out);
            push(out, "\">");
        }
        // A name may be written from right to left, whatever is beside it.
        push(out, "<bdi>");
        append_text(name, out);
        push(out, "</bdi>");
        if is_linked {
            push(out, "</a>");
        }
    }

    fn pages(&self, out: &mut Vec<u8>) {
        push(out, "<p>");
        if self.is_continued {
            push(out, "<a href=\"./\">First page</a> ");
        }
        if let Some(next) = self.next {
            push(out, "<a rel=\"next\" href=\"?");
            append_text(next, out);
            push(out, "\">Next page</a>");
        }
        push(out, "</p>\n");
    }
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends text, for content and for attributes in double quotes. Control characters, which HTML
/// cannot hold, are replaced, and so are those that change the direction of text: behind one,
/// `gpj.exe` looks like `exe.jpg`.
fn append_text(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        match character {
            '&' => push(out, "&amp;"),
            '<' => push(out, "&lt;"),
            '>' => push(out, "&gt;"),
            '"' => push(out, "&quot;"),
            '\'' => push(out, "&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => push(out, "\u{fffd}"),
            _ if character.is_control() => push(out, "\u{fffd}"),
            _ => push(out, character.encode_utf8(&mut [0; 4])),
        }
    }
}

/// Appends a size with one decimal, rounded down.
fn append_size(bytes: u64, out: &mut Vec<u8>) {
    let unit = (bytes.max(1).ilog2() / 10) as usize;
    let scale = 1_u128 << (10 * unit);
    let tenths = u128::from(bytes) * 10 / scale;
    append_decimal(u64::try_from(tenths / 10).unwrap_or(u64::MAX), out);
    if unit > 0 {
        out.push(b'.');
        append_decimal(u64::try_from(tenths % 10).unwrap_or_default(), out);
    }
    out.push(b' ');
    push(out, UNITS.get(unit).copied().unwrap_or_default());
}

/// A time of S3 to the minute; as it is where it has another form.
fn short_time(time: &str) -> String {
    match (time.get(..10), time.get(10..11), time.get(11..16), time.ends_with('Z')) {
        (Some(date), Some("T"), Some(clock), true) => format!("{date} {clock} UTC"),
        _ => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    fn object(key: &str) -> ListedObject {
        ListedObject {
            key: key.to_owned(),
            size: 1_536,
            modified: "2026-11-29T10:00:59.000Z".to_owned(),
            ..Default::default()
        }
    }

    fn page(prefix: &str, keys: &[&str], prefixes: &[&str]) -> String {
        let listed = Listed {
            objects: keys.iter().map(|key| object(key)).collect(),
            prefixes: prefixes.iter().map(ToString::to_string).collect(),
            is_truncated: false,
        };
        let mut out = Vec::new();
        let next = Some("continuation-token=t&max-keys=2");
        HtmlPage { root: "/p<1>", prefix, listed: &listed, is_continued: true, next }
            .append_to(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_policy_permits_the_style_of_the_page_only() {
        let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        assert!(CONTENT_SECURITY_POLICY.contains(&format!("'sha256-{hash}'")), "{hash}");
        assert!(page("", &[], &[]).contains(&format!("<style>{STYLE}</style>")));
    }

    #[test]
    fn names_are_escaped_in_text_and_encoded_in_links() {
        let page = page("d/", &["d/<b>\"&'x' +%#?", "d/javascript:alert(1)"], &["d/é/"]);
        assert!(
            page.contains(
                "<a href=\"./%3Cb%3E%22%26%27x%27%20%2B%25%23%3F\">\
                 <bdi>&lt;b&gt;&quot;&amp;&#39;x&#39; +%#?</bdi></a>"
            ),
            "{page}"
        );
        assert!(page.contains("<a href=\"./javascript%3Aalert%281%29\">"), "{page}");
        assert!(page.contains("<a href=\"./%C3%A9/\"><bdi>é/</bdi></a>"), "{page}");
        assert!(page.contains("<title>Index of /p&lt;1&gt;/d/</title>"), "{page}");
        assert!(page.contains("href=\"?continuation-token=t&amp;max-keys=2\""), "{page}");
    }

    #[test]
    fn no_name_looks_like_another_by_its_direction() {
        let page = page("", &["a\u{202e}gpj.exe"], &[]);
        assert!(page.contains("<a href=\"./a%E2%80%AEgpj.exe\"><bdi>a\u{fffd}gpj.exe"), "{page}");
    }

    #[test]
    fn keys_that_cannot_be_asked_for_are_no_links() {
        for key in ["d/..", "d/a\u{1}b", "d/a\nb"] {
            let page = page("d/", &[key], &[]);
            assert!(!page.contains("href=\"./%") && !page.contains("href=\"./."), "{page}");
            assert!(!page.contains('\u{1}') && !page.contains("a\nb"), "{page}");
        }
        assert!(page("d/", &["d/.."], &[]).contains("<td><bdi>..</bdi></td>"));
    }

    #[test]
    fn the_breadcrumb_leads_up_to_the_bucket() {
        let page = page("a//b/", &[], &[]);
        assert!(
            page.contains(
                "<h1><a href=\"../../../\"><bdi>/p&lt;1&gt;</bdi>/</a>\
                 <a href=\"../../\"><bdi>a</bdi>/</a><a href=\"../\"><bdi></bdi>/</a>\
                 <bdi>b</bdi>/</h1>"
            ),
            "{page}"
        );
    }

    #[test]
    fn the_directory_itself_is_no_entry() {
        assert!(!page("d/", &["d/"], &[]).contains("<bdi></bdi></a>"));
    }

    #[test]
    fn sizes_and_times_are_short() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (1_048_575, "1023.9 KiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            let mut out = Vec::new();
            append_size(bytes, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), shown);
        }
        assert_eq!(short_time("2026-11-29T10:00:59.000Z"), "2026-11-29 10:00 UTC");
        for other in ["", "yesterday", "八2026-11-29T10:00Z", "2026-11-29T10:00:59+01:00"] {
            assert_eq!(short_time(other), other);
        }
    }
}
