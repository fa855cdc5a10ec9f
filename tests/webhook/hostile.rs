//! What no API server would send: a clear error each time, no crash, and memory that does not grow.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::admissions::{flink, opted_in};
use crate::client::{Client, Reply};
use crate::serving::review;
use crate::world::{Flags, Webhook, World, run};

const UID: &str = "0df28fbd-5f5f-11e8-bc74-36e6bb280816";

/// By how much memory may grow over many such requests, in bytes: what an allocator does not give back at once.
const GROWTH: u64 = 4 << 20;

async fn served(name: &str, flags: Flags) -> (World, Webhook, Client) {
    let world = World::new(name).await;
    let webhook = world.start("a", flags);
    world.configure(webhook.port).await;
    webhook.ready().await;
    let client = Client::new(&world, &webhook).await;
    (world, webhook, client)
}

fn good() -> Value {
    review(&flink("jobmanager", "jm", &opted_in()))
}

fn denied(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let review = reply.json();
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(review["response"]["uid"], UID);
    assert_eq!(review["response"]["allowed"], false);
    review["response"]["status"].clone()
}

async fn answers(client: &Client) {
    let reply = timeout(Duration::from_secs(60), client.review(&good()))
        .await
        .unwrap();
    assert_eq!(
        reply.json()["response"]["patchType"],
        "JSONPatch",
        "{}",
        reply.body
    );
}

async fn malformed(client: &Client) {
    let mut beta = good();
    beta["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let status = denied(&client.review(&beta).await);
    assert!(status["message"].as_str().unwrap().contains("v1beta1"));

    let mut kind = good();
    kind["kind"] = json!("Pod");
    denied(&client.review(&kind).await);

    let mut spec = good();
    spec["request"]["object"]["spec"] = json!({ "containers": 7 });
    assert_eq!(denied(&client.review(&spec).await)["code"], 400);

    let torn = good().to_string();
    let torn = &torn.as_bytes()[..torn.len() - 9];
    denied(
        &client
            .post("/inject", "application/json", torn)
            .await
            .unwrap(),
    );

    let deep = format!("{{\"request\":{}", "[".repeat(1 << 20));
    for (kind, body, status) in [
        ("application/json", "garbage", 400),
        ("application/json", "", 400),
        ("application/json", deep.as_str(), 400),
        ("application/yaml", "{}", 415),
    ] {
        let reply = client.post("/inject", kind, body.as_bytes()).await.unwrap();
        assert_eq!(reply.status, status, "{}", reply.body);
        assert!(!reply.body.is_empty());
    }
    let reply = client.post("/", "application/json", b"{}").await.unwrap();
    assert_eq!(reply.status, 404);
    assert_eq!(
        client
            .raw(b"GET /inject HTTP/1.1\r\nconnection: close\r\n\r\n")
            .await
            .unwrap()
            .status,
        405
    );
    for bytes in [
        b"\x16\x03\x01garbage\r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        if let Some(reply) = client.raw(bytes).await {
            assert_eq!(reply.status, 400);
        }
    }
}

/// Larger than anything that an API server takes, with the uid at the beginning, as API servers write it, and behind.
async fn large(client: &Client) {
    let mut large = good();
    large["request"]["object"]["metadata"]["annotations"]["x"] = json!("x".repeat(4 << 20));
    assert_eq!(denied(&client.review(&large).await)["code"], 413);
    let text = large.to_string();
    let chunks: Vec<&[u8]> = text.as_bytes().chunks(64 << 10).collect();
    let mut bytes =
        b"POST /inject HTTP/1.1\r\nconnection: close\r\ncontent-type: application/json\r\n\
                      transfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for chunk in chunks {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(denied(&client.raw(&bytes).await.unwrap())["code"], 413);
    let zeros = vec![b' '; 5 << 20];
    let reply = client
        .post("/inject", "application/json", &zeros)
        .await
        .unwrap();
    assert_eq!(reply.status, 400);
    // The largest that is read.
    let mut most = good();
    most["request"]["object"]["metadata"]["annotations"]["x"] = json!("x".repeat(3_000_000));
    let reply = client.review(&most).await;
    assert_eq!(reply.json()["response"]["uid"], UID);
}

