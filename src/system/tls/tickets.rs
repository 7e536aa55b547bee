//! Session tickets: the session that a client keeps for us, sealed, so that any core resumes it
//! (RFC 8446 section 4.6.1, RFC 5077).
//!
//! A ticket names its key, and holds the time when it was issued and what rustls wants to find
//! again. It can be opened only where clients are judged as where it was issued: a listener that
//! asks for certificates of another CA, or no longer for none, opens no earlier ticket
//! (CVE-2025-23419 was a resumption past a client certificate).

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{self, SHA256},
    error::Unspecified,
    hkdf, rand,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use crate::system::clock::{Monotonic, unix_seconds};

/// Age up to which a ticket is accepted, in seconds. Whoever learns a key can read the TLS 1.2
/// connections that were resumed with its tickets, so it is short.
const LIFETIME_SECONDS: u32 = 12 * 3_600;

/// Age at which a key of the process gets a successor, in seconds. It is forgotten when that one
/// gets a successor too.
const ROTATION_SECONDS: u64 = 6 * 3_600;

/// Seconds by which the clock of the instance that issued a ticket may be ahead.
const CLOCK_SKEW_SECONDS: u64 = 300;

/// Length of a key's name, in bytes.
const NAME_BYTES: usize = 16;

/// Lengths of a key in a file, in bytes, name included: those that nginx takes (AES-128 and
/// AES-256).
const FILE_KEY_BYTES: [usize; 2] = [48, 80];

/// Keys that a file may hold at most. All of them but the first are only waited out.
const FILE_KEYS_MAX: usize = 64;

/// Length of the time of issue, in bytes.
const ISSUED_BYTES: usize = 8;

/// Digest of the rules by which clients are admitted.
pub(super) type PolicyDigest = [u8; 32];

/// Keys that seal and open session tickets. Clones share them.
#[derive(Clone)]
pub struct TicketKeys(Arc<Keys>);

struct Keys {
    kind: Kind,
    /// Seconds by the clock that tickets are dated with.
    now: fn() -> u64,
}

enum Kind {
    /// Made by this process, and replaced in time.
    Rotating(RwLock<Ring>),
    /// Given, newest first.
    Fixed { keys: Box<[TicketKey]>, digest: [u8; 32] },
}

/// The newest key and the one before it.
struct Ring {
    newest: TicketKey,
    /// When it was made.
    made: u64,
    previous: Option<TicketKey>,
}

struct TicketKey {
    name: [u8; NAME_BYTES],
    /// Nonces are random and several instances may share a key, so one may come twice: with this
    /// cipher that tells at most that two tickets are equal (RFC 8452 section 1).
    key: LessSafeKey,
}

impl TicketKeys {
    /// Keys that nobody else has, replaced every 6 hours and accepted for 12.
    ///
    /// # Errors
    /// A sentence: the system gives no random numbers.
    pub fn of_process() -> Result<Self, String> {
        // A clock that nobody sets.
        Self::rotating(|| Monotonic::now().0 / 1_000_000_000)
    }

    fn rotating(now: fn() -> u64) -> Result<Self, String> {
        let newest = TicketKey::random().map_err(|_| "no random numbers for a key".to_owned())?;
        let ring = Ring { newest, made: now(), previous: None };
        Ok(Self(Arc::new(Keys { kind: Kind::Rotating(RwLock::new(ring)), now })))
    }

    /// Keys of a file that several instances share, one a line in base64, newest first. The first
    /// one seals, and all of them open.
    ///
    /// # Errors
    /// A sentence that begins with the line, and repeats nothing of it.
    pub fn from_lines(text: &[u8]) -> Result<Self, String> {
        Self::fixed(text, unix_seconds)
    }

    fn fixed(text: &[u8], now: fn() -> u64) -> Result<Self, String> {
        let mut keys = Vec::new();
        let mut whole = digest::Context::new(&SHA256);
        for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let key = TicketKey::from_line(line)
                .map_err(|problem| format!("line {number} {problem}; {HOW_TO_WRITE}"))?;
            if keys.len() == FILE_KEYS_MAX {
                return Err(format!(
                    "line {number} is one key too many; keep the newest {FILE_KEYS_MAX}"
                ));
            }
            whole.update(line);
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(format!("holds no key; {HOW_TO_WRITE}"));
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(whole.finish().as_ref());
        let kind = Kind::Fixed { keys: keys.into(), digest };
        Ok(Self(Arc::new(Keys { kind, now })))
    }

