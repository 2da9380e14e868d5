//! Replicas that keep a domain in Route 53, with moto's server or one that misbehaves in its place.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::aws::{
    Answer, Asked, Aws, ID, Moto, SECRET, bare_environment, environment, error, python,
};
use crate::calls::until;
use crate::cluster::SOON;
use crate::processes::{Host, Load, Replica, bootstrap, client, concoord, leader};

const DOMAIN: &str = "counterdomain.com";
const KEEPS: [&str; 3] = ["-n", DOMAIN, "-r"];

/// Runs a command to its end.
fn run(env: &[(String, String)], arguments: &[&str]) -> Output {
    concoord(arguments).envs(env.iter().cloned()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The addresses of some replicas, as an A record has them.
fn ports(replicas: &[&Replica]) -> Vec<String> {
    let mut ports: Vec<_> =
        replicas.iter().map(|replica| replica.address.port().to_string()).collect();
    ports.sort();
    ports
}

/// The ports that SRV has, and that of the replica that it has first.
fn services(moto: &Moto, zone: &str) -> (Vec<String>, Option<String>) {
    let values = moto.values(zone, "_concoord._tcp.counterdomain.com", "SRV");
    let port = |value: &String| value.split(' ').nth(2).unwrap().to_owned();
    let first = values.iter().find(|value| value.starts_with("0 ")).map(port);
    let mut ports: Vec<_> = values.iter().map(port).collect();
    ports.sort();
    (ports, first)
}

#[test]
fn the_records_follow_the_view_and_the_leader() {
    let Some(moto) = Moto::start() else { return };
    let zone = moto.zone(DOMAIN);
    moto.zone("com.example");
    moto.put(&zone, DOMAIN, "TXT", "\"v=spf1 -all\"");
    moto.put(&zone, DOMAIN, "AAAA", "2001:db8::1");
    moto.put(&zone, "www.counterdomain.com", "A", "192.0.2.1");
    let host = Host::with(environment(moto.address));
    let first = host.start(&KEEPS);
    let are = |replicas: &[&Replica], leads: &Replica| {
        let expected = (ports(replicas), Some(leads.address.port().to_string()));
        until("the records follow", || services(&moto, &zone) == expected);
    };
    are(&[&first], &first);
    let ip = first.address.ip().to_string();
    assert_eq!(moto.values(&zone, DOMAIN, "A"), [ip.as_str()]);
    assert_eq!(moto.values(&zone, DOMAIN, "AAAA"), [""; 0]);
    let target = format!("{}.ipaddr.{DOMAIN}", ip.replace('.', "-"));
    assert_eq!(moto.values(&zone, &target, "A"), [ip]);

    let joining = ["-b", &bootstrap(&[&first]), KEEPS[0], KEEPS[1], KEEPS[2]];
    let (second, third) = (host.start(&joining), host.start(&joining));
    are(&[&first, &second, &third], &first);
    let texts = moto.values(&zone, DOMAIN, "TXT");
    let addresses = format!("{};", bootstrap(&[&first, &second, &third]).replace(", ", ";"));
    let about = addresses.trim_end_matches(';').replace(";", ";REPLICA ");
    assert_eq!(texts, [format!("\"REPLICA {about}\""), "\"v=spf1 -all\"".into()]);

    // The leader is killed, another one goes on, and the dead one leaves the records.
    let mut replicas = [first, second, third];
    replicas[0].kill();
    let dead = replicas[0].address.port().to_string();
    until("another one leads", || services(&moto, &zone).1.is_some_and(|first| first != dead));
    let mut replicas = Vec::from(replicas);
    drop(replicas.remove(0));
    let leads = leader(&replicas);
    are(&replicas.iter().collect::<Vec<_>>(), &replicas[leads]);
    assert_eq!(moto.values(&zone, "www.counterdomain.com", "A"), ["192.0.2.1"]);
    assert!(
        replicas[leads].status().unwrap().names.starts_with("Route 53 has the records of view ")
    );
}

#[test]
fn a_follower_does_it_where_the_leader_does_not() {
    let Some(moto) = Moto::start() else { return };
    let zone = moto.zone(DOMAIN);
    let host = Host::with(environment(moto.address));
    let leader = host.start(&[]);
    let follower = host.start(&["-b", &bootstrap(&[&leader]), KEEPS[0], KEEPS[1], KEEPS[2]]);
    let expected = (ports(&[&leader, &follower]), Some(leader.address.port().to_string()));
    until("it does", || services(&moto, &zone) == expected);
    assert!(leader.leads() && leader.status().unwrap().names.is_empty());
}

#[test]
fn who_is_not_trusted_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let Some(python) = python() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/certificate.py");
    let made = Command::new(python).arg(script).args([&certificate, &key]).status().unwrap();
    assert!(made.success());
    let Some(moto) = Moto::with(&["--ssl-cert", &certificate, "--ssl-key", &key]) else { return };
    let mut env = environment(moto.address);
    env.push(("AWS_ENDPOINT_URL".into(), format!("https://{}", moto.address)));
    let said =
        |env: &[(String, String)]| text(&run(env, &["route53", "clean", "-n", DOMAIN]).stderr);
    let output = said(&env);
    assert!(output.contains("invalid peer certificate"), "{output}");
    env.push(("AWS_CA_BUNDLE".into(), certificate));
    let output = said(&env);
    assert!(output.contains("no public hosted zone for counterdomain.com"), "{output}");
    env.push(("AWS_CA_BUNDLE".into(), key));
    let output = said(&env);
    assert!(output.contains("AWS_CA_BUNDLE"), "{output}");
}

#[test]
fn an_operator_compares_sets_right_and_cleans() {
    let Some(moto) = Moto::start() else { return };
    let (zone, env) = (moto.zone(DOMAIN), environment(moto.address));
    moto.put(&zone, DOMAIN, "TXT", "\"v=spf1 -all\"");
    // Does not keep the records itself.
    let host = Host::new();
    let replica = host.start(&[]);
    let boot = replica.address.to_string();
    let check =
        || run(&env, &["route53", "check", "-n", "CounterDomain.com.", "-b", &boot, "--json"]);
    let output = check();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("concoord route53 sync"), "{}", text(&output.stderr));
    let found: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found["current"], &found["may_change"]), (&json!(false), &json!(true)));
    assert_eq!((&found["zone"], &found["written_by"]), (&json!(zone), &Json::Null));
    // The text that is there is deleted and comes back beside ours.
    assert_eq!(found["changes"].as_array().unwrap().len(), 6);
    assert_eq!(moto.values(&zone, DOMAIN, "A"), [""; 0]);

    let sync =
        || run(&env, &["route53", "sync", "-n", DOMAIN, "-b", &boot, "--hosted-zone", &zone]);
    let output = sync();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let expected = format!("+ {DOMAIN} A {}\n", replica.address.ip());
    assert!(text(&output.stdout).contains(&expected), "{}", text(&output.stdout));
    assert_eq!(services(&moto, &zone).0, ports(&[&replica]));
    assert!(text(&sync().stderr).contains("right already"));
    let found: Json = serde_json::from_slice(&check().stdout).unwrap();
    assert_eq!((&found["current"], &found["changes"]), (&json!(true), &json!([])));

    let clean = || run(&env, &["route53", "clean", "-n", DOMAIN]);
    let output = clean();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(moto.values(&zone, DOMAIN, "A"), [""; 0]);
    assert_eq!(services(&moto, &zone).0, [""; 0]);
    assert_eq!(moto.values(&zone, DOMAIN, "TXT"), ["\"v=spf1 -all\""]);
    assert_eq!(clean().status.code(), Some(8));

    let other = moto.zone("other.example");
    let output = run(&env, &["route53", "clean", "-n", DOMAIN, "--hosted-zone", &other]);
    assert!(text(&output.stderr).contains("is that of other.example"), "{}", text(&output.stderr));
    let output = run(&env, &["route53", "clean", "-n", "sub.nowhere.example"]);
    assert!(text(&output.stderr).contains("no public hosted zone for sub.nowhere.example"));
    // The longest name that there is a zone of is the zone.
    let output = run(&env, &["route53", "check", "-n", "a.b.other.example", "-b", &boot]);
    assert!(text(&output.stdout).contains(&other), "{}", text(&output.stdout));
}

