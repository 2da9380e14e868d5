//! The worker: a process of Python that hosts the object of one replica.
//!
//! It speaks frames of [`ToWorker`] and [`FromWorker`] over the socket that it got as standard
//! input, and ends when that is closed. What Python must do of it (import, clock, fork) is in
//! `concoord._worker`. There is one thread, since the process forks to write a snapshot down.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, PipeReader, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use concoord_core::call::{CallId, ObjectName, Outcome, Refusal, SessionId};
use concoord_core::limits::{RESULT_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use concoord_core::object::CREATE;
use concoord_core::value::{Arguments, Exception, Value};
use concoord_core::wire::{
    CANCEL, Done, FromWorker, HostedCall, LOST, REMOVE, SKIPPED, STEPS, ToWorker, WAKE, Written,
    read_message, take_frame, write_frame,
};
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::interface::{self, InterfaceTuple};
use crate::value::{arguments_to_python, from_python, raised};

/// Bytes of a traceback that travel with an exception: its end, which says most.
const TRACEBACK_BYTES_MAX: usize = 32 << 10;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// Bytes of a frame from our own replica: all reads of one of its turns travel together.
const WORKER_FRAME_BYTES_MAX: usize = 1 << 30;

/// Bytes of results after which further ones travel in a frame of their own.
const DONE_BYTES: usize = 1 << 20;

/// Bytes that a result takes beside its value, at most: three numbers and what it is.
const DONE_OVERHEAD: usize = 48;

/// Bytes of answers that are sent before the last call is done.
const OUTGOING_BYTES: usize = 8 << 20;

/// How long answers gather while there is more to do. What is done is said before what may take
/// long: the replica counts the time of the first call that it has no answer to, and takes that for
/// what a worker died of.
const ANSWER_AFTER: Duration = Duration::from_millis(2);

/// Bytes of what the process that writes a snapshot down says of it: a sentence at most.
const SAID_BYTES_MAX: usize = 64 << 10;

/// The worker's end of the connection to its replica.
#[pyclass(frozen, module = "concoord._concoord")]
pub(crate) struct Worker(Mutex<Option<UnixStream>>);

#[pymethods]
impl Worker {
    /// Takes the socket over that is standard input. The process dies with its replica from now
    /// on, even in the middle of a call that never ends.
    #[new]
    fn new() -> PyResult<Self> {
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        socket.peer_addr()?;
        Ok(Self(Mutex::new(Some(socket))))
    }

    /// Does what the replica asks of `host` until the replica is gone.
    #[pyo3(signature = (host, /))]
    fn serve(&self, host: Bound<'_, PyAny>) -> PyResult<()> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let socket = socket.ok_or_else(|| PyRuntimeError::new_err("this worker serves already"))?;
        let (incoming, outgoing) = (BytesMut::new(), BytesMut::new());
        let (pipes, snapshots) = (VecDeque::new(), vec![]);
        Service {
            host,
            socket,
            class: String::new(),
            tells: false,
            incoming,
            pipes,
            outgoing,
            written: Instant::now(),
            done: vec![],
            done_bytes: 0,
            snapshots,
        }
        .run()
    }
}

struct Service<'py> {
    host: Bound<'py, PyAny>,
    socket: UnixStream,
    /// The first class.
    class: String,
    /// Whether objects are told who calls them, and so can have callers wait.
    tells: bool,
    incoming: BytesMut,
    /// The replica's pipes, each for the next state that it asks for or brings.
    pipes: VecDeque<OwnedFd>,
    /// Answers gather here and leave together, once all that has arrived is done.
    outgoing: BytesMut,
    /// When some last left, or none waited.
    written: Instant,
    /// What is done and not in a frame yet.
    done: Vec<Done>,
    done_bytes: usize,
    snapshots: Vec<Snapshot>,
}

/// A snapshot that a forked process is writing down.
struct Snapshot {
    number: u64,
    process: i32,
    /// What that process says of it in the end.
    pipe: PipeReader,
    said: Vec<u8>,
    /// The process has closed the pipe.
    over: bool,
}

