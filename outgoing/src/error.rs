//! Why no connection can be made.

use std::path::PathBuf;

/// Why no connection can be made, whatever its address. Messages hold no secret.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// The file of certificates can't be read.
    #[error("can't read the CA certificates {path:?} (CODEX_CA_CERTIFICATE or SSL_CERT_FILE): {source}")]
    ReadCertificates {
        /// The file that the variable names.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file of certificates is not PEM.
    #[error("the CA certificates {path:?} (CODEX_CA_CERTIFICATE or SSL_CERT_FILE) are not a PEM bundle")]
    BadCertificates {
        /// The file that the variable names.
        path: PathBuf,
    },
    /// The machine has no certificates, and no more were named.
    #[error(
        "this machine has no CA certificates to trust; install them, or name a file of them in CODEX_CA_CERTIFICATE"
    )]
    NothingTrusted,
    /// A proxy variable does not hold an address. The address may hold a password, so it is not shown.
    #[error("{variable} does not hold the address of a proxy")]
    BadProxy {
        /// The variable's name.
        variable: &'static str,
    },
    /// TLS can't be set up.
    #[error("can't set up TLS: {0}")]
    Tls(String),
}
