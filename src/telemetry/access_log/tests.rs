use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    sync::Arc,
    time::Duration,
};

use super::*;
use crate::telemetry::cells::CoreCells;

/// Long enough that only a bug lets it pass.
const TIMEOUT: Duration = Duration::from_secs(30);

fn record(id: &str) -> AccessRecord<'_> {
    AccessRecord { request_id: id.as_bytes(), ..AccessRecord::EXAMPLE }
}

/// The request ids in a log file, in order; every line must be valid JSON.
fn ids(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|json| json["request_id"].as_str().unwrap().to_owned())
        .collect()
}

fn path_in(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn lines_of_all_cores_arrive_in_the_order_of_each() {
    const CORES: usize = 3;
    const LINES: usize = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir, "access.log");
    let (handle, sinks) = start(&path).unwrap();
    let workers: Vec<_> = (0..CORES)
        .map(|core| {
            let mut sink = sinks.sink(Arc::default());
            std::thread::spawn(move || {
                for line in 0..LINES {
                    sink.push(&AccessLogRules::default(), &record(&format!("{core}-{line}")));
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(handle.stop(TIMEOUT));
    let seen = ids(&fs::read_to_string(&path).unwrap());
    for core in 0..CORES {
        let own: Vec<_> =
            seen.iter().filter(|id| id.starts_with(&format!("{core}-"))).cloned().collect();
        let expected: Vec<_> = (0..LINES).map(|line| format!("{core}-{line}")).collect();
        assert_eq!(own, expected);
    }
}

#[test]
fn a_new_file_is_not_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir, "access.log");
    let (handle, _sinks) = start(&path).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
    assert!(handle.stop(TIMEOUT));
}

#[test]
fn an_existing_file_is_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir, "access.log");
    for id in ["first", "second"] {
        let (handle, sinks) = start(&path).unwrap();
        sinks.sink(Arc::default()).push(&AccessLogRules::default(), &record(id));
        assert!(handle.stop(TIMEOUT));
    }
    assert_eq!(ids(&fs::read_to_string(&path).unwrap()), ["first", "second"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(start(&path_in(&dir, "no/such/dir")).is_err());
    let path = path_in(&dir, "access.log");
    let (handle, sinks) = start(&path).unwrap();
    assert!(AccessLogTarget::open(&path_in(&dir, "no/such/dir")).is_err());
    sinks.sink(Arc::default()).push(&AccessLogRules::default(), &record("still"));
    assert!(handle.stop(TIMEOUT));
    assert_eq!(ids(&fs::read_to_string(&path).unwrap()), ["still"]);
}

/// Orders are obeyed before the stop that follows them, and a stop writes what is queued.
#[test]
fn switching_and_reopening_choose_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (path_in(&dir, "first"), path_in(&dir, "second"));
    let (handle, _sinks) = start(&first).unwrap();
    handle.switch(AccessLogTarget::open(&second).unwrap());
    assert!(handle.stop(TIMEOUT));
    assert!(fs::exists(&second).unwrap());

    let (handle, sinks) = start(&first).unwrap();
    let rotated = path_in(&dir, "first.1");
    fs::rename(&first, &rotated).unwrap();
    handle.reopen();
    // The writer opens the file anew at some time after this.
    while !fs::exists(&first).unwrap() {
        std::thread::yield_now();
    }
    let mut sink = sinks.sink(Arc::default());
    // Written to the new file, since the writer handles one event after the other.
    sink.push(&AccessLogRules::default(), &record("after"));
    drop(sink);
    assert!(handle.stop(TIMEOUT));
    assert_eq!(ids(&fs::read_to_string(&first).unwrap()), ["after"]);
    assert_eq!(fs::read_to_string(&rotated).unwrap(), "");
}

#[test]
fn a_failed_reopen_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let path = logs.join("access.log");
    let (handle, sinks) = start(path.to_str().unwrap()).unwrap();
    let moved = dir.path().join("moved");
    fs::rename(&logs, &moved).unwrap();
    handle.reopen();
    sinks.sink(Arc::default()).push(&AccessLogRules::default(), &record("kept"));
    assert!(handle.stop(TIMEOUT));
    assert_eq!(ids(&fs::read_to_string(moved.join("access.log")).unwrap()), ["kept"]);
}

#[test]
fn a_closed_pipe_costs_lines_but_not_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let target = AccessLogTarget::from_file(File::from(std::os::fd::OwnedFd::from(writer)));
    let (handle, sinks) = start_on(target).unwrap();
    let mut sink = sinks.sink(Arc::default());
    sink.push(&AccessLogRules::default(), &record("a"));
    sink.push(&AccessLogRules::default(), &record("b"));
    sink.flush();
    while handle.lost_lines() < 2 {
        std::thread::yield_now();
    }
    let path = path_in(&dir, "access.log");
    handle.switch(AccessLogTarget::open(&path).unwrap());
    assert!(handle.stop(TIMEOUT));
    assert_eq!(fs::read_to_string(&path).unwrap(), "");
}

