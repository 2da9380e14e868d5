//! What must hold at every moment, and what has happened so far.

use std::collections::BTreeMap;

use concoord_core::call::Outcome;
use concoord_core::replica::{Action, Replica};
use concoord_core::view::{ClusterId, ReplicaId, View};
use concoord_core::wire::Answer;

use super::World;

/// Entries between two looks at the digests: each costs as much as the object is large.
const DIGEST_EVERY: u64 = 5;

/// How often each thing happened.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

#[derive(Default)]
pub(super) struct Checks {
    counts: Counts,
    leaders: BTreeMap<(ClusterId, u64), ReplicaId>,
    last_leader: Option<ReplicaId>,
    digests: BTreeMap<(ClusterId, u64), (u64, usize)>,
    nodes: BTreeMap<(usize, u64), Before>,
}

/// How a life of a node was at the last look.
#[derive(Default)]
struct Before {
    led: Option<u64>,
    term: u64,
    applied: u64,
    /// The view, and the one before.
    views: (Option<View>, Option<View>),
}

impl World {
    /// That happened once more.
    pub(super) fn seen(&mut self, what: &'static str) {
        *self.checks.counts.entry(what).or_default() += 1;
        if self.has_parked() {
            match what {
                "failover" => self.seen("failover while one waits"),
                "snapshot received" => self.seen("snapshot received while one waits"),
                _ => {}
            }
        }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.checks.counts
    }

    /// Looks at what a replica wants done.
    pub(super) fn check_action(&mut self, node: usize, action: &Action) {
        match action {
            Action::Answer(_, Answer::Reply { outcome: Outcome::Returned(_), .. }) => {
                self.check_safe(node);
            }
            Action::Answer(_, Answer::Expired(_)) => self.seen("session expired"),
            Action::Restart(..) => self.seen("started as another"),
            Action::Stop(Ok(_)) => self.seen("left"),
            Action::Note(_, text) if text.contains("going on as the only") => {
                self.seen("went on alone");
            }
            Action::Note(_, text) if text.contains("the leadership goes to") => {
                self.seen("leadership handed over");
                if text.starts_with("the disk") {
                    self.seen("handed over for a slow disk");
                }
            }
            Action::View(view) => self.view_seen(node, view),
            _ => {}
        }
    }

    fn view_seen(&mut self, node: usize, view: &View) {
        let life = self.nodes[node].life;
        let views = &mut self.checks.nodes.entry((node, life)).or_default().views;
        views.1 = views.0.replace(view.clone());
        let Some(before) = views.1.clone() else { return };
        if before.members.len() > view.members.len() {
            self.seen("removed");
            let gone = before.members.iter().find(|(member, _)| view.member(member.id).is_none());
            let there = gone.and_then(|(gone, _)| {
                self.nodes.iter().find(|node| node.id == gone.id && node.replica.is_some())
            });
            if there.is_some_and(|there| !self.leaving.contains(&there.id)) {
                self.seen("removed for silence");
            }
        } else if before.members.len() < view.members.len() {
            self.seen("joined");
        } else if before.voters().count() < view.voters().count() {
            self.seen("promoted");
        }
    }

    /// After each turn of a node.
    pub(super) fn check_node(&mut self, node: usize) {
        let (id, life) = (self.nodes[node].id, self.nodes[node].life);
        let Some(replica) = self.nodes[node].replica.as_ref() else { return };
        let (term, applied) = (replica.term(), replica.applied());
        let led = replica.leads().then_some(term);
        let before = self.checks.nodes.entry((node, life)).or_default();
        assert!(before.term <= term, "node {node}: term {} became {term}", before.term);
        let elected = led.filter(|_| before.led != led);
        let due = applied / DIGEST_EVERY > before.applied / DIGEST_EVERY;
        (before.led, before.term, before.applied) = (led, term, applied);
        if elected.is_none() && !due || self.twins {
            return;
        }
        let status = replica.status();
        let Some(view) = status.view else { return };
        if let Some(term) = elected {
            let other = *self.checks.leaders.entry((view.cluster, term)).or_insert(id);
            assert_eq!(other, id, "two leaders in term {term}\n{}", self.stuck());
            self.seen(if status.replica.witness { "witness led" } else { "elected" });
            if self.checks.last_leader.replace(id).is_some_and(|before| before != id) {
                self.seen("failover");
            }
        }
        // Where a worker has yet to run calls, it may have run others already.
        if due && status.applied == applied && status.digest != 0 {
            let (digest, other) = *self
                .checks
                .digests
                .entry((view.cluster, applied))
                .or_insert((status.digest, node));
            assert!(
                digest == status.digest,
                "nodes {node} and {other} differ after entry {applied}\n{}",
                self.stuck()
            );
        }
    }

    /// What a durable leader has applied is on the disks of a majority.
    fn check_safe(&mut self, node: usize) {
        let there = &self.nodes[node];
        if !self.durable
            || self.disk_was_lost
            || !there.replica.as_ref().is_some_and(Replica::leads)
        {
            return;
        }
        let applied = there.replica.as_ref().map_or(0, Replica::applied);
        let Some(before) = self.checks.nodes.get(&(node, there.life)) else { return };
        let has = |id: ReplicaId| self.nodes.iter().any(|node| node.disk.holds(id, applied));
        let is_safe = |view: &View| {
            let voters = view.voters().count();
            2 * view.voters().filter(|voter| has(voter.id)).count() > voters
        };
        let (now, earlier) = &before.views;
        let safe = now.iter().chain(earlier).any(is_safe) || now.is_none();
        let last = || self.nodes.iter().map(|node| node.disk.last()).collect::<Vec<_>>();
        assert!(safe, "node {node} answers at {applied}, on disk is {:?}", last());
        self.seen("answered when it was safe");
    }
}
