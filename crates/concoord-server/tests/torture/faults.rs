//! What happens to a cluster while clients call it.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::cluster::{Cluster, Replica, until};
use crate::disk::{self, Disk, Syncs};
use crate::load::burden;
use crate::network::{CLIENTS, Trouble};
use crate::random::Random;

/// How long a fault lasts: some are over before anybody notices, some until members are removed.
/// In a short run none lasts longer than that.
const HOLD_MS: (u64, u64) = (200, 5000);

/// One thing that goes wrong, again and again, at moments and places that the seed says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Kill,
    KillLeader,
    KillBeside,
    Witness,
    Stop,
    Pause,
    PauseLeader,
    Isolate,
    IsolateLeader,
    Halves,
    OneWay,
    Loss,
    Delay,
    Clock,
    Members,
    KillAll,
    FullDisk,
    DiskError,
    SlowDisk,
    PowerLoss,
}

impl Fault {
    pub(crate) const ALL: [Self; 21] = [
        Self::None,
        Self::Kill,
        Self::KillLeader,
        Self::KillBeside,
        Self::Witness,
        Self::Stop,
        Self::Pause,
        Self::PauseLeader,
        Self::Isolate,
        Self::IsolateLeader,
        Self::Halves,
        Self::OneWay,
        Self::Loss,
        Self::Delay,
        Self::Clock,
        Self::Members,
        Self::KillAll,
        Self::FullDisk,
        Self::DiskError,
        Self::SlowDisk,
        Self::PowerLoss,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Kill => "kill",
            Self::KillLeader => "kill-leader",
            Self::KillBeside => "kill-beside",
            Self::Witness => "witness",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::PauseLeader => "pause-leader",
            Self::Isolate => "isolate",
            Self::IsolateLeader => "isolate-leader",
            Self::Halves => "halves",
            Self::OneWay => "one-way",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Clock => "clock",
            Self::Members => "members",
            Self::KillAll => "kill-all",
            Self::FullDisk => "full-disk",
            Self::DiskError => "disk-error",
            Self::SlowDisk => "slow-disk",
            Self::PowerLoss => "power-loss",
        }
    }

    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::None => "nothing happens",
            Self::Kill => "kill -9 a follower, start it again",
            Self::KillLeader => "kill -9 the leader, start it again",
            Self::KillBeside => "kill -9 any of replicas on one host, whose death is proven",
            Self::Witness => "kill -9 any of two replicas and a witness, start it again",
            Self::Stop => "SIGTERM each in turn and start it again, as for an upgrade",
            Self::Pause => "SIGSTOP a follower, SIGCONT",
            Self::PauseLeader => "SIGSTOP the leader, SIGCONT",
            Self::Isolate => "cut a follower off, from clients too now and then",
            Self::IsolateLeader => "cut the leader off from its peers; clients reach it still",
            Self::Halves => "cut two of five off from the other three, the leader on either side",
            Self::OneWay => "cut one direction between the leader and its peers",
            Self::Loss => "lose 10 to 30 % of all frames",
            Self::Delay => "delay frames by up to 100 ms, each by another time",
            Self::Clock => "set a replica's clock by an hour or a second, either way",
            Self::Members => "a fourth joins, another leaves and comes back, the fourth leaves",
            Self::KillAll => "kill -9 all at once, start them in any order",
            Self::FullDisk => "fill a replica's disk, make room again",
            Self::DiskError => "a replica's syncs fail with EIO",
            Self::SlowDisk => "a replica's syncs take up to a second longer",
            Self::PowerLoss => "cut the power of all disks at once; the journal is played again",
        }
    }

    /// The disk for a run in which replicas write to one or not.
    pub(crate) const fn disk(self, durable: bool) -> Disk {
        match self {
            Self::FullDisk => Disk::Small,
            Self::PowerLoss => Disk::Own,
            Self::DiskError | Self::KillAll | Self::SlowDisk => Disk::Folder,
            _ if durable => Disk::Folder,
            _ => Disk::None,
        }
    }

    /// How many replicas it takes.
    pub(crate) const fn replicas(self) -> u8 {
        if matches!(self, Self::Halves) { 5 } else { 3 }
    }

    /// Makes it happen once, and sees that it is over.
    pub(crate) fn strike(self, cluster: &mut Cluster, random: &mut Random, longest: Duration) {
        let hold = between(random, HOLD_MS).min(longest);
        match self {
            Self::None => sleep(hold),
            Self::Kill => kill(cluster, follower(cluster, random), hold),
            Self::KillLeader => kill(cluster, cluster.leader(), hold),
            Self::KillBeside | Self::Witness => {
                kill(cluster, *random.choose(&cluster.hosts()), hold);
            }
            Self::Stop => stop_each(cluster, random),
            Self::Pause => pause(cluster, follower(cluster, random), hold),
            Self::PauseLeader => pause(cluster, cluster.leader(), hold),
            Self::Isolate | Self::IsolateLeader | Self::Halves | Self::OneWay => {
                let trouble = self.cut(cluster, random);
                suffer(cluster, &trouble, hold);
            }
            Self::Loss => {
                let loss = 10 + random.below(21);
                suffer(cluster, &Trouble { loss, ..Trouble::default() }, hold);
            }
            Self::Delay => {
                let shortest = random.below(20);
                let delay_ms = Some((shortest, shortest + random.below(80)));
                suffer(cluster, &Trouble { delay_ms, ..Trouble::default() }, hold);
            }
            Self::Clock => jump(cluster, random, hold),
            Self::Members => change_members(cluster, random),
            Self::KillAll => kill_all(cluster, random),
            Self::FullDisk => fill(cluster, *random.choose(&cluster.hosts()), hold),
            Self::DiskError => fail_syncs(cluster, *random.choose(&cluster.hosts())),
            Self::SlowDisk => slow_syncs(cluster, random, hold),
            Self::PowerLoss => cut_power(cluster, random),
        }
    }

    fn cut(self, cluster: &Cluster, random: &mut Random) -> Trouble {
        let leader = cluster.leader();
        let others = cluster.others(&[leader]);
        match self {
            Self::IsolateLeader => Trouble::between(&[leader], &others),
            Self::Halves => {
                let first = *random.choose(&cluster.hosts());
                let half = [first, *random.choose(&cluster.others(&[first]))];
                Trouble::between(&half, &cluster.others(&half))
            }
            Self::OneWay => {
                let to_leader = random.below(2) == 0;
                let pair = |other: &u8| if to_leader { (*other, leader) } else { (leader, *other) };
                Trouble { cut: others.iter().map(pair).collect(), ..Trouble::default() }
            }
            _ => {
                let host = *random.choose(&others);
                let mut from = cluster.others(&[host]);
                if random.below(2) == 0 {
                    from.push(CLIENTS);
                }
                Trouble::between(&[host], &from)
            }
        }
    }
}

