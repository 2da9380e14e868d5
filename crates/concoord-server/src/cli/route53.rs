//! `concoord route53`: what Amazon Route 53 has of a cluster, and what it should have.

use std::time::{Duration, Instant};

use concoord_core::view::View;
use serde_json::{Value as Json, json};
use tokio::time::sleep;

use super::exit::{Exit, Failure};
use super::output::{note, say, say_json};
use super::replica::{DNS_TTL, ttl};
use super::status::{first, reason};
use super::{BOOTSTRAP, seconds};
use crate::driver;
use crate::names::domain;
use crate::names::route53::{
    self, Api, Change, Mark, Problem, Route53Spec, Taken, Wanted, changes,
};

/// How often Route 53 is asked how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// How long finding the cluster may take.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Compare the records with the cluster, and try whether the keys may change them
    Check(Compare),
    /// Have the records be those of the cluster now
    Sync(Compare),
    /// Remove the records of a cluster that is no more
    Clean(Place),
}

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Compare {
    /// address:port of a replica, or several with commas between
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP)]
    boot: String,
    /// Seconds that resolvers may keep the records, as the replicas have it
    #[arg(long, value_name = "SECONDS", value_parser = ttl(), default_value_t = DNS_TTL)]
    dns_ttl: u32,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The domain
    #[arg(short = 'n', long, value_name = "DOMAIN", value_parser = domain)]
    domainname: String,
    /// The id of the hosted zone [default: the public one that the domain is in]
    #[arg(long, value_name = "ID")]
    hosted_zone: Option<String>,
    /// How long to wait until all servers of Route 53 have a change, in seconds
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "120")]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let runtime = driver::runtime().map_err(Failure::failed)?;
    let done = match command {
        Command::Check(options) => {
            let wanted = wanted(options)?;
            runtime.block_on(check(&options.place, options.dns_ttl, &wanted))
        }
        Command::Sync(options) => {
            let wanted = wanted(options)?;
            runtime.block_on(sync(&options.place, options.dns_ttl, &wanted))
        }
        Command::Clean(place) => runtime.block_on(clean(place)),
    };
    // A look-up of a name that hangs holds nobody up.
    runtime.shutdown_background();
    done
}

/// What the cluster asks for.
fn wanted(options: &Compare) -> Result<Wanted, Failure> {
    let status = first(&options.boot, LOOK)?;
    let not_ready = || Failure::new(Exit::NotReady, reason(&status));
    let known: Option<(&View, _)> = status.view.as_ref().zip(status.leader);
    let (view, leader) = known.filter(|_| status.ready).ok_or_else(not_ready)?;
    Wanted::of(view, leader, status.term, &options.place.domainname, options.dns_ttl)
        .ok_or_else(not_ready)
}

fn spec(place: &Place, ttl: u32) -> Route53Spec {
    let (domain, hosted_zone) = (place.domainname.clone(), place.hosted_zone.clone());
    Route53Spec { domain, hosted_zone, ttl }
}

async fn check(place: &Place, ttl: u32, wanted: &Wanted) -> Result<(), Failure> {
    let (api, spec) = (Api::new(), spec(place, ttl));
    let zone = route53::find_zone(&api, &spec, &mut None).await.map_err(failure)?;
    let there = api.records(&zone, &spec.domain).await.map_err(failure)?;
    let mark = Mark::among(&there, &spec.domain);
    let differences = changes(&spec.domain, &wanted.sets, &there);
    let differences = differences.map_err(|error| failure(error.into()))?;
    let tried = api.try_to_change(&zone, &spec.domain).await;
    if place.json {
        say_json(&json!({
            "domain": spec.domain,
            "zone": zone.to_string(),
            "written_by": mark.as_ref().map(ToString::to_string),
            "current": differences.is_empty(),
            "changes": to_json(&differences),
            "may_change": tried.is_ok(),
        }));
    } else {
        let by = mark.map_or_else(|| "nothing of ConCoord".into(), |mark| mark.to_string());
        say(format!("{} in the hosted zone {zone}: {by}", spec.domain));
        differences.iter().for_each(|change| {
            say(change.to_string());
        });
    }
    tried.map_err(failure)?;
    if differences.is_empty() {
        note("The records are those of the cluster, and the keys may change them.");
        return Ok(());
    }
    let text = "the records are not those of the cluster: `concoord route53 sync` changes them, as \
                a replica with -r does";
    Err(Failure::failed(text))
}

async fn sync(place: &Place, ttl: u32, wanted: &Wanted) -> Result<(), Failure> {
    let (api, spec) = (Api::new(), spec(place, ttl));
    let (changes, taken) =
        route53::sync(&api, &spec, &mut None, wanted, true).await.map_err(failure)?;
    done(&api, place, &changes, taken).await
}

async fn clean(place: &Place) -> Result<(), Failure> {
    let (api, spec) = (Api::new(), spec(place, DNS_TTL));
    let zone = route53::find_zone(&api, &spec, &mut None).await.map_err(failure)?;
    let there = api.records(&zone, &spec.domain).await.map_err(failure)?;
    if Mark::among(&there, &spec.domain).is_none() {
        let text = format!("{} has no records that ConCoord keeps", spec.domain);
        return Err(Failure::new(Exit::Refused, text));
    }
    let changes = changes(&spec.domain, &[], &there).map_err(|error| failure(error.into()))?;
    let comment = format!("ConCoord: clean {}", spec.domain);
    let taken = api.change(&zone, &comment, &changes).await.map_err(failure)?;
    note("Replicas with -r that still run would write them again.");
    done(&api, place, &changes, Some(taken)).await
}

/// Says what was changed, and waits until it is so everywhere.
async fn done(
    api: &Api,
    place: &Place,
    changes: &[Change],
    taken: Option<Taken>,
) -> Result<(), Failure> {
    let in_sync = match taken {
        Some(taken) => await_progress(api, taken, place.timeout).await.map_err(failure)?,
        None => true,
    };
    if place.json {
        say_json(&json!({ "changes": to_json(changes), "in_sync": in_sync }));
    } else {
        changes.iter().for_each(|change| {
            say(change.to_string());
        });
    }
    if changes.is_empty() {
        note("The records were right already.");
    } else if in_sync {
        note("Route 53 has the change, on all of its servers.");
    } else {
        note("Route 53 has taken the change; some of its servers will have it later.");
    }
    Ok(())
}

async fn await_progress(api: &Api, mut taken: Taken, limit: Duration) -> Result<bool, Problem> {
    let start = Instant::now();
    while !taken.in_sync && start.elapsed() < limit {
        sleep(PROGRESS).await;
        match api.progress(&taken).await {
            Ok(now) => taken = now,
            // The change is made, whatever becomes of asking after it.
            Err(problem) if problem.passes() => {}
            Err(problem) => return Err(problem),
        }
    }
    Ok(taken.in_sync)
}

fn to_json(changes: &[Change]) -> Json {
    let change = |change: &Change| {
        let set = change.set();
        json!({
            "action": change.action(),
            "name": set.name,
            "type": set.kind,
            "ttl": set.ttl,
            "values": set.values,
        })
    };
    changes.iter().map(change).collect()
}

fn failure(problem: Problem) -> Failure {
    Failure::failed(problem)
}
