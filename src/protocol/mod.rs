//! Bytes to meaning and back: HTTP/1.1, what HTTP/2 adds to it, content codings, the PROXY
//! protocol, and the S3 side. No I/O, no clock, no await.

pub mod content_coding;
pub mod greeting;
pub mod http1;
pub mod http2;
pub mod proxy_protocol;
pub mod s3;
pub mod text;
pub mod url;
