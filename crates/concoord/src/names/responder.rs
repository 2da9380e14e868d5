//! A DNS server on loopback for tests: it answers as it is told to, rightly or not. Made of the
//! standard library alone, so that tests of other crates can have it, too.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each crate's tests have it be what they need"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;
pub(crate) const SRV: u16 = 33;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const OPT: u16 = 41;

/// Seconds that records may be kept.
const TTL: u32 = 1;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Address(IpAddr),
    Alias(String),
    /// Priority, weight, port and target.
    Service(u16, u16, u16, String),
}

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Well,
    /// Not at all.
    Silent,
    /// First with another id, with another question, and with garbage; then well.
    Forged,
    /// By UDP only that the answer does not fit.
    Truncated,
    /// By UDP with nothing but garbage.
    Garbage,
    /// To questions with EDNS that it does not understand.
    Old,
    /// With that code.
    Code(u8),
    /// To questions for records of that type with SERVFAIL.
    FailsOn(u16),
    /// To questions for names that begin like this with SERVFAIL.
    FailsAt(&'static str),
}

/// What it knows and how it is.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) zone: BTreeMap<String, Vec<Data>>,
    pub(crate) manner: Manner,
    /// The name and the type of each question so far.
    pub(crate) asked: Vec<(String, u16)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Responder {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Responder {
    /// One at that address; port 0 for any that is free.
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (udp, tcp) = bind(address);
        let address = udp.local_addr().unwrap();
        let state = State { zone: BTreeMap::new(), manner: Manner::Well, asked: Vec::new() };
        let this = Self { address, state: Arc::new(Mutex::new(state)) };
        let (by_udp, by_tcp) = (this.clone(), this.clone());
        thread::spawn(move || by_udp.serve_udp(&udp));
        thread::spawn(move || by_tcp.serve_tcp(&tcp));
        this
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap())
    }

    pub(crate) fn be(&self, manner: Manner) {
        self.with(|state| state.manner = manner);
    }

    pub(crate) fn set(&self, name: &str, data: Vec<Data>) {
        self.with(|state| state.zone.insert(name.to_owned(), data));
    }

    /// Has that domain stand for replicas at these addresses, as their name server would.
    pub(crate) fn set_replicas(&self, domain: &str, replicas: &[SocketAddr]) {
        let target = |address: &SocketAddr| format!("{}.ipaddr.{domain}", dashed(address.ip()));
        let service = |(nth, address): (usize, &SocketAddr)| {
            Data::Service(u16::from(nth > 0) * 10, 100, address.port(), target(address))
        };
        self.with(|state| {
            state.zone.retain(|name, _| !name.ends_with(domain));
            let services = replicas.iter().enumerate().map(service).collect();
            state.zone.insert(format!("_concoord._tcp.{domain}"), services);
            for replica in replicas {
                state.zone.insert(target(replica), vec![Data::Address(replica.ip())]);
            }
            let addresses = replicas.iter().map(|replica| Data::Address(replica.ip())).collect();
            state.zone.insert(domain.to_owned(), addresses);
        });
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut room = [0; 4096];
        while let Ok((bytes, from)) = socket.recv_from(&mut room) {
            let Some(answers) = self.answer(&room[..bytes], true) else { continue };
            for answer in answers {
                // Who asked may have gone.
                drop(socket.send_to(&answer, from));
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for mut stream in listener.incoming().flatten() {
            let mut length = [0; 2];
            let mut question = Vec::new();
            if stream.read_exact(&mut length).is_ok() {
                question.resize(usize::from(u16::from_be_bytes(length)), 0);
            }
            if stream.read_exact(&mut question).is_ok() {
                for answer in self.answer(&question, false).unwrap_or_default() {
                    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                    drop(stream.write_all(&[&length[..], &answer].concat()));
                }
            }
        }
    }

    /// The messages that answer a question.
    fn answer(&self, question: &[u8], is_udp: bool) -> Option<Vec<Vec<u8>>> {
        let (name, kind, end) = parse(question)?;
        let mut state = self.state.lock().unwrap();
        state.asked.push((name.clone(), kind));
        let head = &question[..end];
        let well = || respond(head, &state.zone, &name, kind);
        let coded = |code: u8| message(head, code, 0, &[]);
        Some(match state.manner {
            Manner::Well => vec![well()],
            Manner::Silent => vec![],
            Manner::Forged => {
                let (mut other_id, mut other_name) = (well(), well());
                other_id[0] ^= 1;
                other_name[13] ^= 1;
                vec![other_id, other_name, vec![0xff; 700], vec![], well()]
            }
            Manner::Truncated if is_udp => {
                let mut truncated = message(head, 0, 0, &[]);
                truncated[2] |= 2;
                vec![truncated]
            }
            Manner::Garbage if is_udp => {
                let mut garbage = well();
                let body = garbage.len().min(end + 2);
                garbage.truncate(body);
                vec![garbage]
            }
            Manner::Old if has_edns(question) => vec![coded(1)],
            Manner::FailsOn(of) if of == kind => vec![coded(2)],
            Manner::FailsAt(start) if name.starts_with(start) => vec![coded(2)],
            Manner::Truncated
            | Manner::Garbage
            | Manner::Old
            | Manner::FailsOn(_)
            | Manner::FailsAt(_) => vec![well()],
            Manner::Code(code) => vec![coded(code)],
        })
    }
}

fn bind(address: SocketAddr) -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind(address).unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP at {address}");
}

fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// The name and the type of a question, and where it ends.
fn parse(message: &[u8]) -> Option<(String, u16, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    while *message.get(at)? > 0 {
        let end = at + 1 + usize::from(message[at]);
        labels.push(String::from_utf8_lossy(message.get(at + 1..end)?).to_lowercase());
        at = end;
    }
    let kind = u16::from_be_bytes(message.get(at + 1..at + 3)?.try_into().ok()?);
    Some((labels.join("."), kind, at + 5))
}

fn has_edns(question: &[u8]) -> bool {
    question[11] > 0
}

fn respond(head: &[u8], zone: &BTreeMap<String, Vec<Data>>, name: &str, kind: u16) -> Vec<u8> {
    let Some(data) = zone.get(name) else {
        // A name between others is there, but stands for nothing.
        let is_between = zone.keys().any(|known| known.ends_with(&format!(".{name}")));
        return message(head, if is_between { 0 } else { 3 }, 0, &[soa()]);
    };
    let mut answers = Vec::new();
    let mut additional = Vec::new();
    for data in data {
        match data {
            Data::Address(IpAddr::V4(ip)) if kind == A => {
                answers.push(record(name, A, &ip.octets()));
            }
            Data::Address(IpAddr::V6(ip)) if kind == AAAA => {
                answers.push(record(name, AAAA, &ip.octets()));
            }
            Data::Alias(to) => answers.push(record(name, CNAME, &labels(to))),
            Data::Service(priority, weight, port, target) if kind == SRV => {
                let numbers = [priority, weight, port].map(|number| number.to_be_bytes()).concat();
                answers.push(record(name, SRV, &[numbers, labels(target)].concat()));
                for data in zone.get(target).into_iter().flatten() {
                    if let Data::Address(IpAddr::V4(ip)) = data {
                        additional.push(record(target, A, &ip.octets()));
                    }
                }
            }
            Data::Address(_) | Data::Service(..) => {}
        }
    }
    let count = u16::try_from(answers.len()).unwrap();
    if count == 0 {
        return message(head, 0, 0, &[soa()]);
    }
    answers.extend(additional);
    message(head, 0, count, &answers)
}

/// Header, question and records, of which so many are answers; the others are additional, or one
/// that says why there is none.
fn message(head: &[u8], code: u8, answers: u16, records: &[Vec<u8>]) -> Vec<u8> {
    let others = u16::try_from(records.len()).unwrap() - answers;
    let (authority, additional) = if answers == 0 { (others, 0) } else { (0, others) };
    let mut message = head.to_vec();
    // A response, with authority.
    message[2] = 0x84 | (head[2] & 1);
    message[3] = code;
    message[4..12]
        .copy_from_slice(&[1, answers, authority, additional].map(u16::to_be_bytes).concat());
    message.extend(records.concat());
    if code != 1 {
        message[11] += 1;
        message.extend([&[0][..], &OPT.to_be_bytes(), &1232u16.to_be_bytes(), &[0; 6]].concat());
    }
    message
}

fn record(name: &str, kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    let class = 1u16.to_be_bytes();
    [&labels(name), &kind.to_be_bytes()[..], &class, &TTL.to_be_bytes(), &length, data].concat()
}

fn soa() -> Vec<u8> {
    let numbers = [1, 60, 60, 60, TTL].map(u32::to_be_bytes).concat();
    record("", SOA, &[labels(""), labels(""), numbers].concat())
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
