//! `reload.watch`: a changed file is adopted by itself, and never half of it.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::symlink};

use serde_json::json;

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy, state_of},
    reload::{config, counts, post, reload, touched, wait_generation},
    scripted_origin::ScriptedOrigin,
    token,
    waiting::wait_until,
};

#[test]
fn a_watched_file_is_reloaded_when_it_changes() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).set("reload.watch", true);
    let proxy = Proxy::start(&first);
    // By renaming over it, as editors do.
    proxy.write_config(&touched(&first, 1));
    wait_generation(&proxy, 2);
    // By writing into it, with something unreadable in between.
    let path = proxy.directory().join("config.yaml");
    std::fs::write(&path, "server: {").unwrap();
    std::fs::write(&path, touched(&first, 2).to_yaml()).unwrap();
    wait_generation(&proxy, 3);
}

#[test]
fn a_watched_config_map_is_reloaded_when_it_is_swapped() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).set("reload.watch", true);
    let launch = Launch::new();
    let mount = launch.path("mount");
    let version = |number: usize, config: &Config| {
        let directory = mount.join(format!("..version{number}"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("config.yaml"), config.to_yaml()).unwrap();
        symlink(format!("..version{number}"), mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    version(1, &first);
    symlink("..data/config.yaml", mount.join("config.yaml")).unwrap();
    let path = mount.join("config.yaml").display().to_string();
    let proxy = launch.arguments(&["--config", &path]).start();
    for number in 2..5 {
        version(number, &touched(&first, number));
        wait_until("the swapped file", || {
            proxy.metric("config_generation") == Some(f64::from(u32::try_from(number).unwrap()))
        });
    }
}

/// The process stands still while the file is written, as a machine that is busy elsewhere might
/// let it: how long a half may lie there is a matter of the watcher's own tests, which have a
/// clock.
#[test]
fn a_file_that_is_written_in_place_is_adopted_once_and_whole() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).set("reload.watch", true);
    let proxy = Proxy::start(&first);
    let path = proxy.directory().join("config.yaml");
    for number in 2..7 {
        // The first part alone is a good configuration, with another log level.
        let part = touched(&first, number as usize).to_yaml();
        let rest = "# ".to_owned() + &"-".repeat(100_000) + "\nlogging: { level: debug }\n";
        proxy.signal("STOP");
        wait_until("it to stand still", || state_of(proxy.pid()) == 'T');
        let mut file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        file.write_all(part.as_bytes()).unwrap();
        file.write_all(rest.as_bytes()).unwrap();
        drop(file);
        proxy.signal("CONT");
        wait_generation(&proxy, number);
    }
    // A half would have been a generation of its own.
    let report = reload(&proxy);
    assert_eq!((&report["config_generation"], &report["changed"]), (&json!(6), &json!(false)));
    assert_eq!(counts(&proxy), (6, 0));
}

#[test]
fn a_secret_file_is_watched_too() {
    let origin = ScriptedOrigin::serving("x");
    let launch = Launch::new();
    launch.write("jwt-secret", token::JWT_SECRET);
    launch.write("key", "the first secret of a file");
    let first = config(&origin).set("reload.watch", true).set(
        "buckets.0.s3",
        json!({
            "bucket": "products",
            "region": "us-east-1",
            "endpoint": origin.url(),
            "access_key": "AKIDFILE",
            // Relative to the configuration.
            "secret_key_file": "key",
        }),
    );
    let proxy = launch.config(&first).start();
    std::fs::write(proxy.directory().join("key"), "the second secret of a file").unwrap();
    wait_generation(&proxy, 2);
    // A refused change keeps the files watched that it does not name.
    proxy.write_config_text("nonsense");
    wait_until("the refusal", || counts(&proxy).1 == 1);
    std::fs::write(proxy.directory().join("key"), "the third secret of a file").unwrap();
    wait_until("another attempt", || counts(&proxy).1 == 2);
    proxy.write_config(&first);
    wait_generation(&proxy, 3);
    assert!(!proxy.output().contains("secret of a file"));
}

