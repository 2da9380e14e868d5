//! What replicas say, and what a session makes of it.

use std::net::SocketAddr;
use std::time::Duration;

use concoord_core::call::{Outcome, Refusal};
use concoord_core::wire::{Answer, Welcome};

use super::{Link, QUIET, Question, Reply, Session, Ticket, Up};
use crate::Error;

impl Session {
    pub(super) fn welcome(&mut self, now: Duration, welcome: Welcome) {
        let Link::Greeting { address, .. } = self.link else { return };
        match welcome {
            Welcome::Client { cluster, replica, leader, members, class, session_timeout_ms } => {
                if self.id.is_some() && self.cluster != Some(cluster) {
                    return self.refused(now, address, "it belongs to another cluster".into());
                }
                self.cluster = Some(cluster);
                self.default_class = class;
                self.timeout = Duration::from_millis(session_timeout_ms.max(1));
                let leader = leader.filter(|leader| *leader != replica);
                if self.route.welcomed(address, leader, members) {
                    self.hang_up(now);
                } else {
                    self.go_on(now, address, replica, leader);
                }
            }
            Welcome::Peer { .. } | Welcome::Removed(_) => {
                self.lost(now, "it takes us for a replica".into());
            }
            Welcome::NotYet(why) => {
                self.route.not_yet(address, why);
                self.hang_up(now);
                self.judge_round();
            }
            Welcome::Refused(why) => self.refused(now, address, why),
        }
    }

    /// The link is up: whatever has no answer is asked (again).
    fn go_on(
        &mut self,
        now: Duration,
        address: SocketAddr,
        replica: SocketAddr,
        leader: Option<SocketAddr>,
    ) {
        self.foreign = false;
        self.link = Link::Up(Up {
            address,
            replica,
            leader,
            since: now,
            opening: None,
            asked_alive_at: None,
            proving: false,
            greeted_at: None,
            quiet: QUIET,
            asked_at: None,
            said_at: now,
            stuck_at: None,
            has_answered: false,
        });
        let ready = |(_, question): &(Ticket, Question)| *question == Question::Ready;
        for (ticket, _) in self.questions.extract_if(.., |question| ready(question)) {
            self.done.push_back((ticket, Ok(Reply::Ready)));
        }
        for (_, question) in self.questions.clone() {
            self.send_question(now, question);
        }
        self.calls.begin_again(now, &mut self.output);
        if self.calls.are_owed() {
            self.said(now);
        }
        // The session has not been heard of for as long as it took to come here.
        self.keep_alive(now);
        self.flush(now);
    }

    pub(super) fn answer(&mut self, now: Duration, answer: Answer) {
        let Link::Up(up) = &mut self.link else { return };
        up.greeted_at = None;
        up.has_answered = true;
        match answer {
            Answer::Opened(id) if up.opening.is_some() => {
                let at = up.opening.take();
                self.id = Some(id);
                self.proven(now, at);
            }
            Answer::NotOpened(refusal) if up.opening.is_some() => {
                up.opening = None;
                let error = Error::Refusal(refusal);
                for ticket in self.calls.take_queued() {
                    self.done.push_back((ticket, Err(error.clone())));
                }
            }
            Answer::Reply { sequence: _, outcome: Outcome::Refused(Refusal::SessionExpired) } => {
                self.expired(now);
            }
            Answer::Reply { sequence, outcome } => {
                let at = self.calls.sent_at(sequence);
                if let Some((ticket, given)) = self.calls.end(sequence, &outcome) {
                    self.done.push_back((ticket, Ok(Reply::Outcome(outcome, given))));
                }
                up.quiet = QUIET;
                self.route.settled();
                self.proven(now, at);
            }
            Answer::Alive(id) if self.id == Some(id) => {
                let at = up.asked_alive_at.take();
                self.proven(now, at);
            }
            Answer::Expired(id) if self.id == Some(id) => self.expired(now),
            Answer::Interface(interface) => {
                self.reply_to(Question::Interface, &Reply::Interface(interface));
            }
            Answer::NoInterface(refusal) => self.refuse_questions(&Error::Refusal(refusal)),
            Answer::Status(status) => self.reply_to(Question::Status, &Reply::Status(status)),
            Answer::Waiting(why) => self.waits(now, why),
            Answer::Members(members) => self.route.told_members(members),
            Answer::Leader(leader) => {
                let (address, replica) = (up.address, up.replica);
                up.leader = None;
                if leader != replica && self.route.told_leader(leader, address) {
                    self.hang_up(now);
                }
            }
            Answer::Parked { sequence } => {
                let at = self.calls.sent_at(sequence);
                self.calls.park(sequence);
                up.quiet = QUIET;
                self.route.settled();
                self.proven(now, at);
            }
            // Answers to what was asked in another life of this session.
            Answer::Opened(_)
            | Answer::NotOpened(_)
            | Answer::Alive(_)
            | Answer::Expired(_)
            | Answer::Closed(_)
            // To operators, and those who ask for backups: they have no session.
            | Answer::Ordered(_)
            | Answer::Backup(..)
            | Answer::Part(_)
            | Answer::NoBackup(_) => {}
        }
        let is_open = !self.questions.is_empty() || self.calls.are_owed();
        if let Link::Up(up) = &mut self.link {
            // Nor may a session whose replica is out of touch be left with it, idle as it may be.
            let is_stuck = up.stuck_at.is_some() && self.id.is_some();
            let is_due = is_open || is_stuck || up.opening.is_some() || up.proving;
            up.asked_at = is_due.then_some(now);
        }
    }

    /// The replica can do nothing for now, and why.
    fn waits(&mut self, now: Duration, why: String) {
        let Link::Up(up) = &mut self.link else { return };
        if up.stuck_at.is_none() {
            // It is asked once more before it is left.
            (up.stuck_at, up.quiet) = (Some(now), QUIET);
        }
        self.cut_off_at.get_or_insert(now);
        self.waiting = Some(why);
    }

    fn refuse_questions(&mut self, error: &Error) {
        let same = |(_, asked): &mut (Ticket, Question)| *asked == Question::Interface;
        for (ticket, _) in self.questions.extract_if(.., same) {
            self.done.push_back((ticket, Err(error.clone())));
        }
    }

    fn reply_to(&mut self, question: Question, reply: &Reply) {
        let same = |(_, asked): &mut (Ticket, Question)| *asked == question;
        for (ticket, _) in self.questions.extract_if(.., same) {
            self.done.push_back((ticket, Ok(reply.clone())));
        }
    }

    /// The replica will not have us. With a session that is no verdict yet: the session's own
    /// cluster may be at another address.
    fn refused(&mut self, now: Duration, address: SocketAddr, why: String) {
        if self.id.is_some() {
            self.foreign = true;
            return self.lost(now, why);
        }
        self.fail_unsent(&Error::Refused(format!("the replica at {address} refuses: {why}")));
        self.hang_up(now);
    }

    /// After a round in which nobody but strangers answered, the session's cluster is no more.
    pub(super) fn judge_round(&mut self) {
        if self.foreign && self.route.is_round_over() {
            self.foreign = false;
            self.lose_session();
        }
    }

    /// The session is gone; another one needs a connection of its own.
    fn expired(&mut self, now: Duration) {
        self.lose_session();
        if let Link::Up(up) = &self.link {
            self.route.again(up.address);
            self.hang_up(now);
        }
    }
}
