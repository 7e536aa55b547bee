//! What end-to-end tests are made of: a strict client, origins of several tempers, and the real
//! binary with its configuration. Nothing here links the proxy's own HTTP code, so that a bug in
//! it cannot hide itself.
#![allow(dead_code, reason = "shared by several targets, each of which uses a part")]

pub(crate) mod aws_services;
pub(crate) mod config;
pub(crate) mod decode;
pub(crate) mod gate;
pub(crate) mod http2_client;
pub(crate) mod http2_frames;
pub(crate) mod http_head;
pub(crate) mod identity_server;
pub(crate) mod load;
pub(crate) mod proxy;
pub(crate) mod raw_client;
pub(crate) mod reload;
pub(crate) mod s3_server;
pub(crate) mod scripted_origin;
pub(crate) mod site;
pub(crate) mod tls_front;
pub(crate) mod tls_relay;
pub(crate) mod token;
pub(crate) mod waiting;
