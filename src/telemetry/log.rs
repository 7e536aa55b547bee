//! The process log: structured JSON lines on standard error, with the time in the form of the
//! access log, and `log` to tell the two apart.
//!
//! A thread that logs formats a line and puts it into a bounded queue; one thread writes. A
//! standard error that hangs (a full pipe, a stopped terminal) therefore never stalls a core: lines
//! that find no place are dropped and counted.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    layer::{Context, SubscriberExt},
    reload,
};

use crate::telemetry::{access_log::Second, lines::LineOutput, text::write_string};

/// Lines that may wait for standard error; at some 300 bytes each this is 300 KiB.
const LINES_WAITING_MAX: usize = 1_024;

enum Message {
    Line(Vec<u8>),
    /// Acknowledged when all lines before it are written.
    Flush(Sender<()>),
}

/// Changes the level while the process runs, and counts lost lines.
#[derive(Clone, Debug)]
pub struct LogLevel {
    filter: reload::Handle<LevelFilter, Registry>,
    queue: LineQueue,
}

impl LogLevel {
    /// Logs this level and the more important ones from now on.
    pub fn set(&self, level: Level) {
        if let Err(error) = self.filter.reload(LevelFilter::from_level(level)) {
            // Only when the subscriber is gone, and with it everybody who could log.
            debug_assert!(error.is_dropped(), "{error}");
        }
    }

    /// Lines that found the queue full, or that standard error did not take.
    pub fn lost_lines(&self) -> u64 {
        self.queue.lost_lines.load(Relaxed)
    }

    /// Waits until what was logged so far is written; false if that takes longer than `grace`.
    /// To be called before the process exits.
    pub fn flush(&self, grace: Duration) -> bool {
        let (done, written) = bounded(1);
        self.queue.messages.send_timeout(Message::Flush(done), grace).is_ok()
            && written.recv_timeout(grace).is_ok()
    }
}

/// Milliseconds since 1970, by the system's clock.
type Now = fn() -> u64;

/// Starts the process log on standard error, for all threads, for the life of the process. `now`
/// gives the time of a line, in milliseconds since 1970.
///
/// # Errors
/// The thread cannot be started, or a log was started before.
pub fn init(level: Level, now: fn() -> u64) -> io::Result<LogLevel> {
    let (subscriber, handle) = build(level, now, io::stderr())?;
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    Ok(handle)
}

/// A log without output, for tests of its owners.
#[cfg(test)]
pub(crate) fn nowhere() -> LogLevel {
    build(Level::ERROR, || 0, io::sink()).unwrap().1
}

fn build(
    level: Level,
    now: Now,
    output: impl Write + Send + 'static,
) -> io::Result<(impl Subscriber + Send + Sync, LogLevel)> {
    let (messages, waiting) = bounded(LINES_WAITING_MAX);
    let queue = LineQueue { messages, lost_lines: Arc::default() };
    let lost_lines = Arc::clone(&queue.lost_lines);
    thread::Builder::new()
        .name("yt-log".to_owned())
        .spawn(move || write_lines(&waiting, LineOutput::new(output), &lost_lines))?;
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(level));
    let lines = Lines { queue: queue.clone(), now };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    Ok((subscriber, LogLevel { filter: handle, queue }))
}

fn write_lines(
    waiting: &Receiver<Message>,
    mut output: LineOutput<impl Write>,
    lost_lines: &AtomicU64,
) {
    for message in waiting {
        match message {
            // There is no other place to report this to than the counter.
            Message::Line(line) => {
                if output.write(&line).is_err() {
                    lost_lines.fetch_add(1, Relaxed);
                }
            }
            // Nobody waits any more if this fails.
            Message::Flush(done) => drop(done.send(())),
        }
    }
}

/// Queue to the thread that writes. Several threads log, rarely, so this counter is shared.
#[derive(Clone, Debug)]
struct LineQueue {
    messages: Sender<Message>,
    lost_lines: Arc<AtomicU64>,
}

impl LineQueue {
    /// Takes one whole line. Never blocks.
    fn push(&self, line: Vec<u8>) {
        if self.messages.try_send(Message::Line(line)).is_err() {
            self.lost_lines.fetch_add(1, Relaxed);
        }
    }
}

/// Bytes of a line for which room is made at once.
const LINE_BYTES_USUAL: usize = 320;

/// Makes a line of each event: when, how important, what, the fields of the event, and where in the
/// program.
struct Lines {
    queue: LineQueue,
    now: Now,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Vec::with_capacity(LINE_BYTES_USUAL);
        line.extend_from_slice(b"{\"log\":\"process\",\"time\":\"");
        Second::default().write_time((self.now)(), &mut line);
        line.extend_from_slice(b"\",\"level\":\"");
        line.extend_from_slice(event.metadata().level().as_str().as_bytes());
        line.push(b'"');
        event.record(&mut Fields { out: &mut line, is_message: true });
        event.record(&mut Fields { out: &mut line, is_message: false });
        line.extend_from_slice(b",\"target\":");
        write_string(event.metadata().target().as_bytes(), &mut line);
        line.extend_from_slice(b"}\n");
        self.queue.push(line);
    }
}

