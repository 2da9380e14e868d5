//! One request over HTTP or HTTPS, bounded in time and in what is read.
//!
//! Each request has a connection of its own. There are a few a change of the view: what a pool
//! would spare is less than what a connection that died unnoticed would cost.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::task::Task;

/// Bytes of a reply's body. A page of 300 records, each with a hundred values, is less.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Bytes of a reply's head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// How long a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no reply, or none that we read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("{0:?} is no URL of http:// or https://")]
    Url(String),
    #[error("no connection to {0}: {1}")]
    Connect(String, io::Error),
    #[error(
        "no certificate of an authority is found: install ca-certificates, or name a file by AWS_CA_BUNDLE"
    )]
    NoRoots,
    #[error("the certificates in AWS_CA_BUNDLE can't be read: {0}")]
    Bundle(String),
    #[error("{0} gave no reply in {1:?}")]
    Late(String, Duration),
    #[error("{0} broke off: {1}")]
    Broken(String, hyper::Error),
    #[error("{0} sent more than {BODY_BYTES_MAX} bytes, or broke off in between")]
    Large(String),
}

/// A reply, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Sends one request and reads the reply, in at most that time.
pub(crate) async fn send(
    method: Method,
    url: &Uri,
    headers: &[(&str, String)],
    body: Bytes,
    limit: Duration,
) -> Result<Reply, HttpError> {
    let place = url.authority().map(place_of).unwrap_or_default();
    match timeout(limit, exchange(method, url, headers, body)).await {
        Ok(reply) => reply,
        Err(_) => Err(HttpError::Late(place, limit)),
    }
}

async fn exchange(
    method: Method,
    url: &Uri,
    headers: &[(&str, String)],
    body: Bytes,
) -> Result<Reply, HttpError> {
    let request = request(method, url, headers, body)
        .ok_or_else(|| HttpError::Url(without_user(&url.to_string())))?;
    let (Some(host), Some(authority)) = (url.host(), url.authority()) else {
        return Err(HttpError::Url(without_user(&url.to_string())));
    };
    let place = place_of(authority);
    // An IPv6 address stands in brackets.
    let host = host.trim_matches(['[', ']']);
    let secure = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let connect = |error| HttpError::Connect(place.clone(), error);
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port)));
    let stream = connecting.await.map_err(|late| connect(late.into()))?.map_err(connect)?;
    if !secure {
        return converse(stream, request, &place).await;
    }
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| HttpError::Url(without_user(&url.to_string())))?;
    let shaking = timeout(CONNECT_TIMEOUT, connector()?.connect(name, stream));
    let stream = shaking.await.map_err(|late| connect(late.into()))?.map_err(connect)?;
    converse(stream, request, &place).await
}

/// Host and port, without who asks: a password may stand there.
pub(crate) fn place_of(authority: &Authority) -> String {
    let whole = authority.as_str();
    whole.rsplit_once('@').map_or(whole, |(_, place)| place).to_owned()
}

/// The same URL, without who asks.
pub(crate) fn without_user(url: &str) -> String {
    let (start, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    [start, place, path].concat()
}

fn request(
    method: Method,
    url: &Uri,
    headers: &[(&str, String)],
    body: Bytes,
) -> Option<Request<Full<Bytes>>> {
    let mut all = HeaderMap::new();
    all.insert(HOST, HeaderValue::from_str(&place_of(url.authority()?)).ok()?);
    all.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in headers {
        let mut value = HeaderValue::from_str(value).ok()?;
        value.set_sensitive(true);
        all.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
    }
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method).uri(path).body(Full::new(body)).ok()?;
    *request.headers_mut() = all;
    Some(request)
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    request: Request<Full<Bytes>>,
    place: &str,
) -> Result<Reply, HttpError> {
    let broken = |error| HttpError::Broken(place.to_owned(), error);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // What ends it tells the sender, too.
    let _connection = Task::spawn(async { drop(connection.await) });
    let reply = sender.send_request(request).await.map_err(broken)?;
    let status = reply.status();
    let body = Limited::new(reply.into_body(), BODY_BYTES_MAX).collect().await;
    match body {
        Ok(body) => Ok(Reply { status, body: body.to_bytes() }),
        Err(error) if error.is::<LengthLimitError>() => Err(HttpError::Large(place.to_owned())),
        Err(error) => match error.downcast() {
            Ok(error) => Err(broken(*error)),
            Err(_) => Err(HttpError::Large(place.to_owned())),
        },
    }
}

/// TLS that trusts whom the system trusts, or those in `AWS_CA_BUNDLE`.
fn connector() -> Result<TlsConnector, HttpError> {
    static CONNECTOR: OnceLock<TlsConnector> = OnceLock::new();
    if let Some(connector) = CONNECTOR.get() {
        return Ok(connector.clone());
    }
    let roots = roots()?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has what TLS 1.2 and 1.3 take")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(CONNECTOR.get_or_init(|| TlsConnector::from(Arc::new(config))).clone())
}

fn roots() -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    if let Some(bundle) = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) {
        let unreadable = |error: &dyn std::fmt::Display| HttpError::Bundle(error.to_string());
        for certificate in
            CertificateDer::pem_file_iter(bundle).map_err(|error| unreadable(&error))?
        {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.add(certificate).map_err(|error| unreadable(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() { Err(HttpError::NoRoots) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_not_repeated() {
        for (url, said) in [
            ("https://user:secret@host:1/a@b?c", "https://host:1/a@b?c"),
            ("https://us@er:secret@host", "https://host"),
            ("user:secret@host", "host"),
            ("http://host/", "http://host/"),
        ] {
            assert_eq!(without_user(url), said);
        }
        assert_eq!(place_of(&Authority::from_static("user:secret@host:1")), "host:1");
    }
}
