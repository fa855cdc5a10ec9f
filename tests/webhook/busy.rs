//! A webhook that cannot judge now: what becomes of the pod is for `failurePolicy` to say.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::admissions::{flink, is_injected, opted_in};
use crate::certificates::{authority, certificate, mount, set_bundle};
use crate::client::Client;
use crate::ports::free_port;
use crate::serving::review;
use crate::world::{Flags, Webhook, World, run};

fn failed(webhook: &Webhook, reason: &str) -> f64 {
    let labels = format!("{{outcome=\"failed\",reason=\"{reason}\"}}");
    webhook.metric(&format!("drey_webhook_admissions_total{labels}"))
}

/// It has a certificate that is trusted, and an API server of its own that is away, so that it does not know how to inject.
#[test]
fn while_it_is_not_ready_job_managers_wait_and_task_managers_start() {
    run(async {
        let world = World::new("unready").await;
        let (dir, ca) = (TempDir::new().unwrap(), authority());
        mount(dir.path(), "..1", certificate(&ca, 1));
        let nowhere = dir.path().join("kubeconfig");
        let server = format!("http://127.0.0.1:{}", free_port());
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{ "name": "c", "cluster": { "server": server } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "x", "context": { "cluster": "c", "user": "u" } }],
        });
        fs::write(&nowhere, kubeconfig.to_string()).unwrap();
        let flag = format!("--tls-dir={}", dir.path().display());
        let flags = Flags::default().with(&[&flag]);
        let webhook = world.start_with(&nowhere, free_port(), "a", flags);
        world.configure(webhook.port).await;
        set_bundle(&world, &ca.pem()).await;
        // The configuration counts a moment after it was made.
        let job_manager = flink("jobmanager", "jm", &opted_in());
        webhook
            .until("it listens", || webhook.get("/readyz").is_some())
            .await;
        let start = Instant::now();
        while failed(&webhook, "NotReady") == 0.0 {
            assert!(start.elapsed().as_secs() < 60, "{}", webhook.log());
            let _ = world.create(&job_manager, true).await;
        }
        let error = world.create(&job_manager, true).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("jobmanager.drey.io") && text.contains("not ready yet"),
            "{text}"
        );
        let task_manager = flink("taskmanager", "tm", &opted_in());
        let stored = world.create(&task_manager, true).await.unwrap();
        assert!(!is_injected(&stored));
    });
}

/// Sends what takes all the room that there is for bodies, and not the rest.
async fn crowd(client: &Client) -> Vec<TlsStream<TcpStream>> {
    let mut held = Vec::new();
    for kib in [3071, 3071, 2050] {
        let mut stream = client.connect().await.unwrap();
        let head = "POST /inject HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3145728\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; kib << 10]).await.unwrap();
        held.push(stream);
    }
    held
}

#[test]
fn what_there_is_no_room_for_is_asked_for_again() {
    run(async {
        let world = Arc::new(World::new("crowded").await);
        let webhook = world.start("a", Flags::default());
        world.configure(webhook.port).await;
        webhook.ready().await;
        let client = Client::new(&world, &webhook).await;
        let start = Instant::now();
        loop {
            let held = crowd(&client).await;
            let probe = review(&flink("jobmanager", "jm", &opted_in()));
            // Until what was sent is taken, or given up.
            let (mut full, begin) = (false, Instant::now());
            while !full && begin.elapsed() < Duration::from_secs(3) {
                full = client.review(&probe).await.status == 500;
            }
            let before = failed(&webhook, "Overloaded");
            let creating = tokio::spawn({
                let world = Arc::clone(&world);
                async move {
                    let pod = flink("jobmanager", "jm", &opted_in());
                    world.create(&pod, true).await
                }
            });
            while !creating.is_finished() && failed(&webhook, "Overloaded") == before {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop(held);
            let stored = creating.await.unwrap().unwrap();
            assert!(is_injected(&stored));
            // Else there was room, still or again.
            if full && failed(&webhook, "Overloaded") > before {
                return;
            }
            assert!(start.elapsed().as_secs() < 60, "{}", webhook.log());
        }
    });
}
