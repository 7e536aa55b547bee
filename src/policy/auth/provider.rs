//! Providers: issuers of tokens, each with its own keys and rules.
//!
//! The first one of every policy stands for the keys of the `jwt` section itself. The token's `iss`
//! picks one before the signature is verified; all that follows is that provider's, so a wrong
//! `iss` only picks keys that do not verify the token. What an element of `jwt.providers` leaves
//! out is taken from the section: leaving something out never means that it is not checked.

use std::{collections::HashSet, sync::Arc};

use serde_json::{Map, Value};

use super::{
    claims::{Rules, Scope},
    denial::DenialReason,
    jwks,
    key::{KnownAlgorithm, VerificationKey},
    key_set::{KeySet, NoKey, check_number, verifying_key},
    key_source::{KeySets, KeySource, SetPlace},
    spec::{AuthProblem, AuthSpec, KeySpec, ProviderSpec},
    token::Unverified,
    verified::{VerifiedBy, check_audience, check_issuer},
};
use crate::protocol::url::HttpUrl;

/// Name of the keys of the `jwt` section itself, where providers are named.
pub const OWN_KEYS: &str = "jwt";

/// Most elements of `jwt.providers`: one bit for each in a `ProviderSet`, beside the section's
/// own keys.
pub const PROVIDERS_MAX: usize = 63;

/// One issuer of tokens.
pub(super) struct Provider {
    issuer: Option<Box<str>>,
    audience: Arc<[Box<str>]>,
    pub(super) keys: KeySet,
    /// Source of further keys, which change while the policy stays.
    pub(super) source: Option<Arc<KeySource>>,
    /// Index of the first of its keys among all those of the policy.
    pub(super) first_key: usize,
    /// Rules for every protected bucket.
    pub(super) rules: Arc<Rules>,
}

impl Provider {
    /// Returns true if tokens with this `iss` are its own.
    pub(super) fn issues(&self, issuer: &str) -> bool {
        self.issuer.as_deref() == Some(issuer)
    }

    /// Finds the key that verifies a token: its index among all keys of the policy, or the version
    /// of the fetched set that has it.
    pub(super) fn verifying_key(
        &self,
        token: &Unverified<'_>,
        fetched: &impl KeySets,
    ) -> Result<VerifiedBy, NoKey> {
        let fixed = |key| VerifiedBy { key_index: Some(self.first_key + key), set_version: None };
        let Some(source) = &self.source else {
            return verifying_key(&[&self.keys], token).map(|place| fixed(place.key));
        };
        let Some(set) = fetched.key_set(&source.id) else {
            // Until the set comes it is not known whether this key would be in it.
            let missing = NoKey { reason: DenialReason::NoKeySet, is_id_unknown: false };
            let found = verifying_key(&[&self.keys], token);
            return found.map(|place| fixed(place.key)).map_err(|_| missing);
        };
        verifying_key(&[&self.keys, set], token).map(|place| match place.set {
            0 => fixed(place.key),
            _ => VerifiedBy { key_index: None, set_version: Some(set.version) },
        })
    }

    /// Returns true if a key of that kind could verify the token now as it did before.
    pub(super) fn still_has(&self, key: VerifiedBy, fetched: &impl KeySets) -> bool {
        let Some(version) = key.set_version else { return true };
        let set = self.source.as_ref().and_then(|source| fetched.key_set(&source.id));
        set.is_some_and(|set| set.version == version)
    }

    /// Checks issuer and audience.
    pub(super) fn check(&self, claims: &Map<String, Value>) -> Result<(), DenialReason> {
        if let Some(issuer) = self.issuer.as_deref() {
            check_issuer(claims, issuer)?;
        }
        if self.audience.is_empty() { Ok(()) } else { check_audience(claims, &self.audience) }
    }
}

/// Some of the providers of one policy, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProviderSet(u64);

