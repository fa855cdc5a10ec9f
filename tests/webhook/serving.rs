//! How it serves and ends.

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::admissions::{flink, is_injected, opted_in};
use crate::client::{Client, bundle};
use crate::world::{Flags, World, run};

pub fn review(object: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "0df28fbd-5f5f-11e8-bc74-36e6bb280816",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "jobs",
            "operation": "CREATE",
            "object": object,
        },
    })
}

#[test]
fn after_sigterm_it_answers_what_still_comes_and_then_what_is_open() {
    run(async {
        let world = World::new("drain").await;
        let flags = Flags::default().with(&["--drain-delay=3s"]);
        let mut webhook = world.start("a", flags);
        world.configure(webhook.port).await;
        webhook.ready().await;
        let client = Client::new(&world, &webhook).await;
        let mut open = client.connect().await.unwrap();
        let body = review(&flink("jobmanager", "jm", &opted_in())).to_string();
        let length = body.len();
        let head = format!(
            "POST /inject HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let (first, second) = body.split_at(100);
        open.write_all(format!("{head}{first}").as_bytes())
            .await
            .unwrap();
        webhook.signal("TERM");
        webhook
            .until("it says that it ends", || {
                webhook
                    .get("/readyz")
                    .is_some_and(|(status, body)| status == 503 && body == "ending\n")
            })
            .await;
        let late = client
            .review(&review(&flink("jobmanager", "jm", &opted_in())))
            .await;
        assert_eq!(late.status, 200);
        open.write_all(second.as_bytes()).await.unwrap();
        let mut text = String::new();
        let _ = open.read_to_string(&mut text).await;
        assert!(
            text.starts_with("HTTP/1.1 200") && text.contains("connection: close"),
            "{text}"
        );
        let process = format!("/proc/{}", webhook.pid);
        let start = std::time::Instant::now();
        // Its shell reaps it only later: a zombie has no command line.
        while std::fs::read(format!("{process}/cmdline")).is_ok_and(|line| !line.is_empty()) {
            assert!(start.elapsed().as_secs() < 60);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}

#[test]
fn with_a_client_ca_only_its_clients_are_answered() {
    run(async {
        let world = World::new("clients").await;
        let ca = std::fs::read_to_string(world.server.dir.join("ca.crt")).unwrap();
        let flag = format!("--client-ca={}", world.server.dir.join("ca.crt").display());
        let webhook = world.start("a", Flags::default().with(&[&flag]));
        world.configure(webhook.port).await;
        webhook.ready().await;
        let read = |name: &str| std::fs::read_to_string(world.server.dir.join(name)).unwrap();
        let (chain, key) = (read("admin.crt"), read("admin.key"));
        let trusted = bundle(&world).await;
        let known = Client::trusting(&webhook, &trusted, Some((&chain, &key)));
        assert_eq!(known.review(&review(&Value::Null)).await.status, 200);
        let unknown = Client::trusting(&webhook, &trusted, None);
        let reply = unknown.post("/inject", "application/json", b"{}").await;
        assert!(reply.is_none() && ca.contains("BEGIN"));

        // The API server's own, as its configuration of admission plugins names it.
        let job_manager = flink("jobmanager", "jm", &opted_in());
        assert!(is_injected(
            &world.create(&job_manager, true).await.unwrap()
        ));
        let dir = TempDir::new().unwrap();
        let other = dir.path().join("ca.crt");
        std::fs::write(&other, trusted).unwrap();
        let flag = format!("--client-ca={}", other.display());
        let stranger = world.start("b", Flags::default().with(&[&flag]));
        stranger.ready().await;
        world.configure(stranger.port).await;
        // The configuration counts a moment after it was made.
        let start = std::time::Instant::now();
        while world.create(&job_manager, true).await.is_ok() {
            assert!(start.elapsed().as_secs() < 60, "{}", stranger.log());
        }
    });
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    for (flags, expected) in [
        (vec![], "--image"),
        (
            vec!["--image=x", "--renew-before=3000h"],
            "--certificate-lifetime",
        ),
        (vec!["--image=x", "--certificate-overlap=soon"], "soon"),
        (vec!["--image=x", "--lease-duration=1s"], "--lease-duration"),
        (vec!["--image=x", "--sidecar=maybe"], "maybe"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_drey"))
            .arg("webhook")
            .args(flags)
            .env_clear()
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
