//! Keys: name, kind, default, bounds, and the time at which a change applies. Sections are lists of
//! keys; all of them together are the tree below [`Settings`](super::Settings), from which the
//! reader takes types and defaults, the comparison what is hot, the unknown-key message its
//! suggestion, and `docs/CONFIG.md` its table.

use std::fmt;

use super::inputs::NAMED_FILE_BYTES_MAX;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Name inside its section.
    pub name: &'static str,
    /// Purpose, as its documentation comment says it.
    about: &'static str,
    /// Values that may be written.
    pub kind: Kind,
    /// Value that holds when it is not written.
    pub default: Preset,
    /// Time at which a change takes effect.
    pub applies: Applies,
    /// Rule that its text must keep.
    pub(super) check: Option<Check>,
    /// Set for a list of text whose order means nothing.
    pub(super) any_order: bool,
}

/// A rule for text; its error says what is wrong.
pub(super) type Check = fn(&str) -> Result<(), &'static str>;

/// Values that may be written for a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A mapping with these keys.
    Section(&'static [Key]),
    /// A list of mappings with these keys.
    List(&'static [Key]),
    /// A list of text.
    Texts,
    /// Text.
    Text,
    /// A mapping whose keys are not known here, and what they are.
    Map(&'static str),
    /// Text that is never shown.
    Secret,
    /// Path of a file of at most so many bytes, which is read at each load.
    File(usize),
    /// `true` or `false`.
    Boolean,
    /// A whole number within these bounds, both included, and its unit.
    Integer(u64, u64, &'static str),
    /// Seconds above 0 up to a bound, fractions allowed.
    Seconds(u32),
    /// Seconds from 0 up to a bound, fractions allowed.
    SecondsOrZero(u32),
    /// A number from 0 to 1, fractions allowed.
    Share,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of whole numbers, each one of these.
    Integers(&'static [u16]),
    /// Any YAML value; the rule that it belongs to decides.
    Value,
    /// Keys of the section that together are one value. Not a key itself.
    Group(&'static [Key]),
}

/// Value of a key that is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// It must be written.
    Required,
    /// This text, read as if it had been written.
    Is(&'static str),
    /// Nothing, or what these words say.
    Otherwise(&'static str),
}

/// Time at which a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// With the reload that brings it.
    Hot,
    /// When the process is started anew.
    Restart,
}

/// Longest timeout, in seconds: a day. A longer one is a mistake of unit.
pub(super) const DAY_SECONDS: u32 = 86_400;

/// Longest wait for something that somebody stands by for, in seconds: an hour.
pub(super) const HOUR_SECONDS: u32 = 3_600;

/// A key of this kind: optional, without a default, hot.
const fn of(kind: Kind) -> Key {
    let default = Preset::Otherwise("");
    Key { name: "", about: "", kind, default, applies: Applies::Hot, check: None, any_order: false }
}

pub(super) const fn section(keys: &'static [Key]) -> Key {
    of(Kind::Section(keys))
}

pub(super) const fn list(keys: &'static [Key]) -> Key {
    of(Kind::List(keys))
}

pub(super) const fn group(keys: &'static [Key]) -> Key {
    of(Kind::Group(keys))
}

pub(super) const fn texts() -> Key {
    of(Kind::Texts)
}

pub(super) const fn map(names: &'static str) -> Key {
    of(Kind::Map(names))
}

pub(super) const fn text() -> Key {
    of(Kind::Text)
}

pub(super) const fn secret() -> Key {
    of(Kind::Secret)
}

pub(super) const fn file() -> Key {
    of(Kind::File(NAMED_FILE_BYTES_MAX))
}

pub(super) const fn boolean() -> Key {
    of(Kind::Boolean)
}

pub(super) const fn integer(min: u64, max: u64, unit: &'static str) -> Key {
    of(Kind::Integer(min, max, unit))
}

pub(super) const fn seconds(max: u32) -> Key {
    of(Kind::Seconds(max))
}

pub(super) const fn seconds_or_zero(max: u32) -> Key {
    of(Kind::SecondsOrZero(max))
}

pub(super) const fn share() -> Key {
    of(Kind::Share)
}

pub(super) const fn one_of(words: &'static [&'static str]) -> Key {
    of(Kind::Choice(words))
}

pub(super) const fn integers(all: &'static [u16]) -> Key {
    of(Kind::Integers(all))
}

pub(super) const fn any() -> Key {
    of(Kind::Value)
}

impl Key {
    /// Takes effect with the next start only.
    pub(super) const fn restart(mut self) -> Self {
        self.applies = Applies::Restart;
        self
    }

    /// Must be written.
    pub(super) const fn required(mut self) -> Self {
        self.default = Preset::Required;
        self
    }

    /// Has this default.
    pub(super) const fn is(mut self, default: &'static str) -> Self {
        self.default = Preset::Is(default);
        self
    }

    /// Has a default that only words can say.
    pub(super) const fn otherwise(mut self, words: &'static str) -> Self {
        self.default = Preset::Otherwise(words);
        self
    }

    /// Is a list of text whose order means nothing.
    pub(super) const fn in_any_order(mut self) -> Self {
        self.any_order = true;
        self
    }

    /// Text that must keep a rule.
    pub(super) const fn checked(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// A file of at most so many bytes.
    pub(super) const fn at_most(mut self, bytes_max: usize) -> Self {
        self.kind = Kind::File(bytes_max);
        self
    }

    pub(super) const fn called(mut self, name: &'static str, about: &'static str) -> Self {
        (self.name, self.about) = (name, about);
        self
    }

    /// Purpose in one sentence, without a full stop.
    pub fn about(&self) -> &'static str {
        self.about.trim().trim_end_matches('.')
    }
}

impl Kind {
    /// Unit of the number; empty when it has none.
    pub const fn unit(&self) -> &'static str {
        match self {
            Self::Integer(_, _, unit) => unit,
            Self::Seconds(_) | Self::SecondsOrZero(_) => "seconds",
            _ => "",
        }
    }
}

/// A list of keys, each with the documentation comment that says what it is for.
macro_rules! keys {
    ($($(#[doc = $about:literal])+ $word:ident $(as $name:literal)? = $key:expr,)*) => {
        &[$($key.called(keys!(@name $word $($name)?), concat!($($about),+))),*]
    };
    (@name $word:ident) => { stringify!($word) };
    (@name $word:ident $name:literal) => { $name };
}
pub(super) use keys;

/// A key with its place in the file.
#[derive(Clone, Debug)]
pub struct Row {
    /// Path pattern; `[]` stands for any element of a list.
    pub path: String,
    /// The key.
    pub key: &'static Key,
}

impl std::ops::Deref for Row {
    type Target = Key;

    fn deref(&self) -> &Key {
        self.key
    }
}

impl Row {
    /// Pattern of the section that holds it; empty for the top level.
    pub fn section(&self) -> &str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

/// All keys below these, each section before what it holds.
pub(super) fn rows(keys: &'static [Key]) -> Vec<Row> {
    fn add(keys: &'static [Key], prefix: &str, rows: &mut Vec<Row>) {
        for key in keys {
            let path = format!("{prefix}{}", key.name);
            match key.kind {
                Kind::Group(keys) => add(keys, prefix, rows),
                Kind::Section(keys) => {
                    rows.push(Row { path: path.clone(), key });
                    add(keys, &format!("{path}."), rows);
                }
                Kind::List(keys) => {
                    rows.push(Row { path: path.clone(), key });
                    add(keys, &format!("{path}[]."), rows);
                }
                _ => rows.push(Row { path, key }),
            }
        }
    }
    let mut all = Vec::new();
    add(keys, "", &mut all);
    all
}

/// The key of this name directly in a section, groups looked through.
pub(super) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find_map(|key| match key.kind {
        Kind::Group(keys) => find(keys, name),
        _ => Some(key).filter(|key| key.name == name),
    })
}

impl fmt::Display for Kind {
    /// As the table in `docs/CONFIG.md` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Section(_) | Self::Group(_) => f.write_str("mapping"),
            Self::List(_) => f.write_str("list"),
            Self::Texts => f.write_str("list of text"),
            Self::Map(names) => write!(f, "mapping of {names}"),
            Self::Text => f.write_str("text"),
            Self::Secret => f.write_str("secret text"),
            Self::File(_) => f.write_str("file path"),
            Self::Boolean => f.write_str("boolean"),
            Self::Integer(min, max, _) => write!(f, "whole number, {min} to {max}"),
            Self::Seconds(max) => write!(f, "number above 0, up to {max}"),
            Self::SecondsOrZero(max) => write!(f, "number, 0 to {max}"),
            Self::Share => f.write_str("number, 0 to 1"),
            Self::Choice(names) => write!(f, "one of `{}`", names.join("`, `")),
            Self::Integers(all) => {
                let all: Vec<_> = all.iter().map(ToString::to_string).collect();
                write!(f, "list of `{}`", all.join("`, `"))
            }
            Self::Value => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: &[Key] = keys! {
        /// For a test.
        header_bytes = integer(1, 2, "bytes"),
    };
    const SERVER: &[Key] = keys! {
        /// For a test.
        port = integer(0, 65_535, ""),
        /// For a test.
        limits = section(LIMITS),
    };
    const ALL: &[Key] = keys! {
        /// The listener
        /// and more.
        server = section(SERVER),
        /// For a test.
        buckets = list(PREFIX),
        /// Not shown.
        pair = group(SECRETS),
    };
    const PREFIX: &[Key] = keys! {
        /// For a test.
        kind as "type" = text(),
    };
    const SECRETS: &[Key] = keys! {
        /// For a test.
        secret = secret(),
        /// For a test.
        secret_file = file(),
    };

    #[test]
    fn rows_are_in_order_with_their_paths_and_purpose() {
        let rows = rows(ALL);
        let paths: Vec<_> = rows.iter().map(|row| row.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "server",
                "server.port",
                "server.limits",
                "server.limits.header_bytes",
                "buckets",
                "buckets[].type",
                "secret",
                "secret_file"
            ]
        );
        assert_eq!(rows[0].about(), "The listener and more");
        assert_eq!((rows[3].section(), rows[3].name), ("server.limits", "header_bytes"));
        assert!(find(ALL, "secret_file").is_some() && find(ALL, "pair").is_none());
    }
}
