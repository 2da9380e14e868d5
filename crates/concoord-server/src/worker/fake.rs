//! A worker for tests: the test program itself, started again to run [`fake_worker`] only.
//!
//! The tests of this crate's parts and those of whole replicas both hold this file.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use concoord_core::call::Outcome;
use concoord_core::limits::FRAME_BYTES_MAX;
use concoord_core::object::{Interface, Method};
use concoord_core::value::Value;
use concoord_core::wire::{
    CANCEL, Done, FromWorker, HostedCall, LOST, REMOVE, SKIPPED, ToWorker, WAKE, Written,
    read_message, take_frame, write_frame,
};
use rustix::cmsg_space;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Where there is a file of this name in the test's folder, the object dies of the end of a session,
/// and adds a letter to the file.
pub(crate) const DIES_OF_LOST: &str = "dies_of_lost";

/// Where there is a file of this name in the test's folder, nothing ever comes of a state that is
/// to be written down.
pub(crate) const HANGS_OF_SNAPSHOT: &str = "hangs_of_snapshot";

/// Where there is a file of this name in the test's folder, the object's source is another one.
pub(crate) const CHANGED: &str = "changed";

/// An object with a total, and with methods that misbehave.
#[derive(Default)]
struct Fake {
    total: u64,
    scratch: PathBuf,
}

impl Fake {
    fn run(&mut self, method: &str) -> u64 {
        match method {
            "add" => self.total += 1,
            LOST if self.scratch.join(DIES_OF_LOST).exists() => {
                let deaths = self.scratch.join(DIES_OF_LOST);
                let mut deaths = File::options().append(true).open(deaths).expect("it is there");
                deaths.write_all(b"x").expect("there is room");
                process::exit(7)
            }
            // Else the end of a session, and the like, mean nothing to it.
            "total" | LOST | CANCEL | WAKE | REMOVE | SKIPPED => {}
            "die" => process::exit(7),
            "hang" => thread::sleep(Duration::from_secs(600)),
            "die_once" if self.first_time() => process::exit(7),
            "hang_once" if self.first_time() => thread::sleep(Duration::from_secs(600)),
            "die_once" | "hang_once" => self.total += 100,
            other => panic!("no method {other}"),
        }
        self.total
    }

    fn first_time(&self) -> bool {
        File::create_new(self.scratch.join("tried")).is_ok()
    }

    fn answer(&mut self, asked: ToWorker, pipes: &mut VecDeque<File>) -> FromWorker {
        match asked {
            ToWorker::Load { classes } if classes == ["fake.Missing"] => {
                FromWorker::NotLoaded("there is no class Missing in fake".into())
            }
            ToWorker::Load { classes } if classes == ["fake.Dies"] => {
                io::stderr().write_all(b"Traceback: something is wrong\n").expect("it is piped");
                process::exit(3)
            }
            ToWorker::Load { mut classes } => {
                let class = classes.remove(0);
                if class == "fake.Hangs" {
                    thread::sleep(Duration::from_secs(600));
                }
                // The class names the folder, so that each test has its own.
                self.scratch = class.clone().into();
                let changed = self.scratch.join(CHANGED).exists();
                let runtime = if changed { "fake 2" } else { "fake 1" }.into();
                FromWorker::Loaded { interfaces: vec![interface(class)], runtime }
            }
            ToWorker::Apply { calls, .. } | ToWorker::Read { calls, .. } => {
                let mut run = |call: &HostedCall| {
                    let total = Value::Int(self.run(&call.method).try_into().expect("it is small"));
                    Done::Ended(call.number, Outcome::Returned(total.encode().expect("it is flat")))
                };
                FromWorker::Done { done: calls.iter().map(&mut run).collect(), wake_at: None }
            }
            ToWorker::Snapshot(_) if self.scratch.join(HANGS_OF_SNAPSHOT).exists() => {
                std::mem::forget(pipes.pop_front());
                FromWorker::Done { done: Vec::new(), wake_at: None }
            }
            ToWorker::Snapshot(number) | ToWorker::Settle(number) => {
                // With ballast, so that it does not fit into the pipe.
                let mut state = vec![0; 2 << 20];
                state[..8].copy_from_slice(&self.total.to_le_bytes());
                let mut pipe = pipes.pop_front().expect("a pipe comes along");
                pipe.write_all(&state).expect("somebody reads");
                let bytes = state.len() as u64;
                FromWorker::Snapshot(number, Ok(Written { bytes, has_sets: false }))
            }
            ToWorker::Restore => {
                let mut state = Vec::new();
                let mut pipe = pipes.pop_front().expect("a pipe comes along");
                pipe.read_to_end(&mut state).expect("somebody writes");
                let Some(total) = state.first_chunk() else {
                    return FromWorker::Restored(Err("too short".into()));
                };
                self.total = u64::from_le_bytes(*total);
                FromWorker::Restored(Ok(()))
            }
        }
    }
}

fn interface(class: String) -> Interface {
    let method =
        |name: &str| Method { name: name.into(), read_only: name == "total", ..Method::default() };
    let names = ["add", "total", "die", "hang", "die_once", "hang_once"];
    Interface { class, doc: String::new(), methods: names.map(method).into() }
}

#[test]
#[ignore = "the worker that the other tests start"]
fn fake_worker() {
    let socket = io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut socket = UnixStream::from(socket);
    let (mut pending, mut pipes) = (BytesMut::new(), VecDeque::new());
    let mut fake = Fake::default();
    loop {
        while let Some(frame) = take_frame(&mut pending, FRAME_BYTES_MAX).unwrap() {
            let mut answer = BytesMut::new();
            write_frame(&fake.answer(read_message(&frame).unwrap(), &mut pipes), &mut answer);
            socket.write_all(&answer).unwrap();
        }
        if receive(&socket, &mut pending, &mut pipes) == 0 {
            process::exit(0);
        }
    }
}

fn receive(socket: &UnixStream, pending: &mut BytesMut, pipes: &mut VecDeque<File>) -> usize {
    let mut chunk = vec![0; 1 << 16];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [IoSliceMut::new(&mut chunk)];
    let Ok(received) = recvmsg(socket, parts, &mut beside, RecvFlags::CMSG_CLOEXEC) else {
        return 0;
    };
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            pipes.extend(descriptors.map(|descriptor: OwnedFd| File::from(descriptor)));
        }
    }
    pending.extend_from_slice(&chunk[..received.bytes]);
    received.bytes
}

/// What starts it; `name` is that of [`fake_worker`] in this test program.
pub(crate) fn command(name: &str) -> Vec<OsString> {
    let this = env::current_exe().expect("we run");
    let arguments = [name, "--exact", "--ignored", "--nocapture"].map(OsString::from);
    [this.into()].into_iter().chain(arguments).collect()
}
