//! What went wrong inside of Flink, told from the stack traces that its REST interface answers with: the kind of failure
//! and its root cause in one line. Never a raw exception, which may have 200 kB. Pure.
use crate::domain::savepoint::{FailureCause, FailureClass};

/// The longest root cause, in characters.
const LONGEST_ROOT: usize = 300;

/// Exceptions that only carry another one, or say nothing beside their message.
const WRAPPERS: [&str; 9] = [
    "java.util.concurrent.CompletionException",
    "java.util.concurrent.ExecutionException",
    "org.apache.flink.util.SerializedThrowable",
    "org.apache.flink.util.FlinkException",
    "org.apache.flink.util.FlinkRuntimeException",
    "org.apache.flink.runtime.rest.handler.RestHandlerException",
    "java.lang.Exception",
    "java.lang.RuntimeException",
    "java.lang.Throwable",
];

/// Flink's own words and what they mean, most telling first: the first that occurs anywhere in the chain of causes
/// decides. `CheckpointFailureReason` of Flink 1.13 to 2.3, the schedulers, the dispatcher and the file systems.
const RULES: &[(&str, FailureClass)] = &[
    (
        "A savepoint has been created at: ",
        FailureClass::StoppedAfterSavepoint,
    ),
    (
        "StopWithSavepointStoppingException",
        FailureClass::StoppedAfterSavepoint,
    ),
    ("FlinkJobNotFoundException", FailureClass::JobGone),
    (
        "FlinkJobTerminatedWithoutCancellationException",
        FailureClass::JobGone,
    ),
    (
        "already reached another terminal state",
        FailureClass::JobGone,
    ),
    // The adaptive scheduler's answer to a stop that lost against a cancellation.
    ("The job was cancelled.", FailureClass::JobGone),
    (
        "Property [target-directory] must be provided",
        FailureClass::NoSavepointDirectory,
    ),
    (
        "Property [targetDirectory] must be provided",
        FailureClass::NoSavepointDirectory,
    ),
    (
        "No savepoint directory configured",
        FailureClass::NoSavepointDirectory,
    ),
    (
        "No savepoint location given",
        FailureClass::NoSavepointDirectory,
    ),
    ("Blocking output edge exists", FailureClass::NotSupported),
    ("is not a streaming job", FailureClass::NotSupported),
    (
        "Task does not support checkpointing",
        FailureClass::NotSupported,
    ),
    (
        "Checkpointing has not been enabled",
        FailureClass::NotSupported,
    ),
    ("Checkpointing is not enabled", FailureClass::NotSupported),
    ("UnsupportedOperationException", FailureClass::NotSupported),
    // A task that is there but deployed only in part says so in front of the reason.
    (
        "Not all required tasks are currently running",
        FailureClass::NotAllTasksRunning,
    ),
    (
        "The Flink job is currently not executing",
        FailureClass::NotAllTasksRunning,
    ),
    (
        "while the JobManager is initializing",
        FailureClass::NotAllTasksRunning,
    ),
    (
        "Checkpoint was declined (tasks not ready)",
        FailureClass::NotAllTasksRunning,
    ),
    (
        "FailoverRegion is restarting",
        FailureClass::NotAllTasksRunning,
    ),
    // A `/stop` suspends the coordinator and so aborts every pending savepoint and checkpoint.
    (
        "Checkpoint Coordinator is suspending",
        FailureClass::AnotherInProgress,
    ),
    (
        "The maximum number of queued checkpoint requests exceeded",
        FailureClass::AnotherInProgress,
    ),
    (
        "The maximum number of concurrent checkpoints is exceeded",
        FailureClass::AnotherInProgress,
    ),
    (
        "The minimum time between checkpoints is still pending",
        FailureClass::AnotherInProgress,
    ),
    (
        "Failed to create savepoint directory",
        FailureClass::StorageUnwritable,
    ),
    (
        "Could not find a file system implementation",
        FailureClass::StorageUnwritable,
    ),
    ("No space left on device", FailureClass::StorageUnwritable),
    ("Disk quota exceeded", FailureClass::StorageUnwritable),
    ("Read-only file system", FailureClass::StorageUnwritable),
    ("Permission denied", FailureClass::StorageUnwritable),
    ("AccessDenied", FailureClass::StorageUnwritable),
    ("Access Denied", FailureClass::StorageUnwritable),
    ("NoSuchBucket", FailureClass::StorageUnwritable),
    ("Mkdirs failed to create", FailureClass::StorageUnwritable),
    (
        "The base path of the checkpoint",
        FailureClass::StorageUnwritable,
    ),
    ("ongoing leader election", FailureClass::Unavailable),
    (
        "UnavailableDispatcherOperationException",
        FailureClass::Unavailable,
    ),
    ("EndpointNotStartedException", FailureClass::Unavailable),
    ("RecipientUnreachableException", FailureClass::Unavailable),
    ("FencingTokenException", FailureClass::Unavailable),
    ("LeaderRetrievalException", FailureClass::Unavailable),
    ("AskTimeoutException", FailureClass::Unavailable),
    ("timed out because the remote", FailureClass::Unavailable),
    ("DispatcherGateway", FailureClass::Unavailable),
    ("JobMasterGateway", FailureClass::Unavailable),
    (
        "CompletedOperationCache has already been closed",
        FailureClass::Unavailable,
    ),
    ("CheckpointException", FailureClass::CheckpointFailure),
    (
        "CheckpointCoordinator shutdown",
        FailureClass::CheckpointFailure,
    ),
    (
        "Checkpoint expired before completing",
        FailureClass::CheckpointFailure,
    ),
    ("Checkpoint was declined", FailureClass::CheckpointFailure),
    ("Task has failed", FailureClass::CheckpointFailure),
    (
        "Failure to finalize checkpoint",
        FailureClass::CheckpointFailure,
    ),
    (
        "Trigger checkpoint failure",
        FailureClass::CheckpointFailure,
    ),
    (
        "Inconsistent execution state after stopping with savepoint",
        FailureClass::CheckpointFailure,
    ),
    (
        "Stop with savepoint operation could not be completed",
        FailureClass::CheckpointFailure,
    ),
    (
        "Job did not reach the FINISHED state",
        FailureClass::CheckpointFailure,
    ),
    (
        "An Exception occurred while triggering the checkpoint",
        FailureClass::CheckpointFailure,
    ),
    ("java.io.IOException", FailureClass::CheckpointFailure),
];

