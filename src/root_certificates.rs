//! Which certificate authorities are trusted by default.

use std::sync::OnceLock;

use rustls::pki_types::CertificateDer;

/// Those of the system, or where there are none, as in an image with nothing but this program, those of Mozilla's list.
#[must_use]
pub(crate) fn trusted() -> Vec<CertificateDer<'static>> {
    let system = rustls_native_certs::load_native_certs().certs;
    if system.is_empty() {
        bundled().to_vec()
    } else {
        system
    }
}

/// Mozilla's list, if the system has none.
pub(crate) fn missing() -> Option<&'static [CertificateDer<'static>]> {
    static NONE: OnceLock<bool> = OnceLock::new();
    let load = || rustls_native_certs::load_native_certs().certs.is_empty();
    NONE.get_or_init(load).then(bundled)
}

fn bundled() -> &'static [CertificateDer<'static>] {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_always_some() {
        assert!(!trusted().is_empty());
        assert!(bundled().len() > 50);
    }
}
