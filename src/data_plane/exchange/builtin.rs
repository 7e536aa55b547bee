//! The endpoints of the proxy itself. Health and readiness are known here, whatever the control
//! thread is doing; the rest are commands to it.

use std::{cell::Cell, time::Duration};

use crate::{
    data_plane::exchange::{
        client::ResponseWriter, condition, context::Exchange, outcome::Outcome, respond,
    },
    handoff::message::{Call, CallReply, Command, DrainStep, FromWorker},
    model::Fault,
    policy::auth::TokenCarrier as _,
    protocol::http1::Method,
    telemetry::access_log::SkippedEndpoint,
};

/// Time that a client waits for what the control thread knows: a page that takes longer is of no
/// use to a scraper any more.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Time that a client waits for a reload, which has a deadline of its own (`admin.reload_timeout`,
/// at most an hour). This bounds a control thread that hangs; calls that it drops end at once.
const RELOAD_CALL_TIMEOUT: Duration = Duration::from_mins(61);

/// Requests for the metrics page that wait for it on one core at once, until it is there: how long
/// they take to read it is of no account. They share a page, so that each costs little. A client
/// that asks again and again, and takes what it gets, shuts nobody out with all the streams of its
/// connection.
const SCRAPES_MAX: usize = 1_024;

/// An endpoint of the proxy itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Health,
    Ready,
    Metrics,
    Admin(AdminPath),
}

/// A path below `/admin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminPath {
    Reload,
    Status,
    History,
    Rollback,
    RefreshKeys,
    RefreshCredentials,
    Unknown,
}

impl AdminPath {
    /// Returns true if it changes something.
    const fn is_post(self) -> bool {
        matches!(self, Self::Reload | Self::Rollback | Self::RefreshCredentials | Self::RefreshKeys)
    }
}

impl Builtin {
    /// The endpoint that a canonical path names. Everything at and below `/admin` is one, so that
    /// a bucket at `/` never responds in its place.
    pub(crate) fn of(path: &[u8]) -> Option<Self> {
        match path {
            b"/health" => Some(Self::Health),
            b"/ready" => Some(Self::Ready),
            b"/metrics" => Some(Self::Metrics),
            b"/admin/reload" => Some(Self::Admin(AdminPath::Reload)),
            b"/admin/status" => Some(Self::Admin(AdminPath::Status)),
            b"/admin/config/history" => Some(Self::Admin(AdminPath::History)),
            b"/admin/rollback" => Some(Self::Admin(AdminPath::Rollback)),
            b"/admin/jwks/refresh" => Some(Self::Admin(AdminPath::RefreshKeys)),
            b"/admin/credentials/refresh" => Some(Self::Admin(AdminPath::RefreshCredentials)),
            _ if path == b"/admin" || path.starts_with(b"/admin/") => {
                Some(Self::Admin(AdminPath::Unknown))
            }
            _ => None,
        }
    }

    /// Methods of the endpoint, as `Allow` lists them.
    pub(crate) fn allowed(self) -> &'static str {
        match self {
            Self::Admin(path) if path.is_post() => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Its name among the endpoints that the access log can leave out.
    pub(super) fn skipped_as(self) -> Option<SkippedEndpoint> {
        match self {
            Self::Health => Some(SkippedEndpoint::Health),
            Self::Ready => Some(SkippedEndpoint::Ready),
            Self::Metrics => Some(SkippedEndpoint::Metrics),
            Self::Admin(_) => None,
        }
    }

    pub(crate) fn allows(self, method: Method, token: &[u8]) -> bool {
        match self {
            Self::Admin(path) if path.is_post() => token == b"POST",
            // Whether it exists is not for everybody to know: the token is looked at first.
            Self::Admin(AdminPath::Unknown) => method != Method::Options,
            _ => matches!(method, Method::Get | Method::Head),
        }
    }
}

/// Responds to a request for one of the endpoints, which the token with this `sub` permits.
pub(super) async fn respond(
    exchange: &Exchange<'_>,
    what: Builtin,
    subject: Option<&str>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let core = exchange.core;
    match what {
        Builtin::Health => {
            respond::page(exchange, &status_page(200, "", "healthy"), response).await
        }
        Builtin::Ready if core.open.step() >= DrainStep::NotReady => {
            respond::fault(exchange, Fault::ShuttingDown, response).await
        }
        Builtin::Ready => respond::page(exchange, &readiness(exchange), response).await,
        Builtin::Metrics if exchange.request.local.metrics_enabled => {
            metrics(exchange, response).await
        }
        Builtin::Metrics => respond::fault(exchange, Fault::NoRoute, response).await,
        Builtin::Admin(path) => match command(exchange, path) {
            Ok(command) => {
                let call = Call::Command {
                    command,
                    request_id: String::from_utf8_lossy(exchange.identity.request_id()).into(),
                    subject: subject.map(Box::from),
                    client: exchange.identity.client,
                };
                match ask(exchange, call).await {
                    Ok(page) => respond::page(exchange, &page, response).await,
                    Err(fault) => respond::fault(exchange, fault, response).await,
                }
            }
            Err(fault) => respond::fault(exchange, fault, response).await,
        },
    }
}

/// Responds with the metrics page.
async fn metrics(exchange: &Exchange<'_>, response: &mut impl ResponseWriter) -> Outcome {
    let core = exchange.core;
    let page = match core.metrics_pages.to_share(exchange.started) {
        Some(page) => page,
        None => match scrape(exchange).await {
            Ok(reply) => core.metrics_pages.add(reply, core.reactor.clock.refresh()),
            Err(fault) => return respond::fault(exchange, fault, response).await,
        },
    };
    let sent = page.recall.or(respond::page(exchange, &page.reply, response)).await;
    sent.unwrap_or_else(|| respond::recalled(page.reply.status, response))
}

/// Asks for a page, unless too many wait for one.
async fn scrape(exchange: &Exchange<'_>) -> Result<CallReply, Fault> {
    let _scrape = Scrape::begin(&exchange.core.scrapes).ok_or(Fault::TooManyScrapes)?;
    ask(exchange, Call::Metrics).await
}

/// One request for the metrics page, from its call to the reply.
struct Scrape<'c>(&'c Cell<usize>);

