//! Claim rules: requirements on the contents of a token, besides being genuine.
//!
//! Types compare strictly (`"1"` is not `1`), and a rule that cannot be decided fails: a missing
//! claim, `null`, or a value of another type fails every rule but `exists: false`.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::spec::{AuthProblem, ClaimSpec};

/// Operators by name.
pub const OPERATORS: &[&str] =
    &["equals", "not_equals", "in", "contains", "gt", "gte", "lt", "lte", "exists", PATH_PREFIX];

/// The one operator that looks at the object key.
const PATH_PREFIX: &str = "path_prefix";

/// Resources that a set of rules protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Objects of a bucket: rules may look at the object key.
    Objects,
    /// The admin API: there is no object key.
    Admin,
}

/// Rules that must all hold.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Rules about the claims alone.
    by_claims: Box<[Rule]>,
    /// Claims that hold the prefixes under which the object key must be.
    path_prefixes: Box<[ClaimName]>,
}

impl Rules {
    /// Compiles rules as configured. Mistakes are added to `problems`.
    pub(super) fn compile(
        specs: &[ClaimSpec],
        scope: Scope,
        problems: &mut Vec<AuthProblem>,
    ) -> Self {
        let mut by_claims = Vec::new();
        let mut path_prefixes = Vec::new();
        for spec in specs {
            let name = ClaimName::compile(spec);
            if spec.operator == PATH_PREFIX {
                match (name, check_path_prefix(spec, scope)) {
                    (Ok(name), Ok(())) => path_prefixes.push(name),
                    (name, check) => problems.extend(name.err().into_iter().chain(check.err())),
                }
            } else {
                match (name, Test::compile(spec)) {
                    (Ok(name), Ok(test)) => by_claims.push(Rule { name, test }),
                    (name, test) => problems.extend(name.err().into_iter().chain(test.err())),
                }
            }
        }
        Self { by_claims: by_claims.into(), path_prefixes: path_prefixes.into() }
    }

    /// Returns true if all rules that do not look at the object key hold.
    pub(super) fn hold(&self, claims: &Map<String, Value>) -> bool {
        self.by_claims.iter().all(|rule| rule.holds(claims))
    }

    /// Returns true if every `path_prefix` rule permits the key.
    pub(super) fn permit_key(&self, claims: &Map<String, Value>, key: &[u8]) -> bool {
        self.path_prefixes.iter().all(|name| match name.find(claims) {
            Found::One(claim) => is_under_prefix(claim, key),
            Found::Absent | Found::Ambiguous => false,
        })
    }

    /// The prefixes of every `path_prefix` rule; none where the claim permits nothing.
    pub(super) fn key_prefixes(
        &self,
        claims: &Map<String, Value>,
    ) -> impl Iterator<Item = Prefixes> {
        self.path_prefixes.iter().map(|name| match name.find(claims) {
            Found::One(claim) => {
                let prefixes: Option<Prefixes> =
                    prefixes_of(claim).map(|prefix| prefix.map(Box::from)).collect();
                prefixes.unwrap_or_default()
            }
            Found::Absent | Found::Ambiguous => Prefixes::default(),
        })
    }
}

/// Prefixes that a claim holds.
pub(super) type Prefixes = Box<[Box<str>]>;

#[derive(Debug)]
struct Rule {
    name: ClaimName,
    test: Test,
}

impl Rule {
    fn holds(&self, claims: &Map<String, Value>) -> bool {
        match self.name.find(claims) {
            Found::Absent => matches!(self.test, Test::Exists(false)),
            Found::One(claim) => self.test.holds(claim),
            Found::Ambiguous => false,
        }
    }
}

/// Location of a claim: a member name as written, or a path through nested objects.
#[derive(Debug)]
struct ClaimName {
    whole: Box<str>,
    /// The same cut at its dots; empty when there are none.
    segments: Box<[Box<str>]>,
}

enum Found<'a> {
    Absent,
    One(&'a Value),
    /// The token has both a member of the whole name and one at the end of the path.
    Ambiguous,
}

