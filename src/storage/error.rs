//! What can go wrong with storage, sorted by what a caller can do about it.

mod answer;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use answer::{Class, Failure};

use super::location::Location;

/// The reason underneath; free of secrets, and at most a few hundred characters long.
type Source = Box<dyn StdError + Send + Sync>;

/// Longest text of a server that is passed on, in characters.
const MAX_DETAIL: usize = 300;

/// What is tried where objects are deleted.
pub(super) const DELETE: &str = "delete";

/// What was tried, on what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    action: &'static str,
    location: String,
}

impl Attempt {
    pub(super) fn new(action: &'static str, location: &Location) -> Self {
        Self {
            action,
            location: location.to_string(),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.action, self.location)
    }
}

/// An operation on storage failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Nothing is there.
    #[error("{attempt}: not found")]
    NotFound {
        /// What was tried.
        attempt: Attempt,
        /// What the file system or server said.
        source: Source,
    },
    /// The credentials are missing, wrong, or do not allow it.
    #[error("{attempt}: access denied; {remedy}")]
    Denied {
        /// What was tried.
        attempt: Attempt,
        /// What to do about it.
        remedy: &'static str,
        /// What the file system or server said.
        source: Source,
    },
    /// The file system is mounted read-only.
    #[error(
        "{attempt}: the file system is read-only; mount it writable or choose another directory"
    )]
    ReadOnly {
        /// What was tried.
        attempt: Attempt,
        /// What the file system said.
        source: Source,
    },
    /// The file system or the quota is full.
    #[error("{attempt}: no space left; delete old savepoints or enlarge the volume")]
    NoSpace {
        /// What was tried.
        attempt: Attempt,
        /// What the file system said.
        source: Source,
    },
    /// The server cannot be reached or is overloaded: worth another try.
    #[error("{attempt}: storage is unreachable; {remedy}")]
    Unreachable {
        /// What was tried.
        attempt: Attempt,
        /// What to do if it stays so.
        remedy: &'static str,
        /// What the connection or server said.
        source: Source,
    },
    /// No answer in time: worth another try.
    #[error(
        "{attempt}: no answer within {after:?}; check the network, or raise the storage timeout"
    )]
    TimedOut {
        /// What was tried.
        attempt: Attempt,
        /// How long it was waited for.
        after: Duration,
    },
    /// Drey cannot look into this kind of storage.
    #[error(
        "{attempt}: storage of scheme {scheme}: is not supported (file, s3, s3a, s3p, gs, abfs, abfss, wasb and wasbs \
         are); keep savepoints in one of those, or set allow-unverified to record paths without looking at them"
    )]
    Unsupported {
        /// What was tried.
        attempt: Attempt,
        /// The scheme, as `hdfs`.
        scheme: String,
    },
    /// The file is larger than what is held in memory.
    #[error(
        "{attempt}: it has {size} bytes, over the limit of {limit}; raise the metadata limit if that is right"
    )]
    TooLarge {
        /// What was tried.
        attempt: Attempt,
        /// Bytes of the file.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Anything else: wrong settings, a broken server, a file system error.
    #[error("{attempt}: {remedy}")]
    Other {
        /// What was tried.
        attempt: Attempt,
        /// What to do about it.
        remedy: &'static str,
        /// What the file system or server said.
        source: Source,
    },
}

/// A [`StorageError`] without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// Nothing is there.
    NotFound,
    /// Credentials or rights are missing.
    Denied,
    /// The file system is read-only or full.
    NotWritable,
    /// Storage cannot be reached now; another try may succeed.
    Unreachable,
    /// Drey does not know this kind of storage.
    Unsupported,
    /// Anything else.
    Other,
}

impl StorageError {
    /// Which sort it is.
    pub fn kind(&self) -> StorageErrorKind {
        match self {
            Self::NotFound { .. } => StorageErrorKind::NotFound,
            Self::Denied { .. } => StorageErrorKind::Denied,
            Self::ReadOnly { .. } | Self::NoSpace { .. } => StorageErrorKind::NotWritable,
            Self::Unreachable { .. } | Self::TimedOut { .. } => StorageErrorKind::Unreachable,
            Self::Unsupported { .. } => StorageErrorKind::Unsupported,
            Self::TooLarge { .. } | Self::Other { .. } => StorageErrorKind::Other,
        }
    }

