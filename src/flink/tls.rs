//! TLS towards Flink: roots, client certificate and host name check out of PEM files, and errors that name the remedy.
//! The files are read for each connection, so that renewed certificates work.
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as RustlsError,
    RootCertStore, SignatureScheme,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::root_certificates;

/// Where the certificates are and what is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file with the certificates to trust; the system's if not given.
    pub ca: Option<PathBuf>,
    /// PEM file with Drey's own certificate chain, for `security.ssl.rest.authentication-enabled`.
    pub client_cert: Option<PathBuf>,
    /// PEM file with the private key to it.
    pub client_key: Option<PathBuf>,
    /// False to accept a certificate for any name: the chain is checked nevertheless.
    pub verify_hostname: bool,
}

/// Why no TLS connection can be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read.
    #[error("could not read {what} from {path}: give a readable PEM file")]
    File {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// There is not one certificate to trust.
    #[error(
        "{path} has no certificate: give a PEM file with the CA that signed Flink's certificate"
    )]
    NoCertificate {
        /// The file, or the system's store.
        path: String,
    },
    /// Only one half of the client certificate is configured.
    #[error("a client certificate needs both its certificate and its key: give both files or none")]
    HalfClientCertificate,
    /// rustls refuses the certificates or the key.
    #[error(
        "the certificates for Flink's REST interface do not fit together: check client certificate, key and CA"
    )]
    Unusable(#[source] RustlsError),
    /// The URL's host cannot stand in a certificate.
    #[error(
        "{name:?} is no host name that a certificate could be for: use a host name or an IP address"
    )]
    ServerName {
        /// The host.
        name: String,
    },
    /// The handshake failed.
    #[error("{remedy}")]
    Handshake {
        /// What is wrong and what to do.
        remedy: &'static str,
        /// The failure.
        source: RustlsError,
    },
}

/// Reads the files and builds the client's side of TLS.
///
/// # Errors
/// When a file is missing, is not PEM, or does not fit to the others.
pub fn client_config(settings: &TlsSettings) -> Result<ClientConfig, TlsError> {
    let roots = Arc::new(roots(settings.ca.as_deref())?);
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Unusable)?;
    let builder = if settings.verify_hostname {
        builder.with_root_certificates(roots)
    } else {
        let verifier = AnyName::new(roots, provider)?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
    };
    match (&settings.client_cert, &settings.client_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let chain = certificates(cert, "the client certificate")?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
                what: "the client key",
                path: key.clone(),
                source,
            })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(TlsError::Unusable)
        }
        _ => Err(TlsError::HalfClientCertificate),
    }
}

/// The name that the server's certificate is checked for.
///
/// # Errors
/// When it is neither a host name nor an address.
pub fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::ServerName {
        name: name.to_owned(),
    })
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (certificates, path) = match ca {
        Some(path) => (certificates(path, "the CA")?, path.display().to_string()),
        None => (
            root_certificates::trusted(),
            "the system's certificate store".to_owned(),
        ),
    };
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        Err(TlsError::NoCertificate { path })
    } else {
        Ok(roots)
    }
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File {
        what,
        path: path.to_owned(),
        source,
    };
    let read = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.display().to_string(),
        });
    }
    Ok(certificates)
}

/// Checks everything but the name: Flink's own certificates often have no subject alternative names.
#[derive(Debug)]
struct AnyName {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    signatures: Arc<WebPkiServerVerifier>,
}

impl AnyName {
    fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let built =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build();
        let signatures =
            built.map_err(|error| TlsError::Unusable(RustlsError::General(error.to_string())))?;
        Ok(Self {
            roots,
            provider,
            signatures,
        })
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, RustlsError> {
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.signatures.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, RustlsError> {
        self.signatures.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}

/// The TLS failure inside of an I/O or HTTP error, with its remedy; none when it is not about TLS.
///
/// A server that misses the client certificate says so only after the handshake in TLS 1.3, so that it surfaces in the
/// first request.
#[must_use]
pub fn handshake_failure(error: &(dyn std::error::Error + 'static)) -> Option<TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(source) = error.downcast_ref::<RustlsError>() {
            return Some(TlsError::Handshake {
                remedy: remedy(source),
                source: source.clone(),
            });
        }
        // An io::Error's source is the source of what it wraps, which would be skipped.
        next = match error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn remedy(error: &RustlsError) -> &'static str {
    use AlertDescription as Alert;
    match error {
        RustlsError::InvalidCertificate(reason) => certificate_remedy(reason),
        RustlsError::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::UnsupportedCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::DecryptError,
        ) => {
            "Flink refused the client certificate, or asks for one and got none \
             (security.ssl.rest.authentication-enabled): give a client certificate and key that its truststore trusts"
        }
        // Java says no more than this of several causes.
        RustlsError::AlertReceived(Alert::HandshakeFailure) => {
            "Flink broke the handshake off: set security.ssl.algorithms to suites with ECDHE and GCM that fit its key, as \
             TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 (up to Flink 1.19 the default is another), or give the client certificate \
             that it asks for (security.ssl.rest.authentication-enabled)"
        }
        RustlsError::InvalidMessage(_) => {
            "the server does not speak TLS: use http:// in the URL, or set security.ssl.rest.enabled in Flink"
        }
        RustlsError::PeerIncompatible(_) | RustlsError::AlertReceived(Alert::ProtocolVersion) => {
            "Flink and Drey have no TLS version or cipher suite in common: \
             set security.ssl.protocol to TLSv1.2 or TLSv1.3"
        }
        _ => "the TLS handshake with Flink failed: check security.ssl.rest.* on its side",
    }
}

fn certificate_remedy(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "Flink's certificate is not signed by a trusted CA: give the PEM file of the CA that signed it"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "Flink's certificate has expired: renew it in Flink's keystore and restart the JobManager"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "Flink's certificate is not valid yet: check the clocks"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "Flink's certificate is for another host name: \
             set the server name to one that it has, or switch the host name check off"
        }
        _ => {
            "Flink's certificate was refused: issue it a server certificate that is no CA certificate itself"
        }
    }
}
