//! What one whole request costs in user space when nothing waits: its bytes in, the signed
//! request, S3's answer, the client's answer, counted and logged. No socket, no clock.
//!
//! - `cargo bench --bench whole_request` times it, part by part.
//! - `whole_request CASE COUNT` runs a case so many times and ends, for `bench/instructions/check`
//!   to count instructions under valgrind.
//!
//! The calls are those of `src/data_plane/exchange/`, in their order. What that folder does
//! between them (system calls, timers, the pool, borrowed buffers) is not in here but in the
//! `worker_*` figures of `bench/instructions/check`, which measure the real binary.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where its set-up fails")]

use std::{
    env,
    hint::black_box,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use criterion::Criterion;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use yatagarasu::{
    model::{Secret, limits::Limits},
    policy::{
        auth::{
            AuthPolicy, BucketAuth, Permit, TokenCache, TokenCarrier, permit_object,
            spec::{AuthSpec, KeyMaterial, KeySpec},
        },
        router::Router,
    },
    protocol::{
        http1::{
            RequestHead, ResponseHead, append_connection, append_field, append_framing,
            append_status_line, client_framing, imf_fixdate, parse_request, parse_response,
        },
        s3::{AmzDate, DailyKey, SigningInput, append_signed_headers, canonical_path, encode_key},
    },
    telemetry::{
        access_log::{AccessRecord, BATCH_BYTES, write_record},
        cells::BucketCells,
        labels::Method,
    },
};

/// When it all takes place, in seconds of unix time.
const NOW: u64 = 1_700_000_000;

const JWT_SECRET: &[u8] = b"an-instruction-count-secret-of-enough-characters";
const S3_SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const REGION: &str = "us-east-1";
const HOST: &str = "my-products.s3.us-east-1.amazonaws.com";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    x-amz-id-2: eftixk72aD6Ap51TnqcoF8eFidJG9Z/2mkiDFu8yU9AS1ed4OpIszj7UDNEHGran\r\n\
    x-amz-request-id: 318BC8BC148832E5\r\n\
    Date: Wed, 28 Oct 2009 22:32:00 GMT\r\n\
    Last-Modified: Wed, 12 Oct 2009 17:50:00 GMT\r\n\
    ETag: \"fba9dede5f27731c9771645a39863328\"\r\n\
    Accept-Ranges: bytes\r\n\
    Content-Type: image/jpeg\r\n\
    Content-Length: 1024\r\n\
    Server: AmazonS3\r\n\r\n";

/// Everything that outlives a request: what a core and its generation hold.
struct Stand {
    request: Vec<u8>,
    limits: Limits,
    head: RequestHead,
    answer: ResponseHead,
    path: Vec<u8>,
    upstream: Vec<u8>,
    scratch: Vec<u8>,
    client: Vec<u8>,
    log: Vec<u8>,
    router: Router,
    policy: AuthPolicy,
    bucket: BucketAuth,
    tokens: TokenCache,
    key: DailyKey,
    amz_date: AmzDate,
    http_date: [u8; yatagarasu::protocol::http1::IMF_FIXDATE_BYTES],
    cells: Arc<BucketCells>,
}

struct Carrier<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
}

impl TokenCarrier for Carrier<'_> {
    fn header_values<'a>(&'a self, name_lower: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.head.header_values(self.bytes, name_lower.as_bytes())
    }

    fn query(&self) -> Option<&[u8]> {
        self.head.query.map(|span| span.of(self.bytes))
    }
}

