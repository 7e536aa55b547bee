//! Rules between keys of different sections.

use std::collections::{HashMap, HashSet};

use super::{
    credentials::DEFAULT_SOURCE,
    documents::Documents,
    problem::cut,
    scalar::is_short,
    settings::{
        AdminSettings, BucketSettings, ProxyProtocol, ServerSettings, Settings, SourceSettings,
    },
    walk::Walk,
};
use crate::policy::router::HostPattern;

/// Paths that the proxy answers itself, on whichever listener serves the admin endpoints.
const RESERVED_PREFIXES: [&str; 4] = ["/admin", "/health", "/ready", "/metrics"];

/// Notes what is wrong between sections. An empty name or prefix is a stand-in for one that has
/// been noted already.
pub(super) fn check(
    walk: &Walk<'_>,
    documents: &Documents<'_>,
    server: &ServerSettings,
    admin: &AdminSettings,
    buckets: &[BucketSettings],
    running: Option<&Settings>,
) {
    let error = |path: String, message: String| walk.error_in(documents, path, message);
    // What came from a variable is not repeated.
    let shown = |indexes: &[usize], key: &str, text: &str| {
        let is_written = |index: &usize| documents.is_written(&format!("buckets[{index}].{key}"));
        let is_shown = text == "/" || indexes.iter().all(is_written);
        if is_shown { format!(" '{}'", cut(text)) } else { String::new() }
    };
    let place = |index: usize| walk.place_of(documents, index);
    let name = |index: usize| match &*buckets[index].name {
        name if !name.is_empty() && documents.is_written(&format!("buckets[{index}].name")) => {
            match walk.file_and_line_of(documents, index) {
                Some(at) => format!("{} ({at})", cut(name)),
                None => cut(name).into_owned(),
            }
        }
        _ => place(index),
    };

    for indexes in repeated(buckets.iter().map(|bucket| bucket.name.as_str())) {
        let shown = shown(&indexes, "name", &buckets[indexes[0]].name);
        error(
            format!("buckets[{}].name", indexes[1]),
            format!("Duplicate bucket name{shown} found in {}", list(&indexes, place)),
        );
    }
    for indexes in repeated_places(buckets) {
        let shown = shown(&indexes, "path_prefix", &buckets[indexes[0]].path_prefix);
        error(
            format!("buckets[{}].path_prefix", indexes[1]),
            format!("Duplicate path_prefix{shown} found in buckets: {}", list(&indexes, name)),
        );
    }

    // A running process keeps its admin.listen until it is restarted, so a prefix must be free on
    // the listener that there is and on the one that the file wants.
    let kept = running.is_some_and(|running| running.admin.listen.is_none());
    if admin.listen.is_none() || kept {
        let how = if admin.listen.is_none() {
            "move the admin endpoints with admin.listen"
        } else {
            "restart with the new admin.listen before the bucket is added"
        };
        for (index, bucket) in buckets.iter().enumerate() {
            if let Some(reserved) = reserved_above(&bucket.path_prefix) {
                error(
                    format!("buckets[{index}].path_prefix"),
                    format!(
                        "{reserved} is served by the proxy itself on this listener; choose \
                         another prefix, or {how}"
                    ),
                );
            }
        }
    }
    if server.proxy_protocol == ProxyProtocol::Require && admin.listen.is_none() {
        walk.warning_in(
            documents,
            "server.proxy_protocol".to_owned(),
            "applies to health probes and scrapes on this listener too, and most of them send no \
             PROXY protocol header; set admin.listen for them"
                .to_owned(),
        );
    }
    let tls_port = server.tls.as_ref().map(|tls| tls.port).filter(|port| *port != 0);
    if tls_port == Some(server.port) {
        error(
            "server.tls.port".to_owned(),
            "is the port of the main listener; write another port".to_owned(),
        );
    }
    if let Some(listen) = admin.listen {
        let same_address = listen.ip() == server.address
            || listen.ip().is_unspecified()
            || server.address.is_unspecified();
        let other = match listen.port() {
            0 => None,
            port if port == server.port => Some("the main listener"),
            port if tls_port == Some(port) => Some("the TLS listener"),
            _ => None,
        };
        if let Some(other) = other.filter(|_| same_address) {
            error(
                "admin.listen".to_owned(),
                format!("has the port of {other}; write another port"),
            );
        }
    }
}

