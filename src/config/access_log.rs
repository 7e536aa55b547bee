//! `logging.access_log`: the values of its keys that have a form of their own.

use std::fmt;

use super::{
    declare::Value,
    foreign::folded,
    keys::Key,
    scalar::{Text, is_short},
    section::Section,
    unknown::nearest,
};
use crate::telemetry::access_log::{
    Field, SHARE_WHOLE, SkippedEndpoint, TEMPLATE_BYTES_MAX, Template, TemplateError,
};

/// Name of all fields that have a name of OpenTelemetry.
const OTEL: &str = "otel";

/// Name of all fields that a line has by itself.
const USUAL: &str = "usual";

/// Names of fields elsewhere (nginx, Apache, Envoy), in lower case and without `_` and `-`.
const ELSEWHERE: [(&[&str], &str); 19] = [
    (&["remoteaddr", "clientip", "remoteip"], "client"),
    (&["requesturi", "uri", "url"], "path"),
    (&["requestmethod", "verb"], "method"),
    (&["requesttime", "duration", "latency"], "duration_ms"),
    (&["bodybytessent", "bytessent"], "bytes"),
    (&["httpuseragent", "useragent", "ua"], "user_agent"),
    (&["http.request.header.useragent"], "user_agent.original"),
    (&["httpreferer", "referrer"], "referer"),
    (&["httphost"], "host"),
    (&["httprange"], "range"),
    (&["httpxforwardedfor", "xff"], "x_forwarded_for"),
    (&["upstreamresponsetime"], "upstream_ms"),
    (&["upstreamaddr"], "upstream_address"),
    (&["serverprotocol"], "protocol"),
    (&["sslprotocol"], "tls_version"),
    (&["sslcipher"], "tls_cipher"),
    (&["sslservername"], "sni"),
    (&["timelocal", "timeiso8601", "timestamp"], "time"),
    (&["xamznrequestid", "xamzrequestid"], "s3_request_id"),
];

/// The field that has a name elsewhere.
fn known_elsewhere(name: &str) -> Option<&'static str> {
    let name = folded(name);
    ELSEWHERE.iter().find(|(names, _)| names.contains(&&*name)).map(|(_, field)| *field)
}

/// `logging.access_log.fields`: the fields that a line has, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFields(pub Vec<Field>);

impl Value for LineFields {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let mut fields: Vec<Field> = Field::usual().collect();
        section.parsed_texts(key.name, |text| change(&mut fields, &text));
        if fields.is_empty() && !section.is_noted(key.name) {
            section.error(key.name, "leaves a line without fields; add some, such as time");
        }
        Self(fields)
    }
}

/// Applies one element to the fields.
fn change(fields: &mut Vec<Field>, text: &Text<'_>) -> Result<(), String> {
    let (is_taken, name) = match text.value.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, &*text.value),
    };
    if name == OTEL || name == USUAL {
        let is_meant = |field: &Field| {
            if name == OTEL { field.is_otel() } else { field.is_usual() }
        };
        fields.retain(|field| !is_meant(field));
        if !is_taken {
            fields.extend(Field::ALL.iter().filter(|field| is_meant(field)));
        }
        return Ok(());
    }
    let field = Field::named(name)
        .ok_or_else(|| unknown_field(name, text.from_variable, if is_taken { "-" } else { "" }))?;
    match (is_taken, fields.iter().position(|other| *other == field)) {
        (true, Some(place)) => drop(fields.remove(place)),
        (true, None) => {
            return Err(format!("{} is not among the fields; remove the element", field.name()));
        }
        (false, None) => fields.push(field),
        (false, Some(_)) => {
            return Err(format!("{} is among the fields already; remove one", field.name()));
        }
    }
    Ok(())
}

fn unknown_field(name: &str, from_variable: bool, sign: &str) -> String {
    if from_variable {
        return "a variable names a field that does not exist; METRICS.md lists them".to_owned();
    }
    if let Some(field) = known_elsewhere(name) {
        return format!("unknown field; write {sign}{field}");
    }
    let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
    match nearest(&names, name) {
        Some(known) => format!("unknown field; the nearest known one is {sign}{known}"),
        None => "unknown field; METRICS.md lists them".to_owned(),
    }
}

/// `logging.access_log.template`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTemplate(pub Option<Template>);

