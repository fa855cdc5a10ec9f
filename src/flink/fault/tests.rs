use super::*;
use FailureClass::*;
use proptest::prelude::*;

/// The recorded failure of a real Flink.
fn recorded(version: &str, name: &str) -> FailureCause {
    let path = format!(
        "{}/tests/fixtures/rest/{version}/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).expect("the fixture is there");
    let json: serde_json::Value = serde_json::from_str(&text).expect("the fixture is JSON");
    if let Some(trace) = json.pointer("/operation/failure-cause/stack-trace") {
        return judge(trace.as_str().expect("a text"));
    }
    let errors: Vec<String> =
        serde_json::from_value(json["errors"].clone()).expect("a list of errors");
    judge_errors(&errors)
}

/// Each recorded failure, its class and how its root cause begins.
const RECORDED: &[(&str, FailureClass, &str)] = &[
    (
        "aborted-by-stop",
        AnotherInProgress,
        "CheckpointException: Checkpoint Coordinator is suspending.",
    ),
    (
        "bad-request",
        Other,
        "InvalidFormatException: Cannot deserialize value of type",
    ),
    (
        "batch",
        NotSupported,
        "CheckpointException: Blocking output edge exists in running tasks.",
    ),
    (
        "batch-stop",
        NotSupported,
        "CheckpointException: Blocking output edge exists in running tasks.",
    ),
    (
        "cancel-finished",
        JobGone,
        "Job cancellation failed because the job has already reached another terminal",
    ),
    (
        "cancel-unknown",
        JobGone,
        "FlinkJobNotFoundException: Could not find Flink job (00000000000000000000000",
    ),
    (
        "checkpoint-config-batch",
        NotSupported,
        "Checkpointing is not enabled for this job (",
    ),
    (
        "checkpoints-batch",
        NotSupported,
        "Checkpointing has not been enabled.",
    ),
    (
        "declined",
        CheckpointFailure,
        "IOException: snapshot refused by the example",
    ),
    (
        "deploying",
        NotAllTasksRunning,
        "CheckpointException: Checkpoint triggering task Source: Sequence",
    ),
    (
        "deploying-stop",
        NotAllTasksRunning,
        "CheckpointException: Checkpoint triggering task Source: Seq",
    ),
    (
        "expired",
        CheckpointFailure,
        "CheckpointException: Checkpoint expired before completing.",
    ),
    (
        "no-directory",
        NoSavepointDirectory,
        "Config key [execution.checkpointing.savepoint-dir] is not set.",
    ),
    (
        "no-directory-stop",
        NoSavepointDirectory,
        "Config key [execution.checkpointing.savepoint-dir] is not",
    ),
    (
        "savepoint-finished",
        JobGone,
        "FlinkJobNotFoundException: Could not find Flink job (",
    ),
    (
        "stop-commit-failed",
        StoppedAfterSavepoint,
        "StopWithSavepointStoppingException: A savepoint has been",
    ),
    (
        "stop-finished",
        JobGone,
        "FlinkJobNotFoundException: Could not find Flink job (",
    ),
    (
        "stop-unwritable",
        StorageUnwritable,
        "IOException: Failed to create savepoint directory at file:/proc/",
    ),
    (
        "unknown-job",
        JobGone,
        "FlinkJobNotFoundException: Could not find Flink job (00000000000000000000000",
    ),
    (
        "unknown-job-checkpoints",
        JobGone,
        "FlinkJobNotFoundException: Could not find Flink job (0000000000",
    ),
    (
        "unknown-path",
        Other,
        "Unable to load requested file /jobz.",
    ),
    (
        "unknown-scheme",
        StorageUnwritable,
        "UnsupportedFileSystemSchemeException: Could not find a file syst",
    ),
    (
        "unknown-trigger",
        Other,
        "There is no savepoint operation with triggerId=00000000000000000000000000000001",
    ),
    (
        "unwritable",
        StorageUnwritable,
        "IOException: Failed to create savepoint directory at file:/proc/nope/",
    ),
];

#[test]
fn every_recorded_failure_has_its_class_and_its_root_cause_in_one_line() {
    for version in ["1.20.5", "2.3.0"] {
        for &(name, class, root) in RECORDED {
            let cause = recorded(version, name);
            assert_eq!(cause.class, class, "{version} {name}: {cause}");
            assert!(cause.root.starts_with(root), "{version} {name}: {cause}");
            assert_eq!(
                cause.savepoint.is_some(),
                name == "stop-commit-failed",
                "{version} {name}"
            );
        }
    }
}

#[test]
fn the_savepoint_of_a_stop_that_failed_afterwards_is_found() {
    for version in ["1.20.5", "2.3.0"] {
        let path = recorded(version, "stop-commit-failed")
            .savepoint
            .unwrap_or_default();
        assert!(
            path.starts_with("file:/data/sp/savepoint-"),
            "{version}: {path}"
        );
        assert_eq!(
            path.len(),
            "file:/data/sp/savepoint-821906-ec9ec4777363".len(),
            "{version}: {path}"
        );
    }
    let spaced = judge(
        "java.util.concurrent.CompletionException: org.apache.flink.runtime.scheduler.stopwithsavepoint.\
         StopWithSavepointStoppingException: A savepoint has been created at: file:/my data, all/savepoint-1, but the \
         corresponding job 0 failed during stopping.\n\tat a.b(C.java:1)\nCaused by: java.lang.RuntimeException: \
         commit refused",
    );
    assert_eq!(
        spaced.savepoint.as_deref(),
        Some("file:/my data, all/savepoint-1")
    );
    assert_eq!(spaced.class, StoppedAfterSavepoint);
    assert_eq!(spaced.root, "commit refused");
}

#[test]
fn failures_in_the_words_of_other_versions_are_known() {
    let cases = [
        (
            "The Flink job is currently not executing. Failure reason: Trigger checkpoint failure.",
            NotAllTasksRunning,
        ),
        (
            "org.apache.flink.runtime.dispatcher.UnavailableDispatcherOperationException: Unable to get JobMasterGateway \
             for initializing job. The requested operation is not available while the JobManager is initializing.",
            NotAllTasksRunning,
        ),
        (
            "Config key [state.savepoints.dir] is not set. Property [targetDirectory] must be provided.",
            NoSavepointDirectory,
        ),
        (
            "Service temporarily unavailable due to an ongoing leader election. Please refresh.",
            Unavailable,
        ),
        (
            "java.lang.IllegalStateException: Job 0 is not a streaming job.",
            NotSupported,
        ),
        ("CheckpointCoordinator shutdown.", CheckpointFailure),
        (
            "akka.pattern.AskTimeoutException: Ask timed out on [Actor[akka://flink/user/rpc/dispatcher_2]]",
            Unavailable,
        ),
    ];
    for (words, class) in cases {
        let cause = judge(&format!(
            "java.util.concurrent.CompletionException: {words}\n\tat a.b(C.java:1)"
        ));
        assert_eq!(cause.class, class, "{words}");
    }
}

#[test]
fn a_message_and_the_exception_of_another_endpoint_belong_together() {
    let errors = [
        "Internal server error.".to_owned(),
        "<Exception on server side:\njava.util.concurrent.CompletionException: java.io.IOException: java.io.IOException: \
         No space left on device\n\tat a.b(C.java:1)\nEnd of exception on server side>"
            .to_owned(),
    ];
    let cause = judge_errors(&errors);
    assert_eq!(
        (cause.class, cause.root.as_str()),
        (StorageUnwritable, "IOException: No space left on device")
    );
}

#[test]
fn suppressed_exceptions_and_frames_are_not_the_root_cause() {
    let trace = "java.lang.RuntimeException: outer\n\tat a.b(C.java:1)\n\tSuppressed: java.io.IOException: closing\n\
                 \t\tat a.b(C.java:1)\n\tCaused by: java.io.IOException: deeper\nCaused by: java.lang.Exception\n\tat x.y(Z.java:2)";
    assert_eq!(judge(trace).root, "Exception");
    assert_eq!(judge("").root, "no reason given");
}

proptest! {
    #[test]
    fn a_root_cause_is_always_one_short_line(trace in "(?s).{0,2000}", line in "\\PC{0,900}") {
        for text in [trace.as_str(), &format!("java.io.IOException: {line}\n{trace}")] {
            let root = judge(text).root;
            prop_assert!(!root.is_empty() && root.chars().count() <= LONGEST_ROOT);
            prop_assert!(!root.contains(['\n', '\r', '\t']));
        }
    }
}
