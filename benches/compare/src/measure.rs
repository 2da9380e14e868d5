//! What is measured, alike for all.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::cluster::{Cluster, Endpoints, Place, System};

/// How long each load runs, and before it unmeasured.
const RUN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(500);

/// What each call is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Increment,
    Put,
}

/// What a closed loop gave.
pub struct Load {
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Seconds of processor that the servers took for a million calls.
    pub cpu_s_per_million: f64,
    pub failed: u64,
}

/// Has so many clients call, each as soon as its last call is answered. They share so many
/// connections, as their libraries do it for the tasks of one program.
pub async fn load(
    cluster: &Cluster,
    call: Call,
    clients: usize,
    connections: usize,
) -> Result<Load> {
    let latency = Rc::new(RefCell::new(histogram()?));
    let mut running = JoinSet::new();
    let mut connected = Vec::new();
    for nth in 0..connections {
        connected.push(Client::connect(&cluster.endpoints, nth).await?);
    }
    let start = Instant::now() + WARM_UP;
    for mut client in connected.iter().cycle().take(clients).cloned() {
        let latency = Rc::clone(&latency);
        running.spawn_local(async move {
            let mut failed = 0_u64;
            loop {
                let before = Instant::now();
                if before >= start + RUN {
                    return failed;
                }
                let done = match call {
                    Call::Increment => client.increment().await,
                    Call::Put => client.put().await,
                };
                match done {
                    Ok(()) if before >= start => {
                        let nanos = before.elapsed().as_nanos().try_into().unwrap_or(u64::MAX);
                        latency.borrow_mut().saturating_record(nanos);
                    }
                    Ok(()) => {}
                    Err(_) => failed += 1,
                }
            }
        });
    }
    sleep(start.saturating_duration_since(Instant::now())).await;
    let cpu_before = cpu(cluster)?;
    let mut failed = 0;
    while let Some(ended) = running.join_next().await {
        failed += ended?;
    }
    let (elapsed, used) = (start.elapsed().as_secs_f64(), cpu(cluster)? - cpu_before);
    let latency = latency.borrow();
    let calls = latency.len() as f64;
    Ok(Load {
        per_second: calls / elapsed,
        p50_us: latency.value_at_quantile(0.5) as f64 / 1000.0,
        p99_us: latency.value_at_quantile(0.99) as f64 / 1000.0,
        cpu_s_per_million: used / calls * 1e6,
        failed,
    })
}

/// How long nobody got an answer after the leader was killed, with six clients that each go to
/// the next endpoint when theirs fails.
pub async fn failover_gap(system: System, program: &Path, place: &Place) -> Result<Duration> {
    let mut cluster = Cluster::start(system, program, place).await?;
    let answered = Rc::new(RefCell::new(Vec::new()));
    let mut running = JoinSet::new();
    for first in 0..6 {
        running.spawn_local(call_on(cluster.endpoints.clone(), first, Rc::clone(&answered)));
    }
    let leader = cluster.endpoints.leader().await?;
    sleep(BEFORE_KILL).await;
    let killed = Instant::now();
    cluster.kill(leader)?;
    sleep(AFTER_KILL).await;
    running.abort_all();
    let answered = answered.borrow();
    // Answers that were under way at the kill still arrive, so the longest silence is the gap.
    let from = answered.partition_point(|at| *at < killed).saturating_sub(1);
    let silences = answered.get(from..).context("calls were answered")?.windows(2);
    let longest = silences.filter_map(|pair| Some(*pair.get(1)? - *pair.first()?)).max();
    let last = answered.last().context("calls were answered")?;
    anyhow::ensure!(last.elapsed() < AFTER_KILL / 2, "{} did not go on", system.name());
    longest.context("calls were answered")
}

const BEFORE_KILL: Duration = Duration::from_secs(1);
const AFTER_KILL: Duration = Duration::from_secs(6);

async fn call_on(endpoints: Endpoints, first: usize, answered: Rc<RefCell<Vec<Instant>>>) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    for nth in first.. {
        let connected = timeout(TIMEOUT, Client::connect(&endpoints, nth)).await;
        let Ok(Ok(mut client)) = connected else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        while matches!(timeout(TIMEOUT, client.put()).await, Ok(Ok(()))) {
            answered.borrow_mut().push(Instant::now());
        }
    }
}