impl<'py> Service<'py> {
    fn run(mut self) -> PyResult<()> {
        let py = self.host.py();
        loop {
            self.written = Instant::now();
            while let Some(frame) = self.next_frame()? {
                let message = read_message(&frame).map_err(to_error)?;
                self.serve(message)?;
                if self.written.elapsed() > ANSWER_AFTER {
                    self.write()?;
                }
            }
            let Self { socket, incoming, pipes, outgoing, snapshots, .. } = &mut self;
            let more = py.detach(|| {
                socket.write_all(outgoing)?;
                outgoing.clear();
                receive(socket, incoming, pipes, snapshots)
            });
            match more {
                Ok(true) => self.finish_snapshots()?,
                Ok(false) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn next_frame(&mut self) -> PyResult<Option<Bytes>> {
        take_frame(&mut self.incoming, WORKER_FRAME_BYTES_MAX).map_err(to_error)
    }

    fn serve(&mut self, message: ToWorker) -> PyResult<()> {
        let py = self.host.py();
        let answer = match message {
            ToWorker::Load { classes } => match self.load(classes) {
                Ok(answer) => answer,
                Err(error) => FromWorker::NotLoaded(sentence(py, &error)),
            },
            ToWorker::Apply { index, time_ms, clock_ms, calls } => {
                let leaves_out = calls.first().is_some_and(|call| call.method == SKIPPED);
                self.host.call_method1("begin", (index, time_ms, clock_ms, leaves_out))?;
                self.apply_all(calls)?;
                self.last_part()?
            }
            ToWorker::Read { time_ms, calls } => {
                self.host.call_method1("begin_read", (time_ms,))?;
                for call in calls {
                    self.answer_in_time()?;
                    let read = self.read(&call)?;
                    self.add(read)?;
                }
                self.last_part()?
            }
            ToWorker::Snapshot(number) => {
                let pipe = self.pipe()?;
                match self.start_snapshot(number, &pipe, "snapshot") {
                    Ok(snapshot) => {
                        self.snapshots.push(snapshot);
                        return Ok(());
                    }
                    Err(error) => FromWorker::Snapshot(number, Err(sentence(py, &error))),
                }
            }
            ToWorker::Settle(number) => {
                let pipe = self.pipe()?;
                match self.start_snapshot(number, &pipe, "settle") {
                    Ok(snapshot) => {
                        self.snapshots.push(snapshot);
                        FromWorker::Settled(number, Ok(()))
                    }
                    Err(error) => {
                        let why = sentence(py, &error);
                        let settled = FromWorker::Settled(number, Err(why.clone()));
                        write_frame(&settled, &mut self.outgoing);
                        FromWorker::Snapshot(number, Err(why))
                    }
                }
            }
            ToWorker::Restore => {
                let pipe = self.pipe()?;
                let restored = self.host.call_method1("restore", (pipe.as_raw_fd(),));
                FromWorker::Restored(restored.map(drop).map_err(|error| sentence(py, &error)))
            }
        };
        write_frame(&answer, &mut self.outgoing);
        Ok(())
    }

    fn load(&mut self, classes: Vec<String>) -> PyResult<FromWorker> {
        let loaded = self.host.call_method1("load", (&classes,))?;
        self.class = classes.into_iter().next().unwrap_or_default();
        self.tells = self.host.getattr("tells")?.is_truthy()?;
        let (interfaces, runtime) = loaded.extract::<(Vec<InterfaceTuple>, String)>()?;
        let interfaces = interfaces.into_iter().map(interface::from_python);
        Ok(FromWorker::Loaded { interfaces: interfaces.collect::<PyResult<_>>()?, runtime })
    }

    /// The pipe that came with the message at hand.
    fn pipe(&mut self) -> PyResult<OwnedFd> {
        let pipe = self.pipes.pop_front();
        pipe.ok_or_else(|| PyValueError::new_err("a message lacks its pipe"))
    }

    fn apply_all(&mut self, calls: Vec<HostedCall>) -> PyResult<()> {
        for call in calls {
            self.answer_in_time()?;
            // By a timer that was due before the first call, that is.
            self.add_woken(call.number)?;
            self.enter(&call)?;
            let ended = self.apply(call)?;
            self.add_woken(ended.number())?;
            self.add(ended)?;
        }
        Ok(())
    }

    /// Adds what is done to the part that travels next.
    fn add(&mut self, done: Done) -> PyResult<()> {
        let size = match &done {
            Done::Ended(_, outcome) | Done::Woken(_, _, outcome) => outcome.size(),
            Done::Parked(_) => 0,
        };
        if !self.done.is_empty() && self.done_bytes + size > DONE_BYTES {
            self.end_part()?;
        }
        self.done_bytes += size + DONE_OVERHEAD;
        self.done.push(done);
        if self.outgoing.len() > OUTGOING_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Says what is done, if that took long, before the next call of a frame begins.
    fn answer_in_time(&mut self) -> PyResult<()> {
        if self.done.is_empty() || self.written.elapsed() <= ANSWER_AFTER {
            return Ok(());
        }
        self.end_part()?;
        self.write()
    }

    fn write(&mut self) -> PyResult<()> {
        let Self { host, socket, outgoing, .. } = self;
        host.py().detach(|| socket.write_all(outgoing))?;
        outgoing.clear();
        self.written = Instant::now();
        Ok(())
    }

    fn end_part(&mut self) -> PyResult<()> {
        let part = self.part()?;
        write_frame(&part, &mut self.outgoing);
        Ok(())
    }

    /// What is left to be said of the calls that were asked.
    fn last_part(&mut self) -> PyResult<FromWorker> {
        self.host.call_method0("end")?;
        self.part()
    }

    /// What is done, and when a timer is due next: each part says that anew.
    fn part(&mut self) -> PyResult<FromWorker> {
        self.done_bytes = 0;
        let wake_at = self.host.call_method0("wake_at")?.extract()?;
        Ok(FromWorker::Done { done: std::mem::take(&mut self.done), wake_at })
    }

    /// Says which step begins: what it draws and who calls follow from that alone.
    fn enter(&self, call: &HostedCall) -> PyResult<()> {
        let HostedCall { call: CallId { session, sequence }, object, method, .. } = call;
        let is_step = method == REMOVE || STEPS.contains(&method.as_str());
        let key = (!is_step).then_some((&object.class, &object.name));
        let step = (session.0, sequence, call.thread, method, key);
        self.host.call_method1("enter", (step,)).map(drop)
    }

    fn apply(&mut self, call: HostedCall) -> PyResult<Done> {
        let (py, number, CallId { session, sequence }) = (self.host.py(), call.number, call.call);
        let step = match call.method.as_str() {
            LOST => self.host.call_method1("lost", (session.0,)).map(drop),
            CANCEL => self.cancel(&call, session, sequence),
            REMOVE => {
                let ObjectName { class, name } = &call.object;
                self.host.call_method1("remove", (class, name)).map(drop)
            }
            WAKE | SKIPPED => Ok(()),
            _ => return self.apply_call(call),
        };
        if let Err(error) = step {
            // Whatever an object does at the end of a session, the others go on. Not `print`:
            // that ends the process where the exception says so.
            error.display(py);
        }
        Ok(Done::Ended(number, Outcome::Returned(Bytes::from_static(&[0xf6]))))
    }

    fn cancel(
        &mut self,
        call: &HostedCall,
        SessionId(session): SessionId,
        sequence: u64,
    ) -> PyResult<()> {
        if self.host.call_method1("cancel", (session, sequence))?.is_truthy()? {
            let cancelled = Outcome::Refused(Refusal::Cancelled);
            self.add(Done::Woken(call.number, call.call, cancelled))?;
        }
        Ok(())
    }

    fn apply_call(&self, call: HostedCall) -> PyResult<Done> {
        let how = if call.method == CREATE { "create" } else { "methods_of" };
        let outcome = match self.methods(how, &call.object) {
            Ok(methods) => match methods.get_item(&call.method)? {
                Some(method) => self.run_call(&method, &call.arguments)?,
                None => Ran::Ended(self.no_method(call.method)),
            },
            // The object can't be made.
            Err(error) => Ran::Ended(raise(self.host.py(), &error)),
        };
        Ok(match outcome {
            Ran::Ended(outcome) => Done::Ended(call.number, outcome),
            Ran::Parked => Done::Parked(call.number),
        })
    }

    fn read(&self, call: &HostedCall) -> PyResult<Done> {
        let outcome = match self.methods("look_at", &call.object) {
            Ok(methods) => match methods.get_item(&call.method)? {
                Some(method) => run(&method, &call.arguments)
                    .unwrap_or_else(|error| raise(self.host.py(), &error)),
                None => self.no_method(call.method.clone()),
            },
            Err(error) => raise(self.host.py(), &error),
        };
        Ok(Done::Ended(call.number, outcome))
    }

    /// What can be called of an object. Looked up anew each time: a call may put a new object in
    /// the old one's place.
    fn methods(&self, how: &str, object: &ObjectName) -> PyResult<Bound<'py, PyDict>> {
        let methods = if object.is_default() {
            self.host.getattr("methods")?
        } else {
            self.host.call_method1(how, (&object.class, &object.name))?
        };
        Ok(methods.cast_into::<PyDict>()?)
    }

    fn no_method(&self, method: String) -> Outcome {
        Outcome::Refused(Refusal::NoSuchMethod { class: self.class.clone(), method })
    }

    /// Runs a call that may wait, or end others that do.
    fn run_call(&self, method: &Bound<'py, PyAny>, arguments: &[u8]) -> PyResult<Ran> {
        let py = self.host.py();
        let error = match run(method, arguments) {
            Ok(outcome) => return Ok(Ran::Ended(outcome)),
            Err(error) => error,
        };
        let about = match self.host.call_method1("raised", (error.value(py),)) {
            Ok(about) => about,
            // It does not say who is to be woken in the way that it should.
            Err(error) => return Ok(Ran::Ended(raise(py, &error))),
        };
        Ok(match about.extract::<Option<(bool, Bound<'_, PyAny>)>>()? {
            None => Ran::Ended(raise(py, &error)),
            Some((true, _)) => Ran::Parked,
            Some((false, value)) => {
                Ran::Ended(encode(&value).unwrap_or_else(|error| raise(py, &error)))
            }
        })
    }

    /// Adds the calls that were woken by that of that number.
    fn add_woken(&mut self, number: u64) -> PyResult<()> {
        if !self.tells {
            return Ok(());
        }
        let py = self.host.py();
        let ended = self.host.call_method0("take_ended")?;
        for (session, sequence, how) in ended.extract::<Vec<(u64, u64, Bound<'_, PyAny>)>>()? {
            let outcome = if how.is_instance_of::<PyBaseException>() {
                raise(py, &PyErr::from_value(how))
            } else {
                encode(&how).unwrap_or_else(|error| raise(py, &error))
            };
            let call = CallId { session: SessionId(session), sequence };
            self.add(Done::Woken(number, call, outcome))?;
        }
        Ok(())
    }

    /// Has another process write the state to that pipe.
    fn start_snapshot(&self, number: u64, to: &OwnedFd, how: &str) -> PyResult<Snapshot> {
        let (pipe, writer) = io::pipe()?;
        let pipes = (to.as_raw_fd(), writer.as_raw_fd());
        let process = self.host.call_method1(how, pipes)?.extract()?;
        Ok(Snapshot { number, process, pipe, said: vec![], over: false })
    }

    /// Answers with the snapshots whose process has closed its pipe.
    fn finish_snapshots(&mut self) -> PyResult<()> {
        for snapshot in self.snapshots.extract_if(.., |snapshot| snapshot.over) {
            drop(snapshot.pipe);
            let whole = self.host.call_method1("reap", (snapshot.process,))?.extract::<bool>()?;
            let written = match snapshot.said.split_first() {
                Some((0, [has_sets, bytes @ ..])) if whole => written(bytes, *has_sets != 0),
                Some((1, why)) if whole => Err(String::from_utf8_lossy(why).into_owned()),
                _ => Err("the process that wrote the state down died".into()),
            };
            write_frame(&FromWorker::Snapshot(snapshot.number, written), &mut self.outgoing);
        }
        Ok(())
    }
}

fn written(bytes: &[u8], has_sets: bool) -> Result<Written, String> {
    let bytes = bytes.try_into().map_or(u64::MAX, u64::from_le_bytes);
    if bytes > SNAPSHOT_BYTES_MAX as u64 {
        return Err(format!("the state takes more than {SNAPSHOT_BYTES_MAX} bytes"));
    }
    Ok(Written { bytes, has_sets })
}

/// What comes of running a call.
enum Ran {
    Ended(Outcome),
    Parked,
}

/// Runs one call. Whatever it raises, `SystemExit` included, ends nothing else.
fn run(method: &Bound<'_, PyAny>, arguments: &[u8]) -> PyResult<Outcome> {
    let arguments = match Arguments::decode(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return Ok(Outcome::Refused(Refusal::Malformed(error.to_string()))),
    };
    let (positional, keyword) = arguments_to_python(method.py(), &arguments)?;
    encode(&method.call(positional, keyword.as_ref())?)
}

fn encode(result: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    let py = result.py();
    let value = from_python(result).map_err(|error| error.within("the result").raise(py))?;
    let bytes = value.encode().map_err(to_error)?;
    if bytes.len() > RESULT_BYTES_MAX {
        let words =
            format!("the result takes {} bytes, {RESULT_BYTES_MAX} is the most", bytes.len());
        return Err(PyValueError::new_err(words));
    }
    Ok(Outcome::Returned(bytes))
}

fn raise(py: Python<'_>, error: &PyErr) -> Outcome {
    Outcome::Raised(encode_exception(raised(py, error)))
}

fn encode_exception(mut exception: Exception) -> Bytes {
    let traceback = &mut exception.traceback;
    let mut cut = traceback.len().saturating_sub(TRACEBACK_BYTES_MAX);
    while !traceback.is_char_boundary(cut) {
        cut += 1;
    }
    traceback.drain(..cut);
    let (module, name) = (exception.module.clone(), exception.name.clone());
    let encoded = Value::Exception(Box::new(exception)).encode();
    encoded.ok().filter(|bytes| bytes.len() <= RESULT_BYTES_MAX).unwrap_or_else(|| {
        let bare = Exception { module, name, args: vec![], traceback: String::new() };
        Value::Exception(Box::new(bare)).encode().expect("two words can be encoded")
    })
}

/// Waits until the replica or a snapshot says something and takes it in; `false` once the
/// replica is gone.
fn receive(
    socket: &UnixStream,
    incoming: &mut BytesMut,
    pipes: &mut VecDeque<OwnedFd>,
    snapshots: &mut [Snapshot],
) -> io::Result<bool> {
    let mut ready = vec![PollFd::new(socket, PollFlags::IN)];
    ready.extend(snapshots.iter().map(|snapshot| PollFd::new(&snapshot.pipe, PollFlags::IN)));
    poll(&mut ready, None)?;
    let ready: Vec<bool> = ready.iter().map(|each| !each.revents().is_empty()).collect();
    let (socket_ready, snapshots_ready) = ready.split_first().expect("the socket is the first");
    let mut buffer = [0; READ_BYTES];
    for (snapshot, _) in snapshots.iter_mut().zip(snapshots_ready).filter(|(_, ready)| **ready) {
        let count = snapshot.pipe.read(&mut buffer)?;
        snapshot.said.extend_from_slice(buffer.get(..count).unwrap_or_default());
        snapshot.over = count == 0 || snapshot.said.len() > SAID_BYTES_MAX;
    }
    if !socket_ready {
        return Ok(true);
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let into = &mut [IoSliceMut::new(&mut buffer)];
    // What comes with one descriptor is never read together with what comes with the next.
    let count = recvmsg(socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC)?.bytes;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            pipes.extend(descriptors);
        }
    }
    incoming.extend_from_slice(buffer.get(..count).unwrap_or_default());
    Ok(count > 0)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// What an exception says, for people.
fn sentence(py: Python<'_>, error: &PyErr) -> String {
    let said = error.value(py).to_string();
    if said.is_empty() { error.to_string() } else { said }
}

fn to_error(error: impl std::error::Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}
