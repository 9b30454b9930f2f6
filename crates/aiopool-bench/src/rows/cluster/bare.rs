//! What the server does by itself, with the same client: each task is published, pulled,
//! acknowledged, its result published and collected, and nothing is promised of it.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::Context;
use async_nats::{Client, Message, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::scene::{Other, Scene};

/// Deliveries that are asked for at a time.
const BATCH: usize = 500;

/// Tasks that are out at once: as many as a map of ours has.
const WINDOW: usize = 1_024;

/// As long as a task's input of ours with what is sent beside it.
const PAYLOAD: Bytes = Bytes::from_static(&[7; 32]);

pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Asks JetStream for something.
pub async fn ask(client: &Client, what: &str, payload: &Value) -> anyhow::Result<Value> {
    let payload = Bytes::from(payload.to_string());
    let answer = client.request(format!("$JS.API.{what}"), payload).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    anyhow::ensure!(answer.get("error").is_none(), "{what}: {answer}");
    Ok(answer)
}

/// Publishes and waits until it is stored.
pub async fn store(client: &Client, subject: String, payload: Bytes) -> anyhow::Result<()> {
    let answer = client.request(subject, payload).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    anyhow::ensure!(answer["seq"].is_u64(), "it is not stored: {answer}");
    Ok(())
}

pub struct Bare {
    runtime: Runtime,
    client: Client,
    results: Subscriber,
    other: Other,
}

impl Bare {
    /// Connects, and starts the process that answers: `echo` or `bare`.
    pub fn start(scene: &Scene, what: &str) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let url = scene.url.as_str();
        let (client, results) = runtime.block_on(async {
            let client = async_nats::connect(url).await?;
            let stream = json!({
                "name": "BARE", "subjects": ["bare.>"], "storage": "file", "retention": "limits",
                "max_msgs_per_subject": 1, "discard": "new",
            });
            ask(&client, "STREAM.CREATE.BARE", &stream).await?;
            let workers = json!({"stream_name": "BARE", "config": {
                "durable_name": "workers", "filter_subject": "bare.q.>", "ack_policy": "explicit",
                "max_ack_pending": -1,
            }});
            ask(&client, "CONSUMER.CREATE.BARE.workers.bare.q.>", &workers).await?;
            let inbox = client.new_inbox();
            let results = client.subscribe(inbox.clone()).await?;
            let collector = json!({"stream_name": "BARE", "config": {
                "deliver_subject": inbox, "filter_subject": "bare.d.>", "ack_policy": "none",
                "mem_storage": true, "num_replicas": 1,
            }});
            ask(&client, "CONSUMER.CREATE.BARE", &collector).await?;
            anyhow::Ok((client, results))
        })?;
        let other = Other::start(&["cluster-bare", url, what], None)?;
        let bare = Self { runtime, client, results, other };
        if what == "echo" {
            let start = Instant::now();
            while let Err(error) = bare.four_trips() {
                anyhow::ensure!(start.elapsed() < Duration::from_secs(20), error);
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(bare)
    }

    /// The other process.
    pub fn pid(&self) -> u32 {
        self.other.pid()
    }

    /// A request to the other process, and three publishes, one after the other.
    pub fn four_trips(&self) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            self.client.request("echo", PAYLOAD).await?;
            for n in 0..3 {
                store(&self.client, format!("bare.x.{n}"), PAYLOAD).await?;
            }
            Ok(())
        })
    }

    /// The time from the first of `tasks` to the last result.
    pub fn round(&mut self, tasks: u64) -> anyhow::Result<Duration> {
        let Self { runtime, client, results, .. } = self;
        runtime.block_on(async {
            let start = Instant::now();
            let (mut sent, mut done) = (0, 0);
            let mut storing = FuturesUnordered::new();
            while done < tasks {
                while sent < tasks && sent - done < WINDOW as u64 {
                    storing.push(store(client, format!("bare.q.{sent}"), PAYLOAD));
                    sent += 1;
                }
                tokio::select! {
                    Some(stored) = storing.next() => stored?,
                    result = results.next() => {
                        result.context("the connection was closed")?;
                        done += 1;
                    }
                }
            }
            let time = start.elapsed();
            ask(client, "STREAM.PURGE.BARE", &Value::Null).await?;
            Ok(time)
        })
    }
}

/// The other process, until its standard input ends.
pub fn serve(url: &str, what: &str) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    runtime()?.block_on(async {
        let client = async_nats::connect(url).await?;
        match what {
            "echo" => echo(client).await,
            _ => work(client).await,
        }
    })
}

async fn echo(client: Client) -> anyhow::Result<()> {
    let mut asked = client.subscribe("echo").await?;
    while let Some(message) = asked.next().await {
        client.publish(message.reply.context("no request")?, message.payload).await?;
    }
    Ok(())
}

async fn work(client: Client) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut deliveries = client.subscribe(inbox.clone()).await?;
    let mut asked = 0;
    let mut storing = FuturesUnordered::new();
    loop {
        if asked <= BATCH / 2 {
            let batch = BATCH - asked;
            let wanted = json!({"batch": batch, "expires": 30_000_000_000_u64}).to_string();
            let subject = "$JS.API.CONSUMER.MSG.NEXT.BARE.workers";
            client.publish_with_reply(subject, inbox.clone(), wanted.into()).await?;
            asked = BATCH;
        }
        tokio::select! {
            Some(stored) = storing.next() => stored?,
            message = deliveries.next() => {
                let Message { subject, reply, payload, status, .. } =
                    message.context("the connection was closed")?;
                if status.is_some() {
                    // What was asked for has expired: nothing of it is on its way.
                    asked = 0;
                    continue;
                }
                asked -= 1;
                let n = subject.as_str().rsplit('.').next().unwrap_or_default();
                storing.push(store(&client, format!("bare.d.{n}"), payload));
                client.publish(reply.context("no delivery")?, "+ACK".into()).await?;
            }
        }
    }
}
