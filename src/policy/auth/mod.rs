//! JWT authentication for objects and the admin API; it fails closed.
//!
//! [`AuthPolicy::compile`] turns the configuration into a policy, or into the list of its mistakes.
//! Per request [`permit_object`] and [`permit_admin`] find a token, verify it (or find it in the
//! core's [`TokenCache`]) and return a permit or a [`Denial`].
//!
//! Rules that hold everywhere here: the algorithm is the key's and never the token's; a claim that
//! is missing, malformed, duplicated or of another type than expected is refused; nothing of a
//! token is used before its signature is verified, but for choosing the key (RFC 8725).
//!
//! Deliberately absent: asking for key sets (they are arguments; `control_plane::key_sets` fetches
//! them), encrypted tokens (JWE), JSON serialization of tokens, `b64: false`, and any clock (the
//! time is an argument).

mod cache;
mod claims;
mod denial;
mod json;
mod jwks;
mod key;
mod key_set;
mod key_source;
mod pem;
mod permit;
mod policy;
mod provider;
mod readable;
mod source;
pub mod spec;
mod token;
mod verified;
mod window;

pub use cache::TokenCache;
pub use claims::OPERATORS;
pub use denial::{Denial, DenialReason};
pub use jwks::JWKS_BYTES_MAX;
pub use key::{KeyKind, install_crypto};
pub use key_set::{KEYS_MAX, KeySet};
pub use key_source::{KeySets, KeySource, SetPlace};
pub use pem::PEM_BYTES_MAX;
pub use permit::{AdminPermit, Permit, permit_admin, permit_listing, permit_object};
pub use policy::{AuthPolicy, BucketAuth, LEEWAY_SECONDS_MAX};
pub use provider::{OWN_KEYS, PROVIDERS_MAX};
pub use readable::Readable;
pub use source::TokenCarrier;