/// A pause of a length between these.
pub(crate) fn between(random: &mut Random, (shortest, longest): (u64, u64)) -> Duration {
    Duration::from_millis(shortest + random.below(longest - shortest))
}

fn follower(cluster: &Cluster, random: &mut Random) -> u8 {
    *random.choose(&cluster.others(&[cluster.leader()]))
}

fn shuffled(mut hosts: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for end in (1..hosts.len()).rev() {
        let other = random.below(end as u64 + 1);
        hosts.swap(end, usize::try_from(other).expect("it is an index"));
    }
    hosts
}

fn kill(cluster: &mut Cluster, host: u8, hold: Duration) {
    let replica = cluster.replica(host);
    replica.kill();
    sleep(hold);
    replica.restart();
    replica.serves();
}

fn stop_each(cluster: &mut Cluster, random: &mut Random) {
    for host in shuffled(cluster.hosts(), random) {
        let replica = cluster.replica(host);
        stop(replica);
        replica.restart();
        replica.serves();
    }
}

fn stop(replica: &mut Replica) {
    replica.signal(Signal::TERM);
    let status = replica.ends();
    assert!(status.success(), "told to stop, replica {} ended with {status}", replica.host);
}

fn pause(cluster: &mut Cluster, host: u8, hold: Duration) {
    let replica = cluster.replica(host);
    replica.signal(Signal::STOP);
    sleep(hold);
    replica.signal(Signal::CONT);
}

