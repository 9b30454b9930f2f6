//! The one place that names the client of the server: requests, swaps, reads, subscriptions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::{Client, Event, HeaderMap, Request, Subject};
use base64::Engine;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::protocol::{Ending, Word};
use crate::wire::{self, Names, Tail};

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Swap {
    /// Stored under this number.
    Won(u64),
    /// Refused: another message is there, or on its way. It may be one's own. The newest one's
    /// number, where the refusal names it.
    Refused(Option<u64>),
    /// No answer, or one that says nothing.
    Unknown,
    /// Refused for want of room: in the stream, the account or the disk.
    Full(String),
    /// The server will never take it as it is.
    Broken(String),
}

/// How full a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes that fit in, where there is a limit.
    pub(crate) limit: Option<u64>,
    /// Bytes that are in it.
    pub(crate) used: u64,
    /// Its consumers: each submitter has one, and each build's nodes have a few.
    pub(crate) consumers: u64,
}

/// A stored message.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) subject: Subject,
    pub(crate) payload: Bytes,
    /// When the server stored it, in seconds of the epoch by its clock; 0 where that is not known.
    /// Shown to people, and nothing else.
    pub(crate) time: u64,
}

/// What a request for the server's own interface came to.
#[derive(Clone, Debug)]
pub(crate) enum Refusal {
    Code(u64, String),
    Silent,
}

/// How long an ordinary answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// How long a question that nobody answered waits before it is asked again.
pub(crate) const AGAIN: Duration = Duration::from_millis(200);

/// A number that no message has: a swap that expects it is refused, whatever is there.
pub(crate) const NO_SEQ: u64 = u64::MAX >> 1;

/// The buckets of all pools.
pub(crate) const NODES: &str = "AIOPOOL_NODES";
pub(crate) const JOBS: &str = "AIOPOOL_JOBS";

/// A lease that may run out during an election.
const SHORT: Duration = Duration::from_secs(20);

const OLDEST: (i64, i64, i64) = (2, 12, 8);

const WRONG_LAST: u64 = 10071;
const WRONG_LAST_IN_FLIGHT: u64 = 10164;
/// More messages are on their way to the stream than it takes in for the moment: this one is not
/// stored, and may be sent again.
const TOO_MANY: u64 = 10167;
/// The stream, or what makes consumers, has no leader for the moment.
const NO_LEADER: u64 = 10008;
const NO_MESSAGE: u64 = 10037;
pub(crate) const NO_STREAM: u64 = 10059;
pub(crate) const STREAM_EXISTS: u64 = 10058;
/// The stream's limit, the account's limits on storage and memory, the server's disk.
const FULL: [u64; 5] = [10077, 10047, 10028, 10002, 10023];

/// A connection, with the names of one pool.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) names: Arc<Names>,
    /// Counts the connections that were made.
    pub(crate) connections: watch::Receiver<u64>,
    /// What the server last complained of: a missing right is said so, and not in an answer.
    complaint: Arc<Mutex<String>>,
    /// Why there is no connection, as the client says it; empty while there is one.
    away: Arc<Mutex<String>>,
    /// How many servers keep what this process makes; `None` where it only looks and makes nothing.
    pub(crate) replicas: Option<usize>,
    /// How many servers keep the pool's words, where that was read.
    pub(crate) kept_by: Arc<AtomicU64>,
    /// When it last made what was missing.
    pub(crate) mended: Arc<Mutex<Option<Instant>>>,
}

impl Refusal {
    /// Whether it may be that of a stream, or of what makes consumers, without a leader.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Silent | Self::Code(NO_LEADER, _))
    }
}

impl Link {
    /// Connects, checks the server and makes what is missing of stream and buckets.
    pub(crate) async fn connect(access: &Connection, pool: &str, name: &str) -> Result<Self> {
        let link = Self::open(access, pool, name, Some(access.replicas)).await?;
        link.make_streams().await?;
        Ok(link)
    }

    /// Connects to look, which changes nothing; `None` where the server has no such pool.
    pub(crate) async fn look(access: &Connection, pool: &str) -> Result<Option<Self>> {
        let link = Self::open(access, pool, "aiopool observer", None).await?;
        Ok(link.has_streams().await?.then_some(link))
    }

