//! CPU cost of the HTTP/1.1 codec: what one exchange pays for heads and chunks.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use yatagarasu::model::limits::Limits;
use yatagarasu::protocol::http1::{
    BodyLength, CHUNK_END, ChunkedDecoder, LAST_CHUNK, RequestHead, ResponseHead, Version,
    append_connection, append_field, append_framing, append_status_line, client_framing,
    encode_chunk_head, imf_fixdate, parse_request, parse_response,
};

const REQUEST: &[u8] = b"GET /products/images/2024/summer/hero-banner.jpg HTTP/1.1\r\n\
    Host: cdn.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n\
    Accept: image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    If-None-Match: \"9b2cf535f27731c974343645a3985328\"\r\n\
    Connection: keep-alive\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    x-amz-id-2: eftixk72aD6Ap51TnqcoF8eFidJG9Z/2mkiDFu8yU9AS1ed4OpIszj7UDNEHGran\r\n\
    x-amz-request-id: 318BC8BC148832E5\r\n\
    Date: Wed, 28 Oct 2009 22:32:00 GMT\r\n\
    Last-Modified: Wed, 12 Oct 2009 17:50:00 GMT\r\n\
    ETag: \"fba9dede5f27731c9771645a39863328\"\r\n\
    Accept-Ranges: bytes\r\n\
    Content-Type: image/jpeg\r\n\
    Content-Length: 1024\r\n\
    Connection: keep-alive\r\n\
    Server: AmazonS3\r\n\r\n";

fn heads(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut request = RequestHead::default();
    criterion.bench_function("request head, 6 fields", |bencher| {
        bencher.iter(|| parse_request(black_box(REQUEST), &limits, &mut request));
    });
    criterion.bench_function("request head, find authorization", |bencher| {
        bencher.iter(|| request.header_values(black_box(REQUEST), b"authorization").next());
    });

    let mut response = ResponseHead::default();
    criterion.bench_function("response head, 10 fields", |bencher| {
        bencher.iter(|| parse_response(black_box(RESPONSE), false, &mut response));
    });
    let mut out = Vec::with_capacity(4_096);
    criterion.bench_function("response head, written for the client", |bencher| {
        bencher.iter(|| {
            out.clear();
            let framing = client_framing(Version::Http11, false, BodyLength::Fixed(1_024));
            append_status_line(response.status, &mut out);
            response.copy_end_to_end(black_box(RESPONSE), &mut out);
            append_framing(framing, response.status, response.content_length, &mut out);
            response.append_via(RESPONSE, "yatagarasu", &mut out);
            append_field("X-Request-Id", b"0123456789abcdef", &mut out);
            append_connection(Version::Http11, false, &mut out);
            out.extend_from_slice(b"\r\n");
            black_box(out.len())
        });
    });
    criterion.bench_function("date", |bencher| {
        bencher.iter(|| imf_fixdate(black_box(1_700_000_000)));
    });
}

fn chunks(criterion: &mut Criterion) {
    const CHUNKS: usize = 16;
    const CHUNK_BYTES: usize = 4_096;
    let mut wire = Vec::new();
    for _ in 0..CHUNKS {
        encode_chunk_head(CHUNK_BYTES, &mut wire);
        wire.extend_from_slice(&[b'x'; CHUNK_BYTES]);
        wire.extend_from_slice(CHUNK_END);
    }
    wire.extend_from_slice(LAST_CHUNK);
    let mut group = criterion.benchmark_group("chunked body");
    group.throughput(Throughput::Elements(CHUNKS as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let (mut decoder, mut at, mut body_bytes) = (ChunkedDecoder::new(), 0, 0);
            while let Ok(step) = decoder.step(black_box(&wire[at..])) {
                at += step.consumed;
                body_bytes += step.data.len();
                if step.done {
                    break;
                }
            }
            assert_eq!(body_bytes, CHUNKS * CHUNK_BYTES);
        });
    });
    group.finish();
}

criterion_group!(benches, heads, chunks);
criterion_main!(benches);
