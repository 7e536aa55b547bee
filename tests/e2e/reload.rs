//! Hot reload: what is adopted is adopted by everybody at once, what is refused changes nothing,
//! and no request notices either.

use std::{
    fmt::Write as _,
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use serde_json::{Value, json};

use crate::support::{
    config::{ACCESS_KEY, Config},
    gate::Gate,
    proxy::{Launch, Proxy, signal},
    raw_client::request_bytes,
    reload::{
        Done, adopt, config, config_of, counts, generation_of, post, reload, touched,
        wait_generation,
    },
    s3_server::S3Server,
    scripted_origin::ScriptedOrigin,
    tls_front::TlsFront,
    token::{self, bearer},
    waiting::{wait_for, wait_until},
};

#[test]
fn a_post_and_a_signal_adopt_the_file() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    let mut kept = proxy.client();
    assert_eq!(generation_of(&kept.get("/products/x")), 1);

    proxy.write_config(&first.clone().bucket("more", origin.url()).with_jwt(&[]));
    assert_eq!(kept.get("/more/x").status, 404, "not before somebody asks for it");
    let report = reload(&proxy);
    assert_eq!(report["config_generation"], 2);
    assert_eq!(report["changed"], true);
    assert_eq!(report["workers"], 2);
    assert_eq!(report["message"], "Configuration reloaded successfully");
    assert!(report["timestamp"].as_u64().is_some_and(|seconds| seconds > 1_700_000_000));
    assert!(report["duration_ms"].is_number(), "{report}");
    let response = kept.get("/more/x");
    assert_eq!((response.status, generation_of(&response)), (200, 2), "on the kept connection too");

    proxy.write_config(&first);
    proxy.signal("HUP");
    wait_generation(&proxy, 3);
    assert_eq!(kept.get("/more/x").status, 404);
    wait_until("its success", || counts(&proxy) == (2, 0));
}

#[test]
fn an_unchanged_file_is_a_success_without_a_new_generation() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    let report = reload(&proxy);
    assert_eq!((&report["changed"], &report["config_generation"]), (&json!(false), &json!(1)));
    proxy.write_config_text(&format!("# a comment more\n{}\n\n", first.to_yaml()));
    assert_eq!(reload(&proxy)["changed"], false);
    assert_eq!(counts(&proxy), (2, 0));
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_adopted() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    let only_restart = first.clone().set("server.max_connections", 77);
    proxy.write_config(&only_restart);
    let report = reload(&proxy);
    assert_eq!((&report["changed"], &report["config_generation"]), (&json!(false), &json!(1)));
    let named = report["restart_required"].to_string();
    assert!(named.contains("server.max_connections") && named.contains("77"), "{report}");
    assert_eq!(proxy.metric("config_restart_required"), Some(1.0));

    proxy.write_config(&touched(&only_restart, 1));
    let report = reload(&proxy);
    assert_eq!((&report["changed"], &report["config_generation"]), (&json!(true), &json!(2)));
    assert!(report["applied"].to_string().contains("server.timeouts.client_idle"), "{report}");

    proxy.write_config(&touched(&first, 1));
    reload(&proxy);
    assert_eq!(proxy.metric("config_restart_required"), Some(0.0));
}