    /// Those of one policy towards clients.
    pub(super) fn ticketer(&self, policy: PolicyDigest) -> Arc<dyn ProducesTickets> {
        Arc::new(Ticketer { keys: self.clone(), policy })
    }

    fn seal(&self, policy: &PolicyDigest, plain: &[u8]) -> Option<Vec<u8>> {
        let now = (self.0.now)();
        match &self.0.kind {
            Kind::Fixed { keys, .. } => keys.first()?.seal(now, policy, plain),
            Kind::Rotating(ring) => {
                with_ring(ring, now, |ring| ring.newest.seal(now, policy, plain))
            }
        }
        .ok()
    }

    fn open(&self, policy: &PolicyDigest, ticket: &[u8]) -> Option<Vec<u8>> {
        let now = (self.0.now)();
        let (name, sealed) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (issued, plain) = match &self.0.kind {
            Kind::Fixed { keys, .. } => {
                keys.iter().find(|key| key.name == *name)?.open(policy, sealed)
            }
            Kind::Rotating(ring) => with_ring(ring, now, |ring| {
                let mut keys = [Some(&ring.newest), ring.previous.as_ref()].into_iter().flatten();
                keys.find(|key| key.name == *name).and_then(|key| key.open(policy, sealed))
            }),
        }?;
        let is_young = now.saturating_sub(issued) <= u64::from(LIFETIME_SECONDS);
        (is_young && issued <= now.saturating_add(CLOCK_SKEW_SECONDS)).then_some(plain)
    }
}

const HOW_TO_WRITE: &str = "write 48 or 80 random bytes in base64 on a line of their own, as \
                            `head -c 80 /dev/urandom | base64 -w 0` does, newest first";

/// Reads the ring, which has a new key first if it is time for one.
fn with_ring<T>(ring: &RwLock<Ring>, now: u64, read: impl FnOnce(&Ring) -> T) -> T {
    let is_due = |ring: &Ring| now.saturating_sub(ring.made) >= ROTATION_SECONDS;
    {
        let ring = ring.read().unwrap_or_else(PoisonError::into_inner);
        if !is_due(&ring) {
            return read(&ring);
        }
    }
    let mut ring = ring.write().unwrap_or_else(PoisonError::into_inner);
    // Another core may have been first. Without random numbers the old key has to do.
    if is_due(&ring)
        && let Ok(key) = TicketKey::random()
    {
        let is_used = now.saturating_sub(ring.made) < u64::from(LIFETIME_SECONDS);
        let before = std::mem::replace(&mut ring.newest, key);
        ring.previous = is_used.then_some(before);
        ring.made = now;
    }
    read(&ring)
}

impl TicketKey {
    fn random() -> Result<Self, Unspecified> {
        let mut name = [0; NAME_BYTES];
        rand::fill(&mut name)?;
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(&mut *key)?;
        Ok(Self { name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, &*key)?) })
    }

    /// A line of a file, or what is wrong with it.
    fn from_line(line: &[u8]) -> Result<Self, String> {
        let decoded = STANDARD.decode(line).map_err(|_| "is not base64".to_owned())?;
        let decoded = Zeroizing::new(decoded);
        if !FILE_KEY_BYTES.contains(&decoded.len()) {
            return Err(format!("holds {} bytes", decoded.len()));
        }
        let Some((name, secret)) = decoded.split_first_chunk::<NAME_BYTES>() else {
            return Err("is too short".to_owned());
        };
        if secret.iter().all(|byte| *byte == secret[0]) {
            return Err("holds the same byte over and over, which is no key".to_owned());
        }
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"session tickets");
        let key = salt
            .extract(secret)
            .expand(&[b"key"], &AES_256_GCM_SIV)
            .map(UnboundKey::from)
            .map_err(|_| "cannot be made into a key".to_owned())?;
        Ok(Self { name: *name, key: LessSafeKey::new(key) })
    }

    /// Name, nonce, sealed time of issue and content, tag.
    fn seal(&self, now: u64, policy: &PolicyDigest, plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce)?;
        let tag_bytes = AES_256_GCM_SIV.tag_len();
        let length = NAME_BYTES + NONCE_LEN + ISSUED_BYTES + plain.len() + tag_bytes;
        let mut ticket = Vec::with_capacity(length);
        ticket.extend_from_slice(&self.name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&now.to_be_bytes());
        ticket.extend_from_slice(plain);
        let sealed = ticket.get_mut(NAME_BYTES + NONCE_LEN..).unwrap_or_default();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, self.bound_to(policy), sealed)?;
        ticket.extend_from_slice(tag.as_ref());
        Ok(ticket)
    }

    /// The time of issue, and the content.
    fn open(&self, policy: &PolicyDigest, ticket: &[u8]) -> Option<(u64, Vec<u8>)> {
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut opened = sealed.to_vec();
        let plain = self.key.open_in_place(nonce, self.bound_to(policy), &mut opened).ok()?;
        let (issued, plain) = plain.split_first_chunk::<ISSUED_BYTES>()?;
        Some((u64::from_be_bytes(*issued), plain.to_vec()))
    }

    fn bound_to(&self, policy: &PolicyDigest) -> Aad<[u8; NAME_BYTES + 32]> {
        let mut bound = [0; NAME_BYTES + 32];
        bound[..NAME_BYTES].copy_from_slice(&self.name);
        bound[NAME_BYTES..].copy_from_slice(policy);
        Aad::from(bound)
    }
}

