//! One request and its answer.
//!
//! The steps, in order: take the running generation, make the canonical path, answer the built-in
//! endpoints, route, permit, sign, forward, stream, record.

mod builtin;
mod condition;
mod drain;
mod forward;
mod record;
pub(crate) mod respond;
mod splice;
mod stream;

use std::{net::SocketAddr, rc::Rc};

use crate::{
    data_plane::{
        connection::Input,
        core::{
            Core,
            generation::Local,
            open::{AdminRequestGuard, Role},
            request_ids::REQUEST_ID_CHARS,
        },
        exchange::{
            builtin::Builtin,
            drain::{BodyEnd, RequestBody},
            record::Record,
        },
    },
    model::{Fault, limits::OBJECT_KEY_BYTES_MAX},
    policy::auth::{Permit, TokenCarrier, permit_object},
    protocol::{
        http1::{Method, RequestFraming, RequestHead},
        s3::canonical_path,
    },
    system::{clock::Monotonic, socket::Socket, watch::Client},
};

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It waits for the next request.
    KeepAlive,
    /// It is closed once the client has stopped sending.
    Close,
    /// It is reset, so that a cut-short body can't be taken for a whole one.
    Abort,
}

/// The request in hand.
#[derive(Debug)]
pub(crate) struct Exchange<'x> {
    pub(crate) core: &'x Core,
    /// The generation that the whole request is served with.
    pub(crate) local: Rc<Local>,
    pub(crate) socket: &'x Socket,
    pub(crate) peer: SocketAddr,
    pub(crate) head: &'x RequestHead,
    /// The bytes that the head's spans point into.
    pub(crate) bytes: &'x [u8],
    pub(crate) id: [u8; REQUEST_ID_CHARS],
    pub(crate) started: Monotonic,
    /// Whether the connection may serve another request after this one.
    pub(crate) keep_alive: bool,
    /// Methods that the resource takes, as `Allow` lists them.
    pub(crate) allow: &'static str,
    pub(crate) record: Record,
}

/// What is to be done with a request.
enum Plan {
    Object { bucket: usize, key_at: usize, permit: Permit },
    Builtin(Builtin),
    Options,
    Refuse(Fault),
}

/// Serves one request whose head is complete.
pub(crate) async fn run<'c>(
    core: &'c Rc<Core>,
    socket: &Socket,
    peer: SocketAddr,
    role: Role,
    input: &mut Input<'c>,
    head: &RequestHead,
) -> Next {
    // Those of the main listener are waited for as connections.
    let in_progress = (role == Role::Admin).then(|| AdminRequestGuard::new(&core.open));
    let started = core.watches.clock.refresh();
    let now = core.dates.unix_seconds(started);
    let mut exchange = Exchange {
        core,
        local: core.current(),
        socket,
        peer,
        head,
        bytes: input.bytes(),
        id: core.ids.next(),
        started,
        keep_alive: !head.close && !core.is_closing(),
        allow: respond::ALLOW,
        record: Record::default(),
    };
    let mut path = core.buffers.scratch();
    let plan = exchange.plan(role, now, &mut path);
    let rest = exchange.bytes.get(head.head_len..).unwrap_or_default();
    let mut drained = BodyEnd::default();
    let has_body = head.framing != RequestFraming::None;
    // A client that waits for 100 (RFC 9110 section 10.1.1) gets the final answer instead, and its
    // body, which it may or may not send now, ends with the connection.
    let unread_body = has_body && head.expect_continue;
    let object = matches!(plan, Plan::Object { .. });
    let mut refused = None;
    let mut left_over = None;
    if unread_body {
        exchange.keep_alive = false;
    } else if has_body {
        match RequestBody::begin(&exchange, rest) {
            Ok(body) if object => match body.finish(&exchange).await {
                Ok(all) => drained = all,
                Err(fault) => refused = Some(fault),
            },
            Ok(body) => left_over = Some(body),
            Err(fault) => {
                // The answer, whichever it is, says that the connection ends with it.
                exchange.keep_alive = false;
                refused = Some(fault).filter(|_| object);
            }
        }
    }
    if refused.is_some() {
        exchange.keep_alive = false;
    }
    let mut next = match (refused, plan) {
        (Some(fault), _) | (None, Plan::Refuse(fault)) => {
            respond::fault(&mut exchange, fault).await
        }
        (None, Plan::Object { bucket, key_at, permit }) => {
            let key = path.get(key_at..).unwrap_or_default();
            forward::forward(&mut exchange, bucket, key, permit).await
        }
        (None, Plan::Builtin(what)) => builtin::answer(&mut exchange, what).await,
        (None, Plan::Options) => respond::options(&mut exchange).await,
    };
    record::finish(&exchange);
    drop(in_progress);
    if let Some(body) = left_over.filter(|_| next == Next::KeepAlive) {
        // Answered early; what is left of the body must not be read as the next request.
        match body.finish(&exchange).await {
            Ok(all) => drained = all,
            Err(_) => next = Next::Close,
        }
    }
    input.consume(head.head_len + drained.consumed);
    input.append(core, &drained.surplus);
    next
}

