//! AWS STS: roles that are assumed with other credentials, or with the token of an identity
//! provider (AWS STS API Reference, `AssumeRole` and `AssumeRoleWithWebIdentity`).

use std::time::Duration;

use super::{
    document::{Given, checked, shown_code},
    outside::{Outside, SourceProblem},
};
use crate::{
    control_plane::http_client::{Method, Request},
    handoff::credentials::Credentials,
    model::Secret,
    protocol::{
        s3::{
            AmzDate, EndpointUrl, SigningKey,
            endpoint::aws_service,
            error_code,
            name::validate_region,
            sigv4::form::{FORM_TYPE, FormInput, append_signed_form},
        },
        text::date::parse_utc,
        text::hex,
        url::HttpUrl,
    },
};

/// Time for a request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Name of a session that nobody named.
pub(super) const SESSION_NAME: &str = "yatagarasu";

/// Region of STS where nothing names one.
const REGION: &str = "us-east-1";

/// A role to assume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Role {
    /// ARN of the role.
    pub arn: String,
    /// Name of the session.
    pub session_name: String,
    /// External id that the role asks for.
    pub external_id: Option<String>,
    /// Life of the credentials, in seconds; the role's own default where it is none.
    pub duration: Option<u64>,
}

/// The endpoint of STS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sts {
    url: HttpUrl,
    region: String,
}

impl Sts {
    /// The endpoint that is configured, that of the environment, or AWS's in a region.
    ///
    /// # Errors
    /// The region or the endpoint of the environment cannot be used.
    pub(super) fn new(
        outside: &dyn Outside,
        endpoint: Option<&EndpointUrl>,
        region: Option<&str>,
    ) -> Result<Self, SourceProblem> {
        let region = region.unwrap_or(REGION);
        validate_region(region)
            .map_err(|why| SourceProblem::wrong(format!("the region of STS: {why}")))?;
        let variable = "AWS_ENDPOINT_URL_STS";
        let endpoint = match (endpoint, outside.variable(variable)) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(text)) => EndpointUrl::parse(&text)
                .map_err(|error| SourceProblem::wrong(format!("{variable}: {error}")))?,
            (None, None) => aws_service("sts", region),
        };
        Ok(Self { url: HttpUrl::of(&endpoint, "/"), region: region.to_owned() })
    }

    /// Assumes a role with other credentials.
    ///
    /// # Errors
    /// STS refuses, or does not respond.
    pub(super) fn assume_role(
        &self,
        outside: &dyn Outside,
        role: &Role,
        with: &Credentials,
    ) -> Result<Given, SourceProblem> {
        let mut form = Self::form("AssumeRole", role);
        if let Some(id) = &role.external_id {
            append_pair("ExternalId", id, &mut form);
        }
        let mut request = self.request()?;
        let date = AmzDate::from_unix(outside.unix_seconds());
        let key = SigningKey::derive_for("sts", with.secret_key.expose(), &date, &self.region);
        let input = FormInput {
            host: &self.url.endpoint.host_field(),
            body: form.as_bytes(),
            access_key: &with.access_key,
            session_token: with.session_token.as_ref().map(Secret::expose),
        };
        append_signed_form(&key, &date, &input, request.fields_mut());
        self.ask(outside, "AssumeRole", request, form)
    }

    /// Assumes a role with the token of an identity provider.
    ///
    /// # Errors
    /// STS refuses, or does not respond.
    pub(super) fn assume_role_with_web_identity(
        &self,
        outside: &dyn Outside,
        role: &Role,
        token: &str,
    ) -> Result<Given, SourceProblem> {
        let action = "AssumeRoleWithWebIdentity";
        let mut form = Self::form(action, role);
        append_pair("WebIdentityToken", token, &mut form);
        self.ask(outside, action, self.request()?, form)
    }

    fn form(action: &str, role: &Role) -> String {
        let mut form = String::new();
        append_pair("Action", action, &mut form);
        append_pair("Version", "2011-06-15", &mut form);
        append_pair("RoleArn", &role.arn, &mut form);
        append_pair("RoleSessionName", &role.session_name, &mut form);
        if let Some(seconds) = role.duration {
            append_pair("DurationSeconds", &seconds.to_string(), &mut form);
        }
        form
    }

    fn request(&self) -> Result<Request, SourceProblem> {
        Request::to(&self.url, Method::Post)
            .map_err(|error| SourceProblem::wrong(format!("{}: {error}", self.name())))
    }

    fn name(&self) -> String {
        format!("STS at {}", self.url.endpoint)
    }

    fn ask(
        &self,
        outside: &dyn Outside,
        action: &str,
        mut request: Request,
        form: String,
    ) -> Result<Given, SourceProblem> {
        request.set_body(FORM_TYPE, form.into_bytes());
        let name = self.name();
        let response = outside
            .ask(&self.url, &request, TIMEOUT)
            .map_err(|error| SourceProblem::may_pass(format!("{name}: {error}")))?;
        if response.status == 200 {
            return parse_result(&name, &response.body);
        }
        let status = response.status;
        let code = error_code(&response.body).and_then(shown_code);
        let text = match code {
            Some(code) => format!("{name} refuses {action} ({code})"),
            None => format!("{name} responds to {action} with {status} without a readable code"),
        };
        let passes = matches!(code, Some("IDPCommunicationError" | "Throttling")) || status == 429;
        Err(if (400..500).contains(&status) && !passes {
            SourceProblem::wrong(text)
        } else {
            SourceProblem::may_pass(text)
        })
    }
}

