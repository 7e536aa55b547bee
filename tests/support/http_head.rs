//! A strict parser of HTTP/1 heads (RFC 9112 sections 2 to 5): whatever it does not understand
//! completely is an error, because here it is the proxy that is being judged.

/// Header fields in the order of the wire, names as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields(pub(crate) Vec<(String, String)>);

impl Fields {
    /// The value of a field that must not appear twice.
    ///
    /// # Panics
    /// If it appears twice.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let values = self.all(name);
        assert!(values.len() <= 1, "{name} appears more than once: {values:?}");
        values.first().copied()
    }

    /// All values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// Whether the field is there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// Names in lower case, sorted, each once.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.iter().map(|(n, _)| n.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Start line and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The first line without its CRLF.
    pub(crate) start: String,
    /// The header fields.
    pub(crate) fields: Fields,
}

/// Length of the head at the start of `bytes` with its empty line, if it is complete.
pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Parses a complete head, empty line included.
pub(crate) fn parse(bytes: &[u8]) -> Result<Head, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))?;
    let text = text.strip_suffix("\r\n\r\n").ok_or("no empty line at the end")?;
    let mut lines = text.split("\r\n");
    let start = line(lines.next().unwrap_or_default())?.to_owned();
    if start.is_empty() {
        return Err("empty start line".to_owned());
    }
    let fields = lines.map(|raw| field(line(raw)?)).collect::<Result<_, _>>()?;
    Ok(Head { start, fields: Fields(fields) })
}

/// A line without stray line ends or control characters.
fn line(raw: &str) -> Result<&str, String> {
    match raw.chars().find(|c| c.is_control() && *c != '\t') {
        Some(control) => Err(format!("control character {control:?} in {raw:?}")),
        None => Ok(raw),
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err(format!("bad field name in {line:?}"));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
