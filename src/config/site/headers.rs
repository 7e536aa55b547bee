//! `server.headers` and `buckets[].headers`: changes to the fields of responses.

use crate::{
    config::{
        declare::{Value, declare},
        keys::{Key, keys, map, text, texts},
        scalar::found,
        section::Section,
        site::{cors::CorsSettings, media_range::media_range},
        walk::{At, Noted},
        yaml::{Entry, Node, Shape, shown_key},
    },
    policy::site::headers::{
        Choice, FieldError, FieldName, FieldRule, HeaderRules, NamePattern, check_value,
    },
};

/// Most names in `set` and in `add`, and most values of one name. Every response goes through all
/// of them.
const RULES_MAX: usize = 64;

/// Most names in `remove`.
const REMOVED_MAX: usize = 64;

/// Names and values of a section together, in bytes: clients refuse heads that are much longer.
const SECTION_BYTES_MAX: usize = 16_384;

declare! {
    /// `headers` of all buckets, or of one.
    pub struct HeadersSettings, check = check_size {
        /// Fields that replace those of S3 and of the proxy, each with a value, or with a list of
        /// values for some objects.
        set: FieldRules = map("header fields"),
        /// Fields beside those that there are, in the same form.
        add: FieldRules = map("header fields"),
        /// Fields that are left out; `x-amz-*` is all that begin so.
        remove: Vec<NamePattern> = texts().otherwise("none"),
    }
}

impl HeadersSettings {
    /// The same as rules.
    pub fn rules(&self) -> HeaderRules {
        HeaderRules {
            set: self.set.0.clone(),
            add: self.add.0.clone(),
            remove: self.remove.clone(),
        }
    }

    /// Names that are set or added, with their key.
    pub fn written(&self) -> impl Iterator<Item = (&'static str, &FieldName)> {
        let set = self.set.0.iter().map(|rule| ("set", &rule.name));
        set.chain(self.add.0.iter().map(|rule| ("add", &rule.name)))
    }
}

fn check_size(headers: &HeadersSettings, section: Section<'_>) {
    let bytes_of = |rule: &FieldRule| {
        let value_bytes = |choice: &Choice| rule.name.as_str().len() + choice.value.len();
        rule.choices.iter().map(value_bytes).sum::<usize>()
    };
    let bytes: usize = headers.set.0.iter().chain(&headers.add.0).map(bytes_of).sum();
    if bytes > SECTION_BYTES_MAX {
        section.error_here(format!(
            "has more than {SECTION_BYTES_MAX} bytes of names and values; shorten them"
        ));
    }
}

/// `headers.set` and `headers.add`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRules(pub Vec<FieldRule>);

/// A value that is for some objects only.
const CHOICE: &[Key] = keys! {
    /// Value of the field.
    value = text().required(),
    /// Media types that it is for.
    types = texts(),
    /// Ends of object keys that it is for.
    suffixes = texts(),
};

impl Value for FieldRules {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let at = At::Key(section.at, key.name);
        let mut rules: Vec<FieldRule> = Vec::new();
        for entry in section.mapping(key.name) {
            let at = At::Key(&at, &entry.key);
            let Ok(rule) = read_rule(section, entry, &at) else { continue };
            if key.name == "add" && rule.name.is_single() {
                let message = "is in a response once only; write it in set";
                section.walk.error(at.to_string(), entry.line, message.to_owned());
            }
            if rules.iter().any(|known| known.name.is(rule.name.as_str().as_bytes())) {
                let message = "is written twice, in another case; keep one of them";
                section.walk.error(at.to_string(), entry.line, message.to_owned());
            }
            rules.push(rule);
        }
        if rules.len() > RULES_MAX {
            section.error(key.name, format!("has more than {RULES_MAX} names; shorten it"));
        }
        Self(rules)
    }
}