    async fn open(
        access: &Connection,
        pool: &str,
        name: &str,
        replicas: Option<usize>,
    ) -> Result<Self> {
        let names = Arc::new(Names::of(pool)?);
        let (count, connections) = watch::channel(0_u64);
        let count = Arc::new(count);
        let complaint = Arc::new(Mutex::new(String::new()));
        let away = Arc::new(Mutex::new(String::new()));
        let (heard, why) = (Arc::clone(&complaint), Arc::clone(&away));
        let said = Arc::new(Mutex::new(String::new()));
        let options = access.options(name, PATIENCE)?.event_callback(move |event| {
            let (count, heard, why) = (Arc::clone(&count), Arc::clone(&heard), Arc::clone(&why));
            let said = Arc::clone(&said);
            async move {
                match event {
                    Event::Connected => {
                        replace(&why, String::new());
                        // What the user may not do is said anew of each connection.
                        replace(&heard, String::new());
                        count.send_modify(|count| *count += 1);
                    }
                    Event::ServerError(error) => {
                        // Until the second is over in which claims run out, the server takes each
                        // new connection and ends it.
                        if replace(&said, error.to_string()) {
                            tracing::warn!(%error, "the server complains");
                        }
                        replace(&heard, error.to_string());
                    }
                    // It tries for ever, ten times a second: each reason is said once.
                    Event::ClientError(error) => {
                        let mut reason = error.to_string();
                        if let Some(ended) = text_of(&heard).filter(|text| is_of_user(text)) {
                            reason = format!("{reason}; the last one ended with {ended}");
                        }
                        if replace(&why, reason.clone()) {
                            tracing::warn!(%reason, "there is no connection to the server");
                        }
                    }
                    _ => {}
                }
            }
        });
        let failed = |reason: String| Error::Connect { url: access.shown(), reason };
        let client =
            options.connect(access.servers()).await.map_err(|error| failed(reasons(&error)))?;
        let (mended, kept_by) = (Arc::default(), Arc::default());
        let link = Self { client, names, connections, complaint, away, replicas, kept_by, mended };
        link.check_version()?;
        Ok(link)
    }

    /// Checks that the server is none whose swaps cannot be relied on: the one of a new connection may
    /// be another than the one before.
    pub(crate) fn check_version(&self) -> Result<()> {
        let (major, minor, patch) = OLDEST;
        if self.client.is_server_compatible(major, minor, patch) {
            return Ok(());
        }
        Err(Error::Server(format!(
            "it is version {}; {major}.{minor}.{patch} is the oldest whose compare-and-swap can be \
             relied on",
            self.client.server_info().version
        )))
    }

    /// Warns where an election of the server's may take longer than a lease that its answers renew.
    pub(crate) fn warn_of_lease(&self, lease: Duration) {
        // Relaxed: it was written before the link was handed out.
        if lease < SHORT && self.kept_by.load(Ordering::Relaxed) > 1 {
            tracing::warn!(
                "the lease is {lease:?}: several servers keep the pool, and where they elect a \
                 leader, which takes up to 10 s, it may run out; it is to be {SHORT:?} at least"
            );
        }
    }

    pub(crate) fn server(&self, what: &str, refusal: Refusal) -> Error {
        Error::Server(match refusal {
            Refusal::Code(code, text) => format!("{what}: {text} (code {code})"),
            Refusal::Silent => match self.complaint() {
                Some(complaint) => format!("{what}: {complaint}"),
                None => format!(
                    "{what}: it does not answer JetStream's requests: start it with `-js`, and \
                     give this user the rights that README.md of aiopool-cluster lists"
                ),
            },
        })
    }

    /// What the server last complained of, if it was about rights.
    pub(crate) fn complaint(&self) -> Option<String> {
        text_of(&self.complaint).filter(|text| text.to_lowercase().contains("permissions"))
    }

    /// Whether a stream that is not there counts as an empty one: to those that only look. For all
    /// others a word or a key that cannot be read is none that is not there.
    pub(crate) fn is_unmade(&self, refusal: &Refusal) -> bool {
        self.replicas.is_none() && matches!(refusal, Refusal::Code(NO_STREAM, _))
    }