impl ProviderSet {
    /// Every provider.
    pub(super) const ALL: Self = Self(u64::MAX);
    /// The keys of the `jwt` section itself.
    pub(super) const OWN: Self = Self(1);

    /// The providers of these names.
    ///
    /// # Errors
    /// The position of the first name that no provider has.
    pub(super) fn of(names: &[String], providers: &[ProviderSpec]) -> Result<Self, usize> {
        let mut set = 0;
        for (position, name) in names.iter().enumerate() {
            let known = providers.iter().position(|provider| provider.name == *name);
            let index = match known {
                _ if name == OWN_KEYS => 0,
                Some(known) => known + 1,
                None => return Err(position),
            };
            set |= Self::bit(index);
        }
        Ok(Self(set))
    }

    /// Returns true if the provider of this index is among them.
    pub(super) fn has(self, provider: usize) -> bool {
        self.0 & Self::bit(provider) != 0
    }

    fn bit(provider: usize) -> u64 {
        u32::try_from(provider).ok().and_then(|shift| 1_u64.checked_shl(shift)).unwrap_or_default()
    }
}

/// Compiles the section's own keys and its providers, in this order.
pub(super) fn compile(spec: &AuthSpec, problems: &mut Vec<AuthProblem>) -> Vec<Provider> {
    let keys = Keys {
        path: "jwt",
        name: "",
        listed: &spec.keys,
        jwks: spec.jwks.as_deref(),
        algorithms: &spec.algorithms,
    };
    let own_keys = keys.compile(problems);
    let source = SourceSpec {
        name: OWN_KEYS,
        path: "jwt",
        issuer: spec.issuer.as_deref(),
        jwks_url: spec.jwks_url.as_ref(),
        discovery: spec.discovery,
        algorithms: &spec.algorithms,
    };
    let source = source.compile(spec, problems);
    if !spec.has_own_keys() && spec.providers.is_empty() {
        let message = "needs a key; write secret, secret_file, public_key_file, keys, jwks_file, \
                       jwks_url or discovery";
        problems.push(AuthProblem::error("jwt", message));
    }
    if spec.issuer.as_deref() == Some("") {
        problems.push(AuthProblem::error("jwt.issuer", "must not be empty"));
    }
    if spec.audience.iter().any(String::is_empty) {
        problems.push(AuthProblem::error("jwt.audience", "must not hold an empty string"));
    }
    let mut first_key = own_keys.len();
    let own = Provider {
        issuer: spec.issuer.as_deref().map(Box::from),
        audience: boxed(&spec.audience),
        keys: KeySet::new(own_keys),
        source,
        first_key: 0,
        rules: Arc::new(Rules::compile(&spec.claims, Scope::Objects, problems)),
    };
    let mut providers = vec![own];
    check_names(spec, problems);
    for provider in &spec.providers {
        let compiled = compile_provider(provider, spec, &providers[0], first_key, problems);
        first_key += compiled.keys.len();
        providers.push(compiled);
    }
    providers
}

fn compile_provider(
    provider: &ProviderSpec,
    section: &AuthSpec,
    own: &Provider,
    first_key: usize,
    problems: &mut Vec<AuthProblem>,
) -> Provider {
    let ProviderSpec { path, name, .. } = provider;
    let algorithms =
        if provider.algorithms.is_empty() { &section.algorithms } else { &provider.algorithms };
    let keys =
        Keys { path, name, listed: &provider.keys, jwks: provider.jwks.as_deref(), algorithms };
    let keys = keys.compile(problems);
    let source = SourceSpec {
        name,
        path,
        issuer: Some(&provider.issuer),
        jwks_url: provider.jwks_url.as_ref(),
        discovery: provider.discovery,
        algorithms,
    };
    let source = source.compile(section, problems);
    if !provider.has_keys() {
        problems.push(AuthProblem::error(
            path,
            "needs a key; write keys, jwks_file, jwks_url or discovery",
        ));
    }
    if provider.audience.iter().flatten().any(String::is_empty) {
        problems
            .push(AuthProblem::error(format!("{path}.audience"), "must not hold an empty string"));
    }
    let audience = provider.audience.as_deref().map_or_else(|| Arc::clone(&own.audience), boxed);
    let rules = match &provider.claims {
        None => Arc::clone(&own.rules),
        Some(claims) => Arc::new(Rules::compile(claims, Scope::Objects, problems)),
    };
    let has_rules = !provider.claims.as_ref().unwrap_or(&section.claims).is_empty();
    if audience.is_empty() && !has_rules {
        problems.push(AuthProblem {
            path: path.clone(),
            message: "has neither audience nor claims, so a token that was issued for another \
                      application is accepted; write one of them"
                .to_owned(),
            warning: true,
        });
    }
    Provider {
        issuer: Some(provider.issuer.as_str().into()),
        audience,
        keys: KeySet::new(keys),
        source,
        first_key,
        rules,
    }
}

