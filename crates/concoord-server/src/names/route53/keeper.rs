//! Keeps the records up to date, on a thread of its own: whatever AWS or the way to it does, the
//! replica does not wait.
//!
//! The leader writes. A follower that has `-r` too looks a while later, and writes only if the
//! leader has not: it may have been started without `-r`, or have no way to AWS. That two of them
//! never undo each other's work is what the [`Mark`](super::records::Mark) is for.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use concoord_core::view::ReplicaId;
use concoord_core::wire::Status;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Route53Spec;
use super::api::{Api, Taken, ZoneId};
use super::problem::Problem;
use super::records::{Change, Mark, changes};
use super::wanted::Wanted;
use crate::driver;

/// Changes that follow each other faster than this become one.
const SETTLE: Duration = Duration::from_millis(300);

/// How long a follower leaves it to the leader.
const GRACE: Duration = Duration::from_secs(15);

/// How often records that are right are looked at again: somebody may have changed them.
const RECHECK: Duration = Duration::from_secs(600);

/// The first and the longest pause before another attempt, where waiting may help.
const PASSING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The same where somebody must do something.
const LASTING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// How often Route 53 is asked how far it is, and how long it may take; a minute is usual.
const PROGRESS: Duration = Duration::from_secs(5);
const PROGRESS_MAX: Duration = Duration::from_secs(300);

/// What the replica wants kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Order {
    wanted: Wanted,
    leads: bool,
}

/// The thread's handle; the thread ends with it.
pub(crate) struct Keeper {
    spec: Route53Spec,
    orders: watch::Sender<Option<Order>>,
    /// What the last order was made of.
    seen: Cell<Option<Reign>>,
    state: State,
}

/// All that an order depends on: lineage and number of the view, term and leader.
type Reign = (u64, u64, u64, ReplicaId);

/// How the records are, for people; empty where nothing is to be said.
#[derive(Clone, Debug, Default)]
struct State(Arc<Mutex<String>>);

