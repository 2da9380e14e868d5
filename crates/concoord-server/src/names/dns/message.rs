//! DNS messages (RFC 1035, EDNS by RFC 6891): queries are read, answers written. Pure.
//!
//! A query is a header, one question and at most an OPT record that matters: whatever is of no such
//! shape is nothing that we have an answer for.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::zone::{Data, Record};

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 12;

/// Bytes of a name as the wire has it (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 255;

/// Bytes of our OPT record, which holds no options.
const OPT_BYTES: usize = 11;

/// Offsets that a compression pointer reaches.
const POINTER_MAX: usize = 0x3FFF;

/// Types that we ask for.
pub(super) const A: u16 = 1;
pub(super) const AAAA: u16 = 28;
pub(super) const NS: u16 = 2;
pub(super) const SOA: u16 = 6;

/// Types that are no data: the OPT record, and what asks for several types.
pub(super) const OPT: u16 = 41;
pub(super) const IXFR: u16 = 251;
pub(super) const AXFR: u16 = 252;
pub(super) const ANY: u16 = 255;

/// The class of everything.
pub(super) const IN: u16 = 1;

/// How a query ended (RFC 1035, section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    BadForm = 1,
    Failed = 2,
    NoName = 3,
    NotDone = 4,
    Refused = 5,
    /// An EDNS version that we don't speak.
    BadVersion = 16,
}

/// A query.
#[derive(Debug)]
pub(super) struct Query<'a> {
    id: [u8; 2],
    /// Whether it asks us to ask others, which is told back.
    recursion: bool,
    opcode: u8,
    /// `None` unless there is exactly one.
    pub(super) question: Option<Question<'a>>,
    /// `None` without EDNS.
    pub(super) edns: Option<Edns>,
}

/// What is asked.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// As it came, to be sent back with its case.
    raw: &'a [u8],
    /// In lower case, without a dot at its end. What no name of ours has is written as `?`.
    pub(super) name: String,
    pub(super) kind: u16,
    pub(super) class: u16,
}

/// What an OPT record says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edns {
    /// Bytes of a datagram that the other side takes.
    pub(super) size: u16,
    pub(super) version: u8,
    /// Whether it wants signatures, which is told back: there are none.
    signatures: bool,
}

impl<'a> Query<'a> {
    /// Reads a packet. `None` if it is no query: whoever sent it hears nothing.
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { packet, at: 0 };
        let id = reader.array::<2>()?;
        let [high, _] = reader.array::<2>()?;
        if high & 0x80 != 0 {
            // An answer. Two servers that answered each other's would never end.
            return None;
        }
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let (opcode, recursion) = ((high >> 3) & 0x0F, high & 1 != 0);
        let mut query = Self { id, recursion, opcode, question: None, edns: None };
        let [1, 0, 0, additional] = counts else { return Some(query) };
        if opcode != 0 {
            return Some(query);
        }
        let name = reader.name()?;
        let (kind, class) = (reader.u16()?, reader.u16()?);
        let raw = packet.get(HEADER_BYTES..reader.at)?;
        query.question = Some(Question { raw, name, kind, class });
        for _ in 0..additional {
            if let Some(edns) = reader.edns()?
                && query.edns.replace(edns).is_some()
            {
                // Two OPT records.
                query.question = None;
            }
        }
        (reader.at == packet.len()).then_some(query)
    }

    /// How a query ends that has no question we could look up.
    pub(super) fn objection(&self) -> Option<Code> {
        match self {
            Self { opcode: 1.., .. } => Some(Code::NotDone),
            Self { question: None, .. } => Some(Code::BadForm),
            Self { edns: Some(Edns { version: 1.., .. }), .. } => Some(Code::BadVersion),
            Self { question: Some(_), .. } => None,
        }
    }
}

