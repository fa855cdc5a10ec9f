//! How Flink's REST interface is reached, and what happens when nobody answers there, or somebody else.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use drey::domain::pointer::PointKind;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::support::{Cluster, Process, Version, wait_until};

const PASSWORD: &str = "secret";

/// Runs `keytool` of the cluster's Java in `dir`.
fn keytool(cluster: &Cluster, dir: &Path, args: &[&str]) {
    let mut command = Command::new(cluster.installation.java_home.join("bin/keytool"));
    command.args(args).args(["-storepass", PASSWORD]);
    let output = command
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "keytool {args:?}: {said}");
}

/// Makes a keystore for the JobManager with a certificate of a CA of its own, `server-ca.pem`; a truststore with the CA
/// of the clients; and one such client, `client.pem` and `client.key`.
fn certificates(cluster: &Cluster, dir: &Path) {
    fs::create_dir(dir).unwrap();
    let run = |args: &str| keytool(cluster, dir, &args.split(' ').collect::<Vec<_>>());
    run("-genkeypair -alias ca -keyalg RSA -dname CN=ca -ext bc:c -keystore ca.p12");
    run("-exportcert -rfc -alias ca -keystore ca.p12 -file server-ca.pem");
    run("-genkeypair -alias rest -keyalg RSA -dname CN=rest -keystore rest.p12");
    run("-certreq -alias rest -keystore rest.p12 -file rest.csr");
    run(
        "-gencert -rfc -alias ca -keystore ca.p12 -ext san=ip:127.0.0.1 -infile rest.csr -outfile rest.pem",
    );
    run("-importcert -noprompt -alias ca -file server-ca.pem -keystore rest.p12");
    run("-importcert -noprompt -alias rest -file rest.pem -keystore rest.p12");

    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "clients");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut client = CertificateParams::new(Vec::new()).unwrap();
    client.distinguished_name.push(DnType::CommonName, "client");
    let client = client.signed_by(&key, &authority).unwrap();
    fs::write(dir.join("client-ca.pem"), authority.pem()).unwrap();
    fs::write(dir.join("client.pem"), client.pem()).unwrap();
    fs::write(dir.join("client.key"), key.serialize_pem()).unwrap();
    run("-importcert -noprompt -alias ca -file client-ca.pem -keystore trust.p12");
}

/// Waits for two completed checkpoints as Drey sees them.
fn settle(cluster: &Cluster, drey: &mut Process) {
    drey.wait_for_log("Job is running");
    let before = |status: &drey::control::Status| {
        let job = status.jobs.values().next()?;
        job.completed_checkpoint
    };
    let first = cluster.wait_for_status("a checkpoint", |status| before(status).is_some());
    cluster.wait_for_status("another one", |status| before(status) > before(&first));
}

#[test]
fn over_tls_with_a_client_certificate_the_whole_cycle_works_and_without_one_the_log_says_why() {
    let mut cluster = Cluster::new(Version::v2());
    let dir = cluster.path("tls");
    certificates(&cluster, &dir);
    let file = |name: &str| dir.join(name).display().to_string();
    for (key, value) in [
        ("enabled", "true".to_owned()),
        ("authentication-enabled", "true".to_owned()),
        ("keystore", file("rest.p12")),
        ("keystore-password", PASSWORD.to_owned()),
        ("key-password", PASSWORD.to_owned()),
        ("keystore-type", "PKCS12".to_owned()),
        ("truststore", file("trust.p12")),
        ("truststore-password", PASSWORD.to_owned()),
        ("truststore-type", "PKCS12".to_owned()),
    ] {
        cluster.configure(&format!("security.ssl.rest.{key}"), value);
    }
    let flags = [
        ["--rest-ca", &file("server-ca.pem")],
        ["--rest-client-cert", &file("client.pem")],
        ["--rest-client-key", &file("client.key")],
    ];
    let _task_manager = cluster.task_manager();
    for _ in 0..2 {
        let mut drey = cluster.start().flags(flags.as_flattened()).go();
        settle(&cluster, &mut drey);
        drey.term();
        assert_eq!(drey.exit_code(), 0);
        assert_eq!(cluster.newest().unwrap().kind, PointKind::Stop);
        assert!(drey.log().contains("https://127.0.0.1"));
    }
    cluster.assert_exactly_once(500);

    let mut drey = cluster.start().flags(&flags[0]).go();
    drey.wait_for_log("give a client certificate and key that its truststore trusts");
    let log = drey.log();
    assert!(log.contains("WARN Flink does not answer"), "{log}");
}

/// A server that says `answer` to every request and then nothing more, or accepts connections and never says anything.
/// It stands in for a Flink in a state that the real one cannot be brought into at will.
fn fake(answer: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        // A connection that is kept open without an answer is a Flink that is too slow.
        let mut silent: Vec<TcpStream> = Vec::new();
        for stream in listener.incoming().flatten() {
            match answer {
                Some(answer) => reply(stream, answer),
                None => silent.push(stream),
            }
        }
    });
    port
}

