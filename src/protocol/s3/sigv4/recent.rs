//! Signatures of the present second, so that an object which many clients request at once is signed
//! once.
//!
//! A signature covers the method, the bucket's host, the key, the query and the second, and neither
//! ranges nor conditions (see [`super`]): all requests for an object within a second carry the same
//! one, and the target that is compared here has the query in it. An object gets a slot when it is
//! signed twice in a row among those that share the slot, so that those that are requested once
//! leave the signatures of others alone.

use std::fmt;

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use zeroize::Zeroizing;

use super::{date::AmzDate, signer::Signer};
use crate::protocol::text::hash;

/// Hexadecimal digits of a SHA-256 value.
pub(super) const HASH_DIGITS: usize = 2 * SHA256_OUTPUT_LEN;

/// Signatures kept, per core. A power of two. Objects that many clients request within the same
/// second are few; all others would only push them out.
const SLOTS: usize = 256;

/// Longest host and request target that are kept, in bytes together. Ordinary names and keys fit,
/// and all slots of a core together stay below 100 KiB.
const URL_BYTES_MAX: usize = 256;

/// A signature, in lower-case hexadecimal.
pub(super) type Signature = [u8; HASH_DIGITS];

/// Signatures that one core made lately under one generation. They must end with it, as a
/// signature is only as good as the credentials that made it.
#[derive(Default)]
pub struct RecentSignatures {
    /// Empty until the first signature is made.
    slots: Vec<Slot>,
    /// One for each slot.
    hashes: Vec<Hashes>,
    /// Memory for what is signed.
    scratch: Zeroizing<Vec<u8>>,
}

/// Hashes of targets, which mostly say without a look at a slot that another is not in it.
#[derive(Clone, Copy, Default)]
struct Hashes {
    /// Of the target in the slot.
    kept: u64,
    /// Of the target that was signed last for this slot.
    signed: u64,
}

#[derive(Clone)]
struct Slot {
    date: AmzDate,
    signer: Signer,
    is_head: bool,
    host_bytes: usize,
    url_bytes: usize,
    /// The host, and the target behind it.
    url: [u8; URL_BYTES_MAX],
    signature: Signature,
}

impl RecentSignatures {
    /// The signature of a request by that signer, from `sign` unless it is known.
    pub(super) fn get_or(
        &mut self,
        signer: Signer,
        date: &AmzDate,
        method: &str,
        host: &str,
        target: &[u8],
        sign: impl FnOnce(&mut Vec<u8>) -> Signature,
    ) -> Signature {
        let host = host.as_bytes();
        let url_bytes = host.len() + target.len();
        if url_bytes > URL_BYTES_MAX {
            return sign(&mut self.scratch);
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::unused());
            self.hashes.resize(SLOTS, Hashes::default());
        }
        let hash = hash_of(signer.bucket, target);
        let place = place_of(hash);
        let (Some(slot), Some(hashes)) = (self.slots.get_mut(place), self.hashes.get_mut(place))
        else {
            return sign(&mut self.scratch);
        };
        let is_head = method == "HEAD";
        let is_kept = hashes.kept == hash;
        let known = is_kept
            && slot.date == *date
            && slot.signer == signer
            && slot.is_head == is_head
            && slot.url.get(slot.host_bytes..slot.url_bytes) == Some(target)
            && slot.url.get(..slot.host_bytes) == Some(host);
        if known {
            return slot.signature;
        }
        let signature = sign(&mut self.scratch);
        if is_kept || hashes.signed == hash {
            hashes.kept = hash;
            slot.signature = signature;
            (slot.date, slot.signer, slot.is_head) = (*date, signer, is_head);
            (slot.host_bytes, slot.url_bytes) = (host.len(), url_bytes);
            let (front, back) = slot.url.split_at_mut(host.len());
            front.copy_from_slice(host);
            back.iter_mut().zip(target).for_each(|(kept, byte)| *kept = *byte);
        }
        hashes.signed = hash;
        signature
    }
}

impl Slot {
    /// A slot that matches no request, as no target is empty.
    fn unused() -> Self {
        Self {
            date: AmzDate::from_unix(0),
            signer: Signer::default(),
            is_head: false,
            host_bytes: 0,
            url_bytes: 0,
            url: [0; URL_BYTES_MAX],
            signature: [0; HASH_DIGITS],
        }
    }
}

impl fmt::Debug for RecentSignatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentSignatures").finish_non_exhaustive()
    }
}

/// Hash of a target of a bucket. Targets that collide cost each other a signature, and nothing
/// else.
fn hash_of(bucket: usize, target: &[u8]) -> u64 {
    hash::add_bytes(bucket as u64, target)
}

