//! `concoord lock`, `semaphore`, `elect` and `objects` as scripts see them: programs that hold
//! something while they and their cluster are killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use concoord::{Arguments, Client, Guard, Manner, ObjectName, Options, State, Value};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use tempfile::NamedTempFile;
use tokio::task::JoinSet;

use crate::calls::until;
use crate::cluster::SOON;
use crate::processes::{Host, Replica, bootstrap, concoord, leader, raise_file_limit};

const COUNTER: &str = "concoord.object.counter.Counter";
const LOCK: &str = "concoord.object.lock.Lock";

/// Says that it runs, and does so until its input ends.
const STAYS: &str = "echo $CONCOORD_TOKEN; read line; exit 0";

/// Says that it runs, and waits for a signal.
const SLEEPS: &str = "echo $CONCOORD_TOKEN; exec sleep 600";

/// A program that runs a script while it holds something.
struct Holder {
    child: Child,
    said: Receiver<String>,
    input: Option<ChildStdin>,
}

impl Holder {
    fn start(replicas: &str, what: &[&str], script: &str) -> Self {
        let arguments = [what, &["-b", replicas, "--", "sh", "-c", script]].concat();
        let mut child = concoord(&arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (line_tx, said) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.try_for_each(|line| line_tx.send(line)).unwrap_or(());
        });
        let input = child.stdin.take();
        Self { child, said, input }
    }

    /// Waits until its script says something.
    fn says(&self) -> String {
        self.said.recv_timeout(SOON).expect("the command runs soon")
    }

    /// Waits until its script says its token.
    fn token(&self) -> u64 {
        self.says().parse().expect("a token is a number")
    }

    fn is_silent(&self) -> bool {
        self.said.try_recv().is_err()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it ends; its exit code.
    fn ends(&mut self) -> i32 {
        until("it ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code().expect("it ends by itself")
    }

    /// Ends its script's input, and waits until it ends.
    fn let_go(&mut self) -> i32 {
        self.input = None;
        self.ends()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may have ended already, as its test wanted. A script that it leaves reads the end of
        // its input.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn run(replicas: &str, arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_first().unwrap();
    concoord(&[&[*command, "-b", replicas][..], rest].concat()).output().unwrap()
}

/// The exit code of a command that is run under a lock.
fn code(replicas: &str, options: &[&str], command: &[&str]) -> Option<i32> {
    run(replicas, &[&["lock", "codes"], options, &["--"], command].concat()).status.code()
}

fn read(replicas: &str, arguments: &[&str]) -> String {
    let output = run(replicas, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn read_json(replicas: &str, arguments: &[&str]) -> Json {
    serde_json::from_str(&read(replicas, arguments)).unwrap()
}

/// Waits until so many calls wait at an object.
fn parked(replicas: &str, class: &str, name: &str, count: u64) {
    until("they wait", || {
        let said = read_json(replicas, &["objects", "show", class, name, "--json"]);
        said["parked"] == json!(count)
    });
}

fn alone(host: &Host) -> (Replica, String) {
    let replica = host.start(&[]);
    let replicas = bootstrap(&[&replica]);
    (replica, replicas)
}

#[test]
fn a_lock_runs_one_command_at_a_time_under_tokens_that_rise() {
    let host = Host::new();
    let (_replica, replicas) = alone(&host);
    let script =
        "echo $CONCOORD_TOKEN; echo $CONCOORD_NAME; echo $CONCOORD_BOOT; read line; exit 3";
    let mut first = Holder::start(&replicas, &["lock", "deploy"], script);
    let token = first.token();
    assert_eq!((first.says(), first.says()), ("deploy".to_owned(), replicas.clone()));

    let mut second = Holder::start(&replicas, &["lock", "deploy"], STAYS);
    parked(&replicas, LOCK, "deploy", 1);
    assert!(second.is_silent(), "two run at once");
    let other = Holder::start(&replicas, &["lock", "another"], STAYS);
    assert!(other.token() > token);

    assert_eq!(first.let_go(), 3);
    assert!(second.token() > token);
    assert_eq!(second.let_go(), 0);
}

#[test]
fn who_has_not_got_it_in_time_runs_nothing_and_ends_with_11() {
    let host = Host::new();
    let (_replica, replicas) = alone(&host);
    let mut first = Holder::start(&replicas, &["lock", "codes"], STAYS);
    first.token();
    let late = run(&replicas, &["lock", "codes", "--timeout", "0.1", "--", "echo", "run"]);
    assert_eq!(late.status.code(), Some(11), "{late:?}");
    assert!(late.stdout.is_empty(), "{late:?}");

    let waiting = Holder::start(&replicas, &["lock", "codes"], STAYS);
    parked(&replicas, LOCK, "codes", 1);
    waiting.signal(Signal::INT);
    let mut waiting = waiting;
    assert_eq!(waiting.ends(), 130);
    parked(&replicas, LOCK, "codes", 0);
    assert_eq!(first.let_go(), 0);
}

#[test]
fn a_lock_ends_as_its_command_does_and_is_released() {
    let host = Host::new();
    let (_replica, replicas) = alone(&host);
    let file = NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    // Each gets it at once, long before the session of the one before it could have expired.
    let at_once = ["--timeout", "2"];
    let commands: [(&[&str], i32); 6] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&[file], 126),
        (&["concoord-no-such-command"], 127),
        (&["sh", "-c", "exit 12"], 12),
    ];
    for (command, expected) in commands {
        assert_eq!(code(&replicas, &at_once, command), Some(expected), "{command:?}");
    }
    assert_eq!(run(&replicas, &["lock", "codes"]).status.code(), Some(2), "no command");
}

#[test]
fn a_signal_to_the_lock_is_for_its_command() {
    let host = Host::new();
    let (_replica, replicas) = alone(&host);
    let mut first = Holder::start(&replicas, &["lock", "codes"], SLEEPS);
    first.token();
    first.signal(Signal::TERM);
    assert_eq!(first.ends(), 128 + 15);
    assert_eq!(first.said.recv_timeout(SOON).ok(), None, "the command has ended, too");
    assert_eq!(code(&replicas, &["--timeout", "2"], &["true"]), Some(0));
}

#[test]
fn the_lock_of_one_that_was_killed_is_free_when_its_session_ends() {
    let host = Host::new();
    let replica = host.start(&["--session-timeout", "2"]);
    let replicas = bootstrap(&[&replica]);
    let mut first = Holder::start(&replicas, &["lock", "codes"], STAYS);
    let token = first.token();
    let mut next = Holder::start(&replicas, &["lock", "codes"], STAYS);
    parked(&replicas, LOCK, "codes", 1);

    let start = Instant::now();
    first.child.kill().unwrap();
    assert!(next.token() > token);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(first.child.wait().unwrap().signal(), Some(9));
    assert_eq!(next.let_go(), 0);
}

#[test]
fn a_leader_that_dies_disturbs_no_command() {
    let host = Host::new();
    let mut three = host.three();
    let replicas = bootstrap(&three.each_ref());
    let script = "echo $CONCOORD_TOKEN; read line; echo undisturbed; exit 5";
    let mut first = Holder::start(&replicas, &["lock", "codes"], script);
    let token = first.token();
    let mut next = Holder::start(&replicas, &["lock", "codes"], STAYS);
    parked(&replicas, LOCK, "codes", 1);

    let led = leader(&three);
    three[led].kill();
    // Answered by the next leader.
    parked(&replicas, LOCK, "codes", 1);
    assert!(first.is_silent() && next.is_silent());
    assert_eq!(first.let_go(), 5);
    assert_eq!(first.says(), "undisturbed");
    assert!(next.token() > token);
    assert_eq!(next.let_go(), 0);
}

#[test]
fn who_only_reconnects_still_holds_it() {
    let host = Host::new();
    let replica = host.start(&["--session-timeout", "3"]);
    let road = Road::to(replica.address);
    let holder = Client::connect(&road.address.to_string(), Options::default()).unwrap();
    let held = Manner { object: Some(lock("codes")), ..Manner::default() };
    let token = holder.call_as(&held, "acquire", &Arguments::default(), SOON, &mut || false);
    let Value::Int(token) = token.unwrap() else { panic!("a token is a number") };
    let session = holder.health().session;

    let replicas = bootstrap(&[&replica]);
    let mut next = Holder::start(&replicas, &["lock", "codes"], STAYS);
    parked(&replicas, LOCK, "codes", 1);
    let roads = road.cut();
    assert!(roads > 0, "the holder was connected by another way");
    until("it reconnects", || holder.health().state == State::Connected);
    // Longer than the session would have lived without its holder.
    let silence = Duration::from_secs(4);
    assert_eq!(next.said.recv_timeout(silence), Err(RecvTimeoutError::Timeout));

    let guard = Guard { object: lock("codes"), token: token.cast_unsigned() };
    let guarded = Manner { guard: Some(guard), ..Manner::default() };
    holder.call_as(&guarded, "increment", &Arguments::default(), SOON, &mut || false).unwrap();
    assert_eq!((holder.health().session, holder.health().losses), (session, 0));
    holder.call_as(&held, "release", &Arguments::default(), SOON, &mut || false).unwrap();
    assert!(next.token() > token.cast_unsigned());
    assert_eq!(next.let_go(), 0);
}

fn lock(name: &str) -> ObjectName {
    ObjectName { class: LOCK.into(), name: name.into() }
}

/// What carries connections to a replica, until it is cut.
struct Road {
    address: SocketAddr,
    carried: Arc<Mutex<Vec<TcpStream>>>,
}

impl Road {
    fn to(replica: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let carried = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&carried);
        thread::spawn(move || {
            for near in listener.incoming() {
                let (near, far) = (near.unwrap(), TcpStream::connect(replica).unwrap());
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    // Ends with either side.
                    thread::spawn(move || copy(&mut from, &mut to).unwrap_or_default());
                }
                all.lock().unwrap().extend([near, far]);
            }
        });
        Self { address, carried }
    }

    /// Ends all connections; how many sockets were open still.
    fn cut(&self) -> usize {
        let mut carried = self.carried.lock().unwrap();
        carried.drain(..).filter(|socket| socket.shutdown(Shutdown::Both).is_ok()).count()
    }
}