impl<'c> Scrape<'c> {
    fn begin(running: &'c Cell<usize>) -> Option<Self> {
        (running.get() < SCRAPES_MAX).then(|| {
            running.set(running.get() + 1);
            Self(running)
        })
    }
}

impl Drop for Scrape<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// 200 when every core serves a generation, 503 while the process starts.
fn readiness(exchange: &Exchange<'_>) -> CallReply {
    if exchange.core.all_cells.iter().all(|cells| cells.generation.get() > 0) {
        status_page(200, "", "ready")
    } else {
        status_page(503, "starting", "starting")
    }
}

fn status_page(status: u16, code: &'static str, word: &str) -> CallReply {
    let body = format!("{{\"status\":\"{word}\"}}\n").into_bytes().into();
    CallReply { status, content_type: "application/json", code, body }
}

/// The command of a permitted request.
fn command(exchange: &Exchange<'_>, path: AdminPath) -> Result<Command, Fault> {
    let request = exchange.request;
    let query = request.query();
    let if_match = condition::if_match(request.values(b"if-match"));
    let command = match path {
        AdminPath::Reload => {
            condition::dry_run(query).map(|dry_run| Command::Reload { dry_run, if_match })
        }
        AdminPath::Status => Ok(Command::Status),
        AdminPath::History => Ok(Command::History),
        AdminPath::RefreshKeys => Ok(Command::RefreshKeys),
        AdminPath::RefreshCredentials => Ok(Command::RefreshCredentials),
        AdminPath::Rollback => {
            condition::rollback_to(query).map(|to| Command::Rollback { to, if_match })
        }
        AdminPath::Unknown => return Err(Fault::AdminNotFound),
    };
    command.map_err(|condition::InvalidQuery| Fault::InvalidQuery)
}

/// Asks the control plane.
async fn ask(exchange: &Exchange<'_>, call: Call) -> Result<CallReply, Fault> {
    let core = exchange.core;
    let timeout = match &call {
        Call::Command { command: Command::Reload { .. } | Command::Rollback { .. }, .. } => {
            RELOAD_CALL_TIMEOUT
        }
        Call::Command { .. } | Call::Metrics => CALL_TIMEOUT,
    };
    let (ticket, reply) = core.commands.open();
    // When the control thread is gone the message is dropped, and with it the ticket.
    let _ = core.to_control.try_send(FromWorker::Call { worker: core.worker, ticket, call });
    let page = {
        let mut waited = std::pin::pin!(reply.wait());
        let mut timeout = std::pin::pin!(core.reactor.sleep(timeout));
        std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(reply) = waited.as_mut().poll(context) {
                return std::task::Poll::Ready(reply);
            }
            timeout.as_mut().poll(context).map(|()| None)
        })
        .await
    };
    page.ok_or_else(|| if core.is_closing() { Fault::ShuttingDown } else { Fault::NoReply })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_may_wait_for_the_metrics_page_and_their_places_are_free_again() {
        let waiting = Cell::new(0);
        for _ in 0..2 {
            let scrapes: Vec<_> = (0..2_000).map_while(|_| Scrape::begin(&waiting)).collect();
            assert_eq!(scrapes.len(), SCRAPES_MAX);
        }
        assert_eq!(waiting.get(), 0);
    }

    #[test]
    fn only_whole_segments_name_an_endpoint() {
        assert_eq!(Builtin::of(b"/health"), Some(Builtin::Health));
        assert_eq!(Builtin::of(b"/health/"), None);
        assert_eq!(Builtin::of(b"/healthy"), None);
        assert_eq!(Builtin::of(b"/administration"), None);
        assert_eq!(Builtin::of(b"/admin/x"), Some(Builtin::Admin(AdminPath::Unknown)));
        assert_eq!(Builtin::of(b"/admin"), Some(Builtin::Admin(AdminPath::Unknown)));
    }
}
