//! Who comes first among the pods that wait.

use std::cmp::Reverse;

use jiff::Timestamp;

use super::{Life, LockPolicy, LockView, PodState, Waiter, handed_over, state};
use crate::domain::budget::after;

/// The living waiter for which the holder `me` has to stop its job: of another template, and one that has not handed the
/// job over itself. Of several templates the wanted one, else the newest announced; of one template the first. It may be
/// getting ready: see [`not_before`].
#[must_use]
pub fn successor<'a>(policy: &LockPolicy, view: &LockView<'a>) -> Option<&'a Waiter> {
    if !view.lock.holds(&view.me.uid) {
        return None;
    }
    newer(policy, view)
}

/// When the job is stopped for `waiter` at the latest, since it is getting ready; `None`: at once. Until then the job runs
/// on instead of being down.
#[must_use]
pub fn not_before(policy: &LockPolicy, now: Timestamp, waiter: &Waiter) -> Option<Timestamp> {
    let by = after(waiter.since, policy.ready_within);
    (waiter.getting_ready && now < by).then_some(by)
}

/// The waiter for which the holder `me` gives the lock up after its own JobManager has failed, instead of starting it
/// again: its [`successor`], else one that has handed the job over to it. `None`: it keeps the lock, so that it goes on
/// when the API server is away.
#[must_use]
pub fn heir<'a>(policy: &LockPolicy, view: &LockView<'a>) -> Option<&'a Waiter> {
    let alone = view.lock.holders.len() == 1 && view.lock.holds(&view.me.uid);
    let former = || {
        view.lock.waiters.iter().find(|waiter| {
            waiter.pod.template != view.me.template && is_seen_alive(policy, view, waiter)
        })
    };
    successor(policy, view).or_else(|| former().filter(|_| alone))
}

/// The first of the living waiters that come from a rollout and not from `me`'s template.
pub(super) fn newer<'a>(policy: &LockPolicy, view: &LockView<'a>) -> Option<&'a Waiter> {
    let waiters = view.lock.waiters.iter().enumerate();
    waiters
        .filter(|(_, waiter)| {
            !waiter.handed_over
                && waiter.pod.template != view.me.template
                && view
                    .wanted
                    .is_none_or(|wanted| waiter.pod.template == wanted)
                && is_seen_alive(policy, view, waiter)
        })
        .min_by_key(|(place, waiter)| rank(policy, view, *place, waiter))
        .map(|(_, waiter)| waiter)
}

/// The living waiter whose turn it is before that of `me`, when the lock is free.
pub(super) fn ahead<'a>(policy: &LockPolicy, view: &LockView<'a>) -> Option<&'a Waiter> {
    let own = own_rank(policy, view);
    let waiters = view.lock.waiters.iter().enumerate();
    waiters
        .filter(|(_, waiter)| waiter.pod.uid != view.me.uid && lives(policy, view, waiter))
        .map(|(place, waiter)| (rank(policy, view, place, waiter), waiter))
        .filter(|(rank, _)| *rank < own)
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, waiter)| waiter)
}

/// When the waiter's silence makes it pass for dead.
pub(super) fn silent_at(
    policy: &LockPolicy,
    view: &LockView<'_>,
    waiter: &Waiter,
) -> Option<Timestamp> {
    match state(view, &waiter.pod.uid) {
        PodState::Alive(Life { silent_since, .. }) | PodState::Unknown { silent_since } => {
            silent_since.map(|at| after(at, policy.silent_for))
        }
        _ => None,
    }
}

/// A waiter runs no JobManager, so taking it for dead costs it nothing but its turn.
fn lives(policy: &LockPolicy, view: &LockView<'_>, waiter: &Waiter) -> bool {
    let here = match state(view, &waiter.pod.uid) {
        PodState::Alive(life) => !life.restarting && life.gone_by.is_none(),
        PodState::Unknown { .. } => true,
        _ => false,
    };
    here && silent_at(policy, view, waiter).is_none_or(|at| at > view.now)
}

/// A running job is stopped only for a pod that is seen to be there.
fn is_seen_alive(policy: &LockPolicy, view: &LockView<'_>, waiter: &Waiter) -> bool {
    lives(policy, view, waiter) && matches!(state(view, &waiter.pod.uid), PodState::Alive(_))
}

/// The lower one goes first.
type Rank = (bool, bool, Reverse<usize>, usize);

/// A pod that has handed over comes after all that have not, in the order in which they did. Of the others, those of the
/// wanted template come first, then those of the template that was announced last; of one template the first.
fn rank(policy: &LockPolicy, view: &LockView<'_>, place: usize, waiter: &Waiter) -> Rank {
    rank_of(
        (policy, view),
        place,
        &waiter.pod.template,
        waiter.handed_over,
    )
}

/// The rank of `me`; a pod that is not announced yet counts as announced just now.
fn own_rank(policy: &LockPolicy, view: &LockView<'_>) -> Rank {
    let waiters = &view.lock.waiters;
    let place = waiters
        .iter()
        .position(|waiter| waiter.pod.uid == view.me.uid)
        .unwrap_or(waiters.len());
    rank_of((policy, view), place, &view.me.template, handed_over(view))
}

fn rank_of(
    (policy, view): (&LockPolicy, &LockView<'_>),
    place: usize,
    template: &str,
    handed_over: bool,
) -> Rank {
    if handed_over {
        return (true, false, Reverse(0), place);
    }
    let announced = view.lock.waiters.iter().position(|other| {
        other.pod.template == template
            && !other.handed_over
            && (other.pod.uid == view.me.uid || lives(policy, view, other))
    });
    let unwanted = view.wanted.is_some_and(|wanted| wanted != template);
    (false, unwanted, Reverse(announced.unwrap_or(place)), place)
}
