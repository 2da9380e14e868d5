//! A replica that does what a test tells it to.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use concoord_core::call::{Call, Outcome, SessionId};
use concoord_core::limits::FRAME_BYTES_MAX;
use concoord_core::view::ClusterId;
use concoord_core::wire::{
    Answer, ClientHello, Hello, PREAMBLE, Request, Welcome, read_message, take_frame, write_frame,
};

use crate::Value;

/// Longer than anything takes here, so that a test which waits in vain ends.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const SESSION: SessionId = SessionId(7);

/// A port, and who connects to it.
pub(crate) struct Script {
    pub(crate) address: SocketAddr,
    streams_rx: Mutex<mpsc::Receiver<TcpStream>>,
}

/// A client at the other end of a connection.
pub(crate) struct Guest {
    pub(crate) hello: ClientHello,
    address: SocketAddr,
    stream: TcpStream,
    inbox: BytesMut,
    heard: VecDeque<Request>,
}

impl Script {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (streams_tx, streams_rx) = mpsc::channel();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if streams_tx.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { address, streams_rx: Mutex::new(streams_rx) }
    }

    pub(crate) fn stream(&self) -> TcpStream {
        let stream = self.streams_rx.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The next client, with its hello.
    pub(crate) fn accept(&self) -> Guest {
        let mut stream = self.stream();
        let mut preamble = [0; PREAMBLE.len()];
        stream.read_exact(&mut preamble).unwrap();
        assert_eq!(preamble, PREAMBLE);
        let hello = ClientHello { class: None, session: None };
        let (address, inbox) = (self.address, BytesMut::new());
        let mut guest = Guest { hello, address, stream, inbox, heard: VecDeque::new() };
        let frame = guest.frame().unwrap();
        let Hello::Client(hello) = read_message(&frame).unwrap() else { panic!("no client") };
        guest.hello = hello;
        guest
    }

    /// The next client, welcomed by this replica as the leader.
    pub(crate) fn welcome(&self) -> Guest {
        let mut guest = self.accept();
        guest.welcome(self.address, &[self.address], 10_000);
        guest
    }

    /// The next client, with an open session.
    pub(crate) fn open(&self) -> Guest {
        let mut guest = self.welcome();
        assert_eq!(guest.hear(), Some(Request::Open));
        guest.say(&Answer::Opened(SESSION));
        guest
    }
}

impl Guest {
    pub(crate) fn welcome(&mut self, leader: SocketAddr, members: &[SocketAddr], timeout_ms: u64) {
        self.say(&Welcome::Client {
            cluster: ClusterId(1),
            replica: self.address,
            leader: Some(leader),
            members: members.to_vec(),
            class: "Counter".into(),
            session_timeout_ms: timeout_ms,
        });
    }

    pub(crate) fn say<M: serde::Serialize>(&mut self, message: &M) {
        let mut bytes = BytesMut::new();
        write_frame(message, &mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Answers a call with its own number.
    pub(crate) fn reply(&mut self, call: &Call) {
        let outcome = Outcome::Returned(Value::Int(call.sequence as i64).encode().unwrap());
        self.say(&Answer::Reply { sequence: call.sequence, outcome });
    }

    /// The next request; `None` once the client has hung up.
    pub(crate) fn hear(&mut self) -> Option<Request> {
        if self.heard.is_empty() {
            let frame = self.frame()?;
            self.heard.push_back(read_message(&frame).unwrap());
        }
        self.heard.pop_front()
    }

    /// The next call. Keep-alives on the way are answered.
    pub(crate) fn call(&mut self) -> Call {
        loop {
            match self.hear() {
                Some(Request::Call(call)) => return call,
                Some(Request::KeepAlive(id)) => self.say(&Answer::Alive(id)),
                other => panic!("a call was expected, not {other:?}"),
            }
        }
    }

    /// Serves the client until it hangs up; returns how it said goodbye.
    pub(crate) fn serve(mut self) -> Option<SessionId> {
        let mut goodbye = None;
        while let Some(request) = self.hear() {
            match request {
                Request::Open => self.say(&Answer::Opened(SESSION)),
                Request::Call(call) => self.reply(&call),
                Request::KeepAlive(id) => self.say(&Answer::Alive(id)),
                Request::Close(id) => goodbye = Some(id),
                Request::Cancel(_)
                | Request::Interface(_)
                | Request::Status
                | Request::Order(_)
                | Request::Backup => {
                    panic!("not part of this script")
                }
            }
        }
        goodbye
    }

    fn frame(&mut self) -> Option<bytes::Bytes> {
        loop {
            if let Some(frame) = take_frame(&mut self.inbox, FRAME_BYTES_MAX).unwrap() {
                return Some(frame);
            }
            let mut room = vec![0; 64 << 10];
            match self.stream.read(&mut room) {
                Ok(0) => return None,
                Ok(count) => self.inbox.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the client says nothing: {error}"),
            }
        }
    }
}
