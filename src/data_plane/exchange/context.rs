//! A request that is being served, as every step of it sees it.

use crate::{
    data_plane::{
        core::{Core, generation::Local, request_ids::REQUEST_ID_CHARS},
        exchange::request::Request,
    },
    system::clock::Monotonic,
};

/// A request that is being served.
#[derive(Debug)]
pub(crate) struct Exchange<'x> {
    pub(crate) core: &'x Core,
    pub(crate) request: &'x Request<'x>,
    pub(crate) id: [u8; REQUEST_ID_CHARS],
    pub(crate) started: Monotonic,
    /// Methods that the resource takes, as `Allow` lists them.
    pub(crate) allow: &'static str,
}

/// The fields that every response carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnFields<'o> {
    pub(crate) id: &'o [u8; REQUEST_ID_CHARS],
    pub(super) local: &'o Local,
}

impl Exchange<'_> {
    /// The fields that every response carries.
    pub(super) fn own(&self) -> OwnFields<'_> {
        OwnFields { id: &self.id, local: &self.request.local }
    }
}