/// Many more refused files are in `reload_refusals`.
#[test]
fn a_refused_file_changes_nothing_but_the_failure_counter() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    let mut kept = proxy.client();
    assert_eq!(kept.get("/products/x").status, 200);
    let good = first.to_yaml();
    let bomb = {
        let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (name, of) in ('b'..='j').zip('a'..='i') {
            let line = vec![format!("*{of}"); 9].join(", ");
            writeln!(text, "{name}: &{name} [{line}]").unwrap();
        }
        text
    };
    let refused = [
        String::new(),
        "buckets: []\n".to_owned(),
        "nonsense".to_owned(),
        "{".to_owned(),
        "\u{0}\u{1}".to_owned(),
        bomb,
        "[".repeat(100_000),
        "garbage ".repeat(3_000_000),
        good.replace("path_prefix", "path_prefx"),
        format!("{good}\nserver:\n  port: 1\n"),
        good.replace("region: us-east-1", "region: ''"),
        good.replace("/products", "products"),
        good.replace("/products", "/admin/x"),
        good.replace("us-east-1", "${NO_SUCH_VARIABLE_ANYWHERE}"),
        good.replace("enabled: true", "enabled: maybe"),
        good.replace(token::JWT_SECRET, "short"),
        first.clone().set("buckets.0.auth.claims", 7).to_yaml(),
        first.clone().set("server.limits.headers", -1).to_yaml(),
        first.clone().set("buckets.0.s3.secret_key_file", "/nowhere/at/all").to_yaml(),
        first.clone().set("buckets.0.s3.ca_file", "/nowhere/at/all").to_yaml(),
    ];
    let (fds, threads) = (proxy.open_fds(), proxy.threads());
    for (done, text) in refused.iter().enumerate() {
        proxy.write_config_text(text);
        let response = post(&proxy, "/admin/reload", &[]);
        let shown: String = text.chars().take(80).collect();
        assert_eq!(response.status, 400, "{shown:?}: {response:?}");
        let report = response.json();
        assert_eq!(report["message"], "Configuration reload failed");
        assert_eq!(report["config_generation"], 1);
        let errors = report["errors"].as_array().expect("errors");
        assert!(!errors.is_empty(), "{shown:?}");
        assert_eq!(report["error"], errors[0]["message"], "{report}");
        assert_eq!(kept.get("/products/x").status, 200, "{shown:?}");
        assert_eq!(counts(&proxy), (0, done + 1), "{shown:?}");
        assert_eq!(proxy.metric("config_last_reload_successful"), Some(0.0));
    }
    let path = proxy.directory().join("config.yaml");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(post(&proxy, "/admin/reload", &[]).status, 400, "missing");
    std::fs::create_dir(&path).unwrap();
    assert_eq!(post(&proxy, "/admin/reload", &[]).status, 400, "a directory");
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, [0xFF, 0xFE, b'a']).unwrap();
    assert_eq!(post(&proxy, "/admin/reload", &[]).status, 400, "not UTF-8");

    wait_until("no descriptor more than before", || proxy.open_fds() <= fds);
    assert_eq!(proxy.threads(), threads);
    assert_eq!(proxy.metric("config_generation"), Some(1.0));
    proxy.write_config(&first);
    assert_eq!(reload(&proxy)["changed"], false);
    assert_eq!(proxy.metric("config_last_reload_successful"), Some(1.0));
}

#[test]
fn only_an_admin_may_reload() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).set(
        "jwt.token_sources",
        json!([{ "type": "bearer" }, { "type": "query", "name": "token" }]),
    );
    let proxy = Proxy::start(&first);
    proxy.write_config(&touched(&first, 1));
    let plain =
        |target: &str, fields: &[(&str, &str)]| proxy.client().request("POST", target, fields);
    let missing = plain("/admin/reload", &[]);
    missing.assert_fault(401, "missing_token");
    assert_eq!(missing.json()["message"], "Authentication required: Missing token");
    let user = bearer(&token::for_role("user"));
    plain("/admin/reload", &[("Authorization", &user)]).assert_fault(403, "claims_refused");
    plain("/admin/reload", &[("Authorization", "Bearer x.y.z")]).assert_fault(401, "invalid_token");
    let in_query = format!("/admin/reload?token={}", token::for_role("admin"));
    plain(&in_query, &[]).assert_fault(401, "missing_token");
    let wrong_generation = post(&proxy, "/admin/reload", &[("If-Match", "\"7\"")]);
    assert_eq!(wrong_generation.status, 412, "{wrong_generation:?}");
    assert_eq!(counts(&proxy), (0, 0), "none of these is an attempt");

    let dry = post(&proxy, "/admin/reload?dry_run=true", &[]);
    assert_eq!(dry.status, 200, "{dry:?}");
    assert_eq!(dry.json()["changed"], true);
    assert_eq!(proxy.metric("config_generation"), Some(1.0));
    assert_eq!(counts(&proxy), (0, 0));

    let right_generation = post(&proxy, "/admin/reload", &[("If-Match", "\"1\"")]);
    assert_eq!(right_generation.status, 200, "{right_generation:?}");
    assert_eq!(proxy.metric("config_generation"), Some(2.0));
    assert_eq!(proxy.get("/admin/reload").status, 405);
}