#[test]
fn whatever_aws_does_is_said_and_calls_go_on() {
    let zones =
        |zones: &str| Answer::Say(200, format!("<R><HostedZones>{zones}</HostedZones></R>"));
    let zone = "<HostedZone><Id>/hostedzone/Z1</Id><Name>counterdomain.com.</Name></HostedZone>";
    let private =
        zone.replace("</Name>", "</Name><Config><PrivateZone>true</PrivateZone></Config>");
    let cases = [
        (
            error(403, "InvalidClientTokenId", "The security token is invalid."),
            "concoord route53id",
        ),
        (error(403, "SignatureDoesNotMatch", "It does not match."), "concoord route53key"),
        (error(403, "ExpiredToken", "It expired."), "renew them"),
        (error(403, "AccessDenied", "User is not authorized."), "route53:ChangeResourceRecordSets"),
        (zones(""), "no public hosted zone for counterdomain.com"),
        (zones(&private), "no public hosted zone for counterdomain.com"),
        (zones(&zone.repeat(2)), "several hosted zones named counterdomain.com (Z1, Z1)"),
        (error(400, "Throttling", "Rate exceeded"), "too many requests"),
        (error(503, "ServiceUnavailable", "Try later"), "a problem of its own (Try later)"),
        (Answer::Say(200, "<html>Welcome to this hotel".into()), "what answers is not Route 53"),
        (Answer::Break, "can't be reached"),
        (Answer::Flood, "sent more than 4194304 bytes"),
        (Answer::Hang, "gave no reply in 15s"),
    ];
    let mut started = cases.map(|(answer, sentence)| {
        let aws = Aws::start(move |_, _| answer.clone());
        let host = Host::with(environment(aws.address));
        (host.start(&KEEPS), sentence, aws)
    });
    // The last one hangs, for as long as all this takes.
    let load = Load::start(&bootstrap(&[&started.last().unwrap().0]), 1);
    for (replica, sentence, aws) in &started {
        until(sentence, || replica.status().unwrap().names.contains(sentence));
        until("it is logged", || replica.log().contains(sentence));
        client(&bootstrap(&[replica]), SOON).increment().unwrap();
        assert!(!aws.asked().is_empty());
        load.goes_on();
    }
    assert_eq!(load.stop().unknown, 0);
    // Nor does one wait for AWS that is told to stop.
    let (hangs, ..) = &mut started.last_mut().unwrap();
    let before = Instant::now();
    hangs.signal(Signal::TERM);
    assert_eq!(hangs.ends(), 0);
    assert!(before.elapsed() < Duration::from_secs(10));
}