#[test]
fn a_stuck_writer_makes_cores_drop_and_count_but_never_wait() {
    let (mut reader, writer) = io::pipe().unwrap();
    let target = AccessLogTarget::from_file(File::from(std::os::fd::OwnedFd::from(writer)));
    let (handle, sinks) = start_on(target).unwrap();
    let cells = Arc::new(CoreCells::default());
    let mut sink = sinks.sink(Arc::clone(&cells));
    let mut pushed = 0_u64;
    // The pipe takes 64 KiB and nobody reads: the queue fills, then lines are dropped.
    while cells.access_log_dropped.get() == 0 {
        sink.push(&AccessLogRules::default(), &record("x"));
        pushed += 1;
    }
    assert!(pushed > BATCHES_WAITING_MAX as u64);
    drop(sink);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text.lines().count() as u64
    });
    assert!(handle.stop(TIMEOUT));
    let written = reading.join().unwrap();
    assert_eq!(written + cells.access_log_dropped.get(), pushed);
}

#[test]
fn a_hanging_stop_gives_up() {
    let (reader, writer) = io::pipe().unwrap();
    let target = AccessLogTarget::from_file(File::from(std::os::fd::OwnedFd::from(writer)));
    let (handle, sinks) = start_on(target).unwrap();
    let mut sink = sinks.sink(Arc::default());
    for _ in 0..2_000 {
        sink.push(&AccessLogRules::default(), &record("x"));
    }
    drop(sink);
    assert!(!handle.stop(Duration::from_millis(1)));
    drop(reader);
}

#[test]
fn a_sink_without_a_writer_counts_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, sinks) = start(&path_in(&dir, "access.log")).unwrap();
    let cells = Arc::new(CoreCells::default());
    let mut sink = sinks.sink(Arc::clone(&cells));
    assert!(handle.stop(TIMEOUT));
    sink.push(&AccessLogRules::default(), &record("a"));
    assert!(!sink.is_empty());
    drop(sink);
    assert_eq!(cells.access_log_dropped.get(), 1);
}

#[test]
fn buffers_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (handle, sinks) = start(&path_in(&dir, "access.log")).unwrap();
    let mut sink = sinks.sink(Arc::default());
    sink.push(&AccessLogRules::default(), &record("a"));
    sink.flush();
    assert!(handle.stop(TIMEOUT));
    let buffer = sinks.empty_for_tests().recv_timeout(TIMEOUT).unwrap();
    assert!(buffer.is_empty() && buffer.capacity() >= BATCH_BYTES);
}

#[test]
fn a_named_pipe_without_a_reader_is_an_error_and_with_one_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = path_in(&dir, "pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(start(&path).is_err());
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let (handle, sinks) = start(&path).unwrap();
    sinks.sink(Arc::default()).push(&AccessLogRules::default(), &record("a"));
    assert!(handle.stop(TIMEOUT));
    let mut line = vec![0; 512];
    let count = reader.read(&mut line).unwrap();
    assert_eq!(ids(std::str::from_utf8(&line[..count]).unwrap()), ["a"]);
}

#[test]
fn standard_output_is_a_target() {
    let (handle, _sinks) = start("-").unwrap();
    handle.reopen();
    assert!(handle.stop(TIMEOUT));
}
