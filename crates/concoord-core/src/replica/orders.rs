//! What operators order: who is to be a member, and who is to go on alone.
//!
//! The replica that is asked keeps an order until its own view says that it is carried out, and
//! tells it to whoever leads, again and again: it outlives lost messages and leaders. A leader
//! forgets what it is no longer told.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Action, Phase, Replica};
use crate::call::ConnectionId;
use crate::limits::{MEMBERS_MAX, ORDERS_MAX};
use crate::view::{Cause, Member, ReplicaId, Role};
use crate::wire::{Ailment, Answer, Order, PeerMessage, Report, Welcome, Who};

/// How long a leader remembers an order that it is not told again.
const REMEMBERED: Duration = Duration::from_secs(1);

/// So many refused connections say that nobody is there to be added.
const REFUSALS_MAX: u32 = 3;

#[derive(Default)]
pub(super) struct Orders {
    /// Of operators that are connected here.
    open: BTreeMap<ConnectionId, Open>,
    /// At the leader: what is ordered, and when that was last said.
    wanted: BTreeMap<Order, Duration>,
    /// When there last was a leader that this replica was in touch with.
    led: Duration,
}

struct Open {
    /// Members in it are named by id.
    order: Order,
    /// What it is about, for people.
    name: String,
    since: Duration,
    /// Whether a leader may have heard of it.
    passed: bool,
    /// The last thing said of it.
    said: String,
    /// Of one to be added: what it answered, or how often nobody did.
    answered: Option<Welcome>,
    refusals: u32,
    silent: bool,
}

impl Orders {
    /// Whether the leader is to do that.
    pub(super) fn wants(&self, order: Order) -> bool {
        self.wanted.contains_key(&order)
    }

    /// Whom to greet, so that they join.
    pub(super) fn invited(&self) -> impl Iterator<Item = SocketAddr> {
        self.open.values().filter_map(|open| match open.order {
            Order::Add(address) => Some(address),
            Order::Remove(_) | Order::Promote(_) | Order::GoAlone => None,
        })
    }

    fn invitations(&mut self, to: SocketAddr) -> impl Iterator<Item = &mut Open> {
        self.open.values_mut().filter(move |open| open.order == Order::Add(to))
    }

    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        self.open.remove(&connection);
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

impl Replica {
    /// An operator orders.
    pub(super) fn order(&mut self, connection: ConnectionId, order: Order) {
        let open = if self.orders.open.contains_key(&connection) {
            Err(Report::Refused("one order at a time: the last one is under way".into()))
        } else if self.orders.open.len() >= ORDERS_MAX {
            Err(Report::NotNow("too many orders are under way here".into()))
        } else {
            self.open(order)
        };
        match open {
            Ok(open) => {
                self.orders.open.insert(connection, open);
                self.actions.push(Action::Contacts);
                self.mind_orders();
            }
            Err(report) => self.report(connection, report),
        }
    }

    fn report(&mut self, connection: ConnectionId, report: Report) {
        self.actions.push(Action::Answer(connection, Answer::Ordered(report)));
    }

    /// The order with its member found, or the end of it.
    fn open(&mut self, order: Order) -> Result<Open, Report> {
        let view = &self.machine.state.view;
        let find = |who: Who| {
            let is_it = |member: &&Member| match who {
                Who::Id(id) => member.id == id,
                Who::Address(address) => member.address == address,
            };
            let found = view.members.iter().map(|(member, _)| member).find(is_it);
            let unknown = || Report::Refused(format!("{who} is no member"));
            found.map(|member| (Who::Id(member.id), member.address.to_string())).ok_or_else(unknown)
        };
        let (order, name) = match order {
            Order::Remove(who) => find(who).map(|(id, name)| (Order::Remove(id), name))?,
            Order::Promote(who) => find(who).map(|(id, name)| (Order::Promote(id), name))?,
            Order::Add(address) if find(Who::Address(address)).is_ok() => {
                return Err(Report::Refused(format!(
                    "{address} is a member already; if its replica is dead, remove it first"
                )));
            }
            Order::Add(_) if view.members.len() >= MEMBERS_MAX => {
                let text = format!("the cluster has {MEMBERS_MAX} members, and that is the most");
                return Err(Report::Refused(text));
            }
            Order::Add(address) => (order, address.to_string()),
            Order::GoAlone => return Err(self.force_alone()),
        };
        let (since, said) = (self.now, String::new());
        let (passed, answered, refusals, silent) = (false, None, 0, false);
        Ok(Open { order, name, since, passed, said, answered, refusals, silent })
    }

