//! Credentials for S3: those that a configuration holds, and those of sources that renew them.

use std::sync::Arc;

use crate::model::Secret;

/// AWS credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key: Box<str>,
    /// Secret access key.
    pub secret_key: Secret,
    /// Session token of temporary credentials, sent and signed as `x-amz-security-token`.
    pub session_token: Option<Secret>,
}

/// Origin of the credentials that sign the requests of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signing {
    /// Nothing is signed, because the bucket is public.
    Anonymous,
    /// Keys of the configuration.
    Keys(Credentials),
    /// The newest credentials of a source.
    Source(Source),
}

impl Signing {
    /// Returns true if requests are signed.
    pub const fn is_signed(&self) -> bool {
        !matches!(self, Self::Anonymous)
    }

    /// The source's name; empty where there is none.
    pub fn source_name(&self) -> &str {
        match self {
            Self::Source(source) => &source.name,
            Self::Anonymous | Self::Keys(_) => "",
        }
    }
}

/// Identity of a source: a digest of its definition, so that another definition of the same name is
/// another source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u64);

/// A source of credentials, as buckets refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Key of its credentials in the [`LiveTable`](crate::handoff::live::LiveTable).
    pub id: SourceId,
    /// Name in the configuration.
    pub name: Arc<str>,
}

/// Credentials of a source at one version.
#[derive(Clone, Debug)]
pub struct LiveCredentials {
    /// Version, counted from 1 for each source.
    pub version: u64,
    /// Number that no other credentials of this process have. Never 0.
    pub serial: u64,
    /// The credentials.
    pub credentials: Credentials,
    /// Seconds since the Unix epoch at which they end; none for permanent ones.
    pub ends: Option<u64>,
}

impl LiveCredentials {
    /// Returns true if they have not ended at a time in seconds since the Unix epoch.
    pub fn are_good(&self, unix_seconds: u64) -> bool {
        self.ends.is_none_or(|end| unix_seconds < end)
    }
}
