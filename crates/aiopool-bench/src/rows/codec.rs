//! What the codec costs that changes no value: beside tasks that take and give bytes, which their code
//! encodes by postcard, the format beneath, as it is.

use aiopool::Pool;
use anyhow::Context;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Spec, millions, pool};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![Spec {
        name: "codec",
        about: "tasks that take and give a record of six fields, against bytes and bare postcard",
        build: |_| codec(),
    }]
}

/// Tasks of a block: some 50 ms.
const TASKS: u64 = 100_000;
/// The codec's checks may cost 3 % of a task.
const BAR: Bar = Bar::AtLeast(0.97);

/// What a task of the reference workload might be given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    url: String,
    kind: Kind,
    depth: u32,
    referrer: Option<String>,
    sizes: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    List,
    Detail { shelf: u16 },
}

impl Record {
    fn of(id: u64) -> Self {
        Self {
            id,
            url: "https://books.example.com/catalogue/a-light-in-the-attic_1000/".to_owned(),
            kind: if id.is_multiple_of(2) { Kind::List } else { Kind::Detail { shelf: 7 } },
            depth: 3,
            referrer: Some("https://books.example.com/catalogue/page-1.html".to_owned()),
            sizes: vec![1, 200, 30_000],
        }
    }
}

async fn record(mut record: Record) -> Record {
    record.depth += 1;
    record
}

async fn bare(bytes: Bytes) -> Bytes {
    let mut record: Record = postcard::from_bytes(&bytes).expect("a record");
    record.depth += 1;
    postcard::to_stdvec(&record).expect("memory").into()
}

fn codec() -> anyhow::Result<Contest> {
    let (ours, bytes) = (pool(1)?, pool(1)?);
    Ok(Contest::new("M/s", move || checked(&ours)).against(
        "bytes and postcard",
        Some(BAR),
        move || unchecked(&bytes),
    ))
}

fn checked(pool: &Pool) -> anyhow::Result<f64> {
    let start = std::time::Instant::now();
    for (n, result) in (0..).zip(pool.map(record, (0..TASKS).map(Record::of)).into_blocking_iter())
    {
        let record = result?;
        anyhow::ensure!((record.id, record.depth) == (n, 4), "another record");
    }
    Ok(millions(start.elapsed(), TASKS))
}

fn unchecked(pool: &Pool) -> anyhow::Result<f64> {
    let encoded = |n| Bytes::from(postcard::to_stdvec(&Record::of(n)).expect("memory"));
    let start = std::time::Instant::now();
    for (n, result) in (0..).zip(pool.map(bare, (0..TASKS).map(encoded)).into_blocking_iter()) {
        let record: Record = postcard::from_bytes(&result?).context("a record")?;
        anyhow::ensure!((record.id, record.depth) == (n, 4), "another record");
    }
    Ok(millions(start.elapsed(), TASKS))
}
