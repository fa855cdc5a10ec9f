//! What a CD pipeline does with a job, from outside its pods and with nothing but the API server: stop, start, upgrade, suspend
//! and resume.
//!
//! A stop is ordered through the pointer's ConfigMap and carried out by the supervisor, so nothing is deleted or scaled before
//! its savepoint is recorded. Everything else is a change of the cluster's own Deployments, and the pointer tells how far the
//! job has come.

mod edit;
mod error;
mod pointer;
mod preflight;
mod progress;
mod start;
mod stop;
mod upgrade;
mod wait;
mod workloads;

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::budget::{after, until};
use crate::kubernetes::{Kube, PointerMap};

pub use error::JobError;
pub use preflight::{Left, NewJob, Preflight, preflight};
pub use progress::Progress;
pub use start::{Come, start};
pub use stop::{Stopped, stop, suspend};
pub use upgrade::{Change, upgrade};

/// The annotation with the number of pods that a suspended Deployment had.
pub const REPLICAS: &str = "drey.io/replicas";

/// The annotation of a pod template that makes its Deployment roll.
pub const ROLLED: &str = "drey.io/rolled-at";

/// The job that something is done with.
#[derive(Debug)]
pub struct Target {
    kube: Kube,
    cluster_id: String,
    map: PointerMap,
    /// When it is given up.
    deadline: Timestamp,
}

impl Target {
    /// The application of `cluster_id`, for as long as `patience`. Nothing is asked of the API server yet.
    #[must_use]
    pub fn new(kube: Kube, cluster_id: &str, patience: Duration) -> Self {
        Self {
            map: PointerMap::new(&kube, cluster_id),
            kube,
            cluster_id: cluster_id.to_owned(),
            deadline: after(Timestamp::now(), patience),
        }
    }

    /// Where and what, for people.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} in namespace {}", self.cluster_id, self.kube.namespace())
    }

    /// The newest restore point that the pointer names.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn newest(&self) -> Result<Option<String>, JobError> {
        let document = self.document().await?;
        let newest = document.as_ref().and_then(pointer::application);
        Ok(newest.and_then(|entry| Some(entry.newest()?.path.clone())))
    }

    /// What is left of the time.
    fn left(&self) -> Duration {
        until(Timestamp::now(), self.deadline)
    }
}
