//! Small responses that leave a worker together, and clients that get in the way of that.

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::{Launch, Proxy},
    raw_client::{Client, End, request_bytes},
    scripted_origin::ScriptedOrigin,
    waiting::wait_until,
};

/// Clients whose responses come in one turn of the event loop, or in a few.
const CLIENTS: usize = 24;

/// Starts a proxy whose small sends leave it in this way.
fn start(origin: &ScriptedOrigin, io: &str, sends: &str) -> Proxy {
    let config = Config::products(origin.url()).set("server.io", io);
    // Together from no event on.
    let turns = if sends == "together" { "0" } else { sends };
    let proxy = Launch::new().config(&config).environment("YATAGARASU_SENDS", turns).start();
    let running = proxy.stderr().event("worker running").expect("a running worker");
    let expected = if sends == "together" { "together" } else { "one by one" };
    assert_eq!(running["sends"], expected, "{running}");
    proxy
}

#[test]
fn the_log_says_whether_a_worker_pauses() {
    let origin = ScriptedOrigin::echo();
    for (choice, pauses) in [("", true), ("never", false), ("100", true)] {
        let config = Config::products(origin.url());
        let proxy = Launch::new().config(&config).environment("YATAGARASU_PAUSES", choice).start();
        let running = proxy.stderr().event("worker running").expect("a running worker");
        assert_eq!(running["pauses"], pauses, "{running}");
    }
}

/// Runs `test` for each way in which small sends may leave a worker, with an origin that waits at
/// gates.
fn each_way<const GATES: usize>(
    origin: impl Fn([Gate; GATES]) -> ScriptedOrigin,
    test: impl Fn(&ScriptedOrigin, &Proxy, [Gate; GATES]),
) {
    for (io, sends) in [("io_uring", "together"), ("epoll", "alone")] {
        let gates = std::array::from_fn(|_| Gate::default());
        let origin = origin(gates.clone());
        let proxy = start(&origin, io, sends);
        test(&origin, &proxy, gates);
    }
}

/// Clients that have all asked for something, which they get when the gate opens.
fn asking(origin: &ScriptedOrigin, proxy: &Proxy) -> Vec<Client> {
    let before = origin.requests().len();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let mut client = proxy.client();
            client.send(request_bytes("GET", &format!("/products/{number}"), &[]));
            client
        })
        .collect();
    wait_until("all requests", || origin.requests().len() == before + CLIENTS);
    clients
}

#[test]
fn responses_of_clients_that_do_not_read_wait_for_them_in_order() {
    const STUBBORN: usize = 2;
    // More than the kernel keeps for a socket on either side.
    const REQUESTS: usize = 6_000;
    let origin = ScriptedOrigin::echo();
    let proxy = start(&origin, "io_uring", "together");
    let padding = "p".repeat(1_000);
    let target = |client: usize, number: usize| format!("/products/{client}/{number}/{padding}");
    let mut senders = Vec::new();
    let mut clients = Vec::new();
    for number in 0..STUBBORN {
        let client = Client::connect_with_receive_buffer(proxy.address(), 4_096);
        let mut half = client.sending_half();
        let requests: Vec<u8> = (0..REQUESTS)
            .flat_map(|request| request_bytes("GET", &target(number, request), &[]))
            .collect();
        senders.push(std::thread::spawn(move || std::io::Write::write_all(&mut half, &requests)));
        clients.push(client);
    }
    // Nobody else is held up.
    let mut other = proxy.client();
    for number in 0..50 {
        assert_eq!(other.get(&format!("/products/{number}")).status, 200);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        for request in 0..REQUESTS {
            let response = client.response("GET");
            assert!(target(number, request).ends_with(response.text()), "{number} {request}");
        }
    }
    for sender in senders {
        sender.join().unwrap().unwrap();
    }
}

#[test]
fn a_reset_by_some_clients_costs_the_others_nothing() {
    each_way(
        |[gate]| {
            ScriptedOrigin::start(move |conn, _| {
                while let Some(request) = conn.request() {
                    if conn.wait_or_closed(&gate) {
                        conn.respond("200 OK", &[], request.target.as_bytes());
                    }
                }
            })
        },
        |origin, proxy, [gate]| {
            // Before the responses come, and while they do.
            for round in 0..5 {
                let clients = asking(origin, proxy);
                if round == 1 {
                    gate.open();
                }
                let mut staying = Vec::new();
                for (number, client) in clients.into_iter().enumerate() {
                    if number % 2 == 0 {
                        client.reset();
                    } else {
                        staying.push((number, client));
                    }
                }
                gate.open();
                for (number, mut client) in staying {
                    assert!(client.response("GET").text().ends_with(&format!("/{number}")));
                    assert!(client.get("/products/again").text().ends_with("/again"));
                }
                let complete = (round + 1) * (CLIENTS + CLIENTS / 2);
                wait_until("a record of each", || proxy.stdout().records().len() == complete);
            }
        },
    );
}

#[test]
fn a_body_that_is_cut_short_is_reset_behind_what_came_of_it() {
    each_way(
        |[comes, ends]| {
            ScriptedOrigin::start(move |conn, _| {
                conn.expect_request();
                conn.wait(&comes);
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                conn.wait(&ends);
                conn.reset();
            })
        },
        |origin, proxy, [comes, ends]| {
            let mut clients = asking(origin, proxy);
            comes.open();
            for client in &mut clients {
                let head = client.head("GET").unwrap();
                assert_eq!(head.header("content-length"), Some("100"));
                assert_eq!(client.read_exactly(4), b"part");
            }
            ends.open();
            for client in &mut clients {
                assert_eq!(client.read_to_end(), (Vec::new(), End::Reset));
            }
            wait_until("a record of each", || proxy.stdout().records().len() == CLIENTS);
            for record in proxy.stdout().records() {
                assert_eq!((&record["bytes"], &record["aborted"]), (&4.into(), &true.into()));
            }
        },
    );
}