/// The slot of a hash.
fn place_of(hash: u64) -> usize {
    hash::slot(hash, SLOTS.ilog2())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn signer(bucket: usize, serial: u64) -> Signer {
        Signer { bucket, serial }
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
            for (signer, date, method, host, target) in [
                (signer(0, 0), seconds[0], "GET", "x", b"/a".as_slice()),
                (signer(1, 0), seconds[0], "GET", "x", b"/a"),
                (signer(1, 1), seconds[0], "GET", "x", b"/a"),
                (signer(0, 0), seconds[1], "GET", "x", b"/a"),
                (signer(0, 0), seconds[1], "HEAD", "x", b"/a"),
                (signer(0, 0), seconds[1], "HEAD", "x", b"/b"),
                (signer(0, 0), seconds[1], "HEAD", "x", b"/b/"),
                (signer(0, 0), seconds[1], "HEAD", "y", b"/b/"),
                (signer(0, 0), seconds[1], "HEAD", "y/b", b"/"),
                (signer(0, 0), seconds[1], "HEAD", "y", b"/b/?versionId=1"),
                (signer(0, 0), seconds[1], "HEAD", "y", b"/b/?versionId=2"),
            ] {
                number += 2;
                let mut get =
                    |made| recent.get_or(signer, &date, method, host, target, |_| signature(made));
                // It is kept with the second request at the latest.
                get(number);
                let got = get(number + 1);
                assert_eq!(get(0), got);
                assert_ne!(got, signature(0));
                made.push(((signer, date, method, host, target), got));
            }
        }
        for (one, of_one) in &made {
            for (other, of_other) in &made {
                assert!(one == other || of_one != of_other, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn targets_of_the_same_hash_do_not_share_a_signature() {
        let targets = [b"/bucket/hotthingindex.js", b"/bucket/XVQWJ1yfgHZV20s1"];
        assert_eq!(hash_of(0, targets[0]), hash_of(0, targets[1]));
        let date = AmzDate::from_unix(0);
        let mut recent = RecentSignatures::default();
        let mut get = |target: usize, made| {
            let sign = |_: &mut Vec<u8>| signature(made);
            recent.get_or(signer(0, 0), &date, "GET", "x", targets[target], sign)
        };
        get(0, 1);
        assert_eq!((get(0, 2), get(0, 0)), (signature(2), signature(2)));
        assert_eq!(get(1, 3), signature(3));
        assert_eq!(get(0, 4), signature(4));
    }

    #[test]
    fn a_long_target_is_signed_each_time() {
        static LONG: [u8; URL_BYTES_MAX] = [b'/'; URL_BYTES_MAX];
        let date = AmzDate::from_unix(0);
        let mut recent = RecentSignatures::default();
        for number in 1..3 {
            let got = recent.get_or(signer(0, 0), &date, "GET", "x", &LONG, |_| signature(number));
            assert_eq!(got, signature(number));
        }
        let mut get =
            |made| recent.get_or(signer(0, 0), &date, "GET", "x", &LONG[1..], |_| signature(made));
        assert_eq!(get(3), signature(3));
        assert_eq!(get(4), signature(4));
        assert_eq!(get(5), signature(4));
    }

    #[test]
    fn a_target_that_is_requested_once_leaves_the_signature_in_its_slot_alone() {
        let place = place_of(hash_of(0, b"/hot"));
        let mut others = (0_u32..)
            .map(|number| format!("/{number}").into_bytes())
            .filter(|target| place_of(hash_of(0, target)) == place);
        let date = Cell::new(AmzDate::from_unix(0));
        let mut recent = RecentSignatures::default();
        let mut get = |target: &[u8], made| {
            recent.get_or(signer(0, 0), &date.get(), "GET", "x", target, |_| signature(made))
        };
        assert_eq!(get(b"/hot", 1), signature(1));
        assert_eq!(get(b"/hot", 2), signature(2));
        for made in 3..9 {
            assert_eq!(get(&others.next().unwrap(), made), signature(made));
            assert_eq!(get(b"/hot", 0), signature(2), "after {made}");
        }
        // In the next second as well, where it is signed once.
        date.set(AmzDate::from_unix(1));
        assert_eq!(get(b"/hot", 9), signature(9));
        assert_eq!(get(b"/hot", 0), signature(9));

        let other = others.next().unwrap();
        assert_eq!(get(&other, 10), signature(10));
        assert_eq!(get(&other, 11), signature(11));
        assert_eq!(get(&other, 0), signature(11));
        assert_eq!(get(b"/hot", 12), signature(12), "its slot has gone to another");
    }

    #[test]
    fn all_slots_together_are_small() {
        assert!(SLOTS * (size_of::<Slot>() + size_of::<Hashes>()) < 100 * 1_024);
    }
}