#[test]
fn a_thousand_that_wait_cost_an_entry_a_hand_over() {
    const WAIT: u64 = 1000;
    raise_file_limit();
    let host = Host::new();
    let (_replica, replicas) = alone(&host);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = || concoord::tokio::Client::connect(&replicas, Options::default());
        let first = client().await.unwrap();
        let held = Manner { object: Some(lock("crowd")), ..Manner::default() };
        let call = async |client: &concoord::tokio::Client, method: &'static str| {
            client.call_as(&held, method, &Arguments::default(), SOON).await.unwrap()
        };
        let token = int(&call(&first, "acquire").await);

        let mut crowd = JoinSet::new();
        for _ in 0..WAIT {
            let (client, held) = (client().await.unwrap(), held.clone());
            crowd.spawn(async move {
                let none = Arguments::default();
                let token = client.call_as(&held, "acquire", &none, SOON).await.unwrap();
                client.call_as(&held, "release", &none, SOON).await.unwrap();
                // It stays until all are through: the end of a session is an entry of its own.
                (token, client)
            });
        }
        let all_wait = async || {
            let said = call(&first, "__concoorddescribe__").await;
            let Value::Map(said) = said else { panic!("{said:?}") };
            said.contains(&("parked".into(), WAIT.into()))
        };
        while !all_wait().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        let before = first.status().await.unwrap().committed;
        call(&first, "release").await;
        let ended = crowd.join_all().await;
        let entries = first.status().await.unwrap().committed - before;
        // Each of them releases, and so does the first. A few say that sessions are alive.
        let most = WAIT + WAIT / 20;
        assert!((WAIT..=most).contains(&entries), "{entries} entries for {WAIT} hand-overs");
        let tokens: BTreeSet<i64> = ended.iter().map(|(token, _)| int(token)).collect();
        assert_eq!(tokens.len() as u64, WAIT, "each token is given once");
        assert!(tokens.first() > Some(&token), "{tokens:?} after {token}");
    });
}

