//! A request that is being served, as every step of it sees it.

use crate::{
    data_plane::{
        core::{Core, generation::Local},
        exchange::{identity::Identity, request::Request},
        fetch::notes::Notes,
    },
    policy::site::{Site, documents::Documents},
    system::clock::Monotonic,
};

/// A request that is being served.
#[derive(Debug)]
pub(crate) struct Exchange<'x> {
    pub(crate) core: &'x Core,
    pub(crate) request: &'x Request<'x>,
    pub(crate) identity: Identity<'x>,
    pub(crate) started: Monotonic,
    /// Where attempts to get a response of S3 are noted, if the access log has them.
    pub(crate) notes: Option<&'x Notes>,
    /// Methods that the resource takes, as `Allow` lists them.
    pub(crate) allow: &'static str,
    /// Rules of the bucket, once routed, for browsers and websites.
    pub(crate) site: Option<&'x Site>,
    /// Set for a request of an S3 client, which is told of faults in the form of S3.
    pub(crate) is_of_s3_client: bool,
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
    pub(super) kind: Kind<'o>,
    /// Fields of the request that the response depends on, beside those of the bucket's rules.
    pub(super) vary: &'o [u8],
    /// Set if the response goes through TLS.
    pub(super) is_tls: bool,
}

/// The object that a response brings, or says is unchanged.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectSent<'o> {
    pub(super) key: &'o [u8],
    pub(super) is_not_modified: bool,
}

/// Kind of a response, as far as the rules of its bucket ask for it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'o> {
    /// That of S3, with the object if there is one.
    OfS3(Option<ObjectSent<'o>>),
    /// One of this proxy.
    Own,
    /// The same, to the question that a browser asks before an actual request.
    Preflight,
}

impl<'x> Exchange<'x> {
    /// The documents of the bucket's website, if it is one.
    pub(super) fn documents(&self) -> Option<&'x Documents> {
        self.site?.documents.as_ref()
    }

    /// True if a response of S3 with this status is an error that the bucket hides.
    pub(super) fn hides(&self, status: u16) -> bool {
        status >= 300 && status != 304 && self.site.is_some_and(|site| site.hide_s3)
    }

    /// The fields that every response carries.
    pub(super) fn own(&self) -> OwnFields<'_> {
        OwnFields {
            id: self.identity.request_id(),
            local: &self.request.local,
            core: self.core,
            request: Some(self.request),
            site: self.site,
            kind: Kind::Own,
            vary: b"",
            is_tls: self.request.tls.is_some(),
        }
    }
}
