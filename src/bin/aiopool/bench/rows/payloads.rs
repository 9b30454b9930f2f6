//! Large payloads: how much of the time is copying that cannot be helped.

use bytes::Bytes;

use super::super::contest::{Bar, Contest, quantile};
use super::copies::Copies;
use super::{BLOCK, Spec};

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
    let mut copies = Copies::of(size, COPIES);
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
    }))
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
