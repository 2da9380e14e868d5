//! What the tasks of one replica share: its inbox and its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use concoord_core::call::ConnectionId;
use concoord_core::durable::Snapshot;
use concoord_core::limits::{CLIENTS_BEGUN_BYTES_MAX, PEERS_BEGUN_BYTES_MAX};
use concoord_core::replica::{Event, Replica};
use concoord_core::snapshot::About;
use concoord_core::view::Process;
use concoord_core::wire::{Answer, Status};
use serde::Serialize;
use tokio::sync::Notify;

use crate::connection::{Connection, Room};
use crate::death::DeathWatch;
use crate::names::Names;
use crate::peers::Peers;
use crate::task::Task;
use crate::transfer;

/// Borrowed for moments only, never across an await: all tasks run on one thread.
pub(crate) struct Shell {
    pub(crate) replica: RefCell<Replica>,
    pub(crate) peers: Peers,
    pub(crate) deaths: DeathWatch,
    pub(crate) names: Rc<Names>,
    /// For frames that clients and strangers begin, and for those of peers.
    pub(crate) client_room: Room,
    pub(crate) peer_room: Room,
    clients: RefCell<HashMap<ConnectionId, Rc<Connection>>>,
    connection_last: Cell<u64>,
    inbox: RefCell<Vec<Event>>,
    posted: Notify,
    pub(crate) to_peers: Outbox,
    pub(crate) to_clients: Outbox,
    backups: RefCell<Vec<Task>>,
}

impl Shell {
    /// `source` is the address that connections to peers are made from. Those of clients are
    /// numbered after `first`: what an earlier life of a durable replica asked for is no later
    /// one's.
    pub(crate) fn new(
        replica: Replica,
        source: IpAddr,
        process: Option<Process>,
        first: u64,
        names: Rc<Names>,
    ) -> Self {
        Self {
            replica: RefCell::new(replica),
            peers: Peers::new(source),
            deaths: DeathWatch::new(process),
            names,
            client_room: Room::new(CLIENTS_BEGUN_BYTES_MAX),
            peer_room: Room::new(PEERS_BEGUN_BYTES_MAX),
            clients: RefCell::default(),
            connection_last: Cell::new(first),
            inbox: RefCell::default(),
            posted: Notify::new(),
            to_peers: Outbox::default(),
            to_clients: Outbox::default(),
            backups: RefCell::default(),
        }
    }

    /// Leaves an event for the next turn.
    pub(crate) fn post(&self, event: Event) {
        self.inbox.borrow_mut().push(event);
        self.wake();
    }

    /// Has the driver take a turn.
    pub(crate) fn wake(&self) {
        self.posted.notify_one();
    }

    /// Waits for something to take a turn for.
    pub(crate) async fn woken(&self) {
        self.posted.notified().await;
    }

    /// Swaps what was posted with the empty `events`.
    pub(crate) fn take_posted(&self, events: &mut Vec<Event>) {
        std::mem::swap(&mut *self.inbox.borrow_mut(), events);
    }

    pub(crate) fn add_client(&self, connection: &Rc<Connection>) -> ConnectionId {
        let id = ConnectionId(self.connection_last.get() + 1);
        self.connection_last.set(id.0);
        self.clients.borrow_mut().insert(id, Rc::clone(connection));
        id
    }

    pub(crate) fn remove_client(&self, id: ConnectionId) {
        self.clients.borrow_mut().remove(&id);
        self.post(Event::Disconnected(id));
    }

    /// Tells a client, if it is still there.
    pub(crate) fn answer(&self, id: ConnectionId, mut answer: Answer) {
        let clients = self.clients.borrow();
        let Some(connection) = clients.get(&id) else { return };
        if let Answer::Status(status) = &mut answer {
            status.connections = clients.len() as u64;
            status.names = self.names.state();
        }
        self.to_clients.send(connection, &answer);
    }

    /// Sends a client a backup, if it is still there.
    pub(crate) fn give_backup(&self, id: ConnectionId, about: About, snapshot: Snapshot) {
        let connection = self.clients.borrow().get(&id).map(Rc::clone);
        let Some(connection) = connection else { return };
        let mut backups = self.backups.borrow_mut();
        backups.retain(|backup| !backup.is_over());
        backups.push(Task::spawn(transfer::give(connection, about, snapshot)));
    }

    /// Ends a client's connection.
    pub(crate) fn disconnect(&self, id: ConnectionId) {
        if let Some(connection) = self.clients.borrow().get(&id) {
            connection.flush();
            connection.close();
        }
    }

    /// Ends all tasks that the shell keeps, and that keep it.
    pub(crate) fn end(&self) {
        self.peers.end();
        self.deaths.end();
        self.backups.borrow_mut().clear();
    }

    /// How the replica is, now, but for its digest: as quick where the object is large.
    pub(crate) fn status(&self) -> Status {
        let connections = self.clients.borrow().len() as u64;
        Status { connections, names: self.names.state(), ..self.replica.borrow().glance() }
    }
}

/// What a turn has for the connections of one kind: one write each, when it is flushed.
#[derive(Default)]
pub(crate) struct Outbox(RefCell<Vec<Rc<Connection>>>);

impl Outbox {
    pub(crate) fn send<M: Serialize>(&self, connection: &Rc<Connection>, message: &M) {
        if connection.push(message) {
            self.0.borrow_mut().push(Rc::clone(connection));
        }
    }

    pub(crate) fn flush(&self) {
        for connection in self.0.borrow_mut().drain(..) {
            connection.flush();
        }
    }
}
