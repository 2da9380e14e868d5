//! A client that does what it is told and nothing else: no retries, no redirects.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use concoord_core::call::{Call, Outcome, SessionId};
use concoord_core::limits::FRAME_BYTES_MAX;
use concoord_core::value::Value;
use concoord_core::wire::{
    Answer, ClientHello, Hello, PREAMBLE, Request, Status, Welcome, read_message, take_frame,
    write_frame,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cluster::SOON;

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pending: BytesMut,
    session: SessionId,
    sequence: u64,
}

impl Client {
    /// Connects to that replica and opens a session.
    pub(crate) fn open(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.send(&Request::Open);
        client.session = client.await_answer(|answer| match answer {
            Answer::Opened(session) => Some(session),
            _ => None,
        });
        client
    }

    /// Ends the session.
    pub(crate) fn close(mut self) {
        self.send(&Request::Close(self.session));
        let session = self.session;
        self.await_answer(|answer| (answer == Answer::Closed(session)).then_some(()));
    }

    /// Connects to that replica, once it takes clients.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let until = Instant::now() + SOON;
        loop {
            let mut client = Self::dial(address);
            match client.greet() {
                Welcome::Client { .. } => return client,
                other => assert!(Instant::now() < until, "{other:?}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, pending: BytesMut::new(), session: SessionId(0), sequence: 0 }
    }

    pub(crate) fn greet(&mut self) -> Welcome {
        self.stream.write_all(&PREAMBLE).unwrap();
        self.send(&Hello::Client(ClientHello { class: None, session: None }));
        self.receive().expect("it is answered")
    }

    pub(crate) fn send<M: Serialize>(&mut self, message: &M) {
        self.try_send(message).unwrap();
    }

    /// For those that may be hung up on meanwhile.
    pub(crate) fn try_send<M: Serialize>(&mut self, message: &M) -> io::Result<()> {
        let mut frame = BytesMut::new();
        write_frame(message, &mut frame);
        self.stream.write_all(&frame)
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) fn receive<M: DeserializeOwned>(&mut self) -> Option<M> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(frame) = take_frame(&mut self.pending, FRAME_BYTES_MAX).unwrap() {
                return Some(read_message(&frame).unwrap());
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(bytes) => self.pending.extend_from_slice(&chunk[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    fn await_answer<T>(&mut self, mut wanted: impl FnMut(Answer) -> Option<T>) -> T {
        loop {
            let answer = self.receive().expect("the replica goes on");
            if let Some(found) = wanted(answer) {
                return found;
            }
        }
    }

    /// Asks for a call without waiting for its reply; returns its number.
    pub(crate) fn ask(&mut self, method: &str) -> u64 {
        self.ask_with(method, Bytes::new())
    }

    pub(crate) fn ask_with(&mut self, method: &str, arguments: Bytes) -> u64 {
        self.sequence += 1;
        let call = Call {
            session: self.session,
            sequence: self.sequence,
            method: method.into(),
            arguments,
            ..Call::default()
        };
        self.send(&Request::Call(call));
        self.sequence
    }

    pub(crate) fn reply(&mut self, number: u64) -> Outcome {
        self.await_answer(|answer| match answer {
            Answer::Reply { sequence, outcome } if sequence == number => Some(outcome),
            _ => None,
        })
    }

    /// Whichever comes next.
    pub(crate) fn next_reply(&mut self) -> (u64, Outcome) {
        self.await_answer(|answer| match answer {
            Answer::Reply { sequence, outcome } => Some((sequence, outcome)),
            _ => None,
        })
    }

    pub(crate) fn increment(&mut self) {
        assert_eq!(self.call("increment"), Value::None);
    }

    pub(crate) fn value(&mut self) -> i64 {
        self.integer("getvalue")
    }

    pub(crate) fn integer(&mut self, method: &str) -> i64 {
        match self.call(method) {
            Value::Int(value) => value,
            other => panic!("{other:?} is no integer"),
        }
    }

    fn call(&mut self, method: &str) -> Value {
        let number = self.ask(method);
        match self.reply(number) {
            Outcome::Returned(bytes) => Value::decode(&bytes).unwrap(),
            other => panic!("{method}: {other:?}"),
        }
    }

    pub(crate) fn status(&mut self) -> Status {
        self.send(&Request::Status);
        self.await_answer(|answer| match answer {
            Answer::Status(status) => Some(*status),
            _ => None,
        })
    }
}