/// Notes names of sources that stand twice, and buckets that name a source which is not there.
pub(super) fn check_sources(
    walk: &Walk<'_>,
    documents: &Documents<'_>,
    sources: &[SourceSettings],
    buckets: &[BucketSettings],
) {
    for indexes in repeated(sources.iter().map(|source| source.name.as_str())) {
        let is_written =
            indexes.iter().all(|index| documents.is_written(&format!("credentials[{index}].name")));
        let name = &sources[indexes[0]].name;
        let shown = if is_written { format!(" '{}'", cut(name)) } else { String::new() };
        let places = list(&indexes, |index| format!("credentials[{index}]"));
        walk.error_in(
            documents,
            format!("credentials[{}].name", indexes[1]),
            format!("Duplicate name{shown} found in {places}"),
        );
    }
    let known: HashSet<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    for (index, bucket) in buckets.iter().enumerate() {
        let Some(name) = bucket.s3.signing.source() else { continue };
        if name == DEFAULT_SOURCE || known.contains(name) {
            continue;
        }
        let path = format!("buckets[{index}].s3.credentials");
        let message = match (documents.is_written(&path), is_short(name)) {
            (true, true) => {
                format!("credentials has no source called '{name}'; add one, or write default")
            }
            (true, false) => "credentials has no source of this name, which is not shown because \
                              it may be a key; write the name of a source, or default, and keys at \
                              access_key and secret_key"
                .to_owned(),
            (false, _) => {
                "credentials has no source of this name; add one, or write default".to_owned()
            }
        };
        walk.error_in(documents, path, message);
    }
}

/// Notes a file without a `jwt` section where the running configuration asks for tokens. Without
/// any `auth` it is one of public buckets, but as a successor it is more likely a mistake, such as
/// a half-written or a wrong file: what opens a bucket is written down.
pub(super) fn check_protection(walk: &Walk<'_>, jwt_written: bool, running: Option<&Settings>) {
    let protects = running.is_some_and(|running| {
        running.auth.as_ref().is_some_and(|auth| auth.enforced)
            && running.buckets.iter().any(|bucket| bucket.auth.enabled)
    });
    if protects && !jwt_written {
        walk.error_in_file(
            "jwt",
            "is missing, but buckets of the running configuration ask for tokens; to let \
             everybody in, keep it and write jwt.enabled: false",
        );
    }
}

/// The first places of a list, and how many more there are.
fn list(indexes: &[usize], label: impl Fn(usize) -> String) -> String {
    const SHOWN_MAX: usize = 10;

    let mut places: Vec<_> = indexes.iter().take(SHOWN_MAX).map(|index| label(*index)).collect();
    if indexes.len() > SHOWN_MAX {
        places.push(format!("and {} more", indexes.len() - SHOWN_MAX));
    }
    places.join(", ")
}

fn reserved_above(prefix: &str) -> Option<&'static str> {
    RESERVED_PREFIXES.into_iter().find(|reserved| {
        prefix.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Groups of indexes of buckets with the same prefix that share a host, or have none.
fn repeated_places(buckets: &[BucketSettings]) -> Vec<Vec<usize>> {
    let mut places: HashMap<(Option<&HostPattern>, &str), Vec<usize>> = HashMap::new();
    for (index, bucket) in buckets.iter().enumerate() {
        let prefix = &*bucket.path_prefix;
        if prefix.is_empty() {
            continue;
        }
        if bucket.hosts.0.is_empty() {
            places.entry((None, prefix)).or_default().push(index);
        }
        for host in &bucket.hosts.0 {
            places.entry((Some(host), prefix)).or_default().push(index);
        }
    }
    let mut groups: Vec<_> = places.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    // Buckets that share several hosts are one mistake.
    groups.dedup();
    groups
}

/// Groups of indexes that hold the same text, at least two in each, in order of appearance.
fn repeated<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, text) in texts.enumerate().filter(|(_, text)| !text.is_empty()) {
        places.entry(text).or_default().push(index);
    }
    let mut groups: Vec<_> = places.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_are_reserved() {
        for prefix in ["/admin", "/admin/x", "/metrics", "/ready", "/health/a/b"] {
            assert!(reserved_above(prefix).is_some(), "{prefix}");
        }
        for prefix in ["/", "/administration", "/a/admin", "/healthy", "/Admin"] {
            assert_eq!(reserved_above(prefix), None, "{prefix}");
        }
    }

    #[test]
    fn groups_come_in_order_of_appearance() {
        let texts = ["a", "b", "", "b", "a", "", "b", "c"];
        assert_eq!(repeated(texts.into_iter()), [vec![0, 4], vec![1, 3, 6]]);
    }
}
