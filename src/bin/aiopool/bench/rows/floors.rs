//! The machine itself: what all other figures stand on.

use super::super::contest::{Contest, quantile};
use super::{Spec, ns_each};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "floor-wake",
            about: "an eventfd round trip, both sides asleep, against a cache line's",
            build: |_| wake(),
        },
        Spec {
            name: "floor-memcpy",
            about: "memcpy of 1 MiB, against 64 KiB",
            build: |_| memcpy(),
        },
    ]
}

fn wake() -> anyhow::Result<Contest> {
    let mut bells = aiopool::bench::Bells::new()?;
    let mut line = aiopool::bench::CacheLine::new()?;
    Ok(Contest::new("ns", move || Ok(ns_each(bells.block(50), 50))).against(
        "cache line",
        None,
        move || Ok(ns_each(line.block(5_000), 5_000)),
    ))
}

fn memcpy() -> anyhow::Result<Contest> {
    Ok(Contest::new("GB/s", copier(1 << 20)).against("64 KiB", None, copier(64 << 10)))
}

fn copier(size: usize) -> impl FnMut() -> anyhow::Result<f64> {
    let (from, mut to) = (vec![1_u8; size], vec![2_u8; size]);
    move || {
        let times: Vec<f64> = (0..20)
            .map(|_| {
                let start = std::time::Instant::now();
                to.copy_from_slice(std::hint::black_box(&from));
                std::hint::black_box(&mut to);
                start.elapsed().as_nanos() as f64
            })
            .collect();
        Ok(size as f64 / quantile(&times, 0.5))
    }
}
