//! Credentials as services and files give them, checked before anything is made of them.

use serde_json::Value;

use super::outside::SourceProblem;
use crate::{
    handoff::credentials::Credentials,
    model::Secret,
    protocol::{
        s3::name::{validate_access_key, validate_session_token},
        text::date::parse_utc,
    },
};

/// Longest secret key that is accepted, in bytes. AWS has 40; others stay below a line.
const SECRET_KEY_BYTES_MAX: usize = 1_024;

/// Longest `code` of an error that is shown, in bytes.
const CODE_BYTES_MAX: usize = 64;

/// Credentials with their end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// The credentials.
    pub credentials: Credentials,
    /// Seconds since the Unix epoch at which they end; none for permanent ones.
    pub ends: Option<u64>,
}

/// Checks the parts of credentials, which go into header fields.
///
/// # Errors
/// The part that cannot be used, after the name of where they come from.
pub(super) fn checked(
    origin: &str,
    access_key: &str,
    secret_key: &str,
    session_token: Option<&str>,
) -> Result<Credentials, SourceProblem> {
    let wrong = |what: &str| SourceProblem::wrong(format!("{origin}: {what}"));
    validate_access_key(access_key).map_err(wrong)?;
    if secret_key.is_empty()
        || secret_key.len() > SECRET_KEY_BYTES_MAX
        || secret_key.bytes().any(|byte| byte.is_ascii_control())
    {
        return Err(wrong("a secret key must have 1 to 1024 characters on one line"));
    }
    if let Some(token) = session_token {
        validate_session_token(token.as_bytes()).map_err(wrong)?;
    }
    Ok(Credentials {
        access_key: access_key.into(),
        secret_key: Secret::new(secret_key),
        session_token: session_token.map(Secret::new),
    })
}

/// Reads the document of the metadata service and of containers: `AccessKeyId`,
/// `SecretAccessKey`, `Token`, `Expiration`, and a `Code` that must be `Success` where there is one
/// (Amazon EC2 User Guide, "Retrieve security credentials from instance metadata").
///
/// # Errors
/// What is wrong with it, after the name of where it comes from.
pub(super) fn parse_document(origin: &str, body: &[u8]) -> Result<Given, SourceProblem> {
    let broken = |what: &str| SourceProblem::may_pass(format!("{origin}: the response {what}"));
    let document: Value =
        serde_json::from_slice(body).map_err(|_| broken("is not a JSON document"))?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    if let Some(code) = text("Code").filter(|code| *code != "Success") {
        let shown = shown_code(code).unwrap_or("no readable code");
        return Err(broken(&format!("says that there are no credentials ({shown})")));
    }
    let (Some(access_key), Some(secret_key)) = (text("AccessKeyId"), text("SecretAccessKey"))
    else {
        return Err(broken("has no AccessKeyId or no SecretAccessKey"));
    };
    let ends = match text("Expiration") {
        None if document.get("Expiration").is_none_or(Value::is_null) => None,
        None => return Err(broken("has an Expiration that is no text")),
        Some(time) => {
            Some(parse_utc(time).ok_or_else(|| broken("has an Expiration that is no UTC time"))?)
        }
    };
    // Temporary credentials do not work without their token.
    let token = text("Token").filter(|token| !token.is_empty());
    if token.is_none() && ends.is_some() {
        return Err(broken("has no Token"));
    }
    let credentials = checked(origin, access_key, secret_key, token)?;
    Ok(Given { credentials, ends })
}

/// The code of an error document in JSON, if there is one that can be shown.
pub(super) fn error_code_of(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let code = document.get("code").or_else(|| document.get("Code"))?.as_str()?;
    shown_code(code).map(str::to_owned)
}

/// A code of an error, unless it is something else.
pub(super) fn shown_code(code: &str) -> Option<&str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (!code.is_empty() && code.len() <= CODE_BYTES_MAX && code.bytes().all(is_word)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Given, SourceProblem> {
        parse_document("here", body.as_bytes())
    }

    #[test]
    fn documents_of_both_services_are_read() {
        let given = parse(
            r#"{"Code":"Success","LastUpdated":"2015-08-30T10:00:00Z","Type":"AWS-HMAC","AccessKeyId":"AK",
                "SecretAccessKey":"SK","Token":"TK","Expiration":"2015-08-30T12:36:00Z"}"#,
        )
        .unwrap();
        assert_eq!(&*given.credentials.access_key, "AK");
        assert_eq!(given.credentials.secret_key.expose(), b"SK");
        assert_eq!(given.credentials.session_token.unwrap().expose(), b"TK");
        assert_eq!(given.ends, Some(1_440_938_160));
        let given = parse(r#"{"AccessKeyId":"AK","SecretAccessKey":"SK"}"#).unwrap();
        assert_eq!((given.ends, given.credentials.session_token), (None, None));
    }

    #[test]
    fn garbage_is_told_without_being_repeated() {
        let canary = "CANARY-0123456789";
        for body in [
            "",
            "CANARY-0123456789",
            "null",
            "[]",
            r#"{"CANARY-0123456789":1}"#,
            r#"{"AccessKeyId":"CANARY-0123456789"}"#,
            r#"{"AccessKeyId":1,"SecretAccessKey":"CANARY-0123456789"}"#,
            r#"{"AccessKeyId":"AK","SecretAccessKey":"CANARY-0123456789","Expiration":"soon"}"#,
            r#"{"AccessKeyId":"AK","SecretAccessKey":"CANARY-0123456789","Expiration":1440938160}"#,
            r#"{"AccessKeyId":"AK","SecretAccessKey":"CANARY-0123456789","Expiration":"2015-08-30T12:36:00Z"}"#,
            r#"{"AccessKeyId":"CANARY-0123456789 x","SecretAccessKey":"SK"}"#,
            r#"{"AccessKeyId":"AK","SecretAccessKey":"CANARY-0123456789\n"}"#,
            r#"{"AccessKeyId":"AK","SecretAccessKey":""}"#,
            r#"{"AccessKeyId":"AK","SecretAccessKey":"SK","Token":"CANARY-0123456789\r\nHost: x"}"#,
            r#"{"Code":"CANARY 0123456789: CANARY-0123456789"}"#,
        ] {
            let problem = parse(body).unwrap_err();
            assert!(problem.text.starts_with("here: "), "{problem}");
            assert!(!problem.text.contains(canary), "{problem}");
        }
        assert!(
            parse(r#"{"Code":"AssumeRoleUnauthorizedAccess"}"#)
                .unwrap_err()
                .text
                .contains("AssumeRoleUnauthorizedAccess")
        );
    }

    #[test]
    fn only_words_are_shown_as_codes() {
        assert_eq!(error_code_of(br#"{"code":"NotFound"}"#).as_deref(), Some("NotFound"));
        assert_eq!(error_code_of(br#"{"code":"it is <secret>"}"#), None);
        assert_eq!(error_code_of(b"x"), None);
        assert_eq!(shown_code(""), None);
        assert_eq!(shown_code(&"x".repeat(65)), None);
    }
}