fn reply(mut stream: TcpStream, answer: &str) {
    let mut request = [0; 4096];
    // Who has hung up needs no answer.
    let _ = stream
        .read(&mut request)
        .and_then(|_| stream.write_all(answer.as_bytes()));
}

/// SIGTERM to a drey whose Flink answers so: it ends in time, and the pointer stays as it was.
fn no_flink_there(answer: Option<&'static str>) -> String {
    let cluster = Cluster::new(Version::v2());
    let url = format!("http://127.0.0.1:{}", fake(answer));
    let mut drey = cluster
        .start()
        .flags(&["--mode", "application", "--rest-url", &url])
        .flags(&["--shutdown-timeout", "10s"])
        .env("DREY_LOG_LEVEL", "info")
        .command(vec!["sleep".to_owned(), "1000".to_owned()])
        .go();
    drey.wait_for_log("Flink started");
    let pointer = cluster.pointer();
    let since = Instant::now();
    drey.term();
    assert_eq!(drey.exit_code(), 143);
    let took = since.elapsed();
    assert!(
        took < Duration::from_secs(12),
        "the deadline is 10 s: {took:?}"
    );
    assert_eq!(cluster.pointer(), pointer);
    let log = drey.log();
    assert!(log.contains("Nothing was recorded"), "{log}");
    let longest = log.lines().map(str::len).max().unwrap_or_default();
    assert!(longest < 1000, "{log}");
    assert!(!log.contains("\tat "), "no stack trace: {log}");
    log
}

#[test]
fn a_flink_that_answers_too_slowly_is_ended_in_time() {
    no_flink_there(None);
}

#[test]
fn a_flink_that_answers_garbage_is_ended_in_time_and_the_log_says_so() {
    let log = no_flink_there(Some(
        "HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n<html>\0</html>\n",
    ));
    assert!(log.contains("the answer is not Flink's"), "{log}");
    let log = no_flink_there(Some("\0\0\0 no HTTP at all \n\n"));
    assert!(log.contains("Flink did not answer in time"), "{log}");
}

#[test]
fn a_flink_that_answers_with_its_own_exceptions_shows_their_root_cause_only() {
    let log = no_flink_there(Some(concat!(
        "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n",
        r#"{"errors":["org.apache.flink.runtime.rest.handler.RestHandlerException: Outer\n\tat org.apache.flink.A.a(A.java:1)\n\tat org.apache.flink.B.b(B.java:2)\nCaused by: java.io.IOException: the root of it\n\tat org.apache.flink.C.c(C.java:3)\n"]}"#
    )));
    assert!(log.contains("the root of it"), "{log}");
}

#[test]
fn a_flink_that_does_not_answer_at_all_is_ended_in_time() {
    let cluster = Cluster::new(Version::v2());
    let mut drey = cluster
        .start()
        .flags(&["--mode", "application", "--shutdown-timeout", "10s"])
        .command(vec!["sleep".to_owned(), "1000".to_owned()])
        .go();
    drey.wait_for_log("Flink started");
    let since = Instant::now();
    drey.term();
    assert_eq!(drey.exit_code(), 143);
    assert!(since.elapsed() < Duration::from_secs(12));
    assert!(drey.log().contains("Flink did not answer in time"));
}

#[test]
fn another_flink_on_the_same_rest_port_is_left_alone() {
    let other = Cluster::new(Version::v1());
    let _task_manager = other.task_manager();
    let mut first = other.run();
    first.wait_for_log("Job is running");
    other.rest().wait_running();
    other.rest().wait_for_checkpoints(1);

    let cluster = Cluster::new(Version::v1());
    let url = format!("http://127.0.0.1:{}", other.rest_port());
    let mut drey = cluster
        .start()
        .flags(&["--mode", "application", "--rest-url", &url])
        .flags(&["--shutdown-timeout", "10s"])
        .command(vec!["sleep".to_owned(), "1000".to_owned()])
        .go();
    drey.wait_for_log("another Flink answers there");
    drey.term();
    assert_eq!(drey.exit_code(), 143);
    wait_until("a look at the other job", || {
        other.rest().job_state().as_deref() == Some("RUNNING")
    });
    assert_eq!(other.savepoints(), Vec::<std::path::PathBuf>::new());
    assert_eq!(cluster.newest(), None);

    // A JobManager that finds its port taken ends by itself.
    let cluster = cluster.set("rest.port", other.rest_port());
    let mut drey = cluster.run();
    assert_ne!(drey.exit_code(), 0);
    assert_eq!(other.rest().job_state().as_deref(), Some("RUNNING"));
    first.term();
    assert_eq!(first.exit_code(), 0);
    assert_eq!(other.savepoints(), [other.newest_path()]);
    other.assert_exactly_once(100);
}
