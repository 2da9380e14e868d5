//! Where the keys come from: the places in which AWS's own tools look, and in between ours.
//!
//! They are looked for anew at each change, which is seldom: so keys that are replaced, or that
//! expire, are replaced here too, without a restart.
//!
//! Source: "Standardized credential providers" in the AWS SDKs and Tools Reference Guide.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode, Uri};
use serde_json::Value as Json;
use tokio::process::Command;
use tokio::time::timeout;

use super::file::{KeyFile, Sections, read};
use super::http::{HttpError, send, without_user};
use super::problem::quoted;
use super::sign::{Credentials, query};
use super::xml::text_of;

/// How long the metadata service, or that of a container, may take: both are on this host.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long STS may take.
const REMOTE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a program may take that gives credentials.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(30);

/// The names under which we keep keys, and under which AWS has them in the environment.
pub(crate) const ID: &str = "AWS_ACCESS_KEY_ID";
/// The other one.
pub(crate) const KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    /// Nowhere.
    #[error(
        "there are no AWS keys: give them by `concoord route53id` and `concoord route53key` to the \
         user that runs the replica, or by the environment, an AWS profile, or the role of the host"
    )]
    Nowhere,
    /// A place has some that are of no use.
    #[error("{place}: {why}")]
    Unusable {
        /// Where.
        place: String,
        /// And what to do.
        why: String,
    },
    /// A place does not answer.
    #[error("{place} gives no keys: {error}")]
    Silent {
        /// Which.
        place: &'static str,
        /// Why not.
        error: HttpError,
    },
}

type Found = Result<Option<Credentials>, CredentialsError>;

/// The keys of the first place that has some.
pub(crate) async fn find(region: &str) -> Result<Credentials, CredentialsError> {
    if let Some(found) = from_environment()? {
        return Ok(found);
    }
    if variable("AWS_PROFILE").is_none()
        && let Some(found) = from_our_file()?
    {
        return Ok(found);
    }
    if let Some(found) = from_web_identity(region).await? {
        return Ok(found);
    }
    if let Some(found) = from_profile().await? {
        return Ok(found);
    }
    if let Some(found) = from_container().await? {
        return Ok(found);
    }
    from_host().await?.ok_or(CredentialsError::Nowhere)
}

fn from_environment() -> Found {
    match (variable(ID), variable(KEY)) {
        (Some(id), Some(secret)) => {
            Ok(Some(Credentials { id, secret, token: variable("AWS_SESSION_TOKEN") }))
        }
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(unusable("the environment", format!("{ID} is set and {KEY} is not: set both")))
        }
        (None, Some(_)) => {
            Err(unusable("the environment", format!("{KEY} is set and {ID} is not: set both")))
        }
    }
}

fn from_our_file() -> Found {
    let Some(file) = KeyFile::of_user() else { return Ok(None) };
    let get = |name| file.get(name).map_err(|error| unusable(file.path().display(), error));
    match (get(ID)?, get(KEY)?) {
        (Some(id), Some(secret)) => Ok(Some(Credentials { id, secret, token: None })),
        (None, None) => Ok(None),
        (Some(_), None) => {
            Err(unusable(file.path().display(), "the key is missing: run `concoord route53key -`"))
        }
        (None, Some(_)) => {
            Err(unusable(file.path().display(), "the id is missing: run `concoord route53id ID`"))
        }
    }
}

/// A token of the cluster manager's, which STS takes for keys.
async fn from_web_identity(region: &str) -> Found {
    let Some((file, role)) = variable("AWS_WEB_IDENTITY_TOKEN_FILE").zip(variable("AWS_ROLE_ARN"))
    else {
        return Ok(None);
    };
    let token = read(file.as_ref()).map_err(|error| unusable(&file, error))?;
    let session = variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| "concoord".into());
    let form = query(&[
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", &role),
        ("RoleSessionName", &session),
        ("WebIdentityToken", token.trim()),
    ]);
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let endpoint = variable("AWS_ENDPOINT_URL_STS")
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .unwrap_or_else(|| format!("https://sts.{region}.{domain}"));
    let url = url(&format!("{}/", endpoint.trim_end_matches('/')))?;
    let kind = [("content-type", "application/x-www-form-urlencoded".to_owned())];
    let reply = send(Method::POST, &url, &kind, Bytes::from(form), REMOTE_TIMEOUT)
        .await
        .map_err(|error| CredentialsError::Silent { place: "STS", error })?;
    let part = |name| text_of(&reply.body, name);
    match (part("AccessKeyId"), part("SecretAccessKey"), part("SessionToken")) {
        (Some(id), Some(secret), token) if reply.status == StatusCode::OK => {
            Ok(Some(Credentials { id, secret, token }))
        }
        _ => {
            let why = part("Message").unwrap_or_else(|| reply.status.to_string());
            let why = quoted(&why);
            Err(unusable("STS", format!("it does not take the token in {file} for {role}: {why}")))
        }
    }
}

