//! The one place that names the client of the server: requests, swaps, reads, subscriptions.

use std::sync::Arc;
use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Request};
use base64::Engine;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::protocol::{Ending, Word};
use crate::wire::{self, Names, Tail};

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Swap {
    /// Stored under this number.
    Won(u64),
    /// Refused: another message is there, or on its way. It may be one's own.
    Refused,
    /// No answer, or one that says nothing.
    Unknown,
    /// The server will never take it as it is.
    Broken(String),
}

/// A stored message.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) subject: String,
    pub(crate) payload: Bytes,
}

/// What a request for the server's own interface came to.
#[derive(Clone, Debug)]
enum Refusal {
    Code(u64, String),
    Silent,
}

/// How long an ordinary answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The buckets of all pools.
pub(crate) const NODES: &str = "AIOPOOL_NODES";
pub(crate) const JOBS: &str = "AIOPOOL_JOBS";

const OLDEST: (i64, i64, i64) = (2, 12, 8);

const WRONG_LAST: u64 = 10071;
const WRONG_LAST_IN_FLIGHT: u64 = 10164;
const NO_MESSAGE: u64 = 10037;
const NO_STREAM: u64 = 10059;
const STREAM_EXISTS: u64 = 10058;

/// How to reach the server.
#[derive(Clone, Default)]
pub(crate) struct Access {
    pub(crate) url: String,
    pub(crate) user: Option<(String, String)>,
    pub(crate) token: Option<String>,
    pub(crate) tls: bool,
    pub(crate) replicas: usize,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("url", &self.url).finish_non_exhaustive()
    }
}

/// A connection, with the names of one pool.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) names: Arc<Names>,
    /// Counts the connections that were made.
    pub(crate) connections: watch::Receiver<u64>,
}

impl Link {
    /// Connects, checks the server and makes what is missing of stream and buckets.
    pub(crate) async fn connect(access: &Access, pool: &str, name: &str) -> Result<Self> {
        if !wire::is_token(pool) {
            return Err(Error::InvalidOption {
                name: "pool",
                value: pool.to_owned(),
                allowed: "1 to 32 letters, digits, '-' and '_'".to_owned(),
            });
        }
        let (count, connections) = watch::channel(0_u64);
        let count = Arc::new(count);
        let mut options = ConnectOptions::new()
            .name(name)
            .ping_interval(Duration::from_secs(5))
            .connection_timeout(PATIENCE)
            .require_tls(access.tls)
            .reconnect_delay_callback(|tries| match tries {
                0 | 1 => Duration::ZERO,
                _ => Duration::from_millis(100),
            })
            .event_callback(move |event| {
                let count = Arc::clone(&count);
                async move {
                    if event == Event::Connected {
                        count.send_modify(|count| *count += 1);
                    }
                }
            });
        if let Some((user, password)) = &access.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &access.token {
            options = options.token(token.clone());
        }
        let servers: Vec<String> = access.url.split(',').map(|s| s.trim().to_owned()).collect();
        let failed = |reason: String| Error::Connect { url: access.url.clone(), reason };
        let client = options.connect(servers).await.map_err(|error| failed(error.to_string()))?;
        let info = client.server_info();
        let (major, minor, patch) = OLDEST;
        if !client.is_server_compatible(major, minor, patch) {
            return Err(Error::Server(format!(
                "it is version {}; {major}.{minor}.{patch} is the oldest whose compare-and-swap \
                 can be relied on",
                info.version
            )));
        }
        let names = Arc::new(Names { pool: pool.to_owned() });
        let link = Self { client, names, connections };
        link.make_streams(access.replicas.max(1)).await?;
        Ok(link)
    }

    async fn make_streams(&self, replicas: usize) -> Result<()> {
        let pool = &self.names.pool;
        let common = json!({
            "retention": "limits", "storage": "file", "num_replicas": replicas,
            "discard": "new", "max_msgs_per_subject": 1, "max_age": 0,
        });
        let with = |more: Value| {
            let mut all = common.clone();
            if let (Some(all), Value::Object(more)) = (all.as_object_mut(), more) {
                all.extend(more);
            }
            all
        };
        let stream = self.names.stream();
        let subjects = [format!("aiopool.{pool}.q.>"), format!("aiopool.{pool}.w.>")];
        self.make(with(json!({"name": stream, "subjects": subjects}))).await?;
        for bucket in [NODES, JOBS] {
            let name = format!("KV_{bucket}");
            let subjects = [format!("$KV.{bucket}.>")];
            self.make(with(json!({"name": name, "subjects": subjects}))).await?;
        }
        Ok(())
    }

    async fn make(&self, config: Value) -> Result<()> {
        let name = config["name"].as_str().unwrap_or_default().to_owned();
        match self.api(&format!("STREAM.INFO.{name}"), &Value::Null).await {
            Ok(_) => return Ok(()),
            Err(Refusal::Code(NO_STREAM, _)) => {}
            Err(refusal) => return Err(self.server(&name, refusal)),
        }
        match self.api(&format!("STREAM.CREATE.{name}"), &config).await {
            Ok(_) | Err(Refusal::Code(STREAM_EXISTS, _)) => Ok(()),
            Err(refusal) => Err(self.server(&name, refusal)),
        }
    }

