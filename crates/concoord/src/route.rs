//! Which replica to connect to next.
//!
//! All known addresses are tried in turn, in rounds; between two rounds there is a pause. Names
//! are looked up beside that, once an address has failed: what is known is never kept waiting by
//! a name server. A replica that names another one as leader is left for it, but found again at
//! once if the leader can't be reached from here: any replica forwards calls.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use concoord_core::limits::MEMBERS_MAX;

use crate::bootstrap::Bootstrap;
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

/// In how many rounds a replica that is about to be ready is tried again so quickly: one that has
/// no room for us says the same.
const SOON_ROUNDS: u32 = 40;

/// Between two look-ups while no call is answered: a second is the shortest time that records are
/// made for.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);

/// How often in a row one replica may send us to another: two that each take the other for the
/// leader must not keep us moving.
const MOVES_MAX: u32 = 3;

/// What the shell is to do for a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Dial {
    /// Begin to look the bootstrap's names up, and say of each what came of it with
    /// `Session::looked_up`. Ask again at once: nothing waits for it.
    LookUp,
    /// Connect, within that time.
    Connect { address: SocketAddr, within: Duration },
    /// Ask again then.
    At(Duration),
    /// Nothing, until something else happens.
    Nothing,
}

#[derive(Debug, Default)]
pub(crate) struct Route {
    bootstrap: Bootstrap,
    /// What each of its names stood for at the last look-up that knew.
    found: Vec<Vec<SocketAddr>>,
    /// The names whose look-up is under way.
    looking: BTreeSet<usize>,
    /// No look-up before this.
    look_up_at: Duration,
    /// Whether all names have been looked up since a replica last served.
    is_looked_up: bool,
    /// Where the last welcome said that replicas are: they outlive the bootstrap.
    members: Vec<SocketAddr>,
    /// What is left of this round.
    untried: VecDeque<SocketAddr>,
    /// Whether this round has gone through all that is known.
    filled: bool,
    /// Whether an address has failed since a replica last served.
    has_failed: bool,
    rounds: u32,
    /// No attempt before this.
    pause_until: Duration,
    /// Whether a replica of this round is about to be ready.
    soon: bool,
    /// Moves since a call was answered.
    moves: u32,
    /// Replicas in a row that took a connection and ended it without an answer.
    turned_away: u32,
    /// Whether to keep to the bootstrap, whoever leads.
    stays: bool,
    /// The leader that we are on the way to.
    moving_to: Option<SocketAddr>,
    /// The leader that could not be reached: whoever names it is stayed with until there is news.
    shunned: Option<SocketAddr>,
    /// Replicas that did not answer, the one that has been silent for longest first: whoever names
    /// one as leader is stayed with for now.
    silent: Vec<SocketAddr>,
    attempts: Attempts,
}

impl Route {
    pub(crate) fn new(bootstrap: Bootstrap) -> Self {
        let found = bootstrap.names().map(|_| Vec::new()).collect();
        Self { bootstrap, found, ..Self::default() }
    }

    pub(crate) const fn stay(&mut self) {
        self.stays = true;
    }

    pub(crate) fn next(&mut self, now: Duration) -> Dial {
        if now < self.pause_until {
            return Dial::At(self.pause_until);
        }
        if !self.filled && self.untried.is_empty() {
            self.filled = true;
            self.add_known();
        }
        let lacks = self.has_failed || self.untried.is_empty();
        if lacks && !self.found.is_empty() && self.looking.is_empty() && now >= self.look_up_at {
            return self.look_up(now);
        }
        if let Some(address) = self.untried.pop_front() {
            let within = if self.rounds == 0 { ATTEMPT } else { ATTEMPT_AGAIN };
            return Dial::Connect { address, within };
        }
        if self.known().is_empty() {
            self.filled = false;
            return Dial::At(self.look_up_at.max(now + PAUSE));
        }
        self.end_round(now);
        Dial::At(self.pause_until)
    }

    fn look_up(&mut self, now: Duration) -> Dial {
        self.look_up_at = now + LOOK_UP_AGAIN;
        for (nth, name) in self.bootstrap.names() {
            self.looking.insert(nth);
            if !self.attempts.has(&name) {
                self.attempts.note(name, self.bootstrap.awaited());
            }
        }
        Dial::LookUp
    }

    /// The bootstrap's `nth` name stands for these addresses now, or can't be looked up, and why.
    pub(crate) fn looked_up(&mut self, nth: usize, found: Result<Vec<SocketAddr>, String>) {
        self.looking.remove(&nth);
        self.is_looked_up |= self.looking.is_empty();
        let Some((_, name)) = self.bootstrap.names().nth(nth) else { return };
        match (found, self.found.get_mut(nth)) {
            (Ok(found), Some(before)) => {
                self.attempts.forget(&name);
                // What was known has had its turn in this round, or will have.
                let new = found.iter().filter(|address| !before.contains(address)).copied();
                let new: Vec<_> = new.collect();
                *before = found;
                if !new.is_empty() {
                    self.pause_until = Duration::ZERO;
                }
                for address in new.into_iter().rev().filter(|_| self.filled) {
                    self.untried.retain(|untried| *untried != address);
                    self.untried.push_front(address);
                }
            }
            (Err(why), _) => self.attempts.note(name, why),
            (Ok(_), None) => {}
        }
    }

