//! Advice on values that another program would have taken: `10s`, `64k`, `on`, `hs256`. Nothing is
//! derived from a value that a message may not show.

use std::time::Duration;

use super::scalar::{Text, plain_kind};

/// Words for true and false elsewhere: YAML 1.1, nginx, environments.
const TRUE: [&str; 6] = ["true", "yes", "on", "y", "1", "enabled"];
const FALSE: [&str; 6] = ["false", "no", "off", "n", "0", "disabled"];

/// Units of time, in seconds: those of nginx, Go and systemd.
const TIMES: [(&str, f64); 12] = [
    ("", 1.0),
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("sec", 1.0),
    ("seconds", 1.0),
    ("m", 60.0),
    ("min", 60.0),
    ("minutes", 60.0),
    ("h", 3_600.0),
    ("hours", 3_600.0),
    ("d", 86_400.0),
];

/// Units of memory, in bytes. A bare `k` is 1024, as in nginx and `HAProxy`.
const SIZES: [(&str, u64); 13] = [
    ("", 1),
    ("b", 1),
    ("bytes", 1),
    ("k", 1 << 10),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("ki", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("mi", 1 << 20),
    ("g", 1 << 30),
    ("gib", 1 << 30),
];

/// Names of operators elsewhere.
const OPERATORS: [(&str, &str); 20] = [
    ("=", "equals"),
    ("==", "equals"),
    ("===", "equals"),
    ("eq", "equals"),
    ("equal", "equals"),
    ("is", "equals"),
    ("!=", "not_equals"),
    ("<>", "not_equals"),
    ("ne", "not_equals"),
    ("neq", "not_equals"),
    (">", "gt"),
    (">=", "gte"),
    ("ge", "gte"),
    ("<", "lt"),
    ("<=", "lte"),
    ("le", "lte"),
    ("one_of", "in"),
    ("has", "contains"),
    ("includes", "contains"),
    ("present", "exists"),
];

/// Levels and formats of logs and content codings elsewhere.
const WORDS: [(&str, &str); 10] = [
    ("nginx", "combined"),
    ("apache", "combined"),
    ("common", "combined"),
    ("brotli", "br"),
    ("zstandard", "zstd"),
    ("warning", "warn"),
    ("err", "error"),
    ("crit", "error"),
    ("fatal", "error"),
    ("notice", "info"),
];

/// Advice behind "expected true or false".
pub(super) fn boolean(text: &Text<'_>) -> String {
    let word = text.value.trim().to_lowercase();
    let meant = if TRUE.contains(&&*word) {
        Some("true")
    } else if FALSE.contains(&&*word) {
        Some("false")
    } else {
        None
    };
    write_plain(text, meant.filter(|_| text.may_be_shown()))
}

/// Advice behind "expected a whole number", which has this unit.
pub(super) fn integer(text: &Text<'_>, unit: &str) -> String {
    if !text.may_be_shown() {
        return String::new();
    }
    let compact: String =
        text.value.chars().filter(|c| !matches!(c, '_' | ',' | ' ' | '\u{a0}')).collect();
    let digits = compact.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, suffix) = compact.split_at(digits);
    let Ok(number) = digits.parse::<u64>() else { return String::new() };
    let written = match unit {
        "bytes" => {
            let size = SIZES.iter().find(|(name, _)| suffix.eq_ignore_ascii_case(name));
            size.and_then(|(_, factor)| number.checked_mul(*factor))
        }
        "seconds" => seconds_in(&compact)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|time| time.subsec_nanos() == 0)
            .map(|time| time.as_secs()),
        _ => Some(number).filter(|_| suffix.is_empty()),
    };
    write_plain(text, written)
}

/// Advice behind "expected a number of seconds".
pub(super) fn seconds(text: &Text<'_>) -> String {
    if !text.may_be_shown() {
        return String::new();
    }
    write_plain(text, seconds_in(text.value.trim()))
}

fn seconds_in(text: &str) -> Option<f64> {
    let number = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(number);
    let factor = TIMES.iter().find(|(name, _)| unit.trim().eq_ignore_ascii_case(name))?.1;
    Some(number.parse::<f64>().ok()? * factor)
}

/// The same for a value that must not stand in quotes.
fn write_plain(text: &Text<'_>, value: Option<impl ToString>) -> String {
    let advice = write(value);
    if advice.is_empty() || text.plain { advice } else { advice + " without quotes" }
}

fn write(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| format!("; write {}", value.to_string()))
}

/// Advice behind "expected one of" these words.
pub(super) fn choice(text: &Text<'_>, words: &[&str]) -> String {
    if !text.may_be_shown() {
        return String::new();
    }
    let value = text.value.trim();
    let same = words.iter().find(|word| word.eq_ignore_ascii_case(value));
    let elsewhere = || {
        let known = OPERATORS.iter().chain(&WORDS);
        let mut meant = known.filter(|(name, _)| name.eq_ignore_ascii_case(value));
        meant.find_map(|(_, word)| words.iter().find(|known| *known == word))
    };
    let switch = || {
        let folded = value.to_lowercase();
        let meant = [(TRUE, "require"), (FALSE, "none")];
        let meant = meant.into_iter().find(|(known, _)| known.contains(&&*folded))?.1;
        words.iter().find(|word| **word == meant)
    };
    // `TLSv1.2` and `uring` say it with more or less; two letters stand in too many words.
    let part = || {
        let holds = |one: &str, other: &str| other.len() >= 3 && one.contains(other);
        let mut parts = words.iter().filter(|word| holds(value, word) || holds(word, value));
        parts.next().filter(|_| parts.next().is_none())
    };
    // A short word is soon made of any other one.
    let close = || {
        let near =
            |word: &&&str| strsim::damerau_levenshtein(value, word) <= (value.len() / 4).min(2);
        words.iter().find(near)
    };
    same.or_else(elsewhere)
        .or_else(switch)
        .or_else(part)
        .or_else(close)
        .map_or_else(String::new, |word| format!("; write {word}"))
}