#[test]
fn a_mistyped_admin_request_adopts_nothing() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    proxy.write_config(&touched(&first, 1));
    for query in [
        "dry_run",
        "dry_run=True",
        "dry_run=yes",
        "dryrun=true",
        "dry_run=true&dry_run=false",
        "dry_run=false&x=y",
    ] {
        let response = post(&proxy, &format!("/admin/reload?{query}"), &[]);
        response.assert_fault(400, "invalid_query");
    }
    for query in ["", "?to", "?to=x", "?to=+1", "?to=1&to=1", "?generation=1"] {
        let response = post(&proxy, &format!("/admin/rollback{query}"), &[]);
        response.assert_fault(400, "invalid_query");
    }
    for tag in ["\"01\"", "1", "W/\"1\"", "\"2\", \"3\""] {
        for target in ["/admin/reload", "/admin/rollback?to=1"] {
            let response = post(&proxy, target, &[("If-Match", tag)]);
            response.assert_fault(412, "precondition_failed");
        }
    }
    assert_eq!(counts(&proxy), (0, 0));
    assert_eq!(proxy.metric("config_generation"), Some(1.0));
    assert_eq!(proxy.metric("config_last_reload_successful"), Some(1.0));

    let dry = post(&proxy, "/admin/reload?dry%5Frun=true", &[]);
    assert_eq!(dry.json()["dry_run"], true, "{dry:?}");
    let adopted = post(&proxy, "/admin/reload?dry_run=false", &[("If-Match", "\"0\", \"1\"")]);
    assert_eq!(adopted.json()["config_generation"], 2, "{adopted:?}");
    let back = post(&proxy, "/admin/rollback?to=1", &[("If-Match", "*")]);
    assert_eq!(back.json()["config_generation"], 3, "{back:?}");
}

#[test]
fn a_refusal_names_its_first_problem_exactly_and_the_place_of_each() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    let bucket = |name: &str| {
        format!(
            "- name: {name}\n  path_prefix: /api\n  s3: {{ bucket: abc, region: r, anonymous: true }}\n  auth: {{ enabled: false }}\n"
        )
    };
    let jwt = format!("jwt: {{ enabled: true, secret: {} }}\n", token::JWT_SECRET);
    let text = format!("{jwt}buckets:\n{}{}", bucket("bucket1"), bucket("bucket2"));
    proxy.write_config_text(&text);
    let response = post(&proxy, "/admin/reload", &[]);
    let report = response.json();
    let message = "Duplicate path_prefix '/api' found in buckets: bucket1, bucket2";
    assert_eq!(report["error"], message, "{report}");
    let file = proxy.directory().join("config.yaml");
    let key = "buckets[1].path_prefix";
    let place = json!({ "file": file, "line": 8, "key": key, "message": message });
    assert_eq!(report["errors"], json!([place]), "{report}");
    assert_eq!(report["code"], "configuration_refused");
    assert_eq!(report["request_id"].as_str(), response.header("x-request-id"));
}

#[test]
fn a_dry_run_leaves_no_file_behind() {
    let origin = ScriptedOrigin::serving("x");
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let proxy = Proxy::start(&config(&origin));
    let other = config(&origin).set("logging.access_log.path", log.display().to_string());
    proxy.write_config(&other);
    let dry_run = || {
        let report = post(&proxy, "/admin/reload?dry_run=true", &[]).json();
        assert_eq!(report["applied"], json!(["logging.access_log.path"]), "{report}");
    };
    dry_run();
    assert!(!log.exists());
    // A file that was there stays.
    std::fs::write(&log, "older\n").unwrap();
    dry_run();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "older\n");
    std::fs::remove_file(&log).unwrap();
    assert_eq!(post(&proxy, "/admin/reload", &[]).status, 200);
    assert!(log.exists());
}

#[test]
fn without_jwt_the_admin_api_is_closed() {
    let origin = ScriptedOrigin::serving("x");
    for off in [Config::products(origin.url()), config(&origin).set("jwt.enabled", false)] {
        let proxy = Proxy::start(&off);
        post(&proxy, "/admin/reload", &[]).assert_fault(403, "admin_closed");
        assert_eq!(counts(&proxy), (0, 0));
    }
}

#[test]
fn a_download_of_a_removed_bucket_is_finished() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            conn.wait(&held);
            conn.send("_last");
        }
    });
    let proxy = Proxy::start(&config(&origin).bucket("doomed", origin.url()).with_jwt(&[]));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/doomed/x", &[]));
    let response = client.head("GET").unwrap();
    proxy.write_config(&config(&origin));
    reload(&proxy);
    proxy.get("/doomed/x").assert_fault(404, "no_route");
    gate.open();
    assert_eq!(client.rest_of(&response), b"first_last");
    client.get("/doomed/x").assert_fault(404, "no_route");
    wait_until("the removed bucket's series to go", || !proxy.metrics().contains("\"doomed\""));
}

