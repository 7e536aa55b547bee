//! Sources against a world of the test's own, and the sources in use against a clock of its own.

mod in_use;
mod kinds;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};

use super::outside::{Outside, RealWorld};
use crate::{
    control_plane::{
        files::{MAY_NOT_BE_READ, ProcessEnvironment},
        http_client::{FetchError, Phase, Request, Response},
    },
    protocol::url::HttpUrl,
};

/// Something that no message, log line or `Debug` may show.
const CANARY: &str = "CANARY-0123456789";

/// A time that nothing has passed.
const LATE: &str = "2099-01-01T00:00:00Z";

/// Now, as far as this world knows.
const NOW: u64 = 1_440_938_160;

/// Request of a source, as a service sees it.
#[derive(Clone, Debug)]
struct Asked {
    url: String,
    text: String,
    timeout: Duration,
}

type Respond = dyn Fn(&Asked) -> Result<(u16, String), FetchError> + Send + Sync;

/// A world in which everything is written down.
struct World {
    variables: HashMap<String, String>,
    files: Mutex<HashMap<PathBuf, Vec<u8>>>,
    respond: Box<Respond>,
    asked: Mutex<Vec<Asked>>,
}

impl World {
    /// Without services: nobody responds.
    fn new(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Self {
            variables: variables.collect(),
            files: Mutex::default(),
            respond: Box::new(|_| Err(FetchError::TimedOut(Phase::Connect))),
            asked: Mutex::default(),
        }
    }

    fn file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.write(path, content);
        self
    }

    fn write(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(path.into(), content.into());
    }

    fn responding(
        mut self,
        respond: impl Fn(&Asked) -> Result<(u16, String), FetchError> + Send + Sync + 'static,
    ) -> Self {
        self.respond = Box::new(respond);
        self
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Outside for World {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        // What lies under a file is told as the real world tells it.
        if path.starts_with("/dev/null") {
            return RealWorld::new(ProcessEnvironment::capture()).read(path);
        }
        if path.starts_with("/theirs") {
            return Err(MAY_NOT_BE_READ.to_owned());
        }
        if path.starts_with("/broken") {
            return Err("cannot be read: Input/output error".to_owned());
        }
        self.files.lock().unwrap().get(path).cloned().ok_or_else(|| "does not exist".to_owned())
    }

    fn ask(
        &self,
        url: &HttpUrl,
        request: &Request,
        timeout: Duration,
    ) -> Result<Response, FetchError> {
        let text = String::from_utf8(request.to_bytes()).unwrap();
        let asked = Asked { url: format!("{}{}", url.endpoint, url.target), text, timeout };
        self.asked.lock().unwrap().push(asked.clone());
        let (status, body) = (self.respond)(&asked)?;
        Ok(Response::of(status, body.as_bytes()))
    }

    fn unix_seconds(&self) -> u64 {
        NOW
    }
}

/// The document of a metadata or container service.
fn document(key: &str, ends: &str) -> String {
    format!(
        r#"{{"Code":"Success","AccessKeyId":"{key}","SecretAccessKey":"{CANARY}","Token":"{CANARY}","Expiration":"{ends}"}}"#
    )
}

/// The response of STS.
fn sts_response(key: &str) -> String {
    format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>{key}</AccessKeyId>\
         <SecretAccessKey>{CANARY}</SecretAccessKey><SessionToken>{CANARY}</SessionToken>\
         <Expiration>{LATE}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}
