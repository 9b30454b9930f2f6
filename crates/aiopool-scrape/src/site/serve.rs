//! Hands the pages out over HTTP.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

use super::Pages;

struct Site {
    pages: Pages,
    latency: Duration,
}

/// Serves `pages` on `listener` until `stop` is ready, each answer delayed by `latency`.
///
/// # Errors
///
/// When the listener fails.
///
/// # Cancel safety
///
/// Dropping it closes the listener; connections that are open end with the runtime.
pub async fn serve(
    listener: TcpListener,
    pages: Pages,
    latency: Duration,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    // An answer is two writes; waiting for the peer between them would cost 40 ms.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let site = Router::new().fallback(page).with_state(Arc::new(Site { pages, latency }));
    let mut serving = std::pin::pin!(axum::serve(listener, site).into_future());
    let mut stop = std::pin::pin!(stop);
    std::future::poll_fn(|cx| match stop.as_mut().poll(cx) {
        std::task::Poll::Ready(()) => std::task::Poll::Ready(Ok(())),
        std::task::Poll::Pending => serving.as_mut().poll(cx),
    })
    .await
}

async fn page(State(site): State<Arc<Site>>, uri: Uri) -> Response {
    if !site.latency.is_zero() {
        tokio::time::sleep(site.latency).await;
    }
    match uri.path().trim_start_matches('/') {
        "" | "index.html" => Redirect::temporary("/catalogue/page-1.html").into_response(),
        path => match site.pages.get(path) {
            // No charset, as on the model: the page says it itself.
            Some(html) => ([(header::CONTENT_TYPE, "text/html")], html).into_response(),
            None => (StatusCode::NOT_FOUND, "no such page").into_response(),
        },
    }
}
