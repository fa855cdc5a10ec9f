//! Sorts what object stores answer. The types inside `object_store::Error` are private, so statuses are read from its
//! text; real servers in the integration tests see to it that they stay there.

use std::error::Error as StdError;

use object_store::client::{HttpError, HttpErrorKind};

use super::shorten;

/// What can be found out from an `object_store::Error`, whose inner types are private.
pub(super) struct Failure {
    pub(super) class: Class,
    pub(super) detail: String,
}

/// What a failure means for the caller.
pub(super) enum Class {
    NotFound,
    Denied,
    NoCredentials,
    Overloaded,
    Connection,
    Elsewhere,
    Other,
}

impl Failure {
    pub(super) fn of(error: &object_store::Error) -> Self {
        let chain = chain(error);
        let http = chain.iter().find_map(|e| e.downcast_ref::<HttpError>());
        let innermost = chain.last().map(ToString::to_string).unwrap_or_default();
        let whole = error.to_string();
        let detail = detail(&innermost);
        // Credential errors are generic ones. First of all, so that a credential service that knows no role is never
        // taken for a missing savepoint.
        let generic = matches!(error, object_store::Error::Generic { .. });
        let class = if generic && METADATA_SERVICES.iter().any(|path| whole.contains(path)) {
            Class::NoCredentials
        } else if http.is_some_and(|e| !matches!(e.kind(), HttpErrorKind::Decode)) {
            Class::Connection
        } else {
            Class::of_answer(error, &whole, &detail)
        };
        Self { class, detail }
    }
}

/// In the addresses of what gives tokens to pods and machines: AWS (IMDS, container credentials, EKS), Google, Azure.
const METADATA_SERVICES: [&str; 7] = [
    "/latest/api/token",
    "/latest/meta-data",
    "/v2/credentials",
    "169.254.",
    "computeMetadata",
    "/metadata/identity",
    "/v1/credentials",
];

impl Class {
    fn of_answer(error: &object_store::Error, whole: &str, detail: &str) -> Self {
        match error {
            object_store::Error::NotFound { .. } => return Self::NotFound,
            object_store::Error::PermissionDenied { .. }
            | object_store::Error::Unauthenticated { .. } => {
                return Self::Denied;
            }
            _ => {}
        }
        match status_in(whole).or_else(|| refused_key(whole)) {
            Some(401 | 403) => Self::Denied,
            Some(400) if is_about_credentials(detail) => Self::Denied,
            Some(408 | 425 | 429 | 500..) => Self::Overloaded,
            Some(300..=399) => Self::Elsewhere,
            _ if detail.contains("AuthorizationHeaderMalformed")
                || detail.contains("without LOCATION") =>
            {
                Self::Elsewhere
            }
            // A listing in a bucket that does not exist.
            Some(404)
                if detail.contains("NoSuchBucket") || detail.contains("ContainerNotFound") =>
            {
                Self::NotFound
            }
            _ => Self::Other,
        }
    }
}

fn chain(error: &object_store::Error) -> Vec<&(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |error| StdError::source(*error)).collect()
}

/// Code and message of a server's XML, else its text.
fn detail(innermost: &str) -> String {
    let element = |name: &str| {
        let (_, rest) = innermost.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>"))
            .map(|(text, _)| text.trim())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => shorten(&format!("{code}: {message}")),
        (Some(code), None) => shorten(code),
        _ => shorten(innermost.trim_end_matches([':', ' '])),
    }
}

/// `RequestError::Status` prints "Server returned non-2xx status code: 403 Forbidden: …".
fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.rsplit_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// When many objects are deleted at once, the answer is a success, with a refusal for each object in it: a code of S3's, or
/// Azure's status.
fn refused_key(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("request failed for key ")?;
    let (_, code) = rest.rsplit_once("(code: ")?;
    match code.trim_end_matches(')') {
        "AccessDenied" => Some(403),
        "SlowDown" | "InternalError" => Some(503),
        status => status.parse().ok(),
    }
}

fn is_about_credentials(detail: &str) -> bool {
    [
        "ExpiredToken",
        "InvalidToken",
        "TokenRefreshRequired",
        "InvalidClientTokenId",
        "invalid_grant",
        "invalid_client",
    ]
    .iter()
    .any(|code| detail.contains(code))
}