impl State {
    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, text: &str) {
        text.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Keeper {
    pub(crate) fn start(spec: &Route53Spec) -> io::Result<Self> {
        let (orders, orders_rx) = watch::channel(None);
        let state = State::default();
        let keeping = Keeping {
            api: Api::new(),
            spec: spec.clone(),
            zone: None,
            said: String::new(),
            state: state.clone(),
        };
        let runtime = move || {
            // Whatever is under way is dropped, a look-up of a name included.
            match driver::runtime() {
                Ok(runtime) => {
                    runtime.block_on(keeping.run(orders_rx));
                    runtime.shutdown_background();
                }
                Err(error) => tracing::error!("Route 53 is not kept up to date: {error}"),
            }
        };
        thread::Builder::new().name("route53".into()).spawn(runtime)?;
        Ok(Self { spec: spec.clone(), orders, seen: Cell::default(), state })
    }

    /// How the records are, for people; empty where nothing is to be said.
    pub(crate) fn state(&self) -> String {
        self.state.get()
    }

    /// Tells how the replica is. Cheap where nothing has changed.
    pub(crate) fn follow(&self, status: &Status) {
        let reign = status.view.as_ref().zip(status.leader).filter(|_| status.ready);
        let reign = reign.map(|(view, leader)| (view.lineage, view.number, status.term, leader));
        if self.seen.replace(reign) != reign {
            self.orders.send_replace(reign.and_then(|_| self.order(status)));
        }
    }

    fn order(&self, status: &Status) -> Option<Order> {
        let (view, leader) = status.view.as_ref().zip(status.leader)?;
        let wanted = Wanted::of(view, leader, status.term, &self.spec.domain, self.spec.ttl)?;
        Some(Order { wanted, leads: leader == status.replica.id })
    }
}

/// What the thread has.
struct Keeping {
    api: Api,
    spec: Route53Spec,
    /// Once it is known.
    zone: Option<ZoneId>,
    /// The last problem that was logged.
    said: String,
    state: State,
}

impl Keeping {
    /// Until nobody gives orders any more.
    async fn run(mut self, mut orders: watch::Receiver<Option<Order>>) {
        loop {
            while let Ok(changed) = timeout(SETTLE, orders.changed()).await {
                if changed.is_err() {
                    return;
                }
            }
            let order = orders.borrow_and_update().clone();
            let next = tokio::select! {
                () = self.keep(order) => unreachable!("keeping has no end"),
                next = orders.changed() => next,
            };
            if next.is_err() {
                return;
            }
        }
    }

    /// Has the records be those, for ever.
    async fn keep(&mut self, order: Option<Order>) {
        let Some(Order { wanted, leads }) = order else {
            return std::future::pending().await;
        };
        if !leads {
            self.state.set("");
            sleep(about(GRACE)).await;
        }
        let (mut attempts, mut was_passing) = (0, true);
        loop {
            match self.sync(&wanted, leads).await {
                Ok(taken) => {
                    attempts = 0;
                    self.succeeded(&wanted.mark);
                    if let Some(taken) = taken {
                        self.await_progress(taken, &wanted.mark).await;
                    }
                    sleep(about(RECHECK)).await;
                }
                Err(problem) => {
                    if problem.passes() != was_passing {
                        (attempts, was_passing) = (0, problem.passes());
                    }
                    self.failed(&problem);
                    sleep(pause(attempts, was_passing)).await;
                    attempts += 1;
                }
            }
        }
    }

    async fn sync(&mut self, wanted: &Wanted, insists: bool) -> Result<Option<Taken>, Problem> {
        let synced = sync(&self.api, &self.spec, &mut self.zone, wanted, insists).await;
        if matches!(synced, Err(Problem::NoZone(_))) {
            // It may have been made anew, under another id.
            self.zone = None;
        }
        let (changes, taken) = synced?;
        for change in &changes {
            tracing::info!("Route 53: {change}");
        }
        Ok(taken)
    }

    fn succeeded(&mut self, mark: &Mark) {
        let text = format!("Route 53 has the records of {mark}");
        if !self.said.is_empty() {
            tracing::info!("{text}");
            self.said.clear();
        }
        self.state.set(&text);
    }

    /// Says it in the log where it was not said last.
    fn failed(&mut self, problem: &Problem) {
        let text = format!("{} is not up to date in Route 53: {problem}", self.spec.domain);
        self.state.set(&text);
        if self.said == text {
            tracing::debug!("{text}");
        } else {
            tracing::warn!("{text}");
            self.said = text;
        }
    }

    /// Waits until all of Route 53's servers have the change.
    async fn await_progress(&mut self, mut taken: Taken, mark: &Mark) {
        let text = format!("Route 53 has taken the records of {mark}");
        let mut waited = Duration::ZERO;
        while !taken.in_sync && waited < PROGRESS_MAX {
            self.state.set(&format!("{text}; not all of its servers have them yet"));
            sleep(PROGRESS).await;
            waited += PROGRESS;
            match self.api.progress(&taken).await {
                Ok(now) => taken = now,
                Err(problem) => tracing::debug!("how far Route 53 is: {problem}"),
            }
        }
        if taken.in_sync {
            tracing::info!("{text}, and all of its servers have them");
            self.state.set(&format!("Route 53 has the records of {mark}"));
        } else {
            tracing::warn!(
                "{text}, and after {PROGRESS_MAX:?} not all of its servers have them: see AWS's \
                 health dashboard"
            );
        }
    }
}

/// Has the records be those: reads, compares, and changes what differs, at once or not at all.
/// Who does not insist leaves records alone that somebody has written for the same view and term.
/// Says what it changed.
pub(crate) async fn sync(
    api: &Api,
    spec: &Route53Spec,
    zone: &mut Option<ZoneId>,
    wanted: &Wanted,
    insists: bool,
) -> Result<(Vec<Change>, Option<Taken>), Problem> {
    let zone = find_zone(api, spec, zone).await?;
    let there = api.records(&zone, &spec.domain).await?;
    if let Some(mark) = Mark::among(&there, &spec.domain) {
        if wanted.mark.is_before(&mark) {
            return Err(Problem::Later(mark.to_string()));
        }
        if mark == wanted.mark && !insists {
            return Ok((Vec::new(), None));
        }
        if mark.cluster != wanted.mark.cluster {
            tracing::warn!(
                "{} was kept by another cluster, {mark}; where both run, give each a domain of its own",
                spec.domain
            );
        } else if mark.is_twin_of(&wanted.mark) {
            tracing::warn!(
                "{} was kept by another branch of this cluster, {mark}: a replica that was forced \
                 to go on alone, as this one was; stop those of one branch",
                spec.domain
            );
        }
    }
    let changes = changes(&spec.domain, &wanted.sets, &there)?;
    if changes.is_empty() {
        return Ok((changes, None));
    }
    let taken = api.change(&zone, &format!("ConCoord: {}", wanted.mark), &changes).await?;
    Ok((changes, Some(taken)))
}

/// The zone that the domain is in, or the one that was named; found once.
pub(crate) async fn find_zone(
    api: &Api,
    spec: &Route53Spec,
    known: &mut Option<ZoneId>,
) -> Result<ZoneId, Problem> {
    if let Some(zone) = known {
        return Ok(zone.clone());
    }
    let zone = match spec.hosted_zone.as_deref() {
        Some(id) => {
            let id = ZoneId::parse(id).ok_or_else(|| Problem::NoZone(format!("the id {id:?}")))?;
            api.named_zone(&id, &spec.domain).await?
        }
        None => api.zone_of(&spec.domain).await?,
    };
    *known = Some(zone.clone());
    Ok(zone)
}

/// How long to wait after so many attempts: twice as long each time, up to a bound, and never as
/// long as others do.
fn pause(attempts: u32, passes: bool) -> Duration {
    let (first, longest) = if passes { PASSING } else { LASTING };
    about(first.saturating_mul(1 << attempts.min(16)).min(longest))
}

/// Something between half of it and one and a half times as long.
fn about(time: Duration) -> Duration {
    // Without a random number all wait alike, which is no more than unkind.
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    time.mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        for (passes, (first, longest)) in [(true, PASSING), (false, LASTING)] {
            for attempts in [0, 1, 5, 40] {
                let middle = first.saturating_mul(1 << attempts.min(16)).min(longest);
                let pauses: Vec<_> = (0..8).map(|_| pause(attempts, passes)).collect();
                assert!(pauses.iter().all(|pause| (middle / 2..=middle * 3 / 2).contains(pause)));
                assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
            }
        }
    }
}
