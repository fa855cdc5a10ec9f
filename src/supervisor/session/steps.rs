//! The steps from a JobManager without jobs to one that has them all.

use jiff::Timestamp;
use tokio::task::JoinError;
use tracing::{error, info, warn};

use super::ledger::Ledger;
use super::work::{NotSubmitted, Plan, Planning, Submission};
use super::{AGAIN, MAIN_METHOD, REFUSALS, Session, State, Todo, Work};
use crate::control::Prepare;
use crate::domain::budget::after;
use crate::domain::claim::ClaimMode;
use crate::domain::job::{JobId, JobView};
use crate::domain::pointer::{APPLICATION, PointKind, RunId};
use crate::domain::restore::{Choice, begin};
use crate::flink::version::FlinkVersion;
use crate::kill_point;
use crate::kubernetes::events::Event;
use crate::session_jobs::{self, SessionJob};
use crate::supervisor::start::unused;
use crate::supervisor::{Supervisor, random};
use crate::telemetry::one_line;

use crate::flink::rest::JarRun;

impl Supervisor {
    /// Another JobManager has come up.
    pub(super) fn begin_life(&mut self, life: RunId) {
        self.session.interrupt();
        let listed = match &self.settings.session_jobs {
            Some(path) => session_jobs::load(path).unwrap_or_else(|problem| {
                // It was good when this process started.
                let text = one_line(&problem, 400);
                error!(
                    error = text,
                    "The list of jobs cannot be used: none is submitted"
                );
                self.tell(Event::warning("SessionJobsInvalid", &text));
                Vec::new()
            }),
            None => Vec::new(),
        };
        let known = Ledger::load(&self.settings);
        let resumed = known.life.as_ref() == Some(&life);
        let ledger = if resumed {
            known
        } else {
            Ledger {
                life: Some(life.clone()),
                ..Ledger::default()
            }
        };
        let keys = self.pointer.jobs.keys().filter(|key| *key != APPLICATION);
        let keys = keys.chain(listed.iter().map(|job| &job.name)).cloned();
        let todo = keys
            .filter(|key| !ledger.done.contains(key))
            .map(|key| (key, Todo::default()))
            .collect();
        self.session = Session {
            life: Some(life),
            ledger,
            resumed,
            listed,
            todo,
            ..Session::default()
        };
        self.save_ledger();
    }

    pub(super) fn save_ledger(&self) {
        if let Err(error) = self.session.ledger.save(&self.settings) {
            warn!(%error, "What became of the jobs could not be noted");
        }
    }

    /// What Flink shows needs not be submitted.
    pub(super) fn note_seen(&mut self) {
        let mut seen = Vec::new();
        for (key, todo) in &self.session.todo {
            let view = self.jobs.get(key).and_then(|job| job.view.as_ref());
            let left =
                |view: &&JobView| todo.state != State::Done && !self.is_resubmitted(key, view);
            if let Some(view) = view.filter(left) {
                seen.push((key.clone(), view.name.clone()));
            }
        }
        for (key, name) in seen {
            // A submission under way runs into Flink's refusal of a second job with its id, if it is the same.
            if self.session.job(&key).is_some() && name != key {
                let text = format!(
                    "the job calls itself {name:?}, not {key:?}: it is supervised, but a job submitted by hand under its \
                     own name would not be known; change `name` in the list of jobs, or the name in its code"
                );
                self.trouble(&key, "JobNameDiffers", &text);
            } else {
                self.clear_trouble(&key);
            }
            self.done(&key);
        }
    }

    fn done(&mut self, key: &str) {
        if let Some(todo) = self.session.todo.get_mut(key) {
            todo.state = State::Done;
        }
        if self.session.ledger.done.insert(key.to_owned()) {
            self.save_ledger();
        }
    }

    /// Finds out where the job under `key` resumes from.
    pub(super) fn plan_job(&mut self, key: &str) {
        let Some((flink, version)) = self.flink() else {
            return;
        };
        let entry = self.pointer.jobs.get(key).cloned().unwrap_or_default();
        let planning = Planning {
            settings: self.settings.clone(),
            flink,
            version,
            owner: self.owner(),
            entry: entry.clone(),
            jar: self.session.job(key).map(|job| job.jar.clone()),
        };
        if let Some(todo) = self.session.todo.get_mut(key) {
            todo.planned = entry;
            todo.state = State::Waiting;
        }
        let task = tokio::spawn(planning.plan());
        self.session.work = Some((key.to_owned(), Work::Plan(task)));
    }

