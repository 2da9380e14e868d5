//! The systems that are compared, as processes of this run.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::client::Client;

/// How long a cluster may take until it answers.
const START: Duration = Duration::from_secs(30);

const COUNTER: &str = "concoord.object.counter.Counter";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Three replicas.
    ConCoord,
    /// Three members. It always writes a log: in memory that is on a memory file system.
    Etcd,
    /// One process, without replication; in memory without a log. The bar for speed alone.
    Redis,
    /// Three servers, for their lock alone. They always write a log, as etcd does.
    ZooKeeper,
}

impl System {
    pub const ALL: [Self; 3] = [Self::ConCoord, Self::Etcd, Self::Redis];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ConCoord => "ConCoord",
            Self::Etcd => "etcd",
            Self::Redis => "Redis",
            Self::ZooKeeper => "ZooKeeper",
        }
    }
}

/// Where data goes.
pub struct Place {
    pub folder: PathBuf,
    /// Whether all write what they acknowledge to the disk.
    pub durable: bool,
}

/// Where a cluster is reached: what its clients know.
#[derive(Clone)]
pub struct Endpoints {
    pub system: System,
    pub places: Vec<String>,
}

/// Processes that end with this, and their data with them.
pub struct Cluster {
    pub endpoints: Endpoints,
    processes: Vec<Child>,
    _folder: TempDir,
}

impl Cluster {
    /// Starts one, and waits until it answers a call.
    pub async fn start(system: System, program: &Path, place: &Place) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("concoord-compare-").tempdir_in(&place.folder)?;
        let (places, processes) = match system {
            System::ConCoord => concoord(program, place.durable.then_some(folder.path())).await?,
            System::Etcd => etcd(folder.path())?,
            System::Redis => redis(folder.path(), place.durable)?,
            System::ZooKeeper => zookeeper(folder.path())?,
        };
        let endpoints = Endpoints { system, places };
        timeout(START, endpoints.answer()).await.context("the cluster does not answer")?;
        Ok(Self { endpoints, processes, _folder: folder })
    }

    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().filter_map(Child::id)
    }

    /// Kills one, as a crash would.
    pub fn kill(&mut self, nth: usize) -> Result<()> {
        Ok(self.processes.get_mut(nth).context("each endpoint has a process")?.start_kill()?)
    }
}

