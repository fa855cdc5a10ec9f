//! `drey check` in front of a real `drey webhook`.

use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::installation::{put_bundles, ready};
use crate::jobs::fill;
use crate::ports::free_port;
use crate::servers::Server;
use crate::world::{CONFIGURATION, Said, World, drey};

/// A webhook that ends when its pipe is closed.
struct Webhook(Child);

impl Webhook {
    fn start(world: &World, port: u16) -> Self {
        let log = std::fs::File::create(world.server.dir.join("webhook.log")).unwrap();
        let shell = Command::new("bash")
            .args([
                "-c",
                r#""$@" & pid=$!; read -r; kill -9 $pid; wait $pid"#,
                "--",
            ])
            .args([env!("CARGO_BIN_EXE_drey"), "webhook", "--image=drey:test"])
            .args(["--server-name=127.0.0.1", "--pod-namespace=drey-system"])
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--probe-listen=127.0.0.1:{}", free_port()))
            .env("KUBECONFIG", world.kubeconfig("root"))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(shell.unwrap())
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// `deploy/install.yaml`, with the webhook at this port instead of behind its Service, which leads nowhere here.
async fn installed(world: &World, port: u16) {
    world.kubectl(&["create", "-f", &world.manifests()]);
    ready(world, 1).await;
    put_bundles(world, |entry| {
        let path = entry["clientConfig"]["service"]["path"].as_str().unwrap();
        entry["clientConfig"] = json!({ "url": format!("https://127.0.0.1:{port}{path}") });
    })
    .await;
}

fn answers(said: &Said) -> bool {
    let all = said.json["findings"].as_array().unwrap();
    let mut of = all.iter().filter(|one| one["id"] == "webhook-answers");
    of.all(|one| one["state"] == "ok")
}

#[tokio::test]
async fn a_webhook_that_works_is_proved_by_a_dry_run_and_is_missed_when_it_is_gone() {
    let world = World::new("flink").await;
    let port = free_port();
    installed(&world, port).await;
    assert!(!answers(&world.check(&[])));
    let webhook = Webhook::start(&world, port);
    let said = world.until(&[], answers).await;
    assert_eq!(said.code, 0, "{:#}", said.json);
    assert_eq!(json!(said.not_ok()), json!({}), "{:#}", said.json);
    said.is(
        "webhook-ca",
        "ok",
        "verifies with the caBundle of each entry",
    );
    said.is("webhook-certificate", "ok", "valid for");
    said.is("webhook-version", "ok", env!("CARGO_PKG_VERSION"));
    jobs_are_judged(&world).await;
    drop(webhook);
    let gone = world.check(&[]);
    assert!(!answers(&gone));
    assert_eq!(gone.code, 1);
    let configuration = world.send("DELETE", CONFIGURATION, &json!({})).await;
    assert!(configuration.is_some());
}

/// Pods that the webhook has injected are found to be injected, by it.
async fn jobs_are_judged(world: &World) {
    let s3 = Server::s3("bucket");
    fill(world, "s3://bucket/savepoints/savepoint-1", false).await;
    let savepoint = s3.dir.path().join("data/bucket/savepoints/savepoint-1");
    std::fs::create_dir_all(&savepoint).unwrap();
    std::fs::copy(
        "tests/fixtures/metadata/v6-savepoint-native",
        savepoint.join("_metadata"),
    )
    .unwrap();
    let mut command = drey(&world.kubeconfig("root"), &["--output=text", "--strict"]);
    command
        .env("DREY_S3_ENDPOINT", format!("http://127.0.0.1:{}", s3.port))
        .env("DREY_STORAGE_ALLOW_HTTP", "true");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("[ok] Opted-in pods are injected, flink: all 2\n"),
        "{text}"
    );
    assert!(
        text.ends_with("ok, 0 warnings, 0 failed, 0 unknown\n"),
        "{text}"
    );
}
