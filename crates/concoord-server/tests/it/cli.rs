//! The command line as a script sees it: exit codes, and what goes where.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use crate::calls::until;
use crate::processes::{Host, bootstrap, concoord};

const COUNTER: &str = "concoord.object.counter.Counter";

fn run(arguments: &[&str]) -> Output {
    concoord(arguments).output().expect("the program runs")
}

/// The exit code and what went to standard error.
fn ended(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    (output.status.code().expect("it ends by itself"), text(output.stderr))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("it speaks UTF-8")
}

/// A port that nothing listens on for now, held so that nothing else gets it.
fn silent_port() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (listener, port)
}

#[test]
fn the_bare_command_says_what_it_is() {
    let output = run(&[]);
    assert!(output.status.success());
    let text = text(output.stdout);
    assert!(text.starts_with(concat!("concoord ", env!("CARGO_PKG_VERSION"))), "{text}");
    for command in
        ["replica", "status", "members", "force-solo", "call", "object", "bench", "logger"]
    {
        assert!(text.contains(&format!("\n  {command} ")), "{command} is not listed: {text}");
    }
}

#[test]
fn the_usage_of_the_tutorial_is_there() {
    let help = text(run(&["REPLICA", "-h"]).stdout);
    let long = ["--addr", "--port", "--boot", "--objectname", "--logger", "--debug", "--help"];
    for option in ["-a", "-p", "-b", "-o", "-l", "-d", "-h"].iter().chain(&long) {
        assert!(help.contains(option), "{option}: {help}");
    }
}

