//! The machine itself: what all other figures stand on.

use crate::parts::{Bells, CacheLine, fork_and_exit};

use super::copies::Copies;
use super::{Spec, ns_each};
use crate::contest::{Contest, quantile};

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "floor-wake",
            about: "an eventfd round trip, both sides asleep, against a cache line's",
            build: |_| wake(),
        },
        Spec {
            name: "floor-fork",
            about: "fork of a process that leaves at once, against an eventfd round trip",
            build: |_| fork(),
        },
        Spec {
            name: "floor-memcpy",
            about: "memcpy of 1 MiB, against 64 KiB, each in its best layout",
            build: |_| memcpy(),
        },
    ]
}

fn wake() -> anyhow::Result<Contest> {
    let (mut bells, mut line) = (Bells::new()?, CacheLine::new()?);
    Ok(Contest::new("ns", move || Ok(ns_each(bells.block(50), 50))).against(
        "cache line",
        None,
        move || Ok(ns_each(line.block(5_000), 5_000)),
    ))
}

fn fork() -> anyhow::Result<Contest> {
    let mut bells = Bells::new()?;
    Ok(Contest::new("us", || {
        let times: Result<Vec<f64>, _> =
            (0..5).map(|_| fork_and_exit().map(|time| time.as_nanos() as f64 / 1e3)).collect();
        Ok(quantile(&times?, 0.5))
    })
    .against("eventfd there and back", None, move || Ok(ns_each(bells.block(50), 50) / 1e3)))
}

fn memcpy() -> anyhow::Result<Contest> {
    Ok(Contest::new("GB/s", copier(1 << 20)).against("64 KiB", None, copier(64 << 10)))
}

fn copier(size: usize) -> impl FnMut() -> anyhow::Result<f64> {
    let mut copies = Copies::of(size, 1);
    move || {
        let times: Vec<f64> = (0..20).map(|_| copies.timed()).collect();
        Ok(size as f64 / quantile(&times, 0.5))
    }
}
