//! Which requests are answered: those of this machine that ask for it by its own name, and those with
//! the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The rule.
pub struct Guard {
    token: Option<String>,
}

impl Guard {
    pub fn new(token: Option<String>) -> Self {
        Self { token }
    }

    fn admits(&self, request: &Request) -> bool {
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let Some(token) = &self.token else {
            // A page from elsewhere whose name was made to mean this machine has another one.
            let host = text(header::HOST).unwrap_or_default();
            let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
            return ["127.0.0.1", "localhost", "[::1]"].contains(&name);
        };
        let bearer = text(header::AUTHORIZATION).and_then(|text| text.strip_prefix("Bearer "));
        let query = request.uri().query().unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.strip_prefix("token="));
        bearer.into_iter().chain(pairs.by_ref()).any(|given| is_same(given, token))
    }
}

/// Compares in a time that does not depend on where the two differ.
fn is_same(given: &str, token: &str) -> bool {
    let pairs = given.bytes().zip(token.bytes());
    given.len() == token.len() && pairs.fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

pub async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if guard.admits(&request) {
        return next.run(request).await;
    }
    let text = "ask by the name 127.0.0.1 or localhost, or give the token that `aiopool dashboard` \
        was started with: ?token=…\n";
    (StatusCode::FORBIDDEN, text).into_response()
}