/// Appends a pair of a form, percent-encoded (RFC 3986 section 2.3).
fn append_pair(name: &str, value: &str, form: &mut String) {
    if !form.is_empty() {
        form.push('&');
    }
    form.push_str(name);
    form.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            form.push(char::from(byte));
        } else {
            form.push('%');
            form.extend(hex::upper(byte).map(char::from));
        }
    }
}

/// Reads the `Credentials` of a response.
fn parse_result(name: &str, body: &[u8]) -> Result<Given, SourceProblem> {
    let broken = |what: &str| SourceProblem::may_pass(format!("{name}: the response {what}"));
    let text = str::from_utf8(body).map_err(|_| broken("is not text"))?;
    let found = element(text, "Credentials").ok_or_else(|| broken("has no Credentials"))?;
    let part = |name: &str| {
        element(found, name)
            .map(str::trim)
            .filter(|part| !part.is_empty() && !part.contains(['<', '&']))
            .ok_or_else(|| broken(&format!("has no readable {name}")))
    };
    let credentials =
        checked(name, part("AccessKeyId")?, part("SecretAccessKey")?, Some(part("SessionToken")?))?;
    let ends = parse_utc(part("Expiration")?)
        .ok_or_else(|| broken("has an Expiration that is no UTC time"))?;
    Ok(Given { credentials, ends: Some(ends) })
}

/// The content of the first element of this name. What these responses hold needs no escaping, so
/// nothing is unescaped.
fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    after.split_once(&format!("</{name}>")).map(|(content, _)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_encoded() {
        let mut form = String::new();
        append_pair("A", "b c/d:e", &mut form);
        append_pair("F", "é+~", &mut form);
        assert_eq!(form, "A=b%20c%2Fd%3Ae&F=%C3%A9%2B~");
    }

    #[test]
    fn the_response_is_read_as_sts_writes_it() {
        let body = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n\
            <AssumeRoleResult><AssumedRoleUser><Arn>arn</Arn></AssumedRoleUser><Credentials>\n\
            <AccessKeyId>ASIA</AccessKeyId>\n<SecretAccessKey>SK/+=</SecretAccessKey>\n\
            <SessionToken>TK/+==</SessionToken><Expiration>2015-08-30T12:36:00Z</Expiration>\n\
            </Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let given = parse_result("sts", body.as_bytes()).unwrap();
        assert_eq!(&*given.credentials.access_key, "ASIA");
        assert_eq!(given.credentials.secret_key.expose(), b"SK/+=");
        assert_eq!(given.credentials.session_token.unwrap().expose(), b"TK/+==");
        assert_eq!(given.ends, Some(1_440_938_160));
        for (from, to) in [
            ("<Credentials>", "<Nothing>"),
            ("<SessionToken>TK/+==</SessionToken>", ""),
            ("ASIA", "AS&amp;IA"),
            ("2015-08-30T12:36:00Z", "CANARY"),
            ("SK/+=", ""),
            ("TK/+==", "CANARY\r\nHost: x"),
        ] {
            let problem = parse_result("sts", body.replace(from, to).as_bytes()).unwrap_err();
            assert!(!problem.text.contains("CANARY"), "{problem}");
        }
        assert!(parse_result("sts", b"\xff").is_err());
    }
}
