//! The encoders of one core: how much memory they hold together, and some that wait for their next
//! body, because making one costs as much as a short body does.

use std::cell::{Cell, RefCell};

use crate::protocol::content_coding::{Coding, EncodeError, Encoder, Operation, Step};

/// Memory that the encoders of one core may hold at a time, in bytes: what hundreds of slow clients
/// need. Bodies beyond that go out as they are.
pub(crate) const ENCODERS_BYTES_MAX: usize = 134_217_728;

/// Free encoders kept of each coding, beside those in use.
const FREE_MAX: usize = 4;

/// The encoders of one core.
#[derive(Debug, Default)]
pub(crate) struct Encoders {
    /// Memory that those in use hold at most.
    bytes: Cell<usize>,
    free: RefCell<[Vec<Encoder>; Coding::ALL.len()]>,
}

/// An encoder in use; goes back to its core when dropped.
#[derive(Debug)]
pub(crate) struct LentEncoder<'e> {
    coding: Coding,
    encoder: Option<Encoder>,
    home: &'e Encoders,
}

impl Encoders {
    /// An encoder for a body of this length, where it is known. None if there is no memory for it.
    pub(crate) fn lend(&self, coding: Coding, length: Option<u64>) -> Option<LentEncoder<'_>> {
        let bytes = self.bytes.get() + coding.encoder_bytes_max();
        if bytes > ENCODERS_BYTES_MAX {
            return None;
        }
        let free = self.free.borrow_mut()[coding as usize].pop();
        let mut encoder = match free {
            Some(encoder) => encoder,
            None => Encoder::new(coding).ok()?,
        };
        encoder.begin(length).ok()?;
        self.bytes.set(bytes);
        Some(LentEncoder { coding, encoder: Some(encoder), home: self })
    }

    /// Lets go of free encoders, for a core that has nothing to do.
    pub(crate) fn shrink(&self) {
        self.free.take();
    }
}

impl LentEncoder<'_> {
    /// The coding that it applies.
    pub(crate) fn coding(&self) -> Coding {
        self.coding
    }

    /// Goes one step on.
    ///
    /// # Errors
    /// The encoder failed; the body cannot be completed.
    pub(crate) fn step(
        &mut self,
        operation: Operation,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Step, EncodeError> {
        self.encoder.as_mut().ok_or(EncodeError)?.step(operation, input, output)
    }
}

impl Drop for LentEncoder<'_> {
    fn drop(&mut self) {
        let Self { coding, encoder, home } = self;
        home.bytes.set(home.bytes.get().saturating_sub(coding.encoder_bytes_max()));
        let free = &mut home.free.borrow_mut()[*coding as usize];
        if free.len() < FREE_MAX && coding.is_reusable() {
            free.extend(encoder.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoders_come_back_and_their_memory_is_bounded() {
        let encoders = Encoders::default();
        let mut lent = Vec::new();
        while let Some(encoder) = encoders.lend(Coding::Gzip, None) {
            assert!(encoders.bytes.get() <= ENCODERS_BYTES_MAX);
            lent.push(encoder);
        }
        assert!(lent.len() >= ENCODERS_BYTES_MAX / Coding::Gzip.encoder_bytes_max());
        assert!(encoders.lend(Coding::Brotli, Some(1)).is_none());
        lent.clear();
        assert_eq!(encoders.bytes.get(), 0);
        assert_eq!(encoders.free.borrow()[Coding::Gzip as usize].len(), FREE_MAX);
        assert!(encoders.lend(Coding::Brotli, Some(1)).is_some());
        encoders.shrink();
        assert!(encoders.free.borrow().iter().all(Vec::is_empty));
    }
}