impl Exchange<'_> {
    /// Decides what to do, without waiting for anything.
    fn plan(&mut self, role: Role, now: u64, path: &mut Vec<u8>) -> Plan {
        if self.head.https {
            // The listeners are plain (RFC 9110 section 7.4).
            return Plan::Refuse(Fault::Misdirected);
        }
        let raw = self.head.path.of(self.bytes);
        if self.head.method == Method::Options && raw == b"*" {
            return Plan::Options;
        }
        if canonical_path(raw, path).is_err() {
            // CONNECT has no path at all (RFC 9110 section 9.3.6).
            return Plan::Refuse(match self.head.method {
                Method::Other => Fault::MethodNotAllowed,
                _ => Fault::BadPath,
            });
        }
        let builtin = Builtin::of(path);
        let builtin_here = role == Role::Admin || !self.core.admin_elsewhere;
        if builtin_here && let Some(builtin) = builtin {
            self.allow = builtin.allowed();
            return if builtin.allows(self.head.method, self.head.method_span.of(self.bytes)) {
                Plan::Builtin(builtin)
            } else if self.head.method == Method::Options {
                Plan::Options
            } else {
                Plan::Refuse(Fault::MethodNotAllowed)
            };
        }
        if builtin.is_some() && self.local.router.route(path).is_none() {
            // It lives on the admin listener, and no bucket has taken its path here: whatever the
            // method, there is no such thing.
            return Plan::Refuse(Fault::NoRoute);
        }
        match self.head.method {
            Method::Options => return Plan::Options,
            Method::Other => return Plan::Refuse(Fault::MethodNotAllowed),
            Method::Get | Method::Head => {}
        }
        if role == Role::Admin {
            return Plan::Refuse(Fault::NoRoute);
        }
        let local = Rc::clone(&self.local);
        let Some(routed) = local.router.route(path) else {
            return Plan::Refuse(Fault::NoRoute);
        };
        let Some(bucket) = local.buckets.get(routed.bucket) else {
            return Plan::Refuse(Fault::Internal);
        };
        self.record.bucket = Some(routed.bucket);
        if let Some(via) = self.head.via(self.bytes)
            && self.core.pseudonym.check(via).is_err()
        {
            if self.core.may_warn(self.record.bucket) {
                tracing::warn!(
                    bucket = &*bucket.name,
                    "a request came back: the S3 endpoint leads to this proxy itself"
                );
            }
            return Plan::Refuse(Fault::LoopDetected);
        }
        let Some(key) = routed.key else {
            return Plan::Refuse(Fault::NoKey);
        };
        if key.len() > OBJECT_KEY_BYTES_MAX {
            return Plan::Refuse(Fault::KeyTooLong);
        }
        let key_at = path.len() - key.len();
        let verdict = permit_object(
            &local.auth,
            &bucket.auth,
            &mut local.tokens.borrow_mut(),
            &*self,
            key,
            now,
        );
        match verdict {
            Ok(permit) => {
                self.record.permitted(self.core, &local, &permit);
                Plan::Object { bucket: routed.bucket, key_at, permit }
            }
            Err(denial) => {
                self.record.denied(self.core, &local, &denial);
                Plan::Refuse(denial.fault)
            }
        }
    }

    /// Ends the connection with this answer if the process began to stop meanwhile. To be called
    /// before the answer's head is written.
    pub(crate) fn notice_drain(&mut self) {
        self.keep_alive &= !self.core.is_closing();
    }

    /// The client, to be watched while it waits. One that asked for a last answer may finish
    /// sending and wait for it (RFC 9112 section 9.6).
    pub(crate) fn client(&self) -> Client {
        self.socket.watch().client(self.head.close)
    }

    /// Whether the answer must not have a body.
    pub(crate) fn is_head(&self) -> bool {
        self.head.method == Method::Head
    }
}

impl TokenCarrier for Exchange<'_> {
    fn header_values<'a>(&'a self, name_lower: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.head.header_values(self.bytes, name_lower.as_bytes())
    }

    fn query(&self) -> Option<&[u8]> {
        self.head.query.map(|span| span.of(self.bytes))
    }
}
