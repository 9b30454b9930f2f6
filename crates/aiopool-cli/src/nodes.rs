//! `aiopool nodes`: who serves a pool of several machines, and what waits there.

use std::process::ExitCode;

use aiopool_cluster::{Overview, observe};

/// Show the nodes, queues and jobs of a pool over NATS
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The servers, told apart by commas
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: String,
    /// The pool
    #[arg(long, default_value = "default")]
    pool: String,
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let overview = aiopool::block_on(observe(&args.nats, &args.pool))?;
    if args.json {
        println!("{}", serde_json::to_string(&overview)?);
    } else {
        print!("{}", table(&overview));
    }
    Ok(ExitCode::SUCCESS)
}

fn table(overview: &Overview) -> String {
    let head = ["node", "state", "host", "pid", "build", "taken/places", "done", "failed"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for node in &overview.nodes {
        let state = match (node.alive, node.draining) {
            (false, _) => "gone",
            (true, true) => "draining",
            (true, false) => "alive",
        };
        rows.push(vec![
            node.name.clone(),
            state.to_owned(),
            node.host.clone(),
            node.pid.to_string(),
            node.build.clone(),
            format!("{}/{}", node.taken, node.places),
            node.done.to_string(),
            node.failed.to_string(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    for job in &overview.jobs {
        let (state, job_name) = (if job.alive { "alive" } else { "over" }, &job.job);
        text += &format!("job {job_name} of {}: {state}, {} messages\n", job.holder, job.messages);
    }
    for (build, queued) in &overview.queued {
        text += &format!("build {build}: {queued} queued or claimed\n");
    }
    for build in &overview.without_node {
        text += &format!("build {build}: no node has this build; its tasks wait\n");
    }
    text
}
