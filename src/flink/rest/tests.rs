//! Calls over real sockets. Real answers are those recorded in `tests/fixtures/rest`.

use std::error::Error;
use std::sync::{Arc, Mutex};

use super::*;
use crate::domain::savepoint::{FailureClass, SavepointKind};
use server::{Reply, Server};

mod server;
mod tls;

type Outcome = Result<(), Box<dyn Error>>;

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
