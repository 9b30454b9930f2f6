//! How the commands reach a NATS server, and the scrape that runs on the nodes there.

use std::path::PathBuf;

use aiopool::TaskOptions;
use aiopool_cluster::{Cluster, Connection};
use aiopool_scrape::pooled::Workers;
use aiopool_scrape::{Book, fetch_detail, fetch_list};
use anyhow::Context;
use futures_util::{Stream, StreamExt};

/// The servers, and who connects to them.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// The pool
    #[arg(long, default_value = "default")]
    pub pool: String,
    /// Who connects; the password is read from the variable `NATS_PASSWORD`
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A `.creds` file
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    creds: Option<PathBuf>,
    /// A file with the seed of an nkey
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "creds"])]
    nkey: Option<PathBuf>,
    /// Refuse a server without TLS
    #[arg(long)]
    tls: bool,
    /// The certificate authorities to trust, in PEM
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// The certificate to show, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// What the subjects of answers begin with
    #[arg(long, value_name = "TEXT")]
    inbox_prefix: Option<String>,
    /// Servers that keep the pool's streams, where they are made now: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: usize,
}

impl Server {
    /// Returns the connection's options.
    pub fn connection(&self, url: &str) -> anyhow::Result<Connection> {
        let mut connection = Connection::new(url).replicas(self.replicas);
        if let Some(user) = &self.user {
            let password = std::env::var("NATS_PASSWORD");
            let password = password.context("--user needs the password in NATS_PASSWORD")?;
            connection = connection.user(user, password);
        }
        if let Some(file) = &self.creds {
            connection = connection.credentials_file(file);
        }
        if let Some(file) = &self.nkey {
            let seed = std::fs::read_to_string(file);
            let seed = seed.with_context(|| format!("cannot read {}", file.display()))?;
            connection = connection.nkey_seed(seed.trim());
        }
        if self.tls {
            connection = connection.tls(true);
        }
        if let Some(file) = &self.tls_ca {
            connection = connection.root_certificates(file);
        }
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            connection = connection.client_certificate(certificate, key);
        }
        if let Some(prefix) = &self.inbox_prefix {
            connection = connection.inbox_prefix(prefix);
        }
        Ok(connection)
    }
}

/// The nodes of a pool, for the scrape.
pub struct Nodes(pub Cluster);

impl Workers for Nodes {
    fn lists<S: Stream<Item = String>>(
        &self,
        options: TaskOptions,
        urls: S,
    ) -> impl Stream<Item = Result<Vec<String>, String>> {
        let lists = self.0.with(options).try_map_stream(fetch_list, urls);
        lists.map(|outcome| outcome.map_err(|error| error.to_string()))
    }

    fn details<S: Stream<Item = String>>(
        &self,
        options: TaskOptions,
        urls: S,
    ) -> impl Stream<Item = Result<Book, String>> {
        let details = self.0.with(options).try_map_stream(fetch_detail, urls);
        details.map(|outcome| outcome.map_err(|error| error.to_string()))
    }
}
