//! `drey check`: can Drey be installed here, and does what is installed work?
//!
//! Facts in, findings out: what is judged has no I/O, no async and no clock. [`gather`] brings the facts. What the user may not
//! read is no failure of the whole: that finding is [`State::Unknown`] and names the right that is missing.

mod certificate;
mod flink;
pub mod gather;
mod health;
mod jobs;
mod kept;
pub(crate) mod pods;
mod pre;
mod probe;
mod rescaling;
mod rights;
mod storage;
mod table;
mod text;
mod webhook;

use serde::Serialize;

pub use flink::FlinkConfig;
pub use jobs::{Account, Cluster, PointFault, PointRead};
pub use pods::Namespace;
pub use pre::PreFacts;
pub use probe::{Answer, Probe};
pub use rights::{Needed, Right};
pub use table::{CHECKS, Check, Group};
pub use webhook::{Installation, WEBHOOK};

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It cannot be told from here.
    Unknown,
    /// It works, and something will go wrong or can be better.
    Warning,
    /// It does not work.
    Failed,
}

/// What one check found about one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub group: Group,
    /// Which check: stable, for machines.
    pub id: &'static str,
    /// The check's name, for people.
    pub title: &'static str,
    /// The pod, cluster id or webhook entry; `None`: the whole cluster.
    pub subject: Option<String>,
    /// How it stands.
    pub state: State,
    /// What was seen.
    pub found: String,
    /// What to do about it; `None` where nothing has to be done.
    pub remedy: Option<String>,
    /// Where it is described.
    pub doc: String,
}

impl Finding {
    fn new(check: &Check, state: State, found: String, remedy: Option<String>) -> Self {
        Self {
            group: check.group,
            id: check.id,
            title: check.title,
            subject: None,
            state,
            found,
            remedy,
            doc: check.doc(),
        }
    }

    fn ok(check: &Check, found: impl Into<String>) -> Self {
        Self::new(check, State::Ok, found.into(), None)
    }

    fn unknown(check: &Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, State::Unknown, found.into(), Some(remedy.into()))
    }

    fn warning(check: &Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, State::Warning, found.into(), Some(remedy.into()))
    }

    fn failed(check: &Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(check, State::Failed, found.into(), Some(remedy.into()))
    }

    fn blind(check: &Check, blind: &Blind) -> Self {
        Self::unknown(check, &blind.why, blind.remedy())
    }

    fn on(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }
}

/// What could be seen of something, or why nothing.
pub type Sight<T> = Result<T, Blind>;

/// Why something could not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blind {
    /// For people.
    pub why: String,
    /// The right that is missing, if that is why.
    pub right: Option<Box<Right>>,
}

impl Blind {
    /// Something else than a missing right.
    pub fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            right: None,
        }
    }

    fn remedy(&self) -> String {
        match &self.right {
            Some(right) => format!(
                "ask for {}, or let somebody who has it run this",
                right.rule()
            ),
            None => "try again later".to_owned(),
        }
    }
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Grouped, in the order in which they are shown.
    pub findings: Vec<Finding>,
    /// The API server does not answer, so nothing else could be looked at.
    pub unreachable: bool,
}

impl Report {
    /// These findings, by group.
    #[must_use]
    pub fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.group);
        Self {
            findings,
            unreachable: false,
        }
    }

    /// The report when the API server does not answer.
    #[must_use]
    pub fn unreachable(why: &str) -> Self {
        let remedy = "check the server's address in the kubeconfig (KUBECONFIG, else ~/.kube/config), and the network";
        let finding = Finding::failed(&table::API_SERVER, why, remedy);
        Self {
            findings: vec![finding],
            unreachable: true,
        }
    }

    /// The report when there is no usable kubeconfig, or the API server does not know the user.
    #[must_use]
    pub fn refused(why: &str) -> Self {
        let remedy = "name a kubeconfig with KUBECONFIG, and renew its credentials; `kubectl get namespaces` uses the same ones";
        Self::new(vec![Finding::failed(&table::API_SERVER, why, remedy)])
    }

    /// How many findings are in this state.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        let of = |finding: &&Finding| finding.state == state;
        self.findings.iter().filter(of).count()
    }

    /// Nothing failed; with `strict` no warnings either.
    #[must_use]
    pub fn passes(&self, strict: bool) -> bool {
        let bad = |state| state == State::Failed || (strict && state == State::Warning);
        !self.findings.iter().any(|finding| bad(finding.state))
    }

    /// For machines. Fields are added, and none is taken away, as long as `format` is the same.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let result = match (self.unreachable, self.passes(false)) {
            (true, _) => "unreachable",
            (false, true) => "ok",
            (false, false) => "failed",
        };
        serde_json::json!({
            "format": 1,
            "version": env!("CARGO_PKG_VERSION"),
            "result": result,
            "ok": self.count(State::Ok),
            "warnings": self.count(State::Warning),
            "failed": self.count(State::Failed),
            "unknown": self.count(State::Unknown),
            "findings": self.findings,
        })
    }
}

/// What was found out before an installation.
#[must_use]
pub fn before(facts: &PreFacts) -> Report {
    Report::new(pre::findings(facts))
}

/// What was found out about an installation and about the jobs under it.
#[must_use]
pub fn after(facts: &Facts) -> Report {
    let mut findings = vec![pre::api_server(&facts.git_version)];
    findings.extend(webhook::findings(&facts.installation, facts.now));
    let webhook_version = facts.installation.version();
    for namespace in &facts.namespaces {
        findings.extend(pods::findings(namespace, webhook_version.as_deref()));
        for cluster in &namespace.clusters {
            findings.extend(pods::grace(cluster));
            findings.extend(jobs::findings(cluster, facts.now));
        }
    }
    Report::new(findings)
}

/// What is judged after an installation.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Now.
    pub now: jiff::Timestamp,
    /// `v1.34.4`.
    pub git_version: String,
    /// What is installed for the whole cluster.
    pub installation: Installation,
    /// The namespaces that were asked for.
    pub namespaces: Vec<Namespace>,
}

/// `5 s`, `3 min`, `2 h`, `9 days`: enough to judge by.
fn rough(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests;