#[test]
fn watching_is_switched_on_and_off_by_a_reload() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let watching = first.clone().set("reload.watch", true);
    let proxy = Proxy::start(&first);
    proxy.write_config(&watching);
    proxy.signal("HUP");
    wait_generation(&proxy, 2);
    proxy.write_config(&touched(&watching, 1));
    wait_generation(&proxy, 3);
    // The file that the watcher finds switches it off; what comes then needs a signal again.
    proxy.write_config(&first);
    wait_generation(&proxy, 4);
    wait_until("the attempts to end", || counts(&proxy) == (3, 0));
    proxy.write_config(&touched(&first, 2));
    proxy.signal("HUP");
    wait_generation(&proxy, 5);
    // A watcher that still ran would have had the same news, and another attempt.
    wait_until("one attempt more", || counts(&proxy) == (4, 0));
    let by_watch = || proxy.stderr().records().iter().any(|record| record["trigger"] == "watch");
    wait_until("a reload of the watcher's in the log", by_watch);
}

#[test]
fn a_refused_file_is_tried_once_and_the_next_one_adopted() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).set("reload.watch", true);
    let proxy = Proxy::start(&first);
    proxy.write_config_text("buckets: 7");
    wait_until("the refusal", || counts(&proxy) == (0, 1));
    assert_eq!(proxy.metric("config_last_reload_successful"), Some(0.0));
    proxy.write_config(&touched(&first, 1));
    wait_generation(&proxy, 2);
    std::fs::remove_file(proxy.directory().join("config.yaml")).unwrap();
    wait_until("the refusal of a missing file", || counts(&proxy) == (1, 2));
    proxy.write_config(&first);
    wait_generation(&proxy, 3);
    wait_until("the last success", || counts(&proxy) == (2, 2));
}

/// A file with one bucket of this name.
fn bucket_file(name: &str, origin: &ScriptedOrigin) -> String {
    let s3 = json!({
        "bucket": name, "region": "us-east-1", "endpoint": origin.url(), "anonymous": true,
    });
    let auth = json!({ "enabled": false });
    let bucket = json!({ "name": name, "path_prefix": format!("/{name}"), "s3": s3, "auth": auth });
    json!({ "buckets": [bucket] }).to_string()
}

/// A process that watches its configuration and the files of `conf.d`, of which there are none.
fn including(origin: &ScriptedOrigin) -> Proxy {
    let config = config(origin).set("reload.watch", true).set("include", json!(["conf.d/*.yaml"]));
    let launch = Launch::new();
    std::fs::create_dir(launch.path("conf.d")).unwrap();
    launch.config(&config).start()
}

#[test]
fn an_included_file_that_comes_changes_or_goes_is_adopted() {
    let origin = ScriptedOrigin::serving("an object");
    let proxy = including(&origin);
    let file = |name: &str| proxy.directory().join("conf.d").join(name);
    proxy.get("/one/x").assert_fault(404, "no_route");
    std::fs::write(file("b.yaml"), bucket_file("one", &origin)).unwrap();
    wait_generation(&proxy, 2);
    assert_eq!(proxy.get("/one/x").text(), "an object");
    // By renaming over it, with an editor's file beside it.
    std::fs::write(file(".b.yaml.swp"), bucket_file("none", &origin)).unwrap();
    std::fs::rename(file(".b.yaml.swp"), file("b.yaml")).unwrap();
    wait_generation(&proxy, 3);
    proxy.get("/one/x").assert_fault(404, "no_route");
    assert_eq!(proxy.get("/none/x").text(), "an object");
    std::fs::remove_file(file("b.yaml")).unwrap();
    wait_generation(&proxy, 4);
    proxy.get("/none/x").assert_fault(404, "no_route");
    wait_until("the attempts to end", || counts(&proxy) == (3, 0));
    // What the pattern does not match is no news.
    std::fs::write(file("note.txt"), "x").unwrap();
    std::fs::write(file("a.yaml"), bucket_file("two", &origin)).unwrap();
    wait_generation(&proxy, 5);
    wait_until("one attempt more", || counts(&proxy) == (4, 0));
}

