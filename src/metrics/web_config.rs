//! Who may ask, and over what: the file that Prometheus' own exporters take (`--web.config.file`).
//!
//! File and certificates are read again for each connection, so that new ones need no restart.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde::Deserialize;
use tokio_rustls::TlsAcceptor;

/// How many good passwords are remembered: to check one costs 50 ms and more of a core, as it is meant to.
const REMEMBERED: usize = 100;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A file cannot be read.
    #[error("could not read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It says something else.
    #[error("{path}: {what}; {remedy}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Certificate, key and CA do not fit together.
    #[error("the certificates that {path} names cannot be used; check certificate, key and CA")]
    Tls {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tls_server_config: Option<Tls>,
    #[serde(default)]
    basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    client_auth_type: String,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    min_version: String,
}

/// Who may ask, and over what.
#[derive(Debug, Default)]
pub struct Web {
    file: Option<PathBuf>,
    random: RandomState,
    /// Hashes of what was found good.
    good: Mutex<HashSet<u64>>,
}

impl Web {
    /// What `file` says; everybody without TLS when there is none.
    ///
    /// # Errors
    /// When it cannot be used as it is now.
    pub fn new(file: Option<PathBuf>) -> Result<Self, WebError> {
        let web = Self {
            file,
            ..Self::default()
        };
        web.tls()?;
        Ok(web)
    }

    /// TLS of the next connection; `None` without.
    ///
    /// # Errors
    /// When file or certificates cannot be used now.
    pub fn tls(&self) -> Result<Option<TlsAcceptor>, WebError> {
        let Some(path) = &self.file else {
            return Ok(None);
        };
        let Some(tls) = load(path)?.tls_server_config else {
            return Ok(None);
        };
        let config = server_config(path, &tls)?;
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }

    /// Whether a request may be answered.
    pub async fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(path) = &self.file else {
            return true;
        };
        let Ok(file) = load(path) else {
            return false;
        };
        if file.basic_auth_users.is_empty() {
            return true;
        }
        let Some((user, password)) = credentials(headers) else {
            return false;
        };
        let Some(hash) = file.basic_auth_users.get(&user).cloned() else {
            return false;
        };
        let key = self.random.hash_one((&user, &password, &hash));
        if self.good().contains(&key) {
            return true;
        }
        let check = move || bcrypt::verify(password, &hash).unwrap_or(false);
        let right = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        if right {
            let mut good = self.good();
            if good.len() >= REMEMBERED {
                good.clear();
            }
            good.insert(key);
        }
        right
    }

    fn good(&self) -> std::sync::MutexGuard<'_, HashSet<u64>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let header = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, coded) = header.split_once(' ')?;
    let text = BASE64_STANDARD.decode(coded.trim()).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (user, password) = text.split_once(':')?;
    let basic = scheme.eq_ignore_ascii_case("basic");
    basic.then(|| (user.to_owned(), password.to_owned()))
}

fn load(path: &Path) -> Result<File, WebError> {
    let text = fs::read_to_string(path).map_err(|source| WebError::Read {
        path: path.to_owned(),
        source,
    })?;
    // No value goes into a message.
    let file: Option<File> = serde_saphyr::from_str(&text).map_err(|_| WebError::Content {
        path: path.to_owned(),
        what: "is not what Prometheus' exporters take, or more than Drey does".to_owned(),
        remedy: "use `tls_server_config` with `cert_file`, `key_file`, `client_auth_type`, `client_ca_file` and \
                 `min_version`, and `basic_auth_users`",
    })?;
    Ok(file.unwrap_or_default())
}

fn server_config(path: &Path, tls: &Tls) -> Result<ServerConfig, WebError> {
    let content = |what: String, remedy| WebError::Content {
        path: path.to_owned(),
        what,
        remedy,
    };
    let unusable = |source| WebError::Tls {
        path: path.to_owned(),
        source,
    };
    let versions: &[&SupportedProtocolVersion] = match tls.min_version.as_str() {
        "" | "TLS12" => &[&rustls::version::TLS12, &rustls::version::TLS13],
        "TLS13" => &[&rustls::version::TLS13],
        _ => {
            return Err(content(
                "`min_version` is not known".to_owned(),
                "use TLS12 or TLS13",
            ));
        }
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?;
    let roots = tls
        .client_ca_file
        .as_ref()
        .map(|file| roots(path, file))
        .transpose()?;
    let builder = match (tls.client_auth_type.as_str(), roots) {
        ("" | "NoClientCert", _) => builder.with_no_client_auth(),
        (kind @ ("RequireAndVerifyClientCert" | "VerifyClientCertIfGiven"), Some(roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match kind {
                "VerifyClientCertIfGiven" => verifier.allow_unauthenticated(),
                _ => verifier,
            };
            let verifier = verifier
                .build()
                .map_err(|error| unusable(rustls::Error::General(error.to_string())))?;
            builder.with_client_cert_verifier(verifier)
        }
        (_, Some(_)) => {
            let remedy = "use NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert";
            return Err(content(
                "`client_auth_type` is not for here".to_owned(),
                remedy,
            ));
        }
        (_, None) => {
            let what = "`client_auth_type` needs `client_ca_file`, too".to_owned();
            return Err(content(what, "give both, or neither"));
        }
    };
    let chain = certificates(path, &tls.cert_file)?;
    let key = beside(path, &tls.key_file);
    let key = PrivateKeyDer::from_pem_file(&key)
        .map_err(|_| content(format!("{} holds no key", key.display()), "name a PEM file"))?;
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Files are named from the directory of the one that names them.
fn beside(path: &Path, file: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(file)
}

fn certificates(path: &Path, file: &Path) -> Result<Vec<CertificateDer<'static>>, WebError> {
    let file = beside(path, file);
    let all = CertificateDer::pem_file_iter(&file).and_then(Iterator::collect);
    match all {
        Ok(all) if !Vec::is_empty(&all) => Ok(all),
        _ => Err(WebError::Content {
            path: path.to_owned(),
            what: format!("{} holds no certificate", file.display()),
            remedy: "name a PEM file",
        }),
    }
}

fn roots(path: &Path, file: &Path) -> Result<RootCertStore, WebError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(path, file)?);
    Ok(roots)
}
