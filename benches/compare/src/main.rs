//! The same closed loop against ConCoord, etcd and Redis, in the same run on the same machine.
//!
//! Usage: `compare PROGRAM JSON [durable|locks]`: our program, and the file that the figures go to. All
//! run in memory: etcd on a memory file system, Redis without a log, and, unlike the others, alone.
//! With `durable` all write to the disk in the folder that the figures go to, and acknowledge what
//! is safe there, Redis alone too. `locks` is another load: many clients that want one lock, of
//! ConCoord, etcd and ZooKeeper, in memory.

mod client;
mod cluster;
mod locks;
mod measure;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use cluster::{Cluster, Place, System};
use measure::{
    Call, failover_gap, load, loopback_p50_us, quorum_sync_p50_us, rss_mib, sync_p50_us,
};

/// How often everything is measured, in turns; of each figure the median counts.
const ROUNDS: usize = 3;

/// How many clients, and how many connections they share.
const LOADS: [(usize, usize); 5] = [(1, 1), (64, 64), (64, 1), (256, 256), (256, 1)];

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("usage: compare PROGRAM JSON")?;
    let file = arguments.next().context("usage: compare PROGRAM JSON")?;
    let word = arguments.next();
    let is_about_locks = word.as_deref() == Some("locks".as_ref());
    let place = match word {
        None => Place { folder: "/dev/shm".into(), durable: false },
        Some(_) if is_about_locks => Place { folder: "/dev/shm".into(), durable: false },
        Some(word) if word == "durable" => {
            let folder = Path::new(&file).parent().unwrap_or(Path::new("."));
            Place { folder: folder.into(), durable: true }
        }
        Some(_) => anyhow::bail!("usage: compare PROGRAM JSON [durable|locks]"),
    };
    let program = Path::new(&program);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if is_about_locks {
        let figures = locks::compare(&runtime, program, &place)?;
        return save(Path::new(&file), &figures);
    }
    let mut results = System::ALL.map(|system| (system, Vec::new()));
    for round in 1..=ROUNDS {
        for (system, rounds) in &mut results {
            eprintln!("== {}, round {round} of {ROUNDS}", system.name());
            let measured = LocalSet::new().block_on(&runtime, measure(*system, program, &place));
            rounds.push(measured.with_context(|| format!("measuring {}", system.name()))?);
        }
    }
    print(&results);
    let systems: Vec<Value> = results
        .iter()
        .map(|(system, rounds)| json!({ "name": system.name(), "rounds": rounds }))
        .collect();
    save(Path::new(&file), &json!({ "systems": systems }))
}

fn save(file: &Path, figures: &Value) -> Result<()> {
    std::fs::write(file, format!("{figures:#}\n"))
        .with_context(|| format!("{}", file.display()))?;
    println!("\nAll figures: {}", file.display());
    Ok(())
}

/// All that is measured of one system.
async fn measure(system: System, program: &Path, place: &Place) -> Result<Value> {
    let loopback = loopback_p50_us()?;
    let sync = sync_p50_us(&place.folder)?;
    let quorum_sync = quorum_sync_p50_us(&place.folder)?;
    let cluster = Cluster::start(system, program, place).await?;
    let idle_mib = rss_mib(&cluster)?;
    let mut result = json!({
        "loopback_p50_us": loopback,
        "sync_p50_us": sync,
        "quorum_sync_p50_us": quorum_sync,
        "idle_rss_mib": idle_mib,
    });
    for (what, call) in [("put", Call::Put), ("increment", Call::Increment)] {
        for (clients, connections) in LOADS {
            if system != System::Etcd && call == Call::Put {
                continue;
            }
            let load = load(&cluster, call, clients, connections).await?;
            eprintln!(
                "{what}, {clients} clients, {connections} connections: {:.0}/s, {} failed",
                load.per_second, load.failed
            );
            result[format!("{what}_{clients}_{connections}")] = json!({
                "per_second": load.per_second,
                "p50_us": load.p50_us,
                "p99_us": load.p99_us,
                "cpu_s_per_million": load.cpu_s_per_million,
                "failed": load.failed,
            });
        }
    }
    let lone = result.pointer("/increment_1_1/p50_us").and_then(Value::as_f64);
    for (name, sync) in [("lone_to_sync", sync), ("lone_to_quorum_sync", quorum_sync)] {
        result[name] = lone.map(|lone| lone / (sync + 2.0 * loopback)).into();
    }
    result["rss_mib"] = rss_mib(&cluster)?.into();
    drop(cluster);
    if system != System::Redis {
        let gap_ms = failover_gap(system, program, place).await?.as_secs_f64() * 1000.0;
        eprintln!("failover: {gap_ms:.0} ms");
        result["failover_ms"] = gap_ms.into();
    }
    Ok(result)
}

