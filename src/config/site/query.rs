//! `allow_query` of a bucket.

use crate::{
    config::{advice, declare::Value, keys::Key, scalar::Text, section::Section},
    policy::site::query::Parameter,
};

/// `buckets[].allow_query`: parameters in the order of their names, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryParameters(pub Vec<Parameter>);

impl Value for QueryParameters {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let mut parameters = section.parsed_texts(key.name, |text| parameter(&text));
        parameters.sort_unstable();
        parameters.dedup();
        Self(parameters)
    }
}

fn parameter(text: &Text<'_>) -> Result<Parameter, String> {
    let is_it = |parameter: &Parameter| parameter.name() == text.value;
    Parameter::ALL.into_iter().find(is_it).ok_or_else(|| {
        let names = Parameter::ALL.map(Parameter::name);
        let advice = advice::choice(text, &names);
        format!("expected one of {}, found {}{advice}", names.join(", "), text.shown())
    })
}
