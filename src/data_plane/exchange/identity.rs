//! The origin of a request: its client, and the ids by which it is known elsewhere. They come from
//! the connection, and from the fields of proxies that the generation trusts.

use crate::{
    data_plane::{
        core::{Core, request_ids::REQUEST_ID_CHARS},
        exchange::request::Request,
    },
    model::ClientAddress,
    protocol::http1::{TraceParent, request_id},
};

/// The client of a request, and its ids.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'r> {
    /// The client, as found behind trusted proxies.
    pub(crate) client: ClientAddress,
    /// An id of this process; the trace's too, unless a trusted proxy gives one.
    made: [u8; REQUEST_ID_CHARS],
    given: Option<&'r [u8]>,
    trace: Option<TraceParent<'r>>,
}

impl<'r> Identity<'r> {
    /// The identity of a request whose head is complete. Of what it says about itself, nothing is
    /// looked at unless its peer is a trusted proxy.
    pub(crate) fn of(core: &Core, request: &Request<'r>) -> Self {
        let Request { local, head, bytes, .. } = request;
        let peer = ClientAddress::from(request.peer);
        let made = core.ids.next();
        let proxies = &local.trusted_proxies;
        if !proxies.trusts(peer.ip()) {
            return Self { client: peer, made, given: None, trace: None };
        }
        let addresses = head.header_values_from_the_last(bytes, proxies.field.name_lower());
        Self {
            client: proxies.client(peer, addresses),
            made,
            given: request_id(request.values(b"x-request-id")),
            trace: TraceParent::read(request.values(b"traceparent")),
        }
    }

    /// The id of the request: `X-Request-Id` of the response.
    pub(crate) fn request_id(&self) -> &[u8] {
        self.given.unwrap_or(&self.made)
    }

    /// The trace that the request belongs to. One of its own has the id that was made for the
    /// request: 32 hexadecimal digits, as those of a trace.
    pub(crate) fn trace_id(&self) -> &[u8] {
        self.trace.map_or(self.made.as_slice(), |trace| trace.trace_id)
    }

    /// Part of the trace in which the request was sent here.
    pub(crate) fn parent_id(&self) -> Option<&'r [u8]> {
        self.trace.map(|trace| trace.parent_id)
    }
}