impl Stand {
    /// With so many buckets, of which the request names one.
    fn new(buckets: usize, protected: bool) -> Self {
        let authorization = if protected {
            format!("Authorization: Bearer {}\r\n", token())
        } else {
            String::new()
        };
        let prefixes: Vec<String> =
            (0..buckets).map(|n| format!("/tenant-{n:05}/assets")).collect();
        let spec = AuthSpec {
            enforced: true,
            keys: vec![KeySpec {
                path: "jwt".to_owned(),
                id: None,
                algorithm: "HS256".to_owned(),
                material: KeyMaterial::Secret(Secret::new(JWT_SECRET.to_vec())),
            }],
            ..AuthSpec::default()
        };
        let mut stand = Self {
            request: format!(
                "GET /tenant-00007/assets/images/2024/summer/hero%20banner.jpg HTTP/1.1\r\n\
                Host: cdn.example.com\r\n\
                User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n\
                Accept: image/avif,image/webp,*/*;q=0.8\r\n\
                Accept-Encoding: gzip, deflate, br\r\n\
                If-None-Match: \"9b2cf535f27731c974343645a3985328\"\r\n\
                {authorization}\r\n"
            )
            .into_bytes(),
            limits: Limits::default(),
            head: RequestHead::default(),
            answer: ResponseHead::default(),
            path: Vec::with_capacity(4_096),
            upstream: Vec::with_capacity(4_096),
            scratch: Vec::with_capacity(4_096),
            client: Vec::with_capacity(4_096),
            log: Vec::with_capacity(BATCH_BYTES),
            router: Router::build(prefixes.iter().map(String::as_str).zip(0..)).unwrap(),
            policy: AuthPolicy::compile(&spec).0.unwrap(),
            bucket: BucketAuth::compile(protected, &[]).0.unwrap(),
            tokens: TokenCache::new(),
            key: DailyKey::default(),
            amz_date: AmzDate::from_unix(NOW),
            http_date: imf_fixdate(NOW),
            cells: Arc::new(BucketCells::new()),
        };
        stand.request_whole();
        stand
    }

    fn request_head(&mut self) {
        parse_request(black_box(&self.request), &self.limits, &mut self.head).unwrap();
    }

    /// The bucket, and where the key starts in the path.
    fn route(&mut self) -> (usize, usize) {
        canonical_path(self.head.path.of(black_box(&self.request)), &mut self.path).unwrap();
        let routed = self.router.route(&self.path).unwrap();
        (routed.bucket, self.path.len() - routed.key.unwrap().len())
    }

    fn permit(&mut self, key_at: usize) -> Permit {
        let carrier = Carrier { head: &self.head, bytes: black_box(&self.request) };
        let key = &self.path[key_at..];
        permit_object(&self.policy, &self.bucket, &mut self.tokens, &carrier, key, NOW).unwrap()
    }

    fn upstream_head(&mut self, key_at: usize) {
        let out = &mut self.upstream;
        out.clear();
        out.extend_from_slice(b"GET ");
        let target_at = out.len();
        out.push(b'/');
        encode_key(&self.path[key_at..], out);
        let target = target_at..out.len();
        out.extend_from_slice(b" HTTP/1.1\r\n");
        append_field("Host", HOST.as_bytes(), out);
        for forwarded in self.head.forwarded() {
            append_field(forwarded.field.name(), forwarded.value.of(&self.request), out);
        }
        let key = self.key.get(S3_SECRET, &self.amz_date, REGION);
        self.client.clear();
        let input = SigningInput {
            method: "GET",
            host: HOST,
            target: &out[target],
            access_key: ACCESS_KEY,
            session_token: None,
        };
        append_signed_headers(key, &self.amz_date, &input, &mut self.scratch, &mut self.client);
        out.extend_from_slice(&self.client);
        out.extend_from_slice(b"\r\n");
    }

    fn response_head(&mut self) {
        parse_response(black_box(RESPONSE), false, &mut self.answer).unwrap();
    }

    fn client_head(&mut self) {
        let (head, out) = (&self.answer, &mut self.client);
        let framing = client_framing(self.head.version, false, head.length);
        out.clear();
        append_status_line(head.status, out);
        head.copy_end_to_end(RESPONSE, out);
        if !head.has_date {
            append_field("Date", &self.http_date, out);
        }
        head.append_via(RESPONSE, "yatagarasu", out);
        append_framing(framing, head.status, head.content_length, out);
        append_field("X-Request-Id", b"0123456789abcdef0123456789abcdef", out);
        append_connection(self.head.version, false, out);
        out.extend_from_slice(b"\r\n");
    }

