//! The `jwt` section, and claim rules wherever they stand.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use super::{
    changes::Changes,
    declare::{Keys as _, Value, compare_named, declare, section_of},
    keys::{
        DAY_SECONDS, Key, any, boolean, file, group, keys, list, one_of, seconds, seconds_or_zero,
        secret, text, texts,
    },
    section::Section,
    values::{check_name, in_order},
    walk::{At, Noted},
};
use crate::{
    model::{CaBundle, Secret},
    policy::{
        auth::{
            JWKS_BYTES_MAX, KEYS_MAX, KeyKind, LEEWAY_SECONDS_MAX, OPERATORS, PEM_BYTES_MAX,
            spec::{
                AuthSpec, ClaimSpec, FetchSettings, KeyMaterial, KeySpec, ProviderSpec, TokenSource,
            },
        },
        site::{listing, query},
    },
    protocol::{http1::Forwarded, text::token::is_token, url::HttpUrl},
};

/// Names of the signature algorithms (RFC 7518 section 3.1, RFC 8037 section 3.1).
const ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// Longest `jwt.leeway`, in seconds, as the policy wants it.
const LEEWAY_SECONDS: u32 = 300;
const _: () = assert!(LEEWAY_SECONDS as u64 == LEEWAY_SECONDS_MAX);

declare! {
    impl AuthSpec, check = check_auth {
        /// The operator's switch: `false` opens every bucket and closes the admin API.
        enforced as "enabled": bool = boolean().is("true"),
        keys: Vec<KeySpec> = group(KEY_SOURCES),
        /// Keys from a JWK set (RFC 7517).
        jwks as "jwks_file": Option<Vec<u8>> = file().at_most(JWKS_BYTES_MAX),
        /// The same fetched over https, and renewed; http only from this machine itself.
        jwks_url: Option<HttpUrl> = text(),
        /// Fetches the JWK set that the metadata of `issuer` names.
        discovery: bool = boolean().is("false"),
        /// Fetching of JWK sets, those of providers too.
        fetch as "jwks": FetchSettings = section_of::<FetchSettings>(),
        /// Algorithms accepted for keys of a JWK set; the first one that fits is that of a key
        /// without `alg`.
        algorithms: Vec<String> = texts().otherwise(
            "those of the keys in a file; RS256, PS256, ES256, ES384 and EdDSA of a fetched set",
        ),
        /// More issuers: a token with the `iss` of one of them is checked with its keys only, any
        /// other token with the keys above.
        providers: Vec<ProviderSpec> = list(PROVIDER),
        /// Names of providers whose tokens may use `/admin`; `jwt` names the keys above.
        admin_providers: Vec<String> = texts().otherwise("the keys above only").in_any_order(),
        /// Required `iss`.
        issuer: Option<String> = text(),
        /// Accepted `aud` values, as text; empty accepts any.
        audience: Vec<String> = texts().in_any_order(),
        /// Tolerance for `exp` and `nbf`.
        leeway: Duration = seconds_or_zero(LEEWAY_SECONDS).is("60"),
        /// Refuses tokens without `exp`.
        require_exp: bool = boolean().is("true"),
        /// Places where tokens are looked for; the first that is present decides.
        sources as "token_sources": Vec<TokenSource> = list(TOKEN_SOURCE).otherwise("bearer"),
        /// Rules that must all hold, for every protected bucket.
        claims: Vec<ClaimSpec> = list(RULE),
        /// Rules for `/admin/*`, like `jwt.claims`.
        admin_claims: Vec<ClaimSpec> = list(RULE).otherwise("`role` equals `admin`"),
    }
}

declare! {
    impl FetchSettings, check = check_fetch {
        /// Time between two renewals, where the response names none; at least 1.
        refresh: Duration = seconds(DAY_SECONDS).is("3600"),
        /// Time for which the last good set is used while it cannot be renewed; at least 1.
        max_stale: Duration = seconds(MAX_STALE_SECONDS).is("86400"),
        /// PEM certificates trusted besides the system's.
        ca as "ca_file": Option<CaBundle> = file(),
    }
}

/// Longest `jwt.jwks.max_stale`, in seconds: 30 days. A key that its provider has withdrawn would
/// go on working for as long.
const MAX_STALE_SECONDS: u32 = 30 * DAY_SECONDS;

fn check_fetch(fetch: &FetchSettings, section: Section<'_>) {
    // A set is renewed twice in `max_stale` at least, so both bound what a provider is asked.
    for (name, time) in [("refresh", fetch.refresh), ("max_stale", fetch.max_stale)] {
        if time < Duration::from_secs(1) && !section.is_noted(name) {
            section.error(name, "must be at least 1 second");
        }
    }
}

