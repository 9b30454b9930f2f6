//! Published crates that one would use instead.

pub mod iceoryx;
pub mod ipc;
mod other;
pub mod threads;

/// The other process of a rival, which this process was started as.
pub fn serve(name: &str, arguments: &[String]) -> anyhow::Result<()> {
    match (name, arguments) {
        ("iceoryx-requests", [service]) => iceoryx::serve_requests(service),
        ("iceoryx-samples", [service]) => iceoryx::serve_samples(service),
        ("ipc-echo", [server]) => ipc::serve(server),
        _ => anyhow::bail!("no rival is called {name} {arguments:?}"),
    }
}
