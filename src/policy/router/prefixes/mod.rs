//! Longest-prefix routing from a canonical path to a bucket, among those of one host.
//!
//! A prefix matches whole segments only, so `/public` never matches `/publicfoo`. One pass over
//! the path keeps a hash of the segments so far. At the end of each segment it looks that hash up
//! in a table, if any prefix has that length at all. So the cost grows with the part of the path
//! that can matter (never further than the longest prefix), and not with the number of buckets.
//!
//! The hash is fast rather than hard to collide. All keys in the table come from the operator's
//! configuration, so clients cannot fill it with colliding ones. A hit is compared byte by byte, so
//! a path that collides with a prefix costs one comparison and routes nowhere.

use std::fmt;

use crate::protocol::text::hash;

/// A place that more than one bucket has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicatePlace;

impl fmt::Display for DuplicatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two buckets have the same host and path_prefix")
    }
}

impl std::error::Error for DuplicatePlace {}

/// Checks a path prefix: decoded text that starts with `/` and ends without one (but for `/`
/// itself, which matches every path).
///
/// # Errors
/// The problem, in words that fit after the key path.
pub fn validate_path_prefix(prefix: &str) -> Result<(), &'static str> {
    if !prefix.starts_with('/') {
        return Err("a path prefix must start with '/'; write one before it");
    }
    if prefix.len() > 1 && prefix.ends_with('/') {
        return Err(
            "a path prefix must not end with '/'; remove it, because whole segments match anyway",
        );
    }
    if prefix.contains("//") {
        return Err("a path prefix must not have empty segments ('//'); write one '/'");
    }
    if prefix.contains('%') {
        return Err("a path prefix must be written decoded: a space for %20, without any '%'");
    }
    if prefix.contains(['?', '#']) {
        return Err("a path prefix must not have a '?' or '#'; end it before them");
    }
    if prefix.chars().any(char::is_control) {
        return Err("a path prefix must not have control characters");
    }
    if prefix.split('/').any(|segment| segment == "." || segment == "..") {
        return Err("a path prefix must not have a '.' or '..' segment");
    }
    Ok(())
}

/// Destination of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed<'p> {
    /// The number that the bucket was given in [`Router::build`](super::Router::build).
    pub bucket: usize,
    /// The object key as the client names it: everything after the prefix and one `/`, so that
    /// the key of `/products//a` is `/a`. None when the path names only the prefix, with or
    /// without a `/` after it.
    pub key: Option<&'p [u8]>,
}

#[derive(Clone, Debug)]
struct Route {
    hash: u64,
    prefix: Box<[u8]>,
    bucket: usize,
}

/// The prefixes of buckets, and which bucket each leads to. The default one has none.
#[derive(Clone, Default)]
pub(super) struct Prefixes {
    /// The bucket of the prefix `/`.
    root: Option<usize>,
    /// Open addressing with linear probing, at most half full; the size is a power of two.
    slots: Box<[Option<Route>]>,
    /// Set for each length, up to the longest, that a prefix has.
    has_length: Box<[bool]>,
}

impl Prefixes {
    /// Builds the table from prefixes (see [`validate_path_prefix`]) and the caller's number for
    /// each bucket.
    ///
    /// # Errors
    /// A prefix comes a second time.
    pub(super) fn build<'a>(
        prefixes: impl IntoIterator<Item = (&'a str, usize)>,
    ) -> Result<Self, DuplicatePlace> {
        let prefixes: Vec<(&str, usize)> = prefixes.into_iter().collect();
        // Of thousands of hosts most have the root only, which needs no table.
        let below_root = || prefixes.iter().filter(|(prefix, _)| *prefix != "/");
        let mut router = match below_root().map(|(prefix, _)| prefix.len()).max() {
            None => Self::default(),
            Some(longest) => Self {
                root: None,
                slots: vec![None; (below_root().count() * 2).next_power_of_two()].into(),
                has_length: vec![false; longest + 1].into(),
            },
        };
        for (prefix, bucket) in prefixes {
            debug_assert!(prefix.starts_with('/'), "an unchecked prefix: {prefix}");
            if prefix == "/" {
                if router.root.replace(bucket).is_some() {
                    return Err(DuplicatePlace);
                }
                continue;
            }
            let bytes = prefix.as_bytes();
            let hash = bytes[1..].split(|&byte| byte == b'/').fold(0, hash::add_bytes);
            let mut slot = router.first_slot(hash);
            while let Some(route) = &router.slots[slot] {
                if *route.prefix == *bytes {
                    return Err(DuplicatePlace);
                }
                slot = (slot + 1) & (router.slots.len() - 1);
            }
            router.slots[slot] = Some(Route { hash, prefix: bytes.into(), bucket });
            router.has_length[bytes.len()] = true;
        }
        Ok(router)
    }

    /// Returns true if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_none() && self.slots.is_empty()
    }

    /// The bucket with the longest prefix of `canonical_path`, and the key in it.
    pub(super) fn route<'p>(&self, canonical_path: &'p [u8]) -> Option<Routed<'p>> {
        self.route_observed(canonical_path, |_| ())
    }

    /// Does what [`Self::route`] does and reports each step to `observe`, so that a test can count
    /// them.
    fn route_observed<'p>(
        &self,
        path: &'p [u8],
        mut observe: impl FnMut(Step),
    ) -> Option<Routed<'p>> {
        let [b'/', after_root @ ..] = path else {
            return None;
        };
        let mut found = self.root.map(|bucket| (bucket, after_root));
        let longest = self.has_length.len().saturating_sub(1);
        let mut hash = 0;
        let mut start = 1;
        while start <= longest {
            // Past the longest prefix no segment can end where a prefix does.
            let window = &path[start..path.len().min(longest + 1)];
            let end = match memchr::memchr(b'/', window) {
                Some(at) => start + at,
                None if path.len() <= longest => path.len(),
                None => break,
            };
            observe(Step::Segment);
            hash = hash::add_bytes(hash, &path[start..end]);
            if self.has_length[end]
                && let Some(bucket) = self.look_up(hash, &path[..end], &mut observe)
            {
                found = Some((bucket, path.get(end + 1..).unwrap_or_default()));
            }
            if end == path.len() {
                break;
            }
            start = end + 1;
        }
        let (bucket, key) = found?;
        Some(Routed { bucket, key: (!key.is_empty()).then_some(key) })
    }

    fn look_up(&self, hash: u64, prefix: &[u8], observe: &mut impl FnMut(Step)) -> Option<usize> {
        let mut slot = self.first_slot(hash);
        loop {
            observe(Step::Slot);
            let route = self.slots[slot].as_ref()?;
            if route.hash == hash && *route.prefix == *prefix {
                return Some(route.bucket);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    fn first_slot(&self, hash: u64) -> usize {
        hash::slot(hash, self.slots.len().trailing_zeros())
    }
}

impl fmt::Debug for Prefixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut routes = f.debug_map();
        if let Some(bucket) = self.root {
            routes.entry(&"/", &bucket);
        }
        for route in self.slots.iter().flatten() {
            routes.entry(&String::from_utf8_lossy(&route.prefix), &route.bucket);
        }
        routes.finish()
    }
}

/// A unit of work of [`Prefixes::route`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// A segment has been hashed.
    Segment,
    /// A slot of the table has been read.
    Slot,
}

#[cfg(test)]
mod tests;
