//! The requests of Route 53's interface that it takes: which zone, which records, change them, is
//! it done.
//!
//! Source: "Amazon Route 53 API Reference", version 2013-04-01.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::{Method, Uri};
use roxmltree::Node;

use super::credentials::{find, variable};
use super::http::{HttpError, Reply, place_of, send};
use super::problem::{Problem, problem};
use super::records::{Change, RecordSet, mark_name, service_name, targets_name};
use super::sign::{Scope, Unsigned, query, sign};
use super::xml::{child, children, parsed, text};

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Records that are asked for at once: the most that Route 53 gives.
const PAGE: &str = "300";

/// Pages that are read: beyond that are three hundred thousand records.
const PAGES_MAX: usize = 1000;

const VERSION: &str = "/2013-04-01";
const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

/// The id of a zone, as `Z1D633PJN98FT9`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZoneId(String);

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ZoneId {
    /// An id, also with the `/hostedzone/` that AWS's tools put before it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id = text.trim_start_matches("/hostedzone/");
        let fits = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| Self(id.to_owned()))
    }
}

/// A change that Route 53 has taken, and may still be telling its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    id: String,
    pub(crate) in_sync: bool,
}

/// Where Route 53 is, for this account's part of AWS.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    endpoint: String,
    /// The region that signatures are for.
    region: &'static str,
    /// The region that we are in, as far as somebody says.
    own_region: String,
}