impl PartialEq for TicketKeys {
    /// Returns true if a ticket of one can be opened with the other.
    fn eq(&self, other: &Self) -> bool {
        match (&self.0.kind, &other.0.kind) {
            (Kind::Fixed { digest, .. }, Kind::Fixed { digest: other, .. }) => digest == other,
            _ => Arc::ptr_eq(&self.0, &other.0),
        }
    }
}

impl Eq for TicketKeys {}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(***)")
    }
}

/// The keys, for listeners that judge clients in one way.
#[derive(Debug)]
struct Ticketer {
    keys: TicketKeys,
    policy: PolicyDigest,
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal(&self.policy, plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys.open(&self.policy, cipher)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const HERE: PolicyDigest = [1; 32];
    const ELSEWHERE: PolicyDigest = [2; 32];
    const HOUR: u64 = 3_600;

    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }

    fn now() -> u64 {
        NOW.get()
    }

    fn rotating() -> TicketKeys {
        NOW.set(0);
        TicketKeys::rotating(now).unwrap()
    }

    fn line(seed: u8, length: u8) -> String {
        let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(7).wrapping_add(seed)).collect();
        STANDARD.encode(bytes)
    }

    fn fixed(lines: &[String]) -> TicketKeys {
        TicketKeys::fixed(lines.join("\n").as_bytes(), now).unwrap()
    }

    #[test]
    fn what_was_sealed_is_opened_under_the_same_policy_only() {
        for keys in [rotating(), fixed(&[line(1, 48)]), fixed(&[line(1, 80)])] {
            let ticket = keys.seal(&HERE, b"session").unwrap();
            assert_eq!(keys.open(&HERE, &ticket).as_deref(), Some(&b"session"[..]));
            assert_eq!(keys.open(&ELSEWHERE, &ticket), None);
            assert_eq!(keys.clone().open(&HERE, &ticket).as_deref(), Some(&b"session"[..]));
            assert_ne!(keys.seal(&HERE, b"session").unwrap(), ticket, "no ticket comes twice");
        }
    }

    #[test]
    fn a_ticket_that_was_altered_or_cut_is_not_opened() {
        let keys = rotating();
        let ticket = keys.seal(&HERE, b"session").unwrap();
        for length in 0..ticket.len() {
            assert_eq!(keys.open(&HERE, &ticket[..length]), None, "{length}");
        }
        for at in 0..ticket.len() {
            let mut altered = ticket.clone();
            altered[at] ^= 1;
            assert_eq!(keys.open(&HERE, &altered), None, "{at}");
        }
        assert_eq!(rotating().open(&HERE, &ticket), None, "other keys");
    }

    #[test]
    fn a_ticket_lives_for_twelve_hours_at_most_and_six_at_least() {
        let keys = rotating();
        let ticket = keys.seal(&HERE, b"old").unwrap();
        for (hours, works) in [(0, true), (5, true), (6, true), (11, true), (12, false)] {
            NOW.set(hours * HOUR);
            assert_eq!(keys.open(&HERE, &ticket).is_some(), works, "after {hours} h");
        }
        // Issued just before its key got a successor.
        NOW.set(18 * HOUR - 1);
        let ticket = keys.seal(&HERE, b"old").unwrap();
        for (hours, works) in [(18, true), (23, true), (24, false)] {
            NOW.set(hours * HOUR);
            assert_eq!(keys.open(&HERE, &ticket).is_some(), works, "at {hours} h");
        }
    }

    #[test]
    fn a_key_seals_for_six_hours_and_none_outlives_a_long_rest() {
        let keys = rotating();
        let name = |ticket: Vec<u8>| ticket[..NAME_BYTES].to_vec();
        let first = name(keys.seal(&HERE, b"").unwrap());
        NOW.set(6 * HOUR - 1);
        assert_eq!(name(keys.seal(&HERE, b"").unwrap()), first);
        NOW.set(6 * HOUR);
        assert_ne!(name(keys.seal(&HERE, b"").unwrap()), first);
        NOW.set(100 * HOUR);
        keys.seal(&HERE, b"").unwrap();
        let Kind::Rotating(ring) = &keys.0.kind else { unreachable!() };
        assert!(ring.read().unwrap().previous.is_none());
    }

    #[test]
    fn tickets_of_a_file_have_an_age_too() {
        NOW.set(1_000_000);
        let keys = fixed(&[line(1, 80)]);
        let ticket = keys.seal(&HERE, b"session").unwrap();
        NOW.set(1_000_000 + 12 * HOUR);
        assert!(keys.open(&HERE, &ticket).is_some());
        NOW.set(1_000_001 + 12 * HOUR);
        assert!(keys.open(&HERE, &ticket).is_none());
        // Of an instance whose clock is ahead.
        NOW.set(1_000_000 - CLOCK_SKEW_SECONDS);
        assert!(keys.open(&HERE, &ticket).is_some());
        NOW.set(1_000_000 - CLOCK_SKEW_SECONDS - 1);
        assert!(keys.open(&HERE, &ticket).is_none());
    }

    #[test]
    fn the_first_line_seals_and_all_of_them_open() {
        let (old, new) = (line(1, 48), line(2, 80));
        let before = fixed(std::slice::from_ref(&old));
        let after = fixed(&[new.clone(), old.clone()]);
        let ticket = before.seal(&HERE, b"old").unwrap();
        assert!(after.open(&HERE, &ticket).is_some());
        let ticket = after.seal(&HERE, b"new").unwrap();
        assert!(before.open(&HERE, &ticket).is_none());
        assert!(fixed(&[old.clone(), new.clone()]).open(&HERE, &ticket).is_some());
        assert!(fixed(std::slice::from_ref(&new)).open(&HERE, &ticket).is_some());
        assert!(fixed(&[line(3, 80)]).open(&HERE, &ticket).is_none());
        assert_eq!(after, fixed(&[new.clone(), String::new(), old.clone() + "\r"]));
        assert_ne!(after, fixed(&[old, new]));
    }

    #[test]
    fn lines_that_are_no_keys_are_refused_by_their_number() {
        for (text, begin) in [
            (String::new(), "holds no key"),
            ("\n \r\n".to_owned(), "holds no key"),
            ("%%%".to_owned(), "line 1 is not base64"),
            (format!("{}\n{}", line(1, 48), line(1, 47)), "line 2 holds 47 bytes"),
            // As `openssl rand -base64 80` writes it.
            (format!("{}\n{}", line(1, 48), line(2, 32)), "line 2 holds 32 bytes"),
            (STANDARD.encode([7; 48]), "line 1 holds the same byte"),
            (vec![line(1, 48); FILE_KEYS_MAX + 1].join("\n"), "line 65 is one key too many"),
        ] {
            let problem = TicketKeys::from_lines(text.as_bytes()).unwrap_err();
            assert!(problem.starts_with(begin), "{problem}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = rotating();
        assert_eq!(format!("{keys:?}"), "TicketKeys(***)");
        let ticketer = format!("{:?}", keys.ticketer(HERE));
        assert!(ticketer.contains("***"), "{ticketer}");
    }
}