impl Value for Option<HttpUrl> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        read_url(section, key.name)
    }
}

fn read_url(section: Section<'_>, name: &str) -> Option<HttpUrl> {
    let text = section.security_text(name).ok().flatten()?;
    let url = HttpUrl::parse(&text.value);
    url.map_err(|advice| section.error(name, format!("is not a URL to fetch: {advice}"))).ok()
}

/// The key of the section itself, and a list of more.
const KEY_SOURCES: &[Key] = keys! {
    /// Algorithm of the key below, and of `jwt.keys` that name none.
    algorithm = one_of(ALGORITHMS).is("HS256"),
    /// HMAC secret for HS*: at least 32 characters.
    secret = secret(),
    /// The same from a file.
    secret_file = file(),
    /// PEM public key for RS*, PS*, ES* and EdDSA.
    public_key_file = file().at_most(PEM_BYTES_MAX),
    /// More keys, for rotation, beside or instead of the above.
    keys = list(LISTED_KEY),
};

const LISTED_KEY: &[Key] = keys! {
    /// Key id: a token with this `kid` is checked with this key.
    id = text(),
    /// Algorithm of this key.
    algorithm = one_of(ALGORITHMS).otherwise("`jwt.algorithm`"),
    /// See `jwt.secret`.
    secret = secret(),
    /// See `jwt.secret_file`.
    secret_file = file(),
    /// See `jwt.public_key_file`.
    public_key_file = file().at_most(PEM_BYTES_MAX),
};

/// One of the issuers.
const PROVIDER: &[Key] = keys! {
    /// Unique name, for `auth.providers` and metrics.
    name = text().required().checked(check_provider_name),
    /// The `iss` of its tokens; no two providers have the same.
    issuer = text().required(),
    /// Accepted `aud` values.
    audience = texts().otherwise("`jwt.audience`"),
    /// Keys, like `jwt.keys`.
    keys = list(LISTED_KEY),
    /// Keys from a JWK set (RFC 7517).
    jwks_file = file().at_most(JWKS_BYTES_MAX),
    /// The same fetched over https, like `jwt.jwks_url`.
    jwks_url = text(),
    /// Fetches the JWK set that the metadata of `issuer` names.
    discovery = boolean().is("false"),
    /// Algorithms accepted for keys of the JWK set.
    algorithms = texts().otherwise("`jwt.algorithms`"),
    /// Rules that must all hold, in place of `jwt.claims`.
    claims = list(RULE).otherwise("`jwt.claims`"),
};

/// Longest name of a provider, in bytes. It is a label of metrics.
const PROVIDER_NAME_BYTES_MAX: usize = 64;

const TOKEN_KINDS: &[&str] = &["bearer", "header", "query", "cookie"];

const TOKEN_SOURCE: &[Key] = keys! {
    /// Kind of place.
    kind as "type" = one_of(TOKEN_KINDS).required(),
    /// Name of the header, query parameter or cookie; not for bearer.
    name = text(),
    /// Text before the token, for a header.
    prefix = text().is(""),
};

/// A claim rule.
pub(super) const RULE: &[Key] = keys! {
    /// Name of the claim; dots descend into objects.
    claim = text().required(),
    /// Comparison.
    operator = one_of(OPERATORS).required(),
    /// Value to compare with: text, number, boolean or list, as the operator wants.
    value = any(),
};

impl Value for Option<AuthSpec> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        if !section.has(key.name) {
            return None;
        }
        if !section.is_written(key.name) {
            section.error(key.name, "is empty; write its keys, or remove it");
        }
        Some(section.section(key.name, |jwt| {
            let mut auth = AuthSpec::read_keys(jwt);
            if !jwt.is_written("admin_claims") {
                auth.admin_claims = AuthSpec::default().admin_claims;
            }
            auth
        }))
    }

    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        let at = At::Key(at, key.name);
        match (self, new) {
            (Some(running), Some(new)) => running.compare_keys(new, &at, changes),
            (None, None) => {}
            _ => changes.hot(at),
        }
    }
}