#[test]
fn fifty_reloads_under_load_lose_nothing() {
    const RELOADS: usize = 50;
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    let done = AtomicBool::new(false);
    let requests = AtomicUsize::new(0);
    thread::scope(|scope| {
        for keep in [true, true, false, false] {
            let (proxy, done, requests) = (&proxy, &done, &requests);
            scope.spawn(move || {
                let mut client = proxy.client();
                let mut newest = 0;
                while !done.load(Ordering::SeqCst) {
                    if !keep {
                        client = proxy.client();
                    }
                    let response = client.get("/products/x");
                    assert_eq!(response.status, 200);
                    assert!(!response.says_close(), "no connection is closed by a reload");
                    let seen = generation_of(&response);
                    assert!(!keep || seen >= newest, "one connection stays with one worker");
                    newest = seen;
                    requests.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _done = Done(&done);
        for number in 1..=RELOADS {
            proxy.write_config(&touched(&first, number));
            let report = reload(&proxy);
            assert_eq!(report["config_generation"], number + 1);
            // From the response on nobody sees the old one, on any worker.
            for _ in 0..8 {
                assert_eq!(generation_of(&proxy.get("/products/x")), number as u64 + 1);
            }
        }
    });
    assert!(requests.load(Ordering::SeqCst) > RELOADS);
    assert_eq!(counts(&proxy), (RELOADS, 0));
}

#[test]
fn one_request_sees_one_generation_in_every_field() {
    // It verifies signatures, so a response of 200 says that the secret belongs to the access key.
    let s3 = S3Server::start(&[("AKIDAAAA", "secret of A"), ("AKIDBBBB", "secret of B")]);
    for bucket in ["bucket-a", "bucket-b"] {
        s3.put(bucket, "x", "an object");
    }
    let version = |name: &str| {
        config_of(s3.url())
            .set("buckets.0.s3.bucket", format!("bucket-{}", name.to_lowercase()))
            .set("buckets.0.s3.access_key", format!("AKID{}", name.repeat(4)))
            .set("buckets.0.s3.secret_key", format!("secret of {name}"))
    };
    let proxy = Proxy::start(&version("A"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            let (proxy, done) = (&proxy, &done);
            scope.spawn(move || {
                let mut client = proxy.client();
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/products/x").status, 200);
                }
            });
        }
        let _done = Done(&done);
        for number in 0..30 {
            proxy.write_config(&version(if number % 2 == 0 { "B" } else { "A" }));
            let report = reload(&proxy).to_string();
            assert!(report.contains("buckets[products].s3.secret_key"), "{report}");
            assert!(!report.contains("secret of"), "{report}");
        }
    });
    let requests = s3.requests();
    assert!(requests.len() > 30, "{} requests", requests.len());
    for request in requests {
        let first = request.target == "/bucket-a/x";
        let signed_first = request.header("authorization").unwrap().contains("AKIDAAAA");
        assert_eq!(first, signed_first, "{request:?}");
    }
    assert!(!proxy.output().contains("secret of"));
}

#[test]
fn a_head_that_began_in_one_generation_is_served_by_the_one_in_which_it_ends() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).set("server.threads", 1);
    let proxy = Proxy::start(&first);
    let (mut fresh, mut used) = (proxy.client(), proxy.client());
    assert_eq!(generation_of(&used.get("/products/x")), 1);
    // The bucket that it asks for comes with the second generation.
    let request = request_bytes("GET", "/more/x", &[]);
    let (start, rest) = request.split_at(20);
    for client in [&mut fresh, &mut used] {
        client.send(start);
    }
    // Whatever was sent before these responses has been taken in as well: the loop is one.
    for _ in 0..2 {
        assert_eq!(proxy.get("/health").status, 200);
    }
    let second = first.bucket_with_keys("more", origin.url(), "AKIDMORE", "its secret");
    adopt(&proxy, &second.with_jwt(&[]));
    for client in [&mut fresh, &mut used] {
        client.send(rest);
        let response = client.response("GET");
        assert_eq!((response.status, generation_of(&response)), (200, 2), "{response:?}");
    }
    let signed = |key: &str| {
        let requests = origin.requests();
        let of_key = |value: &&str| value.contains(key);
        requests.iter().filter_map(|r| r.fields.get("authorization")).filter(of_key).count()
    };
    assert_eq!(signed("AKIDMORE"), 2);
}

