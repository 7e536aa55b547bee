//! The `jwt` section, and claim rules wherever they stand.

use super::{
    keys::{ALGORITHMS, OPERATORS},
    section::Section,
    walk::Noted,
};
use crate::{
    model::Secret,
    policy::auth::{
        JWKS_BYTES_MAX, KEYS_MAX, PEM_BYTES_MAX,
        spec::{AuthSpec, ClaimSpec, KeyMaterial, KeySpec, TokenSource},
    },
    protocol::text::token::is_token,
};

pub(super) fn jwt(section: Section<'_>) -> AuthSpec {
    let enabled = section.boolean("enabled");
    if !enabled {
        section.warning(
            "enabled",
            "JWT authentication is switched off: no bucket asks for a token, and the admin API \
             is closed",
        );
    }
    let jwks = section.named_file_of_at_most("jwks_file", JWKS_BYTES_MAX);
    AuthSpec {
        enforced: enabled,
        // A key set that cannot be read has been noted, and says it all.
        keys: verification_keys(section, enabled && matches!(jwks, Ok(None))),
        jwks: jwks.ok().flatten().map(|file| file.to_vec()),
        issuer: section.security_text("issuer").ok().flatten().map(|text| text.value.into_owned()),
        audience: section.texts("audience"),
        leeway: section.seconds("leeway"),
        require_exp: section.boolean("require_exp"),
        sources: token_sources(section),
        claims: claims(section, "claims", "jwt.claims[]"),
        admin_claims: admin_claims(section),
    }
}

fn verification_keys(section: Section<'_>, needs_one: bool) -> Vec<KeySpec> {
    let algorithm = algorithm(section, None);
    let default = algorithm.clone().unwrap_or_default();
    let own = match &algorithm {
        // An empty secret, as from an empty variable, must not pass for no secret.
        Ok(algorithm) if is_hmac(algorithm) && section.is_written("secret") => {
            key_material(section, algorithm).map(|key| Some(key.unwrap_or_else(empty_secret)))
        }
        Ok(algorithm) => key_material(section, algorithm),
        Err(noted) => Err(*noted),
    };
    let is_noted = own.is_err();
    let mut keys = Vec::new();
    if let (Ok(Some(material)), Ok(algorithm)) = (own, algorithm) {
        keys.push(KeySpec { path: section.path(), id: None, algorithm, material });
    }
    let listed = if section.list("keys").len() > KEYS_MAX {
        vec![Err(section.error("keys", format!("holds more than {KEYS_MAX} keys; remove some")))]
    } else {
        section.each("keys", "jwt.keys[]", |_, key| listed_key(key, &default))
    };
    let is_noted = is_noted || listed.iter().any(Result::is_err);
    keys.extend(listed.into_iter().flatten());
    if needs_one && keys.is_empty() && !is_noted {
        section.error_here(
            "no key to verify tokens with: write secret, secret_file, public_key_file, keys or \
             jwks_file",
        );
    }
    keys
}

fn listed_key(section: Section<'_>, default: &str) -> Result<KeySpec, Noted> {
    let id = section.security_text("id")?.map(|text| text.value.into_owned());
    let algorithm = algorithm(section, Some(default))?;
    match key_material(section, &algorithm)? {
        Some(material) => Ok(KeySpec { path: section.path(), id, algorithm, material }),
        None if is_hmac(&algorithm) => {
            Err(section.error_here(format!("{algorithm} needs secret or secret_file")))
        }
        None => Err(section.error_here(format!("{algorithm} needs public_key_file"))),
    }
}

/// The algorithm as written, or `default` where the table has none.
fn algorithm(section: Section<'_>, default: Option<&str>) -> Result<String, Noted> {
    let known = |name: &str| ALGORITHMS.iter().find(|known| **known == name).copied();
    match default {
        Some(default) if !section.is_written("algorithm") => Ok(default.to_owned()),
        _ => section.choice("algorithm", known).map(str::to_owned),
    }
}

fn is_hmac(algorithm: &str) -> bool {
    algorithm.starts_with("HS")
}

