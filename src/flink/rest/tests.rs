//! Calls over real sockets, against a small server that can be slow, wrong or broken at will. Real answers are those
//! recorded in `tests/fixtures/rest`.
use super::*;
use crate::domain::savepoint::{FailureClass, SavepointKind};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Outcome = Result<(), Box<dyn Error>>;

/// What the server does with a request.
enum Reply {
    Answer(u16, String),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    Silence,
    Close,
}

/// The head and the body of a request, and which connection it came over.
#[derive(Debug, Clone)]
struct Seen {
    connection: usize,
    head: String,
    body: String,
}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn start(
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, Box<dyn Error>> {
        Self::start_with(None, answer).await
    }

    async fn start_with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&seen), Arc::new(answer));
        tokio::spawn(async move {
            let mut connection = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connection += 1;
                let (log, answer, tls) = (Arc::clone(&log), Arc::clone(&answer), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, connection, &log, answer.as_ref()).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, connection, &log, answer.as_ref()).await;
                            }
                        }
                    }
                });
            }
        });
        Ok(Self { address, seen })
    }

    /// A server that has this one answer.
    async fn answering(status: u16, body: &str) -> Result<Self, Box<dyn Error>> {
        let body = body.to_owned();
        Self::start(move |_| Reply::Answer(status, body.clone())).await
    }

    fn settings(&self, scheme: &str) -> Result<RestSettings, Box<dyn Error>> {
        Ok(RestSettings::new(
            format!("{scheme}://{}", self.address).parse()?,
        ))
    }

    fn client(&self) -> Result<FlinkRest, Box<dyn Error>> {
        Ok(FlinkRest::new(self.settings("http")?)?)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen
            .lock()
            .expect("no test panics with the lock")
            .clone()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    log: &Mutex<Vec<Seen>>,
    answer: &(dyn Fn(&Seen) -> Reply + Send + Sync),
) {
    while let Some((head, body)) = read_request(&mut stream).await {
        let seen = Seen {
            connection,
            head,
            body,
        };
        log.lock()
            .expect("no test panics with the lock")
            .push(seen.clone());
        let bytes = match answer(&seen) {
            Reply::Answer(status, body) => format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes(),
            Reply::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Silence => return std::future::pending().await,
            Reply::Close => return,
        };
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(Some(0), |text| text.trim().parse().ok())?;
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, String::from_utf8_lossy(&bytes[end..]).into_owned()))
}

