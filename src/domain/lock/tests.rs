//! One table or story for each rule of the lock.

use super::*;

/// The pods of a story, by name, and the lock that they share.
struct Story {
    policy: LockPolicy,
    lock: Lock,
    pods: BTreeMap<String, PodState>,
    now: u64,
    high_availability: bool,
    wanted: Option<&'static str>,
    getting_ready: bool,
}

fn at(second: u64) -> Timestamp {
    after(Timestamp::UNIX_EPOCH, Duration::from_secs(second))
}

/// `t1-a` is a pod of the template `t1`; its UID is its name.
fn pod(name: &str) -> PodRef {
    PodRef {
        uid: name.to_owned(),
        name: name.to_owned(),
        ip: Some("10.0.0.1".to_owned()),
        node: None,
        template: name.split('-').next().unwrap().to_owned(),
    }
}

fn alive() -> PodState {
    PodState::Alive(Life::default())
}

fn silent(gone_by: Option<u64>, since: u64) -> PodState {
    PodState::Alive(Life {
        gone_by: gone_by.map(at),
        silent_since: Some(at(since)),
        ..Life::default()
    })
}

impl Story {
    fn new() -> Self {
        Self {
            policy: LockPolicy::default(),
            lock: Lock::default(),
            pods: BTreeMap::new(),
            now: 1000,
            high_availability: false,
            wanted: None,
            getting_ready: false,
        }
    }

    /// `name` holds the lock and lives.
    fn held_by(name: &str) -> Self {
        let mut story = Self::new();
        story.comes(name);
        assert!(story.lock.holds(name));
        story
    }

    fn look(&self, me: &str) -> LockStep {
        acquire(&self.policy, &self.view(&pod(me)))
    }

    fn view<'a>(&'a self, me: &'a PodRef) -> LockView<'a> {
        LockView {
            now: at(self.now),
            me,
            handed_over: false,
            getting_ready: self.getting_ready,
            high_availability: self.high_availability,
            wanted: self.wanted,
            lock: &self.lock,
            pods: &self.pods,
        }
    }

    /// The pod looks and writes until it holds the lock or waits; what it waits for.
    fn comes(&mut self, me: &str) -> Option<(Option<Timestamp>, Vec<String>, String)> {
        self.pods.entry(me.to_owned()).or_insert_with(alive);
        for _ in 0..3 {
            match self.look(me) {
                LockStep::Held => return None,
                LockStep::Take(lock) | LockStep::Announce(lock) => self.lock = lock,
                LockStep::Wait { until, watch, why } => {
                    let watch = watch.into_iter().map(|pod| pod.name).collect();
                    return Some((until, watch, why));
                }
            }
        }
        panic!("no end: {:?}", self.lock);
    }

    fn takes(&mut self, me: &str) {
        let waits = self.comes(me);
        assert_eq!(waits, None, "{:?}", self.lock);
    }

    #[track_caller]
    fn waits(&mut self, me: &str, why: &str) -> Option<Timestamp> {
        let (until, _, said) = self.comes(me).expect("it waits");
        assert!(said.contains(why), "{said}");
        until
    }

    fn becomes(&mut self, name: &str, state: PodState) {
        self.pods.insert(name.to_owned(), state);
    }

    fn hands_over(&mut self, name: &str) {
        self.lock = hand_over(&self.lock, &pod(name), at(self.now));
    }

    fn successor(&self, me: &str) -> Option<String> {
        let me = pod(me);
        successor(&self.policy, &self.view(&me)).map(|waiter| waiter.pod.name.clone())
    }

    fn heir(&self, me: &str) -> Option<String> {
        let me = pod(me);
        heir(&self.policy, &self.view(&me)).map(|waiter| waiter.pod.name.clone())
    }
}

#[test]
fn a_free_lock_is_taken_at_once_and_kept_over_restarts() {
    let mut story = Story::new();
    assert!(matches!(story.look("t1-a"), LockStep::Take(_)));
    story.takes("t1-a");
    assert_eq!(story.look("t1-a"), LockStep::Held);
    assert_eq!(story.lock.holders[0].since, at(1000));
}

