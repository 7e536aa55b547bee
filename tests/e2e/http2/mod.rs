//! HTTP/2 towards clients: what is served, what is refused, floods, back-pressure, the end, and
//! frames at random.

mod drain;
mod fields;
mod floods;
mod flow;
mod limits;
mod random;
mod serve;
mod tls;

use crate::support::{config::Config, proxy::Proxy, scripted_origin::ScriptedOrigin};

/// One open bucket `products` at this origin, with HTTP/2 on the main port.
fn cleartext(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url()).set("server.http2.cleartext", true)
}

/// The same, running.
fn proxy(origin: &ScriptedOrigin) -> Proxy {
    Proxy::start(&cleartext(origin))
}
