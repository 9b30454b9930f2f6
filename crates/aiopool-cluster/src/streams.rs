//! What the server is asked to make, to purge and to send: streams, consumers, deliveries.

use std::time::{Duration, Instant};

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

impl Link {
    pub(crate) async fn make_streams(&self, replicas: usize) -> Result<()> {
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
        let (blobs, subject) = (self.names.blobs(), format!("aiopool.{pool}.b.>"));
        self.make(with(json!({"name": blobs, "subjects": [subject]}))).await?;
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
            let info = self.api(&what, &asked).await.map_err(|_| ())?;
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
        Some(Space { limit, used: info["state"]["bytes"].as_u64()? })
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
                Swap::Refused | Swap::Won(_) => return None,
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

    /// Has everything that is written of a job sent to `inbox`, from message `from` on.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) async fn collect(
        &self,
        job: u128,
        from: u64,
        inbox: &str,
    ) -> std::result::Result<(), Refusal> {
        let (stream, filter) = (self.names.stream(), self.names.written_of_job(job));
        let asked = json!({"stream_name": stream, "config": {
            "deliver_subject": inbox, "filter_subject": filter, "ack_policy": "none",
            "deliver_policy": "by_start_sequence", "opt_start_seq": from.max(1),
            "replay_policy": "instant", "idle_heartbeat": 2_000_000_000_u64,
            "inactive_threshold": 60_000_000_000_u64, "mem_storage": true, "num_replicas": 1,
        }});
        self.api(&format!("CONSUMER.CREATE.{stream}"), &asked).await.map(drop)
    }
}
