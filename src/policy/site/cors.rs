//! Cross-origin requests: the fields that let a page of another origin read a response (Fetch
//! standard, "HTTP CORS protocol", <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! The lists of a preflight response are those of the configuration, whatever the request asks for:
//! the browser compares, and its message names what is missing. Deliberately absent: the origin
//! `null`, which every sandboxed page has, whoever wrote it.

use std::fmt;

/// Longest `Origin` that is looked up, in bytes: a host name has at most 253.
pub const ORIGIN_BYTES_MAX: usize = 512;

/// Longest label of a host name, in bytes (RFC 1035 section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Origins that may read responses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginRule {
    /// `*`.
    Any,
    /// One origin, as browsers send it.
    Exact(Box<str>),
    /// Every host with one label more than this.
    Below {
        /// The scheme, up to the host.
        scheme: Box<str>,
        /// The rest of the host from its dot on, and the port.
        rest: Box<str>,
    },
}

/// Reason to refuse an origin of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginError {
    /// `null`.
    Null,
    /// There is no `scheme://` before a host.
    Form,
    /// More than an origin, or not as browsers send it: this is what they send.
    SentAs(String),
    /// A host or port that cannot be.
    Host,
    /// `*` in another place than the first label.
    Wildcard,
    /// Over [`ORIGIN_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str(
                "is the origin of every sandboxed page, whoever wrote it; write the origins of \
                 your pages, or \"*\" for all",
            ),
            Self::Form => f.write_str(
                "expected an origin, such as https://www.example.com, \"https://*.example.com\" \
                 or \"*\"",
            ),
            Self::SentAs(origin) => write!(f, "is not what browsers send; write {origin}"),
            Self::Host => f.write_str(
                "has a host or port that no browser sends; write a host name in ASCII (xn--... \
                 for others) and, where it is not the scheme's own, a port",
            ),
            Self::Wildcard => f.write_str(
                "has * in a place other than the first label; write \"https://*.example.com\", \
                 which stands for one label, or \"*\"",
            ),
            Self::TooLong => f.write_str("is longer than 512 bytes; shorten it"),
        }
    }
}

impl OriginRule {
    /// Reads an origin of the configuration. It must be written as browsers serialise it (HTML
    /// standard, "serialization of an origin"), because it is compared byte by byte (Fetch
    /// standard, "CORS check").
    ///
    /// # Errors
    /// It could never match, or would match more than it says.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        const _: () = assert!(ORIGIN_BYTES_MAX == 512);
        match text {
            "*" => return Ok(Self::Any),
            "null" => return Err(OriginError::Null),
            _ if text.len() > ORIGIN_BYTES_MAX => return Err(OriginError::TooLong),
            _ => {}
        }
        let (scheme, rest) = text.split_once("://").ok_or(OriginError::Form)?;
        if !is_scheme(scheme) || rest.is_empty() {
            return Err(OriginError::Form);
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = split_port(authority);
        let (wildcard, name) = match host.strip_prefix("*.") {
            Some(name) => ("*.", name),
            None => ("", host),
        };
        if name.contains('*') {
            return Err(OriginError::Wildcard);
        }
        let port_is_good = port.is_none_or(|port| {
            port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
        });
        if !is_host(name) || (!wildcard.is_empty() && name.starts_with('[')) || !port_is_good {
            return Err(OriginError::Host);
        }
        let port = port.filter(|port| !is_default_port(scheme, port));
        let (scheme, name) = (scheme.to_ascii_lowercase(), name.to_ascii_lowercase());
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let sent = format!("{scheme}://{wildcard}{name}{port}");
        if sent != text {
            return Err(OriginError::SentAs(sent));
        }
        if wildcard.is_empty() {
            return Ok(Self::Exact(sent.into()));
        }
        Ok(Self::Below {
            scheme: format!("{scheme}://").into(),
            rest: format!(".{name}{port}").into(),
        })
    }

