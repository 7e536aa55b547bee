//! The endpoints of the proxy itself. Health and readiness are answered here, whatever the control
//! thread is doing; the rest is asked of it.

use std::{cell::Cell, time::Duration};

use crate::{
    data_plane::exchange::{Exchange, Next, condition, record, respond},
    handoff::message::{Answer, Call, DrainStep, FromWorker, Order},
    model::Fault,
    policy::auth::permit_admin,
    protocol::http1::Method,
};

/// How long a client waits for what the control thread knows: a page that takes longer is of no use
/// to a scraper any more.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client waits for a reload, which has a deadline of its own (`admin.reload_timeout`, at
/// most an hour). This bounds a control thread that hangs; calls that it drops end at once.
const RELOAD_CALL_TIMEOUT: Duration = Duration::from_mins(61);

/// Requests for the metrics page that one core serves at once. Those that wait share a page, and one
/// that reads slowly holds its own: with a thousand buckets some megabytes.
const SCRAPES_MAX: usize = 16;

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
    Unknown,
}

impl Builtin {
    /// The endpoint that a canonical path names. Everything at and below `/admin` is one, so that
    /// a bucket at `/` never answers in its place.
    pub(crate) fn of(path: &[u8]) -> Option<Self> {
        match path {
            b"/health" => Some(Self::Health),
            b"/ready" => Some(Self::Ready),
            b"/metrics" => Some(Self::Metrics),
            b"/admin/reload" => Some(Self::Admin(AdminPath::Reload)),
            b"/admin/status" => Some(Self::Admin(AdminPath::Status)),
            b"/admin/config/history" => Some(Self::Admin(AdminPath::History)),
            b"/admin/rollback" => Some(Self::Admin(AdminPath::Rollback)),
            _ if path == b"/admin" || path.starts_with(b"/admin/") => {
                Some(Self::Admin(AdminPath::Unknown))
            }
            _ => None,
        }
    }

    /// Methods of the endpoint, as `Allow` lists them.
    pub(crate) fn allowed(self) -> &'static str {
        match self {
            Self::Admin(AdminPath::Reload | AdminPath::Rollback) => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    pub(crate) fn allows(self, method: Method, token: &[u8]) -> bool {
        match self {
            Self::Admin(AdminPath::Reload | AdminPath::Rollback) => token == b"POST",
            // Whether it exists is not for everybody to know: the token is looked at first.
            Self::Admin(AdminPath::Unknown) => method != Method::Options,
            _ => matches!(method, Method::Get | Method::Head),
        }
    }
}

/// Answers a request for one of the endpoints.
pub(crate) async fn answer(exchange: &mut Exchange<'_>, what: Builtin) -> Next {
    match what {
        Builtin::Health => respond::answer(exchange, &status_page(200, "", "healthy")).await,
        Builtin::Ready if exchange.core.open.step() >= DrainStep::NotReady => {
            respond::fault(exchange, Fault::ShuttingDown).await
        }
        Builtin::Ready => {
            let page = readiness(exchange);
            respond::answer(exchange, &page).await
        }
        Builtin::Metrics if exchange.local.metrics_enabled => {
            let core = exchange.core;
            match Scrape::begin(&core.scrapes) {
                Some(_scrape) => call(exchange, Call::Metrics).await,
                None => respond::fault(exchange, Fault::TooManyScrapes).await,
            }
        }
        Builtin::Metrics => respond::fault(exchange, Fault::NoRoute).await,
        Builtin::Admin(path) => admin(exchange, path).await,
    }
}

/// One request for the metrics page, from its call to the last byte of the page.
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

/// 200 when every core serves a generation, 503 while the process stops.
fn readiness(exchange: &Exchange<'_>) -> Answer {
    let core = exchange.core;
    if core.fleet.iter().all(|cells| cells.generation.get() > 0) {
        status_page(200, "", "ready")
    } else {
        status_page(503, "starting", "starting")
    }
}

fn status_page(status: u16, code: &'static str, word: &str) -> Answer {
    let body = format!("{{\"status\":\"{word}\"}}\n").into_bytes().into();
    Answer { status, content_type: "application/json", code, body }
}

async fn admin(exchange: &mut Exchange<'_>, path: AdminPath) -> Next {
    let now = exchange.core.dates.unix_seconds(exchange.started);
    let local = std::rc::Rc::clone(&exchange.local);
    let verdict = permit_admin(&local.auth, &mut local.tokens.borrow_mut(), &*exchange, now);
    let permit = match verdict {
        Ok(permit) => permit,
        Err(denial) => {
            exchange.record.denied(exchange.core, &local, &denial);
            return respond::fault(exchange, denial.fault).await;
        }
    };
    record::count_key_use(exchange.core, &local, permit.key_index());
    let subject = permit.subject().map(Box::from);
    exchange.record.subject.clone_from(&subject);
    let query = exchange.head.query.map(|query| query.of(exchange.bytes));
    let if_match = condition::if_match(exchange.head.header_values(exchange.bytes, b"if-match"));
    let order = match path {
        AdminPath::Reload => {
            condition::dry_run(query).map(|dry_run| Order::Reload { dry_run, if_match })
        }
        AdminPath::Status => Ok(Order::Status),
        AdminPath::History => Ok(Order::History),
        AdminPath::Rollback => {
            condition::rollback_to(query).map(|to| Order::Rollback { to, if_match })
        }
        AdminPath::Unknown => return respond::fault(exchange, Fault::AdminNotFound).await,
    };
    let Ok(order) = order else { return respond::fault(exchange, Fault::InvalidQuery).await };
    let request_id = String::from_utf8_lossy(&exchange.id).into();
    call(exchange, Call::Order { order, request_id, subject }).await
}

/// Asks the control plane and sends what it says.
async fn call(exchange: &mut Exchange<'_>, call: Call) -> Next {
    let core = exchange.core;
    let timeout = match &call {
        Call::Order { order: Order::Reload { .. } | Order::Rollback { .. }, .. } => {
            RELOAD_CALL_TIMEOUT
        }
        Call::Order { order: Order::Status | Order::History, .. } | Call::Metrics => CALL_TIMEOUT,
    };
    let ticket = core.commands.open();
    let number = ticket.number();
    // When the control thread is gone the message is dropped, and with it the ticket.
    let _ = core.to_control.try_send(FromWorker::Call { worker: core.worker, ticket, call });
    let answer = {
        let mut waited = std::pin::pin!(core.commands.wait(number));
        let mut timeout = std::pin::pin!(core.watches.sleep(timeout));
        std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(answer) = waited.as_mut().poll(context) {
                return std::task::Poll::Ready(answer);
            }
            timeout.as_mut().poll(context).map(|()| None)
        })
        .await
    };
    core.commands.close(number);
    match answer {
        Some(answer) => respond::answer(exchange, &answer).await,
        None if core.is_closing() => respond::fault(exchange, Fault::ShuttingDown).await,
        None => respond::fault(exchange, Fault::NoReply).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
