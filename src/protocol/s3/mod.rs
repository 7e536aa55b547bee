//! The S3 REST dialect: keys, canonical requests, signatures, error bodies.
