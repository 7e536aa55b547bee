//! Zstandard, by the library of its authors.

use std::fmt;

use zstd_safe::{
    CCtx, CParameter, InBuffer, OutBuffer, ResetDirective,
    zstd_sys::ZSTD_EndDirective::{ZSTD_e_continue, ZSTD_e_end, ZSTD_e_flush},
};

use super::step::{EncodeError, Operation, Step};

/// Twice as fast as the next levels up, and as small as gzip's usual one.
const LEVEL: i32 = 3;

/// Window, as a power of two: what an encoder holds is proportional to it. Decoders take 64 times
/// as much (RFC 9659).
const WINDOW_LOG: u32 = 17;

/// Tables of matches, as powers of two of their entries: with the window above, larger ones find
/// nothing more.
const HASH_LOG: u32 = 15;
const CHAIN_LOG: u32 = 14;

pub(super) struct Zstd(CCtx<'static>);

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

impl Zstd {
    pub(super) fn new() -> Result<Self, EncodeError> {
        let mut context = CCtx::try_create().ok_or(EncodeError)?;
        for parameter in [
            CParameter::CompressionLevel(LEVEL),
            CParameter::WindowLog(WINDOW_LOG),
            CParameter::HashLog(HASH_LOG),
            CParameter::ChainLog(CHAIN_LOG),
        ] {
            context.set_parameter(parameter).map_err(|_| EncodeError)?;
        }
        Ok(Self(context))
    }

    pub(super) fn begin(&mut self, length: Option<u64>) -> Result<(), EncodeError> {
        self.0.reset(ResetDirective::SessionOnly).map_err(|_| EncodeError)?;
        self.0.set_pledged_src_size(length).map_err(|_| EncodeError)?;
        Ok(())
    }

    pub(super) fn step(
        &mut self,
        operation: Operation,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Step, EncodeError> {
        let mut from = InBuffer::around(input);
        let mut to = OutBuffer::around(output);
        let directive = match operation {
            Operation::Encode => ZSTD_e_continue,
            Operation::Flush => ZSTD_e_flush,
            Operation::Finish => ZSTD_e_end,
        };
        let left =
            self.0.compress_stream2(&mut to, &mut from, directive).map_err(|_| EncodeError)?;
        let is_done = match operation {
            Operation::Encode => from.pos() == input.len(),
            Operation::Flush | Operation::Finish => left == 0,
        };
        Ok(Step { read: from.pos(), written: to.pos(), is_done })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::content_coding::Coding;

    #[test]
    fn a_long_body_takes_no_more_memory_than_is_said() {
        let mut zstd = Zstd::new().unwrap();
        zstd.begin(None).unwrap();
        let (input, mut output) = (vec![b'x'; 65_536], vec![0; 65_536]);
        for _ in 0..16 {
            zstd.step(Operation::Encode, &input, &mut output).unwrap();
        }
        let bytes = zstd.0.sizeof();
        assert!(bytes <= Coding::Zstd.encoder_bytes_max(), "{bytes}");
    }
}
