//! HMAC-SHA-256 (RFC 2104) that goes on from states of the hash (FIPS 180-4), which are kept: a
//! string to sign begins with the same bytes for a whole second, and both keys of an HMAC are a
//! block each. That is three of the eleven blocks of an ordinary signature.
//!
//! AWS-LC gives no access to the state of a hash, so its blocks are compressed by the crate `sha2`.
//! Only where the processor has instructions for that: without them AWS-LC is faster by more than
//! what the states save.

use std::{cell::Cell, fmt};

use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use sha2::block_api::compress256;
use zeroize::Zeroize;

use super::date::AmzDate;

/// Bytes of a block of SHA-256.
pub(super) const BLOCK_BYTES: usize = 64;

/// A hash by SHA-256.
pub(super) type Hash = [u8; SHA256_OUTPUT_LEN];

/// A state of SHA-256 after some blocks.
#[derive(Clone, Copy)]
pub(super) struct State {
    words: [u32; 8],
    /// Bytes of those blocks.
    bytes: u64,
}

impl State {
    /// Before the first block (FIPS 180-4 section 5.3.3).
    pub(super) const START: Self = Self {
        words: [
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ],
        bytes: 0,
    };

    /// The state after more blocks. What is left behind the last whole one is not in it.
    fn after(mut self, bytes: &[u8]) -> Self {
        let (blocks, _) = bytes.as_chunks::<BLOCK_BYTES>();
        compress256(&mut self.words, blocks);
        self.bytes += blocks.as_flattened().len() as u64;
        self
    }

    /// The hash of what led to this state and of `message` from byte `from` on. The padding (FIPS
    /// 180-4 section 5.1.1) is appended to the message.
    pub(super) fn finish(self, message: &mut Vec<u8>, from: usize) -> Hash {
        let bits = (self.bytes + (message.len() - from) as u64) * 8;
        message.push(0x80);
        let padded = (message.len() - from + size_of_val(&bits)).next_multiple_of(BLOCK_BYTES);
        message.resize(from + padded - size_of_val(&bits), 0);
        message.extend_from_slice(&bits.to_be_bytes());
        let mut hash = Hash::default();
        let words = self.after(&message[from..]).words;
        for (four, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *four = word.to_be_bytes();
        }
        hash
    }
}

impl Zeroize for State {
    fn zeroize(&mut self) {
        self.words.zeroize();
    }
}

/// The states of one signing key. They are as secret as the key.
pub(super) struct Kept {
    /// After the inner key.
    inner: State,
    /// After the outer key.
    outer: State,
    /// After the inner key and the whole blocks of what all strings to sign of a second begin with.
    of_second: Cell<(AmzDate, State)>,
}

impl Kept {
    /// The states of a key, or none where others sign faster.
    pub(super) fn of(key: &Hash) -> Option<Self> {
        has_sha_instructions().then(|| Self::new(key))
    }

    pub(super) fn new(key: &Hash) -> Self {
        let padded = |pad: u8| {
            let mut block = [pad; BLOCK_BYTES];
            block.iter_mut().zip(key).for_each(|(padded, byte)| *padded ^= byte);
            let state = State::START.after(&block);
            block.zeroize();
            state
        };
        let inner = padded(0x36);
        let of_second = Cell::new((AmzDate::from_unix(0), inner));
        Self { inner, outer: padded(0x5c), of_second }
    }

    /// The HMAC of `message`, which is overwritten. Its first `same` bytes must be the same for all
    /// messages of that date.
    pub(super) fn sign(&self, date: &AmzDate, same: usize, message: &mut Vec<u8>) -> Hash {
        let kept = same / BLOCK_BYTES * BLOCK_BYTES;
        let (mut known, mut state) = self.of_second.get();
        if known != *date || state.bytes != (BLOCK_BYTES + kept) as u64 {
            (known, state) = (*date, self.inner.after(&message[..kept]));
            self.of_second.set((known, state));
        }
        let hash = state.finish(message, kept);
        message.clear();
        message.extend_from_slice(&hash);
        self.outer.finish(message, 0)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
        self.of_second.get_mut().1.zeroize();
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

/// Returns true if the processor has instructions for SHA-256, those that `sha2` looks for.
pub(super) fn has_sha_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1");
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("sha2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has = false;
    has
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{digest, hmac};

    use super::*;

    #[test]
    fn every_length_has_the_hash_that_aws_lc_gives_it() {
        let bytes: Vec<u8> = (0..=255).cycle().take(4 * BLOCK_BYTES).collect();
        for len in 0..=bytes.len() {
            let expected = digest::digest(&digest::SHA256, &bytes[..len]);
            for from in (0..=len).step_by(BLOCK_BYTES) {
                let state = State::START.after(&bytes[..from]);
                let hash = state.finish(&mut bytes[..len].to_vec(), from);
                assert_eq!(hash.as_slice(), expected.as_ref(), "{len} bytes, {from} in the state");
            }
        }
    }

    #[test]
    fn a_signature_is_the_hmac_whatever_was_signed_before() {
        let key = std::array::from_fn(|at| u8::try_from(at).unwrap_or(0).wrapping_mul(37));
        let kept = Kept::new(&key);
        let aws_lc = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let mut number = 0_u8;
        for same in 0..=3 * BLOCK_BYTES {
            // The second of before is back as well, as when the clock is set.
            for seconds in [1, 1, 2, 1] {
                number = number.wrapping_add(1);
                let mut message = vec![seconds; same];
                message.extend_from_slice(&[number; 64]);
                let expected = hmac::sign(&aws_lc, &message);
                let date = AmzDate::from_unix(seconds.into());
                let hash = kept.sign(&date, same, &mut message);
                assert_eq!(hash.as_slice(), expected.as_ref(), "{same} bytes, second {seconds}");
            }
        }
    }
}
