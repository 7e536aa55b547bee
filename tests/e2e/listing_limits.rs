//! Bounds of listings: how many pages a core makes at once, and what they hold in memory.

use serde_json::json;

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::Proxy,
    raw_client::{Client, request_bytes},
    scripted_origin::{ScriptedOrigin, response_bytes},
    waiting::wait_until,
};

/// Pages that a core makes at once (docs/LISTING.md).
const PAGES_MAX: usize = 32;

const HTML: (&str, &str) = ("Accept", "text/html");

fn listed(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url()).set("server.threads", 1).set("buckets.0.listing.enabled", true)
}

/// A page of S3 with objects of these keys, which are encoded already.
fn document(keys: impl Iterator<Item = String>) -> Vec<u8> {
    let object = |key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
    let objects: String = keys.map(object).collect();
    let xml =
        format!("<ListBucketResult><EncodingType>url</EncodingType>{objects}</ListBucketResult>");
    response_bytes("200 OK", &[("Content-Type", "application/xml")], xml.as_bytes())
}

#[test]
fn more_pages_than_a_core_makes_at_once_are_to_be_asked_for_again() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |connection, _| {
        while connection.request().is_some() && connection.wait_or_closed(&held) {
            connection.send(document(["a".to_owned()].into_iter()));
        }
    });
    let proxy = Proxy::start(&listed(&origin));
    let mut clients: Vec<_> = (0..PAGES_MAX)
        .map(|_| {
            let mut client = proxy.client();
            client.send(request_bytes("GET", "/products/", &[HTML]));
            client
        })
        .collect();
    wait_until("all pages to be asked for", || origin.requests().len() == PAGES_MAX);
    let mut client = proxy.client();
    let refused = client.request("GET", "/products/", &[HTML]);
    refused.assert_fault(503, "too_many_listings");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let of_s3 = client.get("/products?list-type=2");
    assert_eq!((of_s3.status, of_s3.header("retry-after")), (503, Some("1")));
    assert!(of_s3.text().contains("<Code>SlowDown</Code>"), "{}", of_s3.text());
    // What needs no page is as ever.
    assert_eq!(client.request("HEAD", "/products", &[]).status, 200);
    assert_eq!(client.get("/health").status, 200);
    assert_eq!(origin.requests().len(), PAGES_MAX);
    // One that is given up makes room for another.
    drop(clients.pop());
    origin.wait_open(PAGES_MAX - 1);
    client.send(request_bytes("GET", "/products/", &[HTML]));
    wait_until("another page to be asked for", || origin.requests().len() == PAGES_MAX + 1);
    clients.push(client);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").status, 200);
    }
    assert_eq!(proxy.get_with("/products/", &[HTML]).status, 200);
}

#[test]
fn pages_that_nobody_reads_hold_bounded_memory() {
    /// More than may be made at once.
    const CLIENTS: usize = PAGES_MAX + 8;
    /// For the largest page, with the room that its buffer grows by.
    const PAGE_KIB: u64 = 16_384;
    /// For the answer of S3 that is being read, and the connections.
    const OTHERS_KIB: u64 = 32_768;

    // Keys of 1,024 bytes, of each of which HTML makes nine.
    let origin = ScriptedOrigin::always(document(
        (0..1_000).map(|number| format!("{number:04}{}", "%22".repeat(1_020))),
    ));
    let config = listed(&origin).set("server.timeouts.client_write", json!(3_600));
    let proxy = Proxy::start(&config);
    let before = proxy.rss_kib();
    let mut clients = Vec::new();
    let mut refused = 0;
    for _ in 0..CLIENTS {
        let mut client = Client::connect_with_receive_buffer(proxy.address(), 4_096);
        client.send(request_bytes("GET", "/products/", &[HTML]));
        let head = client.head("GET").unwrap();
        match head.status {
            200 => clients.push((client, head)),
            503 => refused += 1,
            status => panic!("{status}"),
        }
    }
    assert_eq!((clients.len(), refused), (PAGES_MAX, CLIENTS - PAGES_MAX));
    let kib = proxy.rss_kib().saturating_sub(before);
    assert!(kib <= PAGES_MAX as u64 * PAGE_KIB + OTHERS_KIB, "{kib} KiB");
    // Nothing is cut off for those who take their time.
    let (mut client, head) = clients.pop().unwrap();
    let page = client.rest_of(&head);
    assert!(page.len() > 9_000_000, "{} bytes", page.len());
    assert!(page.ends_with(b"</html>\n"), "{:?}", &page[page.len() - 20..]);
    wait_until("room for a page", || proxy.get_with("/products/", &[HTML]).status == 200);
}