/// Annotations that would break out of anything that is put together as text.
async fn annotations(client: &Client) {
    for value in [
        "\"}],\"hostNetwork\":true,\"x\":[{\"",
        "a\nspec:\n  hostNetwork: true",
        "'; rm -rf / #",
        "{{ .Values }}",
        "\u{0}\u{7f}\u{202e}",
        &"x".repeat(1 << 20),
    ] {
        for key in ["drey.io/cluster-id", "drey.io/image", "drey.io/inject"] {
            let mut annotations = opted_in();
            annotations[key] = json!(value);
            let reply = client
                .review(&review(&flink("jobmanager", "jm", &annotations)))
                .await;
            let status = denied(&reply);
            let message = status["message"].as_str().unwrap();
            assert!(message.contains(key), "{message}");
            assert!(
                message.len() < 2000 && !message.contains(['\n', '\0']),
                "{message}"
            );
        }
    }
}

#[test]
fn hostile_requests_get_a_clear_error_and_cost_no_memory() {
    run(async {
        let (_world, webhook, client) = served("hostile", Flags::default()).await;
        let round = async || {
            malformed(&client).await;
            large(&client).await;
            annotations(&client).await;
            answers(&client).await;
        };
        round().await;
        let before = webhook.memory();
        for _ in 0..3 {
            round().await;
        }
        let after = webhook.memory();
        assert!(
            after < before + GROWTH,
            "{before} bytes before, {after} after"
        );
        assert!(
            webhook.metric("drey_webhook_admissions_total{outcome=\"failed\",reason=\"TooLarge\"}")
                >= 12.0
        );
    });
}

#[test]
fn who_only_holds_connections_is_put_out_for_who_asks() {
    run(async {
        let flags = Flags::default().with(&["--connections=32"]);
        let (_world, webhook, client) = served("held", flags).await;
        answers(&client).await;
        let before = webhook.memory();
        for _ in 0..5 {
            let mut held = Vec::new();
            for index in 0..60 {
                let mut stream = TcpStream::connect(("127.0.0.1", webhook.port))
                    .await
                    .unwrap();
                // Nothing at all, half a TLS record, or something that is none.
                let bytes: &[u8] =
                    [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01", b"GET / HT"][index % 3];
                let _ = stream.write_all(bytes).await;
                held.push(stream);
            }
            let mut slow = Vec::new();
            for head in [
                "POST /inj",
                "POST /inject HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3000000\r\n\r\n{",
            ] {
                let mut stream = client.connect().await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                slow.push(stream);
            }
            answers(&client).await;
            assert!(webhook.metric("drey_webhook_connections") <= 32.0);
        }
        let after = webhook.memory();
        assert!(
            after < before + GROWTH,
            "{before} bytes before, {after} after"
        );
    });
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    run(async {
        let (_world, _webhook, client) = served("slow", Flags::default()).await;
        let mut stream = client.connect().await.unwrap();
        let head = "POST /inject HTTP/1.1\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut silent = client.connect().await.unwrap();
        let mut half = TcpStream::connect(("127.0.0.1", _webhook.port))
            .await
            .unwrap();
        let patience = Duration::from_secs(60);
        let mut text = String::new();
        let _ = timeout(patience, stream.read_to_string(&mut text))
            .await
            .unwrap();
        assert!(text.starts_with("HTTP/1.1 408"), "{text}");
        // Both end without a word.
        let _ = timeout(patience, silent.read_to_end(&mut Vec::new()))
            .await
            .unwrap();
        let _ = timeout(patience, half.read_to_end(&mut Vec::new()))
            .await
            .unwrap();
        answers(&client).await;
    });
}

/// More than all bodies may take together, but only by their own words.
#[test]
fn bodies_that_are_announced_and_do_not_come_take_no_room_from_others() {
    run(async {
        let (_world, webhook, client) = served("announced", Flags::default()).await;
        let head = "POST /inject HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3000000\r\n\r\n{";
        let mut held = Vec::new();
        for _ in 0..8 {
            let mut stream = client.connect().await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            held.push(stream);
        }
        answers(&client).await;
        let overloaded = "drey_webhook_admissions_total{outcome=\"failed\",reason=\"Overloaded\"}";
        assert_eq!(webhook.metric(overloaded), 0.0);
    });
}