/// Names and issuers tell providers apart, from each other and from the section's own keys.
fn check_names(spec: &AuthSpec, problems: &mut Vec<AuthProblem>) {
    if spec.providers.len() > PROVIDERS_MAX {
        let message = format!("holds more than {PROVIDERS_MAX} providers; remove some");
        problems.push(AuthProblem::error("jwt.providers", message));
    }
    let (mut names, mut issuers) = (HashSet::from([OWN_KEYS]), HashSet::new());
    for ProviderSpec { path, name, issuer, .. } in &spec.providers {
        if name.is_empty() {
            problems.push(AuthProblem::error(format!("{path}.name"), "must not be empty"));
        } else if !names.insert(name) {
            let message = if name == OWN_KEYS {
                "is the name of the keys of the jwt section itself; write another one"
            } else {
                "is the name of another provider; write another one"
            };
            problems.push(AuthProblem::error(format!("{path}.name"), message));
        }
        let path = format!("{path}.issuer");
        if issuer.is_empty() {
            problems.push(AuthProblem::error(path, "must not be empty"));
        } else if spec.issuer.as_ref() == Some(issuer) {
            let message = "is jwt.issuer too, so no token of the keys of the jwt section could be \
                           accepted; keep it in one of the two places";
            problems.push(AuthProblem::error(path, message));
        } else if !issuers.insert(issuer) {
            problems.push(AuthProblem::error(
                path,
                "is the issuer of another provider; keep it in one",
            ));
        }
    }
    if let Err(position) = ProviderSet::of(&spec.admin_providers, &spec.providers) {
        problems.push(unknown_name(format!("jwt.admin_providers[{position}]")));
    }
    if !spec.has_own_keys() && spec.admin_providers.is_empty() && !spec.providers.is_empty() {
        problems.push(AuthProblem {
            path: "jwt.admin_providers".to_owned(),
            message: "is not written, and the jwt section has no keys of its own, so no token may \
                      use the admin API; write the names of providers whose tokens may"
                .to_owned(),
            warning: true,
        });
    }
}

/// The problem of a name that no provider has.
pub(super) fn unknown_name(path: String) -> AuthProblem {
    let message = "no provider has this name; write a name from jwt.providers, or jwt for the keys \
                   of the jwt section itself";
    AuthProblem::error(path, message)
}

/// A source of keys as configured in one place.
struct SourceSpec<'a> {
    name: &'a str,
    path: &'a str,
    issuer: Option<&'a str>,
    jwks_url: Option<&'a HttpUrl>,
    discovery: bool,
    algorithms: &'a [String],
}