/// Judges a Java stack trace, or whatever text stands in its place.
#[must_use]
pub fn judge(trace: &str) -> FailureCause {
    let chain = chain(trace);
    let says = |needle: &str| chain.iter().any(|cause| cause.contains(needle));
    let class = RULES
        .iter()
        .find(|(needle, _)| says(needle))
        .map_or(FailureClass::Other, |(_, class)| *class);
    let savepoint = chain.iter().find_map(|cause| written_savepoint(cause));
    let root = chain.last().map_or("", String::as_str);
    FailureCause {
        class,
        root: clip(strip_wrappers(root)),
        savepoint,
    }
}

/// Judges the `errors` of a failed answer: a message, or a stack trace, or both in this order.
#[must_use]
pub fn judge_errors(errors: &[String]) -> FailureCause {
    judge(&errors.join("\nCaused by: "))
}

/// One line of at most 300 characters out of any text, without control characters.
#[must_use]
pub fn one_line(text: &str) -> String {
    clip(text)
}

/// The messages of a stack trace from the outermost exception to the root cause, without their frames. Suppressed
/// exceptions are indented and left out: they are consequences.
fn chain(trace: &str) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut in_message = true;
    for line in trace.lines() {
        // Flink's REST server puts these lines around the exception of another endpoint.
        let line = line
            .strip_prefix("Caused by: <Exception on server side:")
            .map_or(line, |_| "Caused by: ");
        if is_frame(line) {
            in_message = false;
        } else if let Some(cause) = line.strip_prefix("Caused by: ") {
            causes.push(cause.trim().to_owned());
            in_message = true;
        } else if causes.is_empty() {
            causes.push(line.trim().to_owned());
        } else if in_message && let Some(last) = causes.last_mut() {
            last.push(' ');
            last.push_str(line.trim());
        }
    }
    causes
        .iter()
        .map(|cause| cause.trim().to_owned())
        .filter(|cause| !cause.is_empty())
        .collect()
}

/// Frames, "... 37 more", suppressed exceptions, the "at [Source: …" that Jackson puts into its messages, and what stands
/// around an exception.
fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    let indented = text.len() < line.len();
    text.is_empty()
        || text.starts_with("End of exception on server side>")
        || indented
            && (text.starts_with("at ") || text.starts_with("... ") || line.starts_with('\t'))
}

/// The path in `StopWithSavepointStoppingException`, whose wording is the same from Flink 1.15 to 2.3.
fn written_savepoint(cause: &str) -> Option<String> {
    let (_, rest) = cause.split_once("A savepoint has been created at: ")?;
    let (path, _) = rest.split_once(", but the corresponding job ")?;
    Some(path.trim().to_owned()).filter(|path| !path.is_empty())
}

/// Takes the wrappers off the front, and the packages off the exception that is left.
///
/// A deserialized throwable repeats its class name: `java.io.IOException: java.io.IOException: no`.
fn strip_wrappers(cause: &str) -> &str {
    let mut rest = cause;
    while let Some((class, message)) = split_class(rest) {
        let repeated = split_class(message).is_some_and(|(next, _)| next == class);
        if !(WRAPPERS.contains(&class) || repeated) || message.is_empty() {
            return &rest[class.rfind('.').map_or(0, |dot| dot + 1)..];
        }
        rest = message;
    }
    rest.rsplit_once('.')
        .filter(|_| is_class(rest))
        .map_or(rest, |(_, name)| name)
}

/// Splits `a.b.SomeException: message`.
fn split_class(cause: &str) -> Option<(&str, &str)> {
    cause.split_once(": ").filter(|(class, _)| is_class(class))
}

/// True for a Java class name with its packages.
fn is_class(text: &str) -> bool {
    text.contains('.')
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '$'))
}

fn clip(text: &str) -> String {
    let clean = text
        .split_whitespace()
        .flat_map(|word| [" ", word])
        .skip(1)
        .flat_map(str::chars);
    let mut line: String = clean
        .filter(|c| !c.is_control())
        .take(LONGEST_ROOT + 1)
        .collect();
    if let Some((cut, _)) = line.char_indices().nth(LONGEST_ROOT - 1)
        && line.chars().count() > LONGEST_ROOT
    {
        line.truncate(cut);
        line.push('…');
    }
    if line.is_empty() {
        line.push_str("no reason given");
    }
    line
}

#[cfg(test)]
mod tests;
