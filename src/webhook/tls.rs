//! What the server's side of TLS is at a moment: the certificate, and whose clients are taken.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tracing::{info, warn};

use super::certificate::{Certificate, Pem};
use super::files::{self, Files, Stamp};
use crate::telemetry::one_line;

/// The certificate that is served, and the configuration that goes with it.
#[derive(Debug)]
pub(super) struct Tls {
    /// Where the certificate is read from; `None` when it is handed in.
    files: Option<Files>,
    /// The CA whose clients alone are taken.
    client_ca: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was looked at last.
    stamps: Option<Stamps>,
    pem: Option<Pem>,
    served: Option<Served>,
    /// Why what was looked at last cannot be served.
    error: Option<String>,
}

type Stamps = ([Option<Stamp>; 2], Option<Stamp>);

/// One certificate with its configuration.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificate: Certificate,
}

impl Tls {
    pub(super) fn new(files: Option<Files>, client_ca: Option<PathBuf>) -> Self {
        Self {
            files,
            client_ca,
            state: Mutex::default(),
        }
    }

    /// Serves `pem` from now on. What cannot be served leaves everything as it is.
    pub(super) fn hand_in(&self, pem: &Pem) {
        let mut state = self.lock();
        if state.pem.as_ref() != Some(pem) {
            state.pem = Some(pem.clone());
            self.build(&mut state);
        }
    }

    /// What is served now.
    ///
    /// # Errors
    /// Why nothing is.
    pub(super) fn current(&self) -> Result<Served, String> {
        let mut state = self.lock();
        let stamps = self.stamps();
        // Looked at again as long as something is wrong: a file in the middle of a write may get its old stamp.
        if state.stamps != Some(stamps) || (state.error.is_some() && self.files.is_some()) {
            state.stamps = Some(stamps);
            self.look(&mut state);
        }
        match (&state.served, &state.error) {
            (Some(served), _) => Ok(served.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err("there is no certificate yet".to_owned()),
        }
    }

    fn stamps(&self) -> Stamps {
        let files = self.files.as_ref().map(Files::stamps).unwrap_or_default();
        (files, self.client_ca.as_deref().and_then(files::stamp))
    }

    fn look(&self, state: &mut State) {
        if let Some(files) = &self.files {
            match files.read() {
                Ok(pem) => state.pem = Some(pem),
                Err(error) => return fail(state, error.to_string()),
            }
        }
        self.build(state);
    }

    fn build(&self, state: &mut State) {
        let Some(pem) = &state.pem else { return };
        let built = Certificate::read(pem)
            .map_err(|error| error.to_string())
            .and_then(|certificate| self.config(certificate));
        match built {
            Ok(served) => {
                info!(expires = %served.certificate.expires, "Serving a certificate");
                state.served = Some(served);
                state.error = None;
            }
            Err(error) => fail(state, error),
        }
    }

    fn config(&self, certificate: Certificate) -> Result<Served, String> {
        let config = server_config(&certificate.key, self.client_roots()?)
            .map_err(|error| one_line(&error, 300))?;
        Ok(Served {
            config: Arc::new(config),
            certificate,
        })
    }

    fn client_roots(&self) -> Result<Option<RootCertStore>, String> {
        let Some(path) = &self.client_ca else {
            return Ok(None);
        };
        let text = files::read(path).map_err(|error: io::Error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok);
        let (usable, _) = roots.add_parsable_certificates(certificates);
        if usable == 0 {
            return Err(format!(
                "{} has no certificate: give a PEM file with the CA that signs the API server's client certificate",
                path.display()
            ));
        }
        Ok(Some(roots))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fail(state: &mut State, error: String) {
    if state.error.as_ref() != Some(&error) {
        warn!(
            error,
            "Cannot use the certificate; what was served before stays"
        );
        state.error = Some(error);
    }
}

fn server_config(
    key: &Arc<CertifiedKey>,
    clients: Option<RootCertStore>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config =
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::clone(key))));
    // HTTP/1.1 alone: over HTTP/2 an API server sends everything to one replica, also for a while after that is gone.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // API servers resume no sessions, so none is remembered.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::super::certificate::make;
    use super::*;
    use jiff::Timestamp;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::Duration;

    fn certificate(hours: u64) -> Pem {
        let names = ["localhost".to_owned()];
        let lifetime = Duration::from_secs(3600 * hours);
        make(&names, Timestamp::now(), lifetime).expect("made").0
    }

    /// What the kubelet does: a new directory, and `..data` exchanged for a link to it.
    fn mount(dir: &Path, revision: &str, pem: &Pem) {
        let data = dir.join(revision);
        fs::create_dir(&data).expect("created");
        fs::write(data.join("tls.crt"), &pem.chain).expect("written");
        fs::write(data.join("tls.key"), &pem.key).expect("written");
        symlink(revision, dir.join("..data_tmp")).expect("linked");
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("renamed");
        for name in ["tls.crt", "tls.key"] {
            let _ = symlink(Path::new("..data").join(name), dir.join(name));
        }
    }

    #[test]
    fn each_swap_of_the_kubelets_symlink_is_seen() {
        let dir = tempfile::tempdir().expect("a directory");
        let tls = Tls::new(Some(Files::new(dir.path())), None);
        assert!(tls.current().expect_err("nothing yet").contains("tls.crt"));
        let mut last = None;
        for (revision, hours) in [("..1", 1), ("..2", 2), ("..3", 3)] {
            mount(dir.path(), revision, &certificate(hours));
            let expires = tls.current().expect("served").certificate.expires;
            assert!(Some(expires) > last);
            assert_eq!(tls.current().expect("served").certificate.expires, expires);
            last = Some(expires);
        }
    }

    #[test]
    fn what_cannot_be_served_leaves_the_last_certificate() {
        let dir = tempfile::tempdir().expect("a directory");
        let tls = Tls::new(Some(Files::new(dir.path())), None);
        mount(dir.path(), "..1", &certificate(1));
        let first = tls.current().expect("served").certificate.expires;
        let mut torn = certificate(2);
        torn.key = certificate(2).key;
        mount(dir.path(), "..2", &torn);
        assert_eq!(tls.current().expect("served").certificate.expires, first);
        mount(dir.path(), "..3", &certificate(3));
        assert!(tls.current().expect("served").certificate.expires > first);
    }

    #[test]
    fn an_empty_client_ca_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = dir.path().join("ca.crt");
        fs::write(&ca, "").expect("written");
        let tls = Tls::new(None, Some(ca));
        tls.hand_in(&certificate(1));
        assert!(tls.current().expect_err("refused").contains("ca.crt"));
    }
}
