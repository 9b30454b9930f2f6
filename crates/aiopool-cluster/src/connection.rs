//! How a server is reached: the options that clusters, nodes and observers have in common.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::ConnectOptions;

use crate::error::{Error, Result};

/// How to reach the servers: addresses, who connects, TLS.
///
/// An address alone will do where the server asks for no more.
///
/// ```
/// use aiopool_cluster::Connection;
///
/// let plain = Connection::from("nats://127.0.0.1:4222");
/// let known = Connection::new("tls://a:4222, tls://b:4222").credentials_file("pool.creds");
/// ```
#[derive(Clone)]
pub struct Connection {
    pub(crate) url: String,
    user: Option<(String, String)>,
    token: Option<String>,
    nkey: Option<String>,
    credentials: Option<PathBuf>,
    tls: bool,
    roots: Vec<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
    inbox: Option<String>,
    pub(crate) replicas: usize,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // No secret gets into a log.
        f.debug_struct("Connection").field("url", &self.shown()).finish_non_exhaustive()
    }
}

impl<U: Into<String>> From<U> for Connection {
    fn from(url: U) -> Self {
        Self::new(url)
    }
}

impl Connection {
    /// Names the servers, with commas between them: `nats://host:port` or `tls://host:port`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: None,
            token: None,
            nkey: None,
            credentials: None,
            tls: false,
            roots: Vec::new(),
            certificate: None,
            inbox: None,
            replicas: 1,
        }
    }

    /// Sets the user and password.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((user.into(), password.into()));
        self
    }

    /// Sets the token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Sets the seed of an nkey (`SU...`), with which the server's challenge is signed.
    #[must_use]
    pub fn nkey_seed(mut self, seed: impl Into<String>) -> Self {
        self.nkey = Some(seed.into());
        self
    }

    /// Names a `.creds` file: a user's JWT and the seed of its nkey. It is read at the connect.
    #[must_use]
    pub fn credentials_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.credentials = Some(path.into());
        self
    }

    /// Refuses a server without TLS.
    #[must_use]
    pub fn tls(mut self, yes: bool) -> Self {
        self.tls = yes;
        self
    }

    /// Trusts the certificate authorities of this PEM file and no others; asks for TLS.
    #[must_use]
    pub fn root_certificates(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots.push(path.into());
        self.tls = true;
        self
    }

    /// Shows the server this certificate, with its key, both PEM files; asks for TLS.
    #[must_use]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.certificate = Some((certificate.into(), key.into()));
        self.tls = true;
        self
    }

    /// Sets what the subjects of answers begin with, `_INBOX` by default: with one for each user a
    /// server can keep users from reading what others are answered.
    #[must_use]
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inbox = Some(prefix.into());
        self
    }

    /// Sets how many servers keep the pool's streams, where this process makes them: 1, 3 or 5.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Returns the addresses.
    pub(crate) fn servers(&self) -> Vec<String> {
        let all = self.url.split(',').map(str::trim).filter(|server| !server.is_empty());
        all.map(str::to_owned).collect()
    }

    /// Returns the addresses as they may be shown: without who connects, which may stand in them.
    pub(crate) fn shown(&self) -> String {
        let shown = |server: String| match server.rsplit_once('@') {
            None => server,
            Some((before, host)) => {
                let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
                let slashes = if scheme.is_empty() { "" } else { "://" };
                format!("{scheme}{slashes}...@{host}")
            }
        };
        self.servers().into_iter().map(shown).collect::<Vec<_>>().join(",")
    }

    /// Returns the client's options.
    pub(crate) fn options(&self, name: &str, patience: Duration) -> Result<ConnectOptions> {
        if ![1, 3, 5].contains(&self.replicas) {
            return Err(Error::InvalidOption {
                name: "replicas",
                value: self.replicas.to_string(),
                allowed: "1, 3 or 5".to_owned(),
            });
        }
        if self.servers().is_empty() {
            return Err(Error::InvalidOption {
                name: "server",
                value: self.url.clone(),
                allowed: "nats://host:port or tls://host:port, with commas between them".to_owned(),
            });
        }
        if let Some(prefix) = self.inbox.as_ref().filter(|prefix| !is_subject(prefix)) {
            return Err(Error::InvalidOption {
                name: "inbox_prefix",
                value: prefix.clone(),
                allowed: "parts of a subject with dots between them, without wildcards".to_owned(),
            });
        }
        let mut options = ConnectOptions::new()
            .name(name)
            .ping_interval(Duration::from_secs(5))
            .connection_timeout(patience)
            .require_tls(self.tls)
            .reconnect_delay_callback(|tries| match tries {
                0 | 1 => Duration::ZERO,
                _ => Duration::from_millis(100),
            });
        if let Some((user, password)) = &self.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(seed) = &self.nkey {
            options = options.nkey(seed.clone());
        }
        if let Some(path) = &self.credentials {
            let unreadable = |error: std::io::Error| Error::InvalidOption {
                name: "credentials_file",
                value: path.display().to_string(),
                allowed: format!("a .creds file with a JWT and a seed: {error}"),
            };
            let text = std::fs::read_to_string(path).map_err(unreadable)?;
            options = options.credentials(&text).map_err(unreadable)?;
        }
        for path in &self.roots {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &self.certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        if let Some(prefix) = &self.inbox {
            options = options.custom_inbox_prefix(prefix);
        }
        Ok(options)
    }
}

/// Whether subjects may begin with this.
fn is_subject(text: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>';
    text.split('.').all(|part| !part.is_empty() && !part.contains(is_bad))
}