#[test]
fn bad_arguments_end_with_2() {
    for arguments in [
        &["nothing"][..],
        &["replica"],
        &["replica", "-o", "a.B", "-p", "0"],
        &["replica", "-o", "a.B", "-p", "70000"],
        &["replica", "-o", "a.B", "-a", "no such host"],
        &["replica", "-o", "a.B", "-a", "127.0.0.1", "-b", "no such host"],
        &["replica", "-o", "a.B", "--dead-timeout", "-1"],
        &["call", "increment", "5"],
        &["call", "increment", "[", "-b", "127.0.0.1:1"],
        &["bench", "--clients", "0"],
        &["bench", "--clients", "2", "--connections", "3"],
        &["status", "-b", "a:b:c"],
    ] {
        let (code, said) = ended(arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(!said.is_empty(), "{arguments:?}");
    }
}

#[test]
fn durations_that_do_not_fit_are_named_with_what_would() {
    for (option, given, said_of) in [
        ("--dead-timeout", "1", ["1s", "2s or more", "election_timeout (1s)"]),
        ("--session-timeout", "0.03", ["30ms", "40ms or more", "tick (20ms)"]),
    ] {
        let (code, said) = ended(&["replica", "-o", COUNTER, "-a", "127.0.0.1", option, given]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(&format!("{option} is ")), "{said}");
        assert!(said_of.iter().all(|words| said.contains(words)), "{said}");
    }
    let arguments = ["replica", "-o", "a.B", "--apply-timeout", "0"];
    let (code, said) = ended(&arguments);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--apply-timeout") && said.contains("above 0"), "{said}");
}

#[test]
fn a_replica_on_all_addresses_is_known_by_the_hosts_own() {
    let host = Host::new();
    let (listener, port) = silent_port();
    drop(listener);
    let any = Host::at(SocketAddr::from(([0, 0, 0, 0], port.parse().unwrap())), &[]);
    until("it serves", || any.status().is_ok_and(|status| status.ready));
    let known = any.status().unwrap().replica.address;
    assert!(!known.ip().is_unspecified() && known.port() == any.address.port(), "{known}");
    let log = any.log();
    assert_eq!(log.contains("other hosts reach"), known.ip().is_loopback(), "{log}");
    // Reached by any address of the host, also by one that joins.
    let boot = format!("{}:{port}", host.ip);
    assert!(run(&["call", "increment", "-b", &boot]).status.success());
    let joined = host.start(&["-b", &boot]);
    let view = joined.status().unwrap().view.unwrap();
    assert!(view.members.iter().any(|(member, _)| member.address == known), "{view:?}");
}

#[test]
fn a_port_in_use_ends_with_3() {
    let (_taken, port) = silent_port();
    let (code, said) = ended(&["replica", "-o", COUNTER, "-a", "127.0.0.1", "-p", &port]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains(&format!("Cannot bind to port {port}")), "{said}");
    let (code, said) = ended(&["logger", "-p", &port]);
    assert_eq!(code, 3, "{said}");
}

#[test]
fn nobody_there_ends_with_5() {
    let (listener, port) = silent_port();
    drop(listener);
    let boot = format!("127.0.0.1:{port}");
    for arguments in [
        &["status", "-b", &boot, "--timeout", "0.3"][..],
        &["call", "getvalue", "-b", &boot, "--timeout", "0.3"],
    ] {
        let (code, said) = ended(arguments);
        assert_eq!(code, 5, "{arguments:?}: {said}");
        assert!(said.contains(&boot), "{said}");
    }
}

#[test]
fn a_python_without_the_package_is_said_to_lack_it() {
    let folder = tempfile::tempdir().unwrap();
    let python = folder.path().join("python");
    fs::write(&python, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let (code, said) = ended(&["object", "-o", "a.B", "--python", python.to_str().unwrap()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("pip install concoord"), "{said}");
    let (code, said) = ended(&["object", "-o", "a.B", "--python", "/no/python"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("--python"), "{said}");
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = concoord(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    assert_eq!(text(output.stderr), "");
}

#[test]
fn the_logger_prints_what_it_gets() {
    // A free port, found by asking for one and giving it back.
    let (listener, port) = silent_port();
    drop(listener);
    let mut logger = concoord(&["logger", "-a", "127.0.0.1", "-p", &port])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(logger.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains(&port), "{said}");
    let mut sender = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    sender.write_all(b"{\"message\":\"hello\"}\n").unwrap();
    let mut line = String::new();
    BufReader::new(logger.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[1], sender.local_addr().unwrap().to_string());
    assert_eq!(words[2], "{\"message\":\"hello\"}");
    logger.kill().unwrap();
    logger.wait().unwrap();
}

#[test]
fn an_object_is_called_from_the_shell_and_goes_on_without_its_leader() {
    let [first, second, third] = Host::new().three();
    let boot = bootstrap(&[&first, &second, &third]);
    let call = |method, arguments| run(&["call", method, arguments, "-b", &boot]);

    assert_eq!(text(call("increment", "[5]").stdout), "null\n");
    assert_eq!(text(call("increment", r#"{"by": 2}"#).stdout), "null\n");
    assert_eq!(text(call("getvalue", "[]").stdout), "7\n");
    assert_eq!(call("increment", r#"["x"]"#).status.code(), Some(7));
    assert_eq!(call("nothing", "[]").status.code(), Some(8));

    let status = run(&["status", "--json", "-b", &boot]);
    assert!(status.status.success());
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["leader"], first.address.to_string());
    assert_eq!(status["members"].as_array().unwrap().len(), 3);

    drop(first);
    assert_eq!(text(call("getvalue", "[]").stdout), "7\n");
}

#[test]
fn a_replica_with_nobody_to_join_says_so_and_joins_when_there_is_somebody() {
    let host = Host::new();
    let boot = format!("{}:14001", host.ip);
    let joining = host.spawn(&["-b", &boot]);
    until("it says so", || {
        let said = joining.log();
        said.contains(&boot) && said.contains("trying on")
    });
    let first = host.start(&[]);
    assert_eq!(first.address.to_string(), boot);
    joining.serves();
}

#[test]
fn a_replica_may_be_given_a_list_with_itself_in_it() {
    let host = Host::new();
    let first = host.start(&[]);
    let own = format!("{}:14001", host.ip);
    let second = host.start(&["-b", &format!("{own},{}", first.address)]);
    assert_eq!((second.address.to_string(), second.members()), (own, 2));
    let (ip, itself) = (host.ip.to_string(), format!("{}:14002", host.ip));
    let (code, said) = ended(&["replica", "-o", COUNTER, "-a", &ip, "-p", "14002", "-b", &itself]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("this replica itself"), "{said}");
}

#[test]
fn the_bench_measures_replicas_of_its_own() {
    let output = run(&["bench", "--spawn", "2", "--clients", "4", "--seconds", "0.3", "--json"]);
    assert!(output.status.success(), "{}", text(output.stderr));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["calls"].as_u64().unwrap() > 0, "{result}");
    assert_eq!(result["unknown"], 0);
    assert_eq!(result["connections"], 4);
}

#[test]
fn the_clients_of_a_bench_may_share_connections() {
    let replica = Host::new().start(&[]);
    let boot = replica.address.to_string();
    let clients = ["-c", "8", "--connections", "2", "-s", "60", "--json"];
    let mut bench = concoord(&["bench", "-b", &boot]);
    let mut bench = bench.args(clients).stdout(Stdio::null()).spawn().unwrap();
    until("all clients call", || replica.status().is_ok_and(|status| status.calls > 100));
    assert_eq!(replica.status().unwrap().sessions, 2);
    bench.kill().unwrap();
    bench.wait().unwrap();
}

#[test]
fn a_replica_logs_to_a_logger() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let replica = Host::new().start(&["-d", "-l", &place]);
    let mut line = String::new();
    BufReader::new(listener.accept().unwrap().0).read_line(&mut line).unwrap();
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(record["replica"], replica.address.to_string());
}