    /// Looks how all orders are, and tells who gave them.
    pub(super) fn mind_orders(&mut self) {
        if self.is_led() {
            self.orders.led = self.now;
        }
        self.orders.wanted.retain(|_, told| *told + REMEMBERED >= self.now);
        for (connection, mut open) in std::mem::take(&mut self.orders.open) {
            let report = self.look_after(&mut open);
            let waits = matches!(report, Report::Waiting(_));
            match &report {
                Report::Waiting(text) if *text == open.said => {}
                Report::Waiting(text) => {
                    open.said.clone_from(text);
                    self.report(connection, report);
                }
                Report::Done(_) | Report::Refused(_) | Report::NotNow(_) => {
                    self.actions.push(Action::Contacts);
                    self.report(connection, report);
                }
            }
            if waits {
                self.orders.open.insert(connection, open);
            }
        }
        if self.is_settled_leader()
            && self.orders.wants(Order::Remove(Who::Id(self.config.member.id)))
        {
            self.hand_over("an operator removes this replica");
        }
    }

    /// Tells all orders about this replica itself how they ended: it is no member any more.
    pub(super) fn end_orders(&mut self) {
        let me = Who::Id(self.config.member.id);
        for (connection, open) in std::mem::take(&mut self.orders.open) {
            if open.order == Order::Remove(me) {
                self.report(connection, Report::Done(format!("{} is removed", open.name)));
            }
        }
    }

    fn look_after(&mut self, open: &mut Open) -> Report {
        let view = &self.machine.state.view;
        let name = &open.name;
        match open.order {
            Order::Add(address) => self.look_after_newcomer(address, open),
            Order::Remove(Who::Id(id)) if view.role(id).is_none() => {
                Report::Done(format!("{name} is removed"))
            }
            Order::Promote(Who::Id(id)) => match view.role(id) {
                Some(Role::Voter) => Report::Done(format!("{name} is a voter")),
                Some(Role::Learner) => self.pass_on(open),
                None => Report::Refused(format!("{name} is no member any more")),
            },
            Order::Remove(_) | Order::Promote(_) | Order::GoAlone => self.pass_on(open),
        }
    }

    fn look_after_newcomer(&self, address: SocketAddr, open: &Open) -> Report {
        let members = &self.machine.state.view.members;
        match members.iter().find(|(member, _)| member.address == address) {
            Some((_, Role::Voter)) => return Report::Done(format!("{address} is a voter")),
            Some((Member { learner: true, .. }, Role::Learner)) => {
                return Report::Done(format!("{address} is a learner, and stays one"));
            }
            Some((_, Role::Learner)) => {
                return Report::Waiting(format!("{address} is a learner, and catches up"));
            }
            None => {}
        }
        if let Some(report) = self.without_leader(open) {
            return report;
        }
        match &open.answered {
            Some(Welcome::Refused(reason)) => {
                Report::Refused(format!("{address} can't join: {reason}"))
            }
            Some(Welcome::NotYet(reason)) => Report::Waiting(format!("{address}: {reason}")),
            Some(_) => Report::Waiting(format!("{address} is joining")),
            None if open.silent => Report::Refused(format!("no answer from {address}")),
            None if open.refusals >= REFUSALS_MAX => Report::Refused(format!(
                "nobody listens at {address}: start a replica there first, without -b"
            )),
            None => Report::Waiting(format!("greeting {address}")),
        }
    }

    /// What to say of an order while there is no leader; `None` if there is one.
    fn without_leader(&self, open: &Open) -> Option<Report> {
        if self.is_led() {
            return None;
        }
        let reason = self.not_ready().unwrap_or_default();
        let patience = 2 * self.config.election_timeout;
        let gives_up = !open.passed && open.since.max(self.orders.led) + patience < self.now;
        Some(if gives_up { Report::NotNow(reason) } else { Report::Waiting(reason) })
    }

    /// Tells the leader of an order.
    fn pass_on(&mut self, open: &mut Open) -> Report {
        if let Some(report) = self.without_leader(open) {
            return report;
        }
        if self.is_settled_leader() {
            if let Some(reason) = self.objection(open.order) {
                return Report::Refused(reason);
            }
            open.passed = true;
            self.want(open.order);
        } else if let Some(leader) = self.leader() {
            open.passed = true;
            self.actions.push(Action::Send(leader, PeerMessage::Order(open.order)));
        }
        Report::Waiting("the leader is told".into())
    }

    fn want(&mut self, order: Order) {
        let wanted = &mut self.orders.wanted;
        if wanted.len() < ORDERS_MAX || wanted.contains_key(&order) {
            wanted.insert(order, self.now);
        }
    }

    /// A replica passes an order on.
    pub(super) fn ordered(&mut self, from: ReplicaId, order: Order) {
        let is_member = self.machine.state.view.member(from).is_some();
        if !is_member || !self.is_settled_leader() {
            return;
        }
        match self.objection(order) {
            Some(reason) => {
                self.actions.push(Action::Send(from, PeerMessage::Declined(order, reason)));
            }
            None => {
                self.followers_wait = true;
                self.want(order);
                self.mind_members();
            }
        }
    }