/// Passes all on to moto's server but what `answer` answers itself.
fn in_front_of(
    moto: &Moto,
    mut answer: impl FnMut(&Asked, usize) -> Option<Answer> + Send + 'static,
) -> Aws {
    let to = moto.address;
    Aws::start(move |asked, before| answer(asked, before).unwrap_or(Answer::Pass(to)))
}

#[test]
fn what_passes_is_tried_again_after_longer_and_longer_pauses() {
    let Some(moto) = Moto::start() else { return };
    let zone = moto.zone(DOMAIN);
    let aws = in_front_of(&moto, |_, before| match before {
        0 => Some(error(400, "Throttling", "Rate exceeded")),
        1 => Some(error(500, "InternalFailure", "Sorry")),
        2 => Some(Answer::Break),
        _ => None,
    });
    let host = Host::with(environment(aws.address));
    let replica = host.start(&KEEPS);
    until("it gets there", || services(&moto, &zone).0 == ports(&[&replica]));
    let asked = aws.asked();
    for (nth, middle) in [1, 2, 4].into_iter().enumerate() {
        let pause = asked[nth + 1].at - asked[nth].at;
        assert!(pause > Duration::from_millis(middle * 490), "{nth}: {pause:?}");
    }
    // One batch is all that it took.
    until("it says so", || replica.status().unwrap().names.starts_with("Route 53 has the records"));
    assert_eq!(aws.asked().iter().filter(|asked| asked.method == "POST").count(), 1);
}