/// Of nanoseconds, up to a minute.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// Seconds of processor that the servers have taken.
pub fn cpu(cluster: &Cluster) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in cluster.pids() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name stands in brackets and may hold anything: the fields are counted after it.
        let fields = stat.rsplit_once(')').context("a name in brackets")?.1;
        let used = fields.split_whitespace().skip(11).take(2);
        ticks += used.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
    }
    Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that one of the servers holds, MiB.
pub fn rss_mib(cluster: &Cluster) -> Result<f64> {
    let mut most = 0.0_f64;
    for pid in cluster.pids() {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        let kib = line.split_whitespace().nth(1).context("VmRSS")?.parse::<f64>()?;
        most = most.max(kib / 1024.0);
    }
    Ok(most)
}

/// What the disk takes for a block of a file of zeros and fdatasync, µs, p50: the least that any
/// durable call can take besides its way.
pub fn sync_p50_us(folder: &Path) -> Result<f64> {
    let (file, mut times) = (zeros(folder)?, histogram()?);
    for round in 0..SYNCS {
        let start = Instant::now();
        write_safely(&file, round)?;
        times.saturating_record(start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX));
    }
    Ok(times.value_at_quantile(0.5) as f64 / 1000.0)
}

/// What the disk takes until two of three that do the same at once are done, µs, p50: the least
/// where three replicas share it.
pub fn quorum_sync_p50_us(folder: &Path) -> Result<f64> {
    let start = &Barrier::new(3);
    let write = |file: File| {
        move || -> Result<Vec<(Instant, Instant)>> {
            (0..SYNCS)
                .map(|round| {
                    start.wait();
                    let begin = Instant::now();
                    // An error must not leave the others at the barrier.
                    let written = write_safely(&file, round);
                    Ok((begin, written.map(|()| Instant::now())?))
                })
                .collect::<Vec<Result<_>>>()
                .into_iter()
                .collect()
        }
    };
    let files = [zeros(folder)?, zeros(folder)?, zeros(folder)?];
    let writers = std::thread::scope(|scope| {
        let threads = files.map(|file| scope.spawn(write(file)));
        threads.map(|thread| thread.join().expect("a writer does not panic"))
    });
    let [first, second, third] = writers;
    let (first, second, third) = (first?, second?, third?);
    let mut times = histogram()?;
    for ((first, second), third) in first.into_iter().zip(second).zip(third) {
        let (begins, mut ends) = ([first.0, second.0, third.0], [first.1, second.1, third.1]);
        ends.sort();
        let begin = begins.into_iter().min().context("there are three")?;
        let took = ends[1] - begin;
        times.saturating_record(took.as_nanos().try_into().unwrap_or(u64::MAX));
    }
    Ok(times.value_at_quantile(0.5) as f64 / 1000.0)
}

const SYNCS: u64 = 1000;
const BLOCK: usize = 4096;

/// A file that is long enough for all syncs.
fn zeros(folder: &Path) -> Result<File> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0; SYNCS as usize * BLOCK])?;
    file.sync_all()?;
    Ok(file)
}

fn write_safely(file: &File, nth: u64) -> Result<()> {
    file.write_all_at(&[7; BLOCK], nth * BLOCK as u64)?;
    Ok(file.sync_data()?)
}

/// What the machine takes for 64 bytes there and back between two threads, µs, p50: the least
/// that any call can take.
pub fn loopback_p50_us() -> Result<f64> {
    const ROUNDS: usize = 20_000;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while far.read_exact(&mut bytes).and_then(|()| far.write_all(&bytes)).is_ok() {}
    });
    let (mut times, mut bytes) = (histogram()?, [0; 64]);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        near.write_all(&bytes)?;
        near.read_exact(&mut bytes)?;
        times.saturating_record(start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX));
    }
    drop(near);
    echo.join().ok().context("the echo ends")?;
    Ok(times.value_at_quantile(0.5) as f64 / 1000.0)
}
