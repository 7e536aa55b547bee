//! Reading and showing of the types that most keys have.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    advice,
    declare::Value,
    keys::{Key, Preset},
    scalar::Text,
    section::Section,
};
use crate::policy::networks::{Network, NetworkError, Networks};

impl Value for bool {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.boolean(key.name)
    }

    fn shown(&self, _key: &Key) -> String {
        self.to_string()
    }
}

macro_rules! integers {
    ($($Integer:ty),+) => {$(
        impl Value for $Integer {
            fn read(section: Section<'_>, key: &'static Key) -> Self {
                <Option<Self> as Value>::read(section, key).unwrap_or_default()
            }

            fn shown(&self, _key: &Key) -> String {
                self.to_string()
            }
        }

        impl Value for Option<$Integer> {
            fn read(section: Section<'_>, key: &'static Key) -> Self {
                let number = section.integer(key.name).ok().flatten()?;
                <$Integer>::try_from(number).ok()
            }

            fn shown(&self, key: &Key) -> String {
                shown_or_default(self.as_ref(), key)
            }
        }
    )+};
}

integers!(u16, u32, u64, usize);

impl Value for Duration {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.seconds(key.name).unwrap_or_default()
    }
}

impl Value for String {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.text(key.name).unwrap_or_default()
    }
}

/// Text whose absence means "not checked".
impl Value for Option<String> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.security_text(key.name).ok().flatten().map(|text| text.value.into_owned())
    }
}

impl Value for Vec<String> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.texts(key.name)
    }

    fn is_same(&self, new: &Self, key: &Key) -> bool {
        if key.any_order { in_order(self) == in_order(new) } else { self == new }
    }
}

/// The texts of a list whose order means nothing, each once.
pub(super) fn in_order(texts: &[String]) -> BTreeSet<&str> {
    texts.iter().map(String::as_str).collect()
}

/// The content of a file.
impl Value for Option<Vec<u8>> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        section.named_file(key.name).ok().flatten().map(|content| content.to_vec())
    }
}

impl Value for IpAddr {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        parsed(
            section,
            key,
            "expected an IPv4 or IPv6 address, without brackets and without a port",
            advice::address,
        )
        .unwrap_or(Self::V4(Ipv4Addr::UNSPECIFIED))
    }

    fn shown(&self, _key: &Key) -> String {
        self.to_string()
    }
}

impl Value for Option<SocketAddr> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        parsed(
            section,
            key,
            "expected an IP address and a port, such as 127.0.0.1:9090 or [::1]:9090",
            advice::socket_address,
        )
    }

    fn shown(&self, key: &Key) -> String {
        shown_or_default(self.as_ref(), key)
    }
}

impl Value for Networks {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let networks = section.parsed_texts(key.name, |text| network(&text));
        if networks.iter().any(Network::is_everything) {
            section.warning(
                key.name,
                "holds every address of a version of IP, so each client is believed; write the \
                 addresses of your proxies only",
            );
        }
        networks.into_iter().collect()
    }
}

fn network(text: &Text<'_>) -> Result<Network, String> {
    Network::parse(&text.value).map_err(|error| match error {
        NetworkError::Bits(network) if !text.from_variable => {
            format!("has bits set behind its prefix; write {network}")
        }
        NetworkError::Bits(_) => "has bits set behind its prefix; write them as 0".to_owned(),
        NetworkError::Prefix(bits) => {
            format!("has a prefix that is longer than its address; write at most /{bits}")
        }
        NetworkError::Form => format!(
            "expected an IP address or a network, such as 10.0.0.0/8 or 2001:db8::/32, found {}",
            text.shown()
        ),
    })
}

/// Longest name that is a label of metrics, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Checks a name that is a label of metrics.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    const _: () = assert!(NAME_BYTES_MAX == 128);
    if name.len() > NAME_BYTES_MAX {
        return Err("is longer than 128 bytes; shorten it");
    }
    if name.chars().any(char::is_control) || name.trim() != name {
        return Err("holds a control character, or white space at an end; remove it");
    }
    Ok(())
}

/// Text with a form of its own. A number without quotes lacks more than the quotes, so the form is
/// told at once.
fn parsed<T: std::str::FromStr>(
    section: Section<'_>,
    key: &Key,
    expected: &str,
    advice: fn(&Text<'_>) -> String,
) -> Option<T> {
    let written = section.scalar(key.name).ok()?.filter(|text| !text.value.is_empty());
    let text = match (written, key.default) {
        (Some(text), _) => text,
        (None, Preset::Is(default)) => Text::preset(default),
        (None, _) => return None,
    };
    let value = text.value.parse().ok();
    if value.is_none() {
        section.error(key.name, format!("{expected}, found {}{}", text.shown(), advice(&text)));
    }
    value
}

fn shown_or_default(value: Option<&impl ToString>, key: &Key) -> String {
    match (value, key.default) {
        (Some(value), _) => value.to_string(),
        (None, Preset::Otherwise(words)) if !words.is_empty() => words.to_owned(),
        (None, _) => "nothing".to_owned(),
    }
}
