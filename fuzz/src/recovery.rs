//! What a replica finds of itself after a restart, in an order in which nobody wrote it.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use concoord_core::call::{Call, ConnectionId, SessionId};
use concoord_core::durable::{Record, RecordKind, Recovered, Snapshot};
use concoord_core::objects::counter::Counter;
use concoord_core::replica::{Action, Config, Event, Hosting, Replica};
use concoord_core::view::{Member, ReplicaId};
use concoord_core::wire::{PeerMessage, Request};

use super::input::Input;

const TICK: Duration = Duration::from_millis(10);

/// Records out of a real log, taken in any order and with other numbers, make a replica that
/// takes turns, or an error.
pub fn run(bytes: &[u8]) {
    static WRITTEN: OnceLock<Recovered> = OnceLock::new();
    let mut input = Input::new(bytes);
    let written = WRITTEN.get_or_init(life);
    let mut snapshot = written.snapshot.clone();
    if input.below(4) == 0 {
        (snapshot.index, snapshot.term) = (input.any_number(), input.any_number());
    }
    let in_order = input.below(written.records.len() + 1);
    let mut records = written.records[..in_order].to_vec();
    while !input.is_over() {
        let mut record = written.records[input.below(written.records.len())].clone();
        match input.below(8) {
            0..=3 => {}
            4 | 5 => record.index = input.any_number(),
            6 => record.term = input.any_number(),
            _ => {
                let kind = [RecordKind::Promise, RecordKind::Restored, RecordKind::Alone];
                record.kind = kind[input.below(kind.len())];
                record.payload = Bytes::from(vec![input.byte(); input.below(20)]);
            }
        }
        records.push(record);
    }
    let recovered = Recovered { snapshot, records };
    if let Ok(mut replica) = Replica::recover(config(1, true), hosting(), recovered) {
        live(&mut replica, 0, 100, |_| {});
    }
}

pub(crate) fn hosting() -> Hosting {
    Hosting::native(Box::new(Counter::default()))
}

pub(crate) fn member(id: u64, durable: bool) -> Member {
    let address = SocketAddr::from(([127, 0, 0, 1], 14000 + u16::try_from(id).unwrap_or(0)));
    Member { durable, ..Member::new(ReplicaId(id), address) }
}

pub(crate) fn config(id: u64, durable: bool) -> Config {
    Config {
        member: member(id, durable),
        bootstrap: Vec::new(),
        runtime: String::new(),
        seed: id,
        tick: TICK,
        election_timeout: Duration::from_millis(500),
        heartbeat: Duration::from_millis(50),
        session_timeout: Duration::from_secs(10),
        dead_timeout: Duration::from_secs(3),
        snapshot_bytes: 1 << 20,
        disk_timeout: Duration::from_secs(1),
        worker_timeout: Duration::MAX,
        restore: None,
        refused_is_dead: false,
        fences: false,
        greeting: Duration::from_millis(300),
    }
}

/// Takes a turn at each of these ticks; what is asked of the disk is safe by the next one.
pub(crate) fn live(replica: &mut Replica, from: u32, to: u32, mut see: impl FnMut(&Action)) {
    let mut actions = Vec::new();
    for tick in from..to {
        replica.step(Event::Tick);
        replica.turn(TICK * tick, 1_800_000_000_000, &mut actions);
        for action in actions.drain(..) {
            see(&action);
            match action {
                Action::Persist(persist) => replica.step(Event::Persisted(persist.number)),
                Action::Save(snapshot) => replica.step(Event::Saved(snapshot.index, Ok(()))),
                _ => {}
            }
        }
    }
}

/// The log of a replica that had a session, some calls, and others that would join it.
fn life() -> Recovered {
    let mut replica = Replica::new(config(1, true), hosting());
    let mut snapshots: Vec<Snapshot> = Vec::new();
    let mut records: Vec<Record> = Vec::new();
    let mut see = |action: &Action| {
        if let Action::Persist(persist) = action {
            snapshots.extend(persist.snapshot.clone());
            records.extend(persist.records.iter().cloned());
        }
    };
    live(&mut replica, 0, 100, &mut see);
    let connection = ConnectionId(1);
    replica.step(Event::Request(connection, Request::Open));
    live(&mut replica, 100, 110, &mut see);
    for sequence in 1..=6 {
        let call = Call {
            session: SessionId(1),
            sequence,
            acked: 1,
            method: "increment".into(),
            ..Call::default()
        };
        replica.step(Event::Request(connection, Request::Call(call)));
        let tick = 100 + 10 * u32::try_from(sequence).unwrap_or(0);
        live(&mut replica, tick, tick + 10, &mut see);
    }
    for (id, durable) in [(2, true), (3, false)] {
        let newcomer = member(id, durable);
        replica.step(Event::PeerReached(newcomer.id));
        replica.step(Event::Message(newcomer.id, PeerMessage::Join(newcomer)));
        let tick = 200 + 20 * u32::try_from(id).unwrap_or(0);
        live(&mut replica, tick, tick + 20, &mut see);
    }
    let snapshot = snapshots.into_iter().next().expect("a log begins with one");
    let of = |kind| records.iter().filter(move |record| record.kind == kind).count();
    assert!(of(RecordKind::Entry) >= 6 && of(RecordKind::Change) >= 2, "{records:?}");
    Recovered { snapshot, records }
}
