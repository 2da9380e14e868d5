//! The same closed loop against ConCoord, etcd and Redis, in the same run on the same machine.
//!
//! Usage: `compare PROGRAM JSON`: our program, and the file that the figures go to. All run in
//! memory: etcd on a memory file system, Redis without a log, and, unlike the others, alone.

mod client;
mod cluster;
mod measure;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use cluster::{Cluster, System};
use measure::{Call, failover_gap, load, loopback_p50_us, rss_mib};

/// How often a leader is killed; the median counts.
const KILLS: usize = 3;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("usage: compare PROGRAM JSON")?;
    let file = arguments.next().context("usage: compare PROGRAM JSON")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut results = Vec::new();
    let loopback = loopback_p50_us()?;
    for system in System::ALL {
        let measured = LocalSet::new().block_on(&runtime, measure(system, Path::new(&program)));
        results.push(measured.with_context(|| format!("measuring {}", system.name()))?);
    }
    print(loopback, &results);
    let all = json!({ "loopback_p50_us": loopback, "systems": results });
    std::fs::write(&file, format!("{all:#}\n")).with_context(|| format!("{}", file.display()))?;
    println!("\nAll figures: {}", file.display());
    Ok(())
}

/// All that is measured of one system.
async fn measure(system: System, program: &Path) -> Result<Value> {
    eprintln!("== {}", system.name());
    let cluster = Cluster::start(system, program).await?;
    let idle_mib = rss_mib(&cluster)?;
    let mut result = json!({ "name": system.name(), "idle_rss_mib": idle_mib });
    for (what, call) in [("put", Call::Put), ("increment", Call::Increment)] {
        for clients in [1, 64, 256] {
            if system != System::Etcd && call == Call::Put {
                continue;
            }
            let load = load(&cluster, call, clients).await?;
            eprintln!(
                "{what}, {clients} clients: {:.0}/s, {} failed",
                load.per_second, load.failed
            );
            result[format!("{what}_{clients}")] = json!({
                "per_second": load.per_second,
                "p50_us": load.p50_us,
                "p99_us": load.p99_us,
                "cpu_s_per_million": load.cpu_s_per_million,
                "failed": load.failed,
            });
        }
    }
    result["rss_mib"] = rss_mib(&cluster)?.into();
    drop(cluster);
    if system != System::Redis {
        let mut gaps = Vec::new();
        for _ in 0..KILLS {
            gaps.push(failover_gap(system, program).await?.as_secs_f64() * 1000.0);
        }
        gaps.sort_by(f64::total_cmp);
        eprintln!("failover: {gaps:.0?} ms");
        result["failover_ms"] = gaps[KILLS / 2].into();
    }
    Ok(result)
}

/// A row a figure, a column a system, and how many times better or worse than ours.
fn print(loopback: f64, results: &[Value]) {
    const ROWS: [(&str, &str); 10] = [
        ("lone increment, p50 µs", "/increment_1/p50_us"),
        ("lone put, p50 µs", "/put_1/p50_us"),
        ("64 clients, increments/s", "/increment_64/per_second"),
        ("64 clients, puts/s", "/put_64/per_second"),
        ("256 clients, increments/s", "/increment_256/per_second"),
        ("256 clients, puts/s", "/put_256/per_second"),
        ("64 clients, CPU s per million", "/increment_64/cpu_s_per_million"),
        ("failover, ms", "/failover_ms"),
        ("RSS a replica, idle, MiB", "/idle_rss_mib"),
        ("RSS a replica, after, MiB", "/rss_mib"),
    ];
    println!("\nLoopback round trip, p50: {loopback:.1} µs\n");
    print!("{:<32}", "");
    results.iter().for_each(|result| print!("{:>24}", result["name"].as_str().unwrap_or("?")));
    println!();
    for (name, path) in ROWS {
        let ours = results.first().and_then(|result| figure(result, path));
        print!("{name:<32}");
        for (nth, result) in results.iter().enumerate() {
            let cell = match (figure(result, path), ours) {
                (Some(theirs), Some(ours)) if nth > 0 => {
                    format!("{theirs:.1} ({:.2} x)", theirs / ours)
                }
                (Some(own), _) => format!("{own:.1}"),
                (None, _) => "-".to_owned(),
            };
            print!("{cell:>24}");
        }
        println!();
    }
}

/// A figure of a result; who has no put of its own is compared by its increments.
fn figure(result: &Value, path: &str) -> Option<f64> {
    let own = result.pointer(path);
    own.or_else(|| result.pointer(&path.replace("/put_", "/increment_")))?.as_f64()
}