impl Api {
    /// As the environment has it.
    pub(crate) fn new() -> Self {
        let own_region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
        let own_region = own_region.unwrap_or_else(|| "us-east-1".into());
        let (host, region) = if own_region.starts_with("cn-") {
            ("route53.amazonaws.com.cn", "cn-northwest-1")
        } else if own_region.starts_with("us-gov-") {
            ("route53.us-gov.amazonaws.com", "us-gov-west-1")
        } else {
            ("route53.amazonaws.com", "us-east-1")
        };
        let endpoint = variable("AWS_ENDPOINT_URL_ROUTE_53")
            .or_else(|| variable("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| format!("https://{host}"));
        Self { endpoint: endpoint.trim_end_matches('/').into(), region, own_region }
    }

    /// The zone of that id, if the domain can be in it.
    pub(crate) async fn named_zone(&self, id: &ZoneId, domain: &str) -> Result<ZoneId, Problem> {
        let path = format!("{VERSION}/hostedzone/{}", id.0);
        let reply = self.ask(Method::GET, &path, &[], String::new()).await?;
        let zone = parsed(&reply, |root| child(root, "HostedZone").and_then(|zone| name(zone)))?;
        if domain == zone || domain.ends_with(&format!(".{zone}")) {
            return Ok(id.clone());
        }
        Err(Problem::OtherZone { id: id.0.clone(), zone, domain: domain.to_owned() })
    }

    /// The public zone that the domain is in: the one of the longest name.
    pub(crate) async fn zone_of(&self, domain: &str) -> Result<ZoneId, Problem> {
        let mut suffix = domain;
        loop {
            let mut zones = self.public_zones(suffix).await?;
            match (zones.pop(), zones.as_slice()) {
                (Some(zone), []) => return Ok(zone),
                (Some(zone), others) => {
                    let ids: Vec<_> =
                        others.iter().chain([&zone]).map(|id| id.0.as_str()).collect();
                    return Err(Problem::SeveralZones(suffix.to_owned(), ids.join(", ")));
                }
                (None, _) => {}
            }
            match suffix.split_once('.') {
                // Nobody has a zone of a top-level domain.
                Some((_, rest)) if rest.contains('.') => suffix = rest,
                _ => return Err(Problem::NoZone(domain.to_owned())),
            }
        }
    }

    /// The public zones of exactly that name.
    async fn public_zones(&self, name: &str) -> Result<Vec<ZoneId>, Problem> {
        let path = format!("{VERSION}/hostedzonesbyname");
        let reply = self.ask(Method::GET, &path, &[("dnsname", name)], String::new()).await?;
        parsed(&reply, |root| {
            let zones = child(root, "HostedZones")?;
            let is_private = |zone| {
                let config = child(zone, "Config");
                config
                    .and_then(|config| text(config, "PrivateZone"))
                    .is_some_and(|text| text == "true")
            };
            let named = children(zones).filter(|zone| {
                self::name(*zone).is_some_and(|found| found == name) && !is_private(*zone)
            });
            Some(named.filter_map(|zone| ZoneId::parse(text(zone, "Id")?)).collect())
        })
    }

    /// All records of a zone that may be ours, or in our way.
    pub(crate) async fn records(
        &self,
        zone: &ZoneId,
        domain: &str,
    ) -> Result<Vec<RecordSet>, Problem> {
        let places = [mark_name(domain), service_name(domain), targets_name(domain)];
        let under = format!(".{}", targets_name(domain));
        let is_near = |name: &str| {
            name == domain || name.ends_with(&under) || places.iter().any(|place| place == name)
        };
        let mut records = Vec::new();
        let mut next = Some(Start { name: domain.to_owned(), ..Start::default() });
        let mut places = places.iter();
        for _ in 0..PAGES_MAX {
            let Some(start) = next else { return Ok(records) };
            let page = self.page(zone, &start).await?;
            let near = page.sets.into_iter().filter(|set| is_near(&set.name));
            for set in near {
                // Pages that were asked for by name may overlap.
                if !records.contains(&set) {
                    records.push(set);
                }
            }
            next = match page.next {
                None => return Ok(records),
                Some(next) if is_near(&next.name) => Some(next),
                // Whatever else the zone has need not be read.
                Some(_) => {
                    places.next().map(|place| Start { name: place.clone(), ..Start::default() })
                }
            };
        }
        Err(Problem::Strange(format!("more than {PAGES_MAX} pages of records")))
    }

    async fn page(&self, zone: &ZoneId, start: &Start) -> Result<Page, Problem> {
        let path = format!("{VERSION}/hostedzone/{}/rrset", zone.0);
        let mut query = vec![("maxitems", PAGE), ("name", start.name.as_str())];
        query.extend(start.kind.as_deref().map(|kind| ("type", kind)));
        query.extend(start.identifier.as_deref().map(|identifier| ("identifier", identifier)));
        let reply = self.ask(Method::GET, &path, &query, String::new()).await?;
        parsed(&reply, |root| {
            let sets = children(child(root, "ResourceRecordSets")?).map(record_set);
            let sets = sets.collect::<Option<Vec<_>>>()?;
            let more = text(root, "IsTruncated")? == "true";
            let owned = |tag| text(root, tag).map(str::to_owned);
            let next = more.then(|| {
                let name = plain_name(text(root, "NextRecordName")?);
                let (kind, identifier) = (owned("NextRecordType"), owned("NextRecordIdentifier"));
                Some(Start { name, kind, identifier })
            });
            // One that says that there is more says where.
            let next = match next {
                Some(None) => return None,
                Some(next) => next,
                None => None,
            };
            Some(Page { sets, next })
        })
    }

    /// Makes all of these changes, or none.
    pub(crate) async fn change(
        &self,
        zone: &ZoneId,
        comment: &str,
        changes: &[Change],
    ) -> Result<Taken, Problem> {
        let path = format!("{VERSION}/hostedzone/{}/rrset/", zone.0);
        let steps: String = changes.iter().map(step).collect();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <ChangeResourceRecordSetsRequest xmlns=\"{NAMESPACE}\"><ChangeBatch>\
             <Comment>{}</Comment><Changes>{steps}</Changes>\
             </ChangeBatch></ChangeResourceRecordSetsRequest>",
            escaped(comment)
        );
        let reply = self.ask(Method::POST, &path, &[], body).await?;
        parsed(&reply, taken)
    }

    /// Whether these keys may change the zone. Asks for the deletion of a record that is not
    /// there, which changes nothing: who may not is told so first.
    pub(crate) async fn try_to_change(&self, zone: &ZoneId, domain: &str) -> Result<(), Problem> {
        let nothing = vec!["\"not there\"".to_owned()];
        let nothing = RecordSet::new(mark_name(domain), "TXT", 1, nothing);
        match self.change(zone, "ConCoord: check", &[Change::Delete(nothing)]).await {
            Ok(_) | Err(Problem::Changed(_) | Problem::Refused(_)) => Ok(()),
            Err(problem) => Err(problem),
        }
    }

    /// How far Route 53 is with a change.
    pub(crate) async fn progress(&self, change: &Taken) -> Result<Taken, Problem> {
        let path = format!("{VERSION}/change/{}", change.id);
        let reply = self.ask(Method::GET, &path, &[], String::new()).await?;
        parsed(&reply, taken)
    }

    /// Sends a signed request; the reply, if it is one of success.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        pairs: &[(&str, &str)],
        body: String,
    ) -> Result<Reply, Problem> {
        let credentials = find(&self.own_region).await?;
        let text = format!("{}{path}?{}", self.endpoint, query(pairs));
        let url: Uri =
            text.trim_end_matches('?').parse().map_err(|_| HttpError::Url(text.clone()))?;
        let host = url.authority().map(place_of).unwrap_or_default();
        let body = Bytes::from(body);
        let unsigned = Unsigned {
            method: method.as_str(),
            host: &host,
            path: url.path(),
            query: pairs,
            body: &body,
        };
        let scope = Scope { region: self.region, service: "route53" };
        let mut headers = sign(unsigned, &credentials, scope, SystemTime::now());
        if method == Method::POST {
            headers.push(("content-type", "text/xml".into()));
        }
        let reply = send(method, &url, &headers, body, REQUEST_TIMEOUT).await?;
        if reply.status.is_success() { Ok(reply) } else { Err(problem(&reply)) }
    }
}