/// S3 verifies each signature. The pair of keys that replaces another is good beside it until every
/// core uses the new one; then the old one is not, and nobody may notice.
#[test]
fn rotated_s3_keys_lose_no_request_and_the_old_ones_are_not_used_again() {
    const ROTATIONS: usize = 10;
    let keys = |number: usize| (format!("AKIDROTATED{number}"), format!("secret number {number}"));
    let (access, secret) = keys(0);
    let s3 = S3Server::start(&[(&access, &secret)]);
    s3.put("products", "x", "an object");
    let launch = Launch::new();
    let write = |directory: &Path, number: usize| {
        let (access, secret) = keys(number);
        for (name, text) in [("access", access), ("secret", secret)] {
            std::fs::write(directory.join(format!("{name}.new")), text).unwrap();
            std::fs::rename(directory.join(format!("{name}.new")), directory.join(name)).unwrap();
        }
    };
    let written = json!({
        "bucket": "products",
        "region": "us-east-1",
        "endpoint": s3.url(),
        "access_key_file": "access",
        "secret_key_file": "secret",
    });
    write(launch.directory(), 0);
    let proxy = launch.config(&config_of(s3.url()).set("buckets.0.s3", written)).start();
    let done = AtomicBool::new(false);
    let turns: [AtomicUsize; 4] = Default::default();
    thread::scope(|scope| {
        for (number, turns) in turns.iter().enumerate() {
            let (proxy, done) = (&proxy, &done);
            scope.spawn(move || {
                let _done = Done(done);
                let mut client = proxy.client();
                while !done.load(Ordering::SeqCst) {
                    if number % 2 == 0 {
                        client = proxy.client();
                    }
                    let response = client.get("/products/x");
                    assert_eq!(
                        (response.status, response.text()),
                        (200, "an object"),
                        "{response:?}"
                    );
                    turns.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let _done = Done(&done);
        for number in 1..=ROTATIONS {
            let (access, secret) = keys(number);
            s3.accept(&access, &secret);
            write(proxy.directory(), number);
            let report = reload(&proxy);
            assert_eq!(report["config_generation"], number + 1, "{report}");
            // Each client's request of before the response has ended when it has started another.
            let before = turns.each_ref().map(|count| count.load(Ordering::SeqCst));
            wait_until("requests that began after the response", || {
                done.load(Ordering::SeqCst)
                    || turns
                        .iter()
                        .zip(before)
                        .all(|(count, before)| count.load(Ordering::SeqCst) > before)
            });
            s3.revoke(&keys(number - 1).0);
        }
    });
    assert!(!proxy.output().contains("secret number"));
}

/// The same access key, as when a secret has leaked: from the response to the reload on, no core
/// signs with the old secret, whatever it had derived from it.
#[test]
fn another_s3_secret_of_the_same_access_key_is_used_at_once() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "x", "an object");
    let first = config_of(s3.url());
    let proxy = Proxy::start(&first);
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for number in 0..5 {
        for client in &mut clients {
            assert_eq!(client.get("/products/x").text(), "an object");
        }
        let secret = format!("another secret, {number}");
        s3.accept(ACCESS_KEY, &secret);
        clients[0].get("/products/x").assert_fault(502, "upstream_credentials");
        adopt(&proxy, &first.clone().set("buckets.0.s3.secret_key", secret));
    }
}

#[test]
fn a_core_that_is_late_makes_a_reload_partial() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    // So short that no core can acknowledge in time. It applies to this reload already.
    let second = touched(&first, 1).set("admin.reload_timeout", 0.000_000_001);
    proxy.write_config(&second);
    let response = post(&proxy, "/admin/reload", &[]);
    assert_eq!(response.status, 504, "{response:?}");
    let report = response.json();
    for (name, value) in [
        ("status", json!("partial")),
        ("code", json!("reload_partial")),
        ("message", json!("Not all workers have adopted the configuration in time")),
        ("config_generation", json!(2)),
        ("changed", json!(true)),
        ("workers", json!(0)),
        ("lagging_workers", json!([0, 1])),
        ("request_id", json!(response.header("x-request-id"))),
    ] {
        assert_eq!(report[name], value, "{name}: {report}");
    }
    assert_eq!(counts(&proxy), (0, 1));
    assert_eq!(proxy.metric("config_last_reload_successful"), Some(0.0));
    // They adopt it all the same.
    for worker in 0..2 {
        let series = format!("config_worker_generation{{worker=\"{worker}\"}}");
        wait_until(&series, || proxy.metric(&series) == Some(2.0));
    }
    assert_eq!(generation_of(&proxy.get("/products/x")), 2);
    adopt(&proxy, &touched(&first, 2));
    assert_eq!(counts(&proxy), (1, 1));
    assert_eq!(proxy.metric("config_last_reload_successful"), Some(1.0));
}

#[test]
fn a_rotated_jwt_secret_ends_old_tokens_at_once() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).with_jwt(&["products"]);
    let proxy = Proxy::start(&first);
    let old = bearer(&token::for_role("user"));
    let mut client = proxy.client();
    for _ in 0..3 {
        let response = client.request("GET", "/products/x", &[("Authorization", &old)]);
        assert_eq!(response.status, 200);
    }
    let new_secret = "another-secret-of-more-than-enough-characters";
    proxy.write_config(&first.set("jwt.secret", new_secret));
    reload(&proxy);
    let response = client.request("GET", "/products/x", &[("Authorization", &old)]);
    response.assert_fault(401, "invalid_token");
    let claims = json!({ "exp": token::unix_now() + 60 });
    let new = bearer(&token::mint(new_secret, &claims));
    let response = client.request("GET", "/products/x", &[("Authorization", &new)]);
    assert_eq!(response.status, 200);
}

