//! `concoord replica`: serves a copy of an object until it is told to stop.

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use concoord::{Bootstrap, Error};
use concoord_core::durable::Snapshot;
use concoord_core::limits::FENCE_TIMEOUT;
use concoord_core::snapshot::About;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

use super::exit::{Exit, Failure};
use super::output::{note, say};
use super::{python, seconds};
use crate::config::{ObjectSpec, ReplicaConfig, WorkerSpec};
use crate::driver::{self, RunError};
use crate::fence::FenceSpec;
use crate::logging::{self, Logging};
#[cfg(feature = "dns")]
use crate::names::dns::{DnsSockets, DnsSpec, PORT};
use crate::names::domain;

/// The ports that a replica tries if it is given none.
const PORTS: std::ops::RangeInclusive<u16> = 14000..=15000;

/// How often a replica that finds nobody to join says so.
const REMIND: Duration = Duration::from_secs(10);

/// How long looking their names up may take until it is said that this takes long.
const LOOK_UP: Duration = Duration::from_secs(3);

/// How long finding out whether somebody is there to join may take.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without -b it starts a cluster; with -b it joins that of the replica named.",
    after_long_help = super::EXIT_CODES
)]
pub(super) struct Options {
    /// Address for the replica [default: this host's own]; 0.0.0.0 listens on all of them
    #[arg(short, long)]
    addr: Option<String>,
    /// Port for the replica [default: the first free one of 14000-15000]
    #[arg(short, long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// address:port of a replica to join, or several with commas between, or their domain name
    #[arg(short, long, value_name = "BOOTSTRAP")]
    boot: Option<String>,
    /// Dotted name of the object's class; given again, of further classes to host objects of
    #[arg(short, long, value_name = "OBJECTNAME", required = true)]
    objectname: Vec<String>,
    /// address:port of a logger to send log records to
    #[arg(short, long)]
    logger: Option<String>,
    /// Show debug records
    #[arg(short, long)]
    debug: bool,
    /// Write everything to the disk: what was acknowledged survives whatever dies
    #[arg(short, long)]
    writetodisk: bool,
    /// The folder for that, and -w [default: concoord-ADDRESS-PORT in the current folder]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// The Python that hosts an object of a Python class
    #[arg(long)]
    python: Option<PathBuf>,
    /// How long a call may take a Python object [default: 30]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    apply_timeout: Option<Duration>,
    /// Silence after which a client's session ends [default: 10]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    session_timeout: Option<Duration>,
    /// Silence after which a replica is removed [default: 10]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    dead_timeout: Option<Duration>,
    /// Stay a learner, which counts in no quorum, until `concoord members promote`
    #[arg(long, requires = "boot")]
    learner: bool,
    /// Vote and keep the log, but no object: a third vote that takes little memory and no calls
    #[arg(
        long,
        requires = "boot",
        conflicts_with_all = [
            "learner", "python", "apply_timeout", "session_timeout", "dead_timeout", "peer_death",
            "fence_cmd"
        ]
    )]
    witness: bool,
    /// What proves, where two replicas are left, that the other one is dead [default: process]
    #[arg(long, value_enum, value_name = "PROOF")]
    peer_death: Option<PeerDeath>,
    /// Shell command that fences the other one of two replicas when it is silent
    #[arg(long, value_name = "COMMAND")]
    fence_cmd: Option<OsString>,
    /// How long that command may take [default: 30]
    #[arg(long, value_parser = seconds, value_name = "SECONDS", requires = "fence_cmd")]
    fence_timeout: Option<Duration>,
    /// Domain under which clients find the replicas: answer DNS queries for it
    #[arg(short = 'n', long, value_name = "DOMAIN", value_parser = domain)]
    domainname: Option<String>,
    /// Keep the domain's records in Amazon Route 53 up to date, and answer no queries
    #[arg(short, long, requires = "domainname")]
    route53: bool,
    /// The id of the hosted zone there [default: the public one that the domain is in]
    #[arg(long, value_name = "ID", requires = "route53")]
    hosted_zone: Option<String>,
    /// Seconds that resolvers may keep the records [default: 5]
    #[arg(long, value_name = "SECONDS", requires = "domainname", value_parser = ttl())]
    dns_ttl: Option<u32>,
    /// Address for DNS queries, or several with commas between [default: the replica's]
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "domainname",
        conflicts_with = "route53",
        value_delimiter = ','
    )]
    dns_addr: Vec<IpAddr>,
    /// Port for DNS queries [default: 53]
    #[arg(long, value_name = "PORT", requires = "domainname", conflicts_with = "route53", value_parser = clap::value_parser!(u16).range(1..))]
    dns_port: Option<u16>,
}

