//! What can be wrong, and what to do about it.

use hyper::StatusCode;

use super::credentials::CredentialsError;
use super::http::{HttpError, Reply};
use super::records::InTheWay;
use super::xml::text_of;

/// Why Route 53 does not have our records yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// Who we are is not known to us.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// AWS does not know the key's id.
    #[error(
        "AWS does not know the key id ({0}): give another one by `concoord route53id`, or by \
         whatever else names it here"
    )]
    UnknownId(String),
    /// The key is not that of the id.
    #[error(
        "AWS does not take the signature ({0}): give the secret key again by `concoord route53key \
         -`, and check this host's clock"
    )]
    WrongKey(String),
    /// Temporary keys whose time is over.
    #[error("AWS says that the keys have expired ({0}): renew them, and check this host's clock")]
    Expired(String),
    /// The keys are good, for something else.
    #[error(
        "these keys may not do that ({0}): allow their user route53:ListHostedZonesByName, and for \
         the zone route53:ListResourceRecordSets, route53:ChangeResourceRecordSets, \
         route53:GetHostedZone, and route53:GetChange"
    )]
    Denied(String),
    /// There is no zone to keep records in.
    #[error(
        "Route 53 has no public hosted zone for {0}: create one in the AWS console, or name the \
         one to use with --hosted-zone"
    )]
    NoZone(String),
    /// There are several.
    #[error("Route 53 has several hosted zones named {0} ({1}): name one with --hosted-zone")]
    SeveralZones(String, String),
    /// The zone that was named is another domain's.
    #[error(
        "the hosted zone {id} is that of {zone}, in which {domain} can't be: name another one with --hosted-zone"
    )]
    OtherZone {
        /// The zone's id.
        id: String,
        /// The domain that it is of.
        zone: String,
        /// The domain that we keep.
        domain: String,
    },
    /// Somebody's record is in the way.
    #[error(transparent)]
    InTheWay(#[from] InTheWay),
    /// The account makes more requests than it may.
    #[error("Route 53 has this account wait, since it makes too many requests; trying on")]
    Throttled,
    /// Another change of the zone is under way.
    #[error("Route 53 is still busy with another change of the zone; trying on")]
    Busy,
    /// The records are not those that were read.
    #[error("somebody else has changed the records at the same time ({0}); trying on")]
    Changed(String),
    /// A later leader has written them.
    #[error("Route 53 has the records of a later leader ({0}); this one leaves them alone")]
    Later(String),
    /// No reply.
    #[error("Route 53 can't be reached ({0}); trying on. Check this host's way to the internet")]
    Unreachable(#[from] HttpError),
    /// Not its day.
    #[error("Route 53 has a problem of its own ({0}); trying on")]
    Unwell(String),
    /// Nothing that we understand.
    #[error(
        "what answers is not Route 53 ({0}): check AWS_ENDPOINT_URL and what is between here and AWS"
    )]
    Strange(String),
    /// All else.
    #[error("Route 53 refuses that: {0}")]
    Refused(String),
}

impl Problem {
    /// Whether waiting may be all that it takes.
    pub(crate) const fn passes(&self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::Busy
                | Self::Changed(_)
                | Self::Unreachable(_)
                | Self::Unwell(_)
                | Self::Strange(_)
        )
    }
}

/// What AWS says, to be quoted within a sentence.
pub(crate) fn quoted(said: &str) -> String {
    said.trim().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// What a reply that is none of success means.
pub(crate) fn problem(reply: &Reply) -> Problem {
    let code = text_of(&reply.body, "Code");
    let message = text_of(&reply.body, "Message").or_else(|| code.clone());
    let message = message.unwrap_or_else(|| reply.status.to_string());
    let message = quoted(&message);
    match code.as_deref().unwrap_or_default() {
        "Throttling"
        | "ThrottlingException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded" => Problem::Throttled,
        "PriorRequestNotComplete" => Problem::Busy,
        "InvalidClientTokenId" | "UnrecognizedClientException" | "InvalidAccessKeyId" => {
            Problem::UnknownId(message)
        }
        "SignatureDoesNotMatch" | "InvalidSignatureException" | "IncompleteSignature" => {
            Problem::WrongKey(message)
        }
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "RequestTimeTooSkewed" => {
            Problem::Expired(message)
        }
        "NoSuchHostedZone" => Problem::NoZone(format!("that id ({message})")),
        "InvalidChangeBatch" => Problem::Changed(message),
        _ if reply.status == StatusCode::TOO_MANY_REQUESTS => Problem::Throttled,
        _ if reply.status.is_server_error() => Problem::Unwell(message),
        _ if reply.status == StatusCode::FORBIDDEN => Problem::Denied(message),
        "" => Problem::Strange(reply.status.to_string()),
        "AccessDenied" | "AccessDeniedException" => Problem::Denied(message),
        _ => Problem::Refused(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_meant() {
        let error = |code: &str| {
            format!(
                "<ErrorResponse><Error><Code>{code}</Code><Message>m\n</Message></Error></ErrorResponse>"
            )
        };
        let of = |status, code: &str| problem(&reply(status, &error(code)));
        assert!(matches!(of(403, "InvalidClientTokenId"), Problem::UnknownId(_)));
        assert!(matches!(of(403, "SignatureDoesNotMatch"), Problem::WrongKey(_)));
        assert!(matches!(of(403, "ExpiredToken"), Problem::Expired(_)));
        assert!(matches!(of(403, "AccessDenied"), Problem::Denied(_)));
        assert!(matches!(of(403, "MissingAuthenticationToken"), Problem::Denied(_)));
        assert!(matches!(of(404, "NoSuchHostedZone"), Problem::NoZone(_)));
        assert!(matches!(of(400, "Throttling"), Problem::Throttled));
        assert!(matches!(of(429, "Whatever"), Problem::Throttled));
        assert!(matches!(of(400, "PriorRequestNotComplete"), Problem::Busy));
        assert!(matches!(of(400, "InvalidChangeBatch"), Problem::Changed(_)));
        assert!(matches!(of(503, "ServiceUnavailable"), Problem::Unwell(_)));
        assert!(matches!(of(400, "InvalidInput"), Problem::Refused(message) if message == "m"));
        assert!(matches!(problem(&reply(502, "<html>")), Problem::Unwell(_)));
        assert!(matches!(problem(&reply(404, "not here")), Problem::Strange(_)));
    }

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status: StatusCode::from_u16(status).unwrap(), body: body.to_owned().into() }
    }
}
