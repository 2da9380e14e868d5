//! AWS Signature Version 4, as far as Route 53 and STS take it: the whole body is signed, and the
//! path holds nothing that needs to be encoded.
//!
//! Source: "Create a signed AWS API request" in the IAM User Guide. A test has botocore sign the
//! same requests and compares.

use std::fmt;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::digest::{SHA256, digest};
use ring::hmac::{self, HMAC_SHA256};

use crate::date;

/// What proves to AWS who asks. Shown without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) id: String,
    pub(crate) secret: String,
    /// Of temporary credentials.
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A request to be signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsigned<'a> {
    pub(crate) method: &'a str,
    /// As the request's `host` header has it.
    pub(crate) host: &'a str,
    /// Of letters, digits and slashes.
    pub(crate) path: &'a str,
    /// In whichever order.
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// Whom a signature is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

/// The headers that sign the request at that time, beside its `host`.
pub(crate) fn sign(
    request: Unsigned<'_>,
    credentials: &Credentials,
    scope: Scope<'_>,
    time: SystemTime,
) -> Vec<(&'static str, String)> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    // 20261122T235959Z
    let time =
        date::utc(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)).replace(['-', ':'], "");
    let day = time.split('T').next().unwrap_or_default();
    let mut headers = vec![("host", request.host.to_owned()), ("x-amz-date", time.clone())];
    if let Some(token) = &credentials.token {
        headers.push(("x-amz-security-token", token.clone()));
    }
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method,
        request.path,
        query(request.query),
        hex(digest(&SHA256, request.body).as_ref())
    );
    let place = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{place}\n{hash}");
    let signature = hex(&mac(&key(credentials, day, scope), &text));
    let id = &credentials.id;
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{place}, SignedHeaders={names}, Signature={signature}"
    );
    headers.remove(0);
    headers.push(("authorization", authorization));
    headers
}

/// The key of that day, region and service.
fn key(credentials: &Credentials, day: &str, scope: Scope<'_>) -> Vec<u8> {
    let first = format!("AWS4{}", credentials.secret).into_bytes();
    [day, scope.region, scope.service, "aws4_request"]
        .iter()
        .fold(first, |key, part| mac(&key, part))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// A query as a request carries it: sorted, all but unreserved characters encoded.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut pairs: Vec<_> =
        pairs.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// RFC 3986, section 2.3: what is not unreserved is encoded.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The first of AWS's published examples of signatures, `get-vanilla`.
    #[test]
    fn the_signature_is_that_of_the_published_example() {
        let credentials = Credentials {
            id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let request = Unsigned {
            method: "GET",
            host: "example.amazonaws.com",
            path: "/",
            query: &[],
            body: b"",
        };
        let scope = Scope { region: "us-east-1", service: "service" };
        let time = UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let headers = sign(request, &credentials, scope, time);
        assert_eq!(headers[0], ("x-amz-date", "20150830T123600Z".into()));
        assert!(headers[1].1.ends_with(
            "SignedHeaders=host;x-amz-date, Signature=\
             5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        ));
        assert!(!format!("{credentials:?}").contains("wJalr"));
    }

    #[test]
    fn queries_are_sorted_and_encoded() {
        assert_eq!(
            query(&[("name", "_a.b"), ("a b", "1+2/\u{e9}")]),
            "a%20b=1%2B2%2F%C3%A9&name=_a.b"
        );
        assert_eq!(query(&[]), "");
    }
}