#[test]
fn a_change_that_waits_for_others_or_is_under_way_is_said_to() {
    let Some(moto) = Moto::start() else { return };
    let zone = moto.zone(DOMAIN);
    let info = |tag: &str, status: &str| {
        let info = format!("<Id>/change/C1</Id><Status>{status}</Status>");
        Answer::Say(200, format!("<{tag}><ChangeInfo>{info}</ChangeInfo></{tag}>"))
    };
    let mut changes = 0;
    let aws = in_front_of(&moto, move |asked, _| {
        if asked.target.contains("/change/C1") {
            return Some(info("GetChangeResponse", "INSYNC"));
        }
        changes += usize::from(asked.method == "POST");
        match (asked.method.as_str(), changes) {
            ("POST", 1) => Some(error(400, "PriorRequestNotComplete", "Wait")),
            ("POST", _) => Some(info("ChangeResourceRecordSetsResponse", "PENDING")),
            _ => None,
        }
    });
    let host = Host::with(environment(aws.address));
    let replica = host.start(&KEEPS);
    let says = |what| until(what, || replica.status().unwrap().names.contains(what));
    says("busy with another change of the zone");
    says("not all of its servers have them yet");
    says("Route 53 has the records of view 1 ");
    until("it is logged", || replica.log().contains("all of its servers have them"));
    drop(zone);
}

#[test]
fn a_leader_that_comes_too_late_leaves_the_records_of_the_next_alone() {
    let Some(moto) = Moto::start() else { return };
    let zone = moto.zone(DOMAIN);
    let host = Host::new();
    let replica = host.start(&[]);
    let boot = replica.address.to_string();
    let later = |view: u64| {
        let cluster = replica.status().unwrap().view.unwrap().cluster;
        format!("\"cluster={cluster} lineage=0 view={view} term=9\"")
    };
    // What was read is there no more when the batch arrives: Route 53 refuses it as a whole.
    let (to, next, id) = (moto.address, later(7), zone.clone());
    let late = in_front_of(&moto, move |asked, _| {
        (asked.method == "POST").then(|| {
            let mark = format!("_concoord.{DOMAIN}");
            Moto::put_at(to, &id, &mark, "TXT", &next);
            error(400, "InvalidChangeBatch", "the values provided do not match the current values")
        })
    });
    let sync =
        |address| run(&environment(address), &["route53", "sync", "-n", DOMAIN, "-b", &boot]);
    let output = sync(late.address);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("at the same time"), "{}", text(&output.stderr));
    let batch = &late.asked().into_iter().find(|asked| asked.method == "POST").unwrap().body;
    assert!(batch.contains("<Action>CREATE</Action><ResourceRecordSet><Name>_concoord.counter"));
    // The next attempt sees whose they are.
    let output = sync(moto.address);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("a later leader (view 7"), "{}", text(&output.stderr));
    assert_eq!(services(&moto, &zone).0, [""; 0]);
    // One that is later writes, and its batch deletes that very mark.
    let earlier = later(0);
    moto.put(&zone, &format!("_concoord.{DOMAIN}"), "TXT", &earlier);
    let seen = in_front_of(&moto, |_, _| None);
    let output = sync(seen.address);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let batch = &seen.asked().into_iter().find(|asked| asked.method == "POST").unwrap().body;
    let quoted = earlier.replace('"', "&quot;");
    assert!(batch.contains("<Action>DELETE</Action>") && batch.contains(&quoted), "{batch}");
}

