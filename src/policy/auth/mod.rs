//! Who may read an object or use the admin API.

pub mod spec;
/// x
#[derive(Debug)]
pub struct AuthPolicy;
/// x
#[derive(Debug)]
pub struct BucketAuth;