/// How long resolvers may keep a record, in seconds: views change.
#[cfg(any(feature = "dns", feature = "route53"))]
pub(super) const DNS_TTL: u32 = 5;

/// A day at most.
pub(super) fn ttl() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=86_400)
}

/// What proves that a peer is dead.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum PeerDeath {
    /// The end of its process, which the kernel tells on the same host
    Process,
    /// Besides, connections that its host refuses; only where no firewall or proxy does so
    Refused,
}

pub(super) fn run(options: &Options, installed: Option<PathBuf>) -> Result<(), Failure> {
    start(options, installed, None)
}

/// Starts a replica: with a backup, the first one of a cluster that goes on from there.
pub(super) fn start(
    options: &Options,
    installed: Option<PathBuf>,
    backup: Option<(About, Snapshot)>,
) -> Result<(), Failure> {
    refuse_what_is_not_there(options)?;
    let ip = own_address(options.addr.as_deref())?;
    let boot = options.boot.as_deref().map(str::parse::<Bootstrap>).transpose()?;
    let mut bootstrap = boot.as_ref().map(Bootstrap::addresses).unwrap_or_default();
    let listener = listen(ip, options.port)?;
    let address = reachable(listener.local_addr().map_err(Failure::failed)?);
    // All replicas may be given the same list. One that names nobody else is refused later.
    if bootstrap.iter().any(|other| *other != address) {
        bootstrap.retain(|other| *other != address);
    }

    let _logging = logging::start(&Logging {
        debug: options.debug,
        logger: options.logger.clone(),
        sender: address.to_string(),
    })
    .map_err(Failure::usage)?;
    let mut config = configure(options, address, bootstrap, installed);
    config.names = boot.clone().filter(Bootstrap::has_names);
    config.restore = backup;
    #[cfg(feature = "dns")]
    if let Some(domain) = options.domainname.clone().filter(|_| !options.route53) {
        config.dns = Some(name_server(options, domain, address.ip())?);
    }
    driver::runtime().map_err(Failure::failed)?.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(Failure::failed)?;
        // A task of its own: to wake what `block_on` itself runs is a system call each time.
        let served = tokio::task::spawn_local(serve(listener, config, address, boot)).await;
        served.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    })
}

/// Serves until a signal; the second one ends the process at once.
async fn serve(
    listener: tokio::net::TcpListener,
    config: ReplicaConfig,
    address: SocketAddr,
    boot: Option<Bootstrap>,
) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::failed)?;
    let stop = async {
        signals.next().await;
        tokio::task::spawn_local(async move {
            signals.next().await;
            // 128 and SIGINT, as shells have it.
            std::process::exit(130);
        });
    };
    let is_serving = Cell::new(false);
    let witness = matches!(config.object, ObjectSpec::Nowhere(_));
    let serving = || {
        is_serving.set(true);
        if witness {
            say(format!("WITNESS-{address} connected."));
            tracing::info!("{address} counts, and serves no calls");
        } else {
            say(format!("REPLICA-{address} connected."));
            tracing::info!("calls are served at {address}");
        }
        if let Err(error) = tell_systemd() {
            tracing::warn!("systemd was not told that calls are served: {error}");
        }
    };
    let running = driver::run(listener, config, serving, stop);
    let joining = remind(address, boot.as_ref(), &is_serving);
    let ended = tokio::select! {
        ended = running => ended,
        () = joining => unreachable!("reminding has no end"),
    };
    match ended {
        Ok(reason) => {
            tracing::info!("{reason}");
            Ok(())
        }
        Err(error) => Err(failure(&error)),
    }
}

/// Tells systemd, where that has started this and wants to know, that calls are served
/// (sd_notify(3)).
fn tell_systemd() -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => net::SocketAddr::from_abstract_name(name)?,
        None => net::SocketAddr::from_pathname(&path)?,
    };
    net::UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}

fn failure(error: &RunError) -> Failure {
    let exit = match error {
        RunError::Config(_) => Exit::Usage,
        RunError::Object(_) => Exit::Object,
        RunError::Storage(_) => Exit::Storage,
        RunError::Backup(_) | RunError::System(_) | RunError::Stopped(_) => Exit::Failed,
    };
    Failure::new(exit, by_options(error.to_string()))
}

/// What is configured by an option is named as that.
fn by_options(message: String) -> String {
    ["apply", "session", "dead"].into_iter().fold(message, |message, which| {
        message.replace(&format!("{which}_timeout"), &format!("--{which}-timeout"))
    })
}

