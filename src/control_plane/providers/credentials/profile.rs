//! A profile of the shared files: keys, or a role that is assumed with another profile, another
//! source, or a token.
//!
//! Refused, with a reason: `credential_process`, because the proxy starts no programs; SSO, because
//! nobody stands by to log in; a role that asks for a second factor, for the same reason.

use std::path::{Path, PathBuf};

use super::{
    container,
    document::{Given, checked},
    environment, imds,
    outside::{Outside, SourceProblem},
    shared_files::{Profile, Profiles, SharedFile, parse},
    sts::{Role, Sts},
    web_identity::{exchange, session_name},
};
use crate::{
    config::credentials::{check_role_arn, check_session_name},
    control_plane::files::{DOES_NOT_EXIST, MAY_NOT_BE_READ, UNDER_NO_DIRECTORY},
};

/// The shared files of a process.
#[derive(Debug)]
pub(super) struct SharedFiles {
    profiles: Profiles,
    /// Files in which nothing was found, with the reason.
    missing: Vec<String>,
}

/// Variables that name the shared files, their usual names, and their kinds. What stands in the
/// credentials file wins, so it comes last.
const FILES: [(&str, &str, SharedFile); 2] = [
    ("AWS_CONFIG_FILE", "config", SharedFile::Config),
    ("AWS_SHARED_CREDENTIALS_FILE", "credentials", SharedFile::Credentials),
];

/// Reasons for which a file counts as empty. The second one is for a home such as `/dev/null`,
/// which system users have, the third for the home of somebody else: the SDKs of AWS pass over
/// files that they may not read.
const PASSED_OVER: [&str; 3] = [DOES_NOT_EXIST, UNDER_NO_DIRECTORY, MAY_NOT_BE_READ];

/// Paths of the shared files, whether they are there or not.
pub(super) fn paths(outside: &dyn Outside) -> Vec<PathBuf> {
    FILES.iter().filter_map(|(variable, name, _)| path(outside, variable, name)).collect()
}

impl SharedFiles {
    /// Reads both files. One that is not there, or may not be read, is empty.
    ///
    /// # Errors
    /// A file is there and cannot be read for another reason.
    pub(super) fn read(outside: &dyn Outside) -> Result<Self, SourceProblem> {
        let mut all = Self { profiles: Profiles::new(), missing: Vec::new() };
        for (variable, name, file) in FILES {
            let Some(path) = path(outside, variable, name) else {
                all.missing.push(format!("neither {variable} nor HOME is set"));
                continue;
            };
            let content = match outside.read(&path) {
                Ok(content) => content,
                Err(why) if PASSED_OVER.contains(&&*why) => {
                    all.missing.push(format!("{} {why}", path.display()));
                    continue;
                }
                Err(why) => {
                    return Err(SourceProblem::may_pass(format!("{} {why}", path.display())));
                }
            };
            let text = String::from_utf8(content)
                .map_err(|_| SourceProblem::wrong(format!("{} is not text", path.display())))?;
            for (name, settings) in parse(&text, file) {
                all.profiles.entry(name).or_default().extend(settings);
            }
        }
        Ok(all)
    }

    /// A setting of a profile.
    pub(super) fn setting(&self, profile: &str, name: &str) -> Option<&str> {
        self.profiles.get(profile)?.get(name).map(String::as_str)
    }

    fn profile(&self, name: &str) -> Result<&Profile, SourceProblem> {
        self.profiles.get(name).ok_or_else(|| {
            let why = if self.missing.is_empty() {
                String::new()
            } else {
                format!(" ({})", self.missing.join("; "))
            };
            let text = format!("the shared files have no profile '{name}'{why}");
            // A profile that nobody asked for by name need not be there.
            if name == "default" {
                SourceProblem::not_configured(text)
            } else {
                SourceProblem::wrong(text)
            }
        })
    }
}

fn path(outside: &dyn Outside, variable: &str, name: &str) -> Option<PathBuf> {
    let home = || outside.variable("HOME");
    match outside.variable(variable) {
        Some(path) => Some(match (path.strip_prefix("~/"), home()) {
            (Some(below), Some(home)) => Path::new(&home).join(below),
            _ => path.into(),
        }),
        None => Some(Path::new(&home()?).join(".aws").join(name)),
    }
}

