//! The rows of the table of causes.

use super::*;

fn at(millis: u64) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, Duration::from_millis(millis))
}

/// The JobManager's hook alone was seen, just now.
fn hook() -> CauseView {
    CauseView {
        now: at(5000),
        first_sign: at(5000),
        job_manager_told: true,
        sidecar_told: false,
        deletion: Known::Unknown,
        owner: Owner::Unknown,
        namespace_terminating: false,
        suspended: false,
    }
}

#[test]
fn a_hook_alone_is_undecided_for_a_second() {
    let until = at(6000);
    assert_eq!(judge(&hook()), Verdict::Undecided { until });
    let looked = CauseView {
        deletion: Known::No,
        now: at(5999),
        ..hook()
    };
    assert_eq!(judge(&looked), Verdict::Undecided { until });
}

#[test]
fn a_hook_that_stays_alone_is_a_restart_of_the_container() {
    let alone = CauseView {
        now: at(6000),
        deletion: Known::No,
        owner: Owner::NewTemplate,
        ..hook()
    };
    assert_eq!(judge(&alone), Verdict::Cause(Cause::ContainerRestarts));
}

#[test]
fn a_hook_that_stays_alone_while_nobody_can_look_counts_as_the_pod() {
    let blind = CauseView {
        now: at(6000),
        ..hook()
    };
    assert_eq!(judge(&blind), Verdict::Cause(Cause::PodMoves));
}

#[test]
fn a_pod_that_goes_is_judged_at_once_by_what_its_owner_wants() {
    let table = [
        (Owner::Unknown, Cause::PodMoves),
        (Owner::SamePods, Cause::PodMoves),
        (Owner::NewTemplate, Cause::Rollout),
        (Owner::NoPods, Cause::Final),
        (Owner::Deleted, Cause::Final),
    ];
    for (owner, cause) in table {
        let deleted = CauseView {
            deletion: Known::Yes,
            owner,
            ..hook()
        };
        // The node's own shutdown, and a look-up that is late.
        let shut_down = [Known::No, Known::Unknown].map(|deletion| CauseView {
            sidecar_told: true,
            deletion,
            owner,
            ..hook()
        });
        for view in [deleted].into_iter().chain(shut_down) {
            assert_eq!(judge(&view), Verdict::Cause(cause), "{view:?}");
        }
    }
}

#[test]
fn a_namespace_that_goes_and_a_person_who_suspends_are_final_whatever_else_is_seen() {
    let namespace = CauseView {
        namespace_terminating: true,
        ..hook()
    };
    let suspended = CauseView {
        suspended: true,
        job_manager_told: false,
        ..hook()
    };
    assert_eq!(judge(&namespace), Verdict::Cause(Cause::Final));
    assert_eq!(judge(&suspended), Verdict::Cause(Cause::Final));
}

#[test]
fn each_cause_has_its_means() {
    let plain = Setting {
        high_availability: false,
        checkpoint_on_demand: true,
        leader: true,
        job_over: false,
    };
    let ha = Setting {
        high_availability: true,
        ..plain
    };
    let old_ha = Setting {
        checkpoint_on_demand: false,
        ..ha
    };
    let table = [
        (Cause::Final, [Means::Stop, Means::Stop, Means::Stop]),
        (Cause::Rollout, [Means::Stop, Means::Stop, Means::Stop]),
        (
            Cause::PodMoves,
            [Means::Stop, Means::Checkpoint, Means::Stop],
        ),
        (
            Cause::ContainerRestarts,
            [Means::Nothing, Means::Nothing, Means::Nothing],
        ),
    ];
    for (cause, expected) in table {
        let got = [plain, ha, old_ha].map(|setting| means(cause, setting));
        assert_eq!(got, expected, "{cause:?}");
        for setting in [
            Setting {
                leader: false,
                ..ha
            },
            Setting {
                job_over: true,
                ..plain
            },
        ] {
            assert_eq!(means(cause, setting), Means::Nothing, "{cause:?}");
        }
    }
}
