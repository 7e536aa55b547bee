//! One request and its response.
//!
//! The steps, in order: take the running generation, decide, discard the request's body where the
//! response has to wait for it, respond or forward, record. An exchange knows neither the client's
//! socket nor its version of HTTP: it is given a request as a value, a body that can be discarded,
//! and a response writer.

mod builtin;
pub(crate) mod client;
pub(crate) mod coding;
mod condition;
pub(crate) mod context;
pub(crate) mod decision;
mod encoded;
mod fields;
pub(crate) mod forward;
pub(crate) mod head;
pub(crate) mod identity;
mod list;
pub(crate) mod outcome;
pub(crate) mod record;
pub(crate) mod request;
pub(crate) mod respond;
mod stream;

use std::{net::SocketAddr, rc::Rc};

use crate::{
    data_plane::{
        core::{
            Core,
            open::{AdminRequestGuard, Role},
        },
        exchange::{
            client::{RequestBody, ResponseWriter},
            context::Exchange,
            decision::{Decision, OrPage, Plan},
            forward::NamedObject,
            identity::Identity,
            outcome::Outcome,
            record::RefusedHead,
            request::Request,
        },
        fetch::notes::Notes,
    },
    model::Fault,
    system::tls::Negotiated,
    telemetry::access_log::Needs,
};

/// The end of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is complete.
    Complete,
    /// It is not, which the client must be able to see.
    Cut,
}

/// Serves one request whose head is complete.
pub(crate) fn run(
    core: &Rc<Core>,
    request: &Request<'_>,
    body: &mut impl RequestBody,
    response: &mut impl ResponseWriter,
) -> impl Future<Output = End> {
    async move {
        // Those of the main listener are waited for as connections.
        let _in_progress =
            (request.role == Role::Admin).then(|| AdminRequestGuard::new(&core.open));
        let started = core.reactor.clock.refresh();
        let identity = Identity::of(core, request);
        let now = core.dates.unix_seconds(started);
        let mut path = core.buffers.scratch();
        let mut decision = Decision::new();
        let plan = decision.plan(core, request, now, &mut path);
        let allow = decision.allow;
        let site = request.site_of(decision.routed);
        let is_of_s3_client = decision.is_of_s3_client;
        let needs =
            request.local.access_log.as_ref().map(|rules| rules.needs()).unwrap_or_default();
        let notes = needs.has(Needs::UPSTREAM).then(Box::<Notes>::default);
        if needs.has(Needs::FIRST_BYTE) {
            response.start().ask();
        }
        let notes = notes.as_deref();
        let exchange =
            Exchange { core, request, identity, started, notes, allow, site, is_of_s3_client };
        let outcome = match plan {
            Plan::Object { bucket, key_at, is_index, permit } => {
                let discarded = if body.is_over() { Ok(()) } else { body.discard().await };
                match discarded {
                    Ok(()) => {
                        let or_page = decision.or_page.take();
                        let is_optional = or_page.is_some();
                        let object = NamedObject { path: &path, key_at, is_index, is_optional };
                        let sent =
                            forward::forward(&exchange, bucket, object, permit, response).await;
                        match (sent, or_page) {
                            (Ok(outcome), _) => outcome,
                            (Err(missing), Some(OrPage::Page(page))) => {
                                let outcome =
                                    Box::pin(list::list(&exchange, *page, response)).await;
                                outcome.after(missing.upstream_ns)
                            }
                            (Err(missing), Some(OrPage::Invalid(_))) => {
                                let fault = Fault::InvalidListQuery;
                                let outcome =
                                    Box::pin(respond::fault(&exchange, fault, response)).await;
                                outcome.after(missing.upstream_ns)
                            }
                            (Err(_), None) => {
                                respond::fault(&exchange, Fault::Internal, response).await
                            }
                        }
                    }
                    Err(fault) => respond::fault(&exchange, fault, response).await,
                }
            }
            Plan::List(plan) => {
                let discarded = if body.is_over() { Ok(()) } else { body.discard().await };
                match discarded {
                    Ok(()) => Box::pin(list::list(&exchange, *plan, response)).await,
                    Err(fault) => respond::fault(&exchange, fault, response).await,
                }
            }
            Plan::Builtin(what) => {
                Box::pin(builtin::respond(&exchange, what, decision.subject.as_deref(), response))
                    .await
            }
            Plan::RedirectToDirectory => {
                respond::redirect_to_directory(&exchange, &path, response).await
            }
            Plan::Redirect { port } => respond::redirect(&exchange, port, response).await,
            Plan::Options => respond::options(&exchange, response).await,
            Plan::Preflight => respond::preflight(&exchange, response).await,
            Plan::Refuse(fault) => respond::fault(&exchange, fault, response).await,
        };
        record::finish(&exchange, &decision, &outcome, response.start().at());
        outcome.end()
    }
}

/// Refuses a head that could not be read, of this client with its TLS session: one response, and
/// the connection or stream ends.
pub(crate) async fn refuse(
    core: &Core,
    client: (SocketAddr, Option<&Negotiated>),
    refused: &RefusedHead<'_>,
    response: &mut impl ResponseWriter,
) -> End {
    let id = core.ids.next();
    let fault = refused.refusal.fault;
    let outcome = respond::refusal(core, client.1.is_some(), &id, fault, response).await;
    record::refused_head(core, client, refused, &id, &outcome);
    outcome.end()
}

/// Begins the refusal of a connection that will not be served, and returns its body.
pub(crate) fn begin_refusal(
    core: &Core,
    is_tls: bool,
    fault: Fault,
    response: &mut impl ResponseWriter,
) -> Vec<u8> {
    let id = core.ids.next();
    let body = respond::fault_body(fault, &id);
    respond::begin_refusal(core, is_tls, &id, fault, &body, response);
    body
}

impl Outcome {
    /// The outcome behind another request to S3, which took so many nanoseconds.
    fn after(self, first_ns: Option<u64>) -> Self {
        let sum = self.upstream_ns.unwrap_or(0) + first_ns.unwrap_or(0);
        Self { upstream_ns: self.upstream_ns.or(first_ns).map(|_| sum), ..self }
    }

    fn end(&self) -> End {
        if self.aborted.is_some() { End::Cut } else { End::Complete }
    }
}
