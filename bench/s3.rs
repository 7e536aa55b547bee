//! CPU time of the S3 side of one request: path in, signed head out.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use yatagarasu::protocol::s3::{
    AmzDate, SigningInput, SigningKey, append_signed_headers, canonical_path, encode_key,
    error_code,
};

const TODAY: u64 = 1_440_938_160;
const TOKEN: [u8; 700] = [b'T'; 700];

fn sign(c: &mut Criterion) {
    let date = AmzDate::from_unix(TODAY);
    let secret = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let key = SigningKey::derive(secret, &date, "us-east-1");
    let mut scratch = Vec::with_capacity(4096);
    let mut out = Vec::with_capacity(4096);
    for (name, session_token) in [("sign", None), ("sign_with_token", Some(&TOKEN[..]))] {
        let input = SigningInput {
            method: "GET",
            host: "my-products.s3.us-east-1.amazonaws.com",
            target: b"/images/2024/05/cat-1024x768.jpg",
            query_bytes: 0,
            access_key: "AKIAIOSFODNN7EXAMPLE",
            session_token,
        };
        c.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                append_signed_headers(&key, &date, black_box(&input), &mut scratch, &mut out);
                black_box(&out);
            });
        });
    }
    c.bench_function("derive_key", |b| {
        b.iter(|| SigningKey::derive(black_box(secret), &date, "us-east-1"));
    });
    c.bench_function("amz_date", |b| b.iter(|| AmzDate::from_unix(black_box(TODAY))));
}

fn paths(c: &mut Criterion) {
    let mut out = Vec::with_capacity(4096);
    for (name, raw) in [
        ("path_plain", "/products/images/2024/05/cat-1024x768.jpg"),
        ("path_encoded", "/products/images/2024/05/cat%20and%20d%C3%B6g%20%281%29.jpg"),
    ] {
        c.bench_function(name, |b| {
            b.iter(|| canonical_path(black_box(raw.as_bytes()), &mut out));
        });
    }
    for (name, key) in [
        ("key_plain", "images/2024/05/cat-1024x768.jpg"),
        ("key_encoded", "images/2024/05/cat and dög (1).jpg"),
    ] {
        c.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                encode_key(black_box(key.as_bytes()), &mut out);
            });
        });
    }
    let body = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>AccessDenied</Code>\
        <Message>Access Denied</Message><RequestId>0123456789ABCDEF</RequestId></Error>";
    c.bench_function("error_code", |b| b.iter(|| error_code(black_box(body)).is_some()));
}

criterion_group!(benches, sign, paths);
criterion_main!(benches);
