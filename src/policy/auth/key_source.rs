//! Sources of key sets on the network: where a provider's JWK set is, and what is made of the
//! answers from there. The asking is done elsewhere.

use std::sync::Arc;

use serde_json::Value;

use super::{
    json, jwks,
    key::KnownAlgorithm,
    key_set::{KeySet, check_number},
    spec::{AuthProblem, FetchSettings},
};
use crate::protocol::{s3::endpoint::Scheme, url::HttpUrl};

/// Algorithms of a fetched set where the configuration names none. Those with a shared secret are
/// not among them: what is published is no secret.
const ALGORITHMS_DEFAULT: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];

/// Path of an issuer's metadata (`OpenID` Connect Discovery 1.0 section 4).
const DOCUMENT: &str = "/.well-known/openid-configuration";

/// Place of a JWK set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetPlace {
    /// Known.
    Url(HttpUrl),
    /// Named in the issuer's metadata.
    Discovery {
        /// The issuer that the metadata must be of.
        issuer: Box<str>,
        /// Place of the metadata.
        document: HttpUrl,
    },
}

impl SetPlace {
    /// The metadata of an issuer, which "must be a URL using the https scheme with no query or
    /// fragment component" (`OpenID` Connect Discovery 1.0 section 3), or on this machine.
    ///
    /// # Errors
    /// The problem, in words that fit after the key path.
    pub(super) fn discover(issuer: &str) -> Result<Self, String> {
        let url = HttpUrl::parse(issuer)
            .map_err(|advice| format!("must be a URL for discovery: {advice}"))?;
        if url.target.contains('?') {
            return Err("must have no query for discovery".to_owned());
        }
        check_protected(&url)?;
        // "Any terminating / MUST be removed before appending" (section 4.1).
        let document = format!("{}{DOCUMENT}", issuer.strip_suffix('/').unwrap_or(issuer));
        let document = HttpUrl::parse(&document).map_err(str::to_owned)?;
        Ok(Self::Discovery { issuer: issuer.into(), document })
    }

    /// A known place.
    ///
    /// # Errors
    /// The problem, in words that fit after the key path.
    pub(super) fn at(url: &HttpUrl) -> Result<Self, String> {
        check_protected(url)?;
        Ok(Self::Url(url.clone()))
    }

    /// The URL that is asked first.
    pub const fn first_url(&self) -> &HttpUrl {
        match self {
            Self::Url(url) | Self::Discovery { document: url, .. } => url,
        }
    }
}

fn check_protected(url: &HttpUrl) -> Result<(), String> {
    if url.is_protected() {
        Ok(())
    } else {
        Err("keys that come over http can be replaced on the way; write an https URL (http only \
             for this machine itself)"
            .to_owned())
    }
}

/// The source of one provider's key set. Two are the same if their `id` is.
#[derive(Clone, Debug)]
pub struct KeySource {
    /// All that decides which keys come of it: provider, place, algorithms, trusted certificates.
    pub id: Arc<str>,
    /// Name of the provider.
    pub provider: Box<str>,
    /// Place of the set.
    pub place: SetPlace,
    /// Times, and certificates.
    pub settings: FetchSettings,
    algorithms: Box<[KnownAlgorithm]>,
}

impl KeySource {
    /// The source of a provider at a place. `algorithms` are those configured, if any.
    ///
    /// # Errors
    /// The problem with `algorithms`.
    pub(super) fn new(
        provider: &str,
        place: SetPlace,
        algorithms: &[String],
        settings: &FetchSettings,
    ) -> Result<Self, String> {
        let names: Vec<&str> = if algorithms.is_empty() {
            ALGORITHMS_DEFAULT.to_vec()
        } else {
            algorithms.iter().map(String::as_str).collect()
        };
        let known: Box<[KnownAlgorithm]> = names
            .iter()
            .filter(|name| !name.starts_with("HS"))
            .filter_map(|name| KnownAlgorithm::by_name(name))
            .collect();
        if known.is_empty() {
            return Err(
                "needs an algorithm with public keys, because a set that is fetched is no \
                        secret; write RS256, PS256, ES256, ES384 or EdDSA"
                    .to_owned(),
            );
        }
        let issuer = match &place {
            SetPlace::Url(_) => "",
            SetPlace::Discovery { issuer, .. } => issuer,
        };
        let url = place.first_url();
        let digest = settings.ca.as_ref().map_or("", |ca| &*ca.digest);
        let names: Vec<&str> = known.iter().map(|algorithm| algorithm.name()).collect();
        let id = format!(
            "{provider}\n{issuer}\n{}{}\n{}\n{digest}",
            url.endpoint,
            url.target,
            names.join(",")
        );
        Ok(Self {
            id: id.into(),
            provider: provider.into(),
            place,
            settings: settings.clone(),
            algorithms: known,
        })
    }

    /// The place of the JWK set, from the issuer's metadata.
    ///
    /// # Errors
    /// A sentence for the operator, without anything of the document.
    pub fn set_url(&self, document: &[u8]) -> Result<HttpUrl, String> {
        let SetPlace::Discovery { issuer, document: place } = &self.place else {
            return Err("no metadata was asked for".to_owned());
        };
        let members =
            json::object(document).ok_or("the metadata is not a JSON object with unique names")?;
        // "MUST be identical to the Issuer URL that was used as the prefix" (section 4.3).
        if members.get("issuer").and_then(Value::as_str) != Some(&**issuer) {
            return Err("the metadata is of another issuer; write issuer exactly as its provider \
                        does"
                .to_owned());
        }
        let uri = members.get("jwks_uri").and_then(Value::as_str);
        let url = HttpUrl::parse(uri.ok_or("the metadata has no jwks_uri")?)
            .map_err(|advice| format!("jwks_uri of the metadata is refused: {advice}"))?;
        let is_local = url.is_loopback() && place.is_loopback();
        if url.endpoint.scheme == Scheme::Http && !is_local {
            return Err("jwks_uri of the metadata is refused: it is not https".to_owned());
        }
        if url.is_loopback() && !is_local {
            return Err("jwks_uri of the metadata is refused: it names this machine, which the \
                        issuer does not"
                .to_owned());
        }
        Ok(url)
    }

    /// The keys of a JWK set, and the keys that are not used, as sentences.
    ///
    /// # Errors
    /// A sentence for the operator: no key can be used, or there are too many.
    pub fn read_set(&self, bytes: &[u8]) -> Result<(KeySet, Vec<String>), String> {
        let mut problems = Vec::new();
        let keys = jwks::compile(bytes, "the set", &self.algorithms, &mut problems);
        let shown = |problem: &AuthProblem| format!("{}: {}", problem.path, problem.message);
        if let Some(error) = problems.iter().find(|problem| !problem.warning) {
            return Err(shown(error));
        }
        check_number(&keys)?;
        Ok((KeySet::new(keys), problems.iter().map(shown).collect()))
    }
}

/// The key sets that were fetched, as they are at the moment.
pub trait KeySets {
    /// The set of the source of this id; none if it never came or is too old.
    fn key_set(&self, source: &str) -> Option<&KeySet>;
}

/// No set at all, for configurations without sources.
impl KeySets for () {
    fn key_set(&self, _source: &str) -> Option<&KeySet> {
        None
    }
}
