//! Files beside manifests: pod templates and configuration of native mode, and what cannot be changed.

use super::settings;
use crate::inject::offline::{Act, File, Rewritten, rewrite};
use crate::inject::{Role, Settings};

const TEMPLATE: &str = "kind: Pod\nspec:\n  containers:\n  - name: flink-main-container\n";
const CONFIGURATION: &str =
    "# mine\nkubernetes.cluster-id: orders\nkubernetes.pod-template-file.taskmanager: x/tm.yaml\n";

fn with(role: Option<Role>) -> Act {
    Act::Inject(
        Box::new(Settings {
            opted_in: true,
            ..settings()
        }),
        role,
    )
}

fn run(files: &[(&str, &str)], act: &Act) -> Rewritten {
    let file = |(name, text): &(&str, &str)| File {
        name: (*name).to_owned(),
        text: (*text).to_owned(),
    };
    rewrite(&files.iter().map(file).collect::<Vec<_>>(), act)
}

#[test]
fn a_pod_template_is_for_what_the_configuration_says() {
    let done = run(
        &[("conf/config.yaml", CONFIGURATION), ("tm.yaml", TEMPLATE)],
        &with(None),
    );
    assert_eq!(done.refused, Vec::<String>::new());
    assert_eq!(
        done.report,
        [
            "conf/config.yaml:2: Flink's configuration: kubernetes.entry.path: /drey/drey-launch added",
            "tm.yaml:1: Pod/?: injected (TaskManager)",
        ]
    );
    assert_eq!(
        done.files[0].text,
        format!("{CONFIGURATION}kubernetes.entry.path: /drey/drey-launch\n")
    );
    let text = &done.files[1].text;
    assert!(
        text.contains("fieldPath: metadata.labels['app']") && !text.contains("command:"),
        "{text}"
    );
    let back = rewrite(&done.files, &Act::Uninject);
    assert_eq!(back.files[0].text, CONFIGURATION);
    assert_eq!(back.files[1].text, TEMPLATE);
}

#[test]
fn a_pod_template_of_which_nothing_is_known_is_refused() {
    let done = run(&[("x.yaml", TEMPLATE)], &with(None));
    assert!(
        done.refused[0].starts_with(
            "x.yaml:1: Pod/?: is a pod template of Flink's native mode and does not say"
        )
    );
    let done = run(&[("x.yaml", TEMPLATE)], &with(Some(Role::JobManager)));
    assert_eq!(done.report, ["x.yaml:1: Pod/?: injected (JobManager)"]);
}

#[test]
fn an_entrypoint_of_ones_own_is_not_overruled() {
    let text = format!("{CONFIGURATION}kubernetes.entry.path: /mine.sh\n");
    let done = run(&[("config.yaml", &text)], &with(None));
    assert!(
        done.refused[0].contains("`drey.io/entrypoint`"),
        "{:?}",
        done.refused
    );
    assert_eq!(
        run(&[("config.yaml", &text)], &Act::Uninject).files[0].text,
        text
    );
}

#[test]
fn what_is_no_yaml_is_refused_with_its_line() {
    let done = run(&[("x.yaml", "kind: Pod\n---\nkind: [\n")], &with(None));
    assert!(
        done.refused[0].starts_with("x.yaml:3: is not YAML: "),
        "{:?}",
        done.refused
    );
}

#[test]
fn what_is_not_changed_stays_byte_for_byte() {
    for text in [
        "",
        "\n# nothing\n",
        "---\n# a\n---\nkind: Service # b\r\n...\n--- # c\nkind:   Secret\n",
        "{\"kind\":\"Service\"}  {\"kind\" : \"Secret\"}\n\n",
        "a: {{ .Values.x }}x\n",
    ] {
        let done = run(&[("x.yaml", text)], &with(None));
        if done.refused.is_empty() {
            assert_eq!(done.files[0].text, text);
        }
    }
}
