//! Content codings that this proxy applies (RFC 9110 section 8.4.1): their names, and encoders that
//! work in steps. An encoder has bounded memory, whatever the length of a body. Decoding is absent:
//! no body that arrives coded is ever looked into.

mod brotli;
mod gzip;
mod step;
mod zstd;

#[cfg(test)]
mod tests;

pub use self::step::{EncodeError, Operation, Step};
use self::{brotli::Brotli, gzip::Gzip, zstd::Zstd};

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Brotli,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Name in `Content-Encoding` and `Accept-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// Returns true if a member of `Accept-Encoding` names it, in any case; `x-gzip` is gzip (RFC
    /// 9110 section 8.4.1.3).
    pub fn is_called(self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name().as_bytes())
            || (self == Self::Gzip && name.eq_ignore_ascii_case(b"x-gzip"))
    }

    /// Returns true if an encoder that has served one body is cheaper than a new one.
    pub const fn is_reusable(self) -> bool {
        !matches!(self, Self::Brotli)
    }

    /// Memory that an encoder holds at most, in bytes: as the library says for zstd, and as
    /// measured with a long body for the others.
    pub const fn encoder_bytes_max(self) -> usize {
        match self {
            Self::Zstd => 1_179_648,
            Self::Brotli => 2_097_152,
            Self::Gzip => 393_216,
        }
    }
}

/// An encoder for one body after another.
#[derive(Debug)]
pub struct Encoder(Kind);

#[derive(Debug)]
enum Kind {
    Zstd(Zstd),
    Brotli(Brotli),
    Gzip(Gzip),
}

impl Encoder {
    /// An encoder that has to be begun.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(coding: Coding) -> Result<Self, EncodeError> {
        Ok(Self(match coding {
            Coding::Zstd => Kind::Zstd(Zstd::new()?),
            Coding::Brotli => Kind::Brotli(Brotli::default()),
            Coding::Gzip => Kind::Gzip(Gzip::new()),
        }))
    }

    /// The coding that it applies.
    pub const fn coding(&self) -> Coding {
        match self.0 {
            Kind::Zstd(_) => Coding::Zstd,
            Kind::Brotli(_) => Coding::Brotli,
            Kind::Gzip(_) => Coding::Gzip,
        }
    }

    /// Begins a body of this length, where it is known: a short one takes less memory. What was
    /// left of another is forgotten.
    ///
    /// # Errors
    /// There is no memory.
    pub fn begin(&mut self, length: Option<u64>) -> Result<(), EncodeError> {
        match &mut self.0 {
            Kind::Zstd(zstd) => zstd.begin(length)?,
            Kind::Brotli(brotli) => brotli.begin(length),
            Kind::Gzip(gzip) => gzip.begin(),
        }
        Ok(())
    }

    /// Goes one step on. `output` is not empty.
    ///
    /// # Errors
    /// The encoder failed; the body cannot be completed.
    pub fn step(
        &mut self,
        operation: Operation,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<Step, EncodeError> {
        debug_assert!(!output.is_empty() && (operation == Operation::Encode || input.is_empty()));
        match &mut self.0 {
            Kind::Zstd(zstd) => zstd.step(operation, input, output),
            Kind::Brotli(brotli) => brotli.step(operation, input, output),
            Kind::Gzip(gzip) => gzip.step(operation, input, output),
        }
    }
}