    fn known(&self) -> Vec<SocketAddr> {
        let bootstrap = self.bootstrap.in_order(&self.found);
        self.members.iter().copied().chain(bootstrap).collect()
    }

    fn add_known(&mut self) {
        for address in self.known() {
            self.add(address);
        }
    }

    /// An attempt at that address failed.
    pub(crate) fn failed(&mut self, address: SocketAddr, why: String) {
        self.has_failed = true;
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
        members: Vec<SocketAddr>,
    ) -> bool {
        self.told_members(members);
        let is_shunned = |leader: &_| self.shunned == Some(*leader) || self.silent.contains(leader);
        let leader = leader.filter(|leader| *leader != address && !is_shunned(leader));
        let moves = leader.is_some_and(|leader| self.move_to(leader, address));
        if !moves {
            self.start_round();
            self.moving_to = None;
            self.has_failed = false;
            self.is_looked_up = false;
        }
        moves
    }

    /// A replica says that these serve.
    pub(crate) fn told_members(&mut self, mut members: Vec<SocketAddr>) {
        if !self.stays {
            members.truncate(MEMBERS_MAX);
            self.members = members;
        }
    }

    /// The replica at `address` says that another one has become leader; returns whether to
    /// leave it for that one.
    pub(crate) fn told_leader(&mut self, leader: SocketAddr, address: SocketAddr) -> bool {
        leader != address && self.move_to(leader, address)
    }

    /// Time has passed since `leader` did not answer, and the replica at `address` still follows
    /// it: whether to leave that one for it. If it can't be reached then, that is for good.
    pub(crate) fn returns_to(&mut self, leader: SocketAddr, address: SocketAddr) -> bool {
        self.silent.contains(&leader) && self.told_leader(leader, address)
    }

    /// The connection to `address`, which had served, broke: the others first, then it again.
    pub(crate) fn lost(&mut self, address: SocketAddr, why: String) {
        self.turned_away = 0;
        self.silent.clear();
        self.leave(address, why);
    }

    /// The connection to `address` broke before anything was answered: the others first, then it
    /// again, but not at once for ever.
    pub(crate) fn turned_away(&mut self, now: Duration, address: SocketAddr, why: String) {
        self.silent.clear();
        self.leave(address, why);
        if self.turned_away > 0 {
            self.pause_until = now + PAUSE * (1 << self.turned_away.min(DOUBLINGS_MAX));
        }
        self.turned_away = self.turned_away.saturating_add(1);
    }

    /// The replica at `address`, which had served and calls itself `replica`, does not answer any
    /// more: the others first. Some may still take it for the leader.
    pub(crate) fn silent(&mut self, address: SocketAddr, replica: SocketAddr, why: String) {
        self.silent.retain(|silent| ![address, replica].contains(silent));
        self.silent.extend([address, replica]);
        self.leave(address, why);
    }

    fn leave(&mut self, address: SocketAddr, why: String) {
        self.start_round();
        self.shunned = None;
        self.attempts = Attempts::default();
        self.failed(address, why);
        self.filled = true;
        self.add_known();
        self.add(address);
        // One that is silent takes a connection, and then a second until it is left. Of those, the
        // one that has been so for longest: else two followers could be asked in turn, for ever,
        // for what the leader alone can answer.
        let silent = |other: &SocketAddr| self.silent.iter().position(|silent| silent == other);
        let last = |other: &SocketAddr| (silent(other), *other == address);
        self.untried.make_contiguous().sort_by_key(last);
    }

    /// Connect to `address` anew, at once.
    pub(crate) fn again(&mut self, address: SocketAddr) {
        self.start_round();
        self.add(address);
    }

    /// A call was answered: the replica is a good one. If it is lost, names are looked up at once.
    pub(crate) const fn settled(&mut self) {
        self.moves = 0;
        self.look_up_at = Duration::ZERO;
    }

    /// Whether this round has tried all there is.
    pub(crate) fn is_round_over(&self) -> bool {
        self.untried.is_empty() && (self.is_looked_up || self.found.is_empty())
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
        self.silent.retain(|silent| *silent != leader);
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
        self.filled = false;
        self.soon = false;
        self.rounds = 0;
        self.pause_until = Duration::ZERO;
    }

    fn end_round(&mut self, now: Duration) {
        let soon = self.soon && self.rounds < SOON_ROUNDS;
        let doublings = if soon { 0 } else { self.rounds.min(DOUBLINGS_MAX) };
        self.pause_until = now + PAUSE * (1 << doublings);
        self.rounds = self.rounds.saturating_add(1);
        self.filled = false;
        self.soon = false;
        self.silent.clear();
    }
}