/// A row a figure, a column a system, and how many times better or worse than ours.
fn print(results: &[(System, Vec<Value>)]) {
    const ROWS: [(&str, &str); 23] = [
        ("loopback round trip, p50 µs", "/loopback_p50_us"),
        ("4 KiB and fdatasync, p50 µs", "/sync_p50_us"),
        ("two of three of them at once, p50 µs", "/quorum_sync_p50_us"),
        ("lone increment, p50 µs", "/increment_1_1/p50_us"),
        ("… to a sync and two round trips", "/lone_to_sync"),
        ("… to two of three syncs and those", "/lone_to_quorum_sync"),
        ("lone increment, p99 µs", "/increment_1_1/p99_us"),
        ("lone put, p50 µs", "/put_1_1/p50_us"),
        ("64 clients, increments/s", "/increment_64_64/per_second"),
        ("64 clients, increment p99 µs", "/increment_64_64/p99_us"),
        ("64 clients, puts/s", "/put_64_64/per_second"),
        ("64 on one connection, increments/s", "/increment_64_1/per_second"),
        ("64 on one connection, p99 µs", "/increment_64_1/p99_us"),
        ("64 on one connection, puts/s", "/put_64_1/per_second"),
        ("256 clients, increments/s", "/increment_256_256/per_second"),
        ("256 clients, puts/s", "/put_256_256/per_second"),
        ("256 on one connection, puts/s", "/put_256_1/per_second"),
        ("64 clients, CPU s per million", "/increment_64_64/cpu_s_per_million"),
        ("64 clients, CPU s per million puts", "/put_64_64/cpu_s_per_million"),
        ("64 on one, CPU s per million puts", "/put_64_1/cpu_s_per_million"),
        ("failover, ms", "/failover_ms"),
        ("RSS a replica, idle, MiB", "/idle_rss_mib"),
        ("RSS a replica, after, MiB", "/rss_mib"),
    ];
    print!("\n{:<36}", "");
    results.iter().for_each(|(system, _)| print!("{:>24}", system.name()));
    println!();
    for (name, path) in ROWS {
        let ours = results.first().and_then(|(_, rounds)| median(rounds, path));
        print!("{name:<36}");
        for (nth, (_, rounds)) in results.iter().enumerate() {
            let cell = match (median(rounds, path), ours) {
                (Some(theirs), Some(ours)) if nth > 0 => {
                    format!("{} ({:.2} x)", figure(theirs), theirs / ours)
                }
                (Some(own), _) => figure(own),
                (None, _) => "-".to_owned(),
            };
            print!("{cell:>24}");
        }
        println!();
    }
}

/// Ratios take two digits.
fn figure(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

/// The median of a figure; who has no put of its own is compared by its increments.
fn median(rounds: &[Value], path: &str) -> Option<f64> {
    let figure = |round: &Value| {
        let own = round.pointer(path);
        own.or_else(|| round.pointer(&path.replace("/put_", "/increment_")))?.as_f64()
    };
    let mut figures: Vec<f64> = rounds.iter().filter_map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
