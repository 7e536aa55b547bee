//! The sections about the process: `server`, `admin`, `metrics`, `logging`, `reload`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    section::Section,
    settings::{
        AccessLogFormat, AccessLogSettings, AccessLogTarget, AdminSettings, LogLevel,
        LoggingSettings, MetricsSettings, PerBucket, ReloadSettings, ServerSettings,
    },
};
use crate::{
    model::limits::{Limits, Timeouts},
    system::ring::IoChoice,
};

pub(super) fn server(section: Section<'_>) -> ServerSettings {
    let address = section.checked("address", |text| {
        text.parse::<IpAddr>()
            .map_err(|_| "expected an IPv4 or IPv6 address, without brackets and without a port")
    });
    let threads = section.optional_integer("threads").ok().flatten();
    ServerSettings {
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        port: u16::try_from(section.integer("port")).unwrap_or_default(),
        threads: threads.and_then(|threads| usize::try_from(threads).ok()),
        max_connections: section.size("max_connections"),
        io: section.choice("io", IoChoice::parse).unwrap_or(IoChoice::Auto),
        limits: section.section("limits", limits),
        timeouts: section.section("timeouts", timeouts),
        expose_generation: section.boolean("expose_generation"),
    }
}

fn limits(section: Section<'_>) -> Limits {
    let limits = Limits {
        header_bytes: section.size("header_bytes"),
        uri_bytes: section.size("uri_bytes"),
        headers: section.size("headers"),
        body_bytes: section.integer("body_bytes"),
    };
    // A stand-in is 0 and has been noted already.
    if limits.header_bytes > 0 && limits.uri_bytes > limits.header_bytes {
        section.error(
            "uri_bytes",
            "is more than header_bytes, which includes the request target; lower it, or raise \
             header_bytes",
        );
    }
    limits
}

fn timeouts(section: Section<'_>) -> Timeouts {
    Timeouts {
        client_header: section.seconds("client_header"),
        client_idle: section.seconds("client_idle"),
        client_write: section.seconds("client_write"),
        drain_delay: section.seconds("drain_delay"),
        drain_idle: section.seconds("drain_idle"),
        drain: section.seconds("drain"),
    }
}

pub(super) fn admin(section: Section<'_>) -> AdminSettings {
    let listen = section.optional_text("listen").ok().flatten();
    let listen = listen.and_then(|text| {
        let address = text.value.parse::<SocketAddr>();
        if address.is_err() {
            section.error(
                "listen",
                "expected an IP address and a port, such as 127.0.0.1:9090 or [::1]:9090",
            );
        }
        address.ok()
    });
    AdminSettings { listen, reload_timeout: section.seconds("reload_timeout") }
}

pub(super) fn metrics(section: Section<'_>) -> MetricsSettings {
    MetricsSettings {
        enabled: section.boolean("enabled"),
        per_bucket: section.choice("per_bucket", PerBucket::parse).unwrap_or(PerBucket::Auto),
    }
}

pub(super) fn logging(section: Section<'_>) -> LoggingSettings {
    LoggingSettings {
        level: section.choice("level", LogLevel::parse).unwrap_or(LogLevel::Info),
        access_log: section.section("access_log", access_log),
    }
}

fn access_log(section: Section<'_>) -> AccessLogSettings {
    let path = section.checked("path", |text| {
        if text.contains('\0') { Err("a path holds no NUL character") } else { Ok(text.to_owned()) }
    });
    let format = section.choice("format", |name| (name == "json").then_some(AccessLogFormat::Json));
    AccessLogSettings {
        enabled: section.boolean("enabled"),
        target: match path {
            Ok(path) if path != "-" => AccessLogTarget::File(path.into()),
            _ => AccessLogTarget::Stdout,
        },
        format: format.unwrap_or(AccessLogFormat::Json),
    }
}

pub(super) fn reload(section: Section<'_>) -> ReloadSettings {
    ReloadSettings { watch: section.boolean("watch") }
}