fn empty_secret() -> KeyMaterial {
    KeyMaterial::Secret(Secret::new(Vec::new()))
}

/// The key of this section, if one is written: a secret for HS*, a public key for the others.
/// Taking one for the other would let anybody who has the public key sign tokens.
fn key_material(section: Section<'_>, algorithm: &str) -> Result<Option<KeyMaterial>, Noted> {
    let secret = section.secret("secret", "secret_file", |_| Ok(()));
    let public_key = section.named_file_of_at_most("public_key_file", PEM_BYTES_MAX);
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
        (_, Some(_)) if is_hmac(algorithm) => Err(section.error(
            "public_key_file",
            format!("{algorithm} verifies with a shared secret; write secret or secret_file"),
        )),
        (Some(secret), _) => Ok(Some(KeyMaterial::Secret(secret))),
        (None, Some(pem)) => Ok(Some(KeyMaterial::PublicPem(pem.to_vec()))),
        (None, None) => Ok(None),
    }
}

fn token_sources(section: Section<'_>) -> Vec<TokenSource> {
    let sources =
        section.each("token_sources", "jwt.token_sources[]", |_, source| token_source(source));
    if section.is_written("token_sources") && section.is_empty_list("token_sources") {
        section.error(
            "token_sources",
            "is empty, so no token would ever be found; write one, or leave it out for bearer",
        );
    }
    let sources: Vec<_> = sources.into_iter().flatten().collect();
    if sources.is_empty() { vec![TokenSource::Bearer] } else { sources }
}

fn token_source(section: Section<'_>) -> Result<TokenSource, Noted> {
    let kind = section.choice("type", |name| {
        ["bearer", "header", "query", "cookie"].into_iter().find(|kind| *kind == name)
    })?;
    let prefix = section.optional_text("prefix")?.map(|text| text.value.into_owned());
    if prefix.is_some() && kind != "header" {
        return Err(section.error("prefix", format!("has no meaning for {kind}")));
    }
    if kind == "bearer" {
        return match section.optional_text("name")? {
            None => Ok(TokenSource::Bearer),
            Some(_) => Err(section.error("name", "has no meaning for bearer")),
        };
    }
    let name = section.text("name")?;
    match kind {
        "header" if !is_field_name(&name) => {
            Err(section.error("name", "is not a header name (RFC 9110 section 5.1)"))
        }
        "header" => {
            let prefix = prefix.unwrap_or_default();
            Ok(TokenSource::Header { name: name.to_ascii_lowercase(), prefix })
        }
        // RFC 6265 section 4.1.1: a cookie name is an HTTP token.
        "cookie" if !is_field_name(&name) => Err(section.error("name", "is not a cookie name")),
        "cookie" => Ok(TokenSource::Cookie { name }),
        _ => Ok(TokenSource::Query { name }),
    }
}

/// RFC 9110 section 5.6.2: `token`.
fn is_field_name(name: &str) -> bool {
    is_token(name.as_bytes())
}

/// The rules in the list `name`. Whether an operator fits its value is decided where rules are
/// compiled.
pub(super) fn claims(
    section: Section<'_>,
    name: &'static str,
    pattern: &'static str,
) -> Vec<ClaimSpec> {
    let rules = section.each(name, pattern, |_, rule| {
        let operator = rule.choice("operator", |name| {
            OPERATORS.iter().find(|known| **known == name).map(|known| (*known).to_owned())
        });
        let claim = rule.text("claim");
        let value = rule.value("value");
        Ok::<_, Noted>(ClaimSpec { path: rule.path(), claim: claim?, operator: operator?, value })
    });
    rules.into_iter().flatten().collect()
}

fn admin_claims(section: Section<'_>) -> Vec<ClaimSpec> {
    if section.is_written("admin_claims") {
        if section.is_empty_list("admin_claims") {
            section.error(
                "admin_claims",
                "is empty, which would make every token an administrator's; leave it out for \
                 role equals admin",
            );
        }
        return claims(section, "admin_claims", "jwt.admin_claims[]");
    }
    AuthSpec::default().admin_claims
}