#[test]
fn a_change_of_one_bucket_keeps_the_connections_of_others() {
    let (stable, changing) = (ScriptedOrigin::serving("s"), ScriptedOrigin::serving("c"));
    let moved = ScriptedOrigin::serving("m");
    let with = |second: &ScriptedOrigin| {
        Config::new().bucket("stable", stable.url()).bucket("changing", second.url()).with_jwt(&[])
    };
    let proxy = Proxy::start(&with(&changing));
    let mut client = proxy.client();
    assert_eq!(client.get("/stable/x").text(), "s");
    assert_eq!(client.get("/changing/x").text(), "c");
    proxy.write_config(&with(&moved));
    reload(&proxy);
    assert_eq!(client.get("/stable/x").text(), "s");
    assert_eq!(client.get("/changing/x").text(), "m");
    assert_eq!(stable.accepted(), 1, "its pool stays warm");
    changing.wait_open(0);
}

/// Also when its place in the file changes, and when it comes back.
#[test]
fn a_bucket_that_moves_in_the_file_keeps_its_connections() {
    let origins: Vec<_> = (0..3).map(|_| ScriptedOrigin::serving("x")).collect();
    let with = |order: &[usize]| {
        order
            .iter()
            .fold(Config::new(), |config, at| {
                config.bucket(&format!("number-{at}"), origins[*at].url())
            })
            .with_jwt(&[])
    };
    let proxy = Proxy::start(&with(&[0, 1]));
    let mut client = proxy.client();
    let mut get = |at: usize| client.get(&format!("/number-{at}/x")).status;
    for order in [&[0, 1][..], &[2, 0, 1], &[1, 2], &[0, 2, 1]] {
        proxy.write_config(&with(order));
        reload(&proxy);
        assert!(order.iter().all(|at| get(*at) == 200), "{order:?}");
        if !order.contains(&0) {
            origins[0].wait_open(0);
        }
    }
    let accepted: Vec<_> = origins.iter().map(ScriptedOrigin::accepted).collect();
    assert_eq!(accepted, [2, 1, 1], "only the one that was removed had to connect again");
}

/// A hundred requests at once.
#[test]
fn a_storm_of_orders_ends_with_the_files_content() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..15 {
                    let response = post(&proxy, "/admin/reload", &[]);
                    assert!([200, 400].contains(&response.status), "{response:?}");
                }
            });
        }
        for number in 0..40 {
            proxy.write_config(&touched(&first, number));
            proxy.signal("HUP");
        }
    });
    let last = first.bucket("last", origin.url()).with_jwt(&[]);
    proxy.write_config(&last);
    proxy.signal("HUP");
    wait_until("the last content", || proxy.get("/last/x").status == 200);
    assert_eq!(reload(&proxy)["changed"], false);
    assert_eq!(counts(&proxy).1, 0);
}