    /// Returns true for a wildcard directly below a top-level name, such as `https://*.com`.
    pub fn is_broad(&self) -> bool {
        match self {
            Self::Any | Self::Exact(_) => false,
            Self::Below { rest, .. } => {
                let name = rest.split(':').next().unwrap_or_default();
                !name.trim_start_matches('.').contains('.') && name != ".localhost"
            }
        }
    }
}

/// Returns true for a scheme (RFC 3986 section 3.1).
fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are in brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        return address.strip_suffix(']').is_some_and(|address| {
            address.parse::<std::net::Ipv6Addr>().is_ok_and(|it| it.to_string() == address)
        });
    }
    host.split('.').all(|label| is_label(label.to_ascii_lowercase().as_bytes()))
}

fn is_label(label: &[u8]) -> bool {
    (1..=LABEL_BYTES_MAX).contains(&label.len())
        && label.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

fn is_default_port(scheme: &str, port: &str) -> bool {
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    (is("http") && port == "80") || (is("https") && port == "443")
}

/// Rules for one bucket, as the configuration has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsRules<'r> {
    /// Origins that may read responses.
    pub origins: &'r [OriginRule],
    /// Methods of actual requests.
    pub methods: &'r [&'r str],
    /// Request fields that pages may send.
    pub headers: &'r [String],
    /// Response fields that pages may read.
    pub expose: &'r [String],
    /// Time for which a browser may remember a preflight response, in seconds.
    pub max_age: u32,
    /// Set if pages may send cookies and other credentials of the browser.
    pub credentials: bool,
}

/// Rules for one bucket, ready to be looked up.
#[derive(Debug)]
pub struct Cors {
    /// Any origin may read everything, without credentials.
    is_public: bool,
    /// Sorted.
    exact: Box<[Box<str>]>,
    /// Schemes and rests of origins, sorted.
    below: Box<[(Box<str>, Box<str>)]>,
    credentials: bool,
    methods: Box<str>,
    headers: Box<str>,
    expose: Box<str>,
    max_age: Box<str>,
}

/// Permission of the origin of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant<'o> {
    /// No page may read the response, but for those of the same origin.
    Nothing,
    /// Pages of any origin may.
    Public,
    /// Pages of this origin may.
    Origin(&'o str),
}

/// A field of a response.
pub type Field<'f> = (&'static str, &'f str);

impl Cors {
    /// Makes the rules ready.
    pub fn new(rules: &CorsRules<'_>) -> Self {
        let mut exact = Vec::new();
        let mut below = Vec::new();
        for rule in rules.origins {
            match rule {
                OriginRule::Any => {}
                OriginRule::Exact(origin) => exact.push(origin.clone()),
                OriginRule::Below { scheme, rest } => below.push((scheme.clone(), rest.clone())),
            }
        }
        exact.sort_unstable();
        below.sort_unstable();
        Self {
            is_public: rules.origins.contains(&OriginRule::Any),
            exact: exact.into(),
            below: below.into(),
            credentials: rules.credentials,
            methods: rules.methods.join(", ").into(),
            headers: rules.headers.join(", ").into(),
            expose: rules.expose.join(", ").into(),
            max_age: rules.max_age.to_string().into(),
        }
    }