fn check_auth(auth: &AuthSpec, section: Section<'_>) {
    if !auth.enforced && !section.is_noted("enabled") {
        section.warning(
            "enabled",
            "JWT authentication is switched off: no bucket asks for a token, and the admin API \
             is closed",
        );
    }
    let sources = [
        "algorithm",
        "secret",
        "secret_file",
        "public_key_file",
        "keys",
        "jwks_file",
        "jwks_url",
        "discovery",
        "providers",
    ];
    // A key that cannot be had has been noted, and says it all.
    let noted = || sources.into_iter().any(|name| section.is_noted(name));
    let has_keys = auth.has_own_keys() || !auth.providers.is_empty();
    if auth.enforced && !has_keys && !noted() {
        section.error_here(
            "no key to verify tokens with: write secret, secret_file, public_key_file, keys, \
             jwks_file, jwks_url, discovery or providers",
        );
    }
    if section.has("admin_providers") && section.is_empty_list("admin_providers") {
        section.error(
            "admin_providers",
            "is empty; write names, or remove the key for the default (the keys of this section)",
        );
    }
    if section.is_written("admin_claims") && section.is_empty_list("admin_claims") {
        section.error(
            "admin_claims",
            "is empty, so every token could use the admin API; write a rule, or remove the key for \
             the default (role equals admin)",
        );
    }
}

impl Value for Vec<ProviderSpec> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        // A wrong algorithm of the section has been noted with its keys.
        let default = if section.is_noted("algorithm") {
            String::new()
        } else {
            algorithm(section, None).unwrap_or_default()
        };
        section.each(key.name, |provider| read_provider(provider, &default))
    }

    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        let at = At::Key(at, key.name);
        compare_named(self, new, |provider| &provider.name, &at, changes, compare_provider);
    }
}

fn read_provider(section: Section<'_>, default: &str) -> ProviderSpec {
    let (name, issuer) = (section.text("name"), section.security_text("issuer"));
    let keys = section.each("keys", |key| listed_key(key, default));
    let jwks = section.named_file("jwks_file");
    let jwks_url = read_url(section, "jwks_url");
    let audience = section.has("audience").then(|| section.texts("audience"));
    let claims = section.has("claims").then(|| read_rules(section, "claims"));
    for name in ["audience", "algorithms", "claims"] {
        if section.has(name) && section.is_empty_list(name) {
            section.error(
                name,
                format!("is empty; write what is checked, or remove the key for jwt.{name}"),
            );
        }
    }
    // Whoever names this provider must not be told that there is none.
    let issuer = issuer.ok().flatten().map(|text| text.value.into_owned()).unwrap_or_default();
    if issuer.is_empty() && !section.is_noted("issuer") {
        section.error("issuer", "is empty; write the iss of its tokens");
    }
    ProviderSpec {
        path: section.path(),
        name: name.unwrap_or_default(),
        issuer,
        audience,
        keys: keys.into_iter().flatten().collect(),
        jwks: jwks.ok().flatten().map(|content| content.to_vec()),
        jwks_url,
        discovery: section.boolean("discovery"),
        algorithms: section.texts("algorithms"),
        claims,
    }
}

/// Its audience, whose order means nothing.
fn audience(provider: &ProviderSpec) -> Option<BTreeSet<&str>> {
    provider.audience.as_deref().map(in_order)
}

