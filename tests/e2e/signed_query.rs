//! Requests with a query, signed by this program's code, against an S3 server that checks them.

use std::time::{SystemTime, UNIX_EPOCH};

use yatagarasu::protocol::s3::{
    AmzDate, SigningInput, SigningKey, append_query, append_signed_headers,
};

use crate::support::{
    config::{ACCESS_KEY, SECRET_KEY},
    raw_client::{Client, Response},
    s3_server::S3Server,
};

/// Asks for `path` with these parameters, signed as if it had those.
fn ask(
    server: &S3Server,
    path: &str,
    sent: &[(&'static str, &str)],
    signed: &[(&'static str, &str)],
) -> Response {
    let target = |parameters: &[(&'static str, &str)]| {
        let mut query = Vec::new();
        let mut parameters: Vec<_> =
            parameters.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        append_query(&mut parameters, &mut query);
        ([path.as_bytes(), b"?", &query].concat(), query.len())
    };
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let date = AmzDate::from_unix(since_1970.as_secs());
    let key = SigningKey::derive(SECRET_KEY.as_bytes(), &date, "us-east-1");
    let host = server.address().to_string();
    let (signed_target, query_bytes) = target(signed);
    let input = SigningInput {
        method: "GET",
        host: &host,
        target: &signed_target,
        query_bytes,
        access_key: ACCESS_KEY,
        session_token: None,
    };
    let (sent_target, _) = target(sent);
    let mut request = [b"GET ", &*sent_target, b" HTTP/1.1\r\nHost: "].concat();
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(b"\r\n");
    append_signed_headers(&key, &date, &input, &mut Vec::new(), &mut request);
    request.extend_from_slice(b"\r\n");
    let mut client = Client::connect(server.address());
    client.send(request);
    client.response("GET")
}

#[test]
fn an_s3_server_accepts_the_signature_of_a_query_and_of_no_other() {
    let server = S3Server::with_test_keys();
    server.put("bucket", "a b/one+two.txt", "1");
    server.put("bucket", "c/three.txt", "3");
    let under_a = [("list-type", "2"), ("prefix", "a b/"), ("delimiter", "/")];
    let listed = ask(&server, "/bucket", &under_a, &under_a);
    assert_eq!(listed.status, 200, "{}", listed.text());
    assert!(listed.text().contains("<Key>a b/one+two.txt</Key>"), "{}", listed.text());
    assert!(!listed.text().contains("three.txt"), "{}", listed.text());

    let named = [("response-content-disposition", "attachment; filename=\"\u{516b}+/.txt\"")];
    assert_eq!(ask(&server, "/bucket/c/three.txt", &named, &named).status, 200);

    let all = [("list-type", "2"), ("prefix", ""), ("delimiter", "/")];
    assert_eq!(ask(&server, "/bucket", &all, &under_a).status, 403);
}
