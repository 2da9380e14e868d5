//! Where queries come in: sockets that are bound here, or handed over by systemd.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};

use super::ask::ask;
use super::message::SOA;

/// Bytes of queries that may wait while the thread is busy.
const RECEIVE_BYTES: usize = 1 << 20;

/// Connections that may wait to be taken.
const BACKLOG: i32 = 128;

/// How long another name server at our port may take to say whose it is.
const LOOK: Duration = Duration::from_secs(1);

/// How long until it is asked again, if it does not know yet.
const PAUSE: Duration = Duration::from_millis(50);

/// The sockets of a name server.
#[derive(Debug, Default)]
pub struct DnsSockets {
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

/// Why queries can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else has the port.
    #[error(
        "Cannot bind to port {} on {} for DNS: another program has it. Stop that, name another \
         address of this host with --dns-addr, or another port with --dns-port and have port 53 \
         forwarded to it",
        .0.port(), .0.ip()
    )]
    Taken(SocketAddr),
    /// The port takes a privilege.
    #[error(
        "Cannot bind to port {} on {} for DNS: not allowed. Run it with sudo, have it keep \
         CAP_NET_BIND_SERVICE (`setcap cap_net_bind_service+ep` on the program, or \
         AmbientCapabilities in its systemd unit), have a systemd socket unit hand the port over, \
         or name another port with --dns-port",
        .0.port(), .0.ip()
    )]
    NotAllowed(SocketAddr),
    /// The address is another host's.
    #[error("Cannot bind to {0} for DNS: it is no address of this host. Name one with --dns-addr")]
    NotHere(IpAddr),
    /// Anything else.
    #[error("Cannot bind to {0} for DNS: {1}. Name another place with --dns-addr and --dns-port")]
    System(SocketAddr, #[source] io::Error),
    /// What systemd handed over is of no use.
    #[error(
        "the sockets that systemd hands over are of no use for DNS: {0}. Have ListenDatagram= and ListenStream= name the port"
    )]
    HandedOver(io::Error),
}

impl BindError {
    fn new(address: SocketAddr, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::AddrInUse {
            Self::Taken(address)
        } else if error.kind() == io::ErrorKind::PermissionDenied {
            Self::NotAllowed(address)
        } else if error.kind() == io::ErrorKind::AddrNotAvailable {
            Self::NotHere(address.ip())
        } else {
            Self::System(address, error)
        }
    }
}

impl DnsSockets {
    /// Those that systemd hands over, if it does; or else UDP and TCP at that port of each of these
    /// addresses. Name servers of the same domain and user may share a port of one host: the
    /// kernel gives each query to one of them, and they answer the same.
    ///
    /// # Errors
    /// If there is none to be had; the sentence says what to do.
    pub fn open(ips: &[IpAddr], port: u16, domain: &str) -> Result<Self, BindError> {
        if let Some(sockets) = Self::handed_over().map_err(BindError::HandedOver)? {
            return Ok(sockets);
        }
        let mut sockets = Self::default();
        if ips.iter().any(IpAddr::is_unspecified) {
            tracing::warn!(
                "where this host has several addresses, answers to queries by UDP may come from \
                 another one than was asked, and are dropped then: name each by --dns-addr"
            );
        }
        for ip in ips {
            sockets.bind(SocketAddr::new(*ip, port), domain)?;
        }
        Ok(sockets)
    }

    fn handed_over() -> io::Result<Option<Self>> {
        let mut handed = ListenFd::from_env();
        if handed.len() == 0 {
            return Ok(None);
        }
        let mut sockets = Self::default();
        for at in 0..handed.len() {
            // It gives what is of the other kind back.
            match handed.take_udp_socket(at) {
                Ok(socket) => sockets.udp.extend(socket),
                Err(_) => sockets.tcp.extend(handed.take_tcp_listener(at)?),
            }
        }
        sockets.udp.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
        sockets.tcp.iter().try_for_each(|listener| listener.set_nonblocking(true))?;
        Ok(Some(sockets))
    }

    fn bind(&mut self, address: SocketAddr, domain: &str) -> Result<(), BindError> {
        let why = |error| BindError::new(address, error);
        // Whoever shares a port gets part of its queries: that must be a name server of this
        // domain, which the kernel does not know.
        let alone = UdpSocket::bind(address).and_then(|_| TcpListener::bind(address)).map(drop);
        if let Err(error) = alone
            && !(error.kind() == io::ErrorKind::AddrInUse && is_served(address, domain))
        {
            return Err(why(error));
        }
        let (udp, tcp) = pair(address).map_err(why)?;
        self.udp.push(udp);
        self.tcp.push(tcp);
        Ok(())
    }
}

/// Sockets at that address which others of the same user may share; for port 0, both at the same
/// port.
fn pair(mut address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let socket = |kind, protocol| -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let udp = socket(Type::DGRAM, Protocol::UDP)?;
    let tcp = socket(Type::STREAM, Protocol::TCP)?;
    udp.set_recv_buffer_size(RECEIVE_BYTES)?;
    udp.bind(&address.into())?;
    let udp = UdpSocket::from(udp);
    address.set_port(udp.local_addr()?.port());
    // Connections that ended a moment ago are no reason to wait.
    tcp.set_reuse_address(true)?;
    tcp.bind(&address.into())?;
    tcp.listen(BACKLOG)?;
    Ok((udp, tcp.into()))
}

/// Whether a name server of that domain answers there.
fn is_served(mut address: SocketAddr, domain: &str) -> bool {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let until = Instant::now() + LOOK;
    while let Ok(reply) = ask(address, domain, SOA, false, LOOK) {
        let [answers, ..] = &reply.sections;
        if reply.authoritative && answers.iter().any(|record| record.name == domain) {
            return true;
        }
        // One that has just been started may have no view to answer from yet.
        if reply.is_refused() || Instant::now() > until {
            return false;
        }
        thread::sleep(PAUSE);
    }
    false
}

/// As people write places.
impl fmt::Display for DnsSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let udp = self.udp.iter().map(UdpSocket::local_addr);
        let tcp = self.tcp.iter().map(TcpListener::local_addr);
        let mut places: Vec<String> =
            udp.chain(tcp).flatten().map(|address| address.to_string()).collect();
        places.sort();
        places.dedup();
        f.write_str(&places.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_program_has_is_said_with_the_ways_out() {
        let taken = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let error = DnsSockets::open(&[address.ip()], address.port(), "example.com").unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, BindError::Taken(_)), "{text}");
        assert!(text.contains("--dns-addr") && text.contains("--dns-port"), "{text}");
    }

    #[test]
    fn an_address_of_another_host_is_said_to_be_one() {
        // 192.0.2.0/24 is for documentation: no host has it.
        let error = DnsSockets::open(&[[192, 0, 2, 1].into()], 0, "example.com").unwrap_err();
        assert!(matches!(error, BindError::NotHere(_)), "{error}");
    }

    #[test]
    fn of_port_0_both_kinds_are_at_the_same_port() {
        let ips = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let sockets = DnsSockets::open(&ips, 0, "example.com").unwrap();
        assert_eq!((sockets.udp.len(), sockets.tcp.len()), (2, 2));
        assert_eq!(sockets.to_string().split(", ").count(), 2, "{sockets}");
    }
}
