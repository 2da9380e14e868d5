//! What HTTP asks on the replica's port: is it alive, is it ready, how is it.

use std::convert::Infallible;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use concoord_core::wire::Status;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::shell::Shell;

/// Bytes of a request's head. Those that we answer have nothing to say.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long a request's head may take, and a connection may idle between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

type Reply = Response<Full<Bytes>>;

/// Answers requests on that connection until it ends.
pub(crate) async fn serve(shell: Rc<Shell>, stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| {
        let reply = answer(request.method(), request.uri().path(), || shell.status());
        async { Ok::<_, Infallible>(reply) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!("a connection of HTTP ended: {error}");
    }
}

/// The reply to a request. One to HEAD is that to GET; the server leaves its body out.
fn answer(method: &Method, path: &str, status: impl FnOnce() -> Status) -> Reply {
    let known = ["/", "/livez", "/readyz", "/metrics"].contains(&path);
    if !known {
        return text(StatusCode::NOT_FOUND, "not here: try /livez, /readyz or /metrics\n");
    }
    if ![Method::GET, Method::HEAD].contains(method) {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    match path {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(&status()),
        "/metrics" => text(StatusCode::OK, metrics(&status(), own_usage())),
        _ => {
            let Status { class, replica, .. } = status();
            let version = env!("CARGO_PKG_VERSION");
            let line = format!(
                "ConCoord {version}: replica {} of {class}; /readyz, /metrics\n",
                replica.address
            );
            text(StatusCode::OK, line)
        }
    }
}

fn ready(status: &Status) -> Reply {
    let names = if status.names.is_empty() { String::new() } else { format!("{}\n", status.names) };
    if status.ready {
        text(StatusCode::OK, format!("ok\n{names}"))
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n{names}", status.reason))
    }
}

fn text(code: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = code;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// What this process takes, from proc_pid_stat(5); what the system does not tell is left out.
#[derive(Default)]
struct Usage {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    open_files: Option<u64>,
    started_seconds: Option<f64>,
}

fn own_usage() -> Usage {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as u64;
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    // Fields are numbered from 1 in the manual; the third is the first after the command.
    let field = |number: usize| fields.split_whitespace().nth(number - 3)?.parse::<u64>().ok();
    let cpu_ticks = field(14).zip(field(15)).map(|(user, system)| user + system);
    Usage {
        cpu_seconds: cpu_ticks.map(|used| used as f64 / ticks),
        resident_bytes: field(24).map(|pages| pages * page),
        open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
        started_seconds: field(22)
            .zip(boot_seconds())
            .map(|(started, boot)| boot + started as f64 / ticks),
    }
}

/// When the system was booted, seconds since 1970.
fn boot_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The text format of Prometheus, version 0.0.4.
#[derive(Default)]
struct Metrics(String);

impl Metrics {
    fn add(&mut self, kind: &str, name: &str, help: &str, value: impl std::fmt::Display) {
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.add("gauge", name, help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.add("counter", name, help, value);
    }

    /// A constant with what tells this replica from others.
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) {
        let quoted =
            |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", quoted(value))).collect();
        let labels = labels.join(",");
        self.0 += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name}{{{labels}}} 1\n");
    }
}

fn metrics(status: &Status, usage: Usage) -> String {
    let mut to = Metrics::default();
    let replica = status.replica.id.to_string();
    let labels =
        [("version", env!("CARGO_PKG_VERSION")), ("class", &status.class), ("replica", &replica)];
    to.info("concoord_info", "The replica and what it runs.", &labels);
    if let Some(view) = &status.view {
        to.gauge("concoord_members", "Members of the view.", view.members.len());
        to.gauge("concoord_voters", "Members that count in quorums.", view.voters().count());
        to.gauge("concoord_view_number", "Changes of the membership so far.", view.number);
    }
    let leads = status.leader == Some(status.replica.id);
    to.gauge("concoord_leader", "1 where this replica leads.", u8::from(leads));
    to.gauge("concoord_ready", "1 where a call would be answered now.", u8::from(status.ready));
    let witness = u8::from(status.replica.witness);
    to.gauge("concoord_witness", "1 where none ever is: a witness.", witness);
    to.gauge("concoord_term", "The term of the log.", status.term);
    to.gauge("concoord_committed_index", "The last entry that is decided.", status.committed);
    to.gauge("concoord_applied_index", "The last entry that is applied.", status.applied);
    to.gauge("concoord_sessions", "Open sessions of the cluster.", status.sessions);
    to.gauge("concoord_connections", "Connections of clients.", status.connections);
    to.counter("concoord_calls_total", "Calls applied since the start.", status.calls);
    let Usage { cpu_seconds, resident_bytes, open_files, started_seconds } = usage;
    if let Some(value) = cpu_seconds {
        to.counter("process_cpu_seconds_total", "Processor time, user and system.", value);
    }
    if let Some(value) = resident_bytes {
        to.gauge("process_resident_memory_bytes", "Memory that is resident.", value);
    }
    if let Some(value) = open_files {
        to.gauge("process_open_fds", "Open file descriptors.", value);
    }
    if let Some(value) = started_seconds {
        to.gauge("process_start_time_seconds", "When it started, since 1970.", value);
    }
    to.0
}

#[cfg(test)]
mod tests {
    use concoord_core::view::{Branch, ClusterId, Member, ReplicaId, Role, View};

    use super::*;

    fn status(ready: bool) -> Status {
        let replica = Member::new(ReplicaId(7), ([127, 0, 0, 1], 14000).into());
        let view = View {
            cluster: ClusterId(1),
            lineage: 0,
            branch: Branch::default(),
            number: 3,
            members: vec![(replica.clone(), Role::Voter)],
            lost: Vec::new(),
            dismissed: Vec::new(),
        };
        Status {
            class: "a.B".into(),
            view: Some(view),
            leader: Some(replica.id),
            replica,
            term: 2,
            committed: 9,
            applied: 8,
            digest: 0,
            sessions: 4,
            connections: 5,
            calls: 6,
            calls_per_second: 1,
            ready,
            reason: if ready { "" } else { "no quorum: 1 of 2 voters answers" }.into(),
            uptime_ms: 10,
            names: String::new(),
        }
    }

    fn code(method: &Method, path: &str) -> u16 {
        answer(method, path, || status(true)).status().as_u16()
    }

    #[test]
    fn what_is_not_there_and_what_is_not_allowed_differ() {
        for path in ["/", "/livez", "/readyz", "/metrics"] {
            assert_eq!(code(&Method::GET, path), 200);
            assert_eq!(code(&Method::HEAD, path), 200);
            assert_eq!(code(&Method::POST, path), 405);
        }
        assert_eq!(code(&Method::GET, "/metrics/"), 404);
    }

    #[test]
    fn a_replica_that_is_not_ready_is_alive_all_the_same() {
        assert_eq!(answer(&Method::GET, "/livez", || status(false)).status(), 200);
        assert_eq!(answer(&Method::GET, "/readyz", || status(false)).status(), 503);
    }

    #[test]
    fn every_metric_has_its_help_type_and_value() {
        let text = metrics(&status(true), own_usage());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len() % 3, 0);
        for metric in lines.chunks(3) {
            let name = metric[2].split(['{', ' ']).next().unwrap();
            assert!(metric[0].starts_with(&format!("# HELP {name} ")), "{metric:?}");
            assert!(metric[1].starts_with(&format!("# TYPE {name} ")), "{metric:?}");
            let value = metric[2].rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{metric:?}");
        }
        assert!(text.contains("\nconcoord_calls_total 6\n"));
        assert!(text.contains("\nconcoord_leader 1\n"));
    }

    #[test]
    fn the_system_tells_what_this_process_takes() {
        let usage = own_usage();
        assert!(usage.resident_bytes.unwrap() > 100_000);
        assert!(usage.open_files.unwrap() >= 3);
        assert!(usage.started_seconds.unwrap() > 1.7e9);
        assert!(usage.cpu_seconds.unwrap() >= 0.0);
    }

    #[test]
    fn labels_are_quoted() {
        let mut to = Metrics::default();
        to.info("i", "h", &[("l", "a\"b\\c\nd")]);
        assert!(to.0.ends_with("i{l=\"a\\\"b\\\\c\\nd\"} 1\n"));
    }
}
