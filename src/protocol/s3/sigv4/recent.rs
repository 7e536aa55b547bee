//! Signatures of the present second, so that an object which many clients request at once is signed
//! once.
//!
//! A signature covers the method, the bucket's host, the key and the second, and neither ranges nor
//! conditions (see [`super`]): all requests for an object within a second carry the same one. An
//! object that is requested once costs a comparison and a copy on top of its signature.

use std::fmt;

use super::{HASH_DIGITS, SigningInput, date::AmzDate};

/// Signatures kept, per core. A power of two. Objects that many clients ask for within the same
/// second are few; all others would only push them out.
const SLOTS: usize = 256;

/// Longest request target that is kept, in bytes. Ordinary keys fit, and all slots of a core
/// together stay below 100 KiB.
const TARGET_BYTES_MAX: usize = 192;

/// A signature, in lower-case hexadecimal.
pub(super) type Signature = [u8; HASH_DIGITS];

/// Signatures that one core made lately under one generation. They must end with it, as a
/// signature is only as good as the credentials that made it.
#[derive(Default)]
pub struct RecentSignatures {
    /// Empty until the first signature is kept.
    slots: Vec<Slot>,
}

#[derive(Clone)]
struct Slot {
    date: AmzDate,
    bucket: usize,
    is_head: bool,
    target_bytes: usize,
    target: [u8; TARGET_BYTES_MAX],
    signature: Signature,
}

impl RecentSignatures {
    /// The signature of a request for `target` in that bucket, from `sign` unless it is known.
    pub(super) fn get_or(
        &mut self,
        bucket: usize,
        date: &AmzDate,
        input: &SigningInput<'_>,
        sign: impl FnOnce() -> Signature,
    ) -> Signature {
        if input.target.len() > TARGET_BYTES_MAX {
            return sign();
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::unused());
        }
        let is_head = input.method == "HEAD";
        let Some(slot) = self.slots.get_mut(slot_of(bucket, input.target)) else { return sign() };
        let known = slot.date == *date
            && slot.bucket == bucket
            && slot.is_head == is_head
            && slot.target.get(..slot.target_bytes) == Some(input.target);
        if !known {
            slot.signature = sign();
            (slot.date, slot.bucket, slot.is_head) = (*date, bucket, is_head);
            slot.target_bytes = input.target.len();
            slot.target.iter_mut().zip(input.target).for_each(|(kept, byte)| *kept = *byte);
        }
        slot.signature
    }
}

impl Slot {
    /// A slot that matches no request, as no target is empty.
    fn unused() -> Self {
        Self {
            date: AmzDate::from_unix(0),
            bucket: 0,
            is_head: false,
            target_bytes: 0,
            target: [0; TARGET_BYTES_MAX],
            signature: [0; HASH_DIGITS],
        }
    }
}

impl fmt::Debug for RecentSignatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentSignatures").finish_non_exhaustive()
    }
}

/// Slot of a target's signature. Targets that collide are signed again, and nothing else.
fn slot_of(bucket: usize, target: &[u8]) -> usize {
    // An odd constant with bits all over: 2^64 divided by the golden ratio.
    const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(MIX);
    let (words, rest) = target.as_chunks::<8>();
    let hash = words.iter().fold(bucket as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
    usize::try_from(hash >> (u64::BITS - SLOTS.ilog2())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(method: &'static str, target: &'static [u8]) -> SigningInput<'static> {
        SigningInput { method, host: "s3.example", target, access_key: "K", session_token: None }
    }

    fn signature(number: u8) -> Signature {
        [number; HASH_DIGITS]
    }

    #[test]
    fn only_the_same_request_of_the_same_second_gets_the_same_signature() {
        let seconds = [0, 1].map(AmzDate::from_unix);
        let mut recent = RecentSignatures::default();
        let mut number = 0;
        let mut made = Vec::new();
        for _ in 0..2 {
            for (bucket, date, method, target) in [
                (0, seconds[0], "GET", b"/a".as_slice()),
                (1, seconds[0], "GET", b"/a"),
                (0, seconds[1], "GET", b"/a"),
                (0, seconds[1], "HEAD", b"/a"),
                (0, seconds[1], "HEAD", b"/b"),
                (0, seconds[1], "HEAD", b"/b/"),
            ] {
                let input = input(method, target);
                number += 1;
                let new = signature(number);
                let got = recent.get_or(bucket, &date, &input, || new);
                let again = recent.get_or(bucket, &date, &input, || signature(0));
                assert_eq!(got, again);
                made.push(((bucket, date, method, target), got));
            }
        }
        for (one, of_one) in &made {
            for (other, of_other) in &made {
                assert!(one == other || of_one != of_other, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_long_target_is_signed_each_time() {
        static LONG: [u8; TARGET_BYTES_MAX + 1] = [b'/'; TARGET_BYTES_MAX + 1];
        let date = AmzDate::from_unix(0);
        let mut recent = RecentSignatures::default();
        for number in 1..3 {
            let got = recent.get_or(0, &date, &input("GET", &LONG), || signature(number));
            assert_eq!(got, signature(number));
        }
        assert_eq!(
            recent.get_or(0, &date, &input("GET", &LONG[1..]), || signature(3)),
            signature(3)
        );
        assert_eq!(
            recent.get_or(0, &date, &input("GET", &LONG[1..]), || signature(4)),
            signature(3)
        );
    }

    #[test]
    fn all_slots_together_are_small() {
        assert!(SLOTS * size_of::<Slot>() < 100 * 1_024);
    }
}
