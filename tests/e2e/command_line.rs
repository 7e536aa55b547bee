//! Commands and flags: what each prints, and how it ends.

use std::{fs::File, process::Command};

use serde_json::{Value, json};

use crate::support::{
    config::{Config, SECRET_KEY},
    proxy::{Exited, Launch, Proxy},
    reload::{counts, post},
    scripted_origin::ScriptedOrigin,
    token::JWT_SECRET,
    waiting::wait_until,
};

fn run(arguments: &[&str]) -> Exited {
    Launch::new().arguments(arguments).run()
}

/// A configuration that is good, and worth a warning: 32 characters are fewer than SHA-512 has
/// (RFC 7518 section 3.2).
fn with_warning() -> Config {
    Config::unreachable()
        .with_jwt(&["products"])
        .set("jwt.secret", "s".repeat(32))
        .set("jwt.algorithm", "HS512")
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_command_does_what_its_flag_does() {
    let launch = || {
        let launch = Launch::new();
        launch.write("old.yaml", &Config::unreachable().to_yaml());
        launch.write("new.yaml", &Config::unreachable().set("server.port", 1).to_yaml());
        launch.write("bad.yaml", "buckets: 7\n");
        launch
    };
    for (flags, command) in [
        ("--config new.yaml --validate", "validate -c new.yaml"),
        ("-t -c bad.yaml", "validate --config bad.yaml"),
        ("--config new.yaml --diff old.yaml", "diff old.yaml new.yaml"),
        ("--config bad.yaml --diff old.yaml", "-c bad.yaml diff old.yaml"),
    ] {
        let by = |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            launch().arguments(&words).run()
        };
        let (flags, command) = (by(flags), by(command));
        assert_eq!(flags.code, command.code, "{flags:?} {command:?}");
        // The path of a temporary directory is in neither.
        assert_eq!((flags.stdout, flags.stderr), (command.stdout, command.stderr));
    }
}

#[test]
fn wrong_usage_says_what_to_write() {
    for (arguments, told) in [
        (&["valdiate"][..], "'validate'"),
        (&["--cofnig", "a"], "'--config'"),
        (&["config.yaml"], "--config config.yaml"),
        (&["--strict"], "belong to validate"),
        (&["diff", "-", "-"], "can be read once"),
    ] {
        let wrong = run(arguments);
        assert_eq!(wrong.code, Some(2), "{arguments:?}: {wrong:?}");
        assert!(wrong.stderr.contains(told), "{arguments:?}: {wrong:?}");
        assert!(wrong.stdout.is_empty(), "{arguments:?}: {wrong:?}");
    }
}

#[test]
fn completions_and_the_manual_page_are_printed() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let printed = run(&["completions", shell]);
        assert_eq!((printed.code, &*printed.stderr), (Some(0), ""), "{shell}");
        for word in ["validate", "base-dir", "completions"] {
            assert!(printed.stdout.contains(word), "{shell} knows no {word}");
        }
    }
    let page = run(&["man"]);
    assert_eq!((page.code, &*page.stderr), (Some(0), ""));
    assert!(page.stdout.lines().any(|line| line.starts_with(".TH yatagarasu 8 ")), "{page:?}");
    for version in ["-V", "--version"] {
        let printed = run(&[version]);
        assert_eq!(printed.code, Some(0));
        let commit = env!("YATAGARASU_REVISION");
        let commit = if commit.is_empty() { "unknown" } else { commit };
        assert!(printed.stdout.contains(&format!("commit: {commit}")), "{printed:?}");
        assert!(printed.stdout.contains("features: io_uring"), "{printed:?}");
    }
}

#[test]
fn what_is_printed_for_a_file_is_whole_or_the_command_fails() {
    for arguments in [&["man"][..], &["completions", "bash"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_yatagarasu"));
        let ended = command.args(arguments).stdout(full).output().unwrap();
        assert_eq!(ended.status.code(), Some(3), "{arguments:?}: {ended:?}");
        let told = String::from_utf8(ended.stderr).unwrap();
        assert!(told.contains("standard output cannot be written"), "{arguments:?}: {told}");
    }
}

#[test]
fn the_variable_names_the_file_and_the_flag_wins() {
    let launch = || {
        let launch = Launch::new().environment("YATAGARASU_CONFIG", "named.yaml");
        launch.write("named.yaml", &Config::unreachable().to_yaml());
        launch.write("other.yaml", "buckets: 7\n");
        launch
    };
    let named = launch().arguments(&["validate"]).run();
    assert_eq!(named.code, Some(0), "{named:?}");
    assert!(named.stdout.contains("named.yaml: the configuration is valid"), "{named:?}");
    let other = launch().arguments(&["-t", "-c", "other.yaml"]).run();
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stderr.contains("other.yaml"), "{other:?}");
}