/// Advice behind an address to listen on that is none.
pub(super) fn socket_address(text: &Text<'_>) -> String {
    if !text.may_be_shown() {
        return String::new();
    }
    let value = text.value.trim();
    let port = |text: &str| text.parse::<u16>().ok();
    let written = match value.rsplit_once(':') {
        _ if text.plain && plain_kind(value).is_some() => {
            port(value).map(|port| format!("127.0.0.1:{port}, or 0.0.0.0:{port} for every address"))
        }
        Some(("" | "*", after)) => port(after).map(|port| format!("0.0.0.0:{port}")),
        Some(("localhost", after)) => port(after).map(|port| format!("127.0.0.1:{port}")),
        _ => None,
    };
    write(written)
}

/// Advice behind an address to listen on, without a port, that is none.
pub(super) fn address(text: &Text<'_>) -> String {
    if !text.may_be_shown() {
        return String::new();
    }
    let value = text.value.trim();
    let words = match value {
        "localhost" => "127.0.0.1",
        "*" | "any" | "all" => "0.0.0.0",
        _ if value.parse::<std::net::SocketAddr>().is_ok() => {
            "the port into server.port, and the address alone here"
        }
        _ => return String::new(),
    };
    write(Some(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(value: &str) -> Text<'_> {
        Text { value: value.into(), from_variable: false, plain: true, written: value }
    }

    #[test]
    fn units_become_numbers() {
        for (value, want) in [
            ("10s", "; write 10"),
            ("500ms", "; write 0.5"),
            ("5m", "; write 300"),
            ("1 h", "; write 3600"),
            ("1.5min", "; write 90"),
            ("30", "; write 30"),
            ("ten", ""),
            ("5 fortnights", ""),
            ("", ""),
        ] {
            assert_eq!(seconds(&plain(value)), want, "{value}");
        }
        for (value, unit, want) in [
            ("64k", "bytes", "; write 65536"),
            ("1MB", "bytes", "; write 1000000"),
            ("16 KiB", "bytes", "; write 16384"),
            ("65_536", "bytes", "; write 65536"),
            ("10,000", "connections", "; write 10000"),
            ("0080", "", "; write 80"),
            ("80\u{a0}", "", "; write 80"),
            ("10m", "seconds", "; write 600"),
            ("500ms", "seconds", ""),
            ("64k", "connections", ""),
            ("99999999999999999999", "bytes", ""),
            ("18446744073709551615k", "bytes", ""),
            ("https", "", ""),
        ] {
            assert_eq!(integer(&plain(value), unit), want, "{value} {unit}");
        }
    }

    #[test]
    fn words_become_those_of_the_file() {
        for (value, want) in [
            ("yes", "; write true"),
            ("OFF", "; write false"),
            ("0", "; write false"),
            ("maybe", ""),
        ] {
            assert_eq!(boolean(&plain(value)), want, "{value}");
        }
        let operators = ["equals", "not_equals", "in", "gte", "exists"];
        for (value, want) in [
            ("==", "; write equals"),
            ("!=", "; write not_equals"),
            (">=", "; write gte"),
            ("<", ""),
            ("Equals", "; write equals"),
            ("exsits", "; write exists"),
            ("im", ""),
            ("regex", ""),
        ] {
            assert_eq!(choice(&plain(value), &operators), want, "{value}");
        }
        let quoted = Text { plain: false, ..plain("on") };
        assert_eq!(boolean(&quoted), "; write true without quotes");
        assert_eq!(choice(&plain("hs256"), &["HS256", "HS384"]), "; write HS256");
        assert_eq!(choice(&plain("TLSv1.2"), &["1.2", "1.3"]), "; write 1.2");
        assert_eq!(choice(&plain("uring"), &["auto", "io_uring", "epoll"]), "; write io_uring");
        assert_eq!(choice(&plain("256"), &["HS256", "RS256"]), "");
        assert_eq!(choice(&plain("true"), &["none", "require"]), "; write require");
        assert_eq!(choice(&plain("off"), &["none", "warn", "require"]), "; write none");
        assert_eq!(choice(&plain("true"), &["1.2", "1.3"]), "");
        assert_eq!(choice(&plain("WARNING"), &["error", "warn"]), "; write warn");
    }

    #[test]
    fn addresses_get_what_they_lack() {
        for (value, want) in [
            ("9090", "; write 127.0.0.1:9090, or 0.0.0.0:9090 for every address"),
            (":9090", "; write 0.0.0.0:9090"),
            ("localhost:9090", "; write 127.0.0.1:9090"),
            ("70000", ""),
            ("admin.internal:1", ""),
        ] {
            assert_eq!(socket_address(&plain(value)), want, "{value}");
        }
        assert_eq!(address(&plain("localhost")), "; write 127.0.0.1");
        assert!(address(&plain("0.0.0.0:8080")).starts_with("; write the port into server.port"));
    }

    #[test]
    fn nothing_is_derived_from_a_variable() {
        let text = |value: &'static str| Text { from_variable: true, ..plain(value) };
        let advice = [
            boolean(&text("yes")),
            integer(&text("64k"), "bytes"),
            seconds(&text("10s")),
            choice(&text("HS256"), &["HS256"]),
            socket_address(&text("9090")),
            address(&text("localhost")),
        ];
        assert!(advice.iter().all(String::is_empty), "{advice:?}");
    }
}
