//! All that sources of credentials touch: variables, files, services and the clock. Tests bring
//! their own.

use std::{fmt, path::Path, time::Duration};

use crate::{
    config::Environment as _,
    control_plane::{
        files::{self, ProcessEnvironment},
        http_client::{FetchError, Request, Response, Wanted},
        services,
    },
    protocol::url::HttpUrl,
    system::clock::{Monotonic, unix_seconds},
};

/// Longest response that is read, in bytes. Those of AWS have some kilobytes.
const RESPONSE_BYTES_MAX: usize = 65_536;

/// Longest file that is read, in bytes: tokens have some kilobytes, shared files of a large company
/// a few hundred.
const FILE_BYTES_MAX: usize = 1_048_576;

/// The world as sources of credentials see it.
pub trait Outside: Send + Sync {
    /// A variable of the environment; one that is empty counts as unset.
    fn variable(&self, name: &str) -> Option<String>;

    /// The content of a file, or why not in words that follow its path.
    ///
    /// # Errors
    /// The file cannot be read.
    fn read(&self, path: &Path) -> Result<Vec<u8>, String>;

    /// The response of a service, the look-up of its name included.
    ///
    /// # Errors
    /// There is none within the time, or it is too large.
    fn ask(
        &self,
        url: &HttpUrl,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, FetchError>;

    /// Seconds since the Unix epoch.
    fn unix_seconds(&self) -> u64;
}

/// The world as it is.
#[derive(Clone, Debug)]
pub struct RealWorld {
    environment: ProcessEnvironment,
}

impl RealWorld {
    /// With the environment of the process.
    pub const fn new(environment: ProcessEnvironment) -> Self {
        Self { environment }
    }
}

impl Outside for RealWorld {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.var(name).filter(|value| !value.is_empty())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        files::read_bounded(path, FILE_BYTES_MAX)
    }

    fn ask(
        &self,
        url: &HttpUrl,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, FetchError> {
        let deadline = Monotonic::now().plus(timeout);
        services::ask(url, request, None, Wanted::Whole(RESPONSE_BYTES_MAX), deadline)
    }

    fn unix_seconds(&self) -> u64 {
        unix_seconds()
    }
}

/// Chance that the reason of a problem goes away by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// Nothing asks for this source, so the next one of a chain is tried.
    NotConfigured,
    /// Somebody has to change something.
    Wrong,
    /// A service may be there in a moment.
    MayPass,
}

/// Reason why a source gives no credentials. It never holds a secret or a part of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceProblem {
    /// Chance that it passes.
    pub chance: Chance,
    /// A clause without a full stop that names what it is about.
    pub text: String,
}

impl SourceProblem {
    /// A source that nothing asks for.
    pub fn not_configured(text: impl Into<String>) -> Self {
        Self { chance: Chance::NotConfigured, text: text.into() }
    }

    /// Something that somebody has to change.
    pub fn wrong(text: impl Into<String>) -> Self {
        Self { chance: Chance::Wrong, text: text.into() }
    }

    /// Something that may pass.
    pub fn may_pass(text: impl Into<String>) -> Self {
        Self { chance: Chance::MayPass, text: text.into() }
    }
}

impl fmt::Display for SourceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
