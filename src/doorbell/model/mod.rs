//! loom models of the doorbell both ways: a wake-up that is lost is a deadlock, which loom reports.

mod busy;
mod host_threads;
mod listener;
mod park;
mod room;
mod to_host;
mod to_workers;