/// As long as the replica has not joined and nobody is there to join: says so, at once and then
/// now and again.
async fn remind(own: SocketAddr, boot: Option<&Bootstrap>, is_serving: &Cell<bool>) {
    while let Some(boot) = boot.filter(|_| !is_serving.get()) {
        if let Err(reasons) = find_somebody(own, boot).await {
            note(format!("No replica to join yet ({reasons}); trying on."));
        }
        sleep(REMIND).await;
    }
    std::future::pending::<()>().await;
}

/// Whether somebody else listens there; if not, why.
async fn find_somebody(own: SocketAddr, boot: &Bootstrap) -> Result<(), String> {
    let mut found = match concoord::tokio::look_up(boot, LOOK_UP).await {
        Ok(found) => found,
        Err(Error::Unreachable { attempts, .. }) => return Err(attempts.to_string()),
        Err(error) => return Err(error.to_string()),
    };
    found.retain(|address| *address != own);
    let mut reasons = Vec::new();
    for address in found {
        match tokio::time::timeout(LOOK, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => reasons.push(format!("{address}: {error}")),
            Err(_) => reasons.push(format!("{address}: no answer")),
        }
    }
    if reasons.is_empty() {
        reasons.push(format!("{own}, which is this replica itself, is all that is found"));
    }
    Err(reasons.join("; "))
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn refuse_what_is_not_there(options: &Options) -> Result<(), Failure> {
    if options.route53 && !cfg!(feature = "route53") {
        let text = "-r: this program was built without Route 53: build it with the feature route53";
        return Err(Failure::usage(text));
    }
    if options.domainname.is_some() && !options.route53 && !cfg!(feature = "dns") {
        let text = "-n: this program was built without DNS: build it with the feature dns, or keep \
                    the domain in Route 53 with -r";
        return Err(Failure::usage(text));
    }
    Ok(())
}

/// What answers queries for that domain.
#[cfg(feature = "dns")]
fn name_server(options: &Options, domain: String, own: IpAddr) -> Result<DnsSpec, Failure> {
    // Not all addresses of the host: its own resolver may be at one of them.
    let ips = if options.dns_addr.is_empty() { &[own][..] } else { &options.dns_addr };
    let port = options.dns_port.unwrap_or(PORT);
    let sockets =
        DnsSockets::open(ips, port, &domain).map_err(|error| Failure::new(Exit::Bind, error))?;
    Ok(DnsSpec { domain, ttl: options.dns_ttl.unwrap_or(DNS_TTL), sockets })
}

/// The address asked for, else the one that this host's name stands for, else loopback.
fn own_address(asked: Option<&str>) -> Result<IpAddr, Failure> {
    let Some(name) = asked else { return Ok(host_address()) };
    look_up(name).ok_or_else(|| {
        Failure::usage(format!("{name} stands for no address: write one, as -a 127.0.0.1"))
    })
}

/// The address that this host's name stands for, else loopback.
fn host_address() -> IpAddr {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let address = look_up(&name).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if address.is_loopback() {
        note(format!(
            "This host's name, {name}, stands for no address that other hosts reach: they are \
             told {address}. If there are others, name the address that they use with -a."
        ));
    }
    address
}

/// Where others reach who listens there: on all addresses of the host, by the host's own.
fn reachable(mut listening: SocketAddr) -> SocketAddr {
    if listening.ip().is_unspecified() {
        listening.set_ip(host_address());
    }
    listening
}

/// The first IPv4 address of a host, else its first one.
fn look_up(name: &str) -> Option<IpAddr> {
    let found: Vec<IpAddr> = (name, 0).to_socket_addrs().ok()?.map(|found| found.ip()).collect();
    found.iter().find(|ip| ip.is_ipv4()).or_else(|| found.first()).copied()
}

/// Listens on that port, or on the first free one. The listener is kept, so that nobody comes in
/// between.
fn listen(ip: IpAddr, port: Option<u16>) -> Result<TcpListener, Failure> {
    let listener = match port {
        Some(port) => TcpListener::bind((ip, port)).map_err(|error| cannot_bind(ip, port, &error)),
        None => first_free(ip),
    }?;
    listener.set_nonblocking(true).map_err(Failure::failed)?;
    Ok(listener)
}

fn first_free(ip: IpAddr) -> Result<TcpListener, Failure> {
    for port in PORTS {
        match TcpListener::bind((ip, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(cannot_bind(ip, port, &error)),
        }
    }
    let message = format!("Cannot bind to any port of 14000-15000 on {ip}: name one with -p");
    Err(Failure::new(Exit::Bind, message))
}

fn cannot_bind(ip: IpAddr, port: u16, error: &io::Error) -> Failure {
    let advice = if error.kind() == io::ErrorKind::AddrInUse {
        "another program has it. Name another port with -p, or leave -p out to take the first \
         free one of 14000-15000"
            .to_owned()
    } else if error.kind() == io::ErrorKind::AddrNotAvailable {
        "it is no address of this host. Name one with -a".to_owned()
    } else {
        format!("{error}. Name another port with -p, or another address with -a")
    };
    Failure::new(Exit::Bind, format!("Cannot bind to port {port} on {ip}: {advice}"))
}

fn configure(
    options: &Options,
    address: SocketAddr,
    bootstrap: Vec<SocketAddr>,
    installed: Option<PathBuf>,
) -> ReplicaConfig {
    let mut config = ReplicaConfig::new(address, object(options, installed));
    config.bootstrap = bootstrap;
    let folder = || PathBuf::from(format!("concoord-{}-{}", address.ip(), address.port()));
    config.data_dir = options.data_dir.clone().or_else(|| options.writetodisk.then(folder));
    config.session_timeout = options.session_timeout.unwrap_or(config.session_timeout);
    config.dead_timeout = options.dead_timeout.unwrap_or(config.dead_timeout);
    config.learner = options.learner;
    config.refused_is_dead = matches!(options.peer_death, Some(PeerDeath::Refused));
    config.fence = options.fence_cmd.clone().map(|command| FenceSpec {
        command,
        timeout: options.fence_timeout.unwrap_or(FENCE_TIMEOUT),
    });
    #[cfg(feature = "route53")]
    if let Some(domain) = options.domainname.clone().filter(|_| options.route53) {
        let (hosted_zone, ttl) = (options.hosted_zone.clone(), options.dns_ttl.unwrap_or(DNS_TTL));
        config.route53 = Some(crate::Route53Spec { domain, hosted_zone, ttl });
    }
    config
}

fn object(options: &Options, installed: Option<PathBuf>) -> ObjectSpec {
    let classes = &options.objectname;
    if let Some(class) = classes.first().filter(|_| options.witness) {
        return ObjectSpec::Nowhere(class.clone());
    }
    ObjectSpec::of(classes, |classes| {
        let python = python::choose(options.python.as_deref(), installed.as_deref());
        let mut spec = WorkerSpec::python(&python, classes);
        spec.apply_timeout = options.apply_timeout.unwrap_or(spec.apply_timeout);
        spec
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_replicas_without_a_port_get_two_ports() {
        let ip = Ipv4Addr::LOCALHOST.into();
        let (first, second) = (listen(ip, None).unwrap(), listen(ip, None).unwrap());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        assert!(PORTS.contains(&port(&first)) && PORTS.contains(&port(&second)));
        assert_ne!(port(&first), port(&second));
    }

    #[test]
    fn a_port_that_is_taken_is_said_with_what_to_do() {
        let ip = Ipv4Addr::LOCALHOST.into();
        let taken = TcpListener::bind((ip, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let failure = listen(ip, Some(port)).unwrap_err();
        assert_eq!(failure.exit, Exit::Bind);
        assert!(failure.message.starts_with(&format!("Cannot bind to port {port}")));
        assert!(failure.message.contains("-p"), "{}", failure.message);
    }

    #[test]
    fn an_address_of_another_host_is_said_to_be_one() {
        // 192.0.2.0/24 is for documentation: no host has it.
        let failure = listen([192, 0, 2, 1].into(), None).unwrap_err();
        assert_eq!(failure.exit, Exit::Bind);
        assert!(failure.message.contains("no address of this host"), "{}", failure.message);
    }

    #[test]
    fn a_name_that_stands_for_nothing_is_refused() {
        assert_eq!(own_address(Some("no such host")).unwrap_err().exit, Exit::Usage);
        assert_eq!(own_address(Some("127.0.0.1")).unwrap(), Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn who_listens_on_all_addresses_is_reached_at_the_hosts_own() {
        for any in ["0.0.0.0:14000", "[::]:14000"] {
            let address = reachable(any.parse().unwrap());
            assert!(!address.ip().is_unspecified(), "{address}");
            assert_eq!((address.ip(), address.port()), (host_address(), 14000));
        }
        let one = SocketAddr::from(([127, 0, 0, 1], 14000));
        assert_eq!(reachable(one), one);
    }
}