#[test]
fn a_signal_during_the_start_is_neither_lost_nor_fatal() {
    let origin = ScriptedOrigin::serving("x");
    let launch = Launch::new();
    // An https endpoint needs the system's certificates; a named pipe holds their reader up.
    let roots = launch.path("roots.pem");
    assert!(Command::new("mkfifo").arg(&roots).status().unwrap().success());
    let front = TlsFront::start(origin.address());
    let config = config(&origin).bucket("encrypted", front.url()).with_jwt(&[]);
    let launch = launch.environment("SSL_CERT_FILE", roots.to_str().unwrap()).config(&config);
    let proxy = launch.start_while(|pid, log| {
        // Opening succeeds as soon as there is a reader (fifo(7)).
        let mut writer = wait_for("the start to read the certificates", || {
            OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&roots).ok()
        });
        signal(pid, "HUP");
        assert!(log.event("listening").is_none(), "{}", log.text());
        writer.write_all(front.ca_pem().as_bytes()).unwrap();
    });
    wait_until("the reload", || counts(&proxy).0 == 1);
    for bucket in ["products", "encrypted"] {
        assert_eq!(proxy.get(&format!("/{bucket}/x")).status, 200, "{bucket}");
    }
}

#[test]
fn a_changed_secret_file_is_a_changed_configuration() {
    let origin = ScriptedOrigin::serving("x");
    let launch = Launch::new();
    launch.write("key", "first-secret-from-a-file\n");
    let written = json!({
        "bucket": "products",
        "region": "us-east-1",
        "endpoint": origin.url(),
        "access_key": "AKIDFILE",
        "secret_key_file": launch.path("key").display().to_string(),
    });
    let proxy = launch.config(&config(&origin).set("buckets.0.s3", written)).start();
    assert_eq!(proxy.get("/products/x").status, 200);
    assert_eq!(reload(&proxy)["changed"], false);
    std::fs::write(proxy.directory().join("key"), "second-secret-from-a-file\n").unwrap();
    let report = reload(&proxy);
    assert_eq!(report["changed"], true, "{report}");
    assert!(!report.to_string().contains("secret-from-a-file"));
    assert!(!proxy.output().contains("secret-from-a-file"));
}

#[test]
fn history_and_rollback() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    proxy.write_config(&first.bucket("second", origin.url()).with_jwt(&[]));
    reload(&proxy);
    assert_eq!(proxy.get("/second/x").status, 200);
    let admin = bearer(&token::for_role("admin"));
    let history = || {
        let page = proxy.get_with("/admin/config/history", &[("Authorization", &admin)]);
        assert_eq!(page.status, 200, "{page:?}");
        assert!(!page.text().contains(token::JWT_SECRET));
        page.json()
    };
    let entries = |page: &Value| -> Vec<(u64, String, bool)> {
        let entries = page["history"].as_array().unwrap().iter();
        entries
            .map(|entry| {
                assert!(entry["timestamp"].as_u64().unwrap() + 600 > token::unix_now(), "{entry}");
                let generation = entry["config_generation"].as_u64().unwrap();
                let trigger = entry["trigger"].as_str().unwrap().to_owned();
                (generation, trigger, entry["running"] == true)
            })
            .collect()
    };
    let page = history();
    assert_eq!(page["config_generation"], 2);
    assert_eq!(entries(&page), [(2, "api".into(), true), (1, "start".into(), false)]);
    assert!(page["history"][0]["applied"].to_string().contains("second"), "{page}");
    assert_eq!(page["history"][1]["applied"], json!([]));
    let back = post(&proxy, "/admin/rollback?to=1", &[]);
    assert_eq!(back.status, 200, "{back:?}");
    assert_eq!(back.json()["config_generation"], 3);
    let page = history();
    assert_eq!(entries(&page)[0], (3, "rollback".into(), true), "{page}");
    assert_eq!(entries(&page).len(), 3, "{page}");
    proxy.get("/second/x").assert_fault(404, "no_route");
    let status = proxy.get_with("/admin/status", &[("Authorization", &admin)]);
    assert_eq!(status.status, 200, "{status:?}");
    assert!(!status.text().contains(token::JWT_SECRET));
    proxy.get("/admin/status").assert_fault(401, "missing_token");
}