fn recorded(name: &str) -> Result<String, Box<dyn Error>> {
    let path = format!(
        "{}/tests/fixtures/rest/1.20.5/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    Ok(std::fs::read_to_string(path)?)
}

const JOB: JobId = JobId::from_bytes([0x11; 16]);
const TRIGGER: TriggerId = TriggerId::from_bytes([0x22; 16]);

fn stop_request() -> SavepointRequest {
    SavepointRequest {
        job: JOB,
        trigger: TRIGGER,
        kind: SavepointKind::Stop { drain: false },
        format: None,
        target_directory: None,
    }
}

/// The error with all its sources, as a person gets to see it.
fn chain(error: &RestError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[tokio::test]
async fn calls_go_over_one_connection_to_their_endpoints() -> Outcome {
    let server = Server::start(|seen| {
        let name = match seen.head.split(' ').nth(1).unwrap_or_default() {
            "/config" => "config",
            "/jobs/overview" => "overview",
            "/jobmanager/config" => "jobmanager-config",
            path if path.ends_with("/checkpoints") => "checkpoints",
            path if path.ends_with("/checkpoints/config") => "checkpoint-config",
            path if path.contains("/savepoints/") => "stop",
            path if path.contains("/checkpoints/") => "checkpoint-done",
            _ => return Reply::Answer(404, "no such path".to_owned()),
        };
        Reply::Answer(200, recorded(name).expect("the fixture is there"))
    })
    .await?;
    let flink = server.client()?;
    assert_eq!(flink.version().await?.to_string(), "1.20.5");
    assert_eq!(flink.jobs().await?.len(), 1);
    assert!(flink.checkpoints(JOB).await?.latest.completed.is_some());
    assert!(
        flink
            .checkpoint_config(JOB)
            .await?
            .externalization
            .retained()
    );
    assert_eq!(
        flink
            .jobmanager_config()
            .await?
            .get("rest.port")
            .map(String::as_str),
        Some("18120")
    );
    let done = flink.checkpoint_operation(JOB, TRIGGER).await?;
    assert!(matches!(
        done,
        CheckpointOperation::Completed { checkpoint: 1.. }
    ));
    let OperationStatus::Completed { location } = flink.operation(JOB, TRIGGER).await? else {
        return Err("the stop was completed".into());
    };
    assert!(location.starts_with("file:/data/sp/savepoint-"));
    assert!(server.seen().iter().all(|seen| seen.connection == 1));
    Ok(())
}

#[tokio::test]
async fn a_stop_is_asked_for_in_the_words_of_the_version_at_hand() -> Outcome {
    let own = format!(r#"{{"drain":false,"triggerId":"{TRIGGER}"}}"#);
    for (version, body) in [("1.14.6", r#"{"drain":false}"#), ("1.15.0", &own)] {
        let answer = r#"{"request-id":"33333333333333333333333333333333"}"#;
        let server = Server::answering(202, answer).await?;
        let id = server
            .client()?
            .trigger(&stop_request(), version.parse()?)
            .await?;
        assert_eq!(id, TriggerId::from_bytes([0x33; 16]), "{version}");
        let posted = server.seen().pop().ok_or("nothing was posted")?;
        let start = format!("POST /jobs/{JOB}/stop HTTP/1.1\r\n");
        assert!(posted.head.starts_with(&start), "{}", posted.head);
        assert!(
            posted.head.contains("content-type: application/json"),
            "{}",
            posted.head
        );
        assert_eq!(posted.body, body, "{version}");
    }
    Ok(())
}

#[tokio::test]
async fn a_checkpoint_cannot_be_asked_for_before_1_17() -> Outcome {
    let server = Server::answering(200, r#"{"flink-version":"1.16.3"}"#).await?;
    let error = server
        .client()?
        .trigger_checkpoint(JOB, TRIGGER)
        .await
        .err()
        .ok_or("it was sent")?;
    assert!(
        error
            .to_string()
            .ends_with("needs Flink 1.17.0 or newer, this is 1.16.3"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_completed_operation_with_a_failure_cause_is_a_failure_told_in_one_line() -> Outcome {
    let mut body: serde_json::Value = serde_json::from_str(&recorded("stop-commit-failed")?)?;
    body["operation"]["failure-cause"]["serialized-throwable"] = "r".repeat(200_000).into();
    let server = Server::answering(200, &body.to_string()).await?;
    let OperationStatus::Failed(cause) = server.client()?.operation(JOB, TRIGGER).await? else {
        return Err("the stop had failed".into());
    };
    assert_eq!(cause.class, FailureClass::StoppedAfterSavepoint);
    assert!(
        cause.savepoint.is_some() && cause.root.chars().count() <= 300,
        "{cause}"
    );
    Ok(())
}

#[tokio::test]
async fn only_flinks_own_words_make_an_operation_unknown() -> Outcome {
    let server = Server::answering(404, &recorded("unknown-trigger")?).await?;
    assert_eq!(
        server.client()?.operation(JOB, TRIGGER).await?,
        OperationStatus::Unknown
    );
    let server = Server::answering(404, &recorded("unknown-path")?).await?;
    assert!(matches!(
        server.client()?.operation(JOB, TRIGGER).await,
        Err(RestError::NotFound { .. })
    ));
    let server = Server::answering(404, "<html>not here</html>").await?;
    assert!(matches!(
        server.client()?.operation(JOB, TRIGGER).await,
        Err(RestError::Garbage { .. })
    ));
    Ok(())
}

#[tokio::test]
async fn each_status_is_told_apart_without_a_stack_trace() -> Outcome {
    let no_leader = r#"{"errors":["Service temporarily unavailable due to an ongoing leader election. Please refresh."]}"#;
    let cases = [
        (400, recorded("no-directory-stop")?, "BadRequest"),
        (401, String::new(), "Unauthorized"),
        (403, String::new(), "Unauthorized"),
        (404, recorded("unknown-job-checkpoints")?, "NotFound"),
        (409, recorded("cancel-finished")?, "Conflict"),
        (500, recorded("unknown-job-checkpoints")?, "Server"),
        (503, no_leader.to_owned(), "Unavailable"),
        (503, "upstream connect error".to_owned(), "Unavailable"),
        (408, String::new(), "Unavailable"),
        (301, String::new(), "Garbage"),
        (500, "<html>".to_owned(), "Garbage"),
    ];
    for (status, body, variant) in cases {
        let server = Server::answering(status, &body).await?;
        let error = server.client()?.jobs().await.err().ok_or("no error")?;
        assert!(
            format!("{error:?}").starts_with(variant),
            "{status}: {error:?}"
        );
        let text = chain(&error);
        assert!(
            text.len() < 600 && !text.contains('\n') && !text.contains("\tat "),
            "{text}"
        );
        assert_eq!(error.is_retryable(), variant == "Unavailable", "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_of_another_shape_say_what_and_where() -> Outcome {
    for body in [
        "",
        "<html>",
        "[]",
        r#"{"jobs":[{"jid":"x"}]}"#,
        &recorded("overview")?.replace("RUNNING", "DREAMING"),
    ] {
        let server = Server::answering(200, body).await?;
        let error = server.client()?.jobs().await.err().ok_or("no error")?;
        assert!(matches!(error, RestError::Garbage { .. }), "{error:?}");
        assert!(error.to_string().contains("line "), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_speak_http_is_garbage() -> Outcome {
    let server = Server::start(|_| Reply::Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec())).await?;
    let error = server.client()?.jobs().await.err().ok_or("no error")?;
    assert!(matches!(error, RestError::Garbage { .. }), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn an_answer_longer_than_the_limit_is_not_read_to_its_end() -> Outcome {
    let server = Server::answering(200, &"x".repeat(100_001)).await?;
    let settings = RestSettings {
        max_body: 100_000,
        ..server.settings("http")?
    };
    let error = FlinkRest::new(settings)?
        .jobs()
        .await
        .err()
        .ok_or("no error")?;
    assert!(
        matches!(error, RestError::TooLarge { limit: 100_000, .. }),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_cut_off_answer_and_a_closed_connection_are_unreachable() -> Outcome {
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"jobs\":".to_vec();
    let cut_off = Server::start(move |_| Reply::Raw(cut.clone())).await?;
    let closed = Server::start(|_| Reply::Close).await?;
    for server in [cut_off, closed] {
        let error = server.client()?.jobs().await.err().ok_or("no error")?;
        assert!(
            matches!(error, RestError::Unreachable { .. }) && error.is_retryable(),
            "{error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_connection_is_unreachable_and_names_the_address() -> Outcome {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let flink = FlinkRest::new(RestSettings::new(format!("http://{address}").parse()?))?;
    let error = flink.jobs().await.err().ok_or("no error")?;
    assert!(matches!(error, RestError::Unreachable { .. }), "{error:?}");
    assert!(
        chain(&error).contains(&address.to_string()),
        "{}",
        chain(&error)
    );
    Ok(())
}

#[tokio::test]
async fn a_silent_server_costs_the_timeout_and_its_connection() -> Outcome {
    let server = Server::start(|seen| match seen.connection {
        1 => Reply::Silence,
        _ => Reply::Answer(200, r#"{"jobs":[]}"#.to_owned()),
    })
    .await?;
    let settings = RestSettings {
        timeout: Duration::from_millis(200),
        ..server.settings("http")?
    };
    let flink = FlinkRest::new(settings)?;
    let error = flink.jobs().await.err().ok_or("no error")?;
    assert!(error.to_string().contains("within 200ms"), "{error}");
    assert!(flink.jobs().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_kept_alive_connection_that_breaks_is_dialled_again_for_what_can_be_repeated() -> Outcome
{
    let server = Server::start(|seen| {
        // The first connection answers once, and then closes on whatever comes next.
        let broken = seen.connection == 1 && !seen.head.starts_with("GET /config ");
        if broken {
            Reply::Close
        } else {
            Reply::Answer(200, r#"{"jobs":[],"flink-version":"2.0.0"}"#.to_owned())
        }
    })
    .await?;
    let flink = server.client()?;
    flink.version().await?;
    assert!(flink.jobs().await?.is_empty());
    assert_eq!(server.seen().len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_post_that_breaks_off_is_not_sent_again_since_it_may_have_been_carried_out() -> Outcome {
    let server = Server::start(|seen| match seen.head.starts_with("GET ") {
        true => Reply::Answer(200, r#"{"jobs":[]}"#.to_owned()),
        false => Reply::Close,
    })
    .await?;
    let flink = server.client()?;
    assert!(flink.jobs().await?.is_empty());
    let error = flink
        .submit("/jobs/x/stop".to_owned(), Ok(b"{}".to_vec()))
        .await
        .err()
        .ok_or("it was answered")?;
    assert!(matches!(error, RestError::Unreachable { .. }), "{error:?}");
    let posts = server
        .seen()
        .iter()
        .filter(|seen| seen.head.starts_with("POST"))
        .count();
    assert_eq!(posts, 1);
    assert!(flink.jobs().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_goes_unnoticed() -> Outcome {
    let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"jobs\":[]}".to_vec();
    let server = Server::start(move |_| Reply::Raw(reply.clone())).await?;
    let flink = server.client()?;
    for _ in 0..20 {
        assert!(flink.jobs().await?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn rotated_credentials_are_read_again_when_the_old_ones_are_refused() -> Outcome {
    let directory = tempfile::tempdir()?;
    let token = directory.path().join("token");
    std::fs::write(&token, "first\n")?;
    let valid = Arc::new(Mutex::new("Bearer first"));
    let expected = Arc::clone(&valid);
    let server = Server::start(move |seen| {
        let wanted = format!(
            "authorization: {}\r\n",
            *expected.lock().expect("no test panics with the lock")
        );
        let status = if seen.head.contains(&wanted) {
            200
        } else {
            401
        };
        Reply::Answer(status, r#"{"jobs":[]}"#.to_owned())
    })
    .await?;
    let settings = RestSettings {
        auth: Some(Auth::Bearer(token.clone())),
        ..server.settings("http")?
    };
    let flink = FlinkRest::new(settings)?;
    flink.jobs().await?;
    std::fs::write(&token, "second")?;
    *valid.lock().expect("no test panics with the lock") = "Bearer second";
    flink.jobs().await?;
    *valid.lock().expect("no test panics with the lock") = "Bearer third";
    assert!(matches!(
        flink.jobs().await,
        Err(RestError::Unauthorized { status: 401, .. })
    ));
    std::fs::remove_file(&token)?;
    assert!(matches!(
        flink.jobs().await,
        Err(RestError::Credentials { .. })
    ));
    Ok(())
}

#[tokio::test]
async fn basic_credentials_are_encoded_and_a_path_in_the_url_is_kept() -> Outcome {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("basic");
    std::fs::write(&file, "user:pässword\n")?;
    let server = Server::answering(200, r#"{"jobs":[]}"#).await?;
    let settings = RestSettings {
        url: format!("http://{}/flink/one/", server.address).parse()?,
        auth: Some(Auth::Basic(file)),
        ..server.settings("http")?
    };
    FlinkRest::new(settings)?.jobs().await?;
    let head = server.seen().pop().ok_or("nothing was sent")?.head;
    assert!(
        head.starts_with("GET /flink/one/jobs/overview HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("authorization: Basic dXNlcjpww6Rzc3dvcmQ=\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("host: {}\r\n", server.address)),
        "{head}"
    );
    Ok(())
}

#[test]
fn urls_that_make_no_sense_are_refused_without_showing_their_credentials() -> Outcome {
    for url in [
        "ftp://x/",
        "http://user:secret@x/",
        "http://x/?a=b",
        "unix:/run/x",
    ] {
        let error = FlinkRest::new(RestSettings::new(url.parse()?))
            .err()
            .ok_or(url)?;
        assert!(matches!(error, RestError::Settings { .. }), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    Ok(())
}

/// A CA with a server and a client certificate, in files.
struct Certificates {
    directory: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("ca.pem"), ca.pem())?;
        let (certificate, key) = issue(&ca, &["drey"], false)?;
        std::fs::write(directory.path().join("client.pem"), certificate.pem())?;
        std::fs::write(directory.path().join("client.key"), key.serialize_pem())?;
        Ok(Self { directory, ca })
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.path().join(name))
    }

    /// A server with a certificate for these names.
    async fn server(
        &self,
        names: &[&str],
        expired: bool,
        client_required: bool,
    ) -> Result<Server, Box<dyn Error>> {
        let (certificate, key) = issue(&self.ca, names, expired)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if client_required {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.ca.der().clone())?;
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build()?)
        } else {
            builder.with_no_client_auth()
        };
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der())?;
        let config = builder.with_single_cert(vec![certificate.der().clone()], key)?;
        let answer = |_: &Seen| Reply::Answer(200, r#"{"jobs":[]}"#.to_owned());
        Server::start_with(Some(TlsAcceptor::from(Arc::new(config))), answer).await
    }

    fn trusting(&self, server: &Server) -> Result<RestSettings, Box<dyn Error>> {
        let mut settings = server.settings("https")?;
        settings.tls.ca = self.file("ca.pem");
        Ok(settings)
    }
}

fn issue(
    ca: &CertifiedIssuer<'static, KeyPair>,
    names: &[&str],
    expired: bool,
) -> Result<(rcgen::Certificate, KeyPair), Box<dyn Error>> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, ca)?, key))
}

#[tokio::test]
async fn a_certificate_of_the_given_ca_is_trusted_and_no_other() -> Outcome {
    let own = Certificates::new()?;
    let server = own.server(&["127.0.0.1"], false, false).await?;
    assert!(
        FlinkRest::new(own.trusting(&server)?)?
            .jobs()
            .await?
            .is_empty()
    );
    let error = FlinkRest::new(Certificates::new()?.trusting(&server)?)?
        .jobs()
        .await
        .err()
        .ok_or("trusted")?;
    let text = chain(&error);
    assert!(matches!(error, RestError::Tls { .. }), "{error:?}");
    assert!(
        text.contains("give the PEM file of the CA that signed it"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_remedy_even_without_the_name_check() -> Outcome
{
    let own = Certificates::new()?;
    let server = own.server(&["127.0.0.1"], true, false).await?;
    for verify_hostname in [true, false] {
        let mut settings = own.trusting(&server)?;
        settings.tls.verify_hostname = verify_hostname;
        let error = FlinkRest::new(settings)?
            .jobs()
            .await
            .err()
            .ok_or("trusted")?;
        assert!(
            chain(&error).contains("has expired: renew it"),
            "{}",
            chain(&error)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_another_name_needs_that_name_or_no_name_check() -> Outcome {
    let own = Certificates::new()?;
    for names in [&["flink.example"][..], &[]] {
        let server = own.server(names, false, false).await?;
        let error = FlinkRest::new(own.trusting(&server)?)?
            .jobs()
            .await
            .err()
            .ok_or("trusted")?;
        assert!(
            chain(&error).contains("switch the host name check off"),
            "{}",
            chain(&error)
        );
        let mut settings = own.trusting(&server)?;
        settings.tls.verify_hostname = false;
        FlinkRest::new(settings)?.jobs().await?;
        if names.is_empty() {
            continue;
        }
        let settings = RestSettings {
            server_name: Some("flink.example".to_owned()),
            ..own.trusting(&server)?
        };
        FlinkRest::new(settings)?.jobs().await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_the_name_check_another_ca_is_still_refused() -> Outcome {
    let server = Certificates::new()?
        .server(&["127.0.0.1"], false, false)
        .await?;
    let other = Certificates::new()?;
    let mut settings = other.trusting(&server)?;
    settings.tls.verify_hostname = false;
    let error = FlinkRest::new(settings)?
        .jobs()
        .await
        .err()
        .ok_or("trusted")?;
    assert!(
        chain(&error).contains("not signed by a trusted CA"),
        "{}",
        chain(&error)
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_asks_for_a_client_certificate_gets_it_or_the_error_says_so() -> Outcome {
    let own = Certificates::new()?;
    let server = own.server(&["127.0.0.1"], false, true).await?;
    let mut settings = own.trusting(&server)?;
    let error = FlinkRest::new(settings.clone())?
        .jobs()
        .await
        .err()
        .ok_or("let in")?;
    assert!(
        chain(&error).contains("give a client certificate and key"),
        "{}",
        chain(&error)
    );
    settings.tls.client_cert = own.file("client.pem");
    assert!(
        FlinkRest::new(settings.clone()).is_err(),
        "half a client certificate was accepted"
    );
    settings.tls.client_key = own.file("client.key");
    FlinkRest::new(settings)?.jobs().await?;
    Ok(())
}

#[tokio::test]
async fn https_towards_a_server_without_tls_names_the_remedy() -> Outcome {
    let own = Certificates::new()?;
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let address = plain.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .await;
            std::future::pending::<()>().await;
        }
    });
    let mut settings = RestSettings::new(format!("https://{address}").parse()?);
    settings.tls.ca = own.file("ca.pem");
    let error = FlinkRest::new(settings)?
        .jobs()
        .await
        .err()
        .ok_or("let in")?;
    assert!(
        chain(&error).contains("does not speak TLS: use http://"),
        "{}",
        chain(&error)
    );
    Ok(())
}

#[test]
fn a_missing_or_empty_ca_file_is_refused_at_the_start() -> Outcome {
    let directory = tempfile::tempdir()?;
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "")?;
    for path in [directory.path().join("missing.pem"), empty] {
        let mut settings = RestSettings::new("https://localhost:8081".parse()?);
        settings.tls.ca = Some(path.clone());
        let error = FlinkRest::new(settings).err().ok_or("accepted")?;
        let text = chain(&error);
        assert!(
            text.contains(&path.display().to_string()) && text.contains("give a"),
            "{text}"
        );
    }
    Ok(())
}
