//! What the server is asked to make, to purge and to send: streams, consumers, deliveries.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::task::unconstrained;

use crate::error::{Error, Result};
use crate::link::{
    AGAIN, JOBS, Link, NO_SEQ, NO_STREAM, NODES, Refusal, STREAM_EXISTS, Space, Swap,
};
use crate::protocol::{CHUNK, Chunks};
use crate::wire::{self, CLASSES, Hint, Names};

/// How long the answer to a try is waited for.
const TRY: Duration = Duration::from_secs(2);

/// How long silence is taken for that of a stream that has no leader for the moment: elections take
/// seconds on a busy machine.
const ELECTION: Duration = Duration::from_secs(30);

/// The pause between two tries to make what is missing of streams and buckets.
const MEND: Duration = Duration::from_secs(3);

/// What is said of a subject that nobody answers on.
const SILENT: &str = "nobody answers what is published to it";

/// Who connects: each has rights of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Submitter,
    Node,
}

/// The name of the consumer of a class and build: another configuration is another name.
pub(crate) fn consumer_name(class: u8, build: &str) -> String {
    format!("v2-{class}-{build}")
}

/// What a setting of a stream has to be.
#[derive(Clone, Copy, Debug)]
enum Need {
    Is(&'static str),
    One,
    /// No number at all, or one that stands for none.
    Unlimited,
    /// Not there, or what the server has in its place.
    Nothing,
}

/// The settings that the protocol needs, in the order in which they are looked at: what each has to be,
/// what would go wrong, and whether the server changes it where a stream is there. All others may be as
/// an operator has them, such as replicas, `max_bytes` and `compression`.
const SETTINGS: [(&str, Need, &str, bool); 16] = [
    ("sealed", Need::Nothing, "nothing could be stored", false),
    ("mirror", Need::Nothing, "nothing could be stored", false),
    ("sources", Need::Nothing, "messages of others would come in", true),
    ("subject_transform", Need::Nothing, "messages would be stored as those of others", true),
    ("storage", Need::Is("file"), "a restart of the server would lose tasks", false),
    ("persist_mode", Need::Nothing, "a killed server would lose tasks", false),
    ("allow_msg_counter", Need::Nothing, "nothing but counters could be stored", false),
    ("retention", Need::Is("limits"), "tasks would be removed when they are claimed", false),
    ("discard", Need::Is("new"), "a full stream would drop tasks", true),
    ("discard_new_per_subject", Need::Nothing, "a word could not be replaced", true),
    ("max_age", Need::Nothing, "tasks would be dropped that wait for long", true),
    ("max_msgs", Need::Unlimited, "only a limit of bytes is reckoned with", true),
    ("max_msgs_per_subject", Need::One, "words that were replaced would fill the stream", true),
    ("max_msg_size", Need::Unlimited, "large messages could not be stored", true),
    ("no_ack", Need::Nothing, "nobody would know what is stored", true),
    ("deny_purge", Need::Nothing, "what is over could not be removed", false),
];

impl Need {
    fn is_met(self, value: &Value) -> bool {
        match self {
            Self::Is(text) => value == text,
            Self::One => value == 1,
            Self::Unlimited => value.as_i64().is_none_or(|most| most <= 0),
            Self::Nothing => match value {
                Value::Null | Value::Bool(false) => true,
                Value::Number(number) => number.as_i64() == Some(0),
                Value::String(text) => text.is_empty() || text == "default",
                Value::Array(list) => list.is_empty(),
                _ => false,
            },
        }
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Is(text) => write!(f, "has to be \"{text}\""),
            Self::One => write!(f, "has to be 1"),
            Self::Unlimited => write!(f, "has to be -1"),
            Self::Nothing => write!(f, "is not to be set"),
        }
    }
}

/// Why a stream or a bucket is not as it is to be.
#[derive(Debug)]
pub(crate) struct Unmade {
    /// Whether it may be for want of a leader alone.
    may_pass: bool,
    error: Error,
}

impl From<Unmade> for Error {
    fn from(unmade: Unmade) -> Self {
        unmade.error
    }
}

