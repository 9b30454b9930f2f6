//! Ctrl-C, and what asks for the same: `SIGTERM` from a service manager, `SIGHUP` from a terminal
//! that closes. The first one ends the work in order, the second one at once.
//!
//! A signal that the program's starter has it ignore, as `nohup` does, asks for nothing. Both
//! functions are to be called in a runtime of tokio's, as [`aiopool::block_on`] is, and from the
//! first call on these signals do not end the process by themselves.

use std::future::{pending, poll_fn};
use std::process::exit;
use std::task::Poll;
use std::thread;

use aiopool::block_on;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Waits for the first request to end, and returns the signal's name; from then on another one ends
/// the process at once, with status 1.
pub async fn first() -> &'static str {
    let name = next().await;
    // A thread of its own, so that nothing that hangs can keep it from being heard.
    let second = || {
        block_on(next());
        exit(1);
    };
    let _ = thread::Builder::new().name("ctrl-c".into()).spawn(second);
    name
}

/// Waits for the next request to end, and returns the signal's name.
pub async fn next() -> &'static str {
    let kinds = [
        ("SIGINT", SignalKind::interrupt()),
        ("SIGTERM", SignalKind::terminate()),
        ("SIGHUP", SignalKind::hangup()),
    ];
    let wanted = kinds.into_iter().filter(|&(_, kind)| !is_ignored(kind));
    // One that cannot be handled ends us all the same.
    let listen = |(name, kind)| Some((name, signal(kind).ok()?));
    let mut signals: Vec<(&str, Signal)> = wanted.filter_map(listen).collect();
    if signals.is_empty() {
        return pending().await;
    }
    poll_fn(|context| {
        let came = signals
            .iter_mut()
            .find_map(|(name, signal)| signal.poll_recv(context).is_ready().then_some(*name));
        came.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Whether the process that started this one wants a signal ignored, as `nohup` does.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}
