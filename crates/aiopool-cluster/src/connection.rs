//! How a server is reached: the options that clusters, nodes and observers have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;

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
    /// Names the servers, with commas between them: `nats://host:port` or `tls://host:port`. A user and
    /// a password may stand before the host, `nats://user:password@host:port`, the same in each; what
    /// is no letter or digit in them is percent-encoded.
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

    /// Names a `.creds` file: a user's JWT and the seed of its nkey. It is read at each connection, so
    /// that it can be replaced before its JWT runs out.
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
    /// server can keep users from reading what others are answered. None begins with `aiopool`, as the
    /// subjects of pools do, or with `$`, as those of the server.
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

    /// Returns the addresses as they were given.
    fn given(&self) -> impl Iterator<Item = &str> {
        self.url.split(',').map(str::trim).filter(|server| !server.is_empty())
    }

    /// Returns the addresses, without who connects: the client hears of that by its options.
    pub(crate) fn servers(&self) -> Vec<String> {
        let server = |given| {
            let (scheme, _, host) = parts(given);
            format!("{scheme}{host}")
        };
        self.given().map(server).collect()
    }

    /// Returns the addresses as they may be shown: without who connects, which may stand in them,
    /// whatever it is made of. Only a scheme is sure to begin an address: where there is none before an
    /// `@`, what stands before it may be the first part of a password that has a comma.
    pub(crate) fn shown(&self) -> String {
        let mut shown: Vec<String> = Vec::new();
        // Of the last address with a scheme: the scheme, and how many came before it.
        let mut last = ("", 0);
        for given in self.given() {
            let (scheme, who, host) = parts(given);
            if !scheme.is_empty() {
                last = (scheme, shown.len());
            }
            match (who, before_no_port(host)) {
                (Some(_), _) => {
                    shown.truncate(last.1);
                    shown.push(format!("{}...@{host}", last.0));
                }
                (None, Some(before)) => shown.push(format!("{scheme}{before}:...")),
                (None, None) => shown.push(format!("{scheme}{host}")),
            }
        }
        shown.join(",")
    }

    /// Returns who connects, by the addresses: one for all of them, since any of them may be the next.
    fn named(&self) -> Result<Option<&str>> {
        let mut all = self.given().filter_map(|given| parts(given).1);
        let first = all.next();
        if all.any(|other| Some(other) != first) {
            return Err(self.refused("addresses with one user and password"));
        }
        Ok(first)
    }

    fn refused(&self, allowed: &str) -> Error {
        Error::InvalidOption { name: "server", value: self.shown(), allowed: allowed.to_owned() }
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
        if self.given().next().is_none() {
            return Err(
                self.refused("nats://host:port or tls://host:port, with commas between them")
            );
        }
        if self.given().any(|given| before_no_port(parts(given).2).is_some()) {
            return Err(self.refused(
                "nats://host:port or tls://host:port, with commas between them; in a user or a \
                 password a comma is %2C, a slash %2F and an @ %40, or they are given beside the \
                 address",
            ));
        }
        if let Some(prefix) = self.inbox.as_ref().filter(|prefix| !is_subject(prefix)) {
            return Err(Error::InvalidOption {
                name: "inbox_prefix",
                value: prefix.clone(),
                allowed: "parts of a subject with dots between them, without wildcards".to_owned(),
            });
        }
        if let Some(prefix) = self.inbox.as_ref().filter(|prefix| is_taken(prefix)) {
            return Err(Error::InvalidOption {
                name: "inbox_prefix",
                value: prefix.clone(),
                allowed: "what begins neither with `aiopool` nor with `$`, as the subjects of \
                          pools and of the server do: answers would be stored as tasks or keys"
                    .to_owned(),
            });
        }
        self.check_files()?;
        let options = match &self.credentials {
            Some(path) => by_credentials(path)?,
            None => ConnectOptions::new(),
        };
        let mut options = options
            .name(name)
            .ping_interval(Duration::from_secs(5))
            .connection_timeout(patience)
            .require_tls(self.tls)
            .reconnect_delay_callback(|tries| match tries {
                0 | 1 => Duration::ZERO,
                _ => Duration::from_millis(100),
            });
        let named = self.named()?;
        if let Some((user, password)) = &self.user {
            options = options.user_and_password(user.clone(), password.clone());
        } else if let Some(who) = named {
            options = match who.split_once(':') {
                Some((user, password)) => {
                    options.user_and_password(decoded(user), decoded(password))
                }
                None => options.token(decoded(who)),
            };
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(seed) = &self.nkey {
            options = options.nkey(seed.clone());
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

    /// Checks the seed and the files, which are used where nothing says any more whose they are.
    fn check_files(&self) -> Result<()> {
        for path in &self.roots {
            check_pem("root_certificates", path, "CERTIFICATE")?;
        }
        if let Some((certificate, key)) = &self.certificate {
            check_pem("client_certificate", certificate, "CERTIFICATE")?;
            check_pem("client_certificate", key, "PRIVATE KEY")?;
        }
        match &self.nkey {
            Some(seed) if KeyPair::from_seed(seed).is_err() => Err(Error::InvalidOption {
                name: "nkey_seed",
                value: "...".to_owned(),
                allowed: "the seed of a user's nkey, which begins with SU".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// Checks that a file can be read, and has a part of this kind.
fn check_pem(name: &'static str, path: &Path, kind: &str) -> Result<()> {
    let reason = match std::fs::read(path) {
        Err(error) => error.to_string(),
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains(&format!("{kind}-----")) => {
            return Ok(());
        }
        Ok(_) => format!("it has no {kind}"),
    };
    Err(Error::InvalidOption {
        name,
        value: path.display().to_string(),
        allowed: format!("a file in PEM: {reason}"),
    })
}

/// The schemes of addresses.
const SCHEMES: [&str; 4] = ["nats://", "tls://", "ws://", "wss://"];

/// Takes an address apart: its scheme, who connects, and the rest without a slash at its end.
fn parts(given: &str) -> (&str, Option<&str>, &str) {
    let is_of = |scheme: &&&str| {
        given.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let length = SCHEMES.iter().find(is_of).map_or(0, |scheme| scheme.len());
    let (scheme, rest) = given.split_at(length);
    let (who, host) = match rest.rsplit_once('@') {
        Some((who, host)) => (Some(who), host),
        None => (None, rest),
    };
    (scheme, who, host.strip_suffix('/').unwrap_or(host))
}

/// Returns what stands before the last colon of a host, if no port follows it: that may be anything,
/// a part of a password, too.
fn before_no_port(host: &str) -> Option<&str> {
    let (before, port) = host.rsplit_once(':').filter(|_| !host.ends_with(']'))?;
    port.parse::<u16>().is_err().then_some(before)
}

/// Returns a text of an address with what `%` and two digits stand for.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.filter(|_| first == b'%').and_then(|d| u8::from_str_radix(d, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns options that log in with a `.creds` file. It is read at each connection: a user's claims may
/// run out, and the file has new ones then.
fn by_credentials(path: &Path) -> Result<ConnectOptions> {
    read_credentials(path).map_err(|reason| Error::InvalidOption {
        name: "credentials_file",
        value: path.display().to_string(),
        allowed: format!("a .creds file with a JWT and a seed: {reason}"),
    })?;
    let path = path.to_owned();
    Ok(ConnectOptions::with_auth_callback(move |nonce| {
        let signed = read_credentials(&path).and_then(|(jwt, key)| {
            let signature = key.sign(&nonce).map_err(|error| error.to_string())?;
            let mut auth = Auth::new();
            (auth.jwt, auth.signature) = (Some(jwt), Some(signature));
            Ok(auth)
        });
        async move { signed.map_err(AuthError::new) }
    }))
}

/// Reads a user's claims and key.
fn read_credentials(path: &Path) -> std::result::Result<(String, KeyPair), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let after = |head: &str| {
        let mut lines = text.lines().map(str::trim).skip_while(|line| !line.contains(head));
        lines.nth(1).filter(|line| !line.is_empty()).map(str::to_owned)
    };
    let jwt = after("BEGIN NATS USER JWT").ok_or("it has no JWT")?;
    let seed = after("BEGIN USER NKEY SEED").ok_or("it has no seed")?;
    Ok((jwt, KeyPair::from_seed(&seed).map_err(|error| error.to_string())?))
}

/// Whether subjects of pools or of the server begin as this does.
fn is_taken(prefix: &str) -> bool {
    prefix.split('.').next() == Some("aiopool") || prefix.starts_with('$')
}

/// Whether subjects may begin with this.
fn is_subject(text: &str) -> bool {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '>';
    text.split('.').all(|part| !part.is_empty() && !part.contains(is_bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_a_password_is_shown() {
        let shown = |url: &str| Connection::new(url).shown();
        assert_eq!(
            shown("nats://a:1, b:2,tls://[::1]:3,[::1]"),
            "nats://a:1,b:2,tls://[::1]:3,[::1]"
        );
        assert_eq!(shown("nats://u:x@a:1,tls://u:x@b:2"), "nats://...@a:1,tls://...@b:2");
        for password in [
            "SECRET",
            "1,SECRET",
            "SECRET,2",
            "SEC,RET,SECRET",
            "SE@CRET",
            "SECRET@1,SECRET",
            "SECRET,SECRET@SECRET",
            "SECRET/SECRET",
            "SECRET:SECRET",
            "SECRET:1,SECRET",
            "SECRET#?,",
            "SECRET,http://SECRET",
            "12345,678",
        ] {
            for url in [
                format!("nats://me:{password}@host:1"),
                format!("me:{password}@host:1"),
                format!("nats://a:1,nats://me:{password}@host:1,tls://me:{password}@host:1"),
                format!("nats://me:{password}@a:2,me:{password}@host:1"),
            ] {
                let all = shown(&url);
                assert!(all.ends_with("...@host:1"), "{url}: {all}");
                for part in ["SEC", "CRET", "12345", "678"] {
                    assert!(!all.contains(part), "{url}: {all}");
                }
            }
        }
        // The host was forgotten.
        assert_eq!(shown("nats://me:SECRET"), "nats://me:...");
        let error =
            Connection::new("nats://me:SEC,RET@h").options("n", Duration::ZERO).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("%2C") && !text.contains("SEC"), "{text}");
    }

    #[test]
    fn an_address_may_end_with_a_slash_and_begin_with_any_case() {
        let url = "nats://a:1/, NATS://me:SECRET@b:2/,Tls://[::1]/,c/";
        let connection = Connection::new(url);
        assert_eq!(connection.servers(), ["nats://a:1", "NATS://b:2", "Tls://[::1]", "c"]);
        assert_eq!(connection.shown(), "nats://a:1,NATS://...@b:2,Tls://[::1],c");
        assert_eq!(parts("NATS://me:SECRET@b:2/"), ("NATS://", Some("me:SECRET"), "b:2"));
        for url in ["nats://localhost:4222/", "NATS://localhost:4222", "tls://[::1]/", "[::1]:4/"] {
            assert!(Connection::new(url).options("n", Duration::ZERO).is_ok(), "{url}");
        }
        for url in ["nats://localhost:4222//", "nats://localhost:4222/x"] {
            assert!(Connection::new(url).options("n", Duration::ZERO).is_err(), "{url}");
        }
    }

    #[test]
    fn who_connects_is_read_from_the_addresses_and_not_given_on_with_them() {
        let connection = Connection::new("nats://me:p%40s%2Cs%@a:1,tls://me:p%40s%2Cs%@b:2,c");
        assert_eq!(connection.servers(), ["nats://a:1", "tls://b:2", "c"]);
        assert_eq!(connection.named().unwrap(), Some("me:p%40s%2Cs%"));
        assert_eq!(decoded("p%40s%2Cs%"), "p@s,s%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
        let error = Connection::new("nats://me:SECRET@a,nats://you:SECRET@b").named().unwrap_err();
        assert!(error.to_string().contains("one user") && !error.to_string().contains("SECRET"));
    }
}
