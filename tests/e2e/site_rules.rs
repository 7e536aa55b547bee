//! Rules for browsers and websites in all their combinations. A response to HEAD is that to GET
//! without its body, `Vary` names each field of the request that a response depends on, and what
//! is hidden shows nowhere.

use serde_json::{Value, json};

use crate::support::{
    config::Config,
    decode::{decode_all, page},
    proxy::Proxy,
    raw_client::{Client, Response},
    scripted_origin::{OriginConnection, Request, ScriptedOrigin, response_bytes},
};

/// Parts of a configuration, each of which a bucket has or not.
fn features() -> [Vec<(&'static str, Value)>; 6] {
    [
        vec![("compress", json!({ "types": ["text/*"] }))],
        vec![("spa", "app.html".into())],
        vec![
            ("index", "index.html".into()),
            ("redirect_directories", true.into()),
            ("error_pages", json!({ "404": "/404.html" })),
        ],
        vec![("listing", json!({ "enabled": true, "formats": ["json", "html"] }))],
        vec![("cors", json!({ "origins": ["https://app.example"] }))],
        vec![
            ("hide_s3", true.into()),
            ("headers", json!({ "add": { "Vary": "X-Own" }, "remove": ["x-amz-*"] })),
        ],
    ]
}

/// Objects of every bucket, behind its prefix of keys.
const OBJECTS: [&str; 4] = ["docs/index.html", "app.html", "404.html", "page.html"];

const TARGETS: [&str; 5] = ["page.html", "docs", "docs/", "none", "none/"];

/// Fields of a request that may matter, with a value for them.
const MAY_MATTER: [(&str, &str); 3] =
    [("Accept-Encoding", "gzip"), ("Accept", "text/html"), ("Origin", "https://app.example")];

/// Length of every object, in bytes.
const LENGTH: usize = 3_000;

fn answer(conn: &mut OriginConnection, request: &Request) {
    let of_s3 = [("Server", "AmazonS3"), ("x-amz-request-id", "MARK")];
    let target = request.target.splitn(3, '/').nth(2).unwrap_or_default();
    let mut response = if request.target.contains("list-type=2") {
        let is_docs = request.target.contains("prefix=hidden%2Fdocs%2F");
        let key = if is_docs { "<Contents><Key>hidden/docs/a</Key></Contents>" } else { "" };
        let xml = format!("<ListBucketResult>{key}</ListBucketResult>");
        response_bytes("200 OK", &of_s3, xml.as_bytes())
    } else if target.strip_prefix("hidden/").is_some_and(|key| OBJECTS.contains(&key)) {
        let fields = [&of_s3[..], &[("Content-Type", "text/html"), ("ETag", "\"e\"")]].concat();
        response_bytes("200 OK", &fields, &page(LENGTH))
    } else {
        let error = format!("<Error><Code>NoSuchKey</Code><Key>{target}</Key></Error>");
        response_bytes("404 Not Found", &of_s3, error.as_bytes())
    };
    if request.method == "HEAD" {
        response.truncate(response.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4);
    }
    conn.send(response);
}

/// The fields that a client sees, but for those that differ between any two responses or are about
/// the body on the wire.
fn fields_of(response: &Response) -> Vec<(String, String)> {
    const OTHERS: [&str; 3] = ["date", "x-request-id", "transfer-encoding"];
    let fields = response.fields.0.iter().map(|(name, value)| (name.to_lowercase(), value.clone()));
    let mut fields: Vec<_> = fields.filter(|(name, _)| !OTHERS.contains(&&**name)).collect();
    fields.sort();
    fields
}

/// The same without `Vary`, with the status and the body.
fn content_of(response: &Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let mut fields = fields_of(response);
    fields.retain(|(name, _)| name != "vary");
    let has_id = response.body.starts_with(b"{\"status\"");
    let body = if has_id { response.code().into_bytes() } else { response.body.clone() };
    (response.status, fields, body)
}

/// Asks with each of these fields or without it, by the bits of a number.
fn ask(client: &mut Client, what: &str, target: &str, hides: bool) -> Vec<Response> {
    let fields_for = |bits: usize| -> Vec<(&str, &str)> {
        let all = MAY_MATTER.iter().enumerate();
        all.filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, field)| *field).collect()
    };
    let ask = |bits: usize| {
        let fields = fields_for(bits);
        let response = client.request("GET", target, &fields);
        let head = client.request("HEAD", target, &fields);
        let context = format!("{what} {target} {fields:?}");
        assert_eq!(head.status, response.status, "{context}");
        assert_eq!(fields_of(&head), fields_of(&response), "{context}");
        assert!(head.body.is_empty());
        assert!(response.fields.all("vary").len() <= 1, "{context}: {response:?}");
        if response.header("content-encoding").is_some() {
            assert_eq!(response.status, 200, "{context}");
            assert_eq!(decode_all("gzip", &response.body), page(LENGTH), "{context}");
        }
        if hides {
            let shown = format!("{response:?}");
            let told = ["hidden", "MARK", "AmazonS3", "NoSuchKey"].map(|it| shown.contains(it));
            assert_eq!(told, [false; 4], "{context}: {shown}");
        }
        response
    };
    (0..1 << MAY_MATTER.len()).map(ask).collect()
}

#[test]
fn every_combination_says_what_its_responses_depend_on() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            answer(conn, &request);
        }
    });
    let features = features();
    let combinations = 1 << features.len();
    let config = (0..combinations).fold(Config::new(), |config, bits: usize| {
        let chosen = features.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        let config = config
            .bucket(&format!("site{bits}"), origin.url())
            .set(&format!("buckets.{bits}.s3.key_prefix"), "hidden/");
        chosen.flat_map(|(_, keys)| keys).fold(config, |config, (key, value)| {
            config.set(&format!("buckets.{bits}.{key}"), value.clone())
        })
    });
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let mut coded = 0;
    for bits in 0..combinations {
        for target in TARGETS {
            let what = format!("bucket {bits:06b}");
            let target = format!("/site{bits}/{target}");
            let responses = ask(&mut client, &what, &target, bits >> 5 & 1 == 1);
            for (bit, (name, _)) in MAY_MATTER.iter().enumerate() {
                for with in (0..responses.len()).filter(|with| with >> bit & 1 == 1) {
                    let pair = [&responses[with], &responses[with & !(1 << bit)]];
                    if content_of(pair[0]) == content_of(pair[1]) {
                        continue;
                    }
                    for response in pair {
                        let vary = response.header("vary").unwrap_or_default();
                        let mut members = vary.split(", ");
                        assert!(
                            members.any(|member| member.eq_ignore_ascii_case(name)),
                            "{what} {target}: {name} matters, and Vary is {vary:?}"
                        );
                    }
                }
            }
            coded += responses.iter().filter(|it| it.fields.has("content-encoding")).count();
        }
    }
    assert!(coded > 100, "{coded} responses were coded: nothing was compared");
}