fn read_rule<'a>(
    section: Section<'a>,
    entry: &'a Entry<'a>,
    at: &At<'_>,
) -> Result<FieldRule, Noted> {
    let error = |at: &At<'_>, line: usize, message: String| -> Noted {
        section.walk.error(at.to_string(), line, message)
    };
    let name = FieldName::parse(&entry.key).map_err(|problem| {
        let is_cut = shown_key(&entry.key).is_some_and(|shown| shown.len() < entry.key.len());
        let message = if is_cut && problem == FieldError::Name {
            "goes on behind what is shown of it, with what no name of a header field has; write \
             letters, digits and dashes, such as Cache-Control"
                .to_owned()
        } else {
            problem.to_string()
        };
        error(at, entry.line, message)
    })?;
    let choices = match entry.value.shape() {
        Shape::Sequence(items) if items.is_empty() => {
            return Err(error(at, entry.line, "is empty; write values, or remove it".to_owned()));
        }
        Shape::Sequence(items) if items.len() > RULES_MAX => {
            let message = format!("has more than {RULES_MAX} values; shorten it");
            return Err(error(at, entry.line, message));
        }
        Shape::Sequence(items) => {
            let mut choices = Vec::new();
            for (index, item) in items.iter().enumerate() {
                choices.extend(read_choice(section, item, &At::Index(at, index), item.line).ok());
            }
            choices
        }
        Shape::Scalar(_) | Shape::Mapping(_) => {
            vec![read_choice(section, &entry.value, at, entry.line)?]
        }
    };
    Ok(FieldRule { name, choices })
}

fn read_choice<'a>(
    section: Section<'a>,
    node: &'a Node<'a>,
    at: &At<'_>,
    line: usize,
) -> Result<Choice, Noted> {
    let walk = section.walk;
    match node.shape() {
        Shape::Mapping(_) => {
            let choice = Section::open(walk, CHOICE, at, line, Some(node));
            let types = choice.parsed_texts("types", |text| media_range(&text));
            let suffixes = choice.parsed_texts("suffixes", |text| Ok(text.value.as_ref().into()));
            for name in ["types", "suffixes"] {
                if choice.has(name) && choice.is_empty_list(name) {
                    choice.error(name, "is empty; write some, or remove it for any");
                }
            }
            let value = choice.text("value")?;
            check_value(&value).map_err(|problem| choice.error("value", problem.to_string()))?;
            Ok(Choice { value: value.into(), types, suffixes })
        }
        Shape::Scalar(_) => match section.text_at(node, at, line)? {
            None => {
                let message = "is null; write a value, or name the field in remove";
                Err(walk.error(at.to_string(), line, message.to_owned()))
            }
            Some(text) => {
                check_value(&text.value).map_err(|problem| {
                    walk.error_of(node, at.to_string(), line, problem.to_string())
                })?;
                let value = text.value.as_ref().into();
                Ok(Choice { value, types: Vec::new(), suffixes: Vec::new() })
            }
        },
        other @ Shape::Sequence(_) => {
            let message = format!("expected a value or a mapping, found {}", found(other));
            Err(walk.error(at.to_string(), line, message))
        }
    }
}

impl Value for Vec<NamePattern> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let mut names = section.parsed_texts(key.name, |text| {
            NamePattern::parse(&text.value).map_err(|problem| problem.to_string())
        });
        if names.len() > REMOVED_MAX {
            section.error(key.name, format!("has more than {REMOVED_MAX} names; shorten it"));
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Notes fields of a bucket that its `cors` makes.
pub(crate) fn check_fields(cors: &CorsSettings, headers: &HeadersSettings, section: Section<'_>) {
    const OF_CORS: &str = "access-control-";

    if cors.origins.is_empty() {
        return;
    }
    let is_of_cors =
        |name: &str| name.get(..OF_CORS.len()).is_some_and(|it| it.eq_ignore_ascii_case(OF_CORS));
    for (key, name) in headers.written().filter(|(_, name)| is_of_cors(name.as_str())) {
        section.error(
            "headers",
            format!("{key} holds {}, which cors writes; remove it, or cors", name.as_str()),
        );
    }
}
