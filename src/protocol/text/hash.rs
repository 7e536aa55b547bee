//! A hash of byte strings that is fast rather than hard to collide.
//!
//! It belongs where a collision costs a comparison or a computation and nothing else.

/// An odd number without a pattern in its bits: 2^64 divided by the golden ratio.
pub const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Adds `bytes` to a hash, eight at a time. A different cut of the same bytes gives a different
/// hash.
#[inline]
pub fn add_bytes(hash: u64, bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let (words, tail) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    // The leading one tells a short tail from one that ends in zeros.
    let tail = tail.iter().rev().fold(1, |word, &byte| word << 8 | u64::from(byte));
    mix(hash, tail)
}

/// Slot of a hash in a table of `2^bits` slots; `bits` is at most 32.
///
/// Takes the high bits of a product, which depend on all bits of the hash. The low ones do not.
#[inline]
pub const fn slot(hash: u64, bits: u32) -> usize {
    (hash.wrapping_mul(FACTOR) >> 32 >> (32 - bits)) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn strings_that_differ_have_different_hashes() {
        let strings: [&[u8]; 9] =
            [b"", b"\0", b"\0\0", b"\x01", b"a", b"aaaaaaaa", b"aaaaaaaa\0", b"aaaaaaab", b"/a/b"];
        let hashes: HashSet<u64> = strings.iter().map(|bytes| add_bytes(0, bytes)).collect();
        assert_eq!(hashes.len(), strings.len());
        assert_ne!(add_bytes(add_bytes(0, b"a"), b"b"), add_bytes(0, b"ab"));
    }

    #[test]
    fn slots_are_within_the_table_and_spread() {
        assert_eq!(slot(u64::MAX, 0), 0);
        let used: HashSet<usize> =
            (0..10_000_u64).map(|n| slot(add_bytes(0, &n.to_le_bytes()), 8)).collect();
        assert_eq!(used.len(), 256);
        assert_eq!(used.into_iter().max(), Some(255));
    }
}