impl Endpoints {
    /// Waits until each of them answers.
    async fn answer(&self) {
        for nth in 0..self.places.len() {
            loop {
                if let Ok(mut client) = Client::connect(self, nth).await
                    && matches!(timeout(Duration::from_secs(2), client.put()).await, Ok(Ok(())))
                {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Which of them leads.
    pub async fn leader(&self) -> Result<usize> {
        let leader = match self.system {
            System::ConCoord => {
                let options = concoord::Options::default();
                let client =
                    concoord::tokio::Client::connect(&self.places.join(","), options).await?;
                let status = client.status().await?;
                let view = status.view.context("the replica has joined")?;
                let leader = status.leader.and_then(|id| view.member(id)).context("one leads")?;
                leader.address.to_string()
            }
            System::Etcd => self.etcd_leader().await?,
            System::Redis | System::ZooKeeper => bail!("its failover is not compared"),
        };
        self.places.iter().position(|place| *place == leader).context("the leader is known")
    }

    async fn etcd_leader(&self) -> Result<String> {
        for place in &self.places {
            let mut client = etcd_client::Client::connect([place], None).await?;
            let status = client.status().await?;
            if status.header().is_some_and(|header| header.member_id() == status.leader()) {
                return Ok(place.clone());
            }
        }
        bail!("etcd has no leader")
    }
}

fn quiet(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

async fn concoord(program: &Path, folder: Option<&Path>) -> Result<(Vec<String>, Vec<Child>)> {
    let (mut endpoints, mut processes): (Vec<String>, Vec<Child>) = Default::default();
    for nth in 0..3 {
        let mut command = quiet(program);
        command.args(["replica", "-a", "127.0.0.1", "-o", COUNTER]).stdout(Stdio::piped());
        if let Some(first) = endpoints.first() {
            command.args(["-b", first]);
        }
        if let Some(folder) = folder {
            command.arg("-w").arg("--data-dir").arg(folder.join(format!("n{nth}")));
        }
        let mut process = command.spawn()?;
        let stdout = process.stdout.take().context("its output is piped")?;
        let mut line = String::new();
        timeout(START, BufReader::new(stdout).read_line(&mut line)).await??;
        let address = line.strip_prefix("REPLICA-").and_then(|rest| rest.split(' ').next());
        endpoints.push(address.with_context(|| format!("a replica said {line:?}"))?.to_owned());
        processes.push(process);
    }
    Ok((endpoints, processes))
}

/// Ports that were free a moment ago: etcd and Redis can't choose their own.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn etcd(folder: &Path) -> Result<(Vec<String>, Vec<Child>)> {
    let ports = free_ports::<6>()?;
    let (clients, peers) = ports.split_at(3);
    let url = |port: &u16| format!("http://127.0.0.1:{port}");
    let all: Vec<String> =
        peers.iter().enumerate().map(|(n, port)| format!("n{n}={}", url(port))).collect();
    let mut processes = Vec::new();
    for (n, (client, peer)) in clients.iter().zip(peers).enumerate() {
        let data: PathBuf = folder.join(format!("n{n}"));
        let mut command = quiet("etcd");
        command.arg("--data-dir").arg(data).args(["--name", &format!("n{n}")]);
        command.args(["--listen-client-urls", &url(client), "--listen-peer-urls", &url(peer)]);
        command.args(["--advertise-client-urls", &url(client)]);
        command.args(["--initial-advertise-peer-urls", &url(peer)]);
        command.args(["--initial-cluster", &all.join(","), "--logger", "zap"]);
        processes.push(command.args(["--log-level", "error"]).spawn().context("etcd")?);
    }
    Ok((clients.iter().map(|port| format!("127.0.0.1:{port}")).collect(), processes))
}

/// Where Debian's package libzookeeper-java has it; the file names all that it needs.
const ZOOKEEPER: &str = "/usr/share/java/zookeeper.jar";

fn zookeeper(folder: &Path) -> Result<(Vec<String>, Vec<Child>)> {
    let ports = free_ports::<9>()?;
    let mut servers = String::new();
    for (n, pair) in (1..).zip(ports[3..].chunks(2)) {
        servers += &format!("server.{n}=127.0.0.1:{}:{}\n", pair[0], pair[1]);
    }
    let mut processes = Vec::new();
    for (n, port) in (1..).zip(&ports[..3]) {
        let data = folder.join(format!("n{n}"));
        std::fs::create_dir(&data)?;
        std::fs::write(data.join("myid"), format!("{n}"))?;
        let configured = data.join("zoo.cfg");
        let (data, place) =
            (data.display(), format!("clientPortAddress=127.0.0.1\nclientPort={port}"));
        let times = "tickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0";
        let text = format!("{times}\nadmin.enableServer=false\ndataDir={data}\n{place}\n{servers}");
        std::fs::write(&configured, text)?;
        let mut command = quiet("java");
        command.args(["-Xmx1g", "-cp", ZOOKEEPER]);
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(configured);
        processes.push(command.spawn().context("java")?);
    }
    Ok((ports[..3].iter().map(|port| format!("127.0.0.1:{port}")).collect(), processes))
}

fn redis(folder: &Path, durable: bool) -> Result<(Vec<String>, Vec<Child>)> {
    let [port] = free_ports::<1>()?;
    let mut command = quiet("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    let log = if durable {
        ["--appendonly", "yes", "--appendfsync", "always"]
    } else {
        ["--appendonly", "no", "--appendfsync", "no"]
    };
    command.args(log).arg("--dir").arg(folder);
    Ok((vec![format!("127.0.0.1:{port}")], vec![command.spawn().context("redis-server")?]))
}
