//! The first start of a fork: from the newest savepoint of another cluster's pointer, which remembers that.

use jiff::Timestamp;
use tracing::{info, warn};

use super::Supervisor;
use super::planner::NoStart;
use super::write::CONFLICTS;
use crate::domain::claim::ClaimMode;
use crate::domain::fork::{forget, is_first, note, source};
use crate::domain::pointer::{APPLICATION, JobEntry, Pointer, RestorePoint};
use crate::kubernetes::{KubeError, PointerMap, PointerMapError, Sight};
use crate::telemetry::one_line;

impl Supervisor {
    /// Puts the parent's savepoint into `pointer`, if this is the first start of a fork. The parent's pointer has it first, so
    /// that it is kept.
    pub(super) async fn begin_fork(&self, pointer: &mut Pointer) -> Result<(), NoStart> {
        let Some(parent) = &self.settings.fork_from else {
            return Ok(());
        };
        if !is_first(pointer.jobs.get(APPLICATION)) {
            return Ok(());
        }
        let map = self.parent_map(parent)?;
        let point = self.note_fork(&map).await?;
        info!(parent, savepoint_path = point.path, "First start of a fork");
        pointer
            .entry(APPLICATION)
            .record(point, self.settings.history);
        Ok(())
    }

    fn parent_map(&self, parent: &str) -> Result<PointerMap, NoStart> {
        if parent == self.settings.cluster_id {
            let text = "not started: fork-from names this very cluster";
            return Err(NoStart::usage(text));
        }
        if self.settings.claim_mode == Some(ClaimMode::Claim) {
            let text =
                "not started: a fork cannot claim its parent's savepoint; leave claim-mode at auto";
            return Err(NoStart::usage(text));
        }
        let Some(pod) = &self.pod else {
            let text = "not started: fork-from finds the other pointer in Kubernetes only; use `drey pointer set PATH`";
            return Err(NoStart::usage(text));
        };
        Ok(PointerMap::new(pod.kube(), parent))
    }

    async fn note_fork(&self, map: &PointerMap) -> Result<RestorePoint, NoStart> {
        let now = Timestamp::now();
        for _ in 0..CONFLICTS {
            let mut document = map.load().await.map_err(|error| no_start(&error))?;
            let parent = match document.as_mut().map(|document| &mut document.pointer) {
                Some(Sight::Good(parent)) => parent,
                Some(Sight::Damaged(why)) => return Err(refused(map, why)),
                Some(Sight::None) | None => return Err(refused(map, "there is none")),
            };
            let point =
                source(parent, self.settings.fork_confirmed, now).map_err(|refusal| NoStart {
                    text: format!("not started as a fork: {refusal}"),
                    code: 1,
                })?;
            let news = note(parent, &self.settings.cluster_id, &point.path, now);
            parent.seal();
            let Some(document) = document.filter(|_| news) else {
                return Ok(point);
            };
            match map.save(&document).await {
                Ok(_) => return Ok(point),
                Err(PointerMapError::Conflict(_)) => {}
                Err(error) => return Err(no_start(&error)),
            }
        }
        Err(no_start(&PointerMapError::Conflict(map.name().to_owned())))
    }
}

impl Supervisor {
    /// The fork's run has completed a checkpoint of its own: its parent may delete what it started from. Tried once in each
    /// run, since all that a failure costs is a savepoint that is kept.
    pub(super) async fn leave_parent(&self) {
        let Some(parent) = &self.settings.fork_from else {
            return;
        };
        let Ok(map) = self.parent_map(parent) else {
            return;
        };
        match self.forget_fork(&map).await {
            Ok(true) => info!(parent, "The parent may delete what this fork started from"),
            Ok(false) => {}
            Err(error) => {
                let error = one_line(&error, 300);
                warn!(
                    parent,
                    error, "The parent keeps what this fork started from"
                );
            }
        }
    }

    async fn forget_fork(&self, map: &PointerMap) -> Result<bool, PointerMapError> {
        let none = JobEntry::default();
        let own = self.pointer.jobs.get(APPLICATION).unwrap_or(&none);
        for _ in 0..CONFLICTS {
            let Some(mut document) = map.load().await? else {
                return Ok(false);
            };
            let Sight::Good(parent) = &mut document.pointer else {
                return Ok(false);
            };
            if !forget(parent, &self.settings.cluster_id, own) {
                return Ok(false);
            }
            parent.seal();
            match map.save(&document).await {
                Err(PointerMapError::Conflict(_)) => {}
                saved => return saved.map(|_| true),
            }
        }
        Err(PointerMapError::Conflict(map.name().to_owned()))
    }
}

fn refused(map: &PointerMap, why: &str) -> NoStart {
    NoStart {
        text: format!(
            "not started as a fork: the parent's pointer {} cannot be used: {why}",
            map.name()
        ),
        code: 1,
    }
}

fn no_start(error: &PointerMapError) -> NoStart {
    let later = match error {
        PointerMapError::Conflict(_) => true,
        PointerMapError::Kube(error) => {
            error.is_retryable() && !matches!(error, KubeError::Unauthorized)
        }
        _ => false,
    };
    NoStart {
        text: format!("not started as a fork: {}", one_line(error, 400)),
        code: if later { 75 } else { 1 },
    }
}
