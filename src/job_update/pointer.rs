//! What the pointer's ConfigMap says of the application, and the little that is written there from outside.

use super::Target;
use super::error::JobError;
use crate::domain::job::JobStatus;
use crate::domain::pointer::{APPLICATION, JobEntry, Pointer};
use crate::domain::pointer_map::SUSPEND;
use crate::kubernetes::{Document, PointerMapError, Sight};

/// How often a write is begun anew because somebody else was quicker.
const CONFLICTS: usize = 10;

impl Target {
    pub(super) async fn document(&self) -> Result<Option<Document>, JobError> {
        Ok(self.map.load().await?)
    }

    /// The annotation [`SUSPEND`] holds the job, whatever else is wanted.
    pub(super) async fn is_held(&self) -> Result<bool, JobError> {
        Ok(self.document().await?.is_some_and(|it| it.suspended))
    }

    /// Nothing could come up.
    pub(super) async fn refuse_held(&self) -> Result<(), JobError> {
        let name = self.map.name();
        if self.is_held().await? {
            return Err(JobError::Refused(format!(
                "the annotation {SUSPEND} of configmaps {name} holds the job, and nothing was changed: it resumes with \
                 `kubectl annotate configmap {name} {SUSPEND}-`"
            )));
        }
        Ok(())
    }

    /// The application's end is forgotten, if a person or a pipeline brought it about: it may be started again.
    pub(super) async fn forget_stop(&self) -> Result<(), JobError> {
        for _ in 0..CONFLICTS {
            let Some(mut document) = self.document().await? else {
                return Ok(());
            };
            let Sight::Good(pointer) = &mut document.pointer else {
                return Ok(());
            };
            if !forget_stop(pointer) {
                return Ok(());
            }
            pointer.seal();
            match self.map.save(&document).await {
                Err(PointerMapError::Conflict(_)) => {}
                saved => return Ok(saved.map(drop)?),
            }
        }
        let name = self.map.name();
        Err(JobError::Later(format!(
            "configmaps {name} is being written by somebody else; try again"
        )))
    }
}

/// Whether there was anything to forget.
fn forget_stop(pointer: &mut Pointer) -> bool {
    let Some(entry) = pointer.jobs.get_mut(APPLICATION) else {
        return false;
    };
    let stopped = entry
        .ended
        .as_ref()
        .is_some_and(|ended| ended.status == JobStatus::Canceled);
    if stopped {
        entry.ended = None;
    }
    stopped
}

/// The application's entry.
pub(super) fn application(document: &Document) -> Option<&JobEntry> {
    document.pointer.good()?.jobs.get(APPLICATION)
}
