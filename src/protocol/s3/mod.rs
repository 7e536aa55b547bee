//! The S3 REST dialect: paths, keys, endpoints, signatures, error bodies.
//!
//! One value decides everything about a request: [`canonical_path`] decodes the client's path
//! once, routing and permission use that value, and [`encode_key`] encodes the key once for the
//! wire and the signature alike.
//!
//! Deliberately absent: request bodies (this is a read proxy).

pub mod endpoint;
pub mod error_body;
pub mod key;
pub mod listing;
pub mod name;
pub mod path;
pub mod query;
pub mod sigv4;

pub use endpoint::{
    Addressed, Addressing, EndpointError, EndpointUrl, Scheme, address, check_addressing,
};
pub use error_body::{CredentialProblem, credential_problem, error_code, may_be_credentials_error};
pub use key::encode_key;
pub use name::{
    validate_access_key, validate_bucket_name, validate_key_prefix, validate_region,
    validate_session_token,
};
pub use path::{PathError, canonical_path, check_decoded_text};
pub use query::append_query;
pub use sigv4::{
    AmzDate, DailyKey, DayKey, RecentSignatures, SignedFields, Signer, SigningInput, SigningKey,
    append_signed_headers,
};