#[test]
fn a_problem_in_an_included_file_is_refused_with_its_name_and_line() {
    let origin = ScriptedOrigin::serving("an object");
    let proxy = including(&origin);
    let file = |name: &str| proxy.directory().join("conf.d").join(name);
    std::fs::write(file("a.yaml"), bucket_file("one", &origin)).unwrap();
    wait_generation(&proxy, 2);
    // Twice the same prefix, in two files.
    let twice = format!("# A copy.\n{}", bucket_file("one", &origin)).replacen("one", "two", 1);
    std::fs::write(file("b.yaml"), twice).unwrap();
    wait_until("the refusal", || counts(&proxy) == (1, 1));
    assert_eq!(proxy.get("/one/x").text(), "an object");
    let (a, b) = (file("a.yaml").display().to_string(), file("b.yaml").display().to_string());
    let report = post(&proxy, "/admin/reload", &[]).json();
    let error = &report["errors"][0];
    assert_eq!((&error["file"], &error["line"]), (&json!(b), &json!(2)), "{report}");
    assert_eq!(error["key"], "buckets[0].path_prefix", "{report}");
    let message = error["message"].as_str().unwrap();
    for part in ["Duplicate path_prefix '/one'", &format!("({a}:1)"), &format!("({b}:2)")] {
        assert!(message.contains(part), "{part} in {message}");
    }
    proxy.stderr().wait_for(&format!("{b}:2: buckets[0].path_prefix: Duplicate path_prefix"));
    std::fs::write(file("b.yaml"), bucket_file("two", &origin)).unwrap();
    wait_generation(&proxy, 3);
    assert_eq!(proxy.get("/two/x").text(), "an object");
}

#[test]
fn a_rollback_brings_included_files_back_as_they_were() {
    let origin = ScriptedOrigin::serving("an object");
    let proxy = including(&origin);
    let file = proxy.directory().join("conf.d/a.yaml");
    std::fs::write(&file, bucket_file("one", &origin)).unwrap();
    wait_generation(&proxy, 2);
    std::fs::write(&file, bucket_file("two", &origin)).unwrap();
    wait_generation(&proxy, 3);
    wait_until("the attempts to end", || counts(&proxy) == (2, 0));
    let report = post(&proxy, "/admin/rollback?to=2", &[]).json();
    assert_eq!(report["applied"], json!(["buckets[one]", "buckets[two]"]), "{report}");
    assert!(report["warnings"][0].as_str().unwrap().contains("differs from what is"), "{report}");
    assert_eq!(proxy.get("/one/x").text(), "an object");
    proxy.get("/two/x").assert_fault(404, "no_route");
    // What is on disk is there, and is adopted again.
    assert_eq!(reload(&proxy)["changed"], true);
    assert_eq!(proxy.get("/two/x").text(), "an object");
    // The content of now is no other than that on disk.
    let same = post(&proxy, "/admin/rollback?to=3", &[]).json();
    assert_eq!((&same["changed"], same.get("warnings")), (&json!(false), None), "{same}");
}

#[test]
fn a_mounted_directory_of_included_files_is_adopted_when_it_is_swapped() {
    let origin = ScriptedOrigin::serving("an object");
    let config = config(&origin).set("reload.watch", true).set("include", "mount/*.yaml");
    let launch = Launch::new();
    let mount = launch.path("mount");
    let version = |number: usize, name: &str| {
        let directory = mount.join(format!("..version{number}"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("tenants.yaml"), bucket_file(name, &origin)).unwrap();
        symlink(format!("..version{number}"), mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
    };
    version(1, "one");
    symlink("..data/tenants.yaml", mount.join("tenants.yaml")).unwrap();
    let proxy = launch.config(&config).start();
    assert_eq!(proxy.get("/one/x").text(), "an object");
    version(2, "two");
    wait_generation(&proxy, 2);
    assert_eq!(proxy.get("/two/x").text(), "an object");
    proxy.get("/one/x").assert_fault(404, "no_route");
}