fn int(value: &Value) -> i64 {
    let Value::Int(value) = value else { panic!("{value:?} is no token") };
    *value
}

#[test]
fn a_command_is_ended_when_the_cluster_may_have_given_its_lock_away() {
    let host = Host::new();
    let mut replica = host.start(&["--session-timeout", "1"]);
    let replicas = bootstrap(&[&replica]);
    // Longer than is waited for: it is TERM that ends the one, and KILL the other.
    let mut kind = Holder::start(&replicas, &["lock", "one", "--grace", "600"], SLEEPS);
    let deaf = "trap 'echo told' TERM; echo $CONCOORD_TOKEN; while :; do read line; done";
    let mut deaf = Holder::start(&replicas, &["lock", "other", "--grace", "0.2"], deaf);
    kind.token();
    deaf.token();

    replica.kill();
    assert_eq!(kind.ends(), 12);
    assert_eq!(deaf.ends(), 12);
    assert_eq!(kind.said.recv_timeout(SOON).ok(), None, "the command has ended, too");
    until("the deaf one ends", || {
        deaf.said.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected)
    });
}

#[test]
fn what_a_command_has_started_ends_with_it() {
    let host = Host::new();
    let mut replica = host.start(&["--session-timeout", "1"]);
    let replicas = bootstrap(&[&replica]);
    // One is deaf, one has a session of its own and no parent any more; both have the output open.
    let script = "sh -c 'trap : TERM; echo deaf; while :; do sleep 1; done' &
        (setsid sh -c 'echo orphan; exec sleep 600' &)
        echo $CONCOORD_TOKEN; wait";
    let mut holder = Holder::start(&replicas, &["lock", "one", "--grace", "0.5"], script);
    let mut said = [holder.says(), holder.says(), holder.says()];
    said.sort();
    assert_eq!(said[1..], ["deaf", "orphan"]);

    replica.kill();
    assert_eq!(holder.ends(), 12);
    until("nobody has its output open", || {
        holder.said.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected)
    });
}

