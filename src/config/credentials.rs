//! The `credentials` section: named sources of temporary credentials.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    changes::Changes,
    declare::{Keys as _, Value, choice, compare_named, declare, section_of, words},
    keys::{Key, integer, text},
    section::Section,
    values::check_name,
    walk::At,
};
use crate::{
    handoff::credentials::SourceId,
    protocol::{
        s3::{endpoint::EndpointUrl, name::validate_region},
        url::HttpUrl,
    },
};

/// Name of the source that needs no entry.
pub const DEFAULT_SOURCE: &str = "default";

/// Longest ARN of a role, in bytes (AWS STS API Reference, `AssumeRole`).
const ROLE_ARN_BYTES_MAX: usize = 2_048;

declare! {
    /// One element of `credentials`.
    pub struct SourceSettings, check = check_source {
        /// Unique name, which `buckets[].s3.credentials` names. `default` without an entry is the
        /// AWS default chain.
        name: String = text().required().checked(check_name),
        /// Kind of source; `default` tries `env`, `profile`, `web_identity`, `container` and
        /// `imds`, in this order.
        kind as "source": SourceKind = choice::<SourceKind>().is("default"),
        /// Profile of the shared files, for `profile` and `default`.
        profile: Option<String> = text().otherwise("`AWS_PROFILE`, or `default`"),
        /// URL of the metadata service, for `imds`, or of the credentials, for `container`.
        endpoint: Option<String> = text().otherwise("AWS's, or that of the environment"),
        /// Role to assume with what the source gives.
        assume_role: Option<RoleSettings> = section_of::<RoleSettings>().otherwise("none"),
    }
}

words! {
    /// `credentials[].source`.
    pub enum SourceKind {
        /// The first of the others that is configured.
        Default = "default",
        /// Variables of the environment.
        Env = "env",
        /// The shared credentials and configuration files.
        Profile = "profile",
        /// The token in a file, exchanged at STS.
        WebIdentity = "web_identity",
        /// The service of ECS or of EKS Pod Identity.
        Container = "container",
        /// The instance metadata service, version 2.
        Imds = "imds",
    }
}

declare! {
    /// `credentials[].assume_role`.
    pub struct RoleSettings {
        /// ARN of the role.
        role_arn: String = text().required().checked(check_role_arn),
        /// External id that the role's trust policy asks for.
        external_id: Option<String> = text(),
        /// Name of the session, which AWS logs show.
        session_name: String = text().is("yatagarasu").checked(check_session_name),
        /// Life of the credentials.
        duration: u64 = integer(900, 43_200, "seconds").is("3600"),
        /// Region of the STS endpoint.
        region: Option<String> =
            text().otherwise("`AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, or `us-east-1`"),
        /// URL of STS.
        sts_endpoint: Option<EndpointUrl> = text().otherwise("`AWS_ENDPOINT_URL_STS`, or AWS's"),
    }
}

impl SourceSettings {
    /// The source called `default` where the file has no entry of that name.
    pub fn default_chain() -> Self {
        Self {
            name: DEFAULT_SOURCE.to_owned(),
            kind: SourceKind::Default,
            profile: None,
            endpoint: None,
            assume_role: None,
        }
    }

    /// Identity of the definition: another one makes another source.
    pub fn id(&self) -> SourceId {
        // The derived form names every field and quotes all text.
        let digest = digest(&SHA256, format!("{self:?}").as_bytes());
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        SourceId(u64::from_be_bytes(first))
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Value for Vec<SourceSettings> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.each(key.name, SourceSettings::read_keys)
    }

    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        let at = At::Key(at, key.name);
        compare_named(self, new, |source| &source.name, &at, changes, SourceSettings::compare_keys);
    }
}

impl Value for Option<RoleSettings> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        if !section.has(key.name) {
            return None;
        }
        if !section.is_written(key.name) {
            section.error(key.name, "is empty; write role_arn, or remove it");
            return None;
        }
        Some(section.section(key.name, |role| {
            let read = RoleSettings::read_keys(role);
            if let Some(id) = &read.external_id
                && !is_external_id(id)
            {
                role.error(
                    "external_id",
                    "must have 2 to 1224 letters, digits and characters of _+=,.@:/-",
                );
            }
            if let Some(Err(message)) = read.region.as_deref().map(validate_region) {
                role.error("region", message);
            }
            read
        }))
    }

    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        match (self, new) {
            (Some(running), Some(new)) => {
                running.compare_keys(new, &At::Key(at, key.name), changes);
            }
            (None, None) => {}
            _ => changes.hot(At::Key(at, key.name)),
        }
    }
}

fn check_source(source: &SourceSettings, section: Section<'_>) {
    use SourceKind::{Container, Default, Imds, Profile};
    if section.is_noted("source") {
        return;
    }
    if source.profile.is_some() && !matches!(source.kind, Default | Profile) {
        section.error(
            "profile",
            format!(
                "is not used by the source {}; remove it, or write source: profile",
                source.kind
            ),
        );
    }
    let Some(endpoint) = &source.endpoint else { return };
    let problem = match source.kind {
        Imds => EndpointUrl::parse(endpoint).is_err().then(|| {
            "must start with http:// or https:// and end after the host and port, such as \
             http://127.0.0.1:1338"
                .to_owned()
        }),
        Container => container_url(endpoint).err(),
        kind => Some(format!(
            "is not used by the source {kind}; remove it, or write source: imds or container"
        )),
    };
    if let Some(problem) = problem {
        section.error("endpoint", problem);
    }
}

