//! Steps of an encoder.

/// Use of a step of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Takes input; output comes when there is enough of it.
    Encode,
    /// Brings out all that was taken so far, so that it can be decoded. Without input.
    Flush,
    /// Ends the coded body. Without input.
    Finish,
}

/// Result of a step of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of the input that were taken.
    pub read: usize,
    /// Bytes of the output that were written.
    pub written: usize,
    /// Set if the operation is complete; if not, the same one goes on in the next step.
    pub is_done: bool,
}

/// An encoder that cannot go on: it has no memory, or it was used against its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeError;
