//! DNS messages, as far as a client needs them: one question, and records of four types
//! (RFC 1035, 2782, 3596, 6891).
//!
//! What comes in is anybody's. Nothing is kept that the message's own bytes don't bound, and a
//! name's pointers lead backwards only, so that reading one ends.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a message that we take over UDP: what crosses all networks in one piece.
pub(super) const UDP_BYTES_MAX: u16 = 1232;

/// Bytes of a name without its dots at the end (RFC 1035, 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Bytes between two dots.
const LABEL_BYTES_MAX: usize = 63;

/// Records of one message that are looked at; a cluster has 31 members at most.
const RECORDS_MAX: usize = 512;

const CLASS_IN: u16 = 1;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const TYPE_OPT: u16 = 41;

/// A domain name in lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl Name {
    /// `None` if that can be no name in the DNS.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = |label: &str| (1..=LABEL_BYTES_MAX).contains(&label.len()) && is_plain(label);
        let is_name = text.len() <= NAME_BYTES_MAX && text.split('.').all(fits);
        is_name.then(|| Self(text.to_ascii_lowercase()))
    }

    /// This name within a domain.
    pub(super) fn within(&self, domain: &Self) -> Option<Self> {
        Self::parse(&format!("{self}.{domain}"))
    }

    pub(super) fn dots(&self) -> usize {
        self.0.matches('.').count()
    }
}

fn is_plain(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_graphic())
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    A = 1,
    Aaaa = 28,
    Srv = 33,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Srv => "SRV",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: Type,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.kind, self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Address(IpAddr),
    /// Where the name is an alias of.
    Alias(Name),
    /// `None` for the root: there is no such service (RFC 2782).
    Service {
        priority: u16,
        weight: u16,
        port: u16,
        target: Option<Name>,
    },
}

/// A record, `None` in place of the root.
pub(super) type Record = (Option<Name>, Data);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) code: u8,
    pub(super) truncated: bool,
    pub(super) answers: Vec<Record>,
    /// Addresses of names among the answers, perhaps.
    pub(super) additional: Vec<Record>,
}

/// The bytes of a question; with `edns` it says that answers may be longer than 512 bytes.
pub(super) fn encode(id: u16, question: &Question, edns: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    for field in [id, RECURSION_DESIRED, 1, 0, 0, u16::from(edns)] {
        bytes.extend(field.to_be_bytes());
    }
    for label in question.name.0.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label is of 63 bytes at most"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend((question.kind as u16).to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    if edns {
        bytes.push(0);
        bytes.extend(TYPE_OPT.to_be_bytes());
        bytes.extend(UDP_BYTES_MAX.to_be_bytes());
        bytes.extend([0; 6]);
    }
    bytes
}

/// What a message answers to that question; `None` if it is no answer to it.
pub(super) fn decode(bytes: &[u8], id: u16, question: &Question) -> Option<Response> {
    let mut reader = Reader { bytes, at: 0 };
    let (theirs, flags) = (reader.u16()?, reader.u16()?);
    let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
    if theirs != id || flags & (RESPONSE | OPCODE) != RESPONSE {
        return None;
    }
    let [questions, answers, authorities, additional] = counts;
    let code = u8::try_from(flags & 0xf).unwrap_or_default();
    // Who can't read the question may send back no more than the header.
    let mut response = Response { code, truncated: false, answers: vec![], additional: vec![] };
    if questions == 0 && code != 0 {
        return Some(response);
    }
    let is_ours = questions == 1
        && reader.name()? == Some(question.name.clone())
        && (reader.u16()?, reader.u16()?) == (question.kind as u16, CLASS_IN);
    if !is_ours {
        return None;
    }
    response.truncated = flags & TRUNCATED != 0;
    if response.truncated {
        return Some(response);
    }
    response.answers = reader.records(answers)?;
    reader.records(authorities)?;
    response.additional = reader.records(additional)?;
    Some(response)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(N)?)?;
        self.at += N;
        taken.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    /// The records of one section that mean something to us.
    fn records(&mut self, count: u16) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for _ in 0..count {
            if let Some(record) = self.record()?
                && records.len() < RECORDS_MAX
            {
                records.push(record);
            }
        }
        Some(records)
    }

    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let _ttl: [u8; 4] = self.take()?;
        let end = usize::from(self.u16()?) + self.at;
        if end > self.bytes.len() {
            return None;
        }
        let data = match (class, kind) {
            (CLASS_IN, 1) => Some(Data::Address(Ipv4Addr::from(self.take::<4>()?).into())),
            (CLASS_IN, 28) => Some(Data::Address(Ipv6Addr::from(self.take::<16>()?).into())),
            (CLASS_IN, 5) => self.name()?.map(Data::Alias),
            (CLASS_IN, 33) => {
                let (priority, weight, port) = (self.u16()?, self.u16()?, self.u16()?);
                Some(Data::Service { priority, weight, port, target: self.name()? })
            }
            _ => {
                self.at = end;
                None
            }
        };
        (self.at == end).then(|| data.map(|data| (name, data)))
    }

    /// A name, from here on or, through pointers, from earlier places; `None` within is the root.
    fn name(&mut self) -> Option<Option<Name>> {
        let mut text = String::new();
        let (mut at, mut before, mut after) = (self.at, self.at, None);
        loop {
            match *self.bytes.get(at)? {
                0 => break,
                length @ 1..=63 => {
                    let label = self.bytes.get(at + 1..at + 1 + usize::from(length))?;
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(std::str::from_utf8(label).ok()?);
                    if text.len() > NAME_BYTES_MAX || label.contains(&b'.') {
                        return None;
                    }
                    at += 1 + usize::from(length);
                }
                high @ 0xc0.. => {
                    let low = *self.bytes.get(at + 1)?;
                    let to = usize::from(high & 0x3f) << 8 | usize::from(low);
                    if to >= before {
                        return None;
                    }
                    after.get_or_insert(at + 2);
                    (at, before) = (to, to);
                }
                _ => return None,
            }
        }
        self.at = after.unwrap_or(at + 1);
        if text.is_empty() { Some(None) } else { Name::parse(&text).map(Some) }
    }
}

#[cfg(test)]
mod tests;
