//! `${NAME}`, `${NAME:-default}` and `$$` inside a scalar.

use std::borrow::Cow;

use super::{inputs::Environment, problem::cut};

/// Longest single value, in bytes and after variables have been replaced. The longest that means
/// something is a session token of 8 KiB.
pub(super) const SCALAR_BYTES_MAX: usize = 65_536;

/// Why a scalar could not be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ExpandError {
    /// A variable without a default is not set.
    Unset(String),
    /// A variable is set to something else than text, so that its default is not meant either.
    NoText(String),
    /// `${` that is never closed, or does not hold a name.
    Malformed,
    /// A variable inside a variable's default.
    Nested,
    /// More than [`SCALAR_BYTES_MAX`] with what it stands for.
    TooLong,
}

impl std::fmt::Display for ExpandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unset(name) => write!(
                f,
                "environment variable {0} is not set; set it before the process starts, or write a \
                 default: ${{{0}:-default}}",
                cut(name)
            ),
            Self::NoText(name) => {
                write!(f, "environment variable {} is not valid UTF-8; set it to text", cut(name))
            }
            Self::Malformed => f.write_str(
                "holds ${ without a variable; write ${NAME} or ${NAME:-default}, and $$ for a \
                 dollar sign",
            ),
            Self::Nested => f.write_str(
                "holds a variable in the default of another one; write plain text after :-",
            ),
            Self::TooLong => {
                write!(f, "is longer than {SCALAR_BYTES_MAX} bytes, variables included; shorten it")
            }
        }
    }
}

/// Replaces variables in one scalar. The result is a value and is never read as YAML again.
/// As in a shell, the default also replaces a variable that is set but empty; a dollar sign
/// before anything but `{` and `$` stays what it is.
pub(super) fn expand<'a>(
    text: &Cow<'a, str>,
    environment: &dyn Environment,
) -> Result<(Cow<'a, str>, bool), ExpandError> {
    if text.len() > SCALAR_BYTES_MAX {
        return Err(ExpandError::TooLong);
    }
    if !text.contains('$') {
        return Ok((text.clone(), false));
    }
    let mut expanded = String::with_capacity(text.len());
    let mut from_variable = false;
    let mut rest: &str = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let (variable, after) = inside.split_once('}').ok_or(ExpandError::Malformed)?;
            let value = value_of(variable, environment)?;
            if expanded.len() + value.len() > SCALAR_BYTES_MAX {
                return Err(ExpandError::TooLong);
            }
            expanded.push_str(&value);
            from_variable = true;
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    if expanded.len() > SCALAR_BYTES_MAX {
        return Err(ExpandError::TooLong);
    }
    Ok((Cow::Owned(expanded), from_variable))
}

/// The variables in a text as they are written, without their defaults: `${A}`, `${A} and ${B}`;
/// empty without any. Their values are never shown, so messages name them by this.
pub(super) fn variables(text: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((variable, after)) =
            rest.strip_prefix('{').and_then(|inside| inside.split_once('}'))
        {
            let (name, _) = name_and_default(variable);
            if is_name(name) && !names.contains(&name) {
                names.push(name);
            }
            rest = after;
        }
    }
    names.iter().map(|name| format!("${{{}}}", cut(name))).collect::<Vec<_>>().join(" and ")
}

/// A message about a text, with the variables in it behind it unless it names them.
pub(super) fn naming_variables(message: String, text: &str) -> String {
    let variables = variables(text);
    if variables.is_empty() || message.contains(&variables) {
        return message;
    }
    format!("{message} (from {variables})")
}

/// Returns true for `$NAME` and `$(NAME)`, alone or before a `/`: what a shell or Kubernetes
/// replaces.
pub(super) fn is_shell_variable(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('$') else { return false };
    let rest = rest.split('/').next().unwrap_or_default();
    let in_parentheses = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    is_name(in_parentheses.unwrap_or(rest))
}

/// Returns true if a variable may have this name.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn name_and_default(variable: &str) -> (&str, Option<&str>) {
    match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (variable, None),
    }
}

fn value_of(variable: &str, environment: &dyn Environment) -> Result<String, ExpandError> {
    let (name, default) = name_and_default(variable);
    if !is_name(name) {
        return Err(ExpandError::Malformed);
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(ExpandError::Nested);
    }
    if environment.is_no_text(name) {
        return Err(ExpandError::NoText(name.to_owned()));
    }
    match (environment.var(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(ExpandError::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn expanded(text: &str) -> Result<String, ExpandError> {
        let environment = BTreeMap::from([
            ("A".to_owned(), "one".to_owned()),
            ("EMPTY".to_owned(), String::new()),
            ("LONG".to_owned(), "x".repeat(SCALAR_BYTES_MAX)),
            ("TRICKY".to_owned(), "${A}: [x]".to_owned()),
        ]);
        expand(&Cow::Borrowed(text), &environment).map(|(text, _)| text.into_owned())
    }

    #[test]
    fn replaces_variables_defaults_and_dollars() {
        for (text, want) in [
            ("plain", "plain"),
            ("${A}", "one"),
            ("<${A}${A}>", "<oneone>"),
            ("${B:-two}", "two"),
            ("${B:-}", ""),
            ("${B:-a:-b}", "a:-b"),
            ("${A:-two}", "one"),
            ("${EMPTY}", ""),
            ("${EMPTY:-two}", "two"),
            ("$${A}", "${A}"),
            ("$$$$", "$$"),
            ("pa$word$", "pa$word$"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn variables_are_named_without_value_and_default() {
        for (text, want) in [
            ("plain $A $$", ""),
            ("${A}", "${A}"),
            ("x${A:-secret}y${B}${A}", "${A} and ${B}"),
            ("$${A}", ""),
            ("${A B} ${C", ""),
        ] {
            assert_eq!(variables(text), want, "{text}");
        }
        assert_eq!(naming_variables("is bad".to_owned(), "x"), "is bad");
        assert_eq!(naming_variables("is bad".to_owned(), "${A}"), "is bad (from ${A})");
        assert_eq!(naming_variables("${A} is bad".to_owned(), "${A}"), "${A} is bad");
    }

    #[test]
    fn what_a_shell_would_replace_is_seen() {
        for text in ["$HOME", "$HOME/key", "$(HOME)", "$(HOME)/key", "$_a1"] {
            assert!(is_shell_variable(text), "{text}");
        }
        for text in ["${HOME}", "$$HOME", "$", "$1", "$a b", "a$HOME", "$(HOME", "$a+b", ""] {
            assert!(!is_shell_variable(text), "{text}");
        }
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        assert_eq!(expanded("${TRICKY}").as_deref(), Ok("${A}: [x]"));
    }

    #[test]
    fn a_value_is_bounded_with_what_variables_bring_in() {
        let longest = "x".repeat(SCALAR_BYTES_MAX);
        assert!(expanded(&longest).is_ok());
        assert!(expanded("${LONG}").is_ok());
        for text in [&*format!("{longest}x"), "${LONG}x", "x${LONG}", "${LONG}${LONG}"] {
            assert_eq!(expanded(text), Err(ExpandError::TooLong));
        }
    }

    #[test]
    fn refuses_what_is_unset_or_malformed() {
        assert_eq!(expanded("x${NONE}"), Err(ExpandError::Unset("NONE".to_owned())));
        for text in ["${", "${A", "${}", "${A B}", "${1A}", "${:-x}", "${é}"] {
            assert_eq!(expanded(text), Err(ExpandError::Malformed), "{text}");
        }
        assert_eq!(expanded("${B:-${A}}"), Err(ExpandError::Nested));
    }
}
