//! Names that other programs use for keys of ours: nginx, `HAProxy`, Envoy, the AWS SDKs and tools,
//! libraries for tokens. Whoever writes one is told the key of this file.
//!
//! Deliberately absent: names of things that the proxy does not do.

/// One row: where the names are looked for, the names, and what to write instead.
pub(super) struct Foreign {
    /// End of the section's pattern; empty for the top level, `*` for every section.
    pub(super) section: &'static str,
    /// Names, in lower case and without `_` and `-`.
    names: &'static [&'static str],
    /// Key paths as patterns, in words. What begins with a dot lies in the section itself.
    pub(super) write: &'static str,
}

const fn row(
    section: &'static str,
    names: &'static [&'static str],
    write: &'static str,
) -> Foreign {
    Foreign { section, names, write }
}

/// A name as the table has it.
pub(super) fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// Finds what to write instead of a name of another program, in a section of this pattern.
pub(super) fn known_as(section: &str, name: &str) -> Option<&'static str> {
    let name = folded(name);
    let applies = |row: &&Foreign| match row.section {
        "*" => true,
        "" => section.is_empty(),
        end => {
            section.strip_suffix(end).is_some_and(|above| above.is_empty() || above.ends_with('.'))
        }
    };
    let row = FOREIGN.iter().filter(applies).find(|row| row.names.contains(&&*name))?;
    Some(row.write)
}