#[test]
fn a_semaphore_runs_as_many_commands_as_it_has_permits() {
    let host = Host::new();
    let (_replica, replicas) = alone(&host);
    let what = ["semaphore", "builds", "--count", "2"];
    let mut first = Holder::start(&replicas, &what, STAYS);
    let token = first.token();
    let mut second = Holder::start(&replicas, &what, STAYS);
    assert!(second.token() > token, "permits have tokens of their own");
    let third = [&what[..], &["--timeout", "0.1", "--", "true"]].concat();
    assert_eq!(run(&replicas, &third).status.code(), Some(11));
    assert_eq!(first.let_go(), 0);
    let third = [&what[..], &["--timeout", "2", "--", "true"]].concat();
    assert_eq!(run(&replicas, &third).status.code(), Some(0));
    assert_eq!(second.let_go(), 0);
}

#[test]
fn who_is_elected_shows_its_value_and_resigns_at_the_end() {
    let host = Host::new();
    let (_replica, replicas) = alone(&host);
    let class = "concoord.object.election.Election";
    let asked = || read(&replicas, &["call", "leader", "--class", class, "--name", "web"]);
    let mut first = Holder::start(&replicas, &["elect", "web", "--value", "first:80"], STAYS);
    let token = first.token();
    assert_eq!(asked(), "\"first:80\"\n");
    let mut second = Holder::start(&replicas, &["elect", "web", "--value", "second:80"], STAYS);
    parked(&replicas, class, "web", 1);
    assert_eq!(asked(), "\"first:80\"\n");
    assert_eq!(first.let_go(), 0);
    assert!(second.token() > token);
    assert_eq!(asked(), "\"second:80\"\n");
    assert_eq!(second.let_go(), 0);
    assert_eq!(asked(), "null\n");
}

#[test]
fn objects_are_listed_shown_and_removed() {
    let host = Host::new();
    let (_replica, replicas) = alone(&host);
    let object = |class: &str, name: &str| json!({ "class": class, "name": name });
    let list = |class: &[&str]| {
        read_json(&replicas, &[&["objects", "list", "--json", "--timeout", "5"], class].concat())
    };
    assert_eq!(list(&[]), json!([object(COUNTER, "")]));

    let hits = ["--class", COUNTER, "--name", "hits"];
    read(&replicas, &[&["call", "increment", "[5]"], &hits[..]].concat());
    assert_eq!(read(&replicas, &[&["call", "getvalue"], &hits[..]].concat()), "5\n");
    assert_eq!(read(&replicas, &["call", "getvalue"]), "0\n", "another object");
    let holder = Holder::start(&replicas, &["lock", "deploy"], STAYS);
    holder.token();

    let both = json!([object(COUNTER, ""), object(COUNTER, "hits")]);
    assert_eq!(list(&[COUNTER]), both);
    assert_eq!(list(&[LOCK]), json!([object(LOCK, "deploy")]));
    assert_eq!(list(&[]).as_array().unwrap().len(), 3);
    let table = read(&replicas, &["objects"]);
    assert!(table.contains("hits") && table.contains("deploy"), "{table}");

    let mut waiting = Holder::start(&replicas, &["lock", "deploy"], STAYS);
    parked(&replicas, LOCK, "deploy", 1);
    assert!(read(&replicas, &["objects", "show", LOCK, "deploy"]).contains("parked"));
    let removed = read_json(&replicas, &["objects", "remove", LOCK, "deploy", "--json"]);
    assert_eq!(removed, json!({ "removed": true }));
    assert_eq!(waiting.ends(), 7, "its call ended with an exception");
    let again = read_json(&replicas, &["objects", "remove", LOCK, "deploy", "--json"]);
    assert_eq!(again, json!({ "removed": false }));
    assert_eq!(list(&[]), both);
    assert_eq!(run(&replicas, &["objects", "show", LOCK, "deploy"]).status.code(), Some(7));
    assert_eq!(run(&replicas, &["objects", "remove", COUNTER]).status.code(), Some(7));
}