impl Value for LineTemplate {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let written = section.entry(key.name).and_then(|entry| entry.value.text());
        let dollar = written.and_then(dollar_field);
        if let Some(Dollar { name, field, braces: true }) = dollar {
            let message = format!(
                "has ${{{name}}}, a variable of the environment; write {{{field}}} for the field"
            );
            section.error(key.name, message);
            return Self(None);
        }
        let Ok(Some(text)) = section.optional_text(key.name) else { return Self(None) };
        match (Template::parse(&text.value), dollar) {
            (Ok(template), dollar) => {
                if let Some(Dollar { name, field, .. }) = dollar {
                    let message =
                        format!("has ${name}, which stands for itself; write {{{field}}}");
                    section.warning(key.name, message);
                }
                Self(Some(template))
            }
            (Err(TemplateError::NoField), Some(Dollar { name, field, .. })) => {
                let message = format!("names no field; write {{{field}}} in place of ${name}");
                section.error(key.name, message);
                Self(None)
            }
            (Err(error), _) => {
                section.error(key.name, template_problem(&error, text.from_variable));
                Self(None)
            }
        }
    }
}

/// A field that is written as nginx writes its variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dollar<'t> {
    name: &'t str,
    field: &'static str,
    /// `${name}`, which is a variable of the environment here.
    braces: bool,
}

/// The first of them in a template as it is written.
fn dollar_field(written: &str) -> Option<Dollar<'_>> {
    let mut rest = written;
    while let Some((_, after)) = rest.split_once('$') {
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
            continue;
        }
        rest = after;
        let inside = after.strip_prefix('{');
        let name = inside.unwrap_or(after);
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let name = &name[..end.unwrap_or(name.len())];
        let field = Field::named(name).map(Field::name).or_else(|| known_elsewhere(name));
        if let Some(field) = field.filter(|_| name == name.to_lowercase()) {
            return Some(Dollar { name, field, braces: inside.is_some() });
        }
    }
    None
}

fn template_problem(error: &TemplateError<'_>, from_variable: bool) -> String {
    match error {
        TemplateError::TooLong => format!("is longer than {TEMPLATE_BYTES_MAX} bytes; shorten it"),
        TemplateError::ControlCharacter => {
            "holds a line break or another control character; a line has none, so remove it"
                .to_owned()
        }
        TemplateError::Open => {
            "a { has no } behind it; write {field}, or {{ for the character".to_owned()
        }
        TemplateError::Closed => {
            "a } has no { before it; write {field}, or }} for the character".to_owned()
        }
        TemplateError::NoField => "names no field; write some, such as {path}".to_owned(),
        TemplateError::Unknown(name) if from_variable => unknown_field(name, true, ""),
        TemplateError::Unknown(name) => {
            let shown = if is_short(name) { name } else { "longer text" };
            format!("{{{shown}}}: {}", unknown_field(name, false, ""))
        }
    }
}

/// `logging.access_log.skip`, each once and sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedEndpoints(pub Vec<SkippedEndpoint>);

impl Value for SkippedEndpoints {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let mut skipped = Vec::new();
        section.parsed_texts(key.name, |text| {
            let mut all = SkippedEndpoint::ALL.into_iter();
            let endpoint = all.find(|endpoint| endpoint.name() == text.value).ok_or_else(|| {
                format!("expected health, ready or metrics, found {}", text.shown())
            })?;
            if skipped.contains(&endpoint) {
                return Err(format!("{} is written twice; remove one", endpoint.name()));
            }
            skipped.push(endpoint);
            Ok(())
        });
        skipped.sort_unstable();
        Self(skipped)
    }
}

/// A share of a whole, in billionths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Share(pub u32);

impl Value for Share {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let share = section.share(key.name).unwrap_or_default();
        Self(u32::try_from(share.as_nanos()).unwrap_or(SHARE_WHOLE))
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / f64::from(SHARE_WHOLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_servers_are_told_the_field() {
        for (names, field) in ELSEWHERE {
            assert!(Field::named(field).is_some(), "{field} is no field");
            for name in names {
                assert_eq!(*name, folded(name), "{name} could not be found");
                assert!(Field::named(name).is_none(), "{name} is a field");
            }
        }
        assert_eq!(unknown_field("User-Agent", false, ""), "unknown field; write user_agent");
        assert_eq!(
            unknown_field("status2", false, "-"),
            "unknown field; the nearest known one is -status"
        );
    }

    #[test]
    fn variables_of_nginx_are_seen() {
        let dollar = |name, field, braces| Some(Dollar { name, field, braces });
        for (template, want) in [
            ("$remote_addr {path}", dollar("remote_addr", "client", false)),
            ("{path} ${status}", dollar("status", "status", true)),
            ("${HOST} $x $$status {path}", None),
            ("${PATH} $STATUS", None),
            ("$", None),
        ] {
            assert_eq!(dollar_field(template), want, "{template}");
        }
    }
}
