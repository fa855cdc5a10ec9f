//! The lock between pods: which of them may run the JobManager of a cluster id.
//!
//! It is held by pod UID, never by time, so there is nothing to renew. It stands in the pointer's ConfigMap, and every write
//! of it has that object's resourceVersion as its precondition: of two pods that want it at once, one has to look again.
//!
//! [`acquire`] says what a pod that wants to start its JobManager does next; [`successor`] and [`heir`] say to whom a
//! holder gives way. A holder that lives is never overruled: it gives the lock up itself, or it is gone. Times play a
//! part in one rule only (`deadline + break_after`), and only for a holder whose IP is silent as well.
//!
//! **Clock skew.** A deadline comes from another machine's clock (the API server's, or the holder's node's), the silence
//! of an IP from one's own. A clock that is ahead by `s` breaks the lock `s` too early, one that is behind `s` too late:
//! `break_after` has to be longer than clocks differ. As the holder's pod was told to go and its IP is silent, an early break
//! can only do harm across a network partition.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::budget::after;

mod line;
mod words;

pub use self::line::{heir, not_before, successor};

/// Who may run the JobManager, and who waits for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lock {
    /// The pods that may: one; with Kubernetes HA all of one pod template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// The pods that wait, in the order in which they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiters: Vec<Waiter>,
}

/// A pod of a JobManager.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PodRef {
    /// `metadata.uid`: a name is used again, a UID never.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// `status.podIP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// `spec.nodeName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What tells pods of one template from those of another: the label `pod-template-hash` or
    /// `controller-revision-hash`; empty for a bare pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template: String,
}

/// A pod that may run the JobManager.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Holder {
    /// The pod.
    pub pod: PodRef,
    /// When it took the lock.
    pub since: Timestamp,
    /// Until when it will be gone, once it was told to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// A pod that waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Waiter {
    /// The pod.
    pub pod: PodRef,
    /// Since when.
    pub since: Timestamp,
    /// It has handed the job over to a pod of another template, and runs it again only when that one fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handed_over: bool,
    /// Its Flink could not start at once yet: the entrypoint and Flink's scripts still run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub getting_ready: bool,
}

/// What is known of another pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PodState {
    /// Its object is there, and its JobManager container runs, will run, or nobody can say.
    Alive(Life),
    /// Its JobManager container has terminated and will not be started again: the pod is being deleted, or its phase is
    /// Failed or Succeeded. A container that the kubelet restarts in place (CrashLoopBackOff) is *not* ended: its launcher
    /// may go on as the holder while the API server is away. See [`Life::restarting`].
    JobManagerEnded,
    /// Its object (that UID) is gone.
    Deleted {
        /// Since when its IP has been silent without a break; `None`: it answers, or was not probed yet. An IP that by now
        /// belongs to another pod is silent.
        silent_since: Option<Timestamp>,
    },
    /// Its Node's object is deleted, or has the taint `node.kubernetes.io/out-of-service`.
    NodeGone,
    /// It cannot be looked at: the API server is away, or the right to read pods is missing.
    Unknown {
        /// As for [`PodState::Deleted`].
        silent_since: Option<Timestamp>,
    },
}

/// The life of a pod whose object is there. The default: it runs, and nobody has told it to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Life {
    /// Its JobManager container has ended and is about to be started again in place.
    pub restarting: bool,
    /// `startedAt` of its running JobManager container.
    pub started: Option<Timestamp>,
    /// By when it is to be gone: `metadata.deletionTimestamp`.
    pub gone_by: Option<Timestamp>,
    /// Since when its IP has been silent without a break; `None`: it answers, or was not probed.
    pub silent_since: Option<Timestamp>,
}

/// What is set up once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LockPolicy {
    /// How long after its deadline a silent holder keeps the lock; `None`: for ever, until a person acts.
    pub break_after: Option<Duration>,
    /// How long an IP has to be silent before that counts.
    pub silent_for: Duration,
    /// How long a running job goes on for a successor that is getting ready.
    pub ready_within: Duration,
}

impl Default for LockPolicy {
    fn default() -> Self {
        Self {
            break_after: Some(Duration::from_secs(60)),
            silent_for: Duration::from_secs(10),
            ready_within: Duration::from_secs(20),
        }
    }
}

