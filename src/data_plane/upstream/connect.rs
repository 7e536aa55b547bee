//! Establishing a connection to one address: TCP, then TLS, within one deadline, and
//! where it is opened for a client, only for as long as that waits.

use std::{rc::Rc, sync::Arc, time::Duration};

use crate::{
    data_plane::upstream::{
        addresses::{Address, ToAddress},
        connection::Connection,
        error::{Phase, UpstreamError},
    },
    system::{
        buffers::Buffers,
        clock::Monotonic,
        reactor::{Presence, Reactor},
        socket::Socket,
        stream::Stream,
        tls::TlsClient,
    },
    telemetry::cells::BucketCells,
};

/// Everything that connecting takes besides an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connector<'c> {
    pub(crate) reactor: &'c Rc<Reactor>,
    pub(crate) buffers: &'c Rc<Buffers>,
    /// The client that waits for it, if it is opened for one.
    pub(crate) client: Option<Presence>,
    /// The bucket that the connection is counted for.
    pub(crate) cells: &'c Arc<BucketCells>,
    /// Longest time for all addresses together.
    pub(crate) timeout: Duration,
}

impl Connector<'_> {
    /// Connects until `connected_by`, and shakes hands until `deadline`.
    pub(crate) async fn connect(
        &self,
        address: &Rc<Address>,
        tls: Option<&TlsClient>,
        lot: u16,
        (connected_by, deadline): (Monotonic, Monotonic),
    ) -> Result<Box<Connection>, UpstreamError> {
        let at = address.socket_address();
        let failed = |phase, error| UpstreamError::connecting(at, phase, error);
        // Counted from the start, so that connections that are opened together are spread too.
        let to = ToAddress::new(address);
        let socket = Socket::connect(at, self.left(connected_by), self.client, self.reactor)
            .await
            .map_err(|error| failed(Phase::Connect, error))?;
        let now = self.reactor.clock.coarse();
        let stream = match tls {
            None => Stream::Plain(socket),
            Some(tls) => {
                socket.registration().waits_for(self.client);
                socket.registration().arm(self.left(deadline));
                let secured = Stream::secure(socket, tls, self.buffers).await;
                secured.map_err(|error| failed(Phase::Tls, error))?
            }
        };
        stream.registration().disarm();
        Ok(Box::new(Connection::new(stream, to, now, lot, self.cells)))
    }

    fn left(&self, until: Monotonic) -> Duration {
        Duration::from_nanos(until.since(self.reactor.clock.refresh()))
    }
}
