//! Where a member of the store is, and how a connection to it begins.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    is_tls: bool,
}

/// A text that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no endpoint of etcd; write it as https://10.1.0.1:2379")]
pub struct NotAnEndpoint(String);

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;
    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let wrong = || NotAnEndpoint(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let is_bare = uri.path_and_query().is_none_or(|path| path == "/");
        let authority = uri.authority().ok_or_else(wrong)?;
        if !is_bare || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        // A port that is none is no part of `port_u16`, but of the text.
        let has_port = !authority.as_str().ends_with(authority.host());
        if has_port && authority.port_u16().is_none() {
            return Err(wrong());
        }
        let host = authority.host();
        let host = host.strip_prefix('[').unwrap_or(host);
        Ok(Self {
            host: host.strip_suffix(']').unwrap_or(host).to_owned(),
            port: authority.port_u16().unwrap_or(2379),
            is_tls,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Whom this hub believes to be the store, and who it is there.
#[derive(Clone)]
pub struct Tls(TlsConnector);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{file}: {why}")]
    File {
        /// Which.
        file: String,
        /// Why.
        why: String,
    },
    /// The files don't fit together.
    #[error("TLS: {0}")]
    Config(#[from] rustls::Error),
}

impl Tls {
    /// Of PEM files: who signs the store's certificates, and this hub's certificate and key. A hub
    /// without a certificate has neither.
    pub fn read(ca: &Path, own: Option<(&Path, &Path)>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca)? {
            roots.add(certificate)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match own {
            Some((cert, key)) => {
                let private = PrivateKeyDer::from_pem_file(key);
                let private = private.map_err(|error| file_error(key, error))?;
                config.with_client_auth_cert(certificates(cert)?, private)?
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(file).map_err(|error| file_error(file, error))?;
    let found: Result<Vec<_>, _> = found.collect();
    let found = found.map_err(|error| file_error(file, error))?;
    if found.is_empty() {
        return Err(file_error(file, "there is no certificate in it"));
    }
    Ok(found)
}

fn file_error(file: &Path, why: impl fmt::Display) -> TlsError {
    TlsError::File {
        file: file.display().to_string(),
        why: why.to_string(),
    }
}

/// A connection: TCP, or TLS above it.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Connects. It takes as long as it takes: the caller has a limit.
pub(super) async fn connect(endpoint: &Endpoint, tls: Option<&Tls>) -> io::Result<Box<dyn Wire>> {
    let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    // Calls are small and wait for each other.
    tcp.set_nodelay(true)?;
    if !endpoint.is_tls {
        return Ok(Box::new(tcp));
    }
    let tls = tls.ok_or_else(|| io::Error::other("https needs the file of the CA (ca)"))?;
    let name = ServerName::try_from(endpoint.host.clone()).map_err(io::Error::other)?;
    Ok(Box::new(tls.0.connect(name, tcp).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_without_more() {
        for (text, shown) in [
            ("https://10.1.0.1:2379", "https://10.1.0.1:2379"),
            ("https://etcd.example.net", "https://etcd.example.net:2379"),
            ("http://[fd00::1]:23/", "http://[fd00::1]:23"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
        for wrong in [
            "",
            "10.1.0.1:2379",
            "ftp://10.1.0.1",
            "https://",
            "https://ana@10.1.0.1",
            "https://10.1.0.1/v3",
            "https://10.1.0.1:99999",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong:?}");
        }
    }
}