    fn server(&self, what: &str, refusal: Refusal) -> Error {
        Error::Server(match refusal {
            Refusal::Code(code, text) => format!("{what}: {text} (code {code})"),
            Refusal::Silent => format!(
                "{what}: it does not answer JetStream's requests: start it with `-js`, and give \
                 this user the right to publish to $JS.API.>"
            ),
        })
    }

    /// Whether the connection stands; nothing is to be sent while it does not.
    pub(crate) fn stands(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    async fn api(&self, what: &str, payload: &Value) -> std::result::Result<Value, Refusal> {
        let payload = if payload.is_null() { Bytes::new() } else { payload.to_string().into() };
        let request = Request::new().payload(payload).timeout(Some(PATIENCE));
        let answer = self.client.send_request(format!("$JS.API.{what}"), request).await;
        let answer = answer.map_err(|_| Refusal::Silent)?;
        let value: Value = serde_json::from_slice(&answer.payload).map_err(|_| Refusal::Silent)?;
        match value.get("error") {
            Some(error) => Err(Refusal::Code(
                error["err_code"].as_u64().unwrap_or_default(),
                error["description"].as_str().unwrap_or_default().to_owned(),
            )),
            None => Ok(value),
        }
    }

    /// Publishes if the newest message on `decided_by` is number `expected` (0: there is none).
    pub(crate) async fn swap(
        &self,
        subject: String,
        decided_by: &str,
        expected: u64,
        payload: Bytes,
        patience: Duration,
    ) -> Swap {
        if !self.stands() {
            return Swap::Unknown;
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.to_string());
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", decided_by);
        let request = Request::new().headers(headers).payload(payload).timeout(Some(patience));
        let answer = match self.client.send_request(subject, request).await {
            Ok(answer) => answer,
            Err(error) => {
                return match error.kind() {
                    RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                        Swap::Broken(error.to_string())
                    }
                    _ => Swap::Unknown,
                };
            }
        };
        let Ok(value) = serde_json::from_slice::<Value>(&answer.payload) else {
            return Swap::Unknown;
        };
        match (value["seq"].as_u64(), value.get("error")) {
            (_, Some(error)) => match error["err_code"].as_u64() {
                Some(WRONG_LAST | WRONG_LAST_IN_FLIGHT) => Swap::Refused,
                Some(code) => {
                    let text = error["description"].as_str().unwrap_or_default();
                    Swap::Broken(format!("{text} (code {code})"))
                }
                None => Swap::Unknown,
            },
            (Some(seq), None) if seq > 0 => Swap::Won(seq),
            _ => Swap::Unknown,
        }
    }

    pub(crate) async fn swap_word(
        &self,
        subject: String,
        tail: &Tail,
        expected: u64,
        payload: Bytes,
    ) -> Swap {
        self.swap(subject, &self.names.swap(tail), expected, payload, PATIENCE).await
    }

    pub(crate) async fn swap_key(
        &self,
        bucket: &str,
        key: &str,
        expected: u64,
        payload: Bytes,
        patience: Duration,
    ) -> Swap {
        let subject = format!("$KV.{bucket}.{key}");
        let decided_by = subject.clone();
        self.swap(subject, &decided_by, expected, payload, patience).await
    }

    /// Reads the newest message on a subject from the stream's leader; `Err` if nobody answers.
    async fn newest(&self, stream: &str, subject: &str) -> std::result::Result<Option<Stored>, ()> {
        let asked = json!({"last_by_subj": subject});
        let answer = match self.api(&format!("STREAM.MSG.GET.{stream}"), &asked).await {
            Ok(answer) => answer,
            Err(Refusal::Code(NO_MESSAGE, _)) => return Ok(None),
            Err(_) => return Err(()),
        };
        let message = &answer["message"];
        let data = message["data"].as_str().unwrap_or_default();
        let payload = base64::engine::general_purpose::STANDARD.decode(data).map_err(|_| ())?;
        let seq = message["seq"].as_u64().ok_or(())?;
        let subject = message["subject"].as_str().ok_or(())?.to_owned();
        Ok(Some(Stored { seq, subject, payload: payload.into() }))
    }

    /// Reads a task's word.
    pub(crate) async fn word(&self, tail: &Tail) -> std::result::Result<Option<Stored>, ()> {
        self.newest(&self.names.stream(), &self.names.swap(tail)).await
    }

    /// Reads a key: its revision and bytes.
    pub(crate) async fn key(
        &self,
        bucket: &str,
        key: &str,
    ) -> std::result::Result<Option<Stored>, ()> {
        self.newest(&format!("KV_{bucket}"), &format!("$KV.{bucket}.{key}")).await
    }

