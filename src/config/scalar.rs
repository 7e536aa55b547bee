//! Types of single values: text as written, a number or a boolean by the YAML core schema.

use std::{borrow::Cow, fmt::Write as _};

use super::{
    expand::variables,
    yaml::{Scalar, Shape},
};

/// A scalar after variables have been replaced.
pub(super) struct Text<'n> {
    pub(super) value: Cow<'n, str>,
    /// At least a part of it came from the environment.
    pub(super) from_variable: bool,
    pub(super) plain: bool,
    /// The text in the file, variables included.
    pub(super) written: &'n str,
}

impl Text<'static> {
    /// A default, as if it had been written.
    pub(super) fn preset(text: &'static str) -> Self {
        Self { value: Cow::Borrowed(text), from_variable: false, plain: true, written: text }
    }
}

impl Text<'_> {
    /// Returns true if a message may show the value, or something that tells it.
    pub(super) fn may_be_shown(&self) -> bool {
        !self.from_variable && is_short(&self.value)
    }

    /// The value as a message may show it; what came from the environment stays there, and so
    /// does what is as long as a secret.
    pub(super) fn shown(&self) -> String {
        match (self.from_variable, self.plain) {
            (true, _) => format!("the value of {}", variables(self.written)),
            _ if !self.may_be_shown() => "longer text".to_owned(),
            (false, true) => quoted(&self.value),
            (false, false) => format!("text in quotes, {}", quoted(&self.value)),
        }
    }
}

/// Message about text that an editor has put in quotes which YAML does not know.
pub(super) const TYPOGRAPHIC: &str =
    "is in typographic quotes, which are a part of the text; write \" in place of them";

/// Returns true for text between such quotes.
pub(super) fn is_in_typographic_quotes(text: &str) -> bool {
    let is_quote = |c: char| matches!(c, '\u{2018}'..='\u{201f}' | '«' | '»');
    text.starts_with(is_quote) && text.ends_with(is_quote)
}

/// Text in quotes as JSON has it; characters that change what a terminal shows are escaped too, and
/// a space that looks like a blank is named.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            _ if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    if text.contains('\u{a0}') {
        quoted.push_str(" with a no-break space (U+00A0)");
    }
    quoted
}

/// Returns true for text that is too short for a secret.
pub(super) fn is_short(text: &str) -> bool {
    /// A JWT secret has at least 32 characters, a secret access key 40.
    const SHOWN_CHARS_MAX: usize = 31;

    text.chars().count() <= SHOWN_CHARS_MAX
}

/// Message about a value of another shape than its key has.
pub(super) fn expected(what: &str, shape: &Shape<'_>) -> String {
    let advice = match (what, shape) {
        ("a list", Shape::Mapping(_)) => "begin each element with a dash (-)",
        ("a list", _) => {
            "write it in [ ], or each element on a line of its own that begins with a dash (-)"
        }
        ("a mapping", Shape::Sequence(_)) => "write its keys without dashes (-)",
        ("a mapping", _) => "write keys below it, each with a colon and a blank: `key: value`",
        (_, Shape::Sequence(items)) if items.is_empty() => "write one value without [ ]",
        (_, Shape::Sequence(_)) => "write one value without [ ] and dashes",
        _ => "write one value behind the colon",
    };
    format!("expected {what}, found {}; {advice}", found(shape))
}

/// Kind of value that a message says was found; never the value itself.
pub(super) fn found(shape: &Shape<'_>) -> &'static str {
    match shape {
        Shape::Scalar(Scalar { plain: false, .. }) => "text",
        Shape::Scalar(scalar) => match plain_kind(&scalar.text) {
            Some("number") => "a number",
            Some(_) => "a boolean",
            None => "text",
        },
        Shape::Sequence(_) => "a list",
        Shape::Mapping(_) => "a mapping",
    }
}

/// Type of a plain scalar by the YAML 1.2 core schema (section 10.3.2), unless it is text.
pub(super) fn plain_kind(text: &str) -> Option<&'static str> {
    match text {
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Some("boolean"),
        _ if is_core_number(text) => Some("number"),
        _ => None,
    }
}

fn is_core_number(text: &str) -> bool {
    let all = |digits: &str, good: fn(&u8) -> bool| {
        !digits.is_empty() && digits.as_bytes().iter().all(good)
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return all(digits, u8::is_ascii_hexdigit);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return all(digits, |byte| (b'0'..=b'7').contains(byte));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let first_is_digit = |text: &str| text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    (first_is_digit(unsigned) || unsigned.strip_prefix('.').is_some_and(first_is_digit))
        && unsigned.parse::<f64>().is_ok()
}

pub(super) fn json_scalar(text: &Text<'_>) -> serde_json::Value {
    use serde_json::{Number, Value};
    if text.plain {
        match (&*text.value, plain_kind(&text.value)) {
            (value, Some("boolean")) => return Value::Bool(value.eq_ignore_ascii_case("true")),
            (value, Some(_)) => {
                let number = value
                    .parse::<u64>()
                    .map(Number::from)
                    .or_else(|_| value.parse::<i64>().map(Number::from))
                    .ok()
                    .or_else(|| value.parse().ok().and_then(Number::from_f64));
                if let Some(number) = number {
                    return Value::Number(number);
                }
            }
            (_, None) => {}
        }
    }
    Value::String(text.value.clone().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_have_the_types_of_the_core_schema() {
        for number in
            ["0", "-1", "+1", "08", "1.5", ".5", "1.", "1e3", "0x1f", "0o17", "-.inf", ".nan"]
        {
            assert_eq!(plain_kind(number), Some("number"), "{number}");
        }
        for boolean in ["true", "False", "TRUE"] {
            assert_eq!(plain_kind(boolean), Some("boolean"), "{boolean}");
        }
        for text in [
            "", "yes", "inf", "nan", "-", ".", "1_000", "0b1", "1.2.3", "e3", "0x", "12:30", "tRUE",
        ] {
            assert_eq!(plain_kind(text), None, "{text}");
        }
    }

    #[test]
    fn a_value_is_shown_as_it_looks() {
        for (value, shown) in [
            ("80", r#""80""#),
            ("a\"b\\c\td", r#""a\"b\\c\td""#),
            ("e\u{301}\u{202e}\u{9b}", "\"e\u{301}\\u202e\\u009b\""),
            ("80\u{a0}", "\"80\u{a0}\" with a no-break space (U+00A0)"),
        ] {
            assert_eq!(quoted(value), shown);
        }
    }

    #[test]
    fn json_keeps_types_and_quotes() {
        let json = |value: &str, plain: bool| {
            json_scalar(&Text { value: value.into(), from_variable: false, plain, written: value })
        };
        for (text, expected) in [
            ("5", serde_json::json!(5)),
            ("-5", serde_json::json!(-5)),
            ("2.5", serde_json::json!(2.5)),
            ("true", serde_json::json!(true)),
            ("False", serde_json::json!(false)),
            ("18446744073709551615", serde_json::json!(u64::MAX)),
            ("text", serde_json::json!("text")),
            (".nan", serde_json::json!(".nan")),
        ] {
            assert_eq!(json(text, true), expected, "{text}");
            assert_eq!(json(text, false), serde_json::json!(text), "{text} in quotes");
        }
    }
}