    /// Why there is no connection, if there is none and the client says why.
    pub(crate) fn away(&self) -> Option<String> {
        let why = self.away.lock().ok()?;
        (!self.stands() && !why.is_empty()).then(|| why.clone())
    }

    /// Whether the connection stands; nothing is to be sent while it does not.
    pub(crate) fn stands(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Gives the connection up, so that another is made. The client would do it to the next connection
    /// where none stands.
    pub(crate) fn reconnect(&self) {
        if self.stands() {
            let client = self.client.clone();
            tokio::spawn(async move {
                let _ = client.force_reconnect().await;
            });
        }
    }

    /// Waits until everything that was published is with the server, if it can be reached: nothing
    /// else tells a connection that is away from a slow one.
    pub(crate) async fn flush(&self) {
        let _ = tokio::time::timeout(PATIENCE, self.client.flush()).await;
    }

    pub(crate) async fn api(
        &self,
        what: &str,
        payload: &Value,
    ) -> std::result::Result<Value, Refusal> {
        let payload = if payload.is_null() { Bytes::new() } else { payload.to_string().into() };
        let request = Request::new().payload(payload).timeout(Some(PATIENCE));
        let answer = self.client.send_request(format!("$JS.API.{what}"), request).await;
        let answer = answer.map_err(|_| Refusal::Silent)?;
        let value: Value = serde_json::from_slice(&answer.payload).map_err(|_| Refusal::Silent)?;
        let Some(error) = value.get("error") else { return Ok(value) };
        let code = error["err_code"].as_u64().unwrap_or_default();
        // A caller that asks what a stream is like makes it by itself.
        if code == NO_STREAM && !what.starts_with("STREAM.INFO.") {
            self.mend();
        }
        let text = error["description"].as_str().unwrap_or_default().to_owned();
        Err(Refusal::Code(code, text))
    }

    /// Whether what is published to `subject` is answered, if only by the news that nobody listens
    /// there: what there is no right to is not.
    pub(crate) async fn is_answered(
        &self,
        subject: &str,
        what: &Value,
        patience: Duration,
    ) -> bool {
        let payload = if what.is_null() { Bytes::new() } else { what.to_string().into() };
        let request = Request::new().payload(payload).timeout(Some(patience));
        match self.client.send_request(subject.to_owned(), request).await {
            Ok(_) => true,
            Err(error) => error.kind() == RequestErrorKind::NoResponders,
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
        let headers = expecting(expected, decided_by.to_owned());
        let request = Request::new().headers(headers).payload(payload).timeout(Some(patience));
        match self.client.send_request(subject, request).await {
            Ok(answer) => judge(&answer.payload),
            Err(error) => match error.kind() {
                RequestErrorKind::InvalidSubject | RequestErrorKind::MaxPayloadExceeded => {
                    Swap::Broken(error.to_string())
                }
                RequestErrorKind::NoResponders => {
                    self.mend();
                    Swap::Unknown
                }
                _ => Swap::Unknown,
            },
        }
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
    pub(crate) async fn newest(
        &self,
        stream: &str,
        subject: &str,
    ) -> std::result::Result<Option<Stored>, ()> {
        self.stored(stream, &json!({"last_by_subj": subject})).await
    }

    /// Reads one message from the stream's leader; `Err` if nobody answers.
    pub(crate) async fn stored(
        &self,
        stream: &str,
        asked: &Value,
    ) -> std::result::Result<Option<Stored>, ()> {
        let answer = match self.api(&format!("STREAM.MSG.GET.{stream}"), asked).await {
            Ok(answer) => answer,
            Err(Refusal::Code(NO_MESSAGE, _)) => return Ok(None),
            Err(refusal) if self.is_unmade(&refusal) => return Ok(None),
            Err(_) => return Err(()),
        };
        let message = &answer["message"];
        let data = message["data"].as_str().unwrap_or_default();
        let payload = base64::engine::general_purpose::STANDARD.decode(data).map_err(|_| ())?;
        let seq = message["seq"].as_u64().ok_or(())?;
        let subject = message["subject"].as_str().ok_or(())?.into();
        let time = message["time"].as_str().and_then(seconds).unwrap_or_default();
        Ok(Some(Stored { seq, subject, payload: payload.into(), time }))
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
        let all = self.subjects(&format!("KV_{bucket}"), &format!("{prefix}>")).await?;
        Ok(all.iter().filter_map(|key| key.strip_prefix(&prefix)).map(str::to_owned).collect())
    }
}

/// Whether a complaint of the server's is that a user's claims ran out or were called back.
fn is_of_user(complaint: &str) -> bool {
    let complaint = complaint.to_lowercase();
    complaint.contains("authentication") || complaint.contains("revoked")
}

/// Returns what is kept for other threads.
fn text_of(kept: &Mutex<String>) -> Option<String> {
    kept.lock().ok().map(|kept| kept.clone())
}

/// Replaces what is kept for other threads; true if it was another.
fn replace(kept: &Mutex<String>, text: String) -> bool {
    let Ok(mut kept) = kept.lock() else { return false };
    let changed = *kept != text;
    *kept = text;
    changed
}

/// What a message says to the server of the word that it is to replace.
pub(crate) fn expecting(seq: u64, decided_by: String) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, seq.to_string());
    headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", decided_by);
    headers
}

/// What the server answers to a publication.
#[derive(Deserialize)]
struct Stores {
    seq: Option<u64>,
    error: Option<Complaint>,
}

#[derive(Deserialize)]
struct Complaint {
    err_code: Option<u64>,
    #[serde(default)]
    description: String,
}

/// What an answer says of a swap.
pub(crate) fn judge(answer: &[u8]) -> Swap {
    let Ok(Stores { seq, error }) = serde_json::from_slice(answer) else { return Swap::Unknown };
    match (seq, error) {
        (_, Some(Complaint { err_code, description })) => match err_code {
            Some(WRONG_LAST) => Swap::Refused(newest_by(&description)),
            Some(WRONG_LAST_IN_FLIGHT) => Swap::Refused(None),
            Some(TOO_MANY) => Swap::Unknown,
            Some(code) => {
                let text = format!("{description} (code {code})");
                if FULL.contains(&code) { Swap::Full(text) } else { Swap::Broken(text) }
            }
            None => Swap::Unknown,
        },
        (Some(seq), None) if seq > 0 => Swap::Won(seq),
        _ => Swap::Unknown,
    }
}

/// The number of the newest message, where the text of a refusal names it.
fn newest_by(refusal: &str) -> Option<u64> {
    refusal.strip_prefix("wrong last sequence: ")?.parse().ok()
}

/// Has `event` come to a loop after a pause.
pub(crate) fn later<E: Send + 'static>(events: &UnboundedSender<E>, pause: Duration, event: E) {
    let events = events.clone();
    tokio::spawn(async move {
        self::pause(pause).await;
        let _ = events.send(event);
    });
}