struct Reader<'a> {
    packet: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.packet.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A name that is written out, as that of a question is: there is nothing before it that it
    /// could point to.
    fn name(&mut self) -> Option<String> {
        let (mut name, start) = (String::new(), self.at);
        loop {
            let length = usize::from(self.u8()?);
            if length == 0 {
                return Some(name);
            }
            if length > 63 {
                return None;
            }
            if !name.is_empty() {
                name.push('.');
            }
            for byte in self.bytes(length)? {
                let ours = byte.is_ascii_alphanumeric() || b"-_".contains(byte);
                name.push(if ours { char::from(byte.to_ascii_lowercase()) } else { '?' });
            }
            // With the byte of its end.
            if self.at - start >= NAME_BYTES_MAX {
                return None;
            }
        }
    }

    /// The next record, if that is OPT.
    #[expect(clippy::option_option, reason = "no record, another record, that record")]
    fn edns(&mut self) -> Option<Option<Edns>> {
        let is_root = self.packet.get(self.at) == Some(&0);
        self.skip_name()?;
        let (kind, size) = (self.u16()?, self.u16()?);
        let [_, version, flags, _] = self.array()?;
        let length = self.u16()?;
        self.bytes(usize::from(length))?;
        let edns = Edns { size, version, signatures: flags & 0x80 != 0 };
        Some((kind == OPT && is_root).then_some(edns))
    }

    fn skip_name(&mut self) -> Option<()> {
        loop {
            match self.u8()? {
                0 => return Some(()),
                length @ 1..=63 => self.bytes(usize::from(length)).map(drop)?,
                192.. => return self.u8().map(drop),
                64..=191 => return None,
            }
        }
    }

    /// A name that may point to what was before.
    fn full_name(&mut self) -> Option<String> {
        let start = self.at;
        self.skip_name()?;
        let (end, mut name, mut at) = (self.at, String::new(), start);
        loop {
            self.at = at;
            match self.u8()? {
                0 => break,
                length @ 1..=63 => {
                    for byte in self.bytes(usize::from(length))? {
                        name.push(char::from(byte.to_ascii_lowercase()));
                    }
                    name.push('.');
                    at = self.at;
                }
                high @ 192.. => {
                    let to = usize::from(u16::from_be_bytes([high & 0x3F, self.u8()?]));
                    // Chains of pointers go back, and what goes round grows too long.
                    if to >= at {
                        return None;
                    }
                    at = to;
                }
                64..=191 => return None,
            }
            if name.len() > NAME_BYTES_MAX {
                return None;
            }
        }
        self.at = end;
        name.pop();
        Some(name)
    }

    /// A record; `None` in it where we have no such type.
    #[expect(clippy::option_option, reason = "no record, another record, a record of ours")]
    fn record(&mut self) -> Option<Option<Record>> {
        let name = self.full_name()?;
        let (kind, class, ttl) = (self.u16()?, self.u16()?, self.u32()?);
        let length = usize::from(self.u16()?);
        let end = self.at.checked_add(length).filter(|end| *end <= self.packet.len())?;
        let data = match kind {
            _ if class != IN => None,
            1 => Some(Data::A(Ipv4Addr::from(self.array::<4>()?))),
            2 => Some(Data::Ns(self.full_name()?)),
            6 => Some(Data::Soa {
                primary: self.full_name()?,
                contact: self.full_name()?,
                serial: self.u32()?,
                times: [self.u32()?, self.u32()?, self.u32()?, self.u32()?],
            }),
            28 => Some(Data::Aaaa(Ipv6Addr::from(self.array::<16>()?))),
            _ => None,
        };
        self.at = end;
        Some(data.map(|data| Record { name, ttl, data }))
    }
}

/// An answer on its way.
pub(super) struct Writer {
    bytes: Vec<u8>,
    limit: usize,
    edns: Option<Edns>,
    code: Code,
    question: bool,
    /// Where names have been written before, to be pointed to.
    names: Vec<(String, u16)>,
    /// Records of the three sections.
    counts: [u16; 3],
}