/// Hosts of AWS that give credentials over http: those of ECS and of EKS Pod Identity (AWS SDKs and
/// Tools Reference Guide, "Container credential provider").
pub const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// A URL to which a token may be sent: it stays on this machine or is encrypted.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn container_url(text: &str) -> Result<HttpUrl, String> {
    let url = HttpUrl::parse(text).map_err(|advice| {
        format!("is no URL such as http://127.0.0.1:1338/credentials; {advice}")
    })?;
    if url.is_protected() || CONTAINER_HOSTS.contains(&&*url.endpoint.host) {
        return Ok(url);
    }
    Err("may be http only to this machine, 169.254.170.2, 169.254.170.23 or [fd00:ec2::23], because \
         a token is sent there; write https"
        .to_owned())
}

/// Checks the form of an ARN. Other servers than AWS have partitions and accounts of their own.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn check_role_arn(arn: &str) -> Result<(), &'static str> {
    const MESSAGE: &str = "is not the ARN of a role; write arn:aws:iam::<account>:role/<name>";
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let is_word =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_role = |text: &str| {
        text.strip_prefix("role/")
            .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()))
    };
    match parts[..] {
        ["arn", partition, "iam", "", account, role]
            if arn.len() <= ROLE_ARN_BYTES_MAX
                && !partition.is_empty()
                && is_word(partition)
                && is_word(account)
                && is_role(role) =>
        {
            Ok(())
        }
        _ => Err(MESSAGE),
    }
}

/// Checks the name of a session (AWS STS API Reference, `AssumeRole`).
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn check_session_name(name: &str) -> Result<(), &'static str> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if (2..=64).contains(&name.len()) && name.bytes().all(is_good) {
        Ok(())
    } else {
        Err("must have 2 to 64 letters, digits and characters of _+=,.@-")
    }
}

fn is_external_id(id: &str) -> bool {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b);
    (2..=1_224).contains(&id.len()) && id.bytes().all(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_definition_makes_another_source() {
        let base = SourceSettings::default_chain();
        let role = RoleSettings {
            role_arn: "arn:aws:iam::123456789012:role/a".to_owned(),
            external_id: None,
            session_name: "s".to_owned(),
            duration: 900,
            region: None,
            sts_endpoint: None,
        };
        let with = |role: RoleSettings| SourceSettings { assume_role: Some(role), ..base.clone() };
        let all = [
            base.clone(),
            SourceSettings { name: "other".to_owned(), ..base.clone() },
            SourceSettings { kind: SourceKind::Env, ..base.clone() },
            SourceSettings { profile: Some("p".to_owned()), ..base.clone() },
            SourceSettings { endpoint: Some("p".to_owned()), ..base.clone() },
            with(role.clone()),
            with(RoleSettings { external_id: Some("x".to_owned()), ..role.clone() }),
            with(RoleSettings { duration: 901, ..role.clone() }),
            with(RoleSettings { region: Some("r".to_owned()), ..role }),
        ];
        let ids: std::collections::HashSet<SourceId> = all.iter().map(SourceSettings::id).collect();
        assert_eq!(ids.len(), all.len());
        assert_eq!(base.id(), SourceSettings::default_chain().id());
    }

    #[test]
    fn a_token_is_sent_in_plain_to_known_hosts_only() {
        for url in [
            "http://169.254.170.2/v2/credentials/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:9/x",
            "http://localhost:9",
            "http://[::1]:9/x?y",
            "https://anywhere.example/x",
        ] {
            assert!(container_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://169.254.170.3/x",
            "http://169.254.170.2.example/x",
            "http://127.0.0.1@evil.example/x",
            "http://evil.example/169.254.170.2",
            "http://evil.example?169.254.170.2",
            "http://[fd00:ec2::24]/x",
            "ftp://127.0.0.1/",
            "/v2/credentials",
            "http://127.0.0.1/x#y",
            "http://127.0.0.1/x y",
        ] {
            assert!(container_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn arns_of_roles_are_told_from_other_text() {
        for arn in [
            "arn:aws:iam::123456789012:role/name",
            "arn:aws-cn:iam::123456789012:role/path/to/name+=,.@_-",
            "arn:aws:iam:::role/S3Access",
        ] {
            assert_eq!(check_role_arn(arn), Ok(()), "{arn}");
        }
        for arn in [
            "",
            "role/name",
            "arn:aws:iam::123456789012:user/name",
            "arn:aws:s3:::bucket",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam:us-east-1:123456789012:role/name",
            "arn:aws:iam::123456789012:role/a b",
            "arn::iam::123456789012:role/a",
        ] {
            assert!(check_role_arn(arn).is_err(), "{arn}");
        }
    }
}
