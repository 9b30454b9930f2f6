//! Gets a page over HTTP: one client per process, patient with a site that stumbles, not for ever.
//!
//! The client is built at the first page, so in a worker it belongs to the worker's own runtime;
//! nothing of it exists before the fork.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use reqwest::cookie::Jar;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::{Deserialize, Serialize};

use super::charset;

/// More than this is no page of a book shop; without a limit a site could fill our memory.
const MAX_PAGE_BYTES: usize = 16 << 20;
/// As browsers have it.
const MAX_REDIRECTS: usize = 20;
/// A site that asks for a longer pause than this is not waited for: its page fails, and says so.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long a page may take, and how often it is tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOptions {
    /// For the connection to stand. Default 5 s.
    pub connect_timeout: Duration,
    /// Between two pieces of the answer. Default 10 s.
    pub read_timeout: Duration,
    /// For one try as a whole. Default 30 s.
    pub total_timeout: Duration,
    /// Tries after the first when the connection failed or the answer was 408, 429 or 5xx, each after
    /// a growing pause, or after the one that the site asks for with `Retry-After`. A page that timed
    /// out is not tried again. Default 3.
    pub retries: u32,
    /// For the computing that reads one page; a page of a book shop needs less than a millisecond.
    /// Default 2 s.
    pub compute_limit: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(30),
            retries: 3,
            compute_limit: Duration::from_secs(2),
        }
    }
}

impl FetchOptions {
    /// Sets the time for one try as a whole; the other times become at most that.
    pub fn with_total_timeout(mut self, total: Duration) -> Self {
        self.total_timeout = total;
        self.connect_timeout = self.connect_timeout.min(total);
        self.read_timeout = self.read_timeout.min(total);
        self.compute_limit = self.compute_limit.min(total);
        self
    }
}

/// A page as it came.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where it came from, redirects followed: its relative links start here.
    pub url: Url,
    /// Its text, decoded as a browser decodes it.
    pub html: String,
    /// What reading it may take; see [`FetchOptions::compute_limit`].
    pub compute_limit: Duration,
}

static FETCHER: RwLock<Option<Arc<Fetcher>>> = RwLock::new(None);

/// Sets how this process fetches from now on. Pages under way go on as they began.
pub fn configure(options: FetchOptions) {
    let fetcher = Arc::new(Fetcher::new(options));
    *FETCHER.write().unwrap_or_else(PoisonError::into_inner) = Some(fetcher);
}

/// Fetches one page with this process's client.
///
/// # Errors
///
/// When the address is bad, or the site is down, too slow or answers anything but a page, after
/// the retries of [`FetchOptions`]. The address is not part of the error.
///
/// # Cancel safety
///
/// Dropping it abandons the request; nothing else is touched.
pub async fn page(url: &str) -> anyhow::Result<Page> {
    fetcher().page(url).await
}

fn fetcher() -> Arc<Fetcher> {
    if let Some(fetcher) = &*FETCHER.read().unwrap_or_else(PoisonError::into_inner) {
        return fetcher.clone();
    }
    let mut fetcher = FETCHER.write().unwrap_or_else(PoisonError::into_inner);
    fetcher.get_or_insert_with(|| Arc::new(Fetcher::new(FetchOptions::default()))).clone()
}

/// Why a try came to nothing.
enum Trouble {
    /// May be over in a moment, or after the pause that the site asks for.
    Passing { error: anyhow::Error, after: Option<Duration> },
    /// Would only come again.
    Lasting(anyhow::Error),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        let too_slow = error.is_timeout() && !error.is_connect();
        let connection =
            error.is_connect() || error.is_request() || error.is_body() || error.is_decode();
        // The code that reports the failure adds the page's address.
        let error = anyhow!(error.without_url());
        if too_slow {
            Self::Lasting(error.context("the site did not answer in time"))
        } else if connection {
            Self::Passing { error, after: None }
        } else {
            Self::Lasting(error)
        }
    }
}

/// The ways to a site. Certificates and proxies are looked up only where they matter: a machine
/// without certificates still reads plain HTTP, and no proxy is asked for a site of our own.
#[derive(Clone, Copy)]
enum Road {
    Loopback,
    Plain,
    Secure,
}

impl Road {
    fn to(url: &Url) -> Self {
        match (url.scheme(), url.host_str()) {
            ("https", _) => Self::Secure,
            (_, Some("localhost" | "127.0.0.1" | "[::1]")) => Self::Loopback,
            _ => Self::Plain,
        }
    }
}

