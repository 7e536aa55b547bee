//! Lines that the operator's own text makes, with the values of fields in it.

use super::{field::Field, record::AccessRecord, second::Second, value::Value};

/// Longest template, in bytes: all fields with some text around each.
pub const TEMPLATE_BYTES_MAX: usize = 4_096;

/// A field, and the text before its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) before: Box<[u8]>,
    pub(super) field: Field,
}

/// Text with places for values: `{name}` of a field. `{{` and `}}` are the characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Box<[Piece]>,
    after: Box<[u8]>,
}

/// Reason why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError<'t> {
    /// It is longer than [`TEMPLATE_BYTES_MAX`].
    TooLong,
    /// It holds a line break or another control character.
    ControlCharacter,
    /// A `{` without its `}`.
    Open,
    /// A `}` without its `{`.
    Closed,
    /// No field has this name.
    Unknown(&'t str),
    /// It names no field, so all lines would be alike.
    NoField,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError<'_>> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(TemplateError::ControlCharacter);
        }
        let (mut pieces, mut before) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (plain, tail) = rest.split_at(at);
            before.extend_from_slice(plain.as_bytes());
            if let Some(tail) = tail.strip_prefix("{{") {
                before.push(b'{');
                rest = tail;
            } else if let Some(tail) = tail.strip_prefix("}}") {
                before.push(b'}');
                rest = tail;
            } else {
                let inner = tail.strip_prefix('{').ok_or(TemplateError::Closed)?;
                let (name, tail) = inner.split_once('}').ok_or(TemplateError::Open)?;
                let field = Field::named(name).ok_or(TemplateError::Unknown(name))?;
                pieces.push(Piece { before: std::mem::take(&mut before).into(), field });
                rest = tail;
            }
        }
        before.extend_from_slice(rest.as_bytes());
        if pieces.is_empty() {
            return Err(TemplateError::NoField);
        }
        Ok(Self { pieces: pieces.into(), after: before.into() })
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(super) fn write(&self, record: &AccessRecord<'_>, second: &mut Second, out: &mut Vec<u8>) {
        for Piece { before, field } in &self.pieces {
            out.extend_from_slice(before);
            Value::of(*field, record).write_inside(second, out);
        }
        out.extend_from_slice(&self.after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(template: &str) -> String {
        let mut out = Vec::new();
        let template = Template::parse(template).unwrap();
        template.write(&AccessRecord::EXAMPLE, &mut Second::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_take_the_places_of_their_names() {
        assert_eq!(
            line("{client.address} \"{method} {path}\" {status} {duration_ms} {code} ü"),
            "203.0.113.9 \"GET /products/a%20b.jpg\" 200 1.234 - ü"
        );
        assert_eq!(line("{{\"status\":{status}}}"), "{\"status\":200}");
        assert_eq!(line("{status}{status}"), "200200");
    }

    #[test]
    fn what_is_no_template_is_refused_with_the_reason() {
        let long = "x".repeat(TEMPLATE_BYTES_MAX + 1);
        for (text, error) in [
            ("{nobody}", TemplateError::Unknown("nobody")),
            ("{}", TemplateError::Unknown("")),
            ("{status", TemplateError::Open),
            ("{status} {", TemplateError::Open),
            ("{status}}", TemplateError::Closed),
            ("status", TemplateError::NoField),
            ("", TemplateError::NoField),
            ("{{status}}", TemplateError::NoField),
            ("{status}\n", TemplateError::ControlCharacter),
            ("{status}\u{85}", TemplateError::ControlCharacter),
            (&long, TemplateError::TooLong),
        ] {
            assert_eq!(Template::parse(text), Err(error), "{text}");
        }
    }
}
