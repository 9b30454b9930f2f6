//! How soon a pool is there.

use std::time::Instant;

use super::{Setup, Spec, pool};
use crate::contest::{Bar, Contest};

pub fn rows() -> Vec<Spec> {
    vec![Spec {
        name: "pool-start",
        about: "a pool of 2 made and its first result back, in a process that runs already",
        build: start,
    }]
}

fn start(setup: &Setup) -> anyhow::Result<Contest> {
    let mut contest = Contest::new("ms", || {
        let start = Instant::now();
        let pool = pool(2)?;
        let time = start.elapsed();
        drop(pool);
        Ok(time.as_secs_f64() * 1e3)
    })
    .against("2 x fork + exit", None, || {
        let time = crate::parts::fork_and_exit()? + crate::parts::fork_and_exit()?;
        Ok(time.as_secs_f64() * 1e3)
    });
    if let Some(python) = setup.python()? {
        let python = python.shared();
        for (rival, bar) in [("aiomultiprocess", 1.0 / 30.0), ("ProcessPoolExecutor", 1.0)] {
            let python = python.clone();
            contest = contest.against(rival, Some(Bar::AtMost(bar)), move || {
                python.ask(&format!("start {rival}"))
            });
        }
    }
    Ok(contest)
}