/// The name of the profile: that of the configuration, `AWS_PROFILE`, or `default`.
pub(super) fn profile_name(outside: &dyn Outside, configured: Option<&str>) -> String {
    let configured = configured.map(str::to_owned);
    configured.or_else(|| outside.variable("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned())
}

/// Fetches the credentials of a profile. `region` is that of STS where the profile names none.
///
/// # Errors
/// There is no such profile, it cannot be used, or what it leads to gives no credentials.
pub(super) fn fetch(
    outside: &dyn Outside,
    files: &SharedFiles,
    name: &str,
    region: Option<&str>,
) -> Result<Given, SourceProblem> {
    follow(outside, files, name, region, &mut Vec::new())
}

fn follow(
    outside: &dyn Outside,
    files: &SharedFiles,
    name: &str,
    region: Option<&str>,
    visited: &mut Vec<String>,
) -> Result<Given, SourceProblem> {
    let profile = files.profile(name)?;
    let wrong = |what: &str| SourceProblem::wrong(format!("profile '{name}': {what}"));
    let setting =
        |name: &str| profile.get(name).map(String::as_str).filter(|text| !text.is_empty());
    if visited.iter().any(|seen| seen == name) {
        // A role may name its own profile for the keys in it.
        return match keys(name, profile)? {
            Some(given) if visited.last().is_some_and(|last| last == name) => Ok(given),
            _ => {
                visited.push(name.to_owned());
                Err(wrong(&format!("source_profile leads in a circle: {}", visited.join(" -> "))))
            }
        };
    }
    visited.push(name.to_owned());
    let Some(arn) = setting("role_arn") else {
        if let Some(given) = keys(name, profile)? {
            return Ok(given);
        }
        if setting("credential_process").is_some() {
            return Err(wrong(
                "credential_process is not supported, because the proxy starts no programs; use \
                 another source",
            ));
        }
        if setting("sso_session").is_some() || setting("sso_start_url").is_some() {
            return Err(wrong(
                "SSO is not supported, because it needs somebody to log in; use a role or keys",
            ));
        }
        let text = format!("profile '{name}' holds neither keys nor a role");
        return Err(if name == "default" && visited.len() == 1 {
            SourceProblem::not_configured(text)
        } else {
            SourceProblem::wrong(text)
        });
    };
    check_role_arn(arn).map_err(|why| wrong(&format!("role_arn {why}")))?;
    if setting("mfa_serial").is_some() {
        return Err(wrong(
            "mfa_serial is not supported, because nobody can enter a code; use another role",
        ));
    }
    let region = setting("region").or(region);
    let role = role(outside, name, profile, arn)?;
    if let Some(path) = setting("web_identity_token_file") {
        return exchange(outside, &role, path, region);
    }
    let base = match (setting("source_profile"), setting("credential_source")) {
        (Some(_), Some(_)) => {
            return Err(wrong("has both source_profile and credential_source; keep one of them"));
        }
        (Some(source), None) => follow(outside, files, source, region, visited)?,
        (None, Some("Environment")) => environment::fetch(outside)?,
        (None, Some("Ec2InstanceMetadata")) => imds::fetch(outside, None)?,
        (None, Some("EcsContainer")) => container::fetch(outside, None)?,
        (None, Some(_)) => {
            return Err(wrong(
                "credential_source must be Environment, Ec2InstanceMetadata or EcsContainer",
            ));
        }
        (None, None) => {
            return Err(wrong(
                "role_arn needs source_profile, credential_source or web_identity_token_file",
            ));
        }
    };
    Sts::new(outside, None, region)?.assume_role(outside, &role, &base.credentials)
}

fn role(
    outside: &dyn Outside,
    name: &str,
    profile: &Profile,
    arn: &str,
) -> Result<Role, SourceProblem> {
    let wrong = |what: String| SourceProblem::wrong(format!("profile '{name}': {what}"));
    let session_name = match profile.get("role_session_name") {
        Some(text) => {
            check_session_name(text).map_err(|why| wrong(format!("role_session_name {why}")))?;
            text.clone()
        }
        None => session_name(outside)?,
    };
    let duration = match profile.get("duration_seconds") {
        None => None,
        Some(text) => Some(
            text.parse()
                .ok()
                .filter(|seconds| (900..=43_200).contains(seconds))
                .ok_or_else(|| wrong("duration_seconds must be from 900 to 43200".to_owned()))?,
        ),
    };
    let external_id = profile.get("external_id").cloned();
    Ok(Role { arn: arn.to_owned(), session_name, external_id, duration })
}

/// The keys of a profile, if it holds any.
fn keys(name: &str, profile: &Profile) -> Result<Option<Given>, SourceProblem> {
    let setting =
        |name: &str| profile.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let token = setting("aws_session_token");
    match (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
        (None, None) => Ok(None),
        (Some(access_key), Some(secret_key)) => {
            let origin = format!("profile '{name}'");
            let credentials = checked(&origin, access_key, secret_key, token)?;
            Ok(Some(Given { credentials, ends: None }))
        }
        _ => Err(SourceProblem::wrong(format!(
            "profile '{name}': aws_access_key_id and aws_secret_access_key belong together; write \
             both"
        ))),
    }
}