impl ClaimName {
    fn compile(spec: &ClaimSpec) -> Result<Self, AuthProblem> {
        if spec.claim.split('.').any(str::is_empty) {
            let message = "must be a claim name, or names joined by single dots";
            return Err(problem(spec, "claim", message.to_owned()));
        }
        let segments = if spec.claim.contains('.') {
            spec.claim.split('.').map(Box::from).collect()
        } else {
            Box::default()
        };
        Ok(Self { whole: spec.claim.as_str().into(), segments })
    }

    /// Finds the claim. Namespaced claims are URLs (`https://example.com/roles`), whose dots do not
    /// nest, so a member of the whole name counts too.
    fn find<'a>(&self, claims: &'a Map<String, Value>) -> Found<'a> {
        let literal = claims.get(&*self.whole);
        let nested = self.segments.split_first().and_then(|(first, rest)| {
            rest.iter().try_fold(claims.get(&**first)?, |value, segment| {
                value.as_object()?.get(&**segment)
            })
        });
        match (literal, nested) {
            (None, None) => Found::Absent,
            (Some(claim), None) | (None, Some(claim)) => Found::One(claim),
            (Some(_), Some(_)) => Found::Ambiguous,
        }
    }
}

/// A value for which equality is defined.
#[derive(Debug)]
enum Scalar {
    Text(Box<str>),
    Number(Number),
    Bool(bool),
}

