//! Replicas on threads, and a relay between them that can be cut.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use concoord_core::objects::counter;
use concoord_server::{ObjectSpec, ReplicaConfig, RunError, run, runtime};
use tokio::sync::oneshot;

/// Far more than anything here needs.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    serving: Receiver<()>,
    end: Option<oneshot::Sender<End>>,
    thread: Option<JoinHandle<Option<Result<String, RunError>>>>,
}

enum End {
    /// As by SIGTERM.
    Stop,
    /// As by SIGKILL: all sockets close, and nothing is said.
    Kill,
}

impl Running {
    pub(crate) fn start(bootstrap: &[SocketAddr]) -> Self {
        Self::hosting(counter, bootstrap)
    }

    pub(crate) fn hosting(
        object: impl FnOnce() -> ObjectSpec + Send + 'static,
        bootstrap: &[SocketAddr],
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        Self::start_at(listener, address, object, bootstrap)
    }

    /// On that listener, but reached by others at that address.
    pub(crate) fn start_at(
        listener: TcpListener,
        address: SocketAddr,
        object: impl FnOnce() -> ObjectSpec + Send + 'static,
        bootstrap: &[SocketAddr],
    ) -> Self {
        let bootstrap = bootstrap.to_vec();
        Self::with(listener, move || ReplicaConfig {
            bootstrap,
            ..ReplicaConfig::new(address, object())
        })
    }

    /// On that listener, as configured.
    pub(crate) fn with(
        listener: TcpListener,
        configure: impl FnOnce() -> ReplicaConfig + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (serving_tx, serving) = channel();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime().unwrap().block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let config = configure();
                let (kill_tx, kill) = oneshot::channel();
                let stop = async {
                    match ended.await {
                        Ok(End::Stop) => {}
                        Ok(End::Kill) | Err(_) => {
                            kill_tx.send(()).unwrap();
                            std::future::pending::<()>().await;
                        }
                    }
                };
                let serving = move || serving_tx.send(()).unwrap_or(());
                tokio::select! {
                    ended = run(listener, config, serving, stop) => Some(ended),
                    Ok(()) = kill => None,
                }
            })
        });
        Self { address, serving, end: Some(end), thread: Some(thread) }
    }

    /// Waits until it serves.
    pub(crate) fn serves(self) -> Self {
        self.serving.recv_timeout(SOON).expect("it serves soon");
        self
    }

    /// Tells it to stop; returns what it says, and how long it took.
    pub(crate) fn stop(mut self) -> (String, Duration) {
        let before = Instant::now();
        let ended = self.end(End::Stop).expect("it was not killed");
        (ended.expect("it was told to"), before.elapsed())
    }

    pub(crate) fn kill(mut self) {
        self.end(End::Kill);
    }

    fn end(&mut self, end: End) -> Option<Result<String, RunError>> {
        // An error means that it has ended before, which the thread's result tells.
        self.end.take()?.send(end).unwrap_or(());
        self.thread.take()?.join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end(End::Kill);
        }
    }
}

pub(crate) fn counter() -> ObjectSpec {
    ObjectSpec::stock(counter::CLASS).unwrap()
}

/// Three replicas that serve, the first of which is the bootstrap.
pub(crate) fn three() -> [Running; 3] {
    let first = Running::start(&[]).serves();
    let second = Running::start(&[first.address]).serves();
    let third = Running::start(&[first.address]).serves();
    [first, second, third]
}

/// Passes connections on to a replica, until they are cut.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
    swallowed: Arc<Mutex<Swallowed>>,
}

/// Whose connections lead nowhere, and those.
#[derive(Default)]
struct Swallowed {
    from: BTreeSet<IpAddr>,
    streams: Vec<TcpStream>,
}

impl Relay {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((target.ip(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&open);
        let swallowed = Arc::new(Mutex::new(Swallowed::default()));
        let swallows = Arc::clone(&swallowed);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let near = stream.unwrap();
                let from = near.peer_addr().unwrap().ip();
                let mut swallowed = swallows.lock().unwrap();
                if swallowed.from.contains(&from) {
                    swallowed.streams.push(near);
                    continue;
                }
                drop(swallowed);
                let Ok(far) = TcpStream::connect(target) else { continue };
                let mut kept = kept.lock().unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    kept.push(from.try_clone().unwrap());
                    thread::spawn(move || {
                        // However it ends, the other side shall see it.
                        io::copy(&mut from, &mut to).unwrap_or(0);
                        to.shutdown(Shutdown::Both).unwrap_or(());
                    });
                }
            }
        });
        Self { address, open, swallowed }
    }

    /// From now on connections from there are taken and lead nowhere, as if their packets were
    /// lost; those that are open break.
    pub(crate) fn swallow(&self, from: &[IpAddr]) {
        self.swallowed.lock().unwrap().from = from.iter().copied().collect();
        self.cut();
    }

    /// Passes all on again.
    pub(crate) fn heal(&self) {
        *self.swallowed.lock().unwrap() = Swallowed::default();
    }

    /// Breaks all connections that are open now; says how many there were.
    pub(crate) fn cut(&self) -> usize {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        for stream in &open {
            stream.shutdown(Shutdown::Both).unwrap_or(());
        }
        open.len() / 2
    }
}
