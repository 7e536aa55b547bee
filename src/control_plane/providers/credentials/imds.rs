//! The instance metadata service, version 2 (Amazon EC2 User Guide, "Use the Instance Metadata
//! Service to access instance metadata").
//!
//! Version 1, which gives credentials to anybody who can make this machine send a GET, is not used.

use std::time::Duration;

use super::{
    document::{Given, parse_document},
    outside::{Outside, SourceProblem},
};
use crate::{
    control_plane::http_client::{Method, Request, Response},
    protocol::{s3::EndpointUrl, url::HttpUrl},
};

/// Time for one try of one request.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Tries of one request.
const TRIES: usize = 2;

const IPV4: &str = "http://169.254.169.254";
const IPV6: &str = "http://[fd00:ec2::254]";

/// Life of a session's token that is asked for, in seconds. Each fetch opens a session of its own.
const TOKEN_SECONDS: &[u8] = b"300";

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// Fetches the credentials of the instance's role, from `endpoint` where one is configured.
///
/// # Errors
/// The service is switched off, is not there, or gives none.
pub(super) fn fetch(outside: &dyn Outside, endpoint: Option<&str>) -> Result<Given, SourceProblem> {
    let disabled = "AWS_EC2_METADATA_DISABLED";
    if outside.variable(disabled).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(SourceProblem::not_configured(format!("{disabled} is true")));
    }
    let service = Service { outside, endpoint: address(outside, endpoint)? };
    let token = service.token()?;
    let role = service.role(&token)?;
    let response = service.get(&format!("{ROLES}{role}"), &token)?;
    match response.status {
        200 => parse_document(&service.name(), &response.body),
        status => Err(service.problem(&format!("responds to {ROLES}{role} with {status}"))),
    }
}

fn address(outside: &dyn Outside, endpoint: Option<&str>) -> Result<EndpointUrl, SourceProblem> {
    let variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
    let mode = outside.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    let is_ipv6 = mode.is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let (name, text) = match (endpoint, outside.variable(variable)) {
        (Some(endpoint), _) => ("endpoint", endpoint.to_owned()),
        (None, Some(endpoint)) => (variable, endpoint),
        (None, None) => (variable, if is_ipv6 { IPV6 } else { IPV4 }.to_owned()),
    };
    EndpointUrl::parse(&text).map_err(|error| SourceProblem::wrong(format!("{name}: {error}")))
}

struct Service<'o> {
    outside: &'o dyn Outside,
    endpoint: EndpointUrl,
}

impl Service<'_> {
    fn name(&self) -> String {
        format!("the instance metadata service at {}", self.endpoint)
    }

    fn problem(&self, what: &str) -> SourceProblem {
        SourceProblem::may_pass(format!("{} {what}", self.name()))
    }

    /// The token of a new session.
    fn token(&self) -> Result<Vec<u8>, SourceProblem> {
        let url = HttpUrl::of(&self.endpoint, "/latest/api/token");
        let response = self.ask(&url, Method::Put, |request| {
            request.field("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS).is_ok()
        })?;
        let wrong = |what: &str| SourceProblem::wrong(format!("{} {what}", self.name()));
        match response.status {
            200 => Ok(response.body.trim_ascii().to_vec()),
            403 => Err(wrong("is switched off for this instance (403)")),
            404 | 405 => Err(wrong("does not offer version 2, without which it is not used")),
            status => Err(self.problem(&format!("responds with {status} instead of a token"))),
        }
    }

    /// Name of the instance's role.
    fn role(&self, token: &[u8]) -> Result<String, SourceProblem> {
        let response = self.get(ROLES, token)?;
        match response.status {
            200 => {}
            404 => return Err(self.problem("knows no role of this instance")),
            status => return Err(self.problem(&format!("responds to {ROLES} with {status}"))),
        }
        let body = String::from_utf8_lossy(&response.body);
        let role = body.lines().next().unwrap_or_default().trim();
        let is_good = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
        if role.is_empty() || role.len() > 128 || !role.bytes().all(is_good) {
            return Err(self.problem("gives no readable name of a role"));
        }
        Ok(role.to_owned())
    }

    fn get(&self, target: &str, token: &[u8]) -> Result<Response, SourceProblem> {
        let url = HttpUrl::of(&self.endpoint, target);
        self.ask(&url, Method::Get, |request| {
            request.field("X-aws-ec2-metadata-token", token).is_ok()
        })
    }

    /// Asks, once more when there is no response or one of a service in trouble.
    fn ask(
        &self,
        url: &HttpUrl,
        method: Method,
        add_fields: impl Fn(&mut Request) -> bool,
    ) -> Result<Response, SourceProblem> {
        let mut request =
            Request::to(url, method).map_err(|_| self.problem("has no valid address"))?;
        if !add_fields(&mut request) {
            return Err(self.problem("gives a token that is not one line of text"));
        }
        let mut last = self.problem("was not asked");
        for _ in 0..TRIES {
            match self.outside.ask(url, &request, TIMEOUT) {
                Ok(response) if response.status < 500 => return Ok(response),
                Ok(response) => last = self.problem(&format!("responds with {}", response.status)),
                Err(error) => {
                    last = SourceProblem::may_pass(format!("{}: {error}", self.name()));
                }
            }
        }
        Err(last)
    }
}