/// Checks a stream that is there, made by this program or by hand.
fn check(name: &str, subjects: &[String], config: &Value) -> Result<()> {
    let change = format!("change it with `nats stream edit {name}`");
    let wrong = |setting: &str, need: String, why: &str, what: String| {
        let value = &config[setting];
        let text = format!("{name}: {setting} is {value} and {need}, or {why}: {what}");
        Err(Error::Server(text))
    };
    for (setting, need, why, can_change) in SETTINGS {
        if need.is_met(&config[setting]) {
            continue;
        }
        let what = if can_change {
            change
        } else {
            format!(
                "remove the stream with what is in it (`nats stream rm {name}`), and the next \
                 connection makes it as it is to be"
            )
        };
        return wrong(setting, need.to_string(), why, what);
    }
    let there = config["subjects"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let there: BTreeSet<&str> = there.collect();
    if there != subjects.iter().map(String::as_str).collect() {
        let need = format!("has to be {}", json!(subjects));
        return wrong("subjects", need, "messages would be missing or in excess", change);
    }
    Ok(())
}

impl Link {
    /// The pool's streams and the buckets, with their subjects; the first has the words.
    fn streams(&self) -> [(String, Vec<String>); 4] {
        let pool = &self.names.pool;
        let words = vec![format!("aiopool.{pool}.q.>"), format!("aiopool.{pool}.w.>")];
        let bucket = |bucket| (format!("KV_{bucket}"), vec![format!("$KV.{bucket}.>")]);
        let blobs = (self.names.blobs(), vec![format!("aiopool.{pool}.b.>")]);
        [(self.names.stream(), words), blobs, bucket(NODES), bucket(JOBS)]
    }

    /// Makes what is missing of the pool's streams and of the buckets, and checks what is there.
    pub(crate) async fn make_streams(&self) -> std::result::Result<(), Unmade> {
        let Some(replicas) = self.replicas else { return Ok(()) };
        for (name, subjects) in self.streams() {
            self.make(name, subjects, replicas).await?;
        }
        Ok(())
    }

    /// Whether the pool is there, of which what is there is checked. The words' stream is the first
    /// to be made: where another one is missing, it is being made, or made again.
    pub(crate) async fn has_streams(&self) -> std::result::Result<bool, Unmade> {
        let mut there = Vec::new();
        for (name, subjects) in self.streams() {
            there.push(self.is_there(&name, &subjects).await?);
        }
        Ok(there[0])
    }

    fn unmade(&self, name: &str, refusal: Refusal) -> Unmade {
        let may_pass = refusal.may_pass() && self.complaint().is_none();
        Unmade { may_pass, error: self.server(name, refusal) }
    }

    /// Whether a stream is there, and as it is to be.
    async fn is_there(&self, name: &str, subjects: &[String]) -> std::result::Result<bool, Unmade> {
        let info = match self.api(&format!("STREAM.INFO.{name}"), &Value::Null).await {
            Ok(info) => info,
            Err(Refusal::Code(NO_STREAM, _)) => return Ok(false),
            Err(refusal) => return Err(self.unmade(name, refusal)),
        };
        let config = &info["config"];
        check(name, subjects, config).map_err(|error| Unmade { may_pass: false, error })?;
        let has = config["num_replicas"].as_u64().unwrap_or(1);
        // Relaxed: a reader has the link from the task that wrote it.
        self.kept_by.fetch_max(has, Ordering::Relaxed);
        if let Some(asked) = self.replicas.filter(|&asked| (asked as u64) > has) {
            tracing::warn!(
                "{name} is there and has replicas {has}, where {asked} were asked for: change it \
                 with `nats stream edit {name} --replicas {asked}`"
            );
        }
        Ok(true)
    }

    async fn make(
        &self,
        name: String,
        subjects: Vec<String>,
        replicas: usize,
    ) -> std::result::Result<(), Unmade> {
        let config = json!({
            "name": name, "subjects": subjects, "num_replicas": replicas,
            "retention": "limits", "storage": "file", "discard": "new",
            "max_msgs_per_subject": 1, "max_age": 0,
        });
        for _ in 0..2 {
            if self.is_there(&name, &subjects).await? {
                return Ok(());
            }
            match self.api(&format!("STREAM.CREATE.{name}"), &config).await {
                Ok(_) => {
                    self.kept_by.fetch_max(replicas as u64, Ordering::Relaxed);
                    return Ok(());
                }
                // Another has made it meanwhile, in another way.
                Err(Refusal::Code(STREAM_EXISTS, _)) => {}
                Err(refusal) => return Err(self.unmade(&name, refusal)),
            }
        }
        Ok(())
    }

    /// Makes what is missing again, where a stream or a bucket was deleted under a pool that runs: once
    /// at a time, and not at once again. The caller that missed it goes on asking meanwhile.
    pub(crate) fn mend(&self) {
        let Ok(mut last) = self.mended.lock() else { return };
        if last.is_some_and(|last| last.elapsed() < MEND) {
            return;
        }
        *last = Some(Instant::now());
        let link = self.clone();
        tokio::spawn(async move {
            // A stream that elects a leader answers nothing either, and is not missing.
            if let Err(Unmade { may_pass: false, error }) = link.make_streams().await {
                tracing::warn!(%error, "a stream or a bucket of the pool is missing");
            }
        });
    }

    /// Removes a key for good, as it was in `revision`: what was written over it since stays.
    pub(crate) async fn forget_key(&self, bucket: &str, key: &str, revision: u64) {
        let asked = json!({"filter": format!("$KV.{bucket}.{key}"), "seq": revision + 1});
        let _ = self.api(&format!("STREAM.PURGE.KV_{bucket}"), &asked).await;
    }

    /// Purges what matches `filter` from the pool's stream; true if the server did.
    pub(crate) async fn purge(&self, filter: &str) -> bool {
        let stream = self.names.stream();
        self.api(&format!("STREAM.PURGE.{stream}"), &json!({"filter": filter})).await.is_ok()
    }

    /// Lists the subjects of a stream that match `filter`. The server gives a part of them at a time;
    /// while many come and go, some may be missed.
    pub(crate) async fn subjects(
        &self,
        stream: &str,
        filter: &str,
    ) -> std::result::Result<Vec<String>, ()> {
        let (what, mut all) = (format!("STREAM.INFO.{stream}"), Vec::new());
        loop {
            let asked = json!({"subjects_filter": filter, "offset": all.len()});
            let info = match self.api(&what, &asked).await {
                Ok(info) => info,
                Err(refusal) if self.is_unmade(&refusal) => return Ok(all),
                Err(_) => return Err(()),
            };
            let before = all.len();
            let subjects = info["state"]["subjects"].as_object();
            all.extend(subjects.into_iter().flat_map(|subjects| subjects.keys().cloned()));
            let in_all = info["total"].as_u64().unwrap_or_default();
            if all.len() as u64 >= in_all || all.len() == before {
                return Ok(all);
            }
        }
    }

    /// Makes the durable consumer from which the nodes of `build` pull tasks of a class, and returns
    /// its name.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) async fn consumer(
        &self,
        class: u8,
        build: &str,
    ) -> std::result::Result<String, Refusal> {
        let (stream, name) = (self.names.stream(), consumer_name(class, build));
        let filter = self.names.queues(class, build);
        let asked = json!({"stream_name": stream, "config": {
            "durable_name": name, "name": name, "filter_subject": filter,
            "deliver_policy": "all", "ack_policy": "explicit", "ack_wait": 10_000_000_000_u64,
            "max_deliver": -1, "max_ack_pending": -1, "replay_policy": "instant",
        }});
        let what = format!("CONSUMER.CREATE.{stream}.{name}.{filter}");
        self.api(&what, &asked).await.map(|_| name)
    }

    /// Whether the queue of a class and build has given everything out, and is waiting for no
    /// acknowledgement; false where the server does not say so, or no node has made the queue.
    pub(crate) async fn is_idle(&self, class: u8, build: &str) -> bool {
        let (stream, name) = (self.names.stream(), consumer_name(class, build));
        let info = self.api(&format!("CONSUMER.INFO.{stream}.{name}"), &Value::Null).await;
        info.is_ok_and(|info| info["num_pending"] == 0 && info["num_ack_pending"] == 0)
    }

    /// Returns when the oldest task of a build was queued that no node was given, in seconds of the
    /// epoch; where no node has made the queue, the oldest of all.
    pub(crate) async fn oldest(&self, build: &str) -> std::result::Result<Option<u64>, ()> {
        let stream = self.names.stream();
        let mut oldest = None;
        for class in 0..CLASSES {
            let what = format!("CONSUMER.INFO.{stream}.{}", consumer_name(class, build));
            let info = self.api(&what, &Value::Null).await;
            let given =
                info.map_or(0, |info| info["delivered"]["stream_seq"].as_u64().unwrap_or(0));
            let asked = json!({"seq": given + 1, "next_by_subj": self.names.queues(class, build)});
            if let Some(stored) = self.stored(&stream, &asked).await? {
                oldest = Some(oldest.map_or(stored.time, |time: u64| time.min(stored.time)));
            }
        }
        Ok(oldest)
    }

    /// Returns how full the pool's stream is, if the server says so.
    pub(crate) async fn space(&self) -> Option<Space> {
        let stream = self.names.stream();
        let info = self.api(&format!("STREAM.INFO.{stream}"), &Value::Null).await.ok()?;
        let limit = info["config"]["max_bytes"].as_i64().and_then(|most| u64::try_from(most).ok());
        let used = info["state"]["bytes"].as_u64()?;
        let consumers = info["state"]["consumer_count"].as_u64().unwrap_or_default();
        Some(Space { limit, used, consumers })
    }

    /// Tries what a role has to have the right to: swaps that expect what cannot be, and requests that
    /// change nothing. Each has to be answered, if only by the news that nobody is there.
    pub(crate) async fn try_rights(&self, role: Role) -> Result<()> {
        let Names { pool } = &*self.names;
        let (stream, blobs) = (self.names.stream(), self.names.blobs());
        let [nodes, jobs] = [NODES, JOBS].map(|bucket| format!("KV_{bucket}"));
        let nothing = format!("aiopool.{pool}.probe");
        let (kinds, more) = match role {
            Role::Submitter => (
                &["q", "w", "b"][..],
                [format!("$JS.API.CONSUMER.INFO.{stream}.probe"), self.names.hints("probe")],
            ),
            Role::Node => (
                &["w", "b"][..],
                [
                    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.probe"),
                    format!("$JS.ACK.{stream}.probe"),
                ],
            ),
        };
        let words = kinds.iter().map(|kind| format!("aiopool.{pool}.{kind}.0.probe.0.0.0"));
        let keys = [NODES, JOBS].map(|bucket| format!("$KV.{bucket}.{pool}.probe"));
        let swaps = words.chain(keys).map(|subject| async move {
            let swap = || self.swap(subject.clone(), &subject, NO_SEQ, Bytes::new(), TRY);
            let said = match self.once_led(swap, |swap| *swap == Swap::Unknown).await {
                Swap::Refused(_) | Swap::Won(_) => return None,
                Swap::Full(text) | Swap::Broken(text) => text,
                Swap::Unknown => SILENT.to_owned(),
            };
            Some(format!("{subject}: {said}"))
        });
        let reads = [&stream, &blobs, &nodes, &jobs]
            .map(|of| (format!("$JS.API.STREAM.MSG.GET.{of}"), json!({"last_by_subj": nothing})));
        let purges = [&stream, &blobs, &jobs]
            .map(|of| (format!("$JS.API.STREAM.PURGE.{of}"), json!({"filter": nothing})));
        let more = more.map(|subject| (subject, Value::Null));
        let asked = reads.into_iter().chain(purges).chain(more).map(|(subject, what)| async move {
            let ask = || self.is_answered(&subject, &what, TRY);
            let is_answered = self.once_led(ask, |is_answered| !is_answered).await;
            (!is_answered).then(|| format!("{subject}: {SILENT}"))
        });
        let (swaps, asked) = tokio::join!(join_all(swaps), join_all(asked));
        let missing = swaps.into_iter().chain(asked).flatten().next();
        // What was subscribed to before this may have been refused, too.
        match self.complaint().or(missing) {
            Some(text) => Err(Error::Server(text)),
            None => Ok(()),
        }
    }

    /// Asks, and again while the answer `may_pass`: it may be that of a stream without a leader. Where
    /// a right is missing, the server has said so meanwhile.
    pub(crate) async fn once_led<T, F: Future<Output = T>>(
        &self,
        ask: impl Fn() -> F,
        may_pass: impl Fn(&T) -> bool,
    ) -> T {
        let begun = Instant::now();
        loop {
            let answer = ask().await;
            let waits = begun.elapsed() < ELECTION && self.complaint().is_none();
            if !(waits && may_pass(&answer)) {
                return answer;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Tells a node to read words; nothing says whether it did.
    pub(crate) fn hint(&self, node: &str, hint: Hint) {
        self.say(self.names.hints(node), wire::encode(&hint));
    }

    /// Publishes what has no answer.
    pub(crate) fn say(&self, subject: String, payload: Bytes) {
        let client = self.client.clone();
        let publish = async move { client.publish(subject, payload).await };
        let mut publish = Box::pin(unconstrained(publish));
        if publish.as_mut().now_or_never().is_none() {
            tokio::spawn(publish);
        }
    }

    /// Purges a job's tasks from `from` to before `to`, and then what belongs to them; true if the
    /// server did all of it.
    pub(crate) async fn purge_tasks(&self, job: u128, from: u64, to: u64, blobs: bool) -> bool {
        let (names, mut filters) = (&self.names, Vec::new());
        let mut n = from;
        while n < to {
            let chunk = Chunks::of(n);
            let next = if n == chunk * CHUNK && n + CHUNK <= to {
                filters.push((names.of_chunk(job, chunk), names.blobs_of_chunk(job, chunk)));
                n + CHUNK
            } else {
                filters.push((names.of_task(job, n), names.blobs_of_task(job, n)));
                n + 1
            };
            n = next;
        }
        for (words, pieces) in filters {
            if !self.purge(&words).await || (blobs && !self.purge_blobs(&pieces).await) {
                return false;
            }
        }
        true
    }

    /// Purges all that there is of a job; true if the server did.
    pub(crate) async fn purge_job(&self, job: u128) -> bool {
        self.purge(&self.names.of_job(job)).await
            && self.purge_blobs(&self.names.blobs_of_job(job)).await
    }

    async fn purge_blobs(&self, filter: &str) -> bool {
        let stream = self.names.blobs();
        self.api(&format!("STREAM.PURGE.{stream}"), &json!({"filter": filter})).await.is_ok()
    }

    /// Asks for at most `batch` deliveries to `inbox`, for half a minute.
    pub(crate) async fn pull(&self, consumer: &str, batch: usize, inbox: &str) -> bool {
        let stream = self.names.stream();
        let asked = json!({
            "batch": batch, "expires": 30_000_000_000_u64, "idle_heartbeat": 10_000_000_000_u64,
        });
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let payload = Bytes::from(asked.to_string());
        self.client.publish_with_reply(subject, inbox.to_owned(), payload).await.is_ok()
    }

    /// Has everything that is written of a job sent here, from message `from` on, or from the first
    /// where the stream has not come so far: then it is another than it was. Returns where it begins.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) async fn collector(
        &self,
        job: u128,
        from: u64,
    ) -> std::result::Result<(Subscriber, u64), Refusal> {
        let (stream, filter) = (self.names.stream(), self.names.written_of_job(job));
        let info = self.api(&format!("STREAM.INFO.{stream}"), &Value::Null).await?;
        let last = info["state"]["last_seq"].as_u64().unwrap_or_default();
        let from = if from > last + 1 { 1 } else { from };
        // Each has an inbox of its own: what an earlier one still sends is not mixed in.
        let inbox = self.client.new_inbox();
        let words = self.client.subscribe(inbox.clone()).await.map_err(|_| Refusal::Silent)?;
        let asked = json!({"stream_name": stream, "config": {
            "deliver_subject": inbox, "filter_subject": filter, "ack_policy": "none",
            "deliver_policy": "by_start_sequence", "opt_start_seq": from,
            "replay_policy": "instant", "idle_heartbeat": 2_000_000_000_u64,
            "inactive_threshold": 60_000_000_000_u64, "mem_storage": true, "num_replicas": 1,
        }});
        self.api(&format!("CONSUMER.CREATE.{stream}"), &asked).await?;
        Ok((words, from))
    }
}
