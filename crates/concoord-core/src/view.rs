//! Who replicates: the members, and how they are known to each other.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::limits::LOST_MAX;

/// One incarnation of a replica. In memory mode a replica that restarts is another one: what it
/// had promised died with it. One that is [durable](Member::durable) goes on as itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A cluster from its bootstrap on, whoever its members become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The operating system's process behind a replica, for the proof that it is gone: only a
/// process of the same boot and pid namespace can be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The boot id of the kernel.
    pub boot: String,
    /// The inode of the pid namespace.
    pub namespace: u64,
    /// The process id in that namespace.
    pub pid: u32,
    /// When it started, in clock ticks after boot: a pid that is used again differs here.
    pub started: u64,
}

/// A replica as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its incarnation.
    pub id: ReplicaId,
    /// Where clients and peers reach it.
    pub address: SocketAddr,
    /// Its process, where the system tells: the one that joined, while it may have been started
    /// again since.
    pub process: Option<Process>,
    /// Whether it writes down what it promises, and so comes back with it under the same id.
    pub durable: bool,
    /// Whether it was started to stay a learner, until an operator promotes it.
    pub learner: bool,
    /// Whether it votes and keeps the log, but has no object and serves no calls.
    pub witness: bool,
    /// The domain that it answers DNS queries for, if it does.
    pub domain: Option<String>,
}

impl Member {
    /// A replica in memory that answers no DNS, whose process nobody can watch.
    #[must_use]
    pub const fn new(id: ReplicaId, address: SocketAddr) -> Self {
        let (durable, learner, witness) = (false, false, false);
        Self { id, address, process: None, durable, learner, witness, domain: None }
    }
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Counts in quorums.
    Voter,
    /// Receives the log, counts nowhere: it has not caught up yet, or is not to count.
    Learner,
}

/// The last time that a member went on alone, or the start of the cluster. Two views of the same
/// cluster and lineage that differ in this have nothing to do with each other any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// Drawn at random.
    pub number: u64,
    /// When, milliseconds since 1970.
    pub since_ms: u64,
    /// Why.
    pub cause: Cause,
}

/// Why a cluster consisted of one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It started.
    #[default]
    Started,
    /// The only other voter was proven to be gone.
    Proven,
    /// An operator said so.
    Forced,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Proven => "went on alone after the death of the other voter",
            Self::Forced => "went on alone by force",
        })
    }
}

/// How far a replica is in the history of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which cluster.
    pub cluster: ClusterId,
    /// See [`View::lineage`].
    pub lineage: u64,
    /// See [`Branch::number`].
    pub branch: u64,
    /// See [`View::number`].
    pub number: u64,
}

impl Standing {
    /// Whether both come from the same cluster and went on apart from each other: what is
    /// decided in one will never be in the other.
    #[must_use]
    pub fn is_twin_of(&self, other: &Self) -> bool {
        (self.cluster, self.lineage) == (other.cluster, other.lineage)
            && self.branch != other.branch
    }

    /// Whether this one is later in the same cluster.
    #[must_use]
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        self.cluster == other.cluster && (self.lineage, self.number) > (other.lineage, other.number)
    }
}

/// The membership as the log has decided it: the same on every replica that has applied as much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Which cluster.
    pub cluster: ClusterId,
    /// How often a survivor has gone on alone; see `docs/internals/members.md`.
    pub lineage: u64,
    /// Since when, and why, it is that lineage.
    pub branch: Branch,
    /// One more with each change of the members.
    pub number: u64,
    /// In order of their ids.
    pub members: Vec<(Member, Role)>,
    /// Addresses of members that are gone, the latest first. The others greet them, so that a
    /// bootstrap that is started again with its old command joins instead of starting anew.
    pub lost: Vec<SocketAddr>,
    /// Members that an operator removed, the latest first: they are not to join again by
    /// themselves.
    pub dismissed: Vec<ReplicaId>,
}

/// A change of the members, as the log carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A newcomer, as a learner.
    Add(Member),
    /// That learner has caught up and is a voter from now on.
    Promote(ReplicaId),
    /// That member is gone.
    Remove(ReplicaId),
    /// An operator wants that member gone.
    Dismiss(ReplicaId),
}

impl View {
    /// Of a cluster that consists of its first member.
    #[must_use]
    pub fn first(cluster: ClusterId, member: Member, branch: Branch) -> Self {
        Self {
            cluster,
            lineage: 0,
            branch,
            number: 1,
            members: vec![(member, Role::Voter)],
            lost: Vec::new(),
            dismissed: Vec::new(),
        }
    }

    /// Makes a change.
    pub fn apply(&mut self, change: Change) {
        self.number += 1;
        match change {
            Change::Add(member) => {
                self.lost.retain(|address| *address != member.address);
                let at = self.members.partition_point(|(known, _)| known.id < member.id);
                self.members.insert(at, (member, Role::Learner));
            }
            Change::Promote(id) => {
                for (member, role) in &mut self.members {
                    if member.id == id {
                        *role = Role::Voter;
                    }
                }
            }
            Change::Remove(id) => self.forget(|member| member.id == id),
            Change::Dismiss(id) => {
                self.forget(|member| member.id == id);
                self.dismissed.insert(0, id);
                self.dismissed.truncate(LOST_MAX);
            }
        }
    }

    /// Goes on with that member alone, which votes from now on, whatever it was: by force a learner
    /// may go on, or one that was removed.
    pub fn go_solo(&mut self, member: Member, branch: Branch) {
        self.number += 1;
        self.lineage += 1;
        self.branch = branch;
        self.dismissed.retain(|id| *id != member.id);
        self.forget(|other| other.id != member.id);
        self.lost.retain(|address| *address != member.address);
        self.members = vec![(member, Role::Voter)];
    }

    fn forget(&mut self, is_gone: impl Fn(&Member) -> bool) {
        let (gone, left) =
            std::mem::take(&mut self.members).into_iter().partition(|(member, _)| is_gone(member));
        self.members = left;
        for (member, _) in gone {
            let lives_on = self.members.iter().any(|(other, _)| other.address == member.address);
            self.lost.retain(|address| *address != member.address);
            if !lives_on {
                self.lost.insert(0, member.address);
            }
        }
        self.lost.truncate(LOST_MAX);
    }

    /// Where it stands in the history of its cluster.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        let (cluster, lineage, number) = (self.cluster, self.lineage, self.number);
        Standing { cluster, lineage, branch: self.branch.number, number }
    }

    /// The member of that id.
    #[must_use]
    pub fn member(&self, id: ReplicaId) -> Option<&Member> {
        self.members.iter().map(|(member, _)| member).find(|member| member.id == id)
    }

    /// The role of that member.
    #[must_use]
    pub fn role(&self, id: ReplicaId) -> Option<Role> {
        self.members.iter().find(|(member, _)| member.id == id).map(|(_, role)| *role)
    }

    /// The members that answer calls: those who count in quorums and have a copy of the object.
    pub fn serving(&self) -> impl Iterator<Item = &Member> {
        self.voters().filter(|member| !member.witness)
    }

    /// The members that count in quorums.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|(_, role)| *role == Role::Voter).map(|(member, _)| member)
    }
}
