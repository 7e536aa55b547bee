//! Compression: which responses are coded, in which coding, and the entity tags that tell the coded
//! from the others.
//!
//! A coded response is another representation than the object that S3 holds, and needs an entity
//! tag of its own (RFC 9110 section 8.8.3.3). The tag of the object gets a mark for the coding, and
//! is weak: the same object may be coded into other bytes another time, with other pauses of S3 or
//! another version of an encoder (section 8.8.1). Marks are removed again before S3 is asked, which
//! knows nothing of them.
//!
//! Deliberately absent: the codings themselves (`protocol::content_coding`).

use super::media_range::MediaRange;
use crate::protocol::{
    content_coding::Coding,
    http1::{EntityTag, entity_tags, list_members, qvalue},
};

/// A weight of 1, in thousandths.
const WEIGHT_MAX: u16 = 1_000;

/// `buckets[].compress`, ready to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compress {
    types: Box<[MediaRange]>,
    min_bytes: u64,
    codings: Box<[Coding]>,
}

/// The properties of a response of S3 that decide whether it is coded.
#[derive(Clone, Copy, Debug)]
pub struct Body<'b> {
    /// `Content-Type`; empty without one.
    pub content_type: &'b [u8],
    /// `Content-Length`, where there is one.
    pub length: Option<u64>,
    /// True if there is a `Content-Encoding`.
    pub is_coded: bool,
    /// True if `Cache-Control` says `no-transform` (RFC 9111 section 5.2.2.6).
    pub no_transform: bool,
}

impl Compress {
    /// The rules of a bucket; none if nothing is to be compressed.
    pub fn new(types: &[MediaRange], min_bytes: u64, codings: &[Coding]) -> Option<Self> {
        (!types.is_empty() && !codings.is_empty()).then(|| Self {
            types: types.into(),
            min_bytes,
            codings: codings.into(),
        })
    }

    /// Returns true if a body is one that clients get coded when they take a coding.
    pub fn covers(&self, body: &Body<'_>) -> bool {
        let is_long_enough = body.length.is_none_or(|length| length >= self.min_bytes);
        is_long_enough && self.covers_part(body)
    }

    /// The same, whatever its length: for a part of a body.
    pub fn covers_part(&self, body: &Body<'_>) -> bool {
        let is_wanted = self.types.iter().any(|range| range.holds(body.content_type));
        is_wanted && !body.is_coded && !body.no_transform
    }

    /// The codings that a client takes, by its `Accept-Encoding` fields (RFC 9110 section 12.5.3).
    /// Among those that it likes best, the first one configured is chosen. Without a field, or
    /// where it likes the uncoded body better, it is none.
    pub fn choose<'v>(&self, fields: impl Iterator<Item = &'v [u8]>) -> Choice {
        let mut weights = Weights::default();
        fields.for_each(|field| weights.read(field));
        let mut choice = Choice::default();
        let mut best = weights.identity.or(weights.any).unwrap_or(0).max(1);
        for coding in &self.codings {
            let weight = weights.of(*coding);
            if weight == 0 {
                continue;
            }
            choice.taken[*coding as usize] = true;
            if weight > best || (weight == best && choice.coding.is_none()) {
                (best, choice.coding) = (weight, Some(*coding));
            }
        }
        choice
    }
}

/// The codings that a client takes, and the one that it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The coding that it gets; none: the body as it is.
    pub coding: Option<Coding>,
    taken: [bool; Coding::ALL.len()],
}

impl Choice {
    fn takes(self, coding: Coding) -> bool {
        self.taken[coding as usize]
    }

    /// Appends an `If-None-Match` as S3 is asked it: marks of codings that the client takes are
    /// removed, so that the tag is that of the object again. Others match nothing.
    pub fn append_if_none_match(self, value: &[u8], out: &mut Vec<u8>) {
        let mut rest = value;
        for tag in entity_tags(value) {
            let Some((opaque, coding)) = unmarked(tag) else { continue };
            if !self.takes(coding) {
                continue;
            }
            let before = value.len() - rest.len();
            out.extend_from_slice(value.get(before..tag.start).unwrap_or_default());
            // Without W/: S3 compares with the strong tag that it gave.
            out.push(b'"');
            out.extend_from_slice(opaque);
            out.push(b'"');
            rest = value.get(tag.end..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
    }

    /// The representation that the client has, when S3 answered its `If-None-Match` fields, if any,
    /// with 304 and this tag of the object.
    pub fn of_not_modified<'v>(
        self,
        fields: impl Iterator<Item = &'v [u8]>,
        object: &[u8],
    ) -> Held {
        // Another tag is about another condition, such as `If-Modified-Since`.
        let unknown = if self.coding.is_some() { Held::Unknown } else { Held::Object };
        let Some(object) = entity_tags(object).next() else { return unknown };
        for tag in fields.flat_map(entity_tags) {
            if tag.opaque == object.opaque {
                return Held::Object;
            }
            match unmarked(tag) {
                Some((opaque, coding)) if opaque == object.opaque && self.takes(coding) => {
                    return Held::Coded(coding);
                }
                _ => {}
            }
        }
        unknown
    }
}

/// The representation of an object that a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The object as it is.
    Object,
    /// The object in this coding.
    Coded(Coding),
    /// One of them.
    Unknown,
}