#[test]
fn a_problem_has_file_line_and_key_wherever_it_is_told() {
    let bad = "buckets:\n  - name: a\n    path_prefix: a\n\
               \x20   s3: { bucket: abc, region: r, anonymous: true }\n";
    let told = "config.yaml:3: buckets[0].path_prefix: a path prefix must start with '/'";
    for arguments in ["validate", "run", "check-s3", "-t", "diff config.yaml"] {
        let launch = Launch::new().arguments(&["-c", "config.yaml"]);
        launch.write("config.yaml", bad);
        let exited = launch.arguments(&arguments.split(' ').collect::<Vec<_>>()).run();
        assert_eq!(exited.code, Some(1), "{arguments}: {exited:?}");
        assert!(exited.stderr.starts_with(&format!("error: {told}")), "{arguments}: {exited:?}");
    }

    let proxy = Proxy::start(&with_warning());
    let file = proxy.directory().join("config.yaml").display().to_string();
    let lines = proxy.stderr().all();
    let warning = lines.iter().find(|line| line.contains(": jwt.secret: JWT secret is shorter"));
    assert!(warning.is_some_and(|line| line.contains(&format!("{file}:"))), "{lines:?}");
    proxy.write_config_text(bad);
    proxy.signal("HUP");
    wait_until("the refusal", || proxy.metric("config_reload_failure_total") == Some(1.0));
    proxy.stderr().wait_for(told);
    proxy.stderr().wait_for(&format!("{file}:3: buckets[0].path_prefix"));
}

#[test]
fn strict_lets_warnings_fail() {
    let launch = || Launch::new().config(&with_warning());
    for arguments in [&["validate"][..], &["diff", "config.yaml"]] {
        let lenient = launch().arguments(arguments).run();
        assert_eq!(lenient.code, Some(0), "{lenient:?}");
        let strict = launch().arguments(arguments).arguments(&["--strict"]).run();
        assert_eq!(strict.code, Some(1), "{strict:?}");
        let told = ["jwt.secret", "which --strict refuses"];
        assert!(told.iter().all(|told| strict.stderr.contains(told)), "{strict:?}");
        assert!(strict.stdout.is_empty(), "{strict:?}");
    }
    // Nothing to warn of.
    let clean = Launch::new().config(&Config::unreachable()).arguments(&["-t", "--strict"]).run();
    assert_eq!(clean.code, Some(0), "{clean:?}");
}

#[test]
fn verdicts_are_printed_for_programs() {
    let json = ["--format", "json"];
    let good = Launch::new().config(&with_warning()).arguments(&["validate"]).arguments(&json);
    let good = good.run();
    assert_eq!((good.code, &*good.stderr), (Some(0), ""), "{good:?}");
    let verdict = parsed(&good.stdout);
    assert_eq!((&verdict["status"], &verdict["errors"]), (&json!("valid"), &json!([])));
    let warning = &verdict["warnings"][0];
    assert_eq!(warning["key"], "jwt.secret", "{verdict}");
    assert!(warning["line"].is_u64() && warning["message"].is_string(), "{verdict}");

    let text = "server: { prot: 1 }\nbuckets:\n  - name: a\n    path_prefix: a\n";
    for command in [&["validate"][..], &["diff", "good.yaml"]] {
        let launch = Launch::new().config_text(text).arguments(command).arguments(&json);
        launch.write("good.yaml", &Config::unreachable().to_yaml());
        let refused = launch.run();
        assert_eq!((refused.code, &*refused.stderr), (Some(1), ""), "{refused:?}");
        let verdict = parsed(&refused.stdout);
        assert_eq!(verdict["status"], "refused");
        assert!(verdict["file"].as_str().unwrap().ends_with("config.yaml"), "{verdict}");
        let errors = verdict["errors"].as_array().unwrap();
        assert!(errors.iter().all(|error| error["file"] == verdict["file"]), "{verdict}");
        let found: Vec<_> = errors.iter().map(|error| (&error["key"], &error["line"])).collect();
        assert!(found.contains(&(&json!("server.prot"), &json!(1))), "{verdict}");
        assert!(found.contains(&(&json!("buckets[0].path_prefix"), &json!(4))), "{verdict}");
    }

    let old = with_warning();
    let launch = || {
        let launch = Launch::new().config(&old.clone().set("server.port", 1));
        launch.write("old.yaml", &old.clone().set("metrics.enabled", false).to_yaml());
        launch.arguments(&["diff", "old.yaml", "--format"])
    };
    let compared = launch().arguments(&["json"]).run();
    assert_eq!(compared.code, Some(0), "{compared:?}");
    let report = parsed(&compared.stdout);
    assert_eq!((&report["status"], &report["changed"]), (&json!("valid"), &json!(true)));
    assert_eq!(report["applied"], json!(["metrics.enabled"]));
    assert_eq!(report["restart_required"], json!(["server.port: running 0, file 1"]));
    assert_eq!(report["warnings"][0]["key"], "jwt.secret");
    let words = launch().arguments(&["text"]).run();
    assert_eq!(words.code, Some(0), "{words:?}");
    for line in [
        "changes with a reload: metrics.enabled",
        "waits for a restart: server.port: running 0, file 1",
        "config.yaml: a reload adopts a part of it, the rest waits for a restart",
    ] {
        assert!(words.stdout.contains(line), "{line}: {words:?}");
    }
}

