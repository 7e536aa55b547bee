//! Ids of requests.

use std::cell::Cell;

use crate::{protocol::text::hex, system::process};

/// Length of a request id, in characters.
pub(crate) const REQUEST_ID_CHARS: usize = 32;

/// Ids of requests: 64 random bits of this core, then a counter. Unique without a system call or
/// a shared counter; they need not be secret.
#[derive(Debug)]
pub(crate) struct RequestIds {
    prefix: [u8; 16],
    next: Cell<u64>,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        let prefix = hex::lower_u64(process::random_number());
        // The counter starts somewhere too, so that ids of restarts do not look alike.
        let start = process::random_number() >> 16;
        Self { prefix, next: Cell::new(start) }
    }

    pub(crate) fn next(&self) -> [u8; REQUEST_ID_CHARS] {
        let number = self.next.get().wrapping_add(1);
        self.next.set(number);
        let mut id = [0; REQUEST_ID_CHARS];
        id[..16].copy_from_slice(&self.prefix);
        id[16..].copy_from_slice(&hex::lower_u64(number));
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_differ_and_are_hex() {
        let ids = RequestIds::new();
        let (a, b) = (ids.next(), ids.next());
        assert_ne!(a, b);
        assert_eq!(a[..16], b[..16]);
        assert!(a.iter().all(u8::is_ascii_hexdigit));
        assert_ne!(RequestIds::new().next()[..16], a[..16]);
    }
}