/// Weights that a client gives, in thousandths.
#[derive(Debug, Default)]
struct Weights {
    listed: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Weights {
    fn read(&mut self, field: &[u8]) {
        for member in list_members(field) {
            let mut parts = member.split(|byte| *byte == b';');
            let name = parts.next().unwrap_or_default().trim_ascii();
            let weight = weight(parts);
            let slot = if name == b"*" {
                &mut self.any
            } else if name.eq_ignore_ascii_case(b"identity") {
                &mut self.identity
            } else {
                match Coding::ALL.into_iter().find(|coding| coding.is_called(name)) {
                    Some(coding) => &mut self.listed[coding as usize],
                    None => continue,
                }
            };
            // Listed twice: what the client said of it least willingly.
            *slot = Some(slot.map_or(weight, |before| before.min(weight)));
        }
    }

    fn of(&self, coding: Coding) -> u16 {
        self.listed[coding as usize].or(self.any).unwrap_or(0)
    }
}

/// The weight among the parameters of a member (RFC 9110 section 12.4.2). One that is malformed
/// counts as 0: the uncoded body is always right.
fn weight<'p>(mut parameters: impl Iterator<Item = &'p [u8]>) -> u16 {
    match parameters.next().map(<[u8]>::trim_ascii) {
        None => WEIGHT_MAX,
        Some([b'q' | b'Q', b'=', value @ ..]) => qvalue(value).unwrap_or(0),
        Some(_) => 0,
    }
}

/// Appends the tag of a coded representation of an object with this `ETag`. Nothing, and false, if
/// that is no entity tag.
pub fn append_marked(etag: &[u8], coding: Coding, out: &mut Vec<u8>) -> bool {
    let Some(tag) = entity_tags(etag).next() else { return false };
    out.extend_from_slice(b"W/\"");
    out.extend_from_slice(tag.opaque);
    out.push(b'-');
    out.extend_from_slice(coding.name().as_bytes());
    out.push(b'"');
    true
}

/// Returns true if an entity tag has a mark, as that of a coded representation does.
pub fn is_marked(etag: &[u8]) -> bool {
    entity_tags(etag).any(|tag| unmarked(tag).is_some())
}

