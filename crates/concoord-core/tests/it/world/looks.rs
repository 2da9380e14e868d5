//! What can be seen of a world, and what it can spare.

use std::net::SocketAddr;

use concoord_core::replica::Replica;
use concoord_core::view::{ReplicaId, Role, View};
use concoord_core::wire::Answer;

use super::{Node, World};

impl World {
    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].replica.is_some()
    }

    pub(crate) fn is_paused(&self, node: usize) -> bool {
        self.nodes[node].paused_until > self.now
    }

    /// Whether everybody who is up hears everybody.
    pub(crate) fn is_calm(&self) -> bool {
        self.cut.is_empty() && self.up().iter().all(|node| !self.is_paused(*node))
    }

    pub(crate) fn has_served(&self, node: usize) -> bool {
        self.nodes[node].served
    }

    pub(crate) fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.is_up(*node)).collect()
    }

    /// What was answered on that connection so far.
    pub(crate) fn said(&self, connection: u64) -> impl Iterator<Item = &Answer> {
        self.said.iter().filter(move |(to, _)| *to == connection).map(|(_, answer)| answer)
    }

    pub(crate) fn id(&self, node: usize) -> ReplicaId {
        self.nodes[node].id
    }

    /// Why the replica there stopped, if it did.
    pub(crate) fn stopped(&self, node: usize) -> Option<&Result<String, String>> {
        self.nodes[node].stopped.as_ref()
    }

    /// The view of the replica there.
    pub(crate) fn view_of(&self, node: usize) -> Option<View> {
        self.nodes[node].replica.as_ref()?.status().view
    }

    /// The role of `of` as `node` has applied it.
    pub(crate) fn role(&self, node: usize, of: usize) -> Option<Role> {
        let view = self.nodes[node].replica.as_ref()?.status().view?;
        view.role(self.nodes[of].id)
    }

    pub(crate) fn leads(&self, node: usize) -> bool {
        let there = &self.nodes[node];
        there.replica.as_ref().is_some_and(|replica| replica.status().leader == Some(there.id))
    }

    pub(crate) fn lineage(&self, node: usize) -> u64 {
        self.view_of(node).map_or(0, |view| view.lineage)
    }

    /// Why the replica there is not ready, if it is not.
    pub(crate) fn reason(&self, node: usize) -> String {
        self.nodes[node].replica.as_ref().unwrap().status().reason
    }

    /// Where the log on that node's disk begins, and where it ends.
    pub(crate) fn log_on_disk(&self, node: usize) -> (u64, u64) {
        (self.nodes[node].disk.first(), self.nodes[node].disk.last())
    }

    pub(crate) fn sessions(&self, node: usize) -> u64 {
        self.nodes[node].replica.as_ref().unwrap().status().sessions
    }

    pub(crate) fn calls(&self, node: usize) -> u64 {
        self.nodes[node].replica.as_ref().unwrap().status().calls
    }

    /// How the latest view among the living has it, and whether all of them agree on it.
    pub(crate) fn view(&self) -> Option<(View, bool)> {
        let views: Vec<View> =
            self.nodes.iter().filter_map(|node| node.replica.as_ref()?.status().view).collect();
        let latest = views.iter().max_by_key(|view| (view.lineage, view.number))?.clone();
        let agreed = views.iter().all(|view| *view == latest);
        Some((latest, agreed))
    }

    /// Whether the cluster can lose this replica now without losing what it has acknowledged.
    pub(crate) fn can_spare(&self, node: usize) -> bool {
        let Some((view, agreed)) = self.view() else { return false };
        let id = self.nodes[node].id;
        let awake = |id: ReplicaId| {
            let there = self.nodes.iter().position(|node| node.id == id && node.replica.is_some());
            there.is_some_and(|at| !self.is_paused(at)) && !self.leaving.contains(&id)
        };
        if view.role(id) != Some(Role::Voter) {
            return true;
        }
        // The removal of who is silent may be on the log of the leader alone, and is decided by
        // two of three when it is back: nobody else may have died then.
        if self.careful && !self.cut.is_empty() {
            return false;
        }
        let voters = view.voters().count();
        let left = view.voters().filter(|voter| voter.id != id && awake(voter.id)).count();
        // A witness goes on with nothing.
        if !view.serving().any(|member| member.id != id && awake(member.id)) {
            return false;
        }
        // Changes of the members that are under way are on the log of the leader alone, maybe.
        let quiet = agreed
            && view.members.len() == voters
            && self
                .nodes
                .iter()
                .all(|node| node.replica.is_none() || view.member(node.id).is_some());
        quiet && (2 * left > voters || voters == 2 && left == 1 && self.same_host)
    }

    /// Whether the cluster can lose what this node, which is down, has on disk: all others are
    /// well, of one mind and enough without it. A learner counts as the voter that the leader may
    /// be making of it at this moment: one voter can't go on without a second that it has just
    /// promoted, and could not prove that this one has decided nothing.
    pub(crate) fn can_spare_disk(&self, node: usize) -> bool {
        let Some((view, agreed)) = self.view() else { return false };
        let well = |id: ReplicaId| {
            let there = self.nodes.iter().position(|node| node.id == id && node.replica.is_some());
            there.is_some_and(|at| !self.is_paused(at)) && !self.leaving.contains(&id)
        };
        let id = self.nodes[node].id;
        let mut others = view.members.iter().filter(|(member, _)| member.id != id);
        let left = view.voters().filter(|voter| voter.id != id).count();
        let voters = left + usize::from(view.member(id).is_some());
        agreed
            // Witnesses have nothing to go on with.
            && view.serving().any(|member| member.id != id)
            && !self.is_up(node)
            && self.is_calm()
            && others.all(|(member, role)| *role == Role::Voter && well(member.id))
            && 2 * left > voters
    }

    /// Whether every member, as the latest view has it, is there or can be started again.
    pub(crate) fn is_whole(&self) -> bool {
        let Some((view, _)) = self.view() else { return false };
        let is_there = |id| {
            let node = self.nodes.iter().find(|node| node.id == id);
            node.is_some_and(|node| node.replica.is_some() || node.disk.is_of(id))
        };
        view.members.iter().all(|(member, _)| is_there(member.id))
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn stuck(&self) -> String {
        let mut text = format!("same host: {}\n", self.same_host);
        for (at, node) in self.nodes.iter().enumerate() {
            let status = node.replica.as_ref().map(Replica::status);
            text += &format!("node {at} {} stopped {:?}: {status:#?}\n", node.id, node.stopped);
        }
        text
    }

    /// How far each member has applied, and its digest there.
    pub(crate) fn digests(&self) -> Vec<(u64, u64, usize)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| {
                let status = node.replica.as_ref()?.status();
                status.view.as_ref()?.role(status.replica.id)?;
                if status.replica.witness {
                    return None;
                }
                Some((status.applied, status.digest, at))
            })
            .collect()
    }

    /// Whether everybody has applied as much, and every worker has done so too.
    pub(crate) fn is_level(&self) -> bool {
        let digests = self.digests();
        let most = digests.iter().map(|(applied, ..)| *applied).max();
        digests.iter().all(|(applied, digest, _)| Some(*applied) == most && *digest != 0)
            && self.up().into_iter().all(|node| self.is_idle(node))
    }

    /// The list at the replica that has applied the most.
    pub(crate) fn list(&self) -> Vec<i64> {
        let applied = |node: &&Node| {
            let status = node.replica.as_ref().map(Replica::status)?;
            (!status.replica.witness).then_some(status.applied)
        };
        self.nodes.iter().max_by_key(applied).unwrap().list.lock().unwrap().clone()
    }
}
