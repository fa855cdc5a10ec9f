//! What a person would look at first after a failure.

use super::namespace::Namespace;

/// How many lines of a log are shown, without those of stack traces.
const LINES: usize = 40;

/// Prints pods, events, ConfigMaps of Drey and the last log lines of each container, also of its previous life.
pub fn show(namespace: &Namespace) {
    let name = &namespace.name;
    for args in [
        &["get", "pods,deployments,replicasets", "-o", "wide"][..],
        &["get", "events", "--sort-by=.lastTimestamp"],
        &[
            "get",
            "configmaps",
            "-l",
            "app.kubernetes.io/managed-by=drey",
            "-o",
            "yaml",
        ],
    ] {
        print(name, namespace, args);
    }
    for pod in namespace.pods("") {
        let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
        for kind in ["initContainerStatuses", "containerStatuses"] {
            for container in pod["status"][kind].as_array().into_iter().flatten() {
                let container_name = container["name"].as_str().unwrap_or_default();
                let state = &container["state"];
                eprintln!(
                    "--- {pod_name}/{container_name}: {state} before: {}",
                    container["lastState"]
                );
                let logs = ["logs", pod_name, "--container", container_name];
                if container["restartCount"].as_u64() > Some(0) {
                    print(name, namespace, &[&logs[..], &["--previous"]].concat());
                }
                print(name, namespace, &logs);
            }
        }
    }
}

fn print(name: &str, namespace: &Namespace, args: &[&str]) {
    let output = namespace.try_kubectl(args);
    eprintln!("--- {name}: kubectl {}", args.join(" "));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("\tat "))
        .collect();
    let skipped = if args[0] == "logs" {
        lines.len().saturating_sub(LINES)
    } else {
        0
    };
    for line in &lines[skipped..] {
        eprintln!("{}", line.chars().take(400).collect::<String>());
    }
}
