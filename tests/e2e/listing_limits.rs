//! Bounds of listings: how many pages a core makes at once, and what they hold in memory.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;

use crate::support::{
    config::Config,
    gate::Gate,
    http2_frames::{CANCEL, HEADERS, INITIAL_WINDOW, PING, RST_STREAM, RawHttp2, frame, request},
    proxy::Proxy,
    raw_client::{Client, request_bytes},
    scripted_origin::{ScriptedOrigin, response_bytes},
    waiting::wait_until,
};

/// Pages that a core makes at once, and those of one client (docs/LISTING.md).
const PAGES_MAX: usize = 32;
const PAGES_OF_CLIENT_MAX: usize = 16;

/// The address of one of several clients.
fn address_of(client: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(client).unwrap()).into()
}

/// A connection of the client that has the next share of all pages.
fn sharing(proxy: &Proxy, number: usize) -> Client {
    Client::connect_from(address_of(number / PAGES_OF_CLIENT_MAX), proxy.address())
}

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
        .map(|number| {
            let mut client = sharing(&proxy, number);
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
    for number in 0..CLIENTS {
        let mut client = Client::connect_from_with_receive_buffer(
            address_of(number / PAGES_OF_CLIENT_MAX),
            proxy.address(),
            Some(4_096),
        );
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

/// A client from this address, which asks for so many pages and takes nothing of them: the statuses
/// that it gets. A page of the bucket is longer than a stream's window.
fn hold_pages(proxy: &Proxy, from: IpAddr, pages: usize) -> (RawHttp2, Vec<Option<u16>>) {
    let mut client = RawHttp2::connect_from(from, proxy.address(), &[(INITIAL_WINDOW, 8)]);
    let streams = (0..u32::try_from(pages).unwrap()).map(|number| 2 * number + 1);
    let statuses = streams
        .map(|stream| {
            client.send(request(stream, "/products/"));
            client.expect(HEADERS, stream).status()
        })
        .collect();
    (client, statuses)
}

/// The streams that were reset until the next PING is answered, and their codes.
fn resets(client: &mut RawHttp2) -> Vec<(u32, u32)> {
    client.send(frame(PING, 0, 0, [0; 8]));
    std::iter::from_fn(|| client.next())
        .take_while(|frame| frame.kind != PING)
        .filter(|frame| frame.kind == RST_STREAM)
        .map(|frame| (frame.stream, frame.numbers()[0]))
        .collect()
}

#[test]
fn one_client_leaves_pages_to_others() {
    let origin = ScriptedOrigin::always(document(["a".to_owned()].into_iter()));
    let config = listed(&origin).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let (_first, statuses) = hold_pages(&proxy, address_of(1), PAGES_MAX + 8);
    let (got, refused) = statuses.split_at(PAGES_OF_CLIENT_MAX);
    assert!(got.iter().all(|status| *status == Some(200)), "{statuses:?}");
    // The table of `status` has no 503.
    assert!(refused.iter().all(Option::is_none), "{statuses:?}");
    // Whatever connection it comes by.
    let mut again = Client::connect_from(address_of(1), proxy.address());
    again.request("GET", "/products/", &[HTML]).assert_fault(503, "too_many_listings");
    let mut other = Client::connect_from(address_of(2), proxy.address());
    assert_eq!(other.request("GET", "/products/", &[HTML]).status, 200);
}

#[test]
fn a_refusal_that_nobody_reads_is_no_page() {
    // A directory without entries, which is 404.
    let origin = ScriptedOrigin::always(document(std::iter::empty()));
    let config = listed(&origin).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, 0)]);
    for stream in (0..40).map(|number| 2 * number + 1) {
        client.send(request(stream, "/products/none/"));
        assert_eq!(client.expect(HEADERS, stream).status(), Some(404), "stream {stream}");
    }
}

#[test]
fn pages_that_are_taken_too_slowly_make_room_for_others() {
    let origin = ScriptedOrigin::always(document(["a".to_owned()].into_iter()));
    // Nothing else ends the streams.
    let config = listed(&origin)
        .set("server.http2.cleartext", true)
        .set("server.timeouts.client_write", 600);
    let proxy = Proxy::start(&config);
    let (mut holders, statuses): (Vec<_>, Vec<_>) = [1, 2]
        .map(|client| hold_pages(&proxy, address_of(client), PAGES_OF_CLIENT_MAX))
        .into_iter()
        .unzip();
    assert!(statuses.concat().iter().all(|status| *status == Some(200)), "{statuses:?}");
    let mut other = Client::connect_from(address_of(3), proxy.address());
    wait_until("room for a page", || other.request("GET", "/products/", &[HTML]).status == 200);
    // It was that of the one that has had its time for longest. The others are left alone.
    let expected = [(1, CANCEL)];
    wait_until("one to be reset", || resets(&mut holders[0]) == expected);
    assert!(resets(&mut holders[1]).is_empty());
}
