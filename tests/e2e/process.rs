//! The process as its surroundings see it: signals, limits, memory, what was built.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy, signal},
    scripted_origin::ScriptedOrigin,
    waiting::{wait_for, wait_long_until, wait_until},
};

#[path = "../../build.rs"]
#[expect(dead_code, reason = "its main is cargo's")]
mod build;

fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_yatagarasu")
}

/// The signals of one kind in `/proc/<pid>/status`, such as `SigIgn`.
fn signals(pid: u32, kind: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn bit(number: i32) -> u64 {
    1 << (number - 1)
}

#[test]
fn a_hangup_before_anything_else_was_done_does_not_end_the_process() {
    // The help is what is printed first; into a full pipe it waits, and with it the process.
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&vec![b'x'; 65_536]).unwrap();
    let mut child =
        Command::new(binary()).arg("--help").stdout(Stdio::from(writer)).spawn().unwrap();
    let wanted = bit(libc::SIGHUP) | bit(libc::SIGUSR1) | bit(libc::SIGXFSZ);
    wait_until("the signals to be ignored", || {
        signals(child.id(), "SigIgn").is_some_and(|ignored| ignored & wanted == wanted)
    });
    signal(child.id(), "HUP");
    signal(child.id(), "USR1");
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert!(text.len() > 65_536, "the help follows");
    let status = wait_for("the process to exit", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn an_access_log_at_the_limit_of_its_size_loses_lines_and_not_the_process() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).set("logging.access_log.path", "access.log");
    // In units of 512 bytes (POSIX ulimit).
    let script = "ulimit -f 4 && exec \"$0\" \"$@\"";
    let mut proxy =
        Launch::of("/bin/sh").arguments(&["-c", script, binary()]).config(&config).start();
    let mut client = proxy.client();
    wait_until("lines to be lost", || {
        for _ in 0..20 {
            assert_eq!(client.get("/products/x").status, 200);
        }
        proxy.metric_count("yatagarasu_access_log_dropped_total") > 0
    });
    assert!(proxy.is_running());
    let log = std::fs::read_to_string(proxy.directory().join("access.log")).unwrap();
    assert!(log.len() <= 2_048, "{} bytes", log.len());
}

#[test]
fn what_was_built_is_on_the_metrics_page() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()));
    let page = proxy.metrics();
    let line = page
        .lines()
        .find(|line| line.contains("yatagarasu_build_info{"))
        .expect("yatagarasu_build_info");
    let revision = format!("revision=\"{}\"", env!("YATAGARASU_REVISION"));
    assert!(line.contains(&revision), "{line}");
}

#[test]
fn the_build_finds_the_commit_of_a_clone_a_worktree_and_packed_references() {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let built = |tree: &str| {
        let git = build::git_directory(&directory.path().join(tree))?;
        build::commit(&git)
    };
    assert_eq!(built("clone"), None, "a source archive");
    write("clone/.git/HEAD", "ref: refs/heads/main\n");
    assert_eq!(built("clone"), None, "no commit yet");
    write("clone/.git/packed-refs", &format!("# pack-refs\n{COMMIT} refs/heads/main\n"));
    assert_eq!(built("clone").as_deref(), Some("0123456789ab"));
    write("clone/.git/refs/heads/main", &format!("f{COMMIT}\n"));
    assert_eq!(built("clone").as_deref(), Some("f0123456789a"));
    write("tree/.git", "gitdir: ../clone/.git/worktrees/tree\n");
    write("clone/.git/worktrees/tree/commondir", "../..\n");
    write("clone/.git/worktrees/tree/HEAD", "ref: refs/heads/main\n");
    assert_eq!(built("tree").as_deref(), Some("f0123456789a"));
    write("clone/.git/worktrees/tree/HEAD", &format!("{COMMIT}\n"));
    assert_eq!(built("tree").as_deref(), Some("0123456789ab"), "a detached head");
}

#[test]
fn memory_of_a_large_configuration_goes_back_when_a_small_one_replaces_it() {
    let origin = ScriptedOrigin::serving("x");
    let small = Config::products(origin.url());
    let mut large = small.clone();
    for number in 0..10_000 {
        large = large.bucket(&format!("bucket-{number}"), origin.url());
    }
    let proxy = Launch::new().in_own_session().config(&small).start();
    let generation = |number: f64| {
        wait_long_until("the generation", || proxy.metric("config_generation") == Some(number));
    };
    let before = proxy.rss_kib();
    proxy.write_config(&large);
    proxy.signal("HUP");
    generation(2.0);
    proxy.write_config(&small);
    proxy.signal("HUP");
    generation(3.0);
    // 40 MiB stay where nothing is given back.
    wait_until("it to be given back", || proxy.rss_kib() < before + 24 * 1_024);
}
