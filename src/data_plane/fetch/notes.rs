//! Notes for the access log about the attempts to get a response of S3, where its lines have them.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
};

use crate::protocol::http1::ResponseHead;

/// Longest id that is noted, in bytes; those of S3 have 16.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Notes about all attempts that one request of a client caused.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    attempts: Cell<u32>,
    address: Cell<Option<SocketAddr>>,
    status: Cell<Option<u16>>,
    request_id: RefCell<Box<[u8]>>,
}

impl Notes {
    /// Notes that S3 is asked, at this address once that is known.
    pub(super) fn attempt(&self, address: Option<SocketAddr>) {
        self.attempts.set(self.attempts.get().saturating_add(1));
        self.address.set(address);
    }

    /// Notes the address of the attempt.
    pub(super) fn at(&self, address: Option<SocketAddr>) {
        self.address.set(address.or_else(|| self.address.get()));
    }

    /// Notes a response, whose head is in `message`.
    pub(super) fn responded(&self, head: &ResponseHead, message: &[u8]) {
        self.status.set(Some(head.status));
        let id = head.header_values(message, b"x-amz-request-id").next().unwrap_or_default();
        let id = id.get(..REQUEST_ID_BYTES_MAX).unwrap_or(id);
        self.request_id.replace(id.into());
    }

    /// Times that S3 was asked.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.get()
    }

    /// Address of the last attempt, where it got that far.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address.get()
    }

    /// Status of the last response.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status.get()
    }

    /// `x-amz-request-id` of the last response.
    pub(crate) fn request_id(&self) -> Option<Box<[u8]>> {
        Some(self.request_id.borrow().clone()).filter(|id| !id.is_empty())
    }
}
