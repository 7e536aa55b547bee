//! The token of an identity provider in a file, exchanged for the credentials of a role: IAM roles
//! for service accounts of EKS, and every other provider that IAM trusts.

use std::path::Path;

use super::{
    document::Given,
    outside::{Outside, SourceProblem},
    sts::{Role, SESSION_NAME, Sts},
};
use crate::config::credentials::{check_role_arn, check_session_name};

/// Fetches the credentials of the role that the environment names.
///
/// # Errors
/// Nothing asks for this source, the file cannot be read, or STS gives none.
pub(super) fn fetch(outside: &dyn Outside, region: Option<&str>) -> Result<Given, SourceProblem> {
    let (file, arn) = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN");
    let path = outside
        .variable(file)
        .ok_or_else(|| SourceProblem::not_configured(format!("{file} is not set")))?;
    let role = outside
        .variable(arn)
        .ok_or_else(|| SourceProblem::wrong(format!("{arn} is not set beside {file}")))?;
    let role =
        Role { arn: role, session_name: session_name(outside)?, external_id: None, duration: None };
    exchange(outside, &role, &path, region)
}

/// The name of the session that the environment gives.
pub(super) fn session_name(outside: &dyn Outside) -> Result<String, SourceProblem> {
    let variable = "AWS_ROLE_SESSION_NAME";
    let Some(name) = outside.variable(variable) else { return Ok(SESSION_NAME.to_owned()) };
    check_session_name(&name).map_err(|why| SourceProblem::wrong(format!("{variable} {why}")))?;
    Ok(name)
}

/// Exchanges the token in the file at `path`, which is read each time: it is replaced before it
/// ends.
pub(super) fn exchange(
    outside: &dyn Outside,
    role: &Role,
    path: &str,
    region: Option<&str>,
) -> Result<Given, SourceProblem> {
    check_role_arn(&role.arn)
        .map_err(|why| SourceProblem::wrong(format!("the role of the token in {path} {why}")))?;
    let token = outside
        .read(Path::new(path))
        .map_err(|why| SourceProblem::may_pass(format!("the token file {path} {why}")))?;
    let token = String::from_utf8(token)
        .map_err(|_| SourceProblem::wrong(format!("the token file {path} is not text")))?;
    let token = token.trim();
    if token.is_empty() {
        return Err(SourceProblem::may_pass(format!("the token file {path} is empty")));
    }
    Sts::new(outside, None, region)?.assume_role_with_web_identity(outside, role, token)
}
