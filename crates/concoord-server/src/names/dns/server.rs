//! The thread that answers queries.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::super::zone::Zone;
use super::answer::{Transport, answer, truncated};
use super::limit::{Limit, Verdict};
use super::{DATAGRAM_BYTES_MAX, DnsSockets};

/// Bytes of a query: what fits into a datagram.
const QUERY_BYTES_MAX: usize = DATAGRAM_BYTES_MAX as usize;

/// Datagrams that are answered before connections have their turn.
const DATAGRAMS_A_TURN: usize = 64;

/// Open TCP connections, in all and of one address. Each takes a few KiB.
const CONNECTIONS_MAX: usize = 256;
const CONNECTIONS_OF_ONE_MAX: usize = 16;

/// How long a TCP connection may take for its next query, or to take an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Queries of one TCP connection.
const QUERIES_OF_ONE_MAX: usize = 1000;

/// How much this thread stands back: a flood of queries shall not hold calls up.
const NICE: i32 = 5;

/// How long a socket is left alone that can't be used at the moment.
const PAUSE: Duration = Duration::from_millis(100);

type ZoneNow = watch::Receiver<Option<Arc<Zone>>>;

/// The thread, which ends with this.
pub(super) struct Server {
    zone: Option<watch::Sender<Option<Arc<Zone>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(sockets: DnsSockets) -> io::Result<Self> {
        let (zone, zone_now) = watch::channel(None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (udp, tcp) = {
            let _entered = runtime.enter();
            let udp = sockets.udp.into_iter().map(UdpSocket::from_std);
            let tcp = sockets.tcp.into_iter().map(TcpListener::from_std);
            (udp.collect::<io::Result<Vec<_>>>()?, tcp.collect::<io::Result<Vec<_>>>()?)
        };
        let thread = thread::Builder::new().name("names".into()).spawn(move || {
            // Of this thread alone, as Linux has it.
            if let Err(error) = setpriority_process(None, NICE) {
                tracing::debug!("the name server's thread has the priority of others: {error}");
            }
            runtime.block_on(serve(udp, tcp, zone_now));
        })?;
        Ok(Self { zone: Some(zone), thread: Some(thread) })
    }

    /// From now on this is answered.
    pub(super) fn serve(&self, zone: Arc<Zone>) {
        if let Some(sender) = &self.zone {
            sender.send_replace(Some(zone));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody to hear from: the thread ends.
        self.zone = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the name server failed, please report this");
        }
    }
}

/// Serves until there is nobody any more who would say what.
async fn serve(udp: Vec<UdpSocket>, tcp: Vec<TcpListener>, mut zone_now: ZoneNow) {
    for socket in udp {
        tokio::spawn(datagrams(socket, zone_now.clone()));
    }
    let open = Arc::new(Mutex::new(HashMap::new()));
    for listener in tcp {
        tokio::spawn(connections(listener, zone_now.clone(), Arc::clone(&open)));
    }
    while zone_now.changed().await.is_ok() {}
}

/// Answers the datagrams of one socket.
async fn datagrams(socket: UdpSocket, zone_now: ZoneNow) {
    let (mut limit, started) = (Limit::new(), Instant::now());
    let mut packet = [0; QUERY_BYTES_MAX + 1];
    loop {
        if socket.readable().await.is_err() {
            sleep(PAUSE).await;
        }
        let zone = zone_now.borrow().clone();
        let now = u64::try_from(started.elapsed().as_millis()).unwrap_or_default();
        for _ in 0..DATAGRAMS_A_TURN {
            let (length, from) = match socket.try_recv_from(&mut packet) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Of a datagram of ours that did not arrive, or for want of memory.
                Err(error) => {
                    tracing::debug!("no query was read: {error}");
                    sleep(PAUSE).await;
                    break;
                }
            };
            let Some(query) = packet.get(..length).filter(|query| query.len() <= QUERY_BYTES_MAX)
            else {
                continue;
            };
            let answer = match limit.judge(from.ip(), now) {
                Verdict::Answer => answer(zone.as_deref(), query, Transport::Udp),
                Verdict::Truncate => truncated(query),
                Verdict::Drop => None,
            };
            // What can't be sent is lost, as datagrams are, and asked for again.
            if let Some(answer) = answer
                && let Err(error) = socket.try_send_to(&answer, from)
            {
                tracing::debug!("no answer to {from}: {error}");
            }
        }
        tokio::task::yield_now().await;
    }
}

type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A connection that counts as open.
struct Counted {
    from: IpAddr,
    open: Open,
}

impl Counted {
    fn new(from: SocketAddr, open: &Open) -> Option<Self> {
        let mut all = open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = all.get(&from.ip()).copied().unwrap_or_default();
        if all.values().sum::<usize>() >= CONNECTIONS_MAX || of_one >= CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        all.insert(from.ip(), of_one + 1);
        Some(Self { from: from.ip(), open: Arc::clone(open) })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.from);
            }
        }
    }
}

/// Takes the connections of one listener.
async fn connections(listener: TcpListener, zone_now: ZoneNow, open: Open) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let Some(counted) = Counted::new(from, &open) else { continue };
                let zone_now = zone_now.clone();
                tokio::spawn(async move {
                    if let Err(error) = connection(stream, &zone_now).await {
                        tracing::debug!("a connection of {from} ended: {error}");
                    }
                    drop(counted);
                });
            }
            Err(error) => {
                tracing::debug!("no connection was taken: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Answers the queries of one connection, one after the other.
async fn connection(mut stream: TcpStream, zone_now: &ZoneNow) -> io::Result<()> {
    let mut query = [0; QUERY_BYTES_MAX];
    for _ in 0..QUERIES_OF_ONE_MAX {
        let length = timeout(PATIENCE, async {
            let length = usize::from(stream.read_u16().await?);
            let place = query.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
            stream.read_exact(place).await
        });
        let length = length.await??;
        let zone = zone_now.borrow().clone();
        let query = query.get(..length).unwrap_or_default();
        let Some(answer) = answer(zone.as_deref(), query, Transport::Tcp) else { break };
        let mut bytes = u16::try_from(answer.len()).unwrap_or_default().to_be_bytes().to_vec();
        bytes.extend(answer);
        timeout(PATIENCE, stream.write_all(&bytes)).await??;
    }
    Ok(())
}
