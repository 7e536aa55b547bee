//! HTTP/1.1 (RFC 9110, RFC 9112) as pure functions over byte slices.
