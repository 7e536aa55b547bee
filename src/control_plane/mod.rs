//! The control plane: everything that is not serving a request.

pub mod config;