struct Fetcher {
    options: FetchOptions,
    clients: [OnceLock<Client>; 3],
    /// The cookies that sites have set in this process, for all three clients.
    cookies: Arc<Jar>,
}

impl Fetcher {
    fn new(options: FetchOptions) -> Self {
        Self { options, clients: Default::default(), cookies: Arc::default() }
    }

    async fn page(&self, url: &str) -> anyhow::Result<Page> {
        let url = Url::parse(url).context("bad address")?;
        let mut retry = 0;
        loop {
            match self.try_page(url.clone()).await {
                Ok(page) => return Ok(page),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing { error, .. }) if retry == self.options.retries => {
                    return Err(match retry {
                        0 => error,
                        _ => error.context(format!("gave up after {} tries", retry + 1)),
                    });
                }
                Err(Trouble::Passing { after, .. }) => {
                    tokio::time::sleep(after.unwrap_or_else(|| pause(retry))).await;
                    retry += 1;
                }
            }
        }
    }

    async fn try_page(&self, mut url: Url) -> Result<Page, Trouble> {
        for _ in 0..=MAX_REDIRECTS {
            let client = self.client(Road::to(&url)).map_err(Trouble::Lasting)?;
            let answer = client.get(url).send().await?;
            if answer.status().is_success() {
                // What the client can decode it has decoded, and taken the header away.
                if let Some(encoding) = answer.headers().get(CONTENT_ENCODING)
                    && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
                {
                    let error = anyhow!(
                        "the site answered in the encoding {encoding:?}, which was not asked for"
                    );
                    return Err(Trouble::Lasting(error));
                }
                let url = answer.url().clone();
                let content_type = answer.headers().get(CONTENT_TYPE);
                let content_type = content_type.map(|value| latin1(value.as_bytes()));
                let body = body(answer).await?;
                let html =
                    charset::decode(body, content_type.as_deref()).map_err(Trouble::Lasting)?;
                return Ok(Page { url, html, compute_limit: self.options.compute_limit });
            }
            url = next_stop(&answer).ok_or_else(|| refusal(&answer))?;
        }
        Err(Trouble::Lasting(anyhow!("more than {MAX_REDIRECTS} redirects")))
    }

    fn client(&self, road: Road) -> anyhow::Result<&Client> {
        let cell = &self.clients[road as usize];
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        // An error means that the process has a provider already, which does as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Redirects are followed by `try_page`: the next stop may need another road.
        let builder = Client::builder()
            .user_agent(concat!("aiopool/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .cookie_provider(self.cookies.clone())
            .connect_timeout(self.options.connect_timeout)
            .read_timeout(self.options.read_timeout)
            .timeout(self.options.total_timeout);
        let builder = match road {
            Road::Loopback => builder.no_proxy().tls_certs_only([]),
            Road::Plain => builder.tls_certs_only([]),
            Road::Secure => builder,
        };
        let client = builder.build().context("cannot build the HTTP client")?;
        Ok(cell.get_or_init(|| client))
    }
}

async fn body(mut answer: Response) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await? {
        if body.len() + piece.len() > MAX_PAGE_BYTES {
            return Err(Trouble::Lasting(anyhow!("page is longer than {MAX_PAGE_BYTES} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Where a redirect leads, if it is one that can be followed.
fn next_stop(answer: &Response) -> Option<Url> {
    let location = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection())?;
    // Some sites send an address as it is, in UTF-8 and not escaped.
    let location = std::str::from_utf8(location.as_bytes());
    let url = answer.url().join(location.ok()?).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

fn refusal(answer: &Response) -> Trouble {
    let status = answer.status();
    let error = anyhow!("the site answered {status}");
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if !busy && !status.is_server_error() {
        return Trouble::Lasting(error);
    }
    match retry_after(answer.headers()) {
        Some(pause) if pause > MAX_RETRY_AFTER => Trouble::Lasting(error.context(format!(
            "the site asks to come back in {} s, which is longer than {} s",
            pause.as_secs(),
            MAX_RETRY_AFTER.as_secs()
        ))),
        after => Trouble::Passing { error, after },
    }
}

/// The pause that a site asks for, in seconds or until a date; a date that has passed is no pause.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(SystemTime::now()).unwrap_or_default())
}

/// A header's bytes as text, whatever they are.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// 100 ms, doubled at each retry, shortened at random by up to a half so that the workers do not
/// all come back at once.
fn pause(retry: u32) -> Duration {
    let full = FIRST_PAUSE * (1 << retry.min(6));
    let random = RandomState::new().hash_one(retry) % 1024;
    full - full / 2 * random as u32 / 1024
}
