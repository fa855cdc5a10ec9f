//! Which state of a restore point a new job will not take over, before the old one is stopped.
//!
//! Only where the new job's operators are known: by their uids, whose hashes are the ids, or by the ids themselves. An operator
//! without a uid has an id that changes with the job graph.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::flink::metadata::{Metadata, Operator};
use crate::flink::operator_id::{id_of, of_uid};

/// What the new job's author says of its operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewJob {
    /// Their uids.
    pub uids: Vec<String>,
    /// Their ids.
    pub ids: Vec<String>,
}

/// State, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Preflight {
    /// Operators whose state the new job does not take over.
    pub left_behind: Vec<Left>,
    /// Uids and ids that have no state in the restore point: these operators start empty.
    pub empty: Vec<String>,
}

/// State of an operator that the new job does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Left {
    /// Its id.
    pub id: String,
    /// Its uid or name, which Flink stores since 2.0.
    pub name: Option<String>,
    /// Bytes of state.
    pub bytes: u64,
}

/// Compares the operators with state in `metadata` with those of the new job.
#[must_use]
pub fn preflight(metadata: &Metadata, job: &NewJob) -> Preflight {
    let ids = job.ids.iter().map(|id| id.to_ascii_lowercase());
    let by_uid = job.uids.iter().flat_map(|uid| of_uid(uid));
    let known: BTreeSet<String> = ids.chain(by_uid).collect();
    let stateful = |operator: &&Operator| {
        operator.subtasks.with_state > 0 || operator.coordinator_state.is_some()
    };
    let there: Vec<&Operator> = metadata.operators.iter().filter(stateful).collect();
    let left = there
        .iter()
        .filter(|operator| !known.contains(&operator.id));
    let has = |id: &str| there.iter().any(|operator| operator.id == id);
    let empty_uids = job
        .uids
        .iter()
        .filter(|uid| !of_uid(uid).any(|id| has(&id)));
    let empty_ids = job.ids.iter().filter(|id| !has(&id.to_ascii_lowercase()));
    Preflight {
        left_behind: left.map(|operator| left_behind(operator)).collect(),
        empty: empty_uids.chain(empty_ids).cloned().collect(),
    }
}

fn left_behind(operator: &Operator) -> Left {
    Left {
        id: operator.id.clone(),
        name: operator.uid.clone().or_else(|| operator.name.clone()),
        bytes: operator.state_size.total(),
    }
}

impl NewJob {
    /// Uids or ids, one a line; empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// The line that is no operator id.
    pub fn read(uids: Option<&str>, ids: Option<&str>) -> Result<Self, String> {
        let lines = |text: Option<&str>| -> Vec<String> {
            let lines = text.unwrap_or_default().lines().map(str::trim);
            let said = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            said.map(str::to_owned).collect()
        };
        let ids = lines(ids);
        let is_id = |id: &&String| id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit());
        match ids.iter().find(|id| !is_id(id)) {
            Some(bad) => Err(format!(
                "{bad:?} is no operator id: 32 hexadecimal digits are; a uid such as this one has the id {}",
                id_of(bad)
            )),
            None => Ok(Self {
                uids: lines(uids),
                ids,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flink::metadata;

    fn savepoint() -> Metadata {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/metadata/v6-savepoint-native"
        );
        metadata::parse(&std::fs::read(file).expect("a fixture")).expect("good metadata")
    }

    #[test]
    fn state_of_operators_that_are_gone_is_named_and_new_operators_too() {
        let metadata = savepoint();
        let uids: Vec<String> = metadata
            .operators
            .iter()
            .filter_map(|it| it.uid.clone())
            .collect();
        let whole = NewJob {
            uids: uids.clone(),
            ids: Vec::new(),
        };
        let known = preflight(&metadata, &whole);
        assert!(
            known
                .left_behind
                .iter()
                .all(|left| !uids.iter().any(|uid| Some(uid) == left.name.as_ref())),
            "{known:?}"
        );
        let none = NewJob {
            uids: vec!["brand-new".to_owned()],
            ids: Vec::new(),
        };
        let lost = preflight(&metadata, &none);
        assert!(lost.left_behind.len() > known.left_behind.len(), "{lost:?}");
        assert_eq!(lost.empty, ["brand-new"]);
    }

    #[test]
    fn a_uid_among_the_ids_is_told_apart() {
        let error = NewJob::read(None, Some("# ids\n\ncount\n")).expect_err("no id");
        assert!(error.contains(&id_of("count")), "{error}");
    }
}