/// Where a page of records starts.
#[derive(Debug, Default)]
struct Start {
    name: String,
    kind: Option<String>,
    identifier: Option<String>,
}

struct Page {
    sets: Vec<RecordSet>,
    next: Option<Start>,
}

fn name(node: Node<'_, '_>) -> Option<String> {
    text(node, "Name").map(plain_name)
}

/// A name as we write it.
fn plain_name(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn record_set(node: Node<'_, '_>) -> Option<RecordSet> {
    let values = child(node, "ResourceRecords").map(|records| {
        let values = children(records).map(|record| text(record, "Value").map(str::to_owned));
        values.collect::<Option<Vec<_>>>()
    });
    let known = ["Name", "Type", "TTL", "ResourceRecords"];
    Some(RecordSet {
        name: name(node)?,
        kind: text(node, "Type")?.to_owned(),
        ttl: text(node, "TTL").and_then(|ttl| ttl.parse().ok()),
        values: values.unwrap_or_else(|| Some(Vec::new()))?,
        plain: children(node).all(|part| known.contains(&part.tag_name().name())),
    })
}

fn taken(root: Node<'_, '_>) -> Option<Taken> {
    let about = child(root, "ChangeInfo")?;
    let id = text(about, "Id")?.trim_start_matches("/change/");
    let fits = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let in_sync = text(about, "Status")? == "INSYNC";
    fits.then(|| Taken { id: id.to_owned(), in_sync })
}

fn step(change: &Change) -> String {
    let RecordSet { name, kind, ttl, values, .. } = change.set();
    let ttl = ttl.map(|ttl| format!("<TTL>{ttl}</TTL>")).unwrap_or_default();
    let value = |value: &String| {
        format!("<ResourceRecord><Value>{}</Value></ResourceRecord>", escaped(value))
    };
    let values: String = values.iter().map(value).collect();
    format!(
        "<Change><Action>{}</Action><ResourceRecordSet><Name>{}</Name><Type>{kind}</Type>{ttl}\
         <ResourceRecords>{values}</ResourceRecords></ResourceRecordSet></Change>",
        change.action(),
        escaped(name)
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    fn reply(body: impl Into<Bytes>) -> Reply {
        Reply { status: StatusCode::OK, body: body.into() }
    }

    #[test]
    fn record_sets_are_read_and_what_they_have_beside_values_is_seen() {
        let xml = "<R xmlns='x'><ResourceRecordSets>\
            <ResourceRecordSet><Name>A.com.</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords>\
            <ResourceRecord><Value>\"a &amp; b\"</Value></ResourceRecord></ResourceRecords>\
            </ResourceRecordSet>\
            <ResourceRecordSet><Name>a.com.</Name><Type>A</Type><AliasTarget><DNSName>b.com.\
            </DNSName></AliasTarget></ResourceRecordSet>\
            </ResourceRecordSets></R>";
        let sets = parsed(&reply(xml), |root| {
            children(child(root, "ResourceRecordSets")?).map(record_set).collect::<Option<Vec<_>>>()
        });
        let [text, alias] = &sets.unwrap()[..] else { panic!("two sets") };
        let value = vec!["\"a & b\"".to_owned()];
        assert_eq!(*text, RecordSet::new("a.com".into(), "TXT", 60, value));
        assert!(!alias.plain && alias.values.is_empty());
    }

    #[test]
    fn what_is_no_reply_of_route_53_harms_nobody() {
        let deep = "<a>".repeat(1 << 20);
        let many = format!("<a>{}</a>", "<b/>".repeat(1 << 20));
        let bomb = "<!DOCTYPE a [<!ENTITY b 'bbbbbbbb'>]><a>&b;</a>";
        for body in ["", "<html>", "\u{0}", "<a/>", bomb, &deep, &many] {
            let read = parsed(&reply(body.to_owned()), taken);
            assert!(matches!(read, Err(Problem::Strange(_))));
        }
        assert!(parsed(&reply(&b"\xff\xfe"[..]), taken).is_err());
        // What becomes part of a path is what may be there.
        let body = "<R><ChangeInfo><Id>/change/../x</Id><Status>PENDING</Status></ChangeInfo></R>";
        assert!(parsed(&reply(body), taken).is_err());
        for id in ["", "/hostedzone/", "Z1/../x", "Z1?", &"Z".repeat(33)] {
            assert_eq!(ZoneId::parse(id), None, "{id}");
        }
        assert_eq!(ZoneId::parse("/hostedzone/Z1"), ZoneId::parse("Z1"));
    }
}