/// A configuration whose secret lies in a file with a relative path.
fn with_secret_file(origin: &ScriptedOrigin) -> Config {
    let config = Config::products(origin.url()).set("server.expose_generation", true).with_jwt(&[]);
    config.set("buckets.0.s3.secret_key", Value::Null).set("buckets.0.s3.secret_key_file", "key")
}

#[test]
fn relative_paths_start_at_the_base_directory() {
    let origin = ScriptedOrigin::serving("x");
    let config = with_secret_file(&origin).to_yaml();
    let place = |launch: Launch| {
        std::fs::create_dir(launch.path("etc")).unwrap();
        launch.write("etc/key", SECRET_KEY);
        launch.write("etc/running.yaml", &config);
        // As a deployment checks a copy before it is moved into place.
        std::fs::create_dir(launch.path("tmp")).unwrap();
        launch.write("tmp/copy.yaml", &config);
        launch
    };
    let launch = || place(Launch::new());
    let without = launch().arguments(&["-t", "-c", "tmp/copy.yaml"]).run();
    assert_eq!(without.code, Some(1), "{without:?}");
    assert!(without.stderr.contains("secret_key_file"), "{without:?}");
    let base = ["--base-dir", "etc"];
    let copy = launch().arguments(&["-t", "-c", "tmp/copy.yaml"]).arguments(&base).run();
    assert_eq!(copy.code, Some(0), "{copy:?}");

    let piped = || place(Launch::new().input(&config));
    let checked = piped().arguments(&["validate", "-c", "-"]).arguments(&base).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("<stdin>: the configuration is valid"), "{checked:?}");
    let old = ["diff", "etc/running.yaml", "-"];
    let compared = piped().arguments(&old).arguments(&base).run();
    assert_eq!(parsed(&compared.stdout)["changed"], false, "{compared:?}");
    // Included files lie there too, and problems have their names.
    let including = with_secret_file(&origin).set("include", "more.yaml").to_yaml();
    let launch = place(Launch::new().input(&including));
    launch.write("etc/more.yaml", "buckets: 7\n");
    let wrong = launch.arguments(&["-t", "-c-"]).arguments(&base).run();
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(
        wrong.stderr.starts_with("error: etc/more.yaml:1: buckets: expected a list"),
        "{wrong:?}"
    );
    let wrong = Launch::new().input("buckets: 7\n").arguments(&["-t", "-c-"]).run();
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.starts_with("error: <stdin>:1: buckets: expected a list"), "{wrong:?}");
    assert!(wrong.stderr.contains("<stdin>: the configuration is refused"), "{wrong:?}");
}

#[test]
fn a_configuration_from_standard_input_runs_and_is_not_reloaded() {
    let origin = ScriptedOrigin::serving("an object");
    let config = with_secret_file(&origin).set("reload.watch", true);
    let launch = Launch::new().input(&config.to_yaml());
    std::fs::create_dir(launch.path("etc")).unwrap();
    launch.write("etc/key", SECRET_KEY);
    let proxy = launch.arguments(&["run", "-c", "-", "--base-dir", "etc"]).start();
    assert_eq!(proxy.get("/products/x").text(), "an object");
    proxy.stderr().wait_for("reload.watch has no effect");

    let refused = post(&proxy, "/admin/reload", &[]);
    assert_eq!(refused.status, 400, "{refused:?}");
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("standard input, which cannot be read again"), "{error}");
    proxy.signal("HUP");
    wait_until("the refusal", || counts(&proxy) == (0, 2));
    // A generation that is kept can be adopted again: its content is known.
    std::fs::write(proxy.directory().join("etc/key"), "another secret").unwrap();
    let back = post(&proxy, "/admin/rollback?to=1", &[]);
    assert_eq!(back.status, 200, "{back:?}");
    assert_eq!(back.json()["applied"], json!(["buckets[products].s3.secret_key"]));
    assert_eq!(proxy.get("/products/x").header("x-config-generation"), Some("2"));
    assert!(!proxy.output().contains(JWT_SECRET));
}