/// Where a record stands in an answer.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

impl Writer {
    /// An answer to that query, of at most so many bytes.
    pub(super) fn new(query: &Query<'_>, code: Code, limit: usize) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend(query.id);
        bytes.push(0x80 | (query.opcode << 3) | u8::from(query.recursion));
        bytes.extend([0; 9]);
        let mut names = Vec::new();
        if let Some(question) = &query.question {
            bytes.extend(question.raw);
            let (mut at, mut name) = (HEADER_BYTES, question.name.as_str());
            while !name.is_empty() {
                // The name of a question is short and at the front.
                names.push((name.to_owned(), u16::try_from(at).unwrap_or_default()));
                let (label, rest) = name.split_once('.').unwrap_or((name, ""));
                (at, name) = (at + label.len() + 1, rest);
            }
        }
        let edns = query.edns;
        let limit = limit.saturating_sub(edns.map_or(0, |_| OPT_BYTES));
        let question = query.question.is_some();
        Self { bytes, limit, edns, code, question, names, counts: [0; 3] }
    }

    /// Says that the answer comes from whom it is to come from.
    pub(super) fn authoritative(mut self) -> Self {
        self.flag(0x04);
        self
    }

    /// Says that there is more than fits.
    pub(super) fn truncated(mut self) -> Self {
        self.flag(0x02);
        self
    }

    fn flag(&mut self, bit: u8) {
        if let Some(flags) = self.bytes.get_mut(2) {
            *flags |= bit;
        }
    }

    /// Adds a record if it fits; says whether it did.
    pub(super) fn add(&mut self, section: Section, record: &Record) -> bool {
        let (bytes, names) = (self.bytes.len(), self.names.len());
        self.name(&record.name, true);
        self.bytes.extend(record.data.kind().to_be_bytes());
        self.bytes.extend(IN.to_be_bytes());
        self.bytes.extend(record.ttl.to_be_bytes());
        let length_at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.data(&record.data);
        let length = self.bytes.len() - length_at - 2;
        let fits = self.bytes.len() <= self.limit;
        match (u16::try_from(length), self.bytes.get_mut(length_at..length_at + 2)) {
            (Ok(length), Some(place)) if fits => place.copy_from_slice(&length.to_be_bytes()),
            _ => {
                self.bytes.truncate(bytes);
                self.names.truncate(names);
                return false;
            }
        }
        if let Some(count) = self.counts.get_mut(section as usize) {
            *count += 1;
        }
        true
    }

    fn data(&mut self, data: &Data) {
        match data {
            Data::A(ip) => self.bytes.extend(ip.octets()),
            Data::Aaaa(ip) => self.bytes.extend(ip.octets()),
            Data::Ns(target) => self.name(target, true),
            Data::Soa { primary, contact, serial, times } => {
                self.name(primary, true);
                self.name(contact, true);
                for number in [serial].into_iter().chain(times) {
                    self.bytes.extend(number.to_be_bytes());
                }
            }
            Data::Srv { priority, weight, port, target } => {
                for number in [priority, weight, port] {
                    self.bytes.extend(number.to_be_bytes());
                }
                // Not to be compressed (RFC 2782).
                self.name(target, false);
            }
            Data::Txt(strings) => {
                for string in strings {
                    // A zone's strings are short enough.
                    self.bytes.push(u8::try_from(string.len()).unwrap_or(u8::MAX));
                    self.bytes.extend(string.bytes().take(usize::from(u8::MAX)));
                }
            }
        }
    }