#[test]
fn a_pod_announces_itself_before_it_waits_and_only_once() {
    let mut story = Story::held_by("t1-a");
    assert!(matches!(story.look("t2-b"), LockStep::Announce(_)));
    story.waits("t2-b", "t1-a runs the JobManager: it hands the job over");
    assert!(matches!(story.look("t2-b"), LockStep::Wait { .. }));
    assert_eq!(story.lock.waiters.len(), 1);
}

#[test]
fn a_pod_whose_ip_has_changed_announces_itself_again_and_keeps_its_place() {
    let mut story = Story::held_by("t1-a");
    story.waits("t1-b", "");
    story.waits("t1-c", "");
    let moved = PodRef {
        ip: Some("10.0.0.9".to_owned()),
        ..pod("t1-b")
    };
    let LockStep::Announce(lock) = acquire(&story.policy, &story.view(&moved)) else {
        panic!("not announced");
    };
    assert_eq!(lock.waiters[0].pod, moved);
    assert_eq!(lock.waiters.len(), 2);
}

#[test]
fn a_second_pod_of_the_same_template_waits_for_ever_and_says_so() {
    let mut story = Story::held_by("t1-a");
    story.now += 1_000_000;
    let until = story.waits("t1-b", "without high availability only one may: scale to 1");
    assert_eq!(until, None);
    assert_eq!(story.successor("t1-a"), None);
    assert_eq!(story.heir("t1-a"), None);
}

#[test]
fn a_holder_is_gone_when_its_pod_says_so() {
    let gone = [
        PodState::JobManagerEnded,
        PodState::NodeGone,
        PodState::Deleted {
            silent_since: Some(at(990)),
        },
    ];
    for state in gone {
        let mut story = Story::held_by("t1-a");
        story.becomes("t1-a", state);
        story.takes("t1-b");
        assert!(!story.lock.holds("t1-a"));
    }
}

#[test]
fn a_holder_is_there_while_anything_speaks_for_it() {
    let here = [
        (alive(), None, "only one may"),
        (
            PodState::Alive(Life {
                restarting: true,
                ..Life::default()
            }),
            None,
            "only one may",
        ),
        (
            PodState::Alive(Life {
                gone_by: Some(at(1030)),
                ..Life::default()
            }),
            None,
            "was told to go, and will be gone by 1970",
        ),
        (silent(None, 0), None, "was not told to go"),
        (
            silent(Some(1000), 900),
            Some(1060),
            "if it stays silent the lock passes on at 1970",
        ),
        (silent(Some(900), 995), Some(1005), "has to be gone by"),
        (
            PodState::Deleted { silent_since: None },
            None,
            "its IP 10.0.0.1 answers or was not probed yet",
        ),
        (
            PodState::Deleted {
                silent_since: Some(at(991)),
            },
            Some(1001),
            "is deleted, and its IP has been silent since",
        ),
        (
            PodState::Unknown { silent_since: None },
            None,
            "the right to read pods is missing",
        ),
        (
            PodState::Unknown {
                silent_since: Some(at(0)),
            },
            None,
            "was not told to go",
        ),
    ];
    for (state, until, why) in here {
        let mut story = Story::held_by("t1-a");
        story.becomes("t1-a", state);
        assert_eq!(story.waits("t1-b", why), until.map(at), "{why}");
        assert!(story.lock.holds("t1-a"));
    }
}

#[test]
fn a_pod_of_which_nothing_is_known_keeps_the_lock() {
    let mut story = Story::held_by("t1-a");
    story.pods.clear();
    story.waits("t1-b", "cannot be looked at");
}

#[test]
fn a_silent_holder_that_is_overdue_loses_the_lock_unless_that_is_never() {
    let mut story = Story::held_by("t1-a");
    story.lock = told_to_go(&story.lock, "t1-a", at(930)).unwrap();
    story.becomes(
        "t1-a",
        PodState::Unknown {
            silent_since: Some(at(980)),
        },
    );
    story.policy.break_after = None;
    story.now = 1_000_000;
    let until = story.waits("t1-b", "lock-break-after is never");
    assert_eq!(until, None);
    story.policy.break_after = Some(Duration::from_secs(60));
    story.takes("t1-b");
}

#[test]
fn the_later_of_two_deadlines_counts() {
    let mut story = Story::held_by("t1-a");
    story.lock = told_to_go(&story.lock, "t1-a", at(900)).unwrap();
    story.becomes("t1-a", silent(Some(970), 900));
    assert_eq!(story.waits("t1-b", ""), Some(at(1030)));
}

