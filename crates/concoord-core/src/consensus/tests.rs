use super::*;
use crate::limits::LOG_BYTES_MAX;

/// Three voters, whose messages go only where a test lets them.
struct Trio(Vec<Consensus>);

impl Trio {
    fn new() -> Self {
        let timing = Timing { election: 50, heartbeat: 5 };
        let voter = |id: u64| {
            let members = ConfState { voters: vec![1, 2, 3], ..ConfState::default() };
            let log = MemoryLog::after(GENESIS, GENESIS, members);
            Consensus::over(log, ReplicaId(id), timing, id, GENESIS, None)
        };
        let mut this = Self((1..=3).map(voter).collect());
        this.0[0].campaign();
        this.deliver_all();
        assert!(this.0[0].is_settled_leader());
        this
    }

    fn progress(&mut self, at: usize) -> (Vec<Envelope>, Vec<(u64, u64)>) {
        let (mut messages, mut reads) = (Vec::new(), Vec::new());
        while let Some(progress) = self.0[at].progress() {
            messages.extend(progress.messages);
            reads.extend(progress.reads);
        }
        (messages, reads)
    }

    fn deliver(&mut self, messages: Vec<Envelope>) {
        self.deliver_where(messages, false);
    }

    fn deliver_where(&mut self, messages: Vec<Envelope>, is_log_full: bool) {
        for message in messages {
            let to = usize::try_from(message.to().0 - 1).unwrap();
            self.0[to].receive(message, is_log_full);
        }
    }

    fn deliver_all(&mut self) {
        loop {
            let messages: Vec<Envelope> =
                (0..self.0.len()).flat_map(|at| self.progress(at).0).collect();
            if messages.is_empty() {
                return;
            }
            self.deliver(messages);
        }
    }
}

/// A leader that was paused finds an old answer to a follower's question in its socket: it
/// proves nothing for a question of its own.
#[test]
fn an_answer_to_one_replicas_read_confirms_no_read_of_another() {
    let mut trio = Trio::new();
    trio.0[1].read();
    let (question, _) = trio.progress(1);
    trio.deliver(question);
    let (heartbeats, _) = trio.progress(0);
    trio.deliver(heartbeats);
    let (early, _) = trio.progress(1);
    let (late, _) = trio.progress(2);
    trio.deliver(early);
    trio.progress(0);
    // From here on nobody answers the leader any more; another one may lead.
    trio.0[0].read();
    trio.progress(0);
    trio.deliver(late);
    assert_eq!(trio.progress(0).1, []);
}

/// Neither the question nor its answer brings more of the log, though both have an entry.
#[test]
fn reads_go_on_where_nobody_has_room_for_more_of_the_log() {
    let mut trio = Trio::new();
    trio.0[1].read();
    for from in [1, 0, 1, 0] {
        let (messages, _) = trio.progress(from);
        trio.deliver_where(messages, true);
    }
    assert_eq!(trio.progress(1).1.len(), 1);
}

/// What a peer sends is no reason to die, even where the library thinks so.
#[test]
fn a_message_that_no_replica_sends_is_dropped() {
    let mut read = Message::default();
    read.set_msg_type(MessageType::MsgReadIndex);
    let mut heartbeat = Message::default();
    heartbeat.set_msg_type(MessageType::MsgHeartbeat);
    heartbeat.commit = 1_000_000;
    let mut append = Message::default();
    append.set_msg_type(MessageType::MsgAppend);
    append.index = GENESIS;
    append.log_term = GENESIS;
    append.set_entries(vec![Entry { term: 9, index: 1 << 40, ..Entry::default() }].into());
    let mut rewrite = append.clone();
    rewrite.set_entries(vec![Entry { term: 9, index: GENESIS + 1, ..Entry::default() }].into());
    let mut answer = Message::default();
    answer.set_msg_type(MessageType::MsgAppendResponse);
    answer.index = 1_000_000;
    for message in [read, heartbeat, append, rewrite, answer] {
        for at in 0..2 {
            for term in [0, 2, 100] {
                let mut trio = Trio::new();
                let mut message = message.clone();
                (message.from, message.to, message.term) = (3, at as u64 + 1, term);
                if matches!(message.get_msg_type(), MessageType::MsgReadIndex) {
                    message.term = 0;
                }
                trio.0[at].receive(Envelope::pack(message), false);
                trio.deliver_all();
            }
        }
    }
}

/// The leader is dead; the fourth has applied its removal, the others have not heard of it yet
/// and would vote for it.
#[test]
fn one_that_is_removed_does_not_stand_for_election() {
    let timing = Timing { election: 50, heartbeat: 5 };
    let node = |id: u64, voters: &[u64]| {
        let members = ConfState { voters: voters.to_vec(), ..ConfState::default() };
        let log = MemoryLog::after(GENESIS, GENESIS, members);
        Consensus::over(log, ReplicaId(id), timing, id, GENESIS, None)
    };
    let mut all = [node(2, &[1, 2, 3, 4]), node(3, &[1, 2, 3, 4]), node(4, &[1, 2, 3])];
    all[2].leader_lost(0);
    for _ in 0..20 {
        let mut messages = Vec::new();
        for node in &mut all {
            while let Some(progress) = node.progress() {
                messages.extend(progress.messages);
            }
        }
        for message in messages {
            if let Some(to) = all.iter_mut().find(|node| node.id() == message.to()) {
                to.receive(message, false);
            }
        }
    }
    assert!(!all[2].is_leader());
}

/// A snapshot may have to stand at each entry that is being carried out.
#[test]
fn what_is_decided_is_in_the_log_until_it_is_carried_out() {
    let mut trio = Trio::new();
    let entries = 2 * LOG_BYTES_MAX / ENTRY_BYTES_MAX;
    for _ in 0..entries {
        assert!(trio.0[0].propose(vec![0; ENTRY_BYTES_MAX]));
    }
    let (appends, _) = trio.progress(0);
    trio.deliver(appends);
    for from in [1, 2] {
        let (answers, _) = trio.progress(from);
        trio.deliver(answers);
    }
    let mut decided = 0;
    while let Some(progress) = trio.0[0].progress() {
        for entry in progress.decided {
            let Decided::Entry { index, term, .. } = entry else { panic!("it is an entry") };
            assert_eq!(trio.0[0].term_at(index), term);
            decided += 1;
        }
    }
    assert_eq!(decided, entries);
    assert!(trio.0[0].start() > GENESIS + 1, "and it is cut off then");
}
