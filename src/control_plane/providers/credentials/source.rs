//! One fetch of a source, as it is configured.

use std::path::PathBuf;

use super::{
    container,
    document::Given,
    environment, imds,
    outside::{Chance, Outside, SourceProblem},
    profile::{self, SharedFiles},
    sts::{Role, Sts},
    web_identity,
};
use crate::config::settings::{RoleSettings, SourceKind, SourceSettings};

/// Kinds that the default chain tries, in the order of the AWS SDKs.
pub const CHAIN: [SourceKind; 5] = [
    SourceKind::Env,
    SourceKind::Profile,
    SourceKind::WebIdentity,
    SourceKind::Container,
    SourceKind::Imds,
];

/// Files whose change is a reason to fetch the credentials of a source again.
pub fn watched(settings: &SourceSettings, outside: &dyn Outside) -> Vec<PathBuf> {
    match settings.kind {
        SourceKind::Default | SourceKind::Profile => profile::paths(outside),
        _ => Vec::new(),
    }
}

/// Fetches the credentials of a source.
///
/// # Errors
/// There are none; see the kinds of sources.
pub(super) fn fetch(
    settings: &SourceSettings,
    outside: &dyn Outside,
) -> Result<Given, SourceProblem> {
    let shared = SharedFiles::read(outside);
    let name = profile::profile_name(outside, settings.profile.as_deref());
    let region = outside
        .variable("AWS_REGION")
        .or_else(|| outside.variable("AWS_DEFAULT_REGION"))
        .or_else(|| Some(shared.as_ref().ok()?.setting(&name, "region")?.to_owned()));
    let fetching = Fetching { settings, outside, shared, profile: name, region };
    match (&settings.assume_role, fetching.one(settings.kind)) {
        (Some(role), Ok(base)) => fetching.assume(role, &base),
        (_, base) => base,
    }
}

struct Fetching<'f> {
    settings: &'f SourceSettings,
    outside: &'f dyn Outside,
    shared: Result<SharedFiles, SourceProblem>,
    profile: String,
    region: Option<String>,
}

impl Fetching<'_> {
    fn one(&self, kind: SourceKind) -> Result<Given, SourceProblem> {
        let (outside, region) = (self.outside, self.region.as_deref());
        let endpoint = self.settings.endpoint.as_deref();
        match kind {
            SourceKind::Default => self.chain(),
            SourceKind::Env => environment::fetch(outside),
            SourceKind::Profile => {
                let files = self.shared.as_ref().map_err(Clone::clone)?;
                profile::fetch(outside, files, &self.profile, region)
            }
            SourceKind::WebIdentity => web_identity::fetch(outside, region),
            SourceKind::Container => container::fetch(outside, endpoint),
            SourceKind::Imds => imds::fetch(outside, endpoint),
        }
    }

    /// The first source that is configured decides: one that does not work must not be replaced by
    /// one with other permissions.
    fn chain(&self) -> Result<Given, SourceProblem> {
        let mut passed_over = Vec::new();
        for kind in CHAIN {
            match self.one(kind) {
                Err(SourceProblem { chance: Chance::NotConfigured, text }) => {
                    passed_over.push(format!("{kind}: {text}"));
                }
                // Where there is no instance nobody is there to respond.
                Err(problem) if kind == SourceKind::Imds => {
                    passed_over.push(format!("{kind}: {}", problem.text));
                    let text = passed_over.join("; ");
                    return Err(SourceProblem { chance: problem.chance, text });
                }
                Err(problem) => {
                    let text = format!("{kind}: {}", problem.text);
                    return Err(SourceProblem { chance: problem.chance, text });
                }
                Ok(given) => return Ok(given),
            }
        }
        Err(SourceProblem::not_configured(passed_over.join("; ")))
    }

    fn assume(&self, role: &RoleSettings, base: &Given) -> Result<Given, SourceProblem> {
        let region = role.region.as_deref().or(self.region.as_deref());
        let sts = Sts::new(self.outside, role.sts_endpoint.as_ref(), region)?;
        let role = Role {
            arn: role.role_arn.clone(),
            session_name: role.session_name.clone(),
            external_id: role.external_id.clone(),
            duration: Some(role.duration),
        };
        sts.assume_role(self.outside, &role, &base.credentials)
    }
}

/// Names what a start asks for the credentials of a source, for people.
pub fn described(settings: &SourceSettings) -> String {
    // Without the query, which may hold a secret.
    let endpoint = settings.endpoint.as_deref().map(|text| text.split('?').next().unwrap_or(text));
    let at = |default: &str| endpoint.map_or_else(|| default.to_owned(), |at| format!("at {at}"));
    let profile = settings.profile.as_ref();
    let of_files = profile.map_or_else(
        || "the profile of AWS_PROFILE, or default, in the shared files".to_owned(),
        |name| format!("profile '{name}' of the shared files"),
    );
    let base = match settings.kind {
        SourceKind::Default => format!(
            "the first of these that is configured: the environment, {of_files}, the web identity \
             token, the container service, the instance metadata service"
        ),
        SourceKind::Env => "the environment".to_owned(),
        SourceKind::Profile => of_files,
        SourceKind::WebIdentity => "STS, with the web identity token of the environment".to_owned(),
        SourceKind::Container => {
            format!("the container service {}", at("that the environment names"))
        }
        SourceKind::Imds => {
            format!("the instance metadata service {}", at("of AWS or of the environment"))
        }
    };
    match &settings.assume_role {
        None => base,
        Some(role) => {
            let sts = role.sts_endpoint.as_ref();
            let sts = sts.map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
            format!("{base}; then STS{sts} for the role {}", role.role_arn)
        }
    }
}
