//! Every key that a configuration may hold: the one table from which the walk takes types,
//! bounds and defaults, the unknown-key message its suggestion, and `docs/CONFIG.md` its table.

use std::{collections::HashMap, sync::OnceLock};

use super::yaml::shown_key;
use crate::policy::auth::LEEWAY_SECONDS_MAX;

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Path pattern; `[]` stands for any element of a list.
    pub path: &'static str,
    /// What may be written.
    pub kind: Kind,
    /// What holds when it is not written.
    pub default: Preset,
    /// Unit of the number; empty when it has none.
    pub unit: &'static str,
    /// When a change takes effect.
    pub applies: Applies,
    /// What it is for, in one line.
    pub about: &'static str,
}

/// What may be written for a key.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A mapping whose keys have entries of their own.
    Section,
    /// A list whose elements have entries of their own, or are text.
    List,
    /// Text.
    Text,
    /// Text that is never shown.
    Secret,
    /// Path of a file that is read at each load.
    File,
    /// `true` or `false`.
    Boolean,
    /// A whole number within these bounds, both included.
    Integer(u64, u64),
    /// Seconds above 0 up to a bound, fractions allowed.
    Seconds(u32),
    /// Seconds from 0 up to a bound, fractions allowed.
    SecondsOrZero(u32),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any YAML value; the rule that it belongs to decides.
    Value,
}