impl Scalar {
    fn compile(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.as_str().into())),
            Value::Number(number) => Some(Self::Number(number.clone())),
            Value::Bool(flag) => Some(Self::Bool(*flag)),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Compares with a claim of the same type; none when the types differ.
    fn equals(&self, claim: &Value) -> Option<bool> {
        match (self, claim) {
            (Self::Text(text), Value::String(claim)) => Some(**text == **claim),
            (Self::Number(number), Value::Number(claim)) => {
                Some(compare(claim, number) == Some(Ordering::Equal))
            }
            (Self::Bool(flag), Value::Bool(claim)) => Some(flag == claim),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Test {
    Equals(Scalar),
    NotEquals(Scalar),
    In(Box<[Scalar]>),
    Contains(Scalar),
    Ordered(Comparison, Number),
    Exists(bool),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Test {
    fn compile(spec: &ClaimSpec) -> Result<Self, AuthProblem> {
        let scalar = || {
            Scalar::compile(&spec.value)
                .ok_or_else(|| wrong_value(spec, "a string, a number or a boolean"))
        };
        let ordered = |comparison| match &spec.value {
            Value::Number(number) => Ok(Self::Ordered(comparison, number.clone())),
            _ => Err(wrong_value(spec, "a number")),
        };
        let test = match spec.operator.as_str() {
            "equals" => Self::Equals(scalar()?),
            "not_equals" => Self::NotEquals(scalar()?),
            "in" => {
                let wrong = || {
                    wrong_value(spec, "a list of strings, numbers or booleans that is not empty")
                };
                let items = spec.value.as_array().filter(|items| !items.is_empty());
                let scalars: Option<Box<[_]>> =
                    items.ok_or_else(wrong)?.iter().map(Scalar::compile).collect();
                Self::In(scalars.ok_or_else(wrong)?)
            }
            "contains" => match scalar()? {
                Scalar::Text(text) if text.is_empty() => {
                    return Err(wrong_value(spec, "a string that is not empty"));
                }
                value => Self::Contains(value),
            },
            "gt" => ordered(Comparison::Greater)?,
            "gte" => ordered(Comparison::GreaterOrEqual)?,
            "lt" => ordered(Comparison::Less)?,
            "lte" => ordered(Comparison::LessOrEqual)?,
            "exists" => match spec.value {
                Value::Null => Self::Exists(true),
                Value::Bool(wanted) => Self::Exists(wanted),
                _ => return Err(wrong_value(spec, "true, false or nothing")),
            },
            unknown => {
                return Err(problem(spec, "operator", unknown_operator(unknown)));
            }
        };
        Ok(test)
    }

    fn holds(&self, claim: &Value) -> bool {
        match self {
            Self::Equals(value) => value.equals(claim) == Some(true),
            Self::NotEquals(value) => value.equals(claim) == Some(false),
            Self::In(values) => values.iter().any(|value| value.equals(claim) == Some(true)),
            Self::Contains(value) => match (claim, value) {
                (Value::Array(items), _) => {
                    items.iter().any(|item| value.equals(item) == Some(true))
                }
                (Value::String(text), Scalar::Text(part)) => text.contains(&**part),
                _ => false,
            },
            Self::Ordered(comparison, value) => match claim {
                Value::Number(number) => comparison.holds(compare(number, value)),
                _ => false,
            },
            Self::Exists(wanted) => *wanted && !claim.is_null(),
        }
    }
}

impl Comparison {
    fn holds(self, ordering: Option<Ordering>) -> bool {
        ordering.is_some_and(|ordering| match self {
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
        })
    }
}

/// Compares numbers by value: whole ones exactly, else as doubles.
fn compare(left: &Number, right: &Number) -> Option<Ordering> {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// Returns true if the key is under one of the prefixes that a claim holds.
///
/// Prefixes match whole segments: `tenant1` and `tenant1/` permit `tenant1/a`, not `tenant10/a`;
/// only the form without the slash permits the object `tenant1` itself. A list with an element
/// that is not a usable prefix permits nothing, as its issuer made a mistake.
fn is_under_prefix(claim: &Value, key: &[u8]) -> bool {
    // A request path with such a segment is refused before this; the permission does not rely on
    // that.
    if has_dot_segment(key) {
        return false;
    }
    let mut permitted = false;
    for prefix in prefixes_of(claim) {
        let Some(prefix) = prefix else { return false };
        permitted |= covers(prefix.as_bytes(), key);
    }
    permitted
}

/// Returns true if the key is under this prefix.
pub(super) fn covers(prefix: &[u8], key: &[u8]) -> bool {
    let directory = prefix.strip_suffix(b"/").unwrap_or(prefix);
    match key.strip_prefix(directory) {
        Some([b'/', ..]) => true,
        Some([]) => prefix.len() == directory.len(),
        Some(_) | None => false,
    }
}

/// The prefixes that a claim holds (a string or a list of strings), none for what is not usable.
fn prefixes_of(claim: &Value) -> impl Iterator<Item = Option<&str>> {
    let prefixes = match claim {
        Value::Array(prefixes) => prefixes.as_slice(),
        _ => std::slice::from_ref(claim),
    };
    prefixes.iter().map(|prefix| prefix.as_str().filter(|prefix| !matches!(*prefix, "" | "/")))
}

/// Returns true if a segment of the key is `.` or `..`, so that no prefix permits it.
pub(super) fn has_dot_segment(key: &[u8]) -> bool {
    key.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b".."))
}

/// Checks a `path_prefix` rule. It has no value to compare with, as the claim holds the prefixes.
fn check_path_prefix(spec: &ClaimSpec, scope: Scope) -> Result<(), AuthProblem> {
    if scope == Scope::Admin {
        let message = "path_prefix compares object keys, and the admin API has none; use another \
                       operator";
        return Err(problem(spec, "operator", message.to_owned()));
    }
    if !spec.value.is_null() {
        let message = "the operator path_prefix takes no value, because the claim holds the \
                       prefixes; remove it";
        return Err(problem(spec, "value", message.to_owned()));
    }
    Ok(())
}

fn problem(spec: &ClaimSpec, member: &str, message: String) -> AuthProblem {
    AuthProblem { path: format!("{}.{member}", spec.path), message, warning: false }
}

fn wrong_value(spec: &ClaimSpec, expected: &str) -> AuthProblem {
    let needs_number = expected == "a number";
    let is_quoted = spec.value.as_str().is_some_and(|text| text.parse::<f64>().is_ok());
    let advice = if needs_number && is_quoted { "; write it without quotes" } else { "" };
    let message = format!("the operator {} needs {expected}{advice}", spec.operator);
    problem(spec, "value", message)
}

fn unknown_operator(name: &str) -> String {
    format!("unknown operator '{name:.64}'; write one of {}", OPERATORS.join(", "))
}

#[cfg(test)]
mod tests;