    /// What a plan needs to know of Flink.
    fn flink(&self) -> Option<(Prepare, FlinkVersion)> {
        let cluster = self.cluster.as_ref()?;
        let flink = Prepare {
            flink_version: cluster.version.to_string(),
            configuration: cluster.configuration.clone(),
            application: false,
            standalone: !cluster.native,
            ..Prepare::default()
        };
        Some((flink, cluster.version))
    }

    pub(super) async fn planned(&mut self, key: &str, plan: Result<Plan, JoinError>) {
        let now = self.pointer.jobs.get(key).cloned().unwrap_or_default();
        let Some(todo) = self.session.todo.get(key) else {
            return;
        };
        // It came up meanwhile, or somebody has changed the pointer.
        if todo.state == State::Done || todo.planned != now {
            return;
        }
        let plan = plan.unwrap_or_else(|error| Plan::Later(error.to_string()));
        match (plan, self.session.job(key).cloned()) {
            (Plan::Start(choice, why), Some(job)) => self.start_job(&job, choice, &why).await,
            (Plan::Start(Some(choice), _), None) => self.ask_person(key, &choice.path),
            (Plan::Start(None, _), None) => self.done(key),
            (Plan::Over(ended), listed) => {
                if listed.is_some() {
                    info!(job = key, status = %ended.status, "Not submitted: the job is over");
                }
                self.clear_trouble(key);
                self.done(key);
            }
            (Plan::Refused(why), _) => {
                let text = format!("not submitted: {}", for_job(&why, key));
                self.set_state(key, State::Told);
                self.trouble(key, "RestoreRefused", &text);
            }
            (Plan::Later(why), _) => {
                self.wait_for_job(key);
                self.trouble(key, "JobWaits", &format!("not submitted yet: {why}"));
            }
        }
    }

    /// The jar, class and arguments of this job are not known.
    fn ask_person(&mut self, key: &str, path: &str) {
        let text = format!(
            "not submitted, since it is not in the list of jobs (`--session-jobs`): submit it yourself, from the restore \
             point {path}, or forget it with `drey pointer clear --job {key:?}`"
        );
        self.set_state(key, State::Told);
        self.trouble(key, "JobNotResubmitted", &text);
    }

    /// Stores the run, and then submits it.
    async fn start_job(&mut self, job: &SessionJob, choice: Option<Choice>, why: &str) {
        let key = job.name.as_str();
        let Some(run) = self.store_run(key, choice.as_ref()).await else {
            return self.wait_for_job(key);
        };
        let Some((flink, version)) = self.flink() else {
            return;
        };
        let rest = self
            .cluster
            .as_ref()
            .map(|c| c.rest.with_timeout(MAIN_METHOD));
        let rest = match rest {
            Some(Ok(rest)) => rest,
            Some(Err(error)) => {
                self.wait_for_job(key);
                return self.trouble(key, "JobWaits", &one_line(&error, 300));
            }
            None => return,
        };
        let restore_from = choice.as_ref().map(|choice| choice.path.clone());
        let shown = restore_from.as_deref().unwrap_or("empty state");
        info!(job = key, job_id = %run, restore_from = shown, why, "Job is submitted");
        let text = format!("Submitting job {key} from {shown}: {why}");
        self.tell(Event::normal("RestoreChosen", &text));
        let claim = self.claim(choice.as_ref());
        let submission = Submission {
            settings: self.settings.clone(),
            flink,
            version,
            rest,
            jar: job.jar.clone(),
            run: JarRun {
                job: run,
                entry_class: job.entry_class.clone(),
                args: job.args.clone(),
                parallelism: job.parallelism,
                savepoint: restore_from,
                allow_non_restored_state: job.allow_non_restored_state
                    || self.settings.allow_non_restored_state,
                claim: Some(claim),
            },
        };
        let task = tokio::spawn(submission.submit());
        self.session.work = Some((key.to_owned(), Work::Submit(task)));
    }

    /// As for an application: checkpoints of own runs are claimed, savepoints are not.
    fn claim(&self, choice: Option<&Choice>) -> ClaimMode {
        let checkpoint = choice.is_some_and(|choice| choice.kind == PointKind::Checkpoint);
        let usual = if checkpoint {
            ClaimMode::Claim
        } else {
            ClaimMode::NoClaim
        };
        self.settings.claim_mode.unwrap_or(usual)
    }

