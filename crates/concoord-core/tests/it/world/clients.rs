//! Clients that append, and sometimes ask for the length.

use bytes::Bytes;
use concoord_core::call::{Call, ConnectionId, Outcome, Refusal, SessionId};
use concoord_core::replica::Event;
use concoord_core::value::{Arguments, Value};
use concoord_core::wire::{Answer, ClientHello, Request, Welcome};

use super::{Happening, Time, World};
use crate::history::{Kind, Operation};

/// How long a client waits before it goes to another replica, at least.
const PATIENCE: Time = 400_000;

/// A client that appends, and sometimes asks for the length.
pub(super) struct Client {
    pub(super) at: usize,
    pub(super) connection: ConnectionId,
    pub(super) session: Option<SessionId>,
    pub(super) sequence: u64,
    pub(super) open: Option<usize>,
    pub(super) timer: u64,
    pub(super) left: usize,
}

impl World {
    pub(crate) fn add_client(&mut self, calls: usize) {
        let client = self.clients.len();
        let at = self.dice.below(self.nodes.len() as u64) as usize;
        self.clients.push(Client {
            at,
            connection: ConnectionId(0),
            session: None,
            sequence: 0,
            open: None,
            timer: 0,
            left: calls,
        });
        self.connect(client);
    }

    pub(crate) fn are_clients_done(&self) -> bool {
        self.clients.iter().all(|client| client.left == 0 && client.open.is_none())
    }

    /// The client goes to another replica and asks there again.
    pub(super) fn connect(&mut self, client: usize) {
        self.owner.remove(&self.clients[client].connection);
        let before = (self.clients[client].at, self.clients[client].connection);
        let life = self.nodes[before.0].life;
        self.at(self.now + 50, Happening::Hear(before.0, life, Event::Disconnected(before.1)));
        let at = self.dice.below(self.nodes.len() as u64) as usize;
        self.count += 1;
        let connection = ConnectionId(self.count);
        self.owner.insert(connection, client);
        let this = &mut self.clients[client];
        (this.at, this.connection) = (at, connection);
        this.timer += 1;
        let timer = this.timer;
        let patience = PATIENCE + self.dice.below(PATIENCE);
        self.at(self.now + patience, Happening::ClientTimer(client, timer));
        let hello = ClientHello { class: None, session: None };
        let there = self.nodes[at].replica.as_ref().filter(|_| !self.is_paused(at));
        if !there
            .is_some_and(|replica| matches!(replica.greet_client(&hello), Welcome::Client { .. }))
        {
            return;
        }
        match (self.clients[client].session, self.clients[client].open) {
            (None, _) => self.ask(client, Request::Open),
            (Some(_), Some(_)) => {
                self.seen("call asked again");
                self.ask_call(client);
            }
            (Some(_), None) => self.next_call(client),
        }
    }

    pub(super) fn ask(&mut self, client: usize, request: Request) {
        let (at, connection) = (self.clients[client].at, self.clients[client].connection);
        let when = self.now + 30 + self.dice.below(300);
        self.at(when, Happening::ToReplica(at, connection, request.clone()));
        if self.dice.chance(3) {
            let again = when + self.dice.below(1000);
            self.at(again, Happening::ToReplica(at, connection, request));
        }
    }

    pub(super) fn next_call(&mut self, client: usize) {
        if self.clients[client].left == 0 {
            self.clients[client].timer += 1;
            return;
        }
        self.clients[client].left -= 1;
        self.clients[client].sequence += 1;
        let number = self.history.len();
        let kind = if self.dice.chance(25) {
            Kind::Length
        } else if self.poisoned && self.dice.chance(4) {
            Kind::Append(-1 - number as i64)
        } else {
            Kind::Append(number as i64)
        };
        self.history.push(Operation { kind, invoked: self.now, returned: None });
        self.clients[client].open = Some(number);
        self.ask_call(client);
    }

    pub(super) fn ask_call(&mut self, client: usize) {
        let this = &self.clients[client];
        let (method, arguments) = match self.history[this.open.unwrap()].kind {
            Kind::Length => ("length", Bytes::new()),
            Kind::Append(item) => {
                let mut positional = vec![Value::Int(item)];
                if self.padding > 0 {
                    positional.push(Value::Bytes(vec![0; self.padding]));
                }
                let arguments = Arguments { positional, keyword: vec![] };
                ("append", arguments.encode().unwrap())
            }
        };
        let call = Call {
            session: this.session.unwrap(),
            sequence: this.sequence,
            acked: this.sequence,
            method: method.into(),
            arguments,
            ..Call::default()
        };
        self.ask(client, Request::Call(call));
    }

    pub(super) fn answered(&mut self, client: usize, connection: ConnectionId, answer: Answer) {
        if self.clients[client].connection != connection {
            return;
        }
        match answer {
            Answer::Opened(session) if self.clients[client].session.is_none() => {
                self.clients[client].session = Some(session);
                self.next_call(client);
            }
            Answer::Reply { sequence, outcome } if sequence == self.clients[client].sequence => {
                let Some(number) = self.clients[client].open else { return };
                match outcome {
                    Outcome::Returned(bytes) => match Value::decode(&bytes).unwrap() {
                        Value::Int(int) => self.history[number].returned = Some((self.now, int)),
                        other => panic!("{other:?} came back"),
                    },
                    // Nobody knows whether that call ran; the client starts anew.
                    Outcome::Refused(Refusal::SessionExpired) => {
                        self.clients[client].session = None;
                        self.clients[client].sequence = 0;
                        self.clients[client].open = None;
                        self.connect(client);
                        return;
                    }
                    Outcome::Refused(Refusal::ObjectCrashed) if self.hosted => {}
                    other => panic!("call {number} ended as {other:?}"),
                }
                self.clients[client].open = None;
                self.clients[client].timer += 1;
                let (timer, patience) =
                    (self.clients[client].timer, PATIENCE + self.dice.below(PATIENCE));
                self.at(self.now + patience, Happening::ClientTimer(client, timer));
                self.next_call(client);
            }
            _ => {}
        }
    }
}