fn compare_provider(
    running: &ProviderSpec,
    new: &ProviderSpec,
    at: &At<'_>,
    changes: &mut Changes,
) {
    // Paths hold places in the file, which are no part of the meaning.
    let same_key = |(a, b): (&KeySpec, &KeySpec)| {
        a.id == b.id && a.algorithm == b.algorithm && a.material == b.material
    };
    let same_keys =
        running.keys.len() == new.keys.len() && running.keys.iter().zip(&new.keys).all(same_key);
    let same_claims = match (&running.claims, &new.claims) {
        (Some(a), Some(b)) => are_the_same_rules(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    for (name, differs) in [
        ("issuer", running.issuer != new.issuer),
        ("audience", audience(running) != audience(new)),
        ("keys", !same_keys),
        ("jwks_file", running.jwks != new.jwks),
        ("jwks_url", running.jwks_url != new.jwks_url),
        ("discovery", running.discovery != new.discovery),
        ("algorithms", running.algorithms != new.algorithms),
        ("claims", !same_claims),
    ] {
        if differs {
            changes.hot(At::Key(at, name));
        }
    }
}

fn check_provider_name(name: &str) -> Result<(), &'static str> {
    const _: () = assert!(PROVIDER_NAME_BYTES_MAX == 64);
    if name.len() > PROVIDER_NAME_BYTES_MAX {
        return Err("is longer than 64 bytes; shorten it");
    }
    check_name(name)
}

impl Value for Vec<KeySpec> {
    fn read(section: Section<'_>, _key: &'static Key) -> Self {
        let algorithm = algorithm(section, None);
        let default = algorithm.clone().unwrap_or_default();
        let mut keys = Vec::new();
        if let Ok(algorithm) = algorithm {
            let material = match key_material(section, &algorithm) {
                // An empty secret, as from an empty variable, must not pass for no secret.
                Ok(None) if is_hmac(&algorithm) && section.is_written("secret") => {
                    Some(KeyMaterial::Secret(Secret::new(Vec::new())))
                }
                material => material.ok().flatten(),
            };
            keys.extend(material.map(|material| KeySpec {
                path: section.path(),
                id: None,
                algorithm,
                material,
            }));
        }
        if section.list("keys").len() > KEYS_MAX {
            section.error("keys", format!("holds more than {KEYS_MAX} keys; remove some"));
        } else {
            keys.extend(
                section.each("keys", |key| listed_key(key, &default)).into_iter().flatten(),
            );
        }
        keys
    }

    fn compare(&self, new: &Self, _key: &'static Key, _at: &At<'_>, changes: &mut Changes) {
        let running: HashMap<&str, &KeySpec> =
            self.iter().map(|key| (key.path.as_str(), key)).collect();
        for key in new {
            let KeySpec { path, id, algorithm, material } = key;
            let Some(before) = running.get(path.as_str()) else {
                changes.hot(key_path(key));
                continue;
            };
            for (name, differs) in [
                ("id", before.id != *id),
                ("algorithm", before.algorithm != *algorithm),
                (material_name(material), before.material != *material),
            ] {
                if differs {
                    changes.hot(format_args!("{path}.{name}"));
                }
            }
        }
        let kept: HashSet<&str> = new.iter().map(|key| key.path.as_str()).collect();
        let mut gone: Vec<_> =
            self.iter().filter(|key| !kept.contains(key.path.as_str())).collect();
        gone.sort_by_key(|key| &key.path);
        for key in gone {
            changes.hot(key_path(key));
        }
    }
}

/// A key as a whole: a listed one is its element, the single one its material.
fn key_path(key: &KeySpec) -> String {
    if key.path.ends_with(']') {
        key.path.clone()
    } else {
        format!("{}.{}", key.path, material_name(&key.material))
    }
}

fn material_name(material: &KeyMaterial) -> &'static str {
    match material {
        KeyMaterial::Secret(_) => "secret",
        KeyMaterial::PublicPem(_) => "public_key_file",
    }
}

fn listed_key(section: Section<'_>, default: &str) -> Result<KeySpec, Noted> {
    let id = section.security_text("id")?.map(|text| text.value.into_owned());
    let algorithm = algorithm(section, Some(default))?;
    match key_material(section, &algorithm)? {
        Some(material) => Ok(KeySpec { path: section.path(), id, algorithm, material }),
        None if is_hmac(&algorithm) => {
            Err(section
                .error_here(format!("has no key; write secret or secret_file for {algorithm}")))
        }
        None => {
            Err(section.error_here(format!("has no key; write public_key_file for {algorithm}")))
        }
    }
}

/// The algorithm as written, or `default` where the table has none.
fn algorithm(section: Section<'_>, default: Option<&str>) -> Result<String, Noted> {
    match default {
        Some(default) if !section.is_written("algorithm") => Ok(default.to_owned()),
        _ => section.choice("algorithm").map(|index| ALGORITHMS[index].to_owned()),
    }
}

fn is_hmac(algorithm: &str) -> bool {
    algorithm.starts_with("HS")
}

/// The key of this section, if one is written: a secret for HS*, a public key for the others.
/// Taking one for the other would let anybody who has the public key sign tokens.
fn key_material(section: Section<'_>, algorithm: &str) -> Result<Option<KeyMaterial>, Noted> {
    let secret = section.secret("secret", "secret_file", |_| Ok(()));
    let public_key = section.named_file("public_key_file");
    match (secret?, public_key?) {
        (Some(_), _) if !is_hmac(algorithm) => {
            let name = if section.is_written("secret") { "secret" } else { "secret_file" };
            Err(section.error(
                name,
                format!(
                "{algorithm} verifies with a public key; write public_key_file instead of {name}"
            ),
            ))
        }
        (_, Some(pem)) if is_hmac(algorithm) => {
            Err(section.error("public_key_file", public_key_for_hmac(section, algorithm, &pem)))
        }
        (Some(secret), _) => Ok(Some(KeyMaterial::Secret(secret))),
        (None, Some(pem)) => Ok(Some(KeyMaterial::PublicPem(pem.to_vec()))),
        (None, None) => Ok(None),
    }
}

