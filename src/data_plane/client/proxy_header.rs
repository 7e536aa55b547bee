//! The PROXY protocol header before everything else on a connection: read to its last byte and no
//! further, so that what follows stays in the socket for TLS or HTTP.

use std::{io, net::SocketAddr};

use crate::{
    data_plane::core::{Core, WarnTopic},
    protocol::proxy_protocol::{
        LOOKED_AT_BYTES_MAX, MalformedHeader, Progress, ProxyHeader, parse,
    },
    system::socket::Socket,
    telemetry::labels::RejectReason,
};

/// The end of a connection whose header was not read.
#[derive(Debug)]
enum Failure {
    /// Nothing came, as from a balancer that checks whether the port is open; or the process ends.
    Silent,
    /// Something else than a header came, or not all of one.
    Refused(&'static str),
}

impl From<MalformedHeader> for Failure {
    fn from(MalformedHeader(what): MalformedHeader) -> Self {
        Self::Refused(what)
    }
}

/// Reads the header of a new connection, and returns its peer: the source that the header names, or
/// `peer` where it names none. `None` when the connection is to be closed.
pub(crate) async fn peer_of(core: &Core, socket: &Socket, peer: SocketAddr) -> Option<SocketAddr> {
    let timeouts = core.current().timeouts;
    let mut most = timeouts.client_header;
    if core.is_closing() {
        // A header may still be on its way.
        most = most.min(timeouts.drain_idle);
    }
    socket.registration().arm(most);
    socket.registration().set_idle(true);
    let header = read(socket).await;
    socket.registration().set_idle(false);
    socket.registration().disarm();
    match header {
        Ok(header) => Some(header.source.unwrap_or(peer)),
        Err(Failure::Silent) => None,
        Err(Failure::Refused(reason)) => {
            core.cells.rejected(RejectReason::ProxyProtocol).inc();
            tracing::debug!(worker = core.worker, %peer, reason, "a PROXY protocol header was refused");
            if core.may_warn(WarnTopic::ProxyHeader) {
                tracing::warn!(
                    worker = core.worker,
                    %peer,
                    reason,
                    "a connection without a good PROXY protocol header was closed; this is logged \
                     once a minute"
                );
            }
            None
        }
    }
}

/// In the middle of a header.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionAborted => Self::Silent,
            io::ErrorKind::TimedOut => Self::Refused("not complete in time"),
            _ => Self::Refused("ended too early"),
        }
    }
}

async fn read(socket: &Socket) -> Result<ProxyHeader, Failure> {
    let mut seen = [0; LOOKED_AT_BYTES_MAX];
    let mut taken = 0;
    loop {
        let arrived = match peek(socket, seen.get_mut(taken..).unwrap_or_default()).await {
            Ok(arrived) => arrived,
            Err(_) if taken == 0 => return Err(Failure::Silent),
            Err(error) => return Err(error.into()),
        };
        socket.registration().set_idle(false);
        let progress = parse(seen.get(..taken + arrived).unwrap_or_default())?;
        let belong = match progress {
            Progress::Partial => arrived,
            Progress::Known(header) => arrived.min(header.bytes.saturating_sub(taken)),
        };
        take(socket, seen.get_mut(taken..taken + belong).unwrap_or_default()).await?;
        taken += belong;
        if let Progress::Known(header) = progress {
            let left = header.bytes.saturating_sub(taken);
            skip(socket, left, &mut seen).await?;
            return Ok(header);
        }
    }
}

/// Waits for at least one byte, and leaves what there is in the socket.
async fn peek(socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.try_peek(into)? {
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(count) => return Ok(count),
            None => wait(socket).await?,
        }
    }
}

/// Reads exactly so many bytes.
async fn take(socket: &Socket, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match socket.try_recv(into)? {
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(count) => into = into.get_mut(count..).unwrap_or_default(),
            None => wait(socket).await?,
        }
    }
    Ok(())
}

/// Reads exactly so many bytes and discards them.
async fn skip(socket: &Socket, mut left: usize, scratch: &mut [u8]) -> io::Result<()> {
    while left > 0 {
        let count = left.min(scratch.len());
        take(socket, scratch.get_mut(..count).unwrap_or_default()).await?;
        left -= count;
    }
    Ok(())
}

async fn wait(socket: &Socket) -> io::Result<()> {
    socket.registration().check_open()?;
    socket.readable().await;
    Ok(())
}
