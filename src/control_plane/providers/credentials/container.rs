//! The credentials service of containers: ECS tasks and EKS Pod Identity (AWS SDKs and Tools
//! Reference Guide, "Container credential provider").

use std::{path::Path, time::Duration};

use super::{
    document::{Given, error_code_of, parse_document},
    outside::{Outside, SourceProblem},
};
use crate::{
    config::credentials::container_url,
    control_plane::http_client::{Method, Request},
    protocol::url::HttpUrl,
};

/// Time for one try.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Tries of one fetch.
const TRIES: usize = 2;

/// Service that relative URIs are of.
const ECS: &str = "http://169.254.170.2";

/// Fetches credentials, from `endpoint` where one is configured.
///
/// # Errors
/// Nothing asks for this source, or the service gives none.
pub(super) fn fetch(outside: &dyn Outside, endpoint: Option<&str>) -> Result<Given, SourceProblem> {
    let url = url(outside, endpoint)?;
    let mut request = Request::to(&url, Method::Get)
        .map_err(|error| SourceProblem::wrong(format!("the container service: {error}")))?;
    if let Some(token) = token(outside)? {
        request.field("Authorization", token.trim_ascii_end().as_bytes()).map_err(|_| {
            SourceProblem::wrong("the token for the container service is not one line of text")
        })?;
    }
    let origin = format!("the container service at {url}");
    let mut last = SourceProblem::may_pass(format!("{origin} was not asked"));
    for _ in 0..TRIES {
        match outside.ask(&url, &request, TIMEOUT) {
            Ok(response) if response.status == 200 => {
                return parse_document(&origin, &response.body);
            }
            Ok(response) => {
                let status = response.status;
                let code = error_code_of(&response.body);
                let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
                last = SourceProblem::may_pass(format!("{origin} responds with {status}{code}"));
                if status < 500 {
                    break;
                }
            }
            Err(error) => last = SourceProblem::may_pass(format!("{origin}: {error}")),
        }
    }
    Err(last)
}

fn url(outside: &dyn Outside, endpoint: Option<&str>) -> Result<HttpUrl, SourceProblem> {
    let relative = outside.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = outside.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let (name, text) = match (endpoint, relative, full) {
        (Some(endpoint), _, _) => ("endpoint", endpoint.to_owned()),
        (None, Some(relative), _) => {
            let slash = if relative.starts_with('/') { "" } else { "/" };
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", format!("{ECS}{slash}{relative}"))
        }
        (None, None, Some(full)) => ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full),
        (None, None, None) => {
            return Err(SourceProblem::not_configured(
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI and AWS_CONTAINER_CREDENTIALS_FULL_URI \
                 are not set",
            ));
        }
    };
    container_url(&text).map_err(|why| SourceProblem::wrong(format!("{name} {why}")))
}

/// The token of the moment: that of EKS is replaced every day.
fn token(outside: &dyn Outside) -> Result<Option<String>, SourceProblem> {
    let name = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
    let Some(path) = outside.variable(name) else {
        return Ok(outside.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"));
    };
    let content = outside
        .read(Path::new(&path))
        .map_err(|why| SourceProblem::may_pass(format!("{name}: the file {path} {why}")))?;
    String::from_utf8(content)
        .map(Some)
        .map_err(|_| SourceProblem::wrong(format!("{name}: the file {path} is not text")))
}
