//! Jobs of a session cluster: a jar is uploaded, run as often as wanted, and deleted. Application clusters answer 404.
use super::exchange::{Call, Long};
use super::{FlinkRest, RestError, garbage, refusal};
use crate::domain::claim::ClaimMode;
use crate::domain::job::JobId;
use crate::flink::version::FlinkVersion;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::Frame;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::error::Error as StdError;

/// A jar to be uploaded.
pub struct JarUpload<S> {
    /// The name of the file. Flink puts a random id before it, and refuses one that does not end in `.jar`.
    pub name: String,
    /// Its size in bytes, where it is known.
    pub size: Option<u64>,
    /// Its bytes.
    pub bytes: S,
}

/// How an uploaded jar is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JarRun {
    /// The job id. A second job with the same id is refused by Flink, also when the first has ended.
    pub job: JobId,
    /// The main class, if not that of the manifest.
    pub entry_class: Option<String>,
    /// The arguments of its main method.
    pub args: Vec<String>,
    /// Flink's default if not given.
    pub parallelism: Option<u32>,
    /// Where it resumes from.
    pub savepoint: Option<String>,
    /// It may leave state of the restore point unused.
    pub allow_non_restored_state: bool,
    /// Who owns the restore point afterwards; since Flink 1.15.
    pub claim: Option<ClaimMode>,
}

impl JarRun {
    /// The request's body: up to Flink 1.19 a field that it does not know is refused (strict mapper).
    fn body(&self, version: FlinkVersion) -> Value {
        let mut body = Map::new();
        body.insert("jobId".to_owned(), json!(self.job));
        body.insert("programArgsList".to_owned(), json!(self.args));
        if let Some(class) = &self.entry_class {
            body.insert("entryClass".to_owned(), json!(class));
        }
        if let Some(parallelism) = self.parallelism {
            body.insert("parallelism".to_owned(), json!(parallelism));
        }
        if let Some(savepoint) = &self.savepoint {
            body.insert("savepointPath".to_owned(), json!(savepoint));
            let allow = json!(self.allow_non_restored_state);
            body.insert("allowNonRestoredState".to_owned(), allow);
        }
        if let (Some(_), Some(claim), true) = (&self.savepoint, self.claim, version.at_least(1, 15))
        {
            let name = if version.at_least(1, 20) {
                "claimMode"
            } else {
                "restoreMode"
            };
            body.insert(name.to_owned(), json!(claim.to_flink()));
        }
        Value::Object(body)
    }
}

#[derive(Deserialize)]
struct Uploaded {
    filename: String,
}

#[derive(Deserialize)]
struct Submitted {
    jobid: JobId,
}

/// What has to be escaped in one segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

const BOUNDARY: &str = "drey-5d1c7c0e4f6a4f0e9b3b7a86";

impl FlinkRest {
    /// Uploads a jar; its id, which is good as long as this JobManager lives. Takes as long as it takes.
    ///
    /// # Errors
    /// See [`RestError`]; [`RestError::Unreachable`] also when `bytes` ends with an error.
    pub async fn upload_jar<S, E>(&self, jar: JarUpload<S>) -> Result<String, RestError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: StdError + Send + Sync + 'static,
    {
        let call = Call {
            method: Method::POST,
            path: "/jars/upload".to_owned(),
            body: Bytes::new(),
        };
        let name: String = jar.name.chars().filter(|c| is_plain(*c)).collect();
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"{name}\"\r\n\
             Content-Type: application/x-java-archive\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let around = (head.len() + tail.len()) as u64;
        let one = |text: String| stream::iter([Ok(Bytes::from(text))]);
        let bytes = one(head).chain(jar.bytes).chain(one(tail));
        let frames = bytes.map(|piece| piece.map(Frame::data));
        let long = Long {
            content_type: format!("multipart/form-data; boundary={BOUNDARY}"),
            length: jar.size.map(|size| size + around),
            body: StreamBody::new(frames).map_err(Into::into).boxed_unsync(),
        };
        let answer = self.exchange.send_long(&call, long).await?;
        if !answer.status.is_success() {
            return Err(refusal(&call, &answer));
        }
        let uploaded: Uploaded =
            serde_json::from_slice(&answer.body).map_err(|error| garbage(&call, error))?;
        let id = uploaded.filename.rsplit(['/', '\\']).next();
        Ok(id.unwrap_or_default().to_owned())
    }

    /// Runs the main method of an uploaded jar; the id of the job that it submitted. Flink answers when that is done.
    ///
    /// # Errors
    /// See [`RestError`]. After [`RestError::Unreachable`] and [`RestError::Server`] the job may have been submitted.
    pub async fn run_jar(
        &self,
        jar: &str,
        run: &JarRun,
        version: FlinkVersion,
    ) -> Result<JobId, RestError> {
        let submitted: Submitted = self
            .ask(&Call {
                method: Method::POST,
                path: format!("{}/run", path_of(jar)),
                body: Bytes::from(run.body(version).to_string()),
            })
            .await?;
        Ok(submitted.jobid)
    }

    /// Deletes an uploaded jar. Jobs that were run from it have their own copy.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn delete_jar(&self, jar: &str) -> Result<(), RestError> {
        self.answer(&Call {
            method: Method::DELETE,
            path: path_of(jar),
            body: Bytes::new(),
        })
        .await
        .map(drop)
    }
}

fn path_of(jar: &str) -> String {
    format!("/jars/{}", utf8_percent_encode(jar, SEGMENT))
}

/// Fit for a file name in a header.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> JarRun {
        JarRun {
            job: JobId::from_bytes([7; 16]),
            entry_class: Some("org.example.Orders".to_owned()),
            args: vec!["--rate".to_owned(), "1".to_owned()],
            parallelism: Some(2),
            savepoint: Some("file:///savepoint-1".to_owned()),
            allow_non_restored_state: true,
            claim: Some(ClaimMode::NoClaim),
        }
    }

    fn keys(run: &JarRun, version: &str) -> Vec<String> {
        let body = run.body(version.parse().expect("a version"));
        let mut keys: Vec<String> = body
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect();
        keys.sort();
        keys
    }

    #[test]
    fn a_run_has_no_field_that_its_flink_does_not_know() {
        let common = [
            "allowNonRestoredState",
            "entryClass",
            "jobId",
            "parallelism",
            "programArgsList",
            "savepointPath",
        ];
        assert_eq!(keys(&run(), "1.14.6"), common);
        for (version, name) in [
            ("1.15.4", "restoreMode"),
            ("1.19.3", "restoreMode"),
            ("1.20.5", "claimMode"),
            ("2.3.0", "claimMode"),
        ] {
            let mut expected = common.to_vec();
            expected.push(name);
            expected.sort_unstable();
            assert_eq!(keys(&run(), version), expected, "{version}");
        }
    }

    #[test]
    fn a_run_from_empty_state_says_nothing_of_a_restore_point() {
        let fresh = JarRun {
            savepoint: None,
            entry_class: None,
            parallelism: None,
            ..run()
        };
        assert_eq!(keys(&fresh, "2.3.0"), ["jobId", "programArgsList"]);
    }
}
