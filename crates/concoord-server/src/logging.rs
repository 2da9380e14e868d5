//! Where log records go: to standard error for people, and as JSON lines to a logger.
//!
//! ```text
//! any thread ─ record ─▶ layer ─ line, if there is room ─▶ queue ─▶ sender's thread ─ TCP ─▶ logger
//! ```
//!
//! A replica never waits for its logger: where the queue is full, a record is dropped and
//! counted, and the count is the first thing that the logger hears when it is back.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

/// The environment variable that says more finely what is logged: `debug`, or by target, as in
/// `info,concoord_core=trace`.
pub const FILTER_VARIABLE: &str = "CONCOORD_LOG";

/// Lines that may wait for the logger: some seconds of debug logs, at most a few MiB.
const QUEUE_LINES_MAX: usize = 8192;

/// Bytes of one line. A logger takes no longer ones.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// How long connecting to the logger, or writing to it, may take before it counts as dead.
const LOGGER_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a logger that is not there is looked for, and one that is silent is looked at.
const RETRY: Duration = Duration::from_millis(500);

/// How long the end of the program waits for lines that are still queued.
const FLUSH: Duration = Duration::from_millis(200);

/// What to log and where.
#[derive(Clone, Debug, Default)]
pub struct Logging {
    /// Whether debug records are shown too.
    pub debug: bool,
    /// `host:port` of a logger.
    pub logger: Option<String>,
    /// Who logs, for the logger's lines.
    pub sender: String,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// [`FILTER_VARIABLE`] is wrong.
    #[error("{FILTER_VARIABLE}={0:?} is no filter: write a level, or target=level,…")]
    Filter(String),
    /// There is a subscriber already.
    #[error("logging is set up already")]
    Twice(#[from] TryInitError),
    /// The system gives no thread.
    #[error("no thread for the logger: {0}")]
    Thread(#[from] io::Error),
}

/// Keeps the connection to the logger. When it is dropped, what is queued has a short while to
/// get away.
#[must_use]
#[derive(Debug)]
pub struct Guard {
    sender: Option<(SyncSender<Line>, Receiver<()>)>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some((queue_tx, done_rx)) = self.sender.take()
            && queue_tx.try_send(Line::End).is_ok()
        {
            // Timed out or done: either way it ends here.
            done_rx.recv_timeout(FLUSH).unwrap_or_default();
        }
    }
}

/// Starts logging for the whole process.
///
/// # Errors
/// [`LoggingError`].
pub fn start(logging: &Logging) -> Result<Guard, LoggingError> {
    let filter = filter(logging.debug)?;
    let to_people = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_filter(filter.clone());
    let (to_logger, sender) = match &logging.logger {
        Some(address) => {
            let (layer, sender) = remote(address.clone(), logging.sender.clone())?;
            (Some(layer.with_filter(filter)), Some(sender))
        }
        None => (None, None),
    };
    Registry::default().with(to_people).with(to_logger).try_init()?;
    Ok(Guard { sender })
}

fn filter(debug: bool) -> Result<Targets, LoggingError> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_default();
    if text.is_empty() {
        return Ok(Targets::new().with_default(if debug {
            LevelFilter::DEBUG
        } else {
            LevelFilter::INFO
        }));
    }
    text.parse().map_err(|_| LoggingError::Filter(text))
}

/// What goes through the queue.
enum Line {
    Record(String),
    End,
}

type Sender = (SyncSender<Line>, Receiver<()>);

fn remote(address: String, sender: String) -> io::Result<(ToLogger, Sender)> {
    let (queue_tx, queue_rx) = sync_channel(QUEUE_LINES_MAX);
    let (done_tx, done_rx) = sync_channel(1);
    let dropped = Arc::new(AtomicU64::new(0));
    let link = Link { address, stream: None, sender: sender.clone(), dropped: dropped.clone() };
    std::thread::Builder::new().name("logger".into()).spawn(move || {
        link.run(&queue_rx);
        drop(done_tx);
    })?;
    Ok((ToLogger { queue_tx: queue_tx.clone(), sender, dropped }, (queue_tx, done_rx)))
}

/// The layer: makes a line of each record and never waits.
struct ToLogger {
    queue_tx: SyncSender<Line>,
    sender: String,
    dropped: Arc<AtomicU64>,
}

impl<S: Subscriber> Layer<S> for ToLogger {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = metadata.level().as_str();
        let line = line(&self.sender, level, metadata.target(), fields.0);
        if self.queue_tx.try_send(Line::Record(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn line(sender: &str, level: &str, target: &str, fields: Map<String, Value>) -> String {
    let head = json!({ "time": now(), "replica": sender, "level": level, "target": target });
    let Value::Object(mut record) = head else { unreachable!("the line above made an object") };
    for (key, value) in fields {
        // A field never hides who speaks and when.
        record.entry(key).or_insert(value);
    }
    let line = Value::Object(record).to_string();
    if line.len() < LINE_BYTES_MAX {
        return line;
    }
    json!({ "time": now(), "replica": sender, "level": level, "target": target,
            "message": format!("a record of {} bytes, too long to send", line.len()) })
    .to_string()
}

/// Now, as RFC 3339 in UTC.
pub(crate) fn now() -> String {
    let mut text = String::with_capacity(27);
    SystemTime.format_time(&mut Writer::new(&mut text)).expect("memory takes all text");
    text
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().into(), value.into());
    }
}

/// The sender's thread. Logs nothing itself: it would be its own reader.
struct Link {
    address: String,
    stream: Option<TcpStream>,
    sender: String,
    dropped: Arc<AtomicU64>,
}

impl Link {
    fn run(mut self, queue_rx: &Receiver<Line>) {
        loop {
            match queue_rx.recv_timeout(RETRY) {
                Ok(Line::Record(line)) => {
                    // A line is kept until a logger has taken it; meanwhile the queue fills.
                    while !self.send(&line) {
                        std::thread::sleep(RETRY);
                    }
                }
                // Finds out early that a logger has gone, or is there again.
                Err(RecvTimeoutError::Timeout) => drop(self.connected()),
                Ok(Line::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn send(&mut self, line: &str) -> bool {
        let Some(stream) = self.connected() else { return false };
        let sent = stream.write_all(format!("{line}\n").as_bytes());
        if sent.is_err() {
            self.stream = None;
        }
        sent.is_ok()
    }

    /// The stream, a new one if the logger has gone. A new one starts with what was lost.
    fn connected(&mut self) -> Option<&mut TcpStream> {
        if self.stream.as_ref().is_some_and(is_closed) {
            self.stream = None;
        }
        if self.stream.is_none() {
            let mut stream = connect(&self.address).ok()?;
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                let fields = Map::from_iter([
                    ("message".into(), format!("{dropped} records were dropped").into()),
                    ("dropped".into(), dropped.into()),
                ]);
                let line = line(&self.sender, "WARN", module_path!(), fields);
                if stream.write_all(format!("{line}\n").as_bytes()).is_err() {
                    self.dropped.fetch_add(dropped, Ordering::Relaxed);
                    return None;
                }
            }
            self.stream = Some(stream);
        }
        self.stream.as_mut()
    }
}

fn connect(address: &str) -> io::Result<TcpStream> {
    let deadline = Instant::now() + LOGGER_TIMEOUT;
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => {
                stream.set_write_timeout(Some(LOGGER_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Whether the logger has closed its side. It sends nothing, so there is nothing to miss.
fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let read = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut byte));
    let back = stream.set_nonblocking(false);
    let silent = matches!(&read, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
    back.is_err() || !(silent || matches!(read, Ok(1)))
}

#[cfg(test)]
mod tests;
