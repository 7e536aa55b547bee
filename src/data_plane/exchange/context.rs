//! A request that is being served, as every step of it sees it.

use crate::{
    data_plane::{
        core::{Core, generation::Local},
        exchange::{identity::Identity, request::Request},
    },
    policy::site::Site,
    system::clock::Monotonic,
};

/// A request that is being served.
#[derive(Debug)]
pub(crate) struct Exchange<'x> {
    pub(crate) core: &'x Core,
    pub(crate) request: &'x Request<'x>,
    pub(crate) identity: Identity<'x>,
    pub(crate) started: Monotonic,
    /// Methods that the resource takes, as `Allow` lists them.
    pub(crate) allow: &'static str,
    /// Rules of the bucket, once routed, for browsers and websites.
    pub(crate) site: Option<&'x Site>,
}

/// The fields that every response carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnFields<'o> {
    pub(crate) id: &'o [u8],
    pub(super) local: &'o Local,
    pub(super) core: &'o Core,
    /// The request, where its head could be read.
    pub(super) request: Option<&'o Request<'o>>,
    /// Rules of the bucket, once routed, for browsers and websites.
    pub(super) site: Option<&'o Site>,
    pub(super) kind: Kind,
}

/// Kind of a response, as far as the rules of its bucket ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To an actual request.
    Actual,
    /// To the question that a browser asks before one.
    Preflight,
}

impl Exchange<'_> {
    /// The fields that every response carries.
    pub(super) fn own(&self) -> OwnFields<'_> {
        OwnFields {
            id: self.identity.request_id(),
            local: &self.request.local,
            core: self.core,
            request: Some(self.request),
            site: self.site,
            kind: Kind::Actual,
        }
    }
}
