//! `aiopool dashboard`: the pools of this user on a page in the browser, and for Prometheus.

mod guard;
mod metrics;
mod watch;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use aiopool_bench::output;
use aiopool_cluster::interrupt;
use anyhow::{Context, bail};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::future::{Either, select};
use futures_util::stream::{Stream, unfold};

use crate::nats::Server;
use guard::Guard;
use watch::Watch;

/// The page: no build step, and nothing from elsewhere.
const PAGE: &str = include_str!("page.html");

/// Show the pools of this user on a web page, until Ctrl-C
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The address to listen on; port 0 for any that is free
    #[arg(long, default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// What a browser has to give as `?token=…`; needed for an address that others can reach:
    /// letters, digits and `._~-`
    #[arg(long)]
    token: Option<String>,
    /// Answer `/metrics` for Prometheus, too
    #[arg(long)]
    metrics: bool,
    /// Show the nodes of a pool over NATS, too: the servers, told apart by commas
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    #[command(flatten)]
    server: Server,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if !args.listen.ip().is_loopback() && args.token.is_none() {
        bail!(
            "others can reach {}: give a --token that they do not know, or listen on 127.0.0.1",
            args.listen
        );
    }
    if args.token.as_ref().is_some_and(|token| token.len() < 8) {
        bail!("the token is shorter than 8 characters, which can be guessed");
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._~-".contains(c);
    if let Some(other) = args.token.iter().flat_map(|token| token.chars()).find(|&c| !is_plain(c)) {
        bail!(
            "the token has a {other:?}, which means something else in an address: use letters A-Z \
             and a-z, digits, '.', '_', '~' and '-'"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("the system refuses a runtime")?;
    runtime.block_on(serve(args))?;
    // The thread that asks the pools sleeps at most for its interval.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let address = listener.local_addr()?;
    let cluster = match &args.nats {
        Some(url) => Some((args.server.connection(url)?, args.server.pool.clone())),
        None => None,
    };
    let watch = Watch::start(cluster);
    let guard = Arc::new(Guard::new(args.token.clone()));
    let mut router = Router::new()
        .route("/", get(page))
        .route(
            "/pools",
            get({
                let watch = watch.clone();
                move || pools(watch)
            }),
        )
        .route(
            "/stream",
            get({
                let watch = watch.clone();
                move || async move { stream(&watch) }
            }),
        );
    if args.metrics {
        router = router.route("/metrics", get(scraped));
    }
    let router = router.layer(from_fn_with_state(guard, guard::check));
    let query = args.token.map_or_else(String::new, |token| format!("?token={token}"));
    output::say(format_args!("http://{address}/{query}"))?;
    let served = axum::serve(listener, router).into_future();
    match select(pin!(served), pin!(interrupt::next())).await {
        Either::Left((ended, _)) => ended.context("the server has ended"),
        Either::Right(_) => Ok(()),
    }
}

async fn page() -> Response {
    // All of the page is in it; what a pool says never becomes a part of its code.
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
        connect-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, "no-store")];
    (headers, Html(PAGE)).into_response()
}

/// One answer of all pools, for scripts.
async fn pools(watch: Watch) -> Response {
    let text = watch.next().await;
    ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response()
}

/// The answers of all pools, one after the other.
fn stream(watch: &Watch) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let receiver = watch.receiver();
    let events = unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        let text = receiver.borrow_and_update().1.to_string();
        Some((Ok(Event::default().data(text)), receiver))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn scraped() -> Response {
    let text = tokio::task::spawn_blocking(metrics::of_all_pools).await;
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