    /// The leader will not do that.
    pub(super) fn declined(&mut self, order: Order, reason: &str) {
        let concerned = self.orders.open.iter().filter(|(_, open)| open.order == order);
        let concerned: Vec<ConnectionId> = concerned.map(|(connection, _)| *connection).collect();
        for connection in concerned {
            self.orders.open.remove(&connection);
            self.report(connection, Report::Refused(reason.to_owned()));
        }
    }

    /// Why this leader can't do that; `None` if it can.
    pub(super) fn objection(&self, order: Order) -> Option<String> {
        match order {
            Order::Remove(Who::Id(id)) => self.objection_to_removal(id),
            Order::Promote(Who::Id(id)) => self.objection_to_promotion(id),
            Order::Add(_) | Order::Remove(_) | Order::Promote(_) | Order::GoAlone => {
                Some("a leader is not told this".into())
            }
        }
    }

    fn objection_to_removal(&self, id: ReplicaId) -> Option<String> {
        let view = &self.machine.state.view;
        if view.role(id) != Some(Role::Voter) {
            return None;
        }
        if view.serving().all(|member| member.id == id) {
            let text = "it is the only voter with the object: tell it to stop, to end the cluster";
            return Some(text.into());
        }
        let rest: Vec<&Member> = view.voters().filter(|voter| voter.id != id).collect();
        let silent: Vec<String> = rest
            .iter()
            .filter(|voter| !self.is_near(voter.id))
            .map(|voter| voter.address.to_string())
            .collect();
        let near = rest.len() - silent.len();
        (2 * near <= rest.len()).then(|| {
            format!(
                "without it there would be no quorum: of the other {} voters {} must answer, and \
                 {} do not",
                rest.len(),
                rest.len() / 2 + 1,
                silent.join(", ")
            )
        })
    }

    fn objection_to_promotion(&self, id: ReplicaId) -> Option<String> {
        let member = self.machine.state.view.member(id)?;
        let address = member.address;
        if !self.is_near(id) {
            return Some(format!("{address} does not answer"));
        }
        if self.ailment_of(id) == Some(Ailment::NoWorker) {
            return Some(format!("{address} can start no worker for the object: its log says why"));
        }
        let behind = self.lag(id)?;
        Some(format!("{address} is {behind} entries behind: ask again when it has caught up"))
    }

    /// Whether that member was heard of lately, or is this replica.
    fn is_near(&self, id: ReplicaId) -> bool {
        let silence = 2 * self.config.election_timeout;
        id == self.config.member.id || self.watch.heard_within(id, self.now, silence)
    }

    /// Whether there is a leader that this replica is in touch with.
    fn is_led(&self) -> bool {
        self.view().is_some()
            && (self.is_settled_leader()
                || self.leader().is_some_and(|leader| {
                    self.watch.heard_within(leader, self.now, self.config.election_timeout)
                }))
    }

    /// Goes on alone because an operator says so, whatever the others have decided.
    fn force_alone(&mut self) -> Report {
        let view = &self.machine.state.view;
        let address = self.config.member.address;
        let refused = |text: String| Report::Refused(text);
        if self.phase != Phase::Member {
            return Report::NotNow(self.not_ready().unwrap_or_default());
        }
        if self.is_witness() {
            let text =
                format!("{address} is a witness and has no object to go on with: name another");
            return refused(text);
        }
        if self.alone.is_some() {
            return Report::NotNow("it is about to go on alone: ask again in a moment".into());
        }
        // One that was removed may see another one alone.
        if view.members.len() == 1 && view.member(self.config.member.id).is_some() {
            return refused(format!("{address} is alone already"));
        }
        let leader = self.leader().and_then(|leader| view.member(leader));
        if let Some(leader) = leader.filter(|_| self.is_led()) {
            return refused(format!(
                "there is a leader, {}: nothing is to be forced",
                leader.address
            ));
        }
        let since = self.orders.led.max(self.started.unwrap_or_default());
        if since + 3 * self.config.election_timeout > self.now {
            let text = "it has lost its leader a moment ago: ask again in a few seconds";
            return Report::NotNow(text.into());
        }
        if !self.consensus.drop_changes() {
            let text = "it has yet to apply what is decided: ask again in a moment";
            return Report::NotNow(text.into());
        }
        let lineage = view.lineage + 1;
        let text = format!("an operator has {address} go on alone, in lineage {lineage}");
        self.go_alone(Cause::Forced, text.clone());
        Report::Done(text)
    }

    /// Somebody who may be invited answered.
    pub(super) fn invited(&mut self, address: SocketAddr, welcome: &Welcome) {
        for open in self.orders.invitations(address) {
            open.answered = Some(welcome.clone());
            // It may be on its way in.
            open.passed = true;
        }
    }

    /// Nobody at that address could be spoken to.
    pub(super) fn uninvited(&mut self, address: SocketAddr, refused: bool) {
        for open in self.orders.invitations(address).filter(|open| open.answered.is_none()) {
            open.refusals += u32::from(refused);
            open.silent |= !refused;
        }
    }
}