/// The rows, those of one section before those of every section.
pub(super) static FOREIGN: &[Foreign] = &[
    row(
        "",
        &[
            "backend",
            "backends",
            "upstream",
            "upstreams",
            "route",
            "routes",
            "location",
            "locations",
            "cluster",
            "clusters",
            "origin",
            "origins",
            "virtualhosts",
        ],
        "buckets",
    ),
    row(
        "",
        &["listen", "listener", "listeners", "frontend", "bind"],
        "server.address and server.port",
    ),
    row("", &["host"], "server.address"),
    row("", &["port"], "server.port"),
    row("", &["log", "logs"], "logging"),
    row("", &["auth", "authentication"], "jwt and buckets[].auth"),
    row("server", &["listen", "bind", "bindaddress"], "server.address and server.port"),
    row("server", &["host", "hostname", "ip"], "server.address"),
    row("server", &["httpport"], "server.port"),
    row("server", &["readtimeout", "requesttimeout"], "server.timeouts.client_header"),
    row("server.timeouts", &["read", "request", "header"], ".client_header"),
    row("server.timeouts", &["write", "send"], ".client_write"),
    row("server.timeouts", &["idle", "keepalive"], ".client_idle"),
    row("server", &["tlsport", "httpsport", "sslport"], "server.tls.port"),
    row("server.tls", &["cert", "certificate", "crt"], "server.tls.certificates[].cert_file"),
    row("server.tls", &["key", "privatekey"], "server.tls.certificates[].key_file"),
    row("certificates[]", &["cert", "certificate", "crt", "chain", "fullchain"], ".cert_file"),
    row("certificates[]", &["key", "privatekey"], ".key_file"),
    row("admin", &["port", "address", "bind", "host"], "admin.listen"),
    row("admin", &["token", "apikey", "password", "user"], "jwt.admin_claims"),
    row("metrics", &["port", "address", "listen", "bind"], "admin.listen"),
    row("access_log", &["file", "target", "output"], "logging.access_log.path"),
    row("reload", &["auto", "enabled"], "reload.watch"),
    row(
        "buckets[]",
        &["path", "prefix", "location", "route", "match", "urlprefix", "mount"],
        ".path_prefix",
    ),
    row(
        "buckets[]",
        &["hostname", "hostnames", "servername", "servernames", "domain", "domains"],
        ".hosts",
    ),
    row("buckets[]", &["gzip", "compression"], ".compress"),
    row("buckets[]", &["public", "protected", "authrequired"], ".auth.enabled"),
    row("buckets[]", &["bucketname"], ".s3.bucket"),
    row("buckets[]", &["indexdocument", "defaultrootobject", "indexfile"], ".index"),
    row("buckets[]", &["errordocument", "errorpage", "customerrorresponses"], ".error_pages"),
    row("buckets[]", &["tryfiles", "fallback"], ".spa"),
    row("buckets[]", &["autoindex", "directorylisting"], ".listing.enabled"),
    row("cors", &["allowedorigins", "alloworigin", "alloworigins"], ".origins"),
    row("cors", &["allowedmethods", "allowmethods"], ".methods"),
    row("cors", &["allowedheaders", "allowheaders"], ".headers"),
    row("cors", &["exposeheaders", "exposedheaders"], ".expose"),
    row("cors", &["maxageseconds"], ".max_age"),
    row("cors", &["allowcredentials"], ".credentials"),
    row("s3", &["name", "bucketname"], ".bucket"),
    row("s3", &["prefix", "root", "basepath"], ".key_prefix"),
    row("s3", &["url", "endpointurl", "host"], ".endpoint"),
    row("s3", &["key", "accesskeyid", "keyid"], ".access_key"),
    row("s3", &["secret", "secretkeyid"], ".secret_key"),
    row("s3", &["token"], ".session_token"),
    row("s3", &["public", "unsigned", "nosignrequest"], ".anonymous"),
    row("s3", &["pathstyle", "forcepathstyle", "usepathstyle", "s3forcepathstyle"], ".addressing"),
    row("s3", &["ca", "cacert", "cabundle", "cacertificate"], ".ca_file"),
    row(
        "s3",
        &["tlsverify", "verifyssl", "verifytls", "insecure", "insecureskipverify", "skipverify"],
        ".ca_file for a CA of your own, because certificates are always checked",
    ),
    row("jwt", &["alg"], "jwt.algorithm"),
    row("jwt", &["iss"], "jwt.issuer"),
    row("jwt", &["aud"], "jwt.audience"),
    row("jwt", &["jwksuri"], "jwt.jwks_url"),
    row("jwt", &["publickey", "pubkey", "publickeypath", "certificate"], "jwt.public_key_file"),
    row("jwt", &["key", "signingkey"], "jwt.secret or jwt.public_key_file"),
    row("jwt", &["hmacsecret", "sharedsecret"], "jwt.secret"),
    row("jwt", &["skew", "clockskew", "clocktolerance"], "jwt.leeway"),
    row("jwt", &["header", "cookie", "query"], "jwt.token_sources"),
    row("jwt", &["requiredclaims", "rules"], "jwt.claims"),
    row("keys[]", &["kid"], ".id"),
    row("keys[]", &["alg"], ".algorithm"),
    row("keys[]", &["publickey", "pubkey"], ".public_key_file"),
    row("keys[]", &["key"], ".secret or .public_key_file"),
    row("claims[]", &["name", "key"], ".claim"),
    row("claims[]", &["op"], ".operator"),
    row("token_sources[]", &["kind", "source"], ".type"),
    row(
        "*",
        &["workers", "workerprocesses", "workerthreads", "nbthread", "concurrency"],
        "server.threads",
    ),
    row("*", &["workerconnections", "maxconn"], "server.max_connections"),
    row("*", &["keepalivetimeout", "idletimeout"], "server.timeouts.client_idle"),
    row("*", &["clientheadertimeout", "requestheaderstimeout"], "server.timeouts.client_header"),
    row("*", &["sendtimeout", "writetimeout"], "server.timeouts.client_write"),
    row("*", &["proxyconnecttimeout", "connecttimeout"], "buckets[].s3.timeouts.connect"),
    row("*", &["proxyreadtimeout", "readtimeout"], "buckets[].s3.timeouts.read"),
    row("*", &["clientmaxbodysize", "maxbodysize"], "server.limits.body_bytes"),
    row("*", &["largeclientheaderbuffers", "maxrequestheaderskb"], "server.limits.header_bytes"),
    row("*", &["ssl", "https"], "server.tls"),
    row("*", &["sslcertificate"], "server.tls.certificates[].cert_file"),
    row("*", &["sslcertificatekey"], "server.tls.certificates[].key_file"),
    row("*", &["sslprotocols"], "server.tls.min_version"),
    row("*", &["realipheader"], "server.client_address_header"),
    row("*", &["setrealipfrom"], "server.trusted_proxies"),
    row("*", &["loglevel"], "logging.level"),
    row("*", &["accesskeyid", "awsaccesskeyid"], "buckets[].s3.access_key"),
    row("*", &["secretaccesskey", "awssecretaccesskey"], "buckets[].s3.secret_key"),
    row("*", &["awssessiontoken", "securitytoken"], "buckets[].s3.session_token"),
    row("*", &["awsregion", "awsdefaultregion", "defaultregion"], "buckets[].s3.region"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::{keys::Row, settings::KEYS};

    /// Patterns of all sections, the top level included.
    fn sections() -> HashSet<&'static str> {
        KEYS.iter().map(Row::section).collect()
    }

    #[test]
    fn what_is_to_be_written_are_keys() {
        let known: HashSet<_> = KEYS.iter().map(|row| &*row.path).collect();
        for row in FOREIGN {
            let sections: Vec<_> = sections()
                .into_iter()
                .filter(|section| known_as(section, row.names[0]) == Some(row.write))
                .collect();
            assert!(!sections.is_empty(), "{} is not reached", row.names[0]);
            let words = row.write.split([' ', ',']);
            for path in words.filter(|word| word.contains(['.', '[']) || known.contains(word)) {
                for section in &sections {
                    let relative = path.starts_with('.');
                    let path = if relative { format!("{section}{path}") } else { path.to_owned() };
                    assert!(known.contains(&*path), "{path} is no key");
                }
            }
        }
    }

    #[test]
    fn no_name_is_a_key_of_its_section_or_stands_twice() {
        for row in FOREIGN {
            for name in row.names {
                assert_eq!(*name, folded(name), "{name} could not be found");
                for section in sections() {
                    if known_as(section, name) != Some(row.write) {
                        continue;
                    }
                    let is_key =
                        |known: &&Row| known.section() == section && folded(known.name) == *name;
                    assert!(!KEYS.iter().any(|row| is_key(&row)), "{name} is a key of {section}");
                }
                let twice = FOREIGN
                    .iter()
                    .filter(|other| other.section == row.section && other.names.contains(name));
                assert_eq!(twice.count(), 1, "{name} stands twice for {}", row.section);
            }
        }
    }

    #[test]
    fn a_name_is_found_however_it_is_written() {
        for name in ["worker_processes", "workerProcesses", "Worker-Processes"] {
            assert_eq!(known_as("server", name), Some("server.threads"), "{name}");
        }
        assert_eq!(known_as("server", "listen"), Some("server.address and server.port"));
        assert_eq!(known_as("metrics", "listen"), Some("admin.listen"));
        assert_eq!(known_as("jwt.providers[].claims[]", "op"), Some(".operator"));
        assert_eq!(known_as("jwt", "op"), None);
    }
}