    /// Looks up the origin of a request, from the values of its `Origin` fields. One that is
    /// repeated, malformed or too long is of no origin.
    pub fn grant<'o>(&self, mut origins: impl Iterator<Item = &'o [u8]>) -> Grant<'o> {
        if self.is_public {
            return Grant::Public;
        }
        let (first, second) = (origins.next(), origins.next());
        first
            .filter(|origin| second.is_none() && origin.len() <= ORIGIN_BYTES_MAX)
            .and_then(|origin| str::from_utf8(origin).ok())
            .filter(|origin| self.is_allowed(origin))
            .map_or(Grant::Nothing, Grant::Origin)
    }

    fn is_allowed(&self, origin: &str) -> bool {
        self.exact.binary_search_by(|known| (**known).cmp(origin)).is_ok()
            || (!self.below.is_empty() && self.is_below(origin))
    }

    fn is_below(&self, origin: &str) -> bool {
        let Some(host_at) = origin.find("://").map(|at| at + 3) else { return false };
        let (scheme, host) = origin.split_at(host_at);
        let Some(dot) = host.find('.') else { return false };
        let (label, rest) = host.split_at(dot);
        let known = |(a, b): &(Box<str>, Box<str>)| (&**a, &**b).cmp(&(scheme, rest));
        is_label(label.as_bytes()) && self.below.binary_search_by(known).is_ok()
    }

    /// Returns true if responses differ by the origin of the request, whether or not it has one, so
    /// that caches must be told (Fetch standard, "CORS protocol and HTTP caches").
    pub const fn varies(&self) -> bool {
        !self.is_public
    }

    /// The fields of the response to an actual request (Fetch standard, "HTTP responses").
    pub fn fields<'f>(&'f self, grant: Grant<'f>) -> impl Iterator<Item = Field<'f>> {
        let expose = Some(&*self.expose).filter(|names| !names.is_empty());
        self.permission(grant)
            .chain(granted(grant, expose.map(|names| ("Access-Control-Expose-Headers", names))))
    }

    /// The fields of the response to a preflight request (Fetch standard, "CORS-preflight fetch").
    pub fn preflight<'f>(&'f self, grant: Grant<'f>) -> impl Iterator<Item = Field<'f>> {
        let headers = Some(&*self.headers).filter(|names| !names.is_empty());
        let lists = [
            Some(("Access-Control-Allow-Methods", &*self.methods)),
            headers.map(|names| ("Access-Control-Allow-Headers", names)),
            Some(("Access-Control-Max-Age", &*self.max_age)),
        ];
        self.permission(grant).chain(lists.into_iter().filter_map(move |list| granted(grant, list)))
    }

    /// The fields that the CORS check of a browser looks at.
    fn permission<'f>(&self, grant: Grant<'f>) -> impl Iterator<Item = Field<'f>> {
        let origin = match grant {
            Grant::Nothing => None,
            Grant::Public => Some("*"),
            Grant::Origin(origin) => Some(origin),
        };
        let credentials = self.credentials.then_some(("Access-Control-Allow-Credentials", "true"));
        origin
            .map(|origin| ("Access-Control-Allow-Origin", origin))
            .into_iter()
            .chain(granted(grant, credentials))
    }
}

