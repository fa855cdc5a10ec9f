//! How a call to Flink's REST interface can fail, told apart by what to do about it.
use crate::domain::savepoint::FailureCause;
use crate::flink::tls::TlsError;
use crate::flink::version::FlinkVersion;
use std::error::Error as StdError;
use std::path::PathBuf;

/// Why a call to Flink's REST interface failed. `request` is its method and path.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No answer: refused, reset, cut off, or too late. The request may have been carried out.
    #[error("{request}: {what}")]
    Unreachable {
        /// The request.
        request: String,
        /// What happened, for example "could not connect to 127.0.0.1:8081".
        what: String,
        /// The system's own words, if there are any.
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// 503: no leading JobManager at the moment, or an RPC endpoint that is not up yet.
    #[error("{request}: Flink is not available: {cause}")]
    Unavailable {
        /// The request.
        request: String,
        /// What Flink says.
        cause: FailureCause,
    },
    /// 404: no such job, operation or endpoint, or no checkpoint statistics.
    #[error("{request}: not found: {cause}")]
    NotFound {
        /// The request.
        request: String,
        /// What Flink says.
        cause: FailureCause,
    },
    /// 400 and others: Flink does not accept the request as it is.
    #[error("{request}: refused with status {status}: {cause}")]
    BadRequest {
        /// The request.
        request: String,
        /// The HTTP status.
        status: u16,
        /// What Flink says.
        cause: FailureCause,
    },
    /// 409: the job is in a state that does not allow this.
    #[error("{request}: conflict: {cause}")]
    Conflict {
        /// The request.
        request: String,
        /// What Flink says.
        cause: FailureCause,
    },
    /// 500. A trigger may be answered so although the operation was started, when the JobManager is shutting down.
    #[error("{request}: Flink failed with status {status}: {cause}")]
    Server {
        /// The request.
        request: String,
        /// The HTTP status.
        status: u16,
        /// What Flink says.
        cause: FailureCause,
    },
    /// 401 or 403.
    #[error(
        "{request}: unauthorized (status {status}): check the credentials file, or whether one is needed"
    )]
    Unauthorized {
        /// The request.
        request: String,
        /// The HTTP status.
        status: u16,
    },
    /// Not HTTP, not JSON, or JSON of another shape.
    #[error(
        "{request}: the answer is not Flink's: {what}; check that the URL is that of the JobManager's REST interface"
    )]
    Garbage {
        /// The request.
        request: String,
        /// What is wrong, and where.
        what: String,
    },
    /// The answer is longer than allowed.
    #[error("{request}: the answer has more than {limit} bytes: raise the limit")]
    TooLarge {
        /// The request.
        request: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// No TLS connection; the source names the remedy.
    #[error("{request}: no TLS connection")]
    Tls {
        /// The request.
        request: String,
        /// What is wrong.
        source: TlsError,
    },
    /// The credentials cannot be read.
    #[error(
        "{request}: could not read the credentials in {path}: give a readable file with one line"
    )]
    Credentials {
        /// The request.
        request: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// This Flink is too old for the call.
    #[error("{request}: needs Flink {since} or newer, this is {version}")]
    TooOld {
        /// The request.
        request: String,
        /// The version at hand.
        version: FlinkVersion,
        /// The first version that can do it.
        since: FlinkVersion,
    },
    /// The settings make no sense.
    #[error("the URL of Flink's REST interface, {url}, {what}")]
    Settings {
        /// The URL, without credentials.
        url: String,
        /// What is wrong with it and what to write.
        what: &'static str,
    },
}

impl RestError {
    /// What Flink itself gave as the reason, if it answered.
    #[must_use]
    pub const fn cause(&self) -> Option<&FailureCause> {
        match self {
            Self::Unavailable { cause, .. }
            | Self::NotFound { cause, .. }
            | Self::BadRequest { cause, .. }
            | Self::Conflict { cause, .. }
            | Self::Server { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// True when the same call may succeed later without anyone changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unavailable { .. } => true,
            Self::Server { cause, .. } => {
                cause.class.is_retryable()
                    || cause.class == crate::domain::savepoint::FailureClass::Other
            }
            _ => false,
        }
    }
}
