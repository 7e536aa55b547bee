//! Bytes to meaning and back: HTTP/1.1 and the S3 side of it. No I/O, no clock, no await.

pub mod http1;
pub mod s3;
pub mod text;
