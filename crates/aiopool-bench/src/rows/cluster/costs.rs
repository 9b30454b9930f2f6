//! What tasks cost the server, and what a node costs that has none.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use aiopool_nats::{NEWEST, Server};
use anyhow::Context;
use serde_json::Value;

use super::scene::Scene;
use super::{GROUP, map_noops};
use crate::contest::{Bar, Contest};
use crate::rows::Spec;
use crate::rows::idle::cpu_ns_of;

pub fn rows() -> Vec<Spec> {
    vec![
        Spec {
            name: "cluster-server-cpu",
            about: "the server's processor time for a task that does nothing, each with messages of its own",
            build: |_| server_cpu(1, "60 µs", 60.0),
        },
        Spec {
            name: "cluster-server-cpu-group",
            about: "the same, several to a message",
            build: |_| server_cpu(GROUP, "60 µs", 60.0),
        },
        Spec {
            name: "cluster-idle-cpu",
            about: "processor time a second of a node that has no tasks: agent, zygote and workers",
            build: |_| idle(true, "2 ms", 2.0),
        },
        Spec {
            name: "cluster-idle-messages",
            about: "messages a second to and from the server for a node that has no tasks",
            build: |_| idle(false, "2", 2.0),
        },
    ]
}

fn server_cpu(group: usize, bar: &'static str, most: f64) -> anyhow::Result<Contest> {
    const TASKS: u64 = 20_000;
    let scene = Scene::of_node(2, 256)?;
    let cluster = scene.cluster(group)?;
    let pid = scene.server.as_ref().and_then(Server::pid).context("the server's process")?;
    let contest = Contest::new("µs", move || {
        let _ = &scene;
        let before = cpu_ns_of(&[pid])?;
        map_noops(&cluster, TASKS)?;
        Ok((cpu_ns_of(&[pid])? - before) as f64 / 1e3 / TASKS as f64)
    });
    Ok(contest.against(bar, Some(Bar::AtMost(1.0)), move || Ok(most)).rounds(7))
}

/// Seconds for which an idle node is looked at.
const LOOK: u64 = 20;

fn idle(cpu: bool, bar: &'static str, most: f64) -> anyhow::Result<Contest> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let server = Server::with(NEWEST, true, &format!("http: \"127.0.0.1:{port}\"\n"));
    let mut scene = Scene::elsewhere(server.url());
    scene.add_node(2, 16)?;
    // It has taken a task, so that it is up; the handle is gone before the node is looked at.
    drop(scene.cluster(1)?);
    let pids = scene.family();
    anyhow::ensure!(pids.len() >= 4, "agent, zygote and two workers: {pids:?}");
    let contest = Contest::new(if cpu { "ms/s" } else { "/s" }, move || {
        let _ = (&scene, &server);
        std::thread::sleep(Duration::from_secs(2));
        let look = || if cpu { cpu_ns_of(&pids).map(|ns| ns as f64 / 1e6) } else { messages(port) };
        let before = look()?;
        std::thread::sleep(Duration::from_secs(LOOK));
        Ok((look()? - before) / LOOK as f64)
    });
    Ok(contest.against(bar, Some(Bar::AtMost(1.0)), move || Ok(most)).rounds(1).cold())
}

/// Messages that the server has taken and sent.
fn messages(port: u16) -> anyhow::Result<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer of the server's monitor")?;
    let said: Value = serde_json::from_str(body)?;
    let count = |name: &str| said[name].as_f64().context("a count of messages");
    Ok(count("in_msgs")? + count("out_msgs")?)
}