/// What a pod knows when it looks at the lock.
#[derive(Debug, Clone)]
pub struct LockView<'a> {
    /// The time.
    pub now: Timestamp,
    /// The pod that looks.
    pub me: &'a PodRef,
    /// It has run the job and given it up to a pod of another template ([`hand_over`]). The lock remembers it, too.
    pub handed_over: bool,
    /// Its Flink could not start at once yet.
    pub getting_ready: bool,
    /// Kubernetes HA is on: pods of one template share the lock, and Flink elects their leader.
    pub high_availability: bool,
    /// The template that the owner's newest revision has, where that is known. It keeps a pod that is created anew from the
    /// old template in the middle of a rollout from taking the job back.
    pub wanted: Option<&'a str>,
    /// The lock as it was read, with the resourceVersion that becomes the precondition of the write.
    pub lock: &'a Lock,
    /// What is known of the other pods, by UID. A pod that is missing here is [`PodState::Unknown`].
    pub pods: &'a BTreeMap<String, PodState>,
}

/// What a pod that wants to start its JobManager does next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LockStep {
    /// It holds the lock.
    Held,
    /// To write this lock, which it then holds; after a conflict, to look again.
    Take(Lock),
    /// To write this lock, in which it waits, and to look again.
    Announce(Lock),
    /// To wait for an event.
    Wait {
        /// When the time alone may change something.
        until: Option<Timestamp>,
        /// The pods to be watched and probed.
        watch: Vec<PodRef>,
        /// For people: which pod it waits for, and what must happen.
        why: String,
    },
}

impl Lock {
    /// Whether the pod may run the JobManager.
    #[must_use]
    pub fn holds(&self, uid: &str) -> bool {
        self.holders.iter().any(|holder| holder.pod.uid == uid)
    }

    /// The pod's entry among those that wait.
    #[must_use]
    pub fn waiter(&self, uid: &str) -> Option<&Waiter> {
        self.waiters.iter().find(|waiter| waiter.pod.uid == uid)
    }
}

/// The next step of a pod that wants to start its JobManager.
///
/// `Held` is worth as much as the read it rests on: the start itself is to be stored in the same object, with the version
/// of that read as its precondition. A pod that was told to go does not ask any more: it leaves ([`leave`]).
#[must_use]
pub fn acquire(policy: &LockPolicy, view: &LockView<'_>) -> LockStep {
    if view.lock.holds(&view.me.uid) {
        return LockStep::Held;
    }
    let living: Vec<&Holder> = view
        .lock
        .holders
        .iter()
        .filter(|holder| !is_gone(policy, view, holder))
        .collect();
    if !living.is_empty() && !joins(policy, view, &living) {
        return wait_for_holders(policy, view, &living);
    }
    match line::ahead(policy, view) {
        Some(first) if living.is_empty() => wait_for_turn(policy, view, first),
        _ => LockStep::Take(taken(view, &living)),
    }
}

/// The pod gives the lock up: in the write that records the stop-with-savepoint, or once its JobManager has ended.
///
/// The pod's own note that it holds the lock no longer comes before that write: with the API server away it would
/// otherwise go on as the holder that it is not any more.
#[must_use]
pub fn release(lock: &Lock, uid: &str) -> Lock {
    let mut lock = lock.clone();
    lock.holders.retain(|holder| holder.pod.uid != uid);
    lock
}

/// The pod goes: it neither holds the lock nor waits for it.
#[must_use]
pub fn leave(lock: &Lock, uid: &str) -> Lock {
    let mut lock = release(lock, uid);
    lock.waiters.retain(|waiter| waiter.pod.uid != uid);
    lock
}

/// [`release`] by a pod that stays and takes the job back when its [`successor`] fails.
#[must_use]
pub fn hand_over(lock: &Lock, pod: &PodRef, now: Timestamp) -> Lock {
    let mut lock = leave(lock, &pod.uid);
    lock.waiters.push(Waiter {
        pod: pod.clone(),
        since: now,
        handed_over: true,
        getting_ready: false,
    });
    lock
}

/// The pod was told to go and will be gone by `deadline`. `None`: the lock says so already, or the pod does not hold it.
#[must_use]
pub fn told_to_go(lock: &Lock, uid: &str, deadline: Timestamp) -> Option<Lock> {
    let mut lock = lock.clone();
    let holder = lock
        .holders
        .iter_mut()
        .find(|holder| holder.pod.uid == uid && holder.deadline != Some(deadline))?;
    holder.deadline = Some(deadline);
    Some(lock)
}

