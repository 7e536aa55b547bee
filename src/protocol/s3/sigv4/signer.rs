//! The maker of a signature.

/// The maker of a signature, as far as it must be told from others of the same generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signer {
    /// Index of the bucket, which stands for the region and where credentials come from.
    pub bucket: usize,
    /// Number of the credentials; 0 for those that do not change within the generation.
    pub serial: u64,
}
