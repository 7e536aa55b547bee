//! Typing mistakes around secrets, in every way that the program speaks of a file: `--validate`,
//! `--diff`, a refused start, the response to a reload, `/admin/status` and the log.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use crate::support::{
    config::Config,
    proxy::{Exited, Launch},
    raw_client::Client,
    reload::post,
    token::{self, bearer},
};

#[path = "../config/slips.rs"]
mod slips;

use slips::{PLAIN_SECRET, SECRET, shows, slips};

fn launched(secret: &str, text: &str) -> Launch {
    Launch::new().environment("S", secret).config_text(text)
}

#[track_caller]
fn refused_without_the_secret(slip: &str, how: &str, exited: &Exited, secret: &str) {
    assert_eq!(exited.code, Some(1), "{slip}, {how}: {exited:?}");
    for output in [&exited.stdout, &exited.stderr] {
        assert!(!shows(output, secret), "{slip}, {how}: {output}");
    }
}

#[test]
fn no_command_shows_the_secret_of_a_mistyped_file() {
    let old = Config::products("http://127.0.0.1:1").to_yaml();
    for (number, secret) in [SECRET, PLAIN_SECRET].into_iter().enumerate() {
        // Both secrets meet all mistakes in what is said of a file; here each meets half of them.
        for (slip, text) in slips(secret).iter().skip(number).step_by(2) {
            let launch = launched(secret, text);
            refused_without_the_secret(slip, "start", &launch.run(), secret);
            let launch = launch.arguments(&["--validate"]);
            refused_without_the_secret(slip, "--validate", &launch.run(), secret);
            let launch = launched(secret, text);
            launch.write("old.yaml", &old);
            let old = launch.path("old.yaml").display().to_string();
            let launch = launch.arguments(&["--diff", &old]);
            refused_without_the_secret(slip, "--diff", &launch.run(), secret);
        }
    }
}

#[test]
fn no_reload_shows_the_secret_of_a_mistyped_file() {
    for secret in [SECRET, PLAIN_SECRET] {
        let config =
            Config::products("http://127.0.0.1:1").with_jwt(&[]).set("logging.level", "trace");
        let proxy = Launch::new().environment("S", secret).config(&config).start();
        let admin = bearer(&token::for_role("admin"));
        for (slip, text) in slips(secret) {
            proxy.write_config_text(&text);
            let told = post(&proxy, "/admin/reload", &[]);
            assert_eq!(told.status, 400, "{slip}: {told:?}");
            let dry = post(&proxy, "/admin/reload?dry_run=true", &[]);
            assert_eq!(dry.status, 400, "{slip}: {dry:?}");
            let fields = [("Authorization", admin.as_str())];
            let status =
                Client::connect(proxy.admin_address()).request("GET", "/admin/status", &fields);
            assert_eq!(status.status, 200, "{slip}: {status:?}");
            for (how, response) in [("reload", told), ("dry run", dry), ("status", status)] {
                let body = String::from_utf8_lossy(&response.body).into_owned();
                assert!(!shows(&body, secret), "{slip}, {how}: {body}");
            }
        }
        let metrics = proxy.metrics();
        assert!(!shows(&metrics, secret), "{metrics}");
        proxy.stderr().wait_for("reload failed");
        let output = proxy.output();
        assert!(!shows(&output, secret), "{output}");
    }
}

/// Neither the default nor nothing is what the operator meant.
#[test]
fn a_variable_that_is_no_text_is_refused_whatever_its_default() {
    let of = |secret: &str| {
        let value = OsString::from_vec(b"never-shown-\xff".to_vec());
        let config = Config::unreachable().set("buckets.0.s3.secret_key", secret);
        Launch::new().environment("S", value).config(&config).arguments(&["-t"]).run()
    };
    for secret in ["${S}", "${S:-a-default-secret}"] {
        let refused = of(secret);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        let told = "s3.secret_key: environment variable S is not valid UTF-8; set it to text";
        assert!(refused.stderr.contains(told), "{refused:?}");
        assert!(!refused.stderr.contains("never-shown"), "{refused:?}");
    }
    assert_eq!(of("$${S}").code, Some(0));
}