/// Without the waiters whose pods are gone. `None`: there are none.
#[must_use]
pub fn tidy(lock: &Lock, pods: &BTreeMap<String, PodState>) -> Option<Lock> {
    let mut tidied = lock.clone();
    tidied.waiters.retain(|waiter| {
        !matches!(
            pods.get(&waiter.pod.uid),
            Some(PodState::JobManagerEnded | PodState::Deleted { .. } | PodState::NodeGone)
        )
    });
    (tidied != *lock).then_some(tidied)
}

fn state<'a>(view: &'a LockView<'_>, uid: &str) -> &'a PodState {
    view.pods
        .get(uid)
        .unwrap_or(&PodState::Unknown { silent_since: None })
}

/// By when the holder is to be gone: what the lock says, or its object. Of two the later one.
fn deadline(view: &LockView<'_>, holder: &Holder) -> Option<Timestamp> {
    let known = match state(view, &holder.pod.uid) {
        PodState::Alive(life) => life.gone_by,
        _ => None,
    };
    holder.deadline.max(known)
}

/// When the holder counts as gone if its IP stays silent. `None`: time alone does not change anything.
fn gone_at(policy: &LockPolicy, view: &LockView<'_>, holder: &Holder) -> Option<Timestamp> {
    let overdue = |silent_since: Option<Timestamp>| {
        let broken = after(deadline(view, holder)?, policy.break_after?);
        Some(broken.max(after(silent_since?, policy.silent_for)))
    };
    match state(view, &holder.pod.uid) {
        PodState::JobManagerEnded | PodState::NodeGone => Some(Timestamp::MIN),
        PodState::Deleted { silent_since } => silent_since.map(|at| after(at, policy.silent_for)),
        PodState::Alive(Life { silent_since, .. }) | PodState::Unknown { silent_since } => {
            overdue(*silent_since)
        }
    }
}

fn is_gone(policy: &LockPolicy, view: &LockView<'_>, holder: &Holder) -> bool {
    gone_at(policy, view, holder).is_some_and(|at| at <= view.now)
}

fn handed_over(view: &LockView<'_>) -> bool {
    let noted = view.lock.waiter(&view.me.uid);
    view.handed_over || noted.is_some_and(|waiter| waiter.handed_over)
}

/// With high availability the pods of the holders' template share the lock, unless they are about to hand the job over:
/// then one that has done so already must not come back.
fn joins(policy: &LockPolicy, view: &LockView<'_>, living: &[&Holder]) -> bool {
    view.high_availability
        && living
            .iter()
            .all(|holder| holder.pod.template == view.me.template)
        && line::newer(policy, view).is_none()
}

fn taken(view: &LockView<'_>, living: &[&Holder]) -> Lock {
    let mut lock = leave(view.lock, &view.me.uid);
    lock.holders = living.iter().map(|&holder| holder.clone()).collect();
    lock.holders.push(Holder {
        pod: view.me.clone(),
        since: view.now,
        deadline: None,
    });
    tidy(&lock, view.pods).unwrap_or(lock)
}

/// The lock with this pod among those that wait. `None`: it is there already, as it should.
fn announced(view: &LockView<'_>) -> Option<Lock> {
    let mut lock = view.lock.clone();
    let known = lock
        .waiters
        .iter_mut()
        .find(|waiter| waiter.pod.uid == view.me.uid);
    match known {
        Some(waiter) => {
            waiter.pod = view.me.clone();
            waiter.handed_over |= view.handed_over;
            waiter.getting_ready = view.getting_ready;
        }
        None => lock.waiters.push(Waiter {
            pod: view.me.clone(),
            since: view.now,
            handed_over: view.handed_over,
            getting_ready: view.getting_ready,
        }),
    }
    (lock != *view.lock).then(|| tidy(&lock, view.pods).unwrap_or(lock))
}

fn wait_for_holders(policy: &LockPolicy, view: &LockView<'_>, living: &[&Holder]) -> LockStep {
    if let Some(lock) = announced(view) {
        return LockStep::Announce(lock);
    }
    LockStep::Wait {
        until: living
            .iter()
            .filter_map(|holder| gone_at(policy, view, holder))
            .min(),
        watch: living.iter().map(|holder| holder.pod.clone()).collect(),
        why: living
            .iter()
            .map(|holder| words::of_holder(policy, view, holder))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

fn wait_for_turn(policy: &LockPolicy, view: &LockView<'_>, first: &Waiter) -> LockStep {
    if let Some(lock) = announced(view) {
        return LockStep::Announce(lock);
    }
    LockStep::Wait {
        until: line::silent_at(policy, view, first),
        watch: vec![first.pod.clone()],
        why: words::of_waiter(view, first),
    }
}

#[cfg(test)]
mod tests;