/// What holds for a key that is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// It must be written.
    Required,
    /// This text, read as if it had been written.
    Is(&'static str),
    /// Nothing, or what these words say.
    Otherwise(&'static str),
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// With the reload that brings it.
    Hot,
    /// When the process is started anew.
    Restart,
}

use Applies::{Hot, Restart};
use Kind::{
    Boolean, Choice, File, Integer, List, Seconds, SecondsOrZero, Secret, Section, Text, Value,
};
use Preset::{Is, Otherwise, Required};

/// Longest time-out, in seconds: a day. A longer one is a mistake of unit.
const DAY_SECONDS: u32 = 86_400;

/// Longest wait for something that somebody stands by for, in seconds: an hour.
const HOUR_SECONDS: u32 = 3_600;

/// Longest `jwt.leeway`, in seconds, as the policy wants it.
const LEEWAY_SECONDS: u32 = 300;
const _: () = assert!(LEEWAY_SECONDS as u64 == LEEWAY_SECONDS_MAX);

/// Names of the signature algorithms (RFC 7518 section 3.1, RFC 8037 section 3.1).
pub(super) const ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// Operators of claim rules.
pub(super) const OPERATORS: &[&str] =
    &["equals", "not_equals", "in", "contains", "gt", "gte", "lt", "lte", "exists", "path_prefix"];

const fn key(
    path: &'static str,
    kind: Kind,
    default: Preset,
    unit: &'static str,
    applies: Applies,
    about: &'static str,
) -> Key {
    Key { path, kind, default, unit, applies, about }
}

const NOTHING: Preset = Otherwise("");

/// All keys, each section before what it holds.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("server", Section, NOTHING, "", Hot, "The listener and what it accepts"),
    key("server.address", Text, Is("0.0.0.0"), "", Restart, "IPv4 or IPv6 address to listen on"),
    key("server.port", Integer(0, 65_535), Is("8080"), "", Restart, "TCP port; 0 takes any free one and prints it at start"),
    key("server.threads", Integer(1, 1_024), Otherwise("every core of the affinity mask and cgroup quota"), "threads", Restart, "Worker threads, each pinned to a core"),
    key("server.max_connections", Integer(1, 10_000_000), Is("65536"), "connections", Restart, "Client connections across all cores; over it 503. Cores accept at the same time, so a few more may get in"),
    key("server.io", Choice(&["auto", "io_uring", "epoll"]), Is("auto"), "", Restart, "Kernel interface; `auto` falls back to epoll with a warning"),
    key("server.limits", Section, NOTHING, "", Hot, "Limits on requests"),
    key("server.limits.header_bytes", Integer(1_024, 1_048_576), Is("32768"), "bytes", Hot, "Request line and header fields together; over it 431"),
    key("server.limits.uri_bytes", Integer(64, 1_048_576), Is("8192"), "bytes", Hot, "Request target; over it 414. At most `header_bytes`"),
    key("server.limits.headers", Integer(1, 256), Is("100"), "fields", Hot, "Header fields; over it 431"),
    key("server.limits.body_bytes", Integer(0, 1_073_741_824), Is("1048576"), "bytes", Hot, "Request body, which is only drained; over it 413 and the connection closes"),
    key("server.timeouts", Section, NOTHING, "", Hot, "Client-side time-outs"),
    key("server.timeouts.client_header", Seconds(DAY_SECONDS), Is("10"), "seconds", Hot, "From the first byte (or accept) to the end of the request head; then 408"),
    key("server.timeouts.client_idle", Seconds(DAY_SECONDS), Is("60"), "seconds", Hot, "Keep-alive between two requests"),
    key("server.timeouts.client_write", Seconds(DAY_SECONDS), Is("30"), "seconds", Hot, "Without progress while a response is sent"),
    key("server.timeouts.drain_delay", SecondsOrZero(HOUR_SECONDS), Is("0"), "seconds", Hot, "After SIGTERM: accept this long after `/ready` has turned 503"),
    key("server.timeouts.drain_idle", SecondsOrZero(HOUR_SECONDS), Is("1"), "seconds", Hot, "Then: how long an idle connection may still send a request, which is answered with `Connection: close`"),
    key("server.timeouts.drain", Seconds(DAY_SECONDS), Is("30"), "seconds", Hot, "From then on: how long work in flight may take"),
    key("server.expose_generation", Boolean, Is("false"), "", Hot, "Adds `X-Config-Generation` to every answer"),

    key("buckets", List, Required, "", Hot, "The buckets that are served; at least one"),
    key("buckets[].name", Text, Required, "", Hot, "Unique name for metrics, logs and reload reports"),
    key("buckets[].path_prefix", Text, Required, "", Hot, "Unique; starts with `/`, does not end with one (but `/` itself), matches whole segments"),
    key("buckets[].s3", Section, Required, "", Hot, "Where the objects are and how to get at them"),
    key("buckets[].s3.bucket", Text, Required, "", Hot, "Name of the S3 bucket"),
    key("buckets[].s3.region", Text, Required, "", Hot, "Region that requests are signed for"),
    key("buckets[].s3.endpoint", Text, Otherwise("AWS for the region"), "", Hot, "http or https URL of an S3 server"),
    key("buckets[].s3.addressing", Choice(&["auto", "path", "virtual"]), Is("auto"), "", Hot, "Where the bucket name goes; `auto` is path with an endpoint, virtual for AWS (path if the name has a dot)"),
    key("buckets[].s3.access_key", Text, NOTHING, "", Hot, "Access key id"),
    key("buckets[].s3.access_key_file", File, NOTHING, "", Hot, "The same from a file"),
    key("buckets[].s3.secret_key", Secret, NOTHING, "", Hot, "Secret access key"),
    key("buckets[].s3.secret_key_file", File, NOTHING, "", Hot, "The same from a file"),
    key("buckets[].s3.session_token", Secret, NOTHING, "", Hot, "Session token of temporary credentials"),
    key("buckets[].s3.session_token_file", File, NOTHING, "", Hot, "The same from a file"),
    key("buckets[].s3.anonymous", Boolean, Is("false"), "", Hot, "Sends unsigned requests to a public bucket; goes without keys"),
    key("buckets[].s3.key_prefix", Text, Is(""), "", Hot, "Put before every object key"),
    key("buckets[].s3.ca_file", File, NOTHING, "", Hot, "PEM certificates trusted besides the system's, for an https endpoint"),
    key("buckets[].s3.timeouts", Section, NOTHING, "", Hot, "Time-outs towards S3"),
    key("buckets[].s3.timeouts.connect", Seconds(HOUR_SECONDS), Is("5"), "seconds", Hot, "TCP connect and TLS handshake together"),
    key("buckets[].s3.timeouts.first_byte", Seconds(HOUR_SECONDS), Is("30"), "seconds", Hot, "From the request to the first byte of the final response"),
    key("buckets[].s3.timeouts.read", Seconds(HOUR_SECONDS), Is("30"), "seconds", Hot, "For the rest of the response's head, and then without a byte while the body arrives"),
    key("buckets[].s3.max_idle_connections", Integer(0, 65_536), Is("64"), "connections", Hot, "Idle connections kept to the endpoint, per core; more than these only for a second after a burst"),
    key("buckets[].s3.max_connection_age", Seconds(DAY_SECONDS), Is("300"), "seconds", Hot, "Age of a connection to S3 beyond which it serves no further request; up to a tenth less, so that they are not replaced all at once"),
    key("buckets[].s3.verify", Choice(&["none", "warn", "require"]), Is("none"), "", Hot, "One signed request before a reload adopts a changed bucket; `require` refuses the reload when S3 refuses the credentials"),
    key("buckets[].auth", Section, Otherwise("not protected; required with a jwt section"), "", Hot, "Who may read the bucket"),
    key("buckets[].auth.enabled", Boolean, Otherwise("false; required with a jwt section"), "", Hot, "Whether a token is asked for"),
    key("buckets[].auth.claims", List, NOTHING, "", Hot, "Further rules for this bucket, like `jwt.claims`"),
    key("buckets[].auth.claims[].claim", Text, Required, "", Hot, "See `jwt.claims[].claim`"),
    key("buckets[].auth.claims[].operator", Choice(OPERATORS), Required, "", Hot, "See `jwt.claims[].operator`"),
    key("buckets[].auth.claims[].value", Value, NOTHING, "", Hot, "See `jwt.claims[].value`"),

    key("jwt", Section, Otherwise("no tokens; the admin API is closed"), "", Hot, "Token verification"),
    key("jwt.enabled", Boolean, Is("true"), "", Hot, "The operator's switch: `false` opens every bucket and closes the admin API"),
    key("jwt.algorithm", Choice(ALGORITHMS), Is("HS256"), "", Hot, "Of the key below, and of `jwt.keys` that name none"),
    key("jwt.secret", Secret, NOTHING, "", Hot, "HMAC secret for HS*: at least 32 characters"),
    key("jwt.secret_file", File, NOTHING, "", Hot, "The same from a file"),
    key("jwt.public_key_file", File, NOTHING, "", Hot, "PEM public key for RS*, PS*, ES* and EdDSA"),
    key("jwt.keys", List, NOTHING, "", Hot, "More keys, for rotation, beside or instead of the above"),
    key("jwt.keys[].id", Text, NOTHING, "", Hot, "Key id: a token with this `kid` is checked with this key"),
    key("jwt.keys[].algorithm", Choice(ALGORITHMS), Otherwise("`jwt.algorithm`"), "", Hot, "Of this key"),
    key("jwt.keys[].secret", Secret, NOTHING, "", Hot, "See `jwt.secret`"),
    key("jwt.keys[].secret_file", File, NOTHING, "", Hot, "See `jwt.secret_file`"),
    key("jwt.keys[].public_key_file", File, NOTHING, "", Hot, "See `jwt.public_key_file`"),
    key("jwt.jwks_file", File, NOTHING, "", Hot, "Keys from a JWK set (RFC 7517)"),
    key("jwt.issuer", Text, NOTHING, "", Hot, "Required `iss`"),
    key("jwt.audience", List, NOTHING, "", Hot, "Accepted `aud` values, as text; empty accepts any"),
    key("jwt.leeway", SecondsOrZero(LEEWAY_SECONDS), Is("60"), "seconds", Hot, "Tolerance for `exp` and `nbf`"),
    key("jwt.require_exp", Boolean, Is("true"), "", Hot, "Refuses tokens without `exp`"),
    key("jwt.token_sources", List, Otherwise("bearer"), "", Hot, "Where tokens are looked for; the first that is present decides"),
    key("jwt.token_sources[].type", Choice(&["bearer", "header", "query", "cookie"]), Required, "", Hot, "Kind of place"),
    key("jwt.token_sources[].name", Text, NOTHING, "", Hot, "Name of the header, query parameter or cookie; not for bearer"),
    key("jwt.token_sources[].prefix", Text, Is(""), "", Hot, "For a header: what stands before the token"),
    key("jwt.claims", List, NOTHING, "", Hot, "Rules that must all hold, for every protected bucket"),
    key("jwt.claims[].claim", Text, Required, "", Hot, "Name of the claim; dots descend into objects"),
    key("jwt.claims[].operator", Choice(OPERATORS), Required, "", Hot, "How to compare"),
    key("jwt.claims[].value", Value, NOTHING, "", Hot, "What to compare with: text, number, boolean or list, as the operator wants"),
    key("jwt.admin_claims", List, Otherwise("`role` equals `admin`"), "", Hot, "Rules for `/admin/*`, like `jwt.claims`"),
    key("jwt.admin_claims[].claim", Text, Required, "", Hot, "See `jwt.claims[].claim`"),
    key("jwt.admin_claims[].operator", Choice(OPERATORS), Required, "", Hot, "See `jwt.claims[].operator`"),
    key("jwt.admin_claims[].value", Value, NOTHING, "", Hot, "See `jwt.claims[].value`"),

    key("admin", Section, NOTHING, "", Hot, "The admin endpoints"),
    key("admin.listen", Text, Otherwise("the main listener"), "", Restart, "IP address and port of a listener of their own for `/admin`, `/metrics`, `/health` and `/ready`"),
    key("admin.reload_timeout", Seconds(HOUR_SECONDS), Is("10"), "seconds", Hot, "How long all cores may take to acknowledge a reload"),
    key("metrics", Section, NOTHING, "", Hot, "The metrics page"),
    key("metrics.enabled", Boolean, Is("true"), "", Hot, "Answers `/metrics`"),
    key("metrics.per_bucket", Choice(&["auto", "true", "false"]), Is("auto"), "", Hot, "Series for each bucket; `auto` up to 1,000 buckets"),
    key("logging", Section, NOTHING, "", Hot, "Logs"),
    key("logging.level", Choice(&["error", "warn", "info", "debug", "trace"]), Is("info"), "", Hot, "Least important level written to stderr"),
    key("logging.access_log", Section, NOTHING, "", Hot, "One line for each request"),
    key("logging.access_log.enabled", Boolean, Is("true"), "", Hot, "Writes it"),
    key("logging.access_log.path", Text, Is("-"), "", Hot, "File to append to, relative to the working directory; `-` is stdout"),
    key("logging.access_log.format", Choice(&["json"]), Is("json"), "", Hot, "Form of a line"),
    key("reload", Section, NOTHING, "", Hot, "What triggers a reload besides SIGHUP and the admin API"),
    key("reload.watch", Boolean, Is("false"), "", Hot, "Reloads when the file changes"),
];

