use std::io::{BufRead, BufReader};
use std::net::TcpListener;

use tracing::subscriber::with_default;

use super::*;

struct Lines(BufReader<TcpStream>);

impl Lines {
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(BufReader::new(stream))
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

fn bound() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_record_is_one_line_of_json_with_its_sender() {
    let (listener, address) = bound();
    let (layer, _sender) = remote(address, "127.0.0.1:14000".into()).unwrap();
    with_default(Registry::default().with(layer), || {
        tracing::warn!(members = 3, target_of = "x\ny", level = "hidden", "the view changed");
    });
    let record = Lines::accept(&listener).next();
    assert_eq!(record["replica"], "127.0.0.1:14000");
    assert_eq!(record["level"], "WARN");
    assert_eq!(record["message"], "the view changed");
    assert_eq!(record["members"], 3);
    assert_eq!(record["target_of"], "x\ny");
    assert!(record["time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn an_absent_logger_costs_records_and_not_time_and_hears_how_many() {
    let (listener, address) = bound();
    drop(listener);
    let (layer, _sender) = remote(address.clone(), "r".into()).unwrap();
    let records = QUEUE_LINES_MAX as u64 + 100;
    with_default(Registry::default().with(layer), || {
        let start = Instant::now();
        for number in 0..records {
            tracing::info!(number, "on and on");
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    });
    let mut lines = Lines::accept(&TcpListener::bind(address).unwrap());
    let dropped = lines.next()["dropped"].as_u64().unwrap();
    // The sender may have taken one line out of the queue already.
    assert!((99..=100).contains(&dropped), "{dropped}");
    for number in 0..records - dropped {
        assert_eq!(lines.next()["number"], number);
    }
}

#[test]
fn a_logger_that_returns_is_found_again() {
    let (listener, address) = bound();
    let (layer, _sender) = remote(address, "r".into()).unwrap();
    with_default(Registry::default().with(layer), || {
        tracing::info!("first");
        let mut lines = Lines::accept(&listener);
        assert_eq!(lines.next()["message"], "first");
        drop(lines);
        // The sender sees the end of the stream by itself and is here before it has a record.
        let mut lines = Lines::accept(&listener);
        tracing::info!("second");
        assert_eq!(lines.next()["message"], "second");
    });
}

#[test]
fn what_is_queued_at_the_end_still_gets_away() {
    let (listener, address) = bound();
    let (layer, sender) = remote(address, "r".into()).unwrap();
    with_default(Registry::default().with(layer), || tracing::info!("last words"));
    drop(Guard { sender: Some(sender) });
    assert_eq!(Lines::accept(&listener).next()["message"], "last words");
}

#[test]
fn a_record_too_long_for_a_logger_is_told_of() {
    let (listener, address) = bound();
    let (layer, _sender) = remote(address, "r".into()).unwrap();
    with_default(Registry::default().with(layer), || {
        tracing::info!(huge = "x".repeat(LINE_BYTES_MAX), "long");
    });
    let message = Lines::accept(&listener).next()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("too long to send"), "{message}");
}