fn suffer(cluster: &mut Cluster, trouble: &Trouble, hold: Duration) {
    cluster.network.suffer(trouble);
    sleep(hold);
    cluster.network.heal();
}

fn jump(cluster: &mut Cluster, random: &mut Random, hold: Duration) {
    let host = *random.choose(&cluster.hosts());
    let jump = *random.choose(&["+3600", "-3600", "+1", "-1"]);
    let set = |to| fs::write(cluster.setup.clock_file(host), to).expect("the folder is there");
    set(jump);
    sleep(hold);
    set("+0");
}

fn change_members(cluster: &mut Cluster, random: &mut Random) {
    cluster.add().serves();
    let old = *random.choose(&cluster.hosts());
    let replica = cluster.replica(old);
    stop(replica);
    replica.restart();
    replica.serves();
    stop(cluster.replicas.last_mut().expect("it joined"));
    cluster.replicas.pop();
}

fn kill_all(cluster: &mut Cluster, random: &mut Random) {
    for host in shuffled(cluster.hosts(), random) {
        cluster.replica(host).kill();
    }
    restart_all(cluster, random);
}

fn restart_all(cluster: &mut Cluster, random: &mut Random) {
    let hosts = shuffled(cluster.hosts(), random);
    for host in &hosts {
        cluster.replica(*host).restart();
        sleep(between(random, (0, 300)));
    }
    for host in hosts {
        cluster.replica(host).serves();
    }
}

/// The replica must say that it has no room, and the others go on; with room again it does too, or
/// after a restart.
fn fill(cluster: &mut Cluster, host: u8, hold: Duration) {
    let folder = cluster.setup.data(host);
    // It may say so while its disk is being filled.
    let before = cluster.replica(host).log().len();
    disk::fill(&folder);
    burden(cluster.setup.kind, &cluster.bootstrap());
    let replica = cluster.replica(host);
    says(replica, before, "until there is room");
    sleep(hold);
    let full = replica.log().len();
    disk::free(&folder);
    says(replica, full, "there is room again");
    restart_if_ended(replica);
}

/// Waits until its log has the words after what it had before, or it has ended.
fn says(replica: &mut Replica, before: usize, words: &str) {
    until(&format!("it says {words:?}"), || {
        replica.has_ended() || replica.log().get(before..).is_some_and(|log| log.contains(words))
    });
}

fn restart_if_ended(replica: &mut Replica) {
    if replica.has_ended() {
        replica.restart();
        replica.serves();
    }
}

/// What a failed sync has kept nobody knows: the replica must end, and may come back.
fn fail_syncs(cluster: &mut Cluster, host: u8) {
    let log = cluster.setup.folder.join(format!("strace{host}.log"));
    let replica = cluster.replica(host);
    let syncs = Syncs::suffer(replica.pid().as_raw_nonzero().get(), "error=EIO", &log);
    let status = replica.ends();
    assert!(!status.success(), "a replica whose sync failed ends with {status}");
    drop(syncs);
    replica.restart();
    replica.serves();
}

fn slow_syncs(cluster: &mut Cluster, random: &mut Random, hold: Duration) {
    let host = *random.choose(&cluster.hosts());
    let log = cluster.setup.folder.join(format!("strace{host}.log"));
    let by = format!("delay_enter={}ms", 50 + random.below(950));
    let replica = cluster.replica(host);
    let syncs = Syncs::suffer(replica.pid().as_raw_nonzero().get(), &by, &log);
    sleep(hold);
    drop(syncs);
    restart_if_ended(replica);
}

fn cut_power(cluster: &mut Cluster, random: &mut Random) {
    let hosts = shuffled(cluster.hosts(), random);
    for host in &hosts {
        disk::cut_power(&cluster.setup.python, &cluster.setup.data(*host));
    }
    for host in &hosts {
        cluster.replica(*host).kill();
        disk::restore_power(&cluster.setup.data(*host));
    }
    restart_all(cluster, random);
}
