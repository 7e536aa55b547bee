//! Keys in variables of the environment.

use super::{
    document::{Given, checked},
    outside::{Outside, SourceProblem},
};

/// Reads `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
///
/// # Errors
/// They are not set, only one is, or one cannot be used.
pub(super) fn fetch(outside: &dyn Outside) -> Result<Given, SourceProblem> {
    let (access, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    let (access_key, secret_key) = match (outside.variable(access), outside.variable(secret)) {
        (Some(access_key), Some(secret_key)) => (access_key, secret_key),
        (None, None) => return Err(SourceProblem::not_configured(format!("{access} is not set"))),
        (Some(_), None) => {
            return Err(SourceProblem::wrong(format!("{secret} is not set beside {access}")));
        }
        (None, Some(_)) => {
            return Err(SourceProblem::wrong(format!("{access} is not set beside {secret}")));
        }
    };
    let token = outside.variable("AWS_SESSION_TOKEN");
    let credentials = checked("the environment", &access_key, &secret_key, token.as_deref())?;
    Ok(Given { credentials, ends: None })
}
