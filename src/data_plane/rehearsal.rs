//! One request without a connection to S3, by the code that serves: its bytes in, the request to
//! S3, S3's head in, the client's response, counted and logged. For `bench/whole_request.rs`;
//! nothing of it runs in the program.

use std::{
    hint::black_box,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use crossbeam_channel::{Receiver, unbounded};

use crate::{
    data_plane::{
        client::writer::{RespondTo, Writer},
        core::{Core, Setup, open::Role},
        exchange::{
            client::ResponseWriter,
            context::Exchange,
            decision::{Decision, Plan},
            head::{Changes, add_head},
            identity::Identity,
            outcome::Outcome,
            record,
            request::Request,
        },
        fetch::request::{ObjectRequest, Target, Wanted},
    },
    handoff::{live::LiveTable, message::FromWorker, release::Release},
    policy::auth::TokenCache,
    protocol::http1::{Pseudonym, RequestHead, ResponseHead, parse_request, parse_response},
    system::{
        event_loop,
        reactor::Reactor,
        socket::{self, Socket},
        stream::Stream,
    },
    telemetry::{
        access_log::{self, AccessLogHandle},
        cells::CoreCells,
    },
};

/// The steps of a request, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The client's head is parsed.
    RequestHead,
    /// Path, route and permission are known.
    Decision,
    /// The request to S3 is built and signed.
    UpstreamRequest,
    /// S3's head is parsed.
    ResponseHead,
    /// The client's response is built.
    ClientResponse,
    /// The request is counted and logged.
    Record,
}

/// A core that serves one generation, and a client that takes nothing.
#[derive(Debug)]
pub struct Rehearsal {
    core: Rc<Core>,
    client: Stream,
    head: RequestHead,
    response: ResponseHead,
    _other_end: OwnedFd,
    _access_log: AccessLogHandle,
    _reports: Receiver<FromWorker>,
}

impl Rehearsal {
    /// Runs `body` on an event loop of its own.
    ///
    /// # Errors
    /// The kernel refuses a descriptor or a thread.
    pub fn run<T>(release: Release, body: impl FnOnce(&mut Self) -> T) -> io::Result<T> {
        event_loop::run(|| async move { Ok(body(&mut Self::start(release)?)) })?
    }

    fn start(release: Release) -> io::Result<Self> {
        let reactor = Reactor::start()?;
        let all_cells: Arc<[Arc<CoreCells>]> = CoreCells::for_workers(1).into_vec().into();
        let cells = all_cells.first().cloned().ok_or_else(|| io::Error::other("no counters"))?;
        let (to_control, reports) = unbounded();
        let (handle, sinks) = access_log::start("/dev/null")?;
        let (fd, other_end) = socket::pair()?;
        let client = Stream::Plain(Socket::new(fd, &reactor)?);
        let core = Core::new(Setup {
            worker: 0,
            release,
            live: Arc::new(LiveTable::default()),
            reactor,
            access_log: sinks.sink(Arc::clone(&cells)),
            cells,
            all_cells,
            max_connections: u64::MAX,
            admin_elsewhere: false,
            proxy_headers: false,
            tls_port: 0,
            pseudonym: Pseudonym::new(0),
            to_control,
        });
        Ok(Self {
            core: Rc::new(core),
            client,
            head: RequestHead::default(),
            response: ResponseHead::default(),
            _other_end: other_end,
            _access_log: handle,
            _reports: reports,
        })
    }

    /// Forgets the verified tokens.
    pub fn forget_tokens(&self) {
        self.core.current().tokens.replace(TokenCache::new());
    }

    /// Goes through the steps of a request for an object, whose body comes with S3's head, until
    /// this one is done. `None` when the request is refused or a head is not complete.
    pub fn request(&mut self, bytes: &[u8], from_s3: &[u8], until: Step) -> Option<()> {
        let core = &self.core;
        let local = core.current();
        parse_request(bytes, &local.limits, &mut self.head).ok()?;
        if until == Step::RequestHead {
            return Some(());
        }
        let started = core.reactor.clock.refresh();
        let now = core.dates.unix_seconds(started);
        let mut path = core.buffers.scratch();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 51_234));
        let client_write = local.timeouts.client_write;
        let request = Request {
            local,
            role: Role::Main,
            peer,
            tls: self.client.negotiated(),
            head: &self.head,
            bytes,
        };
        let identity = Identity::of(core, &request);
        let mut decision = Decision::new();
        let plan = decision.plan(core, &request, now, &mut path);
        let Plan::Object { bucket, key_at, permit, .. } = plan else { return None };
        let allow = decision.allow;
        let site = request.site_of(decision.routed);
        let exchange = Exchange {
            core,
            request: &request,
            identity,
            started,
            notes: None,
            allow,
            site,
            is_of_s3_client: false,
        };
        if until == Step::Decision {
            return Some(());
        }
        let to = RespondTo::request(&self.head);
        let mut response = Writer::new(core, &self.client, client_write, to);
        let mut fields = core.buffers.scratch();
        request.append_forwarded(&core.pseudonym, None, &mut fields);
        let wanted = Wanted {
            target: Target::Object(path.get(key_at..)?),
            query: b"",
            is_head: request.is_head(),
            fields: &fields,
            client: Some(response.presence()),
            passage: response.passage(),
            notes: None,
        };
        let object = ObjectRequest::new(core, &request.local, bucket, wanted, permit).ok()?;
        let mut upstream = core.buffers.scratch();
        object.append_to(&mut upstream);
        black_box(&*upstream);
        if until == Step::UpstreamRequest {
            return Some(());
        }
        let head = &mut self.response;
        parse_response(from_s3, request.is_head(), head).ok()?;
        if until == Step::ResponseHead {
            return Some(());
        }
        add_head(&exchange, head, from_s3, object.key(), Changes::default(), &mut response);
        let body = from_s3.get(head.head_len..)?;
        {
            // A short body is gathered behind the head, which waits for nothing.
            let written = pin!(response.write(body));
            let Poll::Ready(Ok(())) = written.poll(&mut Context::from_waker(Waker::noop())) else {
                return None;
            };
        }
        black_box(&response);
        if until == Step::ClientResponse {
            return Some(());
        }
        object.cells().record_upstream(head.status, 1_000_000);
        let outcome = Outcome {
            status: head.status,
            bytes: body.len() as u64,
            upstream_ns: Some(1_000_000),
            ..Outcome::default()
        };
        record::finish(&exchange, &decision, &outcome, None);
        Some(())
    }
}