#[test]
fn a_deadline_is_written_once() {
    let lock = Story::held_by("t1-a").lock;
    let told = told_to_go(&lock, "t1-a", at(5)).unwrap();
    assert_eq!(told.holders[0].deadline, Some(at(5)));
    assert_eq!(told_to_go(&told, "t1-a", at(5)), None);
    assert_eq!(told_to_go(&lock, "t1-b", at(5)), None);
}

#[test]
fn a_rollout_hands_the_job_over_and_the_old_pod_waits() {
    let mut story = Story::held_by("t1-a");
    story.waits("t2-b", "");
    assert_eq!(story.successor("t1-a").as_deref(), Some("t2-b"));
    assert_eq!(story.successor("t2-b"), None);
    story.hands_over("t1-a");
    story.waits("t1-a", "pod t2-b takes it: the job was handed over to it");
    story.takes("t2-b");
    story.waits("t1-a", "handed over to pod t2-b, and is taken back if");
    assert_eq!(story.successor("t2-b"), None);
    assert_eq!(story.lock.waiters.len(), 1);
}

#[test]
fn a_pod_that_has_handed_over_is_known_as_such_after_its_sidecar_has_forgotten() {
    let mut story = Story::held_by("t1-a");
    story.hands_over("t1-a");
    story.takes("t2-b");
    story.waits("t1-a", "was handed over");
    assert!(story.lock.waiter("t1-a").unwrap().handed_over);
}

#[test]
fn a_waiter_that_fails_lets_the_old_job_go_on() {
    let fails = [
        PodState::JobManagerEnded,
        PodState::Deleted { silent_since: None },
        PodState::Alive(Life {
            restarting: true,
            ..Life::default()
        }),
        PodState::Alive(Life {
            gone_by: Some(at(1030)),
            ..Life::default()
        }),
        silent(None, 990),
    ];
    for state in fails {
        let mut story = Story::held_by("t1-a");
        story.waits("t2-b", "");
        story.hands_over("t1-a");
        story.becomes("t2-b", state.clone());
        assert_eq!(story.comes("t1-a"), None, "{state:?}");
    }
}

#[test]
fn a_job_that_fails_in_the_new_pod_goes_back_to_the_old_one_and_stays_there() {
    let mut story = Story::held_by("t1-a");
    story.waits("t2-b", "");
    story.hands_over("t1-a");
    story.takes("t2-b");
    story.waits("t1-a", "");
    assert_eq!(story.heir("t2-b").as_deref(), Some("t1-a"));
    story.hands_over("t2-b");
    story.takes("t1-a");
    story.waits("t2-b", "was handed over");
    assert_eq!(story.successor("t1-a"), None);
    story.becomes("t1-a", PodState::JobManagerEnded);
    story.takes("t2-b");
}

#[test]
fn of_two_rollouts_the_second_one_takes_over() {
    let mut story = Story::held_by("t1-a");
    story.waits("t2-b", "");
    story.waits("t3-c", "");
    story.waits("t3-d", "");
    assert_eq!(story.successor("t1-a").as_deref(), Some("t3-c"));
    story.hands_over("t1-a");
    story.waits("t2-b", "pod t3-c takes it: its pod template is newer");
    story.waits("t3-d", "of the same pod template and waits longer");
    story.takes("t3-c");
}

#[test]
fn a_job_runs_on_until_its_successor_could_start_at_once_but_not_for_long() {
    let mut story = Story::held_by("t1-a");
    story.getting_ready = true;
    story.comes("t2-b");
    let later = |story: &Story| {
        let me = pod("t1-a");
        let view = story.view(&me);
        let waiter = successor(&story.policy, &view).expect("a successor");
        not_before(&story.policy, view.now, waiter)
    };
    let by = at(story.now + 20);
    assert_eq!(later(&story), Some(by));
    story.now += 20;
    assert_eq!(later(&story), None);
    story.now -= 10;
    assert_eq!(later(&story), Some(by));
    story.getting_ready = false;
    story.comes("t2-b");
    assert_eq!(later(&story), None);
}