#[test]
fn botocore_signs_alike() {
    let (Some(moto), Some(python)) = (Moto::start(), python()) else { return };
    moto.zone(DOMAIN);
    let host = Host::new();
    let replica = host.start(&[]);
    let boot = replica.address.to_string();
    for token in ["", "FwoGZXIvYXdzE//+=="] {
        let aws = in_front_of(&moto, |_, _| None);
        let mut env = environment(aws.address);
        env.push(("AWS_SESSION_TOKEN".into(), token.into()));
        let output = run(&env, &["route53", "check", "-n", DOMAIN, "-b", &boot]);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let asked = aws.asked();
        assert!(asked.iter().any(|asked| asked.method == "POST") && asked.len() >= 3);
        let unsigned: Vec<_> = asked
            .iter()
            .map(|asked| {
                json!({
                    "id": ID,
                    "secret": SECRET,
                    "token": (!token.is_empty()).then_some(token),
                    "method": asked.method,
                    "url": format!("http://{}{}", aws.address, asked.target),
                    "host": asked.headers["host"],
                    "time": asked.headers["x-amz-date"],
                    "body": asked.body,
                })
            })
            .collect();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/signed.py");
        let mut signing = Command::new(&python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let unsigned = serde_json::to_vec(&unsigned).unwrap();
        signing.stdin.take().unwrap().write_all(&unsigned).unwrap();
        let signed = signing.wait_with_output().unwrap();
        assert!(signed.status.success());
        let ours = |asked: &Asked| {
            let (_, signature) = asked.headers["authorization"].split_once("Signature=").unwrap();
            signature.to_owned()
        };
        let theirs = text(&signed.stdout);
        assert_eq!(asked.iter().map(ours).collect::<Vec<_>>(), theirs.lines().collect::<Vec<_>>());
    }
}

/// The id of the key by which that environment has a command sign its requests.
fn signs_as(env: &[(String, String)]) -> (Option<String>, String) {
    let aws = Aws::start(|asked, _| {
        let is_ours =
            asked.headers.get("authorization").is_some_and(|token| token == "secret token")
                || asked.headers.get("x-aws-ec2-metadata-token").is_some_and(|token| token == "T");
        let keys = |id: &str| {
            let keys = json!({ "AccessKeyId": id, "SecretAccessKey": "s", "Token": "t" });
            Answer::Say(200, keys.to_string())
        };
        match (asked.method.as_str(), asked.target.as_str()) {
            ("GET", "/container") if is_ours => keys("CONTAINER"),
            ("PUT", "/latest/api/token") => Answer::Say(200, "T".into()),
            ("GET", "/latest/meta-data/iam/security-credentials/") if is_ours => {
                Answer::Say(200, "role\n".into())
            }
            ("GET", "/latest/meta-data/iam/security-credentials/role") if is_ours => keys("HOST"),
            ("POST", "/") if asked.body.contains("WebIdentityToken=the%2Ftoken") => {
                let keys = "<R><Credentials><AccessKeyId>WEB</AccessKeyId><SecretAccessKey>s\
                            </SecretAccessKey><SessionToken>t</SessionToken></Credentials></R>";
                Answer::Say(200, keys.into())
            }
            (_, target) if target.starts_with("/2013-04-01/") => {
                Answer::Say(200, "<R><HostedZones/></R>".into())
            }
            _ => Answer::Say(404, String::new()),
        }
    });
    let mut all = bare_environment(aws.address);
    let url = |value: &str| value.replace("AWS", &format!("http://{}", aws.address));
    all.extend(env.iter().map(|(name, value)| (name.clone(), url(value))));
    let output = run(&all, &["route53", "clean", "-n", DOMAIN]);
    let said = text(&output.stderr);
    let asked = aws.asked().into_iter().find(|asked| asked.target.contains("hostedzonesbyname"));
    let id = asked.map(|asked| {
        let (_, rest) = asked.headers["authorization"].split_once("Credential=").unwrap();
        rest.split('/').next().unwrap().to_owned()
    });
    (id, said)
}

#[test]
fn keys_come_from_the_places_of_aws_and_from_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let file = |name: &str, text: &str| {
        fs::write(folder.path().join(name), text).unwrap();
        path(name)
    };
    let credentials = file(
        "credentials",
        "[default]\naws_access_key_id=DEFAULT\naws_secret_access_key=s\n\
         [other]\naws_access_key_id=OTHER\naws_secret_access_key=s\n[half]\naws_access_key_id=H\n",
    );
    let config = file(
        "config",
        "[profile program]\ncredential_process = echo '{\"Version\": 1, \"AccessKeyId\": \"PROGRAM\", \
         \"SecretAccessKey\": \"s\"}'\n[profile role]\nrole_arn = arn:aws:iam::1:role/x\n\
         [profile broken]\ncredential_process = exit 3 # password\n",
    );
    let token = file("token", "the/token\n");
    fs::create_dir(path("ours")).unwrap();
    fs::create_dir(path("ours/concoord")).unwrap();
    file("ours/concoord/CONFIG", "AWS_ACCESS_KEY_ID=OURS\nAWS_SECRET_ACCESS_KEY=s\n");
    let ours = path("ours");
    let set = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let profile = |name| {
        set(&[
            ("AWS_SHARED_CREDENTIALS_FILE", &credentials),
            ("AWS_CONFIG_FILE", &config),
            ("XDG_CONFIG_HOME", &ours),
            ("AWS_PROFILE", name),
        ])
    };
    let container = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS/container"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "secret token"),
    ];
    let host =
        [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS")];
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/x"),
    ];
    let environment = [("AWS_ACCESS_KEY_ID", "ENVIRONMENT"), ("AWS_SECRET_ACCESS_KEY", "s")];
    for (env, expected) in [
        (set(&[("XDG_CONFIG_HOME", &ours)]), "OURS"),
        ([profile("other"), set(&environment)].concat(), "ENVIRONMENT"),
        (set(&[("AWS_SHARED_CREDENTIALS_FILE", &credentials)]), "DEFAULT"),
        (profile("other"), "OTHER"),
        (profile("program"), "PROGRAM"),
        (set(&web), "WEB"),
        (set(&[&container[..], &host[..]].concat()), "CONTAINER"),
        (set(&host), "HOST"),
    ] {
        let (id, said) = signs_as(&env);
        assert_eq!(id.as_deref(), Some(expected), "{env:?}: {said}");
    }
    for (env, expected) in [
        (set(&[]), "concoord route53id"),
        (set(&environment[..1]), "AWS_SECRET_ACCESS_KEY is not: set both"),
        (profile("half"), "give both"),
        (profile("role"), "credential_process = aws configure export-credentials --profile role"),
        (profile("broken"), "it ended with exit status: 3"),
        (profile("none"), "no file has it"),
        (set(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS/container")]), "it answers 404"),
    ] {
        let (id, said) = signs_as(&env);
        assert!(id.is_none() && said.contains(expected), "{id:?} {said}");
        assert!(!said.contains("password"), "a command is not repeated: {said}");
    }
}

#[test]
fn the_keys_of_the_tutorial_are_kept_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let at = vec![("XDG_CONFIG_HOME".to_owned(), folder.path().to_str().unwrap().to_owned())];
    let said = |arguments: &[&str]| {
        let output = run(&at, arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(!text(&[output.stdout.clone(), output.stderr].concat()).contains(SECRET));
        text(&output.stdout)
    };
    assert_eq!(said(&["route53id", ID]), format!("Adding AWS_ACCESS_KEY_ID to CONFIG: {ID}\n"));
    assert_eq!(said(&["route53id", ID]), "AWS_ACCESS_KEY_ID is already in the CONFIG file.\n");
    assert_eq!(said(&["route53key", SECRET]), "Adding AWS_SECRET_ACCESS_KEY to CONFIG.\n");
    let mut again = concoord(&["route53key", "-"])
        .envs(at.iter().cloned())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    again.stdin.take().unwrap().write_all(format!("{SECRET}\n").as_bytes()).unwrap();
    let output = again.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "AWS_SECRET_ACCESS_KEY is already in the CONFIG file.\n");
    let file = folder.path().join("concoord/CONFIG");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = format!("AWS_ACCESS_KEY_ID={ID}\nAWS_SECRET_ACCESS_KEY={SECRET}\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), kept);
    for arguments in
        [&["route53id"][..], &["route53key"], &["route53id", ""], &["route53key", "a b"]]
    {
        assert_eq!(run(&at, arguments).status.code(), Some(2), "{arguments:?}");
    }
    // Without a domain there is nothing to keep, and a domain is one.
    for options in
        [&["-r"][..], &["-r", "-n", "no domain"], &["-r", "-n", DOMAIN, "--dns-ttl", "0"]]
    {
        let arguments = [&["replica", "-o", "a.B"], options].concat();
        assert_eq!(run(&at, &arguments).status.code(), Some(2), "{options:?}");
    }
}
