//! The runs: what is looked at, how large, with which faults.

use crate::rules::{Config, Faults, Rules, Sizes};

/// A run and what it is for.
pub struct Scenario {
    pub name: &'static str,
    pub config: Config,
    /// Takes more than a few seconds; not run by `--quick`.
    pub long: bool,
}

const FINE: Config = Config {
    sizes: Sizes { workers: 2, records: 1, tasks: 2, clients: 1, blocks: 0 },
    faults: Faults { kills: 0, stops: 0, cancels: 0, errors: 0, audits: 0 },
    fine: true,
    worker_bells: false,
    host_bell: false,
    search: false,
    gate: false,
    retries: false,
    deadlines: false,
    respawn: true,
    mends: false,
    leader: false,
    buffers: false,
    rules: Rules::design(),
};

const COARSE: Config = Config { fine: false, ..FINE };

const fn sizes(workers: usize, records: usize, tasks: usize) -> Sizes {
    Sizes { workers, records, tasks, clients: 1, blocks: 0 }
}

const fn faults(kills: u8, stops: u8, cancels: u8, errors: u8, audits: u8) -> Faults {
    Faults { kills, stops, cancels, errors, audits }
}

/// All runs.
pub fn all() -> Vec<Scenario> {
    let scenario = |name, long, config| Scenario { name, config, long };
    vec![
        scenario(
            "reuse",
            false,
            Config { sizes: sizes(2, 1, 3), faults: faults(1, 0, 1, 0, 0), ..FINE },
        ),
        scenario(
            "two records",
            false,
            Config { sizes: sizes(2, 2, 3), faults: faults(1, 0, 0, 0, 0), ..FINE },
        ),
        scenario(
            "two records and a cancel",
            true,
            Config { sizes: sizes(2, 2, 3), faults: faults(1, 0, 1, 0, 0), ..FINE },
        ),
        scenario(
            "three workers",
            true,
            Config { sizes: sizes(3, 2, 2), faults: faults(1, 0, 1, 0, 0), ..FINE },
        ),
        scenario(
            "retries",
            false,
            Config { sizes: sizes(2, 1, 2), faults: faults(2, 0, 0, 1, 0), retries: true, ..FINE },
        ),
        scenario(
            "retries and a cancel",
            true,
            Config { sizes: sizes(2, 2, 2), faults: faults(1, 0, 1, 1, 0), retries: true, ..FINE },
        ),
        scenario(
            "a deadline and another attempt",
            false,
            Config {
                sizes: sizes(2, 1, 2),
                faults: faults(1, 0, 1, 0, 0),
                deadlines: true,
                ..FINE
            },
        ),
        scenario(
            "a deadline of a task in a stopped worker",
            true,
            Config {
                sizes: sizes(2, 2, 2),
                faults: faults(0, 1, 1, 0, 0),
                deadlines: true,
                mends: true,
                ..FINE
            },
        ),
        scenario(
            "a stopped worker",
            false,
            Config { sizes: sizes(2, 2, 3), faults: faults(0, 1, 1, 0, 0), mends: true, ..FINE },
        ),
        scenario(
            "audits",
            false,
            Config { sizes: sizes(2, 1, 3), faults: faults(0, 1, 0, 0, 1), mends: true, ..FINE },
        ),
        scenario(
            "a lane and two audits",
            false,
            Config { sizes: sizes(1, 1, 5), faults: faults(0, 0, 0, 0, 2), ..COARSE },
        ),
        scenario(
            "two clients, one record",
            false,
            Config {
                sizes: Sizes { clients: 2, ..sizes(2, 1, 3) },
                faults: faults(0, 0, 1, 0, 0),
                ..COARSE
            },
        ),
        scenario(
            "the host's doorbell",
            false,
            Config {
                sizes: sizes(2, 2, 2),
                faults: faults(1, 0, 0, 0, 0),
                host_bell: true,
                ..COARSE
            },
        ),
        scenario(
            "the host's doorbell and a stopped worker",
            false,
            Config {
                sizes: sizes(2, 2, 3),
                faults: faults(0, 1, 0, 0, 0),
                host_bell: true,
                ..COARSE
            },
        ),
        scenario(
            "the host's doorbell and a full queue",
            false,
            Config {
                sizes: sizes(1, 1, 3),
                faults: faults(0, 0, 2, 0, 0),
                host_bell: true,
                ..COARSE
            },
        ),
        scenario(
            "store buffers and the host's doorbell",
            false,
            Config {
                sizes: sizes(2, 2, 2),
                faults: faults(1, 0, 0, 0, 0),
                host_bell: true,
                buffers: true,
                ..COARSE
            },
        ),
        scenario(
            "store buffers and the workers' doorbells",
            false,
            Config {
                sizes: sizes(2, 2, 2),
                worker_bells: true,
                search: true,
                buffers: true,
                ..COARSE
            },
        ),
        scenario(
            "store buffers and reuse",
            false,
            Config { sizes: sizes(2, 1, 2), faults: faults(1, 0, 1, 0, 0), buffers: true, ..FINE },
        ),
        scenario(
            "two clients that listen",
            true,
            Config { sizes: Sizes { clients: 2, ..sizes(2, 2, 2) }, host_bell: true, ..COARSE },
        ),
        scenario(
            "a client that listens and one that blocks",
            false,
            Config {
                sizes: Sizes { clients: 2, ..sizes(1, 2, 3) },
                host_bell: true,
                leader: true,
                ..COARSE
            },
        ),
        scenario(
            "three clients, one record",
            false,
            Config {
                sizes: Sizes { clients: 3, ..sizes(1, 1, 3) },
                faults: faults(0, 0, 1, 0, 0),
                ..COARSE
            },
        ),
        scenario(
            "three clients that listen",
            true,
            Config { sizes: Sizes { clients: 3, ..sizes(1, 1, 3) }, host_bell: true, ..COARSE },
        ),
        scenario(
            "a busy worker and another",
            false,
            Config {
                sizes: sizes(2, 3, 3),
                worker_bells: true,
                search: true,
                gate: true,
                ..COARSE
            },
        ),
        scenario(
            "a busy worker and two others",
            true,
            Config {
                sizes: sizes(3, 3, 3),
                worker_bells: true,
                search: true,
                gate: true,
                ..COARSE
            },
        ),
        scenario(
            "the workers' doorbells and a kill",
            true,
            Config {
                sizes: sizes(2, 2, 2),
                faults: faults(1, 0, 0, 0, 0),
                worker_bells: true,
                search: true,
                ..COARSE
            },
        ),
        scenario(
            "a dead worker that is not replaced",
            false,
            Config {
                sizes: sizes(2, 1, 1),
                faults: faults(1, 0, 0, 0, 0),
                worker_bells: true,
                search: true,
                respawn: false,
                ..COARSE
            },
        ),
        scenario(
            "the workers' doorbells and a stop",
            false,
            Config {
                sizes: sizes(2, 2, 2),
                faults: faults(0, 1, 0, 0, 0),
                mends: true,
                worker_bells: true,
                search: true,
                ..COARSE
            },
        ),
        scenario(
            "both doorbells, reuse and a cancel",
            true,
            Config {
                sizes: sizes(2, 1, 2),
                faults: faults(0, 0, 1, 0, 0),
                worker_bells: true,
                host_bell: true,
                ..COARSE
            },
        ),
        scenario(
            "output blocks",
            false,
            Config {
                sizes: Sizes { blocks: 1, ..sizes(2, 2, 3) },
                faults: faults(1, 0, 1, 0, 0),
                ..COARSE
            },
        ),
        scenario(
            "output blocks, two for one hand-back word",
            false,
            Config {
                sizes: Sizes { blocks: 2, ..sizes(1, 3, 5) },
                faults: faults(1, 0, 0, 0, 0),
                ..COARSE
            },
        ),
    ]
}