/// The text of a tag without its mark, and the coding that it is for. A strong tag has none: it may
/// be that of an object, and end like one.
fn unmarked(tag: EntityTag<'_>) -> Option<(&[u8], Coding)> {
    if !tag.is_weak() {
        return None;
    }
    Coding::ALL.into_iter().find_map(|coding| {
        let opaque = tag.opaque.strip_suffix(coding.name().as_bytes())?.strip_suffix(b"-")?;
        Some((opaque, coding))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 3] = Coding::ALL;

    fn rules(codings: &[Coding]) -> Compress {
        let types = ["text/html", "Text/*", "application/JSON"];
        let types = types.map(|text| MediaRange::parse(text).unwrap());
        Compress::new(&types, 1_024, codings).unwrap()
    }

    fn choose(fields: &[&str]) -> Choice {
        rules(&ALL).choose(fields.iter().map(|field| field.as_bytes()))
    }

    #[test]
    fn the_coding_that_a_client_likes_best_is_chosen_and_ties_go_by_the_configured_order() {
        use Coding::{Brotli, Gzip, Zstd};
        for (fields, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["gzip"], Some(Gzip)),
            (&["GZIP"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["gzip, deflate, br, zstd"], Some(Zstd)),
            (&["gzip, deflate, br"], Some(Brotli)),
            (&["gzip", "br"], Some(Brotli)),
            (&["gzip;q=1.0, br;q=0.9, zstd;q=0.8"], Some(Gzip)),
            (&["gzip ; Q=0.5 , br\t;\tq=0.501"], Some(Brotli)),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000, br;q=0.001"], Some(Brotli)),
            (&["deflate, compress"], None),
            (&["*"], Some(Zstd)),
            (&["*;q=0"], None),
            (&["*;q=0, gzip"], Some(Gzip)),
            (&["zstd;q=0, *"], Some(Brotli)),
            (&["zstd;q=0, br;q=0, *;q=0.1"], Some(Gzip)),
            (&["identity"], None),
            (&["identity, gzip"], Some(Gzip)),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=0.5"], Some(Gzip)),
            (&["identity;q=0, gzip;q=0.1"], Some(Gzip)),
            (&["identity;q=0"], None),
            (&["gzip;q=0.5, *"], Some(Zstd)),
            (&["gzip, gzip;q=0"], None),
            (&["gzip;q=2"], None),
            (&["gzip;q=1.001"], None),
            (&["gzip;q=0.1234"], None),
            (&["gzip;q="], None),
            (&["gzip;q=.5"], None),
            (&["gzip;q=-1"], None),
            (&["gzip;level=9"], None),
            (&["gzip;q=1."], Some(Gzip)),
            (&["gzipped, xgzip"], None),
            (&[",,gzip,,"], Some(Gzip)),
            (&["gzip br"], None),
        ] {
            assert_eq!(choose(fields).coding, expected, "{fields:?}");
        }
        let gzip_first = rules(&[Gzip, Zstd]);
        assert_eq!(gzip_first.choose([&b"zstd, gzip, br"[..]].into_iter()).coding, Some(Gzip));
        assert_eq!(rules(&[Gzip]).choose([&b"gzip;q=0.5, *"[..]].into_iter()).coding, None);
    }

    #[test]
    fn types_are_compared_in_any_case_and_without_parameters() {
        let body = |content_type: &'static str| Body {
            content_type: content_type.as_bytes(),
            length: Some(1_024),
            is_coded: false,
            no_transform: false,
        };
        let rules = rules(&ALL);
        for (content_type, expected) in [
            ("text/html", true),
            ("TEXT/HTML; charset=UTF-8", true),
            ("text/css ;x", true),
            ("application/json", true),
            ("application/json5", false),
            ("textual/html", false),
            ("text", false),
            ("image/png", false),
            ("", false),
        ] {
            assert_eq!(rules.covers(&body(content_type)), expected, "{content_type}");
        }
        assert!(!rules.covers(&Body { length: Some(1_023), ..body("text/css") }));
        assert!(rules.covers_part(&Body { length: Some(1), ..body("text/css") }));
        assert!(rules.covers(&Body { length: None, ..body("text/css") }));
        assert!(!rules.covers(&Body { is_coded: true, ..body("text/css") }));
        assert!(!rules.covers(&Body { no_transform: true, ..body("text/css") }));
        assert_eq!(Compress::new(&[], 0, &ALL), None);
    }

    #[test]
    fn marks_are_put_on_and_taken_off() {
        let marked = |etag: &str, coding| {
            let mut out = Vec::new();
            append_marked(etag.as_bytes(), coding, &mut out)
                .then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(marked("\"abc-2\"", Coding::Zstd).as_deref(), Some("W/\"abc-2-zstd\""));
        assert_eq!(marked("W/\"abc\"", Coding::Brotli).as_deref(), Some("W/\"abc-br\""));
        assert_eq!(marked("abc", Coding::Gzip), None);
        for (etag, expected) in [
            ("W/\"abc-zstd\"", true),
            ("W/\"-br\"", true),
            // Marks of ours are weak: this is an object's own.
            ("\"abc-gzip\"", false),
            ("\"abc\"", false),
            ("\"abc-2\"", false),
            ("\"abc-ZSTD\"", false),
            ("\"gzip\"", false),
            ("Sun, 29 Nov 2026 09:00:00 GMT", false),
        ] {
            assert_eq!(is_marked(etag.as_bytes()), expected, "{etag}");
        }
    }

    #[test]
    fn s3_is_asked_for_tags_without_the_marks_of_codings_that_the_client_takes() {
        let asked = |value: &str, accepts: &str| {
            let mut out = Vec::new();
            choose(&[accepts]).append_if_none_match(value.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        for (value, accepts, expected) in [
            ("W/\"a-zstd\"", "zstd", "\"a\""),
            ("\"a-zstd\"", "zstd", "\"a-zstd\""),
            ("W/\"a-zstd\"", "gzip", "W/\"a-zstd\""),
            ("W/\"a-gzip\"", "zstd, gzip", "\"a\""),
            ("\"a\", W/\"b-br\" , W/\"c-gzip\"", "br", "\"a\", \"b\" , W/\"c-gzip\""),
            ("*", "zstd", "*"),
            ("\"a-2\"", "zstd", "\"a-2\""),
            ("W/\"a-2-zstd\"", "zstd", "\"a-2\""),
            ("W/\"a-zstd", "zstd", "W/\"a-zstd"),
        ] {
            assert_eq!(asked(value, accepts), expected, "{value} of {accepts}");
        }
    }

    #[test]
    fn a_304_names_the_representation_that_the_client_has() {
        let of = |fields: &[&str], accepts: &str, object: &str| {
            let fields = fields.iter().map(|field| field.as_bytes());
            choose(&[accepts]).of_not_modified(fields, object.as_bytes())
        };
        assert_eq!(of(&["W/\"a-zstd\""], "zstd", "\"a\""), Held::Coded(Coding::Zstd));
        assert_eq!(of(&["\"x\"", "W/\"a-gzip\""], "br, gzip", "\"a\""), Held::Coded(Coding::Gzip));
        assert_eq!(of(&["\"a\", W/\"a-zstd\""], "zstd", "\"a\""), Held::Object);
        assert_eq!(of(&["W/\"a-zstd\""], "gzip", "\"a\""), Held::Unknown);
        assert_eq!(of(&["W/\"b-zstd\""], "zstd", "\"a\""), Held::Unknown);
        assert_eq!(of(&["*"], "zstd", "\"a\""), Held::Unknown);
        assert_eq!(of(&[], "zstd", "\"a\""), Held::Unknown);
        assert_eq!(of(&["W/\"a-zstd\""], "zstd", ""), Held::Unknown);
        assert_eq!(of(&["*"], "identity", "\"a\""), Held::Object);
    }

    /// A member as a client may write it, and what it means: a name in lower case, and its weight.
    fn member() -> impl Strategy<Value = (String, &'static str, u16)> {
        let names = ["zstd", "br", "gzip", "identity", "*", "deflate"];
        (0..names.len(), 0..=1_000_u16, any::<[bool; 4]>()).prop_map(
            move |(name, weight, style)| {
                let name = names[name];
                let [upper, blank, bare, short] = style;
                let written = if upper { name.to_uppercase() } else { name.to_owned() };
                let blank = if blank { " " } else { "" };
                let decimals = format!("{}.{:03}", weight / 1_000, weight % 1_000);
                let decimals = if short { decimals.trim_end_matches('0') } else { &*decimals };
                if bare {
                    (written, name, 1_000)
                } else {
                    (format!("{written}{blank};{blank}q={decimals}"), name, weight)
                }
            },
        )
    }

    proptest! {
        /// Against the words of RFC 9110 section 12.5.3, coding by coding.
        #[test]
        fn the_choice_is_what_the_client_said(
            members in proptest::collection::vec(member(), 0..7),
            order in Just(ALL.to_vec()).prop_shuffle(),
            configured in 1..=3_usize,
        ) {
            let codings = &order[..configured];
            let text = members.iter().map(|(text, ..)| text.as_str()).collect::<Vec<_>>().join(", ");
            let said = |wanted: &str| {
                members.iter().filter(|(_, name, _)| *name == wanted).map(|said| said.2).min()
            };
            let weight_of = |coding: Coding| said(coding.name()).or_else(|| said("*")).unwrap_or(0);
            let chosen = rules(codings).choose([text.as_bytes()].into_iter());
            let best = codings.iter().map(|coding| weight_of(*coding)).max().unwrap();
            let identity = said("identity").or_else(|| said("*")).unwrap_or(0);
            let first = codings.iter().copied().find(|coding| weight_of(*coding) == best);
            let expected = first.filter(|_| best > 0 && best >= identity);
            prop_assert_eq!(chosen.coding, expected, "{}", text);
            for coding in ALL {
                let takes = codings.contains(&coding) && weight_of(coding) > 0;
                prop_assert_eq!(chosen.takes(coding), takes, "{}", text);
            }
        }

        #[test]
        fn a_mark_comes_off_again(opaque in "[!#-~]{0,40}", coding in 0..3_usize) {
            let coding = ALL[coding];
            let mut marked = Vec::new();
            let tag = format!("\"{opaque}\"").into_bytes();
            prop_assert!(append_marked(&tag, coding, &mut marked));
            prop_assert!(is_marked(&marked));
            let mut asked = Vec::new();
            choose(&["*"]).append_if_none_match(&marked, &mut asked);
            prop_assert_eq!(asked, tag);
        }

        #[test]
        fn no_bytes_panic(fields in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..4)) {
            let all = || fields.iter().map(Vec::as_slice);
            let choice = rules(&ALL).choose(all());
            for field in all() {
                choice.append_if_none_match(field, &mut Vec::new());
                is_marked(field);
                append_marked(field, Coding::Zstd, &mut Vec::new());
                choice.of_not_modified(all(), field);
            }
        }
    }
}