impl Key {
    /// The last part of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// Pattern of the section that holds it; empty for the top level.
    pub fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }
}

/// The keys directly inside a section, by its pattern (`buckets[].s3`; empty for the top level),
/// each with its name.
pub(super) fn inside(section: &str) -> &'static [(&'static str, &'static Key)] {
    type Named = (&'static str, &'static Key);
    static BY_SECTION: OnceLock<HashMap<&'static str, Vec<Named>>> = OnceLock::new();
    let by_section = BY_SECTION.get_or_init(|| {
        let mut by_section: HashMap<_, Vec<_>> = HashMap::new();
        for key in KEYS {
            by_section.entry(key.section()).or_default().push((key.name(), key));
        }
        by_section
    });
    by_section.get(section).map_or(&[], Vec::as_slice)
}

/// The message for a key that `section` does not know.
pub(super) fn unknown(section: &str, name: &str) -> String {
    if name == "<<" {
        return "merge keys (<<) are not supported; an alias may repeat a whole value".to_owned();
    }
    let name = match shown_key(name) {
        Some(key) if key.len() < name.len() && KEYS.iter().any(|known| known.name() == key) => {
            return format!("write a colon and a blank after the key, as in `{key}: value`");
        }
        Some(key) => key,
        None => return "unknown key, not shown because it may be a value".to_owned(),
    };
    if let Some(key) = KEYS.iter().find(|key| key.name() == name) {
        return format!("unknown key here; it is known as {}", key.path);
    }
    let name = name.to_lowercase();
    let distance = |(known, _): &&(&str, &Key)| strsim::damerau_levenshtein(&name, known);
    match inside(section).iter().min_by_key(distance) {
        Some((known, _)) => format!("unknown key; the nearest known one is {known}"),
        None => "unknown key".to_owned(),
    }
}