    /// A name, or as much of it as has not been written before and a pointer to the rest.
    fn name(&mut self, name: &str, compressed: bool) {
        let mut rest = name;
        while !rest.is_empty() {
            let known = self.names.iter().find(|(known, _)| known == rest).map(|(_, at)| *at);
            if let Some(at) = known.filter(|_| compressed) {
                self.bytes.extend((0xC000 | at).to_be_bytes());
                return;
            }
            if let Ok(at) = u16::try_from(self.bytes.len())
                && known.is_none()
                && usize::from(at) <= POINTER_MAX
            {
                self.names.push((rest.to_owned(), at));
            }
            let (label, after) = rest.split_once('.').unwrap_or((rest, ""));
            // Labels of our names are short enough.
            self.bytes.push(u8::try_from(label.len()).unwrap_or_default());
            self.bytes.extend(label.bytes());
            rest = after;
        }
        self.bytes.push(0);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let code = self.code as u16;
        let [answers, authorities, mut additional] = self.counts;
        if let Some(Edns { signatures, .. }) = self.edns {
            let extended = u8::try_from(code >> 4).unwrap_or_default();
            self.bytes.push(0);
            self.bytes.extend(OPT.to_be_bytes());
            self.bytes.extend(super::DATAGRAM_BYTES_MAX.to_be_bytes());
            self.bytes.extend([extended, 0, u8::from(signatures) << 7, 0, 0, 0]);
            additional += 1;
        }
        let counts = [u16::from(self.question), answers, authorities, additional];
        let low = u8::try_from(code & 0x0F).unwrap_or_default();
        let header = [0, low].into_iter().chain(counts.into_iter().flat_map(u16::to_be_bytes));
        for (byte, value) in self.bytes.iter_mut().skip(2).zip(header) {
            *byte |= value;
        }
        self.bytes
    }
}

/// What another server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// How the query ended (RFC 1035, section 4.1.1).
    pub(crate) code: u8,
    /// Whether that server answers for the domain itself.
    pub(crate) authoritative: bool,
    /// Whether there is more than fitted.
    pub(crate) truncated: bool,
    /// Answer, authority and additional records, as far as we know their types.
    pub(crate) sections: [Vec<Record>; 3],
}

impl Reply {
    /// Reads the answer to the query of that id. `None` if it is none.
    pub(crate) fn read(packet: &[u8], id: [u8; 2]) -> Option<Self> {
        let mut reader = Reader { packet, at: 0 };
        let [high, low] = (reader.array::<2>()? == id).then(|| reader.array::<2>())??;
        if high & 0x80 == 0 {
            return None;
        }
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?];
        let [questions, counts @ ..] = counts;
        for _ in 0..questions {
            reader.skip_name()?;
            reader.bytes(4)?;
        }
        let mut sections = [const { Vec::new() }; 3];
        for (section, count) in sections.iter_mut().zip(counts) {
            for _ in 0..count {
                section.extend(reader.record()?);
            }
        }
        let (authoritative, truncated) = (high & 0x04 != 0, high & 0x02 != 0);
        Some(Self { code: low & 0x0F, authoritative, truncated, sections })
    }

    /// Whether that server has nothing to say of such names.
    pub(crate) const fn is_refused(&self) -> bool {
        self.code == Code::Refused as u8
    }

    /// Itself, where that server says yes or no.
    ///
    /// # Errors
    /// What it says instead.
    pub(crate) fn known(self) -> Result<Self, String> {
        match self.code {
            code if code == Code::Ok as u8 || code == Code::NoName as u8 => Ok(self),
            code if code == Code::Failed as u8 => Err("it answers SERVFAIL".into()),
            _ if self.is_refused() => Err("it answers REFUSED".into()),
            code => Err(format!("it answers with error {code}")),
        }
    }
}

/// A query for that name, which is one, and type; `recursive` asks the server to ask others.
pub(crate) fn query(id: [u8; 2], name: &str, kind: u16, recursive: bool) -> Vec<u8> {
    let mut bytes = id.to_vec();
    bytes.extend([u8::from(recursive), 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(IN.to_be_bytes());
    bytes.push(0);
    bytes.extend(OPT.to_be_bytes());
    bytes.extend(super::DATAGRAM_BYTES_MAX.to_be_bytes());
    bytes.extend([0; 6]);
    bytes
}