    /// The job id of the run that is to be submitted, once it is stored. The one of an earlier attempt in this JobManager's
    /// life is used again: should that have come through, Flink refuses this one.
    async fn store_run(&mut self, key: &str, choice: Option<&Choice>) -> Option<JobId> {
        let entry = self.pointer.jobs.get(key).cloned().unwrap_or_default();
        let begun = self.session.resumed || self.session.todo.get(key)?.stored;
        if let Some(run) = entry
            .run
            .as_ref()
            .filter(|run| begun && unused(run, &entry, choice))
        {
            return run.job_id;
        }
        kill_point("before-session-run-stored");
        let job = JobId::from_bytes(random());
        let run = self.run_of(job, None);
        let keep = self.settings.remembered();
        let claimed = choice.filter(|choice| self.claim(Some(choice)) == ClaimMode::Claim);
        let stored = self
            .update(key, |entry| {
                begin(entry, choice, run.clone(), keep);
                entry.note_start();
                if let Some(choice) = claimed {
                    entry.note_claim(&choice.path);
                }
            })
            .await;
        if !stored {
            return None;
        }
        kill_point("after-session-run-stored");
        self.forget_failed(key);
        if let Some(todo) = self.session.todo.get_mut(key) {
            todo.stored = true;
        }
        Some(job)
    }

    pub(super) fn submitted(
        &mut self,
        key: &str,
        submitted: Result<Result<JobId, NotSubmitted>, JoinError>,
    ) {
        // It may have been seen before Flink's answer came.
        let there = |todo: &Todo| todo.state == State::Done;
        let there = self.session.todo.get(key).is_none_or(there);
        let submitted = submitted.unwrap_or_else(|error| {
            let (text, refused) = (error.to_string(), false);
            Err(NotSubmitted { text, refused })
        });
        match submitted {
            Ok(job) => {
                info!(job = key, job_id = %job, "Job was submitted");
                let text = format!("Submitted job {key} with the id {job}");
                self.tell(Event::normal("JobSubmitted", &text));
                if !there {
                    self.set_state(key, State::Submitted);
                    self.clear_trouble(key);
                }
            }
            Err(_) if there => {}
            Err(NotSubmitted { text, refused }) => {
                self.wait_for_job(key);
                let attempts = self.session.todo.get(key).map_or(0, |todo| todo.attempts);
                let mut text = format!("not submitted: {text}");
                if refused && attempts >= REFUSALS {
                    self.set_state(key, State::Told);
                    text.push_str("; not tried again before the next start of the JobManager");
                }
                self.trouble(key, "JobNotSubmitted", &text);
            }
        }
    }

    fn set_state(&mut self, key: &str, state: State) {
        let planned = self.pointer.jobs.get(key).cloned().unwrap_or_default();
        if let Some(todo) = self.session.todo.get_mut(key) {
            todo.state = state;
            todo.planned = planned;
        }
    }

    /// It is tried again after a while.
    fn wait_for_job(&mut self, key: &str) {
        if let Some(todo) = self.session.todo.get_mut(key) {
            todo.state = State::Waiting;
            todo.attempts += 1;
            todo.not_before = after(Timestamp::now(), AGAIN.wait(todo.attempts));
        }
    }

    /// Says once what a person should know, until it changes.
    fn trouble(&mut self, key: &str, reason: &'static str, text: &str) {
        let Some(todo) = self.session.todo.get_mut(key) else {
            return;
        };
        if todo.problem.as_deref() == Some(text) {
            return;
        }
        todo.problem = Some(text.to_owned());
        warn!(job = key, problem = text, "Job is not as it should be");
        self.tell(Event::warning(reason, &format!("Job {key}: {text}")));
    }

    fn clear_trouble(&mut self, key: &str) {
        if let Some(todo) = self.session.todo.get_mut(key) {
            todo.problem = None;
        }
    }
}

/// The remedies of the application's start, for one job of several.
fn for_job(text: &str, key: &str) -> String {
    text.replace(
        "`drey pointer set PATH`",
        &format!("`drey pointer set --job {key:?} PATH`"),
    )
    .replace(
        "`drey pointer clear`",
        &format!("`drey pointer clear --job {key:?}`"),
    )
}