/// Waits before something is asked or said. A timer without length would take a millisecond.
pub(crate) async fn pause(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

/// What a stored message says; what cannot be read is another's word.
pub(crate) fn word_of(stored: Option<Stored>) -> Word {
    stored.map_or(Word::Absent, |stored| {
        let unknown = Word::Done { seq: stored.seq, attempt: 0, ending: Ending::Final };
        wire::word(stored.seq, &stored.subject, &stored.payload).unwrap_or(unknown)
    })
}

/// Returns the seconds since a time in seconds of the epoch; 0 where the clocks differ.
pub(crate) fn age(time: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs()).saturating_sub(time)
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

/// An error with its causes.
fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text += &format!(": {more}");
        }
        cause = error.source();
    }
    text
}

/// The consumer that a delivery's reply subject names.
pub(crate) fn consumer(reply: &str) -> Option<&str> {
    let at = if reply.split('.').count() > 9 { 5 } else { 3 };
    reply.split('.').nth(at)
}

/// How many tasks a delivery's reply subject says are left in its queue.
pub(crate) fn left(reply: &str) -> usize {
    let mut parts = reply.split('.');
    let at = if parts.clone().count() > 9 { 10 } else { 8 };
    parts.nth(at).and_then(|left| left.parse().ok()).unwrap_or(0)
}

