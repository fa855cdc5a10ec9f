use super::*;
use crate::domain::savepoint::SavepointFormat::Native;
use std::error::Error;
use std::time::Duration;

const VERSIONS: [&str; 2] = ["1.20.5", "2.3.0"];

/// The recorded answer of a real Flink.
fn recorded<T: serde::de::DeserializeOwned>(
    version: &str,
    name: &str,
) -> Result<T, Box<dyn Error>> {
    let path = format!(
        "{}/tests/fixtures/rest/{version}/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
}

fn body(kind: SavepointKind, version: &str) -> Result<(&'static str, String), Box<dyn Error>> {
    let request = SavepointRequest {
        job: JobId::from_bytes([1; 16]),
        trigger: TriggerId::from_bytes([0xab; 16]),
        kind,
        format: Some(Native),
        target_directory: Some("file:/sp".to_owned()),
    };
    let (verb, body) = savepoint_call(&request, version.parse()?);
    Ok((verb, String::from_utf8(body?)?))
}

#[test]
fn the_two_calls_use_their_own_field_names() -> Result<(), Box<dyn Error>> {
    let (verb, text) = body(SavepointKind::Savepoint, "1.15.0")?;
    assert_eq!(verb, "savepoints");
    assert_eq!(
        text,
        r#"{"target-directory":"file:/sp","cancel-job":false,"formatType":"NATIVE","triggerId":"abababababababababababababababab"}"#
    );
    let (verb, text) = body(SavepointKind::Stop { drain: true }, "2.3.0")?;
    assert_eq!(verb, "stop");
    assert_eq!(
        text,
        r#"{"targetDirectory":"file:/sp","drain":true,"formatType":"NATIVE","triggerId":"abababababababababababababababab"}"#
    );
    Ok(())
}

#[test]
fn before_1_15_no_field_is_sent_that_its_strict_parser_refuses() -> Result<(), Box<dyn Error>> {
    let (_, text) = body(SavepointKind::Savepoint, "1.14.6")?;
    assert_eq!(
        text,
        r#"{"target-directory":"file:/sp","cancel-job":false}"#
    );
    let (_, text) = body(SavepointKind::Stop { drain: false }, "1.13.0")?;
    assert_eq!(text, r#"{"targetDirectory":"file:/sp","drain":false}"#);
    Ok(())
}

#[test]
fn a_running_job_and_one_that_is_deploying_are_told_apart() -> Result<(), Box<dyn Error>> {
    for version in VERSIONS {
        let jobs: Vec<JobView> = recorded::<Overview>(version, "overview")?.into();
        assert_eq!(jobs.len(), 1, "{version}");
        assert_eq!(
            (jobs[0].name.as_str(), jobs[0].status),
            ("rec-normal", JobStatus::Running)
        );
        assert!(
            jobs[0].tasks.all_running() && jobs[0].start_time > 0,
            "{version}"
        );
        let jobs: Vec<JobView> = recorded::<Overview>(version, "overview-deploying")?.into();
        let deploying = jobs
            .iter()
            .find(|job| job.name == "rec-slowinit")
            .ok_or("no such job")?;
        assert_eq!(deploying.status, JobStatus::Running, "{version}");
        assert!(!deploying.tasks.all_running(), "{version}");
        assert!(Vec::<JobView>::from(recorded::<Overview>(version, "overview-empty")?).is_empty());
    }
    Ok(())
}

#[test]
fn checkpoints_and_savepoints_are_read_with_their_paths() -> Result<(), Box<dyn Error>> {
    for version in VERSIONS {
        let stats: CheckpointStats = recorded(version, "checkpoints")?;
        assert!(
            stats.counts.completed > 0 && stats.counts.failed > 0,
            "{version}"
        );
        let newest = stats.latest.completed.ok_or("no checkpoint")?;
        assert!(!newest.is_savepoint && !newest.discarded, "{version}");
        let path = newest.external_path.unwrap_or_default();
        assert!(
            path.ends_with(&format!("/chk-{}", newest.id)),
            "{version}: {path}"
        );
        let savepoint = stats.latest.savepoint.ok_or("no savepoint")?;
        assert!(
            savepoint.is_savepoint && savepoint.external_path.is_some(),
            "{version}"
        );
        let failed = stats.latest.failed.ok_or("no failure")?;
        assert_eq!(
            failed.checkpoint_type.as_deref(),
            Some("SYNC_SAVEPOINT"),
            "{version}"
        );
        assert!(
            failed.failure.unwrap_or_default().contains("IO-problem"),
            "{version}"
        );
        assert_eq!(stats.latest.restored, None, "{version}");
    }
    Ok(())
}

#[test]
fn what_a_job_was_restored_from_and_a_savepoint_in_progress_are_seen() -> Result<(), Box<dyn Error>>
{
    for version in VERSIONS {
        let stats: CheckpointStats = recorded(version, "checkpoints-savepoint-running")?;
        let restored = stats.latest.restored.ok_or("nothing restored")?;
        assert!(
            restored.is_savepoint && restored.restore_timestamp > 0,
            "{version}"
        );
        assert!(
            restored
                .external_path
                .unwrap_or_default()
                .starts_with("file:/data/sp/savepoint-"),
            "{version}"
        );
        let running = stats.history.first().ok_or("no history")?;
        assert_eq!(running.status, CheckpointPhase::InProgress, "{version}");
        assert!(
            running.is_savepoint && running.external_path.is_none(),
            "{version}"
        );
    }
    Ok(())
}

#[test]
fn a_checkpoint_in_memory_has_no_path() -> Result<(), Box<dyn Error>> {
    let json = r#"{"@class":"completed","id":7,"status":"COMPLETED","is_savepoint":false,"trigger_timestamp":1,
        "latest_ack_timestamp":2,"state_size":3,"end_to_end_duration":1,"alignment_buffered":0,"num_subtasks":2,
        "num_acknowledged_subtasks":2,"tasks":{},"external_path":"<checkpoint-not-externally-addressable>",
        "discarded":false,"checkpoint_type":"CHECKPOINT"}"#;
    assert_eq!(
        serde_json::from_str::<CheckpointEntry>(json)?.external_path,
        None
    );
    Ok(())
}

#[test]
fn the_effective_checkpoint_settings_tell_retention_and_a_disabled_interval()
-> Result<(), Box<dyn Error>> {
    for version in VERSIONS {
        let config: CheckpointConfig = recorded(version, "checkpoint-config")?;
        assert_eq!(
            config.interval,
            Some(Duration::from_millis(500)),
            "{version}"
        );
        assert_eq!(
            (config.timeout, config.mode.as_str()),
            (Duration::from_secs(4), "exactly_once")
        );
        assert!(config.externalization.retained(), "{version}");
        let config: CheckpointConfig = recorded(version, "checkpoint-config-disabled")?;
        assert_eq!(config.interval, None, "{version}");
    }
    Ok(())
}

#[test]
fn a_completed_operation_without_result_or_cause_is_no_success() {
    let empty = r#"{"status":{"id":"COMPLETED"},"operation":{}}"#;
    let answer: Operation<SavepointResult> =
        serde_json::from_str(empty).expect("the shape is right");
    assert!(OperationStatus::try_from(answer).is_err());
}

#[test]
fn a_jobs_vertices_and_requirements_are_read() -> Result<(), Box<dyn Error>> {
    for version in VERSIONS {
        let graph: JobGraph = recorded(version, "job")?;
        assert_eq!(graph.status, JobStatus::Running);
        let [source, files] = graph.vertices.as_slice() else {
            return Err(format!("{version}: {graph:?}").into());
        };
        assert_eq!(source.name, "Source: numbers");
        assert_eq!((source.parallelism, source.running), (1, 1));
        assert_eq!(source.max_parallelism, Some(128));
        assert!(source.group.is_some() && source.group == files.group);
        let requirements = from_wire(recorded(version, "resource-requirements")?);
        let bounds = requirements.get(&source.id).map(|it| (it.lower, it.upper));
        assert_eq!(bounds, Some((1, 1)));
        let sent = serde_json::to_value(to_wire(&requirements))?;
        assert_eq!(
            sent,
            recorded::<serde_json::Value>(version, "resource-requirements")?
        );
    }
    Ok(())
}

/// As Flink 2.3.0 answers for a main method that throws, shortened.
#[test]
fn an_application_that_has_failed_says_why() -> Result<(), Box<dyn Error>> {
    let text = r#"{"applications":[{"id":"8d07","name":"x.Job","start-time":1,"end-time":2,"duration":1,"status":"FAILED","jobs":{}}]}"#;
    let all: Applications = serde_json::from_str(text)?;
    assert_eq!(all.failed().as_deref(), Some("8d07"));
    let all: Applications = serde_json::from_str(&text.replace("FAILED", "RUNNING"))?;
    assert_eq!(all.failed(), None);
    let text = r#"{"exceptionHistory":{"entries":[{"exceptionName":"x.ApplicationExecutionException","timestamp":1,
        "stacktrace":"x.ApplicationExecutionException: Could not execute application.\n\tat a.b(C.java:1)\nCaused by: java.lang.NumberFormatException: For input string: \"nonsense\"\n\tat a.b(C.java:2)"}]}}"#;
    let told: ApplicationExceptions = serde_json::from_str(text)?;
    assert_eq!(
        told.why(),
        "NumberFormatException: For input string: \"nonsense\""
    );
    let none: ApplicationExceptions =
        serde_json::from_str(r#"{"exceptionHistory":{"entries":[]}}"#)?;
    assert_eq!(none.why(), "Flink does not say why");
    Ok(())
}
