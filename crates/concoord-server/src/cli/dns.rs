//! `concoord dns`: what name servers say of a cluster, and whether they are found.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use concoord_core::view::View;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{say, say_json, table};
use super::replica::{DNS_TTL, ttl};
use super::status::{first, reason};
use super::{BOOTSTRAP, seconds};
use crate::names::dns::{self, Checked, Servers};
use crate::names::domain;
use crate::names::zone::Zone;

/// How long finding the cluster may take.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the records of a cluster as a zone file
    Zone(ZoneOptions),
    /// Check whether a domain's name servers are found from outside, and agree
    Check(CheckOptions),
}

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct ZoneOptions {
    /// address:port of a replica, or several with commas between
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP)]
    boot: String,
    /// The domain [default: that of the cluster's name servers]
    #[arg(short = 'n', long, value_name = "DOMAIN", value_parser = domain)]
    domainname: Option<String>,
    /// Seconds that resolvers may keep the records, as the replicas have it
    #[arg(long, value_name = "SECONDS", value_parser = ttl(), default_value_t = DNS_TTL)]
    dns_ttl: u32,
}

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct CheckOptions {
    /// The domain
    #[arg(value_name = "DOMAIN", value_parser = domain)]
    domain: String,
    /// address or address:port of a resolver [default: the first one of /etc/resolv.conf]
    #[arg(long, value_name = "ADDRESS", value_parser = place)]
    resolver: Option<SocketAddr>,
    /// The port of the name servers
    #[arg(long, value_name = "PORT", default_value_t = dns::PORT)]
    dns_port: u16,
    /// How long each server may take, in seconds
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "3")]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Zone(options) => zone(options),
        Command::Check(options) => check(options),
    }
}

fn zone(options: &ZoneOptions) -> Result<(), Failure> {
    let status = first(&options.boot, LOOK)?;
    let not_ready = || Failure::new(Exit::NotReady, reason(&status));
    let view = status.view.as_ref().ok_or_else(not_ready)?;
    let domain = match &options.domainname {
        Some(domain) => domain.clone(),
        None => domain_of(view)?,
    };
    let zone = Zone::new(view, status.leader, &[&status.class], &domain, options.dns_ttl);
    say(zone.ok_or_else(not_ready)?.to_string().trim_end());
    Ok(())
}

/// The one that the cluster's name servers answer for.
fn domain_of(view: &View) -> Result<String, Failure> {
    let domains = view.members.iter().filter_map(|(member, _)| member.domain.clone());
    let mut domains: Vec<String> = domains.collect();
    domains.sort();
    domains.dedup();
    match domains.as_slice() {
        [domain] => Ok(domain.clone()),
        [] => Err(Failure::usage("no replica there is a name server: name the domain with -n")),
        several => {
            let text = format!("name one of the domains with -n: {}", several.join(", "));
            Err(Failure::usage(text))
        }
    }
}

fn check(options: &CheckOptions) -> Result<(), Failure> {
    let resolver = options.resolver.or_else(resolver).ok_or_else(|| {
        Failure::usage("/etc/resolv.conf names no resolver: name one with --resolver")
    })?;
    let servers = Servers { resolver, port: options.dns_port, patience: options.timeout };
    let checked = dns::check(&options.domain, &servers).map_err(Failure::failed)?;
    if options.json {
        say_json(&to_json(&options.domain, &checked));
    } else {
        say(to_text(&options.domain, &checked));
    }
    match checked.problems.len() {
        0 => Ok(()),
        1 => Err(Failure::failed("there is something to do")),
        count => Err(Failure::failed(format!("there are {count} things to do"))),
    }
}

fn to_text(domain: &str, checked: &Checked) -> String {
    let mut rows = vec![["SERVER", "ADDRESS", "SERIAL"].map(str::to_owned).to_vec()];
    for (name, ip, answer) in &checked.answers {
        let serial = answer.as_ref().map_or_else(|_| "-".into(), u32::to_string);
        rows.push(vec![name.clone(), ip.to_string(), serial]);
    }
    let mut text = format!("{domain}, delegated by {}\n\n{}", name(&checked.parent), table(&rows));
    for problem in &checked.problems {
        text += &format!("\n\n{problem}.");
    }
    text
}

/// The root has a name, too.
fn name(zone: &str) -> &str {
    if zone.is_empty() { "the root" } else { zone }
}

fn to_json(domain: &str, checked: &Checked) -> serde_json::Value {
    let server = |(name, ip, answer): &(String, IpAddr, Result<u32, String>)| {
        json!({
            "name": name,
            "address": ip.to_string(),
            "serial": answer.as_ref().ok(),
            "problem": answer.as_ref().err(),
        })
    };
    json!({
        "domain": domain,
        "parent": checked.parent,
        "servers": checked.answers.iter().map(server).collect::<Vec<_>>(),
        "problems": checked.problems,
    })
}

/// An address with or without a port.
fn place(text: &str) -> Result<SocketAddr, String> {
    let ip = || text.parse().map(|ip: IpAddr| SocketAddr::new(ip, dns::PORT));
    text.parse().or_else(|_| ip()).map_err(|_| "write address:port, as 127.0.0.1:53".into())
}

/// The one that this host uses.
fn resolver() -> Option<SocketAddr> {
    let config = fs::read_to_string("/etc/resolv.conf").ok()?;
    let mut lines = config.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.find_map(|rest| place(rest.trim()).ok())
}
