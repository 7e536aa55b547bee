//! Declaring settings: one entry for each key, from which reading, comparing and the table of keys
//! come.
//!
//! ```text
//! declare! {
//!     /// `server`.
//!     pub struct ServerSettings {
//!         /// TCP port; 0 takes any free one and prints it at start.
//!         port: u16 = integer(0, 65_535, "").is("8080").restart(),
//!     }
//! }
//! ```
//!
//! The comment is the field's documentation and the key's row in `docs/CONFIG.md`. The type knows
//! how it is read and shown ([`Value`]), the right side what may be written ([`Key`]).

use std::collections::HashMap;

use super::{
    changes::Changes,
    keys::{Applies, Key},
    section::Section,
    walk::At,
};

/// A type that the value of a key, or of a group of keys, is read into.
pub(super) trait Value: Sized + PartialEq + Clone {
    /// Reads it; where a problem was noted, a stand-in.
    fn read(section: Section<'_>, key: &'static Key) -> Self;

    /// The value for people; asked for keys that need a restart only.
    fn shown(&self, _key: &Key) -> String {
        "another value".to_owned()
    }

    /// Returns true if both mean the same.
    fn is_same(&self, new: &Self, _key: &Key) -> bool {
        self == new
    }

    /// Notes what differs in a key of the section at `at`.
    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        if self.is_same(new, key) {
            return;
        }
        let at = At::Key(at, key.name);
        match key.applies {
            Applies::Hot => changes.hot(at),
            Applies::Restart => changes.restart(at, &self.shown(key), &new.shown(key)),
        }
    }

    /// Takes the value of a running process where a new one needs a restart.
    fn keep(&mut self, running: &Self, key: &'static Key) {
        if key.applies == Applies::Restart {
            self.clone_from(running);
        }
    }
}

/// A type whose fields are keys of one section.
pub(super) trait Keys: Sized + PartialEq + Clone {
    const KEYS: &'static [Key];

    fn read_keys(section: Section<'_>) -> Self;
    fn compare_keys(&self, new: &Self, at: &At<'_>, changes: &mut Changes);
    fn keep_keys(&mut self, running: &Self);
}

impl<T: Keys> Value for T {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.section(key.name, T::read_keys)
    }

    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        self.compare_keys(new, &At::Key(at, key.name), changes);
    }

    fn keep(&mut self, running: &Self, _key: &'static Key) {
        self.keep_keys(running);
    }
}

/// Notes what differs between the elements of the list at `at`, which are the same when their names
/// are. Most did not change, and there may be thousands.
pub(super) fn compare_named<T: PartialEq>(
    running: &[T],
    new: &[T],
    name: fn(&T) -> &str,
    at: &At<'_>,
    changes: &mut Changes,
    compare: fn(&T, &T, &At<'_>, &mut Changes),
) {
    let mut gone: HashMap<&str, &T> = running.iter().map(|one| (name(one), one)).collect();
    for one in new {
        let at = At::Named(at, name(one));
        match gone.remove(name(one)) {
            Some(running) if running == one => {}
            Some(running) => compare(running, one, &at, changes),
            None => changes.hot(at),
        }
    }
    for gone in running.iter().filter(|one| gone.contains_key(name(one))) {
        changes.hot(At::Named(at, name(gone)));
    }
}

/// Declares a section: a struct, or for one that exists the keys of its fields. A field whose key
/// has another name says `as "name"`; `check` is run when all fields have been read.
macro_rules! declare {
    (
        $(#[$meta:meta])*
        pub struct $Section:ident $(, check = $check:path)? {
            $($(#[doc = $about:literal])* $field:ident $(as $name:literal)?: $Type:ty = $key:expr,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Section {
            $($(#[doc = $about])* pub $field: $Type,)*
        }

        declare! {
            impl $Section $(, check = $check)? {
                $($(#[doc = $about])* $field $(as $name)?: $Type = $key,)*
            }
        }
    };
    (
        impl $Section:ident $(, check = $check:path)? {
            $($(#[doc = $about:literal])* $field:ident $(as $name:literal)?: $Type:ty = $key:expr,)*
        }
    ) => {
        impl $crate::config::declare::Keys for $Section {
            const KEYS: &'static [$crate::config::keys::Key] = &[
                $(*declare!(@key $key, $field $($name)?, $($about)*),)*
            ];

            fn read_keys(section: $crate::config::section::Section<'_>) -> Self {
                $(
                    let $field = <$Type as $crate::config::declare::Value>::read(
                        section,
                        declare!(@key $key, $field $($name)?, $($about)*),
                    );
                )*
                let read = Self { $($field),* };
                $($check(&read, section);)?
                read
            }

            fn compare_keys(
                &self,
                new: &Self,
                at: &$crate::config::walk::At<'_>,
                changes: &mut $crate::config::changes::Changes,
            ) {
                $(
                    let key = declare!(@key $key, $field $($name)?, $($about)*);
                    $crate::config::declare::Value::compare(
                        &self.$field, &new.$field, key, at, changes,
                    );
                )*
            }

            fn keep_keys(&mut self, running: &Self) {
                $(
                    let key = declare!(@key $key, $field $($name)?, $($about)*);
                    $crate::config::declare::Value::keep(&mut self.$field, &running.$field, key);
                )*
            }
        }
    };
    (@key $key:expr, $field:ident $($name:literal)?, $($about:literal)*) => {
        const {
            let name = $crate::config::keys::keys!(@name $field $($name)?);
            &$key.called(name, concat!($($about),*))
        }
    };
}
pub(super) use declare;

/// Declares an enum whose variants are words in the file, or for one that exists its words. The
/// first one stands in where a problem was noted.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $Name:ident { $($(#[$doc:meta])* $Variant:ident = $word:literal,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name {
            $($(#[$doc])* $Variant,)+
        }

        impl $Name {
            /// The word in the file.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$Variant => $word,)+
                }
            }
        }

        words! { impl $Name { $($Variant = $word,)+ } }
    };
    (impl $Name:ident { $($Variant:ident = $word:literal,)+ }) => {
        impl $crate::config::declare::Words for $Name {
            const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl $crate::config::declare::Value for $Name {
            fn read(
                section: $crate::config::section::Section<'_>,
                key: &'static $crate::config::keys::Key,
            ) -> Self {
                const ALL: &[$Name] = &[$($Name::$Variant),+];
                section.choice(key.name).map_or(ALL[0], |index| ALL[index])
            }

            fn shown(&self, _key: &$crate::config::keys::Key) -> String {
                match self {
                    $(Self::$Variant => $word.to_owned(),)+
                }
            }
        }
    };
}
pub(super) use words;

/// A type whose values are words in the file.
pub(super) trait Words {
    const WORDS: &'static [&'static str];
}

/// A key that holds one of the words of a type.
pub(super) const fn choice<T: Words>() -> Key {
    super::keys::one_of(T::WORDS)
}

/// A key that holds a section of its own.
pub(super) const fn section_of<T: Keys>() -> Key {
    super::keys::section(T::KEYS)
}

/// A key that holds a list of such sections.
pub(super) const fn list_of<T: Keys>() -> Key {
    super::keys::list(T::KEYS)
}
