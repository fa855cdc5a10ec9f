//! The preStop hook of Flink's container: Drey's, and behind it the one that was there.

use k8s_openapi::api::core::v1::{ExecAction, LifecycleHandler};

use super::Refused;
use super::flink::PROGRAM;
use crate::config::quoted;

/// The hook that waits until the savepoint is recorded, and runs the command that was there after that: a script that stops
/// the job itself would get in the way of Drey's savepoint, for of two stops at a time both fail.
///
/// A `sleep` is left out, for Drey's hook itself holds SIGTERM back.
///
/// # Errors
/// When the hook that was there is a request, which only the kubelet can make.
pub(super) fn chained(
    container: &str,
    existing: Option<&LifecycleHandler>,
) -> Result<LifecycleHandler, Refused> {
    let mut command = vec![PROGRAM.to_owned(), "prestop".to_owned()];
    if let Some(existing) = existing {
        if existing.http_get.is_some() || existing.tcp_socket.is_some() {
            return Err(Refused::new(format!(
                "the preStop hook of container {} is a request, behind which Drey's cannot run; make it a command (`exec`), or \
                 take it out",
                quoted(container)
            )));
        }
        let words = existing
            .exec
            .as_ref()
            .and_then(|exec| exec.command.as_ref());
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            command.push("--".to_owned());
            command.extend(words.iter().cloned());
        }
    }
    Ok(LifecycleHandler {
        exec: Some(ExecAction {
            command: Some(command),
        }),
        ..LifecycleHandler::default()
    })
}
