//! Brotli.

use std::fmt;

use brotli::enc::{
    StandardAlloc,
    encode::{
        BrotliEncoderOperation::{
            BROTLI_OPERATION_FINISH, BROTLI_OPERATION_FLUSH, BROTLI_OPERATION_PROCESS,
        },
        BrotliEncoderParameter::{BROTLI_PARAM_LGWIN, BROTLI_PARAM_QUALITY},
        BrotliEncoderStateStruct,
    },
};

use super::step::{EncodeError, Operation, Step};

/// The lowest that is smaller than gzip; the next one up needs twice the time.
const QUALITY: u32 = 4;

/// Window, as a power of two: what an encoder holds is proportional to it.
const WINDOW_LOG: u32 = 17;

/// The smallest window that there is (RFC 7932 section 9.1), for short bodies.
const WINDOW_LOG_MIN: u32 = 10;

/// An encoder for one body; the library has none that begins anew.
#[derive(Default)]
pub(super) struct Brotli(Option<Box<BrotliEncoderStateStruct<StandardAlloc>>>);

impl fmt::Debug for Brotli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Brotli").finish_non_exhaustive()
    }
}

impl Brotli {
    pub(super) fn begin(&mut self, length: Option<u64>) {
        let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
        state.set_parameter(BROTLI_PARAM_QUALITY, QUALITY);
        state.set_parameter(BROTLI_PARAM_LGWIN, window_log(length));
        self.0 = Some(Box::new(state));
    }

    pub(super) fn step(
        &mut self,
        operation: Operation,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Step, EncodeError> {
        let state = self.0.as_mut().ok_or(EncodeError)?;
        let (mut input_left, mut read) = (input.len(), 0);
        let (mut output_left, mut written) = (output.len(), 0);
        let went_on = state.compress_stream(
            match operation {
                Operation::Encode => BROTLI_OPERATION_PROCESS,
                Operation::Flush => BROTLI_OPERATION_FLUSH,
                Operation::Finish => BROTLI_OPERATION_FINISH,
            },
            &mut input_left,
            input,
            &mut read,
            &mut output_left,
            output,
            &mut written,
            &mut None,
            &mut |_, _, _, _| (),
        );
        if !went_on {
            return Err(EncodeError);
        }
        let is_done = match operation {
            Operation::Encode => input_left == 0,
            Operation::Flush => !state.has_more_output(),
            Operation::Finish => state.is_finished(),
        };
        if operation == Operation::Finish && is_done {
            self.0 = None;
        }
        Ok(Step { read, written, is_done })
    }
}

/// The smallest window that holds a body of this length.
fn window_log(length: Option<u64>) -> u32 {
    let bits = length.map_or(WINDOW_LOG, |length| u64::BITS - length.leading_zeros());
    bits.clamp(WINDOW_LOG_MIN, WINDOW_LOG)
}
