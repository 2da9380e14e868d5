//! Many clients that want one lock: how often it changes hands, and what that costs the servers.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use concoord::{Arguments, Manner, ObjectName, Value};
use etcd_client::LockOptions;
use serde_json::json;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;
use zookeeper_client::{Acls, LockPrefix};

use crate::client::Client;
use crate::cluster::{Cluster, Endpoints, Place, System};
use crate::measure::cpu;

const SYSTEMS: [System; 3] = [System::ConCoord, System::Etcd, System::ZooKeeper];
const CLIENTS: [usize; 3] = [64, 256, 1000];

/// More than these clients one of the others need not serve: it is slow enough with them.
const OTHERS_MOST: usize = 256;

const RUN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);

/// Longer than any run, so that nobody's lease needs to be kept alive.
const LEASE_SECONDS: i64 = 600;

/// Prints a row a system and number of clients.
pub fn compare(
    runtime: &tokio::runtime::Runtime,
    program: &Path,
    place: &Place,
) -> Result<serde_json::Value> {
    let mut rows = Vec::new();
    println!(
        "{:12}{:>8}{:>14}{:>22}{:>12}",
        "", "clients", "hand-overs/s", "CPU ms a hand-over", "entries"
    );
    for clients in CLIENTS {
        for system in SYSTEMS {
            if system != System::ConCoord && clients > OTHERS_MOST {
                continue;
            }
            let measured = measure(system, program, place, clients);
            let Measured { per_second, cpu_ms, entries } =
                LocalSet::new().block_on(runtime, measured)?;
            let said = entries.map_or("-".to_owned(), |entries| format!("{entries:.2}"));
            let name = system.name();
            println!("{name:12}{clients:>8}{per_second:>14.0}{cpu_ms:>22.3}{said:>12}");
            rows.push(json!({
                "system": name,
                "clients": clients,
                "per_second": per_second,
                "cpu_ms": cpu_ms,
                "entries": entries,
            }));
        }
    }
    Ok(json!({ "locks": rows }))
}

struct Measured {
    per_second: f64,
    /// Of all servers, a hand-over.
    cpu_ms: f64,
    /// Of the log, a hand-over; ours alone tells.
    entries: Option<f64>,
}

/// Each client acquires and releases, again and again: all but one wait.
async fn measure(
    system: System,
    program: &Path,
    place: &Place,
    clients: usize,
) -> Result<Measured> {
    let cluster = Cluster::start(system, program, place).await?;
    let handed = Rc::new(Cell::new(0_u64));
    let mut running = JoinSet::new();
    for nth in 0..clients {
        let mut locker = Locker::connect(&cluster.endpoints, nth).await?;
        let handed = Rc::clone(&handed);
        running.spawn_local(async move {
            loop {
                if let Err(error) = locker.hold(&handed).await {
                    return error;
                }
            }
        });
    }
    sleep(WARM_UP).await;
    let now = async || anyhow::Ok((handed.get(), cpu(&cluster)?, entries(&cluster).await?));
    let (start, before) = (Instant::now(), now().await?);
    sleep(RUN).await;
    let (elapsed, after) = (start.elapsed(), now().await?);
    if let Some(ended) = running.try_join_next() {
        return Err(ended?.context("a client ended"));
    }
    // Here, where ZooKeeper's client can still give back what it holds.
    running.shutdown().await;
    let count = (after.0 - before.0) as f64;
    Ok(Measured {
        per_second: count / elapsed.as_secs_f64(),
        cpu_ms: (after.1 - before.1) * 1000.0 / count,
        entries: after.2.zip(before.2).map(|(after, before)| (after - before) as f64 / count),
    })
}

/// How many entries our log has had.
async fn entries(cluster: &Cluster) -> Result<Option<u64>> {
    match Client::connect(&cluster.endpoints, 0).await? {
        Client::ConCoord(client) => Ok(Some(client.status().await?.committed)),
        _ => Ok(None),
    }
}

enum Locker {
    ConCoord(concoord::tokio::Client),
    Etcd(Box<etcd_client::LockClient>, i64),
    /// The recipe of its documentation, as Curator has it: each waits for the one before.
    ZooKeeper(zookeeper_client::Client),
}

impl Locker {
    async fn connect(endpoints: &Endpoints, nth: usize) -> Result<Self> {
        Ok(match Client::connect(endpoints, nth).await? {
            Client::ConCoord(client) => Self::ConCoord(client),
            Client::ZooKeeper(client) => Self::ZooKeeper(client),
            Client::Etcd(_) => {
                let place = &endpoints.places[nth % endpoints.places.len()];
                let client = etcd_client::Client::connect([place], None).await?;
                let lease = client.lease_client().grant(LEASE_SECONDS, None).await?;
                Self::Etcd(Box::new(client.lock_client()), lease.id())
            }
            Client::Redis(_) => bail!("a lone Redis has no lock"),
        })
    }

    /// Waits for it, and gives it back at once.
    async fn hold(&mut self, handed: &Cell<u64>) -> Result<()> {
        let count = || handed.set(handed.get() + 1);
        match self {
            Self::ConCoord(client) => {
                let object = ObjectName {
                    class: "concoord.object.lock.Lock".into(),
                    name: "compared".into(),
                };
                let manner = Manner { object: Some(object), ..Manner::default() };
                let none = Arguments::default();
                let token = client.call_as(&manner, "acquire", &none, Duration::MAX).await?;
                anyhow::ensure!(matches!(token, Value::Int(_)), "{token:?}");
                count();
                client.call_as(&manner, "release", &none, Duration::MAX).await?;
            }
            Self::Etcd(client, lease) => {
                let options = LockOptions::new().with_lease(*lease);
                let held = client.lock("compared", Some(options)).await?;
                count();
                client.unlock(held.key()).await?;
            }
            Self::ZooKeeper(client) => {
                let prefix = LockPrefix::new_curator("/compared", "lock-")?;
                let held = client.lock(prefix, b"", Acls::anyone_all()).await?;
                count();
                let path = held.lock_path().to_owned();
                // It would be released in the background: here the release is waited for.
                std::mem::forget(held);
                client.delete(&path, None).await.context("release")?;
            }
        }
        Ok(())
    }
}
