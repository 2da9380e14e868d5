//! What is answered to a packet. Pure.

use super::super::zone::{Found, Record, Zone};
use super::DATAGRAM_BYTES_MAX;
use super::message::{ANY, AXFR, Code, IN, IXFR, Query, Section, Writer};

/// Bytes of a datagram that everybody takes (RFC 1035, section 4.2.1).
const PLAIN_BYTES_MAX: usize = 512;

/// How many times as long as its question an answer may be that goes to an address that may be
/// forged, and says nothing of what it takes: else we would be of use to those who flood others.
const FACTOR_MAX: usize = 6;

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// The answer to a packet, or `None` if it deserves none. Without a zone nobody can be named yet.
pub(super) fn answer(zone: Option<&Zone>, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let query = Query::read(packet)?;
    let limit = match (transport, query.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, Some(edns)) => {
            usize::from(edns.size.min(DATAGRAM_BYTES_MAX)).max(PLAIN_BYTES_MAX)
        }
        (Transport::Udp, None) => PLAIN_BYTES_MAX.min(FACTOR_MAX * packet.len()),
    };
    let end = |code| Some(Writer::new(&query, code, limit).finish());
    if let Some(code) = query.objection() {
        return end(code);
    }
    let question = query.question.as_ref()?;
    if question.class != IN || [AXFR, IXFR].contains(&question.kind) {
        return end(Code::Refused);
    }
    let Some(zone) = zone else { return end(Code::Failed) };
    // All types at once are what floods are made of: one of them is an answer, too (RFC 8482).
    let found = match zone.all_of(&question.name).first() {
        Some(first) if question.kind == ANY => zone.find(&question.name, first.data.kind()),
        _ => zone.find(&question.name, question.kind),
    };
    let (code, answers) = match found {
        Found::Outside => return end(Code::Refused),
        Found::Records(records) => (Code::Ok, records),
        Found::NoData => (Code::Ok, &[][..]),
        Found::NoName => (Code::NoName, &[][..]),
    };
    Some(write(zone, Writer::new(&query, code, limit).authoritative(), answers))
}

fn write(zone: &Zone, mut writer: Writer, answers: &[Record]) -> Vec<u8> {
    let fits = answers.iter().all(|record| writer.add(Section::Answer, record));
    if answers.is_empty() {
        zone.soa().iter().for_each(|record| {
            writer.add(Section::Authority, record);
        });
    }
    if !fits {
        return writer.truncated().finish();
    }
    // What does not fit of these can be asked for.
    let additional = zone.addresses_for(answers);
    let more = additional.into_iter().all(|record| writer.add(Section::Additional, record));
    tracing::trace!(more, "answered");
    writer.finish()
}

/// The shortest answer that has a resolver ask again, by TCP. `None` as for [`answer`].
pub(super) fn truncated(packet: &[u8]) -> Option<Vec<u8>> {
    let query = Query::read(packet)?;
    let code = query.objection().unwrap_or(Code::Ok);
    Some(Writer::new(&query, code, PLAIN_BYTES_MAX).truncated().finish())
}

#[cfg(test)]
mod tests;
