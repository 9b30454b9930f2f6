//! What the numbers were measured on.

use std::fmt;

use serde::Serialize;

/// The machine, as it says itself.
#[derive(Debug, Serialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub kernel: String,
    pub version: &'static str,
    /// Programs that wanted a processor, on average over the last minute, when the run began.
    pub load: String,
}

impl Machine {
    pub fn of_now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            processor: model.unwrap_or("unknown").trim_start_matches(['\t', ' ', ':']).to_owned(),
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            version: env!("CARGO_PKG_VERSION"),
            load: read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, version, load } = self;
        write!(f, "aiopool {version}, {processors} x {processor}, Linux {kernel}, load {load}")
    }
}
