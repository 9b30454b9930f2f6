//! Large payloads: how much of the time is copying that cannot be helped.

use crate::parts::{CopiesAcross, Loans};
use bytes::Bytes;

use super::copies::Copies;
use super::{BLOCK, Spec, ns_each};
use crate::contest::{Bar, Contest, quantile};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "echo-64k",
            about: "64 KiB there and back as raw bytes, by copies; against as many memcpys",
            build: |_| echo(64 << 10),
        },
        Spec {
            name: "echo-1m",
            about: "1 MiB there and back as raw bytes, by copies; against as many memcpys",
            build: |_| echo(1 << 20),
        },
        Spec {
            name: "lent-1m",
            about: "1 MiB there and back without a copy, by the C API; against 64 bytes",
            build: |setup| lent(setup.lent),
        },
    ]
}

/// Copies on the way: into the request arena, out of it in the worker, into the result arena, out
/// of it at the host.
const COPIES: usize = 4;

async fn echo_bytes(payload: Bytes) -> Bytes {
    payload
}

fn echo(size: usize) -> anyhow::Result<Contest> {
    let pool = aiopool::Pool::builder().processes(1).build()?;
    let payload = Bytes::from(vec![7; size]);
    let (mut copies, mut across) = (Copies::of(size, COPIES), CopiesAcross::new(size)?);
    let trips = (4 << 20) / size as u64;
    // GB/s of payload: each is counted once a round trip.
    Ok(Contest::new("GB/s", move || {
        let back = pool.apply(echo_bytes, payload.clone()).wait()?;
        anyhow::ensure!(back == payload, "an echo came back changed");
        gigabytes(size, || {
            std::hint::black_box(pool.apply(echo_bytes, payload.clone()).wait()?);
            Ok(())
        })
    })
    .against("4 memcpys", Some(Bar::AtLeast(0.7)), move || {
        gigabytes(size, || {
            copies.once();
            Ok(())
        })
    })
    .against("4 memcpys, 2 there", Some(Bar::AtLeast(0.7)), move || {
        Ok((size as u64 * trips) as f64 / across.block(trips).as_nanos() as f64)
    }))
}

/// Both sides look at the first byte of what they get: how long filling and reading the rest takes is
/// the user's affair.
fn lent(function: u32) -> anyhow::Result<Contest> {
    const TRIPS: u64 = 1_000;
    let (mut large, mut small) = (Loans::new(function, 1 << 20)?, Loans::new(function, 64)?);
    Ok(Contest::new("ns", move || Ok(ns_each(large.block(TRIPS)?, TRIPS))).against(
        "64 bytes",
        Some(Bar::AtMost(1.1)),
        move || Ok(ns_each(small.block(TRIPS)?, TRIPS)),
    ))
}

fn gigabytes(size: usize, mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    for _ in 0..3 {
        once()?;
    }
    let mut times = Vec::new();
    let start = std::time::Instant::now();
    while start.elapsed() < BLOCK {
        let before = std::time::Instant::now();
        once()?;
        times.push(before.elapsed().as_nanos() as f64);
    }
    Ok(size as f64 / quantile(&times, 0.5))
}
