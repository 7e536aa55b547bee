//! gzip, by a port of zlib-ng.

use flate2::{Compress, Compression, FlushCompress, Status};

use super::step::{EncodeError, Operation, Step};

/// The next levels up cost much more than they save.
const LEVEL: u32 = 5;

/// Window, as a power of two: the largest that there is.
const WINDOW_BITS: u8 = 15;

#[derive(Debug)]
pub(super) struct Gzip(Compress);

impl Gzip {
    pub(super) fn new() -> Self {
        Self(Compress::new_gzip(Compression::new(LEVEL), WINDOW_BITS))
    }

    pub(super) fn begin(&mut self) {
        self.0.reset();
    }

    pub(super) fn step(
        &mut self,
        operation: Operation,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Step, EncodeError> {
        let (read, written) = (self.0.total_in(), self.0.total_out());
        let flush = match operation {
            Operation::Encode => FlushCompress::None,
            Operation::Flush => FlushCompress::Sync,
            Operation::Finish => FlushCompress::Finish,
        };
        let status = self.0.compress(input, output, flush).map_err(|_| EncodeError)?;
        let count = |after: u64, before: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
        let read = count(self.0.total_in(), read);
        let written = count(self.0.total_out(), written);
        let is_done = match operation {
            Operation::Encode => read == input.len(),
            // Room that is left says that nothing more was to come (zlib.h, `deflate`).
            Operation::Flush => written < output.len(),
            Operation::Finish => status == Status::StreamEnd,
        };
        Ok(Step { read, written, is_done })
    }
}
