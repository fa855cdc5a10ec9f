//! Which replica renews the certificate: the holder of a Lease.
//!
//! Two holders at a moment would do no harm, since whatever they write names the version that they have read. The Lease only keeps the
//! replicas from doing the same work twice.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::kubernetes::{Kube, KubeError, admission};
use crate::telemetry::one_line;

/// A candidate.
pub(super) struct Election {
    kube: Kube,
    lease: String,
    identity: String,
    duration: Duration,
    /// The Lease as it was seen last, and since when it is like that: clocks of others are not believed.
    seen: Option<(LeaseSpec, Instant)>,
    leads: watch::Sender<bool>,
}

/// What a candidate does about the Lease that it sees.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Renew,
    Take,
    Wait,
}

impl Election {
    /// A candidate, and what tells whether it leads.
    pub(super) fn new(
        kube: &Kube,
        lease: &str,
        identity: &str,
        duration: Duration,
    ) -> (Self, watch::Receiver<bool>) {
        let (leads, told) = watch::channel(false);
        let election = Self {
            kube: kube.clone(),
            lease: lease.to_owned(),
            identity: identity.to_owned(),
            duration,
            seen: None,
            leads,
        };
        (election, told)
    }

    /// Takes part until `ended`, then gives the Lease up, so that another one need not wait for its end.
    pub(super) async fn run(mut self, ended: impl Future<Output = ()>) {
        let mut ended = std::pin::pin!(ended);
        tokio::select! {
            () = self.take_part() => {}
            () = &mut ended => {}
        }
        if self.leads.send_replace(false)
            && let Err(error) = self.release().await
        {
            warn!(%error, "Cannot release the lease");
        }
    }

    async fn take_part(&mut self) {
        let mut held = Instant::now();
        let mut told = None;
        loop {
            match self.turn().await {
                Ok(leads) => {
                    told = None;
                    held = Instant::now();
                    self.tell(leads);
                }
                Err(error) => {
                    // What others see as ended is not led any more.
                    if held.elapsed() > self.duration {
                        self.tell(false);
                    }
                    let conflict = matches!(error, KubeError::Conflict { .. });
                    if !conflict && told.as_ref() != Some(&error) {
                        warn!(
                            error = one_line(&error, 300),
                            "Cannot take part in the election"
                        );
                        told = Some(error);
                    }
                }
            }
            sleep(self.duration / 3).await;
        }
    }

    fn tell(&self, leads: bool) {
        if self.leads.send_replace(leads) != leads {
            info!(leads, lease = self.lease, "Leadership changed");
        }
    }

    async fn turn(&mut self) -> Result<bool, KubeError> {
        let lease = admission::get_lease(&self.kube, &self.lease).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        let spec = spec.unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
        let unchanged = self.seen.as_ref().map(|(_, since)| since.elapsed());
        let version = lease.and_then(|lease| lease.metadata.resource_version);
        let new = match self.judge(&spec, unchanged.unwrap_or_default()) {
            Move::Wait => return Ok(false),
            Move::Renew => self.spec(&spec, false),
            Move::Take => self.spec(&spec, true),
        };
        let written =
            admission::write_lease(&self.kube, &self.lease, version.as_deref(), new).await?;
        self.seen = written.spec.map(|spec| (spec, Instant::now()));
        Ok(true)
    }

    fn judge(&self, spec: &LeaseSpec, unchanged: Duration) -> Move {
        let seconds = spec.lease_duration_seconds.unwrap_or_default();
        let lasts = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        match spec.holder_identity.as_deref() {
            Some(holder) if holder == self.identity => Move::Renew,
            None | Some("") => Move::Take,
            Some(_) if unchanged > lasts => Move::Take,
            Some(_) => Move::Wait,
        }
    }

    fn spec(&self, before: &LeaseSpec, takes: bool) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let seconds = self.duration.as_secs().max(1);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            acquire_time: if takes {
                Some(now.clone())
            } else {
                before.acquire_time.clone()
            },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(takes)),
            ..LeaseSpec::default()
        }
    }

    async fn release(&self) -> Result<(), KubeError> {
        let lease: Option<Lease> = admission::get_lease(&self.kube, &self.lease).await?;
        let Some(lease) = lease else { return Ok(()) };
        let spec = lease.spec.unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        let free = LeaseSpec {
            holder_identity: Some(String::new()),
            ..spec
        };
        let version = lease.metadata.resource_version;
        admission::write_lease(&self.kube, &self.lease, version.as_deref(), free).await?;
        Ok(())
    }
}
