//! Snapshots that reach a newcomer by connections which break.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use concoord_server::{ObjectSpec, WorkerSpec};

use crate::calls::until;
use crate::client::Client;
use crate::cluster::{Running, SOON};
use crate::fake;

/// Bytes of the fake's state.
const STATE: usize = 2 << 20;

/// Passes connections on to a replica; one that brings it much is cut after so many bytes.
struct Cutter {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// 0 for no more cuts.
    after: AtomicUsize,
    cuts: AtomicUsize,
    brought: AtomicUsize,
}

impl Cutter {
    fn to(target: SocketAddr, after: usize) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { after: after.into(), ..Shared::default() });
        let passing = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming() {
                let (near, Ok(far)) = (near.unwrap(), TcpStream::connect(target)) else { continue };
                let (back_from, back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
                thread::spawn(move || Shared::default().pass(back_from, back_to));
                let shared = Arc::clone(&passing);
                thread::spawn(move || shared.pass(near, far));
            }
        });
        Self { address, shared }
    }
}

impl Shared {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            passed += bytes;
            let after = self.after.load(Relaxed);
            if after > 0 && passed > after {
                self.cuts.fetch_add(1, Relaxed);
                break;
            }
            self.brought.fetch_add(bytes, Relaxed);
            if to.write_all(&buffer[..bytes]).is_err() {
                break;
            }
        }
        for stream in [from, to] {
            stream.shutdown(Shutdown::Both).unwrap_or(());
        }
    }
}

fn fake_object(scratch: &Path) -> impl FnOnce() -> ObjectSpec + Send + 'static {
    let spec = WorkerSpec {
        classes: vec![scratch.to_str().unwrap().into()],
        command: fake::command("fake::fake_worker"),
        load_timeout: SOON,
        apply_timeout: Duration::from_secs(5),
    };
    move || ObjectSpec::Worker(spec)
}

/// A replica with a state, and one that joins it and is reached by a cutter.
fn join(scratch: &Path, after: usize) -> (Running, Running, Cutter) {
    let first = Running::hosting(fake_object(scratch), &[]).serves();
    assert_eq!(Client::open(first.address).integer("add"), 1);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let cutter = Cutter::to(listener.local_addr().unwrap(), after);
    let object = fake_object(scratch);
    let second = Running::start_at(listener, cutter.address, object, &[first.address]);
    (first, second, cutter)
}

#[test]
fn a_transfer_goes_on_where_its_connection_broke() {
    let scratch = tempfile::tempdir().unwrap();
    // Not where a chunk ends.
    let (_first, second, cutter) = join(scratch.path(), 700_001);
    let second = second.serves();
    assert_eq!(Client::open(second.address).integer("add"), 2);
    let (cuts, brought) = (cutter.shared.cuts.load(Relaxed), cutter.shared.brought.load(Relaxed));
    assert!(cuts >= 2, "{cuts} cuts");
    // Of each connection that broke, a part of a chunk came twice.
    assert!(brought < STATE + (cuts + 1) * (300 << 10), "{brought} bytes after {cuts} cuts");
}

#[test]
fn a_transfer_that_gets_no_further_is_given_up_and_begun_anew() {
    let scratch = tempfile::tempdir().unwrap();
    // Less than a chunk: each connection brings nothing.
    let (first, second, cutter) = join(scratch.path(), 100_000);
    until("it was given up", || cutter.shared.cuts.load(Relaxed) > 5);
    assert!(Client::connect(first.address).status().ready);
    cutter.shared.after.store(0, Relaxed);
    let second = second.serves();
    assert_eq!(Client::open(second.address).integer("add"), 2);
}
