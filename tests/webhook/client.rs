//! An HTTP/1.1 client over TLS that can do everything wrong.

use std::sync::Arc;

use k8s_openapi::ByteString;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{Webhook, World};

/// Connects as an API server does.
#[derive(Clone)]
pub struct Client {
    port: u16,
    name: &'static str,
    config: Arc<ClientConfig>,
}

/// Status and body.
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some(Self {
            status: head.split_whitespace().nth(1)?.parse().ok()?,
            body: body.to_owned(),
        })
    }
}

/// The bundle in the Secret.
pub async fn bundle(world: &World) -> String {
    let data = world.secret().await.data.unwrap_or_default();
    let bytes = data.get("ca.crt").map(|ByteString(bytes)| bytes.clone());
    String::from_utf8(bytes.unwrap_or_default()).unwrap()
}

impl Client {
    /// Trusts what is in the Secret.
    pub async fn new(world: &World, webhook: &Webhook) -> Self {
        Self::trusting(webhook, &bundle(world).await, None)
    }

    /// Trusts `ca`, and shows a certificate, both as PEM.
    pub fn trusting(webhook: &Webhook, ca: &str, own: Option<(&str, &str)>) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![chain], key).unwrap()
            }
        };
        Self {
            port: webhook.port,
            name: "127.0.0.1",
            config: Arc::new(config),
        }
    }

    /// Asks for a server of this name.
    #[allow(dead_code, reason = "for the tests of another feature")]
    pub fn by_name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from(self.name).unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector.connect(name, stream).await
    }

    /// Sends bytes and reads until the server closes; `None` when it answers nothing.
    pub async fn raw(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = self.connect().await.ok()?;
        // The server may close before everything is sent.
        let _ = stream.write_all(bytes).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        Reply::parse(&String::from_utf8_lossy(&text))
    }

    /// Posts a body on a connection of its own.
    pub async fn post(&self, path: &str, kind: &str, body: &[u8]) -> Option<Reply> {
        let length = body.len();
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).await
    }

    pub async fn review(&self, review: &Value) -> Reply {
        let body = review.to_string();
        let reply = self.post("/inject", "application/json", body.as_bytes());
        reply.await.unwrap()
    }
}
