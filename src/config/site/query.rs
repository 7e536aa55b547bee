//! `allow_query` of a bucket.

use crate::{
    config::{declare::Value, keys::Key, scalar::Text, section::Section},
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
        let names = Parameter::ALL.map(Parameter::name).join(", ");
        format!("expected one of {names}, found {}", text.shown())
    })
}

/// Notes parameters that S3 refuses in the requests of this bucket.
pub(in crate::config) fn check_query(
    parameters: &QueryParameters,
    is_anonymous: bool,
    section: Section<'_>,
) {
    let has_override = parameters.0.iter().any(|parameter| parameter.is_override());
    if has_override && is_anonymous && !section.is_noted("s3") {
        section.error(
            "allow_query",
            "lets response-* through, which S3 takes in signed requests only; remove those, or \
             write credentials in place of s3.anonymous",
        );
    }
}