impl SourceSpec<'_> {
    fn compile(
        &self,
        section: &AuthSpec,
        problems: &mut Vec<AuthProblem>,
    ) -> Option<Arc<KeySource>> {
        let found = self.place().and_then(|place| match place {
            None => Ok(None),
            Some(place) => KeySource::new(self.name, place, self.algorithms, &section.fetch)
                .map(Some)
                .map_err(|why| ("algorithms", why)),
        });
        match found {
            Ok(source) => source.map(Arc::new),
            Err((member, why)) => {
                problems.push(AuthProblem::error(format!("{}.{member}", self.path), why));
                None
            }
        }
    }

    /// The place of the set, if it is to be fetched.
    ///
    /// # Errors
    /// The key that is wrong, and why.
    fn place(&self) -> Result<Option<SetPlace>, (&'static str, String)> {
        match (self.jwks_url, self.discovery, self.issuer) {
            (None, false, _) => Ok(None),
            (Some(_), true, _) => {
                Err(("discovery", "is written beside jwks_url; keep one of them".to_owned()))
            }
            (Some(url), false, _) => SetPlace::at(url).map(Some).map_err(|why| ("jwks_url", why)),
            (None, true, None | Some("")) => Err((
                "discovery",
                "needs issuer, whose metadata names the keys; write issuer".to_owned(),
            )),
            (None, true, Some(issuer)) => {
                SetPlace::discover(issuer).map(Some).map_err(|why| ("issuer", why))
            }
        }
    }
}

/// Keys as configured in one place.
struct Keys<'a> {
    /// Key path of the place.
    path: &'a str,
    /// Name of the provider; empty for the section's own keys.
    name: &'a str,
    listed: &'a [KeySpec],
    jwks: Option<&'a [u8]>,
    /// Algorithms accepted for keys of a set; empty for those of the keys.
    algorithms: &'a [String],
}

impl Keys<'_> {
    fn compile(&self, problems: &mut Vec<AuthProblem>) -> Vec<VerificationKey> {
        let path = self.path;
        let mut keys: Vec<VerificationKey> = Vec::new();
        let is_taken = |keys: &[VerificationKey], key: &VerificationKey| {
            key.id.is_some() && keys.iter().any(|other| other.id == key.id)
        };
        for spec in self.listed {
            let Some(mut key) = VerificationKey::compile(spec, problems) else { continue };
            if is_taken(&keys, &key) {
                let path = format!("{}.id", spec.path);
                problems.push(AuthProblem::error(
                    path,
                    "is the id of another key too; write one that no other key has",
                ));
                continue;
            }
            if key.id.is_some() {
                key.label = self.label(&key.label);
            }
            keys.push(key);
        }
        let algorithms = known_algorithms(path, self.algorithms, problems);
        if let Some(bytes) = self.jwks {
            let path = format!("{path}.jwks_file");
            for mut key in jwks::compile(bytes, &path, &algorithms, problems) {
                if is_taken(&keys, &key) {
                    let message = format!(
                        "the kid '{}' must not be the id of a key in {}.keys too",
                        key.label, self.path
                    );
                    problems.push(AuthProblem::error(path.as_str(), message));
                    continue;
                }
                key.label = self.label(&key.label);
                keys.push(key);
            }
        }
        if let Err(message) = check_number(&keys) {
            problems.push(AuthProblem::error(format!("{path}.keys"), message));
        }
        keys
    }

    /// Name of a key in metrics: two providers may have a key of the same id.
    fn label(&self, id: &str) -> Box<str> {
        if self.name.is_empty() { id.into() } else { format!("{}/{id}", self.name).into() }
    }
}

/// The algorithms of these names. One that is not known is a problem.
fn known_algorithms(
    path: &str,
    names: &[String],
    problems: &mut Vec<AuthProblem>,
) -> Vec<KnownAlgorithm> {
    let mut known = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match KnownAlgorithm::by_name(name) {
            Some(algorithm) => known.push(algorithm),
            None => problems.push(AuthProblem::error(
                format!("{path}.algorithms[{index}]"),
                "is not the name of a signature algorithm; write RS256, PS256, ES256, ES384 or EdDSA",
            )),
        }
    }
    known
}

fn boxed(texts: &[String]) -> Arc<[Box<str>]> {
    texts.iter().map(|text| text.as_str().into()).collect()
}