    /// Whether the same operation may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        self.kind() == StorageErrorKind::Unreachable
    }

    pub(super) fn io(attempt: Attempt, error: io::Error) -> Self {
        let source = Box::new(error.kind_error());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Self::NotFound { attempt, source }
            }
            io::ErrorKind::PermissionDenied => Self::Denied {
                attempt,
                remedy: FILE_DENIED,
                source,
            },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { attempt, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::NoSpace { attempt, source }
            }
            io::ErrorKind::StaleNetworkFileHandle
            | io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable => Self::Unreachable {
                attempt,
                remedy: "check the mounted volume",
                source,
            },
            _ => Self::Other {
                attempt,
                remedy: "the file system failed",
                source,
            },
        }
    }

    pub(super) fn store(attempt: Attempt, error: &object_store::Error) -> Self {
        let failure = Failure::of(error);
        let (detail, source) = (&failure.detail, Box::new(Detail(failure.detail.clone())));
        match failure.class {
            Class::NotFound => Self::NotFound { attempt, source },
            Class::Denied => Self::Denied {
                remedy: match attempt.action {
                    DELETE => DELETE_DENIED,
                    _ => OBJECT_DENIED,
                },
                attempt,
                source,
            },
            Class::NoCredentials => Self::Unreachable {
                attempt,
                remedy: NO_CREDENTIALS,
                source,
            },
            Class::Overloaded => Self::Unreachable {
                attempt,
                remedy: "the server is failing",
                source,
            },
            Class::Connection => {
                let remedy = if detail.contains("certificate") {
                    UNTRUSTED
                } else {
                    NO_CONNECTION
                };
                Self::Unreachable {
                    attempt,
                    remedy,
                    source,
                }
            }
            Class::Elsewhere => Self::Other {
                attempt,
                remedy: WRONG_REGION,
                source,
            },
            Class::Other => Self::Other {
                attempt,
                remedy: "check the storage settings",
                source,
            },
        }
    }

    pub(super) fn settings(attempt: Attempt, detail: String) -> Self {
        Self::Other {
            attempt,
            remedy: "check the storage settings",
            source: Box::new(Detail(detail)),
        }
    }
}

const FILE_DENIED: &str =
    "give this user the right, or run under Flink's user (securityContext.fsGroup in a pod)";
const OBJECT_DENIED: &str = "check the credentials and that they allow to read, write and list here (without the right \
                             to list, S3 also answers so for what does not exist)";
const DELETE_DENIED: &str = "check the credentials and that they allow to list and delete here";
const NO_CREDENTIALS: &str = "no credentials are configured and the platform's metadata service does not answer; set \
                              them in Drey's or Flink's configuration or in the environment (~/.aws profiles are not \
                              read: export their keys)";
const NO_CONNECTION: &str = "check the endpoint and the network";
const UNTRUSTED: &str =
    "the server's certificate is not trusted; configure its certificate authority as ca-file";
const WRONG_REGION: &str = "the bucket is elsewhere; configure its region (s3.region)";

/// `io::Error` without a borrowed payload: only its kind and code are passed on.
trait KindError {
    fn kind_error(&self) -> io::Error;
}

impl KindError for io::Error {
    fn kind_error(&self) -> io::Error {
        match self.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind(), shorten(&self.to_string())),
        }
    }
}

/// One line of what a server or a connection said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Detail(String);

fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_DETAIL) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn kind_and_text(error: object_store::Error) -> (StorageErrorKind, String) {
        let at = Location::parse("s3://b/k").unwrap();
        let error = StorageError::store(Attempt::new("read", &at), &error);
        (
            error.kind(),
            format!("{error}: {}", error.source().unwrap()),
        )
    }

    fn generic(text: &str) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: Box::new(Detail(text.to_owned())),
        }
    }

    #[test]
    fn answers_are_sorted_by_status_and_code() {
        let status = |rest: &str| generic(&format!("Server returned non-2xx status code: {rest}"));
        for (error, kind, part) in [
            (
                status("403 Forbidden: "),
                StorageErrorKind::Denied,
                "check the credentials",
            ),
            (
                status("400 Bad Request: <Code>ExpiredToken</Code>"),
                StorageErrorKind::Denied,
                "ExpiredToken",
            ),
            (
                status("429 Too Many Requests: "),
                StorageErrorKind::Unreachable,
                "failing",
            ),
            (
                status("500 Internal: "),
                StorageErrorKind::Unreachable,
                "failing",
            ),
            (status("301 Moved: "), StorageErrorKind::Other, "s3.region"),
            (
                generic(
                    "DeleteObjects request failed for key a/b: Access Denied (code: AccessDenied)",
                ),
                StorageErrorKind::Denied,
                "check the credentials",
            ),
            (
                generic("Bulk delete request failed for key a: Server busy (code: 503)"),
                StorageErrorKind::Unreachable,
                "failing",
            ),
            (
                status(
                    "400 Bad Request: <Code>AuthorizationHeaderMalformed</Code><Message>use r</Message>",
                ),
                StorageErrorKind::Other,
                "s3.region",
            ),
            (
                status("404 Not Found: <Code>NoSuchBucket</Code>"),
                StorageErrorKind::NotFound,
                "NoSuchBucket",
            ),
            (
                generic("anything"),
                StorageErrorKind::Other,
                "storage settings",
            ),
        ] {
            let (found, text) = kind_and_text(error);
            assert_eq!(found, kind, "{text}");
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_404_of_a_credential_service_is_never_not_found() {
        for service in [
            "PUT http://169.254.169.254/latest/api/token",
            "GET http://metadata.google.internal/computeMetadata/v1/instance",
            "POST https://sts.r.amazonaws.com/",
            "POST https://login.microsoftonline.com/t/oauth2/v2.0/token",
        ] {
            let (kind, text) = kind_and_text(generic(&format!(
                "{service} - status code: 404 Not Found: "
            )));
            assert_ne!(kind, StorageErrorKind::NotFound, "{text}");
        }
    }

    #[test]
    fn long_answers_become_one_short_line() {
        let (_, text) = kind_and_text(generic(&format!("ü\n{}", "stack trace ü ".repeat(5000))));
        assert!(text.len() < 700 && !text.contains('\n'), "{text}");
    }
}