/// A profile of AWS's own files: keys, or a program that gives some.
async fn from_profile() -> Found {
    let asked = variable("AWS_PROFILE");
    let name = asked.clone().unwrap_or_else(|| "default".into());
    let read = |file: &Option<PathBuf>| match file {
        Some(file) => Sections::read(file).map_err(|error| unusable(file.display(), error)),
        None => Ok(Sections::default()),
    };
    let credentials = read(&file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"))?;
    let config = read(&file("AWS_CONFIG_FILE", ".aws/config"))?;
    let section = if name == "default" { name.clone() } else { format!("profile {name}") };
    let get = |setting| credentials.get(&name, setting).or_else(|| config.get(&section, setting));
    let place = format!("the AWS profile {name}");
    match (get("aws_access_key_id"), get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => {
            let (id, secret) = (id.to_owned(), secret.to_owned());
            let token = get("aws_session_token").map(str::to_owned);
            return Ok(Some(Credentials { id, secret, token }));
        }
        (None, None) => {}
        _ => {
            let why = "it has one of aws_access_key_id and aws_secret_access_key: give both";
            return Err(unusable(place, why));
        }
    }
    if let Some(command) = get("credential_process") {
        return from_process(&name, command).await.map(Some);
    }
    let takes_more = ["role_arn", "sso_session", "sso_start_url", "login_session"];
    if takes_more.iter().any(|setting| get(setting).is_some()) {
        let why = format!(
            "it takes a role or a login, which the AWS tool has: make a profile with \
             credential_process = aws configure export-credentials --profile {name}, and name \
             that by AWS_PROFILE"
        );
        return Err(unusable(place, why));
    }
    if asked.is_some() && !credentials.has(&name) && !config.has(&section) {
        return Err(unusable(place, "AWS_PROFILE names it, and no file has it"));
    }
    Ok(None)
}

/// A program that prints keys as JSON.
async fn from_process(profile: &str, command: &str) -> Result<Credentials, CredentialsError> {
    // Not the command: secrets may be among its arguments, and anybody reads what is wrong.
    let place = format!("credential_process of the AWS profile {profile}");
    let running = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = match timeout(PROCESS_TIMEOUT, running).await {
        Ok(output) => output.map_err(|error| unusable(&place, error))?,
        Err(_) => return Err(unusable(&place, format!("it took more than {PROCESS_TIMEOUT:?}"))),
    };
    if !output.status.success() {
        return Err(unusable(&place, format!("it ended with {}", output.status)));
    }
    keys(&output.stdout, "SessionToken")
        .ok_or_else(|| unusable(&place, "it prints no keys as JSON"))
}

/// The agent of a container.
async fn from_container() -> Found {
    let relative = variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    let full = relative
        .map(|path| format!("http://169.254.170.2{path}"))
        .or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"));
    let Some(full) = full else { return Ok(None) };
    let token = match variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(file) => Some(read(file.as_ref()).map_err(|error| unusable(&file, error))?),
        None => variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let headers: Vec<_> =
        token.iter().map(|token| ("authorization", token.trim().to_owned())).collect();
    let place = "the container's agent";
    let reply = send(Method::GET, &url(&full)?, &headers, Bytes::new(), LOCAL_TIMEOUT)
        .await
        .map_err(|error| CredentialsError::Silent { place, error })?;
    let found = keys(&reply.body, "Token").filter(|_| reply.status == StatusCode::OK);
    found.map(Some).ok_or_else(|| unusable(place, format!("it answers {}", reply.status)))
}

/// The metadata service of a host, by its second version: with a token. A host without one is a
/// host without keys.
async fn from_host() -> Found {
    if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Ok(None);
    }
    let base = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    let base = base.unwrap_or_else(|| "http://169.254.169.254".into());
    let base = base.trim_end_matches('/');
    let place = "the host's metadata service";
    let life = [("x-aws-ec2-metadata-token-ttl-seconds", "60".to_owned())];
    let address = url(&format!("{base}/latest/api/token"))?;
    let Ok(token) = send(Method::PUT, &address, &life, Bytes::new(), LOCAL_TIMEOUT).await else {
        return Ok(None);
    };
    if token.status != StatusCode::OK {
        return Ok(None);
    }
    let token = [("x-aws-ec2-metadata-token", String::from_utf8_lossy(&token.body).into_owned())];
    let roles = format!("{base}/latest/meta-data/iam/security-credentials/");
    let get = async |address: String| {
        send(Method::GET, &url(&address)?, &token, Bytes::new(), LOCAL_TIMEOUT)
            .await
            .map_err(|error| CredentialsError::Silent { place, error })
    };
    let role = get(roles.clone()).await?;
    if role.status != StatusCode::OK {
        return Ok(None);
    }
    let role = String::from_utf8_lossy(&role.body);
    let Some(role) = role.lines().next().map(str::trim).filter(|role| !role.is_empty()) else {
        return Ok(None);
    };
    let reply = get(format!("{roles}{role}")).await?;
    let found = keys(&reply.body, "Token").filter(|_| reply.status == StatusCode::OK);
    found.map(Some).ok_or_else(|| {
        unusable(place, format!("it has no keys for the role {role} ({})", reply.status))
    })
}

/// Keys as JSON, which all but STS give.
fn keys(json: &[u8], token: &str) -> Option<Credentials> {
    let json: Json = serde_json::from_slice(json).ok()?;
    let text = |name| json.get(name).and_then(Json::as_str).map(str::to_owned);
    Some(Credentials {
        id: text("AccessKeyId")?,
        secret: text("SecretAccessKey")?,
        token: text(token),
    })
}

fn url(text: &str) -> Result<Uri, CredentialsError> {
    text.parse().map_err(|error| unusable(without_user(text), error))
}

/// A variable of the environment that is not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn file(name: &str, below_home: &str) -> Option<PathBuf> {
    let home = || Some(PathBuf::from(variable("HOME")?).join(below_home));
    variable(name).map(PathBuf::from).or_else(home)
}

fn unusable(place: impl ToString, why: impl ToString) -> CredentialsError {
    CredentialsError::Unusable { place: place.to_string(), why: why.to_string() }
}
