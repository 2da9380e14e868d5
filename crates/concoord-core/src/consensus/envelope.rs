//! The library's messages in our own encoding, and back.

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, Message, MessageType,
};
use serde::{Deserialize, Serialize};

use crate::durable::{Record, RecordKind, Snapshot};
use crate::view::{Change, ReplicaId};

/// A message of the consensus library, in our own encoding: its protobuf parser never sees the
/// network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    kind: u8,
    to: u64,
    from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    entries: Vec<WireEntry>,
    commit: u64,
    commit_term: u64,
    snapshot: Option<Box<WireSnapshot>>,
    request_snapshot: u64,
    reject: bool,
    reject_hint: u64,
    context: Bytes,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WireEntry {
    term: u64,
    index: u64,
    payload: Payload,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Payload {
    Normal(Bytes),
    Change(Change),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WireSnapshot {
    index: u64,
    term: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    state: Bytes,
    object: Option<Bytes>,
}

/// The kinds of message that travel, by their number on the wire.
const KINDS: [MessageType; 13] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

impl Envelope {
    /// Who it is for.
    #[must_use]
    pub const fn to(&self) -> ReplicaId {
        ReplicaId(self.to)
    }

    /// Who sent it.
    #[must_use]
    pub const fn from(&self) -> ReplicaId {
        ReplicaId(self.from)
    }

    /// Whether it says that its sender follows or leads, rather than asks for votes.
    pub(super) fn is_vote_request(&self) -> bool {
        matches!(
            KINDS.get(usize::from(self.kind)),
            Some(MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
        )
    }

    /// Whether its sender asks from which index on reads may be answered.
    pub(crate) fn asks_to_read(&self) -> bool {
        KINDS.get(usize::from(self.kind)) == Some(&MessageType::MsgReadIndex)
    }

    /// Whether it brings a snapshot.
    #[must_use]
    pub const fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Whether its sender promises something by it: a vote, or that it has an entry. Such a
    /// message is sent once that is safe on its disk.
    pub(super) fn promises(&self) -> bool {
        matches!(
            KINDS.get(usize::from(self.kind)),
            Some(
                MessageType::MsgAppendResponse
                    | MessageType::MsgRequestVote
                    | MessageType::MsgRequestVoteResponse
            )
        )
    }

    /// Takes the state of a snapshot out, to be sent on a connection of its own; `None` for all
    /// other messages. [`Envelope::put_snapshot`] puts it back at the other end.
    pub fn take_snapshot(&mut self) -> Option<Snapshot> {
        self.snapshot.as_mut().map(|snapshot| Snapshot {
            index: snapshot.index,
            term: snapshot.term,
            state: std::mem::take(&mut snapshot.state),
            object: snapshot.object.take(),
        })
    }

    /// Puts the state of a snapshot back in.
    pub fn put_snapshot(&mut self, state: Bytes, object: Option<Bytes>) {
        if let Some(snapshot) = self.snapshot.as_mut() {
            (snapshot.state, snapshot.object) = (state, object);
        }
    }

    pub(super) fn pack(mut message: Message) -> Self {
        let kind = message.get_msg_type();
        let kind = KINDS
            .iter()
            .position(|known| *known == kind)
            .and_then(|position| u8::try_from(position).ok());
        let snapshot =
            message.has_snapshot().then(|| Box::new(WireSnapshot::pack(message.take_snapshot())));
        Self {
            kind: kind.expect("only messages that travel are sent"),
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.take_entries().into_iter().map(WireEntry::pack).collect(),
            commit: message.commit,
            commit_term: message.commit_term,
            snapshot,
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.take_context(),
        }
    }

    /// The library's message; `None` for a kind that does not travel.
    pub(super) fn unpack(self) -> Option<Message> {
        let mut message = Message::default();
        message.set_msg_type(*KINDS.get(usize::from(self.kind))?);
        message.to = self.to;
        message.from = self.from;
        message.term = self.term;
        message.log_term = self.log_term;
        message.index = self.index;
        message.set_entries(self.entries.into_iter().map(WireEntry::unpack).collect());
        message.commit = self.commit;
        message.commit_term = self.commit_term;
        if let Some(snapshot) = self.snapshot {
            message.set_snapshot(snapshot.unpack());
        }
        message.request_snapshot = self.request_snapshot;
        message.reject = self.reject;
        message.reject_hint = self.reject_hint;
        message.context = self.context;
        Some(message)
    }
}

impl WireEntry {
    fn pack(mut entry: Entry) -> Self {
        let payload = match change_of(&entry) {
            Some(change) => Payload::Change(change),
            None => Payload::Normal(entry.take_data()),
        };
        Self { term: entry.term, index: entry.index, payload }
    }

    fn unpack(self) -> Entry {
        let mut entry = match self.payload {
            Payload::Normal(data) => Entry { data, ..Entry::default() },
            Payload::Change(change) => change_entry(&change),
        };
        entry.term = self.term;
        entry.index = self.index;
        entry
    }
}

impl WireSnapshot {
    /// Without its state: the library has none.
    fn pack(snapshot: raft::eraftpb::Snapshot) -> Self {
        let metadata = snapshot.get_metadata();
        let members = metadata.get_conf_state();
        Self {
            index: metadata.index,
            term: metadata.term,
            voters: members.get_voters().to_vec(),
            learners: members.get_learners().to_vec(),
            state: Bytes::new(),
            object: None,
        }
    }

    fn unpack(self) -> raft::eraftpb::Snapshot {
        let mut snapshot = raft::eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.index;
        metadata.term = self.term;
        metadata.mut_conf_state().voters = self.voters;
        metadata.mut_conf_state().learners = self.learners;
        snapshot
    }
}

/// The entry that changes the members: for us in `context`, for the library in `data`.
pub(super) fn change_entry(change: &Change) -> Entry {
    let (kind, id) = match change {
        Change::Add(member) => (ConfChangeType::AddLearnerNode, member.id),
        Change::Promote(id) => (ConfChangeType::AddNode, *id),
        Change::Remove(id) | Change::Dismiss(id) => (ConfChangeType::RemoveNode, *id),
    };
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = id.0;
    let mut both = ConfChangeV2::default();
    both.set_changes(vec![single].into());
    let mut entry = Entry::default();
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry.data = both.write_to_bytes().expect("memory takes all bytes").into();
    entry.context = postcard::to_stdvec(change).expect("memory takes all bytes").into();
    entry
}

/// The change that an entry made by [`change_entry`] carries; `None` for any other entry.
pub(super) fn change_of(entry: &Entry) -> Option<Change> {
    if entry.get_entry_type() != EntryType::EntryConfChangeV2 {
        return None;
    }
    Some(
        postcard::from_bytes(&entry.context)
            .expect("a change is written by change_entry on every replica"),
    )
}

/// The entry as it is written down.
pub(super) fn record_of(entry: &Entry) -> Record {
    let (kind, payload) = if entry.get_entry_type() == EntryType::EntryConfChangeV2 {
        (RecordKind::Change, entry.context.clone())
    } else {
        (RecordKind::Entry, entry.data.clone())
    };
    Record { kind, index: entry.index, term: entry.term, payload }
}

/// The entry that was written down as that record.
///
/// # Errors
/// If it is none.
pub(super) fn entry_of(record: Record) -> Result<Entry, String> {
    let mut entry = if record.kind == RecordKind::Change {
        let change = postcard::from_bytes(&record.payload)
            .map_err(|error| format!("entry {} can't be read: {error}", record.index))?;
        change_entry(&change)
    } else {
        Entry { data: record.payload, ..Entry::default() }
    };
    (entry.index, entry.term) = (record.index, record.term);
    Ok(entry)
}

/// What the library is told of that entry.
pub(super) fn conf_change(entry: &Entry) -> ConfChangeV2 {
    ConfChangeV2::parse_from_bytes(&entry.data)
        .expect("a change is written by change_entry on every replica")
}