    /// Lists the keys of this pool in a bucket.
    pub(crate) async fn keys(&self, bucket: &str) -> std::result::Result<Vec<String>, ()> {
        let prefix = format!("$KV.{bucket}.{}.", self.names.pool);
        let asked = json!({"subjects_filter": format!("{prefix}>")});
        let info = self.api(&format!("STREAM.INFO.KV_{bucket}"), &asked).await.map_err(|_| ())?;
        let subjects = info["state"]["subjects"].as_object();
        let all = subjects.into_iter().flat_map(|subjects| subjects.keys());
        Ok(all.filter_map(|subject| subject.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    /// Removes a bucket's key for good.
    pub(crate) async fn forget_key(&self, bucket: &str, key: &str) {
        let asked = json!({"filter": format!("$KV.{bucket}.{key}")});
        let _ = self.api(&format!("STREAM.PURGE.KV_{bucket}"), &asked).await;
    }

    /// Purges what matches `filter` from the pool's stream; true if the server did.
    pub(crate) async fn purge(&self, filter: &str) -> bool {
        let stream = self.names.stream();
        self.api(&format!("STREAM.PURGE.{stream}"), &json!({"filter": filter})).await.is_ok()
    }

    /// Lists the subjects of the pool's stream that match `filter`; at most 100,000.
    pub(crate) async fn subjects(&self, filter: &str) -> std::result::Result<Vec<String>, ()> {
        let stream = self.names.stream();
        let asked = json!({"subjects_filter": filter});
        let info = self.api(&format!("STREAM.INFO.{stream}"), &asked).await.map_err(|_| ())?;
        let subjects = info["state"]["subjects"].as_object();
        Ok(subjects.into_iter().flat_map(|subjects| subjects.keys().cloned()).collect())
    }

    /// Makes the durable consumer from which the nodes of `build` pull, and returns its name.
    pub(crate) async fn consumer(&self, build: &str) -> Result<String> {
        let (stream, name) = (self.names.stream(), format!("v1-{build}"));
        let filter = self.names.queues_of_build(build);
        let asked = json!({"stream_name": stream, "config": {
            "durable_name": name, "name": name, "filter_subject": filter,
            "deliver_policy": "all", "ack_policy": "explicit", "ack_wait": 10_000_000_000_u64,
            "max_deliver": -1, "max_ack_pending": -1, "replay_policy": "instant",
        }});
        let what = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
        self.api(&what, &asked).await.map_err(|refusal| self.server(&name, refusal))?;
        Ok(name)
    }

    /// Asks for at most `batch` deliveries to `inbox`, for five seconds.
    pub(crate) async fn pull(&self, consumer: &str, batch: usize, inbox: &str) -> bool {
        let stream = self.names.stream();
        let asked = json!({
            "batch": batch, "expires": 5_000_000_000_u64, "idle_heartbeat": 2_000_000_000_u64,
        });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let payload = Bytes::from(asked.to_string());
        self.client.publish_with_reply(subject, inbox.to_owned(), payload).await.is_ok()
    }

    /// Has everything that is written of a job sent to `inbox`, from message `from` on.
    pub(crate) async fn collect(&self, job: u128, from: u64, inbox: &str) -> bool {
        let (stream, filter) = (self.names.stream(), self.names.written_of_job(job));
        let asked = json!({"stream_name": stream, "config": {
            "deliver_subject": inbox, "filter_subject": filter, "ack_policy": "none",
            "deliver_policy": "by_start_sequence", "opt_start_seq": from.max(1),
            "replay_policy": "instant", "idle_heartbeat": 2_000_000_000_u64,
            "inactive_threshold": 60_000_000_000_u64, "mem_storage": true, "num_replicas": 1,
        }});
        self.api(&format!("CONSUMER.CREATE.{stream}"), &asked).await.is_ok()
    }
}

/// What a stored message says; what cannot be read is another's word.
pub(crate) fn word_of(stored: Option<Stored>) -> Word {
    stored.map_or(Word::Absent, |stored| {
        let unknown = Word::Done { seq: stored.seq, attempt: 0, ending: Ending::Final };
        wire::word(stored.seq, &stored.subject, &stored.payload).unwrap_or(unknown)
    })
}

/// The numbers in a delivery's reply subject: in the stream, and in the consumer.
pub(crate) fn numbers(reply: &str) -> Option<(u64, u64)> {
    let parts: Vec<&str> = reply.split('.').collect();
    // $JS.ACK.[domain.account.]stream.consumer.delivered.stream seq.consumer seq.time.pending
    let at = match parts.len() {
        9 => 5,
        11.. => 7,
        _ => return None,
    };
    Some((parts.get(at)?.parse().ok()?, parts.get(at + 1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_are_read_from_both_forms_of_a_reply() {
        assert_eq!(super::numbers("$JS.ACK.s.c.1.42.7.9.0"), Some((42, 7)));
        assert_eq!(super::numbers("$JS.ACK.d.a.s.c.1.42.7.9.0"), Some((42, 7)));
        assert_eq!(super::numbers("$JS.ACK.d.a.s.c.1.42.7.9.0.x"), Some((42, 7)));
        assert_eq!(super::numbers("$JS.ACK"), None);
        assert_eq!(super::numbers(""), None);
    }
}