/// Whether a word is a known key, or one that was mistyped.
pub(super) fn is_near_a_key(word: &str) -> bool {
    let word = word.to_lowercase();
    KEYS.iter().any(|key| strsim::damerau_levenshtein(&word, key.name()) <= word.len() / 4)
}

impl std::fmt::Display for Kind {
    /// As the table in `docs/CONFIG.md` shows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Section => f.write_str("mapping"),
            List => f.write_str("list"),
            Text => f.write_str("text"),
            Secret => f.write_str("secret text"),
            File => f.write_str("file path"),
            Boolean => f.write_str("boolean"),
            Integer(min, max) => write!(f, "whole number, {min} to {max}"),
            Seconds(max) => write!(f, "number above 0, up to {max}"),
            SecondsOrZero(max) => write!(f, "number, 0 to {max}"),
            Choice(names) => write!(f, "one of `{}`", names.join("`, `")),
            Value => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_stands_once_and_below_its_section() {
        let mut seen = HashSet::new();
        for key in KEYS {
            assert!(seen.insert(key.path), "{} stands twice", key.path);
            let section = key.section().trim_end_matches("[]");
            assert!(section.is_empty() || seen.contains(section), "{} has no section", key.path);
        }
    }

    #[test]
    fn an_unknown_key_is_told_its_neighbour() {
        assert!(unknown("server", "prot").ends_with("nearest known one is port"));
        assert!(unknown("", "bucket_list").ends_with("nearest known one is buckets"));
        assert!(unknown("", "header_bytes").ends_with("known as server.limits.header_bytes"));
        assert!(unknown("server", "<<").starts_with("merge keys"));
    }

    #[test]
    fn a_huge_key_is_compared_by_its_beginning() {
        assert!(unknown("server", &"p".repeat(1_000_000)).starts_with("unknown key"));
    }
}
