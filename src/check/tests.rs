//! Each finding in each of its states.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

mod jobs;
mod pods;
mod pre;
mod webhook;

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// An object of Kubernetes.
fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn forbidden() -> Blind {
    Blind {
        why: "you may not list pods in namespace a".to_owned(),
        right: Some(Box::new(Right::new("list", "", "pods").within("a"))),
    }
}

/// The only finding of this check.
fn the<'a>(findings: &'a [Finding], id: &str) -> &'a Finding {
    let mut found = findings.iter().filter(|finding| finding.id == id);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("no {id} in {findings:#?}"));
    assert_eq!(found.next(), None, "{findings:#?}");
    first
}

/// Its state, and that it says what was found and, unless it is good, what to do.
#[track_caller]
fn is(finding: &Finding, state: State, found: &str) {
    assert_eq!(finding.state, state, "{finding:#?}");
    assert!(finding.found.contains(found), "{finding:#?}");
    assert_eq!(finding.remedy.is_none(), state == State::Ok, "{finding:#?}");
}

#[test]
fn what_may_not_be_read_names_the_right_that_is_missing() {
    let finding = Finding::blind(&table::PODS_INJECTED, &forbidden());
    is(&finding, State::Unknown, "you may not list pods");
    let remedy = finding.remedy.unwrap();
    let rule = r#"{apiGroups: [""], resources: [pods], verbs: [list]} in a Role in namespace a"#;
    assert!(remedy.contains(rule), "{remedy}");
    assert_eq!(finding.doc, "README.md#check-pods-injected");
}

#[test]
fn a_report_fails_by_what_failed_and_strictly_by_warnings() {
    let check = &table::POINTER;
    let report = |findings| Report::new(findings);
    let fine = report(vec![
        Finding::ok(check, "a"),
        Finding::unknown(check, "b", "c"),
    ]);
    assert!(fine.passes(false) && fine.passes(true));
    let warned = report(vec![Finding::warning(check, "a", "b")]);
    assert!(warned.passes(false) && !warned.passes(true));
    assert!(!report(vec![Finding::failed(check, "a", "b")]).passes(false));
    assert!(!Report::unreachable("no route").passes(false));
}

fn small_report() -> Report {
    Report::new(vec![
        Finding::warning(&table::POINTER, "there is none", "look at the log").on("a/orders"),
        Finding::ok(&table::API_SERVER, "answers"),
        Finding::failed(&table::WEBHOOK_ANSWERS, "it does not", "start it"),
        Finding::blind(&table::PODS_INJECTED, &forbidden()),
    ])
}

#[test]
fn a_terminal_gets_signs_and_a_file_words() {
    let expected = "\
Kubernetes
  ✓ API server: answers

Webhook
  ✗ Webhook answers: it does not
    → start it (README.md#check-webhook-answers)

Pods
  ? Opted-in pods are injected: you may not list pods in namespace a
    → ask for {apiGroups: [\"\"], resources: [pods], verbs: [list]} in a Role in namespace a, or let somebody who has it run this (README.md#check-pods-injected)

Jobs
  ! Pointer, a/orders: there is none
    → look at the log (README.md#check-pointer)

1 ok, 1 warnings, 1 failed, 1 unknown
";
    assert_eq!(small_report().text(true), expected);
    let plain = expected
        .replace('✓', "[ok]")
        .replace('✗', "[failed]")
        .replace("? O", "[unknown] O")
        .replace("! P", "[warning] P");
    assert_eq!(small_report().text(false), plain);
}

#[test]
fn the_json_has_a_stable_schema() {
    let mut json = small_report().json();
    json["version"] = json!("X");
    json["findings"].as_array_mut().unwrap().truncate(2);
    let expected = json!({
        "format": 1,
        "version": "X",
        "result": "failed",
        "ok": 1,
        "warnings": 1,
        "failed": 1,
        "unknown": 1,
        "findings": [
            {
                "group": "kubernetes",
                "id": "api-server",
                "title": "API server",
                "subject": null,
                "state": "ok",
                "found": "answers",
                "remedy": null,
                "doc": "README.md#check-api-server",
            },
            {
                "group": "webhook",
                "id": "webhook-answers",
                "title": "Webhook answers",
                "subject": null,
                "state": "failed",
                "found": "it does not",
                "remedy": "start it",
                "doc": "README.md#check-webhook-answers",
            },
        ],
    });
    assert_eq!(json.to_string(), expected.to_string());
    assert_eq!(Report::unreachable("x").json()["result"], "unreachable");
    assert_eq!(Report::new(Vec::new()).json()["result"], "ok");
}

#[test]
fn each_check_has_its_row_in_the_readme() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    let row = |check: &Check| {
        let Check {
            id, group, meaning, ..
        } = check;
        format!(
            "| <a id=\"check-{id}\"></a>`{id}` | {} | {meaning} |\n",
            group.title()
        )
    };
    let rows: String = CHECKS.iter().map(row).collect();
    let table = format!("| Check | About | What is looked at |\n|---|---|---|\n{rows}");
    let found = readme
        .split_once("<!-- checks -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- /checks -->"))
        .map(|(table, _)| table);
    assert!(
        found == Some(&table),
        "put this between the markers in README.md:\n{table}"
    );
}

#[test]
fn times_are_said_roughly() {
    let said = [-5, 0, 119, 120, 7199, 7200, 172_799, 172_800].map(rough);
    let expected = [
        "0 s", "0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days",
    ];
    assert_eq!(said, expected);
}