/// Message about a public key where the algorithm is one of shared secrets, perhaps because none is
/// written.
fn public_key_for_hmac(section: Section<'_>, algorithm: &str, pem: &[u8]) -> String {
    let (holds, write) = match KeyKind::of_pem(pem) {
        Some(KeyKind { name, algorithm }) => {
            (format!("the file holds {name}, but "), format!("algorithm: {algorithm}"))
        }
        None => (String::new(), "the algorithm of the key, such as RS256 or ES256".to_owned()),
    };
    if section.is_written("algorithm") {
        return format!(
            "{holds}{algorithm} verifies with a shared secret; write {write}, or a secret instead \
             of the key"
        );
    }
    format!("{holds}algorithm is not written, and {algorithm} needs a shared secret; write {write}")
}

impl Value for Vec<TokenSource> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let sources = section.each(key.name, token_source);
        if section.is_written(key.name) && section.is_empty_list(key.name) {
            section.error(
                key.name,
                "is empty, so no token would be found; write a source, or remove the key for the \
                 default (bearer)",
            );
        }
        let sources: Self = sources.into_iter().flatten().collect();
        if sources.is_empty() { vec![TokenSource::Bearer] } else { sources }
    }
}

/// Header fields of requests that lines of the access log may have.
const LOGGED_FIELDS: [&str; 7] =
    ["host", "range", "referer", "traceparent", "user-agent", "x-forwarded-for", "x-request-id"];

fn token_source(section: Section<'_>) -> Result<TokenSource, Noted> {
    let kind = TOKEN_KINDS[section.choice("type")?];
    let prefix = section.optional_text("prefix")?.map(|text| text.value.into_owned());
    if prefix.is_some() && kind != "header" {
        return Err(section.error("prefix", format!("does not apply to type {kind}; remove it")));
    }
    if kind == "bearer" {
        return match section.optional_text("name")? {
            None => Ok(TokenSource::Bearer),
            Some(_) => Err(section.error("name", "does not apply to type bearer; remove it")),
        };
    }
    let name = section.text("name")?;
    match kind {
        "header" if !is_token(name.as_bytes()) => Err(section.error(
            "name",
            "is not a header name; write letters, digits and hyphens (RFC 9110 section 5.1)",
        )),
        "header" if LOGGED_FIELDS.iter().any(|field| name.eq_ignore_ascii_case(field)) => {
            Err(section.error(
                "name",
                "is a header that the access log may have, and a token must not be in it; choose \
                 another name, such as X-Auth-Token",
            ))
        }
        "header" if Forwarded::from_name(name.as_bytes()).is_some() => Err(section.error(
            "name",
            "is a header that S3 gets, and a token must not reach it; choose another name, such as \
             X-Auth-Token",
        )),
        "header" => {
            let prefix = prefix.unwrap_or_default();
            Ok(TokenSource::Header { name: name.to_ascii_lowercase(), prefix })
        }
        // RFC 6265 section 4.1.1: a cookie name is an HTTP token.
        "cookie" if !is_token(name.as_bytes()) => Err(section.error(
            "name",
            "is not a cookie name; write letters, digits and hyphens (RFC 6265 section 4.1.1)",
        )),
        "cookie" => Ok(TokenSource::Cookie { name }),
        // Such a request is for a version of an object or for a listing, or refused.
        "query" if query::is_known(&name) || listing::is_known(&name) => Err(section
            .error("name", "is a parameter that S3 knows; choose another name, such as token")),
        _ => Ok(TokenSource::Query { name }),
    }
}

/// Compiling the rules decides whether an operator fits its value.
impl Value for Vec<ClaimSpec> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        read_rules(section, key.name)
    }

    /// Rules are compared without their own path, which holds the bucket's place in the file.
    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        if !are_the_same_rules(self, new) {
            changes.hot(At::Key(at, key.name));
        }
    }
}

fn read_rules(section: Section<'_>, name: &'static str) -> Vec<ClaimSpec> {
    let rules = section.each(name, |rule| {
        let operator = rule.choice("operator");
        let claim = rule.text("claim");
        let value = rule.value("value");
        let (claim, operator) = (claim?, OPERATORS[operator?].to_owned());
        Ok::<_, Noted>(ClaimSpec { path: rule.path(), claim, operator, value })
    });
    rules.into_iter().flatten().collect()
}

fn are_the_same_rules(a: &[ClaimSpec], b: &[ClaimSpec]) -> bool {
    let same = |(a, b): (&ClaimSpec, &ClaimSpec)| {
        a.claim == b.claim && a.operator == b.operator && a.value == b.value
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}