    fn record(&mut self, permit: &Permit) {
        let method = self.head.method_span.of(&self.request);
        let duration_ns = black_box(1_234_567);
        self.cells.record_upstream(self.answer.status, duration_ns);
        let bytes = self.answer.content_length.unwrap_or(0);
        let label = Method::from_token(method);
        self.cells.record_request(label, self.answer.status, duration_ns, bytes);
        self.log.clear();
        let record = AccessRecord {
            unix_ms: NOW * 1_000,
            request_id: b"0123456789abcdef0123456789abcdef",
            client: SocketAddr::from((Ipv4Addr::new(203, 0, 113, 9), 51_234)),
            method,
            path: self.head.path.of(&self.request),
            bucket: "products",
            status: self.answer.status,
            code: "",
            bytes,
            duration_us: duration_ns / 1_000,
            upstream_us: Some(duration_ns / 1_000),
            generation: 42,
            auth_reason: "",
            sub: permit.subject(),
            aborted: false,
        };
        write_record(&record, &mut self.log);
    }

    fn request_whole(&mut self) {
        self.request_head();
        let (_, key_at) = self.route();
        let permit = self.permit(key_at);
        self.upstream_head(key_at);
        self.response_head();
        self.client_head();
        self.record(&permit);
        black_box((&self.upstream, &self.client, &self.log));
    }
}

/// A token like those of identity providers.
fn token() -> String {
    let claims = json!({
        "iss": "https://id.example.com/",
        "sub": "alice@example.com",
        "aud": "files",
        "exp": NOW + 600,
        "nbf": NOW,
        "iat": NOW,
        "role": "user",
    });
    let key = EncodingKey::from_secret(JWT_SECRET);
    yatagarasu::policy::auth::install_crypto();
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

/// A case: its name and what makes the function that runs it once.
type Case = (&'static str, fn() -> Box<dyn FnMut()>);

/// The first three are whole requests; the others say where their instructions are.
const CASES: &[Case] = &[
    ("request_public", || {
        let mut stand = Stand::new(10, false);
        Box::new(move || stand.request_whole())
    }),
    ("request_public_10000_buckets", || {
        let mut stand = Stand::new(10_000, false);
        Box::new(move || stand.request_whole())
    }),
    ("request_jwt_cached", || {
        let mut stand = Stand::new(10, true);
        Box::new(move || stand.request_whole())
    }),
    ("request_jwt_cold", || {
        let mut stand = Stand::new(10, true);
        Box::new(move || {
            stand.tokens = TokenCache::new();
            stand.request_whole();
        })
    }),
    ("part_request_head", || {
        let mut stand = Stand::new(10, false);
        Box::new(move || stand.request_head())
    }),
    ("part_path_and_route", || {
        let mut stand = Stand::new(10, false);
        Box::new(move || {
            black_box(stand.route());
        })
    }),
    ("part_path_and_route_10000_buckets", || {
        let mut stand = Stand::new(10_000, false);
        Box::new(move || {
            black_box(stand.route());
        })
    }),
    ("part_permit_jwt_cached", || {
        let mut stand = Stand::new(10, true);
        let (_, key_at) = stand.route();
        Box::new(move || {
            drop(black_box(stand.permit(key_at)));
        })
    }),
    ("part_upstream_head_signed", || {
        let mut stand = Stand::new(10, false);
        let (_, key_at) = stand.route();
        Box::new(move || stand.upstream_head(key_at))
    }),
    ("part_response_head", || {
        let mut stand = Stand::new(10, false);
        Box::new(move || stand.response_head())
    }),
    ("part_client_head", || {
        let mut stand = Stand::new(10, false);
        Box::new(move || stand.client_head())
    }),
    ("part_count_and_log", || {
        let mut stand = Stand::new(10, false);
        let (_, key_at) = stand.route();
        let permit = stand.permit(key_at);
        Box::new(move || stand.record(&permit))
    }),
];

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for scripts")]
fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => CASES.iter().for_each(|(name, _)| println!("{name}")),
        [case, count] if CASES.iter().any(|(name, _)| *name == case) => {
            let (_, make) = CASES.iter().find(|(name, _)| *name == case).unwrap();
            let mut run = make();
            for _ in 0..count.parse::<u64>().unwrap() {
                run();
            }
        }
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            let mut criterion = Criterion::default().configure_from_args();
            for (name, make) in CASES {
                let mut run = make();
                criterion.bench_function(name, |bencher| bencher.iter(&mut run));
            }
            criterion.final_summary();
        }
        _ => eprintln!("usage: whole_request list | CASE COUNT"),
    }
}