/// Returns the seconds of the epoch at a time such as `2026-11-28T20:43:01.5Z`.
fn seconds(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let time = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    // Days before March 1 of a year, counted from a year that begins with March.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some(days.checked_sub(719_468)? * 86_400 + time)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_is_read() {
        assert_eq!(super::seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(super::seconds("2026-11-28T20:43:01.123456Z"), Some(1_795_898_581));
        assert_eq!(super::seconds("yesterday"), None);
    }

    #[test]
    fn a_connection_that_is_away_is_not_given_up() {
        let mut server = aiopool_nats::Server::start();
        aiopool::block_on(async {
            let link = super::Link::connect(&server.url().into(), "t", "a test").await.unwrap();
            let wait = || tokio::time::sleep(std::time::Duration::from_millis(20));
            server.kill();
            while link.stands() {
                wait().await;
            }
            let before = *link.connections.borrow();
            link.reconnect();
            wait().await;
            server.restart();
            let mut connections = link.connections.clone();
            connections.wait_for(|count| *count > before).await.unwrap();
            // What was to be done to a connection comes before this.
            while link.api("INFO", &serde_json::Value::Null).await.is_err() {}
            wait().await;
            assert_eq!(*link.connections.borrow(), before + 1);
        });
    }

    #[test]
    fn an_answer_is_judged_by_its_code() {
        use super::{Swap, judge};
        assert_eq!(judge(br#"{"stream":"S","seq":7}"#), Swap::Won(7));
        assert_eq!(judge(br#"{"stream":"S","seq":0}"#), Swap::Unknown);
        let refused = |code| format!(r#"{{"error":{{"code":400,"err_code":{code}}},"seq":0}}"#);
        assert_eq!(judge(refused(10071).as_bytes()), Swap::Refused(None));
        assert_eq!(judge(refused(10164).as_bytes()), Swap::Refused(None));
        assert_eq!(judge(refused(10167).as_bytes()), Swap::Unknown);
        assert!(matches!(judge(refused(10077).as_bytes()), Swap::Full(_)));
        assert!(matches!(judge(refused(10059).as_bytes()), Swap::Broken(_)));
        assert_eq!(judge(br#"{"error":{"code":500}}"#), Swap::Unknown);
        assert_eq!(judge(b""), Swap::Unknown);
    }

    #[test]
    fn a_refusal_names_the_newest_message_or_says_nothing() {
        use super::{Swap, judge};
        let refusal = |code, text| {
            let error = format!(r#"{{"code":400,"err_code":{code},"description":"{text}"}}"#);
            judge(format!(r#"{{"error":{error},"stream":"S","seq":0}}"#).as_bytes())
        };
        assert_eq!(refusal(10071, "wrong last sequence: 42"), Swap::Refused(Some(42)));
        assert_eq!(refusal(10164, "wrong last sequence: 42"), Swap::Refused(None));
        assert_eq!(refusal(10071, "wrong last sequence"), Swap::Refused(None));
        assert_eq!(refusal(10071, "wrong last sequence: 42 or so"), Swap::Refused(None));
    }

    #[test]
    fn numbers_are_read_from_both_forms_of_a_reply() {
        assert_eq!(super::numbers("$JS.ACK.s.c.1.42.7.9.0"), Some((42, 7)));
        assert_eq!(super::numbers("$JS.ACK.d.a.s.c.1.42.7.9.0"), Some((42, 7)));
        assert_eq!(super::numbers("$JS.ACK.d.a.s.c.1.42.7.9.0.x"), Some((42, 7)));
        assert_eq!(super::left("$JS.ACK.s.c.1.42.7.9.5"), 5);
        assert_eq!(super::left("$JS.ACK.d.a.s.c.1.42.7.9.5.x"), 5);
        assert_eq!(super::left("$JS.ACK"), 0);
        assert_eq!(super::consumer("$JS.ACK.s.c.1.42.7.9.5"), Some("c"));
        assert_eq!(super::consumer("$JS.ACK.d.a.s.c.1.42.7.9.5.x"), Some("c"));
        assert_eq!(super::numbers("$JS.ACK"), None);
        assert_eq!(super::numbers(""), None);
    }
}