fn granted<'f>(grant: Grant<'_>, field: Option<Field<'f>>) -> Option<Field<'f>> {
    field.filter(|_| grant != Grant::Nothing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(origins: &[OriginRule]) -> CorsRules<'_> {
        CorsRules {
            origins,
            methods: &["GET", "HEAD"],
            headers: &[],
            expose: &[],
            max_age: 600,
            credentials: false,
        }
    }

    fn parsed(origins: &[&str]) -> Vec<OriginRule> {
        origins.iter().map(|origin| OriginRule::parse(origin).unwrap()).collect()
    }

    fn allows(cors: &Cors, origin: &str) -> bool {
        match cors.grant([origin.as_bytes()].into_iter()) {
            Grant::Nothing => false,
            Grant::Public => true,
            Grant::Origin(granted) => {
                assert_eq!(granted, origin);
                true
            }
        }
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for good in [
            "https://example.com",
            "http://localhost:3000",
            "https://a_b-c.example.com:8443",
            "https://xn--bcher-kva.example",
            "http://192.0.2.1:8080",
            "http://[2001:db8::1]:8080",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
        ] {
            assert_eq!(OriginRule::parse(good), Ok(OriginRule::Exact(good.into())), "{good}");
        }
        for (bad, sent) in [
            ("https://example.com/", "https://example.com"),
            ("https://example.com/app?x#y", "https://example.com"),
            ("https://user:secret@example.com", "https://example.com"),
            ("HTTPS://Example.COM", "https://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("http://example.com:80", "http://example.com"),
            ("https://*.Example.com:443/", "https://*.example.com"),
        ] {
            assert_eq!(OriginRule::parse(bad), Err(OriginError::SentAs(sent.into())), "{bad}");
        }
        for (bad, error) in [
            ("null", OriginError::Null),
            ("", OriginError::Form),
            ("example.com", OriginError::Form),
            ("://example.com", OriginError::Form),
            ("https://", OriginError::Form),
            ("1s://example.com", OriginError::Form),
            ("https://exämple.com", OriginError::Host),
            ("https://a..b", OriginError::Host),
            ("https://a b", OriginError::Host),
            ("https://example.com:", OriginError::Host),
            ("https://example.com:0", OriginError::Host),
            ("https://example.com:080", OriginError::Host),
            ("https://example.com:65536", OriginError::Host),
            ("https://[::1", OriginError::Host),
            ("https://*.[::1]", OriginError::Host),
            ("https://*", OriginError::Wildcard),
            ("https://*example.com", OriginError::Wildcard),
            ("https://a.*.example.com", OriginError::Wildcard),
            ("https://*.*.example.com", OriginError::Wildcard),
        ] {
            assert_eq!(OriginRule::parse(bad), Err(error), "{bad:?}");
        }
        let long = format!("https://{}", "a.".repeat(260));
        assert_eq!(OriginRule::parse(&long), Err(OriginError::TooLong));
    }

    #[test]
    fn a_wildcard_below_a_top_level_name_is_broad() {
        let broad = |text| OriginRule::parse(text).unwrap().is_broad();
        assert!(broad("https://*.com") && broad("https://*.internal:8443"));
        assert!(!broad("https://*.example.com") && !broad("http://*.localhost:3000"));
        assert!(!broad("*") && !broad("https://com"));
    }

    #[test]
    fn exact_origins_and_one_label_are_allowed() {
        let origins = parsed(&[
            "https://app.example.com",
            "https://*.tenants.example:8443",
            "http://localhost:3000",
        ]);
        let cors = Cors::new(&rules(&origins));
        for good in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://a.tenants.example:8443",
            "https://a-b_1.tenants.example:8443",
        ] {
            assert!(allows(&cors, good), "{good}");
        }
        let long = format!("https://{}.tenants.example:8443", "a".repeat(64));
        for bad in [
            "",
            "null",
            "*",
            "https://app.example.com.evil.example",
            "https://evilapp.example.com",
            "http://app.example.com",
            "https://app.example.com:8443",
            "https://APP.example.com",
            "https://app.example.com/",
            "https://tenants.example:8443",
            "https://.tenants.example:8443",
            "https://a.b.tenants.example:8443",
            "https://*.tenants.example:8443",
            "https://a.tenants.example",
            "http://a.tenants.example:8443",
            "https://evil.example/.tenants.example:8443",
            "https://a@b.tenants.example:8443",
            "https://a\t.tenants.example:8443",
            "https://é.tenants.example:8443",
            &long,
        ] {
            assert!(!allows(&cors, bad), "{bad:?}");
        }
        let twice = [&b"https://app.example.com"[..], b"https://app.example.com"];
        assert_eq!(cors.grant(twice.into_iter()), Grant::Nothing);
        assert_eq!(cors.grant(std::iter::empty()), Grant::Nothing);
        assert!(cors.varies());
    }

    #[test]
    fn fields_are_those_of_the_standard() {
        let origins = parsed(&["https://a.example"]);
        let lists = (["Authorization".to_owned(), "X-A".to_owned()], ["ETag".to_owned()]);
        let cors = Cors::new(&CorsRules {
            headers: &lists.0,
            expose: &lists.1,
            credentials: true,
            ..rules(&origins)
        });
        let grant = cors.grant([&b"https://a.example"[..]].into_iter());
        assert_eq!(
            cors.fields(grant).collect::<Vec<_>>(),
            [
                ("Access-Control-Allow-Origin", "https://a.example"),
                ("Access-Control-Allow-Credentials", "true"),
                ("Access-Control-Expose-Headers", "ETag"),
            ]
        );
        assert_eq!(
            cors.preflight(grant).collect::<Vec<_>>(),
            [
                ("Access-Control-Allow-Origin", "https://a.example"),
                ("Access-Control-Allow-Credentials", "true"),
                ("Access-Control-Allow-Methods", "GET, HEAD"),
                ("Access-Control-Allow-Headers", "Authorization, X-A"),
                ("Access-Control-Max-Age", "600"),
            ]
        );
        assert_eq!(cors.fields(Grant::Nothing).count(), 0);
        assert_eq!(cors.preflight(Grant::Nothing).count(), 0);
    }

    #[test]
    fn anybody_may_read_what_is_public_and_caches_need_not_ask() {
        let origins = parsed(&["*"]);
        let cors = Cors::new(&rules(&origins));
        for origin in [Some(&b"https://a.example"[..]), Some(b"null"), Some(b"\xff"), None] {
            let grant = cors.grant(origin.into_iter());
            let fields: Vec<_> = cors.fields(grant).collect();
            assert_eq!(fields, [("Access-Control-Allow-Origin", "*")]);
        }
        assert!(!cors.varies());
    }

    proptest! {
        #[test]
        fn nothing_is_granted_but_what_a_rule_says(
            origin in "(https?://)?([a-z*.]{0,6}\\.)?(example|evil)?\\.?(com|example)?(:[0-9]{1,4})?/?",
        ) {
            let origins = parsed(&["https://example.com", "https://*.example.com", "http://*.evil.com:1"]);
            let cors = Cors::new(&rules(&origins));
            let label = |rest: &str, before: &str, after: &str| {
                rest.strip_prefix(before)
                    .and_then(|rest| rest.strip_suffix(after))
                    .is_some_and(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_lowercase()))
            };
            let expected = origin == "https://example.com"
                || label(&origin, "https://", ".example.com")
                || label(&origin, "http://", ".evil.com:1");
            prop_assert_eq!(allows(&cors, &origin), expected);
        }

        #[test]
        fn any_bytes_are_looked_up_without_a_panic(origin in prop::collection::vec(any::<u8>(), 0..600)) {
            let origins = parsed(&["https://*.example.com"]);
            let cors = Cors::new(&rules(&origins));
            prop_assert_eq!(cors.grant([&origin[..]].into_iter()), Grant::Nothing);
        }

        #[test]
        fn what_is_accepted_is_what_browsers_send(
            text in "(https?|app|HTTP)://(\\*\\.)?[a-zA-Z0-9.-]{0,8}(:[0-9]{0,5})?(/[a-z]{0,2})?",
        ) {
            match OriginRule::parse(&text) {
                Ok(OriginRule::Exact(origin)) => {
                    prop_assert_eq!(&*origin, &*text);
                    let origins = [OriginRule::Exact(origin)];
                    prop_assert!(allows(&Cors::new(&rules(&origins)), &text));
                }
                Ok(OriginRule::Below { .. }) => {
                    let origins = parsed(&[&text]);
                    let sent = text.replace('*', "tenant");
                    prop_assert!(allows(&Cors::new(&rules(&origins)), &sent));
                    prop_assert!(!allows(&Cors::new(&rules(&origins)), &text));
                }
                Ok(OriginRule::Any) => prop_assert!(false, "{text}"),
                Err(OriginError::SentAs(sent)) => {
                    prop_assert!(OriginRule::parse(&sent).is_ok(), "{sent}");
                }
                Err(_) => {}
            }
        }
    }
}
