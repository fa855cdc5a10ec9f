//! TLS and users, in the format of Prometheus' exporters.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use drey::metrics::web_config::Web;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::support::{Flink, Options, Scraped, exchange, scrape};

/// A certificate for `localhost` in `dir`, with its key.
fn certificate(dir: &Path) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    fs::write(dir.join("tls.crt"), made.cert.pem()).expect("written");
    fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).expect("written");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    (made.cert.der().clone(), key)
}

fn file(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("web.yml");
    fs::write(&path, text).expect("written");
    path
}

async fn served(path: PathBuf) -> std::net::SocketAddr {
    let flink = Flink::with_page("flink_a 1\n").await;
    let mut options = Options::of(&flink);
    options.web = Web::new(Some(path)).expect("a good file");
    options.serve().await
}

async fn over_tls(
    address: std::net::SocketAddr,
    root: &CertificateDer<'static>,
    own: Option<PrivateKeyDer<'static>>,
) -> std::io::Result<Scraped> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match own {
        Some(key) => builder
            .with_client_auth_cert(vec![root.clone()], key)
            .expect("fits"),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    // With TLS 1.3 a client hears of the refusal of its certificate only when it reads.
    tokio::io::AsyncWriteExt::flush(&mut stream).await?;
    let task = tokio::spawn(async move { exchange(stream, "GET /metrics", &[]).await });
    task.await.map_err(std::io::Error::other)
}

#[tokio::test]
async fn users_need_their_password() {
    let dir = tempfile::tempdir().expect("a directory");
    let hash = bcrypt::hash("secret", 4).expect("hashed");
    let address = served(file(
        dir.path(),
        &format!("basic_auth_users:\n  prom: {hash}\n"),
    ))
    .await;
    let as_user = |text: &str| format!("authorization: Basic {}", BASE64_STANDARD.encode(text));
    for (header, status) in [
        ("accept: */*".to_owned(), 401),
        (as_user("prom:wrong"), 401),
        (as_user("other:secret"), 401),
        ("authorization: Bearer secret".to_owned(), 401),
        (as_user("prom:secret"), 200),
        (as_user("prom:secret"), 200),
        (as_user("prom:wrong"), 401),
    ] {
        let scraped = scrape(address, &[&header]).await;
        assert_eq!(scraped.status, status, "{header}");
        assert_eq!(scraped.text.contains("flink_a"), status == 200);
        assert_eq!(
            scraped.head.contains("www-authenticate: Basic"),
            status == 401
        );
    }
}

#[tokio::test]
async fn tls_takes_a_new_certificate_without_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, _) = certificate(dir.path());
    let path = file(
        dir.path(),
        "tls_server_config: {cert_file: tls.crt, key_file: tls.key, min_version: TLS13}\n",
    );
    let address = served(path).await;
    assert_eq!(
        over_tls(address, &first, None)
            .await
            .expect("an answer")
            .value("flink_a"),
        Some(1.0)
    );
    let (second, _) = certificate(dir.path());
    assert!(over_tls(address, &first, None).await.is_err());
    assert_eq!(
        over_tls(address, &second, None)
            .await
            .expect("an answer")
            .value("flink_a"),
        Some(1.0)
    );
}

#[tokio::test]
async fn clients_need_their_certificate() {
    let dir = tempfile::tempdir().expect("a directory");
    let (root, key) = certificate(dir.path());
    let text = "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n  \
                client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: tls.crt\n";
    let address = served(file(dir.path(), text)).await;
    assert!(over_tls(address, &root, None).await.is_err());
    assert_eq!(
        over_tls(address, &root, Some(key))
            .await
            .expect("an answer")
            .status,
        200
    );
}

#[test]
fn a_file_that_cannot_be_used_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    certificate(dir.path());
    for (text, expected) in [
        (
            "tls_server_config: {cert_file: none.crt, key_file: tls.key}",
            "none.crt holds no certificate",
        ),
        (
            "tls_server_config: {cert_file: tls.crt, key_file: tls.crt}",
            "tls.crt holds no key",
        ),
        (
            "tls_server_config: {cert_file: tls.crt}",
            "is not what Prometheus' exporters take",
        ),
        (
            "tls_server_config: {cert_file: tls.crt, key_file: tls.key, min_version: TLS10}",
            "use TLS12 or TLS13",
        ),
        (
            "tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_auth_type: RequireAndVerifyClientCert}",
            "needs `client_ca_file`",
        ),
        (
            "tls_server_config: {cert_file: tls.crt, key_file: tls.key, client_ca_file: tls.crt}",
            "needs `client_auth_type`",
        ),
        ("colour: red", "is not what Prometheus' exporters take"),
    ] {
        let error = Web::new(Some(file(dir.path(), text))).expect_err(text);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(Web::new(Some(dir.path().join("none.yml"))).is_err());
}
