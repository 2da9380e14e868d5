//! Which replica to connect to next.
//!
//! All known addresses are tried in turn, in rounds; between two rounds there is a pause. A
//! replica that names another one as leader is left for it, but found again at once if the
//! leader can't be reached from here: any replica forwards calls.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use concoord_core::limits::MEMBERS_MAX;

use crate::error::Attempts;

/// How long one attempt may take in the first round, to connect and again to be welcomed: an
/// address that swallows packets must not hold up the others.
const ATTEMPT: Duration = Duration::from_secs(1);

/// The same in all further rounds, for slow networks.
const ATTEMPT_AGAIN: Duration = Duration::from_secs(2);

/// Between two rounds at first; doubled with each round, except while a replica says that it is
/// about to be ready.
const PAUSE: Duration = Duration::from_millis(50);

/// How often [`PAUSE`] is doubled at most.
const DOUBLINGS_MAX: u32 = 3;

/// How often in a row one replica may send us to another: two that each take the other for the
/// leader must not keep us moving.
const MOVES_MAX: u32 = 3;

/// What the shell is to do for a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Dial {
    /// Look the bootstrap's hosts up and say so with `Session::resolved`.
    Resolve,
    /// Connect, within that time.
    Connect { address: SocketAddr, within: Duration },
    /// Ask again then.
    At(Duration),
    /// Nothing, until something else happens.
    Nothing,
}

#[derive(Debug, Default)]
pub(crate) struct Route {
    /// What the bootstrap's hosts stand for.
    bootstrap: Vec<SocketAddr>,
    /// Where the last welcome said that replicas are: they outlive the bootstrap.
    members: Vec<SocketAddr>,
    /// What is left of this round.
    untried: VecDeque<SocketAddr>,
    /// Whether this round has looked up the bootstrap.
    resolved: bool,
    rounds: u32,
    /// No attempt before this.
    pause_until: Duration,
    /// Whether a replica of this round is about to be ready.
    soon: bool,
    /// Moves since a call was answered.
    moves: u32,
    /// Whether to keep to the bootstrap, whoever leads.
    stays: bool,
    /// The leader that we are on the way to.
    moving_to: Option<SocketAddr>,
    /// The leader that could not be reached: we stay where we are until there is news.
    shunned: Option<SocketAddr>,
    attempts: Attempts,
}

impl Route {
    pub(crate) const fn stay(&mut self) {
        self.stays = true;
    }

    pub(crate) fn next(&mut self, now: Duration) -> Dial {
        if now < self.pause_until {
            return Dial::At(self.pause_until);
        }
        match self.untried.pop_front() {
            Some(address) => {
                let within = if self.rounds == 0 { ATTEMPT } else { ATTEMPT_AGAIN };
                Dial::Connect { address, within }
            }
            None if self.resolved => {
                self.end_round(now);
                Dial::At(self.pause_until)
            }
            None => Dial::Resolve,
        }
    }

    /// The bootstrap stands for these addresses now. `failed` are those that it could not find.
    pub(crate) fn resolved(&mut self, found: Vec<SocketAddr>, failed: Attempts) {
        self.resolved = true;
        for (host, why) in failed.0 {
            self.attempts.note(host, why);
        }
        if !found.is_empty() {
            self.bootstrap = found;
        }
        let known: Vec<_> = self.members.iter().chain(&self.bootstrap).copied().collect();
        for address in known {
            self.add(address);
        }
    }

    /// An attempt at that address failed.
    pub(crate) fn failed(&mut self, address: SocketAddr, why: String) {
        if self.moving_to == Some(address) {
            self.shunned = self.moving_to.take();
        }
        self.attempts.note(address.to_string(), why);
    }

    /// The replica at that address can't serve yet.
    pub(crate) fn not_yet(&mut self, address: SocketAddr, why: String) {
        self.soon = true;
        self.failed(address, why);
    }

    /// The replica at `address` serves and names a leader and members; returns whether to leave
    /// it for that leader.
    pub(crate) fn welcomed(
        &mut self,
        address: SocketAddr,
        leader: Option<SocketAddr>,
        mut members: Vec<SocketAddr>,
    ) -> bool {
        if !self.stays {
            members.truncate(MEMBERS_MAX);
            self.members = members;
        }
        let leader = leader.filter(|leader| *leader != address && self.shunned != Some(*leader));
        let moves = leader.is_some_and(|leader| self.move_to(leader, address));
        if !moves {
            self.start_round();
            self.moving_to = None;
        }
        moves
    }

    /// The replica at `address` says that another one has become leader; returns whether to
    /// leave it for that one.
    pub(crate) fn told_leader(&mut self, leader: SocketAddr, address: SocketAddr) -> bool {
        leader != address && self.move_to(leader, address)
    }

    /// The connection to `address`, which had served, broke: the others first, then it again.
    pub(crate) fn lost(&mut self, address: SocketAddr, why: String) {
        self.start_round();
        self.shunned = None;
        self.attempts = Attempts::default();
        self.failed(address, why);
        let known: Vec<_> = self.members.iter().chain(&self.bootstrap).copied().collect();
        for other in known.into_iter().filter(|other| *other != address) {
            self.add(other);
        }
        self.add(address);
    }

    /// Connect to `address` anew, at once.
    pub(crate) fn again(&mut self, address: SocketAddr) {
        self.start_round();
        self.add(address);
    }

    /// A call was answered: the replica is a good one.
    pub(crate) const fn settled(&mut self) {
        self.moves = 0;
    }

    /// Whether this round has tried all there is.
    pub(crate) fn is_round_over(&self) -> bool {
        self.resolved && self.untried.is_empty()
    }

    pub(crate) const fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    fn move_to(&mut self, leader: SocketAddr, from: SocketAddr) -> bool {
        if self.stays || self.moves == MOVES_MAX {
            return false;
        }
        self.moves += 1;
        self.moving_to = Some(leader);
        self.shunned = None;
        self.untried.retain(|address| *address != leader && *address != from);
        self.untried.push_front(from);
        self.untried.push_front(leader);
        true
    }

    fn add(&mut self, address: SocketAddr) {
        if !self.untried.contains(&address) {
            self.untried.push_back(address);
        }
    }

    fn start_round(&mut self) {
        self.untried.clear();
        self.resolved = false;
        self.soon = false;
        self.rounds = 0;
        self.pause_until = Duration::ZERO;
    }

    fn end_round(&mut self, now: Duration) {
        let doublings = if self.soon { 0 } else { self.rounds.min(DOUBLINGS_MAX) };
        self.pause_until = now + PAUSE * (1 << doublings);
        self.rounds = self.rounds.saturating_add(1);
        self.resolved = false;
        self.soon = false;
    }
}