#[test]
fn the_template_that_the_owner_wants_comes_first() {
    let mut story = Story::held_by("t2-b");
    story.waits("t1-again", "");
    story.wanted = Some("t2");
    assert_eq!(story.successor("t2-b"), None);
    story.waits("t1-again", "the one that the owner wants now");
    story.waits("t3-c", "");
    story.wanted = Some("t3");
    assert_eq!(story.successor("t2-b").as_deref(), Some("t3-c"));
    story.wanted = Some("t1");
    assert_eq!(story.successor("t2-b").as_deref(), Some("t1-again"));
}

#[test]
fn an_undone_rollout_leaves_the_job_where_it_is_or_takes_it_back() {
    let mut story = Story::held_by("t1-a");
    story.waits("t2-b", "");
    story.becomes("t2-b", PodState::JobManagerEnded);
    assert_eq!(story.successor("t1-a"), None);

    let mut story = Story::held_by("t2-b");
    story.waits("t1-again", "");
    assert_eq!(story.successor("t2-b").as_deref(), Some("t1-again"));
}

#[test]
fn a_job_is_not_stopped_for_a_waiter_that_nobody_sees() {
    let mut story = Story::held_by("t1-a");
    story.waits("t2-b", "");
    story.becomes("t2-b", PodState::Unknown { silent_since: None });
    assert_eq!(story.successor("t1-a"), None);
}

#[test]
fn a_waiter_that_cannot_be_looked_at_keeps_its_turn_until_it_is_silent() {
    let mut story = Story::held_by("t1-a");
    story.waits("t1-b", "");
    story.waits("t1-c", "");
    story.lock = leave(&story.lock, "t1-a");
    story.becomes(
        "t1-b",
        PodState::Unknown {
            silent_since: Some(at(995)),
        },
    );
    assert_eq!(story.waits("t1-c", "waits longer"), Some(at(1005)));
    story.now = 1005;
    story.takes("t1-c");
}

#[test]
fn with_high_availability_pods_of_one_template_share_the_lock() {
    let mut story = Story::held_by("t1-a");
    story.high_availability = true;
    story.takes("t1-b");
    assert_eq!(story.lock.holders.len(), 2);
    story.waits("t2-c", "");
    assert_eq!(story.successor("t1-a").as_deref(), Some("t2-c"));
    assert_eq!(story.successor("t1-b").as_deref(), Some("t2-c"));
    story.waits(
        "t1-d",
        "is about to hand the job over to another pod template",
    );
    story.hands_over("t1-a");
    story.waits("t1-a", "");
    story.waits("t2-c", "t1-b runs the JobManager");
    story.hands_over("t1-b");
    story.becomes("t1-d", PodState::JobManagerEnded);
    story.takes("t2-c");
    story.takes("t2-e");
    story.waits("t1-b", "");
    assert_eq!(story.heir("t2-c"), None, "the other one goes on");
}

#[test]
fn with_high_availability_all_pods_come_back_when_the_new_template_fails() {
    let mut story = Story::held_by("t1-a");
    story.high_availability = true;
    story.takes("t1-b");
    story.waits("t2-c", "");
    story.hands_over("t1-a");
    story.waits("t1-a", "was handed over");
    story.hands_over("t1-b");
    story.takes("t2-c");
    story.waits("t1-a", "");
    story.waits("t1-b", "");
    assert_eq!(story.heir("t2-c").as_deref(), Some("t1-a"));
    story.hands_over("t2-c");
    story.takes("t1-a");
    story.takes("t1-b");
    story.waits("t2-c", "");
    assert_eq!(story.successor("t1-a"), None);
}

#[test]
fn a_pod_that_leaves_neither_holds_nor_waits() {
    let mut story = Story::held_by("t1-a");
    story.waits("t1-b", "");
    assert!(!leave(&story.lock, "t1-a").holds("t1-a"));
    assert_eq!(leave(&story.lock, "t1-b").waiter("t1-b"), None);
    assert_eq!(release(&story.lock, "t1-b"), story.lock);
}

#[test]
fn waiters_whose_pods_are_gone_are_dropped() {
    let mut story = Story::held_by("t1-a");
    story.waits("t2-b", "");
    story.waits("t2-c", "");
    assert_eq!(tidy(&story.lock, &story.pods), None);
    story.becomes("t2-b", PodState::Deleted { silent_since: None });
    let tidied = tidy(&story.lock, &story.pods).unwrap();
    assert_eq!(tidied.waiters.len(), 1);
    assert!(tidied.waiter("t2-c").is_some());
}