/// Writes the message of an event, or all of its other fields.
struct Fields<'o> {
    out: &'o mut Vec<u8>,
    is_message: bool,
}

impl Fields<'_> {
    fn text(&mut self, field: &Field, text: &str) {
        if self.begin(field) {
            write_string(text.as_bytes(), self.out);
        }
    }

    /// Writes a number or a word that JSON knows.
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        if self.begin(field) {
            // A Vec takes everything that is written to it.
            let _ = write!(self.out, "{value}");
        }
    }

    /// Writes the name of a field, if it is one of those that are written now.
    fn begin(&mut self, field: &Field) -> bool {
        let is_due = (field.name() == "message") == self.is_message;
        if is_due {
            self.out.push(b',');
            write_string(field.name().as_bytes(), self.out);
            self.out.push(b':');
        }
        is_due
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            self.plain(field, "null");
        }
    }

    /// Takes values that are shown with `Display` too.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::Value;
    use tracing::subscriber::with_default;

    use super::*;

    /// Long enough that only a bug lets it pass.
    const TIMEOUT: Duration = Duration::from_secs(30);

    fn now() -> u64 {
        1_772_323_199_999
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn lines(&self) -> Vec<Value> {
            let bytes = self.0.lock().unwrap();
            bytes
                .split_inclusive(|byte| *byte == b'\n')
                .map(|line| serde_json::from_slice(line).unwrap())
                .collect()
        }
    }

    #[test]
    fn lines_are_flat_json_in_order() {
        let memory = Memory::default();
        let (subscriber, log) = build(Level::INFO, now, memory.clone()).unwrap();
        with_default(subscriber, || {
            tracing::info!(generation = 7, bucket = "a\"b\n", "adopted");
            tracing::debug!("not shown");
            tracing::error!("second");
            assert!(log.flush(TIMEOUT));
        });
        let lines = memory.lines();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["log"], "process");
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["message"], "adopted");
        assert_eq!(lines[0]["generation"], 7);
        assert_eq!(lines[0]["bucket"], "a\"b\n");
        assert_eq!(lines[0]["time"], "2026-02-28T23:59:59.999Z");
        assert_eq!(lines[1]["message"], "second");
        assert_eq!(log.lost_lines(), 0);
    }

    #[test]
    fn a_line_is_one_line_whatever_is_in_it() {
        let memory = Memory::default();
        let (subscriber, log) = build(Level::INFO, now, memory.clone()).unwrap();
        let strange = "a\u{1b}[31m\u{202e}\u{85}\n";
        with_default(subscriber, || {
            let error = io::Error::other(strange);
            tracing::warn!(share = 0.5, whole = -3, off = false, nothing = f64::NAN, %error, strange);
            tracing::info!(subject = None::<&str>, address = %"x", "{strange}");
            assert!(log.flush(TIMEOUT));
        });
        let bytes = memory.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{85}']), "{text}");
        let [first, second] = &memory.lines()[..] else { panic!("{text}") };
        assert_eq!((&first["share"], &first["whole"]), (&0.5.into(), &(-3).into()));
        assert_eq!((&first["off"], &first["nothing"]), (&false.into(), &Value::Null));
        assert_eq!((&first["error"], &first["strange"]), (&strange.into(), &strange.into()));
        assert_eq!((&second["message"], &second["address"]), (&strange.into(), &"x".into()));
        assert!(second.get("subject").is_none(), "{second}");
        assert!(first["target"].as_str().unwrap().ends_with("telemetry::log::tests"));
    }

    #[test]
    fn the_level_changes_while_running() {
        let memory = Memory::default();
        let (subscriber, log) = build(Level::INFO, now, memory.clone()).unwrap();
        with_default(subscriber, || {
            for (level, message) in
                [(Level::INFO, "one"), (Level::DEBUG, "two"), (Level::WARN, "three")]
            {
                log.set(level);
                tracing::info!(message);
                tracing::debug!(message, detail = true);
            }
            assert!(log.flush(TIMEOUT));
        });
        let shown: Vec<_> = memory.lines().iter().map(|l| l["message"].to_string()).collect();
        assert_eq!(shown, ["\"one\"", "\"two\"", "\"two\""]);
    }

    /// Takes bytes only after it is released.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_drops_and_counts_but_never_blocks() {
        let (let_go, stuck) = bounded(0);
        let (subscriber, log) = build(Level::INFO, now, Stuck(stuck)).unwrap();
        with_default(subscriber, || {
            // One line may be in the thread's hands.
            for _ in 0..LINES_WAITING_MAX + 1 + 10 {
                tracing::info!("line");
            }
            assert!((10..=11).contains(&log.lost_lines()), "{}", log.lost_lines());
            assert!(!log.flush(Duration::ZERO));
            drop(let_go);
            assert!(log.flush(TIMEOUT));
        });
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_output_is_counted_and_survived() {
        let (subscriber, log) = build(Level::INFO, now, Closed).unwrap();
        with_default(subscriber, || {
            tracing::info!("one");
            tracing::info!("two");
            assert!(log.flush(TIMEOUT));
        });
        assert_eq!(log.lost_lines(), 2);
    }
}
