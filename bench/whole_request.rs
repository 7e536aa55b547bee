//! User-space cost of one whole request when nothing waits: its bytes in, the signed request, S3's
//! response, the client's response, counted and logged.
//!
//! - `cargo bench --bench whole_request` times it, up to each of its steps.
//! - `whole_request CASE COUNT` runs a case so many times and ends, for `bench/instructions/check`
//!   to count instructions under valgrind.
//!
//! It runs the exchange's own code (`src/data_plane/rehearsal.rs`), on a core that has an event
//! loop but no connection to S3. System calls, timers, the pool and what the event loop does are in
//! the `worker_*` figures of `bench/instructions/check`, which measure the real binary.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where its set-up fails")]

use std::{collections::BTreeMap, env, fmt::Write as _, hint::black_box, path::PathBuf};

use criterion::Criterion;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use yatagarasu::{
    config::{Policies, parse},
    control_plane::compile::{CompileContext, compile},
    data_plane::rehearsal::{Rehearsal, Step},
    handoff::release::Release,
    model::Generation,
    policy::auth::install_crypto,
};

const JWT_SECRET: &str = "an-instruction-count-secret-of-enough-characters";

const RESPONSE_HEAD: &str = "HTTP/1.1 200 OK\r\n\
    x-amz-id-2: eftixk72aD6Ap51TnqcoF8eFidJG9Z/2mkiDFu8yU9AS1ed4OpIszj7UDNEHGran\r\n\
    x-amz-request-id: 318BC8BC148832E5\r\n\
    Date: Wed, 28 Oct 2009 22:32:00 GMT\r\n\
    Last-Modified: Wed, 12 Oct 2009 17:50:00 GMT\r\n\
    ETag: \"fba9dede5f27731c9771645a39863328\"\r\n\
    Accept-Ranges: bytes\r\n\
    Content-Type: image/jpeg\r\n\
    Content-Length: 1024\r\n\
    Server: AmazonS3\r\n\r\n";

/// A request, and the proxy that gets it.
struct Case {
    name: &'static str,
    /// Buckets, of which the request names one.
    buckets: usize,
    tokens: Tokens,
    until: Step,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tokens {
    /// The bucket asks for none.
    Open,
    /// The token was verified before.
    Known,
    /// The token is verified each time.
    New,
}

const fn case(name: &'static str, buckets: usize, tokens: Tokens, until: Step) -> Case {
    Case { name, buckets, tokens, until }
}

/// The first four are whole requests; the others end earlier, which says where a difference comes
/// from.
const CASES: &[Case] = &[
    case("request_public", 10, Tokens::Open, Step::Record),
    case("request_public_10000_buckets", 10_000, Tokens::Open, Step::Record),
    case("request_jwt_cached", 10, Tokens::Known, Step::Record),
    case("request_jwt_cold", 10, Tokens::New, Step::Record),
    case("until_request_head", 10, Tokens::Open, Step::RequestHead),
    case("until_decision", 10, Tokens::Open, Step::Decision),
    case("until_decision_10000_buckets", 10_000, Tokens::Open, Step::Decision),
    case("until_decision_jwt_cached", 10, Tokens::Known, Step::Decision),
    case("until_upstream_request", 10, Tokens::Open, Step::UpstreamRequest),
    case("until_response_head", 10, Tokens::Open, Step::ResponseHead),
    case("until_client_response", 10, Tokens::Open, Step::ClientResponse),
];

impl Case {
    /// Gives `body` something that goes through the case once.
    fn run(&self, body: impl FnOnce(&mut dyn FnMut())) {
        let request = request(self.tokens != Tokens::Open);
        let response = format!("{RESPONSE_HEAD}{}", "x".repeat(1_024));
        Rehearsal::run(release(self.buckets, self.tokens != Tokens::Open), |rehearsal| {
            body(&mut || {
                if self.tokens == Tokens::New {
                    rehearsal.forget_tokens();
                }
                let (request, response) = (black_box(&request), black_box(&response));
                rehearsal.request(request.as_bytes(), response.as_bytes(), self.until).unwrap();
            });
        })
        .unwrap();
    }
}

/// A generation of so many buckets.
fn release(buckets: usize, protected: bool) -> Release {
    let mut text = format!("jwt: {{ algorithm: HS256, secret: {JWT_SECRET} }}\nbuckets:\n");
    for number in 0..buckets {
        let _ = write!(
            text,
            "- name: tenant-{number:05}\n  path_prefix: /tenant-{number:05}/assets\n  s3:\n    \
             bucket: bench\n    region: us-east-1\n    endpoint: http://127.0.0.1:9\n    \
             access_key: AKIAIOSFODNN7EXAMPLE\n    \
             secret_key: wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n  \
             auth: {{ enabled: {protected} }}\n"
        );
    }
    let nothing = BTreeMap::<String, String>::new();
    let no_files = BTreeMap::<PathBuf, Vec<u8>>::new();
    let settings = parse(text.as_bytes(), &nothing, &no_files).unwrap().settings;
    let policies = &Policies::compile(&settings).0.unwrap();
    let generation = Generation(1);
    let context = CompileContext { generation, workers: 1, previous: None, policies };
    compile(&settings, &context).unwrap()
}

fn request(with_token: bool) -> String {
    let authorization =
        if with_token { format!("Authorization: Bearer {}\r\n", token()) } else { String::new() };
    format!(
        "GET /tenant-00007/assets/images/2024/summer/hero%20banner.jpg HTTP/1.1\r\n\
        Host: cdn.example.com\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n\
        Accept: image/avif,image/webp,*/*;q=0.8\r\n\
        Accept-Encoding: gzip, deflate, br\r\n\
        If-None-Match: \"9b2cf535f27731c974343645a3985328\"\r\n\
        {authorization}\r\n"
    )
}

/// A token like those of identity providers, always of the same length.
fn token() -> String {
    let claims = json!({
        "iss": "https://id.example.com/",
        "sub": "alice@example.com",
        "aud": "files",
        "exp": 4_000_000_000_u64,
        "nbf": 1_700_000_000,
        "iat": 1_700_000_000,
        "role": "user",
    });
    let key = EncodingKey::from_secret(JWT_SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap()
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for scripts")]
fn main() {
    install_crypto();
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => CASES.iter().for_each(|case| println!("{}", case.name)),
        [name, count] if !name.starts_with('-') => {
            let case = CASES.iter().find(|case| case.name == name).unwrap();
            let count = count.parse::<u64>().unwrap();
            case.run(|once| (0..count).for_each(|_| once()));
        }
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            let mut criterion = Criterion::default().configure_from_args();
            for case in CASES {
                case.run(|once| {
                    criterion.bench_function(case.name, |bencher| bencher.iter(&mut *once));
                });
            }
            criterion.final_summary();
        }
        _ => eprintln!("usage: whole_request list | CASE COUNT"),
    }
}
