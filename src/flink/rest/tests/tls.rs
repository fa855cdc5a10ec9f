//! Whom a client trusts, and what it shows of itself.

use std::error::Error;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::*;
use super::server::{Reply, Seen, Server};
use super::{Outcome, chain};

/// A CA with a server and a client certificate, in files.
struct Certificates {
    directory: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let directory = tempfile::tempdir()?;
        std::fs::write(directory.path().join("ca.pem"), ca.pem())?;
        let (certificate, key) = issue(&ca, &["drey"], false)?;
        std::fs::write(directory.path().join("client.pem"), certificate.pem())?;
        std::fs::write(directory.path().join("client.key"), key.serialize_pem())?;
        Ok(Self { directory, ca })
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.path().join(name))
    }

    /// A server with a certificate for these names.
    async fn server(
        &self,
        names: &[&str],
        expired: bool,
        client_required: bool,
    ) -> Result<Server, Box<dyn Error>> {
        let (certificate, key) = issue(&self.ca, names, expired)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if client_required {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.ca.der().clone())?;
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build()?)
        } else {
            builder.with_no_client_auth()
        };
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der())?;
        let config = builder.with_single_cert(vec![certificate.der().clone()], key)?;
        let answer = |_: &Seen| Reply::Answer(200, r#"{"jobs":[]}"#.to_owned());
        Server::start_with(Some(TlsAcceptor::from(Arc::new(config))), answer).await
    }

    fn trusting(&self, server: &Server) -> Result<RestSettings, Box<dyn Error>> {
        let mut settings = server.settings("https")?;
        settings.tls.ca = self.file("ca.pem");
        Ok(settings)
    }
}

fn issue(
    ca: &CertifiedIssuer<'static, KeyPair>,
    names: &[&str],
    expired: bool,
) -> Result<(rcgen::Certificate, KeyPair), Box<dyn Error>> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, ca)?, key))
}

/// The error of a client that must not get an answer.
async fn refused(settings: RestSettings) -> Result<RestError, Box<dyn Error>> {
    let answer = FlinkRest::new(settings)?.jobs().await;
    Ok(answer.err().ok_or("trusted")?)
}

#[tokio::test]
async fn a_certificate_of_the_given_ca_is_trusted_and_no_other() -> Outcome {
    let own = Certificates::new()?;
    let server = own.server(&["127.0.0.1"], false, false).await?;
    assert!(
        FlinkRest::new(own.trusting(&server)?)?
            .jobs()
            .await?
            .is_empty()
    );
    let error = refused(Certificates::new()?.trusting(&server)?).await?;
    let text = chain(&error);
    assert!(matches!(error, RestError::Tls { .. }), "{error:?}");
    assert!(
        text.contains("give the PEM file of the CA that signed it"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_remedy_even_without_the_name_check() -> Outcome
{
    let own = Certificates::new()?;
    let server = own.server(&["127.0.0.1"], true, false).await?;
    for verify_hostname in [true, false] {
        let mut settings = own.trusting(&server)?;
        settings.tls.verify_hostname = verify_hostname;
        let error = refused(settings).await?;
        assert!(
            chain(&error).contains("has expired: renew it"),
            "{}",
            chain(&error)
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_certificate_for_another_name_needs_that_name_or_no_name_check() -> Outcome {
    let own = Certificates::new()?;
    for names in [&["flink.example"][..], &[]] {
        let server = own.server(names, false, false).await?;
        let error = refused(own.trusting(&server)?).await?;
        assert!(
            chain(&error).contains("switch the host name check off"),
            "{}",
            chain(&error)
        );
        let mut settings = own.trusting(&server)?;
        settings.tls.verify_hostname = false;
        FlinkRest::new(settings)?.jobs().await?;
        if names.is_empty() {
            continue;
        }
        let settings = RestSettings {
            server_name: Some("flink.example".to_owned()),
            ..own.trusting(&server)?
        };
        FlinkRest::new(settings)?.jobs().await?;
    }
    Ok(())
}

#[tokio::test]
async fn without_the_name_check_another_ca_is_still_refused() -> Outcome {
    let server = Certificates::new()?
        .server(&["127.0.0.1"], false, false)
        .await?;
    let other = Certificates::new()?;
    let mut settings = other.trusting(&server)?;
    settings.tls.verify_hostname = false;
    let error = refused(settings).await?;
    assert!(
        chain(&error).contains("not signed by a trusted CA"),
        "{}",
        chain(&error)
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_asks_for_a_client_certificate_gets_it_or_the_error_says_so() -> Outcome {
    let own = Certificates::new()?;
    let server = own.server(&["127.0.0.1"], false, true).await?;
    let mut settings = own.trusting(&server)?;
    let error = FlinkRest::new(settings.clone())?
        .jobs()
        .await
        .err()
        .ok_or("let in")?;
    assert!(
        chain(&error).contains("give a client certificate and key"),
        "{}",
        chain(&error)
    );
    settings.tls.client_cert = own.file("client.pem");
    assert!(
        FlinkRest::new(settings.clone()).is_err(),
        "half a client certificate was accepted"
    );
    settings.tls.client_key = own.file("client.key");
    FlinkRest::new(settings)?.jobs().await?;
    Ok(())
}

#[tokio::test]
async fn https_towards_a_server_without_tls_names_the_remedy() -> Outcome {
    let own = Certificates::new()?;
    let plain = TcpListener::bind("127.0.0.1:0").await?;
    let address = plain.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain.accept().await {
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                .await;
            std::future::pending::<()>().await;
        }
    });
    let mut settings = RestSettings::new(format!("https://{address}").parse()?);
    settings.tls.ca = own.file("ca.pem");
    let error = FlinkRest::new(settings)?
        .jobs()
        .await
        .err()
        .ok_or("let in")?;
    assert!(
        chain(&error).contains("does not speak TLS: use http://"),
        "{}",
        chain(&error)
    );
    Ok(())
}

#[test]
fn a_missing_or_empty_ca_file_is_refused_at_the_start() -> Outcome {
    let directory = tempfile::tempdir()?;
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "")?;
    for path in [directory.path().join("missing.pem"), empty] {
        let mut settings = RestSettings::new("https://localhost:8081".parse()?);
        settings.tls.ca = Some(path.clone());
        let error = FlinkRest::new(settings).err().ok_or("accepted")?;
        let text = chain(&error);
        assert!(
            text.contains(&path.display().to_string()) && text.contains("give a"),
            "{text}"
        );
    }
    Ok(())
}
