//! In the place of AWS: moto's server, and one that answers as a test wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::cluster::SOON;
use crate::processes::tell;

pub(crate) const ID: &str = "AKIDEXAMPLE";
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The environment of a program that finds AWS there, and nothing else of it.
pub(crate) fn environment(address: SocketAddr) -> Vec<(String, String)> {
    let mut env = bare_environment(address);
    env.push(("AWS_ACCESS_KEY_ID".into(), ID.into()));
    env.push(("AWS_SECRET_ACCESS_KEY".into(), SECRET.into()));
    env
}

/// The same, without keys.
pub(crate) fn bare_environment(address: SocketAddr) -> Vec<(String, String)> {
    let url = format!("http://{address}");
    // An empty variable is as good as none.
    let mut env: BTreeMap<String, String> = std::env::vars()
        .filter(|(name, _)| name.starts_with("AWS_"))
        .map(|(name, _)| (name, String::new()))
        .collect();
    env.insert("AWS_ENDPOINT_URL".into(), url);
    env.insert("AWS_EC2_METADATA_DISABLED".into(), "true".into());
    env.insert("HOME".into(), "/nowhere".into());
    env.insert("XDG_CONFIG_HOME".into(), "/nowhere".into());
    env.into_iter().collect()
}

/// A program of the virtual environment that the checks run in, if they run in one.
pub(crate) fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("VIRTUAL_ENV")?).join("bin/python");
    let has = |module| {
        let found = Command::new(&python).args(["-c", module]).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    };
    let found = has("import moto, flask, flask_cors, botocore");
    if !found {
        tell("skipped: no moto here (pip install -r scripts/tools.txt)");
    }
    found.then_some(python)
}

/// A request, whole.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

/// Sends a request and reads the reply, with its head.
pub(crate) fn exchange(address: SocketAddr, method: &str, target: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // Moto tells services apart by whom a signature is for.
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: route53.amazonaws.com\r\nConnection: close\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential={ID}/20261122/us-east-1/route53/aws4_request, \
         SignedHeaders=host, Signature=0\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// Moto's server, which keeps zones in memory and does not check signatures.
pub(crate) struct Moto {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Moto {
    pub(crate) fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// With these options of its own.
    pub(crate) fn with(options: &[&str]) -> Option<Self> {
        let mut child = Command::new(python()?)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (said_tx, said) = channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        thread::spawn(move || {
            // Read to its end, so that it never waits for us.
            for line in lines.map_while(Result::ok) {
                said_tx.send(line).unwrap_or(());
            }
        });
        let address = loop {
            let line = said.recv_timeout(SOON).expect("moto's server starts");
            if let Some((_, address)) = line.split_once("Running on http") {
                break address.trim_start_matches(['s', ':', '/']).trim().parse().unwrap();
            }
        };
        Some(Self { address, child })
    }

    /// Makes a hosted zone; its id.
    pub(crate) fn zone(&self, name: &str) -> String {
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <Name>{name}</Name><CallerReference>{name}</CallerReference></CreateHostedZoneRequest>"
        );
        let reply = exchange(self.address, "POST", "/2013-04-01/hostedzone", &body);
        between(&reply, "<Id>/hostedzone/", "</Id>").unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    /// The values of the records of that name and type, sorted.
    pub(crate) fn values(&self, zone: &str, name: &str, kind: &str) -> Vec<String> {
        let target = format!("/2013-04-01/hostedzone/{zone}/rrset");
        let reply = exchange(self.address, "GET", &target, "");
        let is = |set: &&str| {
            set.contains(&format!("<Name>{name}.</Name>"))
                && set.contains(&format!("<Type>{kind}</Type>"))
        };
        let sets: Vec<&str> = reply.split("<ResourceRecordSet>").collect();
        let set = sets.into_iter().find(is).unwrap_or_default();
        let values = set.split("<Value>").skip(1).filter_map(|rest| rest.split("</Value>").next());
        let mut values: Vec<_> = values.map(|value| value.replace("&quot;", "\"")).collect();
        values.sort();
        values
    }

    /// Puts records there, as somebody else may.
    pub(crate) fn put(&self, zone: &str, name: &str, kind: &str, value: &str) {
        Self::put_at(self.address, zone, name, kind, value);
    }

    pub(crate) fn put_at(address: SocketAddr, zone: &str, name: &str, kind: &str, value: &str) {
        let body = format!(
            "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <ChangeBatch><Changes><Change><Action>UPSERT</Action><ResourceRecordSet>\
             <Name>{name}</Name><Type>{kind}</Type><TTL>300</TTL><ResourceRecords><ResourceRecord>\
             <Value>{value}</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change>\
             </Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
        );
        let target = format!("/2013-04-01/hostedzone/{zone}/rrset/");
        let reply = exchange(address, "POST", &target, &body);
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split(end).next()
}

/// What a server that misbehaves does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Says that.
    Say(u16, String),
    /// Has that server answer.
    Pass(SocketAddr),
    /// Says nothing, and keeps the connection.
    Hang,
    /// Says half of it, and closes the connection.
    Break,
    /// Goes on and on.
    Flood,
}

/// The error that AWS answers with.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::Say(
        status,
        format!(
            "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>1</RequestId></ErrorResponse>"
        ),
    )
}

/// A server that answers as it is told to, and keeps what it was asked.
pub(crate) struct Aws {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Aws {
    /// `answer` is given the request, and how many came before it.
    pub(crate) fn start(answer: impl FnMut(&Asked, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&asked), Arc::new(Mutex::new(answer)));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let before = {
                        let mut kept = kept.lock().unwrap();
                        kept.push(request.clone());
                        kept.len() - 1
                    };
                    let answer = (answer.lock().unwrap())(&request, before);
                    perform(answer, &request, stream);
                });
            }
        });
        Self { address, asked }
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        Some(line.trim_end().to_owned())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line()?.split_once(':') {
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    Some(Asked { method, target, headers, body, at: Instant::now() })
}

/// Whoever asked may be gone by now; that is fine.
fn perform(answer: Answer, request: &Asked, mut stream: TcpStream) {
    let head = |status: u16, length: usize| {
        format!(
            "HTTP/1.1 {status} Whatever\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let done = match answer {
        Answer::Say(status, body) => {
            stream.write_all(format!("{}{body}", head(status, body.len())).as_bytes())
        }
        Answer::Pass(to) => {
            let reply = exchange(to, &request.method, &request.target, &request.body);
            stream.write_all(reply.as_bytes())
        }
        // Until the other side closes it.
        Answer::Hang => stream.read_to_end(&mut Vec::new()).map(drop),
        Answer::Break => stream.write_all(format!("{}<half", head(200, 1000)).as_bytes()),
        Answer::Flood => {
            let piece = [b' '; 1 << 16];
            let begun = stream.write_all(head(200, 1 << 30).as_bytes());
            begun.and_then(|()| (0..1 << 14).try_for_each(|_| stream.write_all(&piece)))
        }
    };
    done.unwrap_or(());
}
