//! Another pod of the cluster id: how it stands, by its object, and by its address while the object says nothing.

use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use super::pod::News;
use crate::domain::lock::{Life, PodRef, PodState};
use crate::kubernetes::pods::{is_reused, node_gone, seen_as, watch_pod};
use crate::kubernetes::{Kube, KubeError, silent};
use crate::telemetry::one_line;

/// How often the address of a pod that cannot be seen is tried.
const PROBE: Duration = Duration::from_secs(1);

/// For how long it is taken for certain who has the address of a pod that is gone.
const REUSE_FRESH: Duration = Duration::from_secs(5);

/// Tells how another pod stands, whenever that changes; its address is tried while its object says nothing.
pub(super) async fn follow(
    kube: Kube,
    pod: PodRef,
    container: String,
    ports: [u16; 2],
    sender: mpsc::Sender<News>,
) {
    let mut stream = watch_pod(&kube, &pod.name);
    let mut state = PodState::Unknown { silent_since: None };
    let mut ip = pod.ip.clone();
    // Asked for until the answer is that Nodes may not be read.
    let mut node = pod.node.clone();
    let mut asked: Option<(Instant, bool)> = None;
    loop {
        let next = tokio::select! {
            seen = stream.next() => match seen {
                Some(Ok(seen)) => {
                    let same = seen.filter(|seen| seen.pod.uid == pod.uid);
                    ip = same.as_ref().and_then(|seen| seen.pod.ip.clone()).or(ip);
                    seen_as(same.as_ref(), &container, silence(&state))
                }
                Some(Err(error)) => unseen(&error, silence(&state)),
                None => return,
            },
            () = sleep(PROBE), if needs_probe(&state) => {
                let silent = is_silent(ip.as_deref(), ports).await;
                if silent && is_lost(&kube, &mut node).await {
                    PodState::NodeGone
                } else {
                    let silent = silent
                        || is_anothers(&kube, &state, &pod.uid, ip.as_deref(), &mut asked).await;
                    let since = silent.then(|| silence(&state).unwrap_or_else(Timestamp::now));
                    with_silence(state.clone(), since)
                }
            }
        };
        if next != state {
            debug!(pod = pod.name, state = ?next, "Other pod");
            state = next;
            if sender
                .send(News::Other(pod.uid.clone(), state.clone()))
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

/// Whether the node is deleted or out of service, where Nodes may be read at all.
async fn is_lost(kube: &Kube, node: &mut Option<String>) -> bool {
    let Some(name) = node.as_deref() else {
        return false;
    };
    match timeout(PROBE, node_gone(kube, name)).await {
        Ok(Ok(Some(gone))) => gone,
        Ok(Ok(None)) => {
            *node = None;
            false
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn is_silent(ip: Option<&str>, ports: [u16; 2]) -> bool {
    let Some(ip) = ip else { return true };
    for port in ports {
        if !silent(ip, port).await {
            return false;
        }
    }
    true
}

/// Whether the address of a pod whose object is gone has another pod by now: then its answer is not that pod's. Asked only
/// now and then, and what could not be seen is no evidence.
async fn is_anothers(
    kube: &Kube,
    state: &PodState,
    uid: &str,
    ip: Option<&str>,
    asked: &mut Option<(Instant, bool)>,
) -> bool {
    let (PodState::Deleted { .. }, Some(ip)) = (state, ip) else {
        return false;
    };
    if let Some((at, answer)) = asked
        && at.elapsed() < REUSE_FRESH
    {
        return *answer;
    }
    let answer = matches!(timeout(PROBE, is_reused(kube, ip, uid)).await, Ok(Ok(true)));
    *asked = Some((Instant::now(), answer));
    answer
}

fn unseen(error: &KubeError, silent_since: Option<Timestamp>) -> PodState {
    debug!(error = one_line(error, 300), "Pod cannot be seen");
    PodState::Unknown { silent_since }
}

fn silence(state: &PodState) -> Option<Timestamp> {
    match state {
        PodState::Deleted { silent_since } | PodState::Unknown { silent_since } => *silent_since,
        PodState::Alive(life) => life.silent_since,
        PodState::JobManagerEnded | PodState::NodeGone => None,
    }
}

/// Only a pod that was told to go, or that nobody can see, is asked by its address: its object says nothing more when its
/// node is lost.
fn needs_probe(state: &PodState) -> bool {
    match state {
        PodState::Deleted { .. } | PodState::Unknown { .. } => true,
        PodState::Alive(life) => life.gone_by.is_some(),
        PodState::JobManagerEnded | PodState::NodeGone => false,
    }
}

fn with_silence(state: PodState, since: Option<Timestamp>) -> PodState {
    match state {
        PodState::Deleted { .. } => PodState::Deleted {
            silent_since: since,
        },
        PodState::Unknown { .. } => PodState::Unknown {
            silent_since: since,
        },
        PodState::Alive(life) => PodState::Alive(Life {
            silent_since: since,
            ..life
        }),
        other => other,
    }
}
