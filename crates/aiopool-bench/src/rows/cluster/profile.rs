//! Where the processor time of a task goes, process by process:
//! `aiopool bench --partner cluster-profile WHAT TASKS ITEMS ROUNDS`. No row: it compares nothing.

use std::time::Instant;

use anyhow::Context;

use super::bare::Bare;
use super::scene::Scene;
use super::{map_noops, waits};
use crate::rows::{idle::cpu_ns_of, same};

/// One party of the scene, and its processes.
type Party = (&'static str, Vec<u32>);

/// Prints, for each round, the time of a task and what it takes of each party's processors. `what` is
/// `noop`, `wait`, `apply`, or of the bare exchange `bare` or `echo`.
pub fn cluster_profile(what: &str, tasks: &str, items: &str, rounds: &str) -> anyhow::Result<()> {
    let (tasks, items): (u64, usize) = (tasks.parse()?, items.parse()?);
    let scene = Scene::of_node(2, if what == "noop" { 256 } else { 16 })?;
    let is_bare = matches!(what, "bare" | "echo");
    let mut bare = if is_bare { Some(Bare::start(&scene, what)?) } else { None };
    let cluster = scene.cluster(items)?;
    let server = scene.server.as_ref().and_then(|server| server.pid());
    let agent = scene.agent().context("the node's agent")?;
    let others = scene.family().into_iter().filter(|&pid| pid != agent).collect();
    let mut parties: Vec<Party> = vec![
        ("server", vec![server.context("the server's process")?]),
        ("submitter", vec![std::process::id()]),
        ("agent", vec![agent]),
        ("zygote and workers", others),
    ];
    parties.extend(bare.iter().map(|bare| ("the other process", vec![bare.pid()])));
    for _ in 0..rounds.parse()? {
        let before: Vec<u64> =
            parties.iter().map(|(_, pids)| cpu_ns_of(pids)).collect::<Result<_, _>>()?;
        let start = Instant::now();
        match (what, &mut bare) {
            ("noop", _) => drop(map_noops(&cluster, tasks)?),
            ("wait", _) => (waits().there)(&cluster, tasks)?,
            ("apply", _) => {
                for _ in 0..tasks {
                    anyhow::ensure!(cluster.apply(same, 7).wait()? == 7, "a wrong result");
                }
            }
            ("bare", Some(bare)) => drop(bare.round(tasks)?),
            ("echo", Some(bare)) => (0..tasks).try_for_each(|_| bare.four_trips())?,
            _ => anyhow::bail!("there is no {what}"),
        }
        let us = |ns: u64| ns as f64 / 1e3 / tasks as f64;
        print!("{what}: {:.1} µs a task", us(start.elapsed().as_nanos() as u64));
        let mut sum = 0.0;
        for ((name, pids), before) in parties.iter().zip(before) {
            let took = us(cpu_ns_of(pids)? - before);
            sum += took;
            print!("; {name} {took:.1}");
        }
        println!("; in all {sum:.1} of processors");
    }
    Ok(())
}
