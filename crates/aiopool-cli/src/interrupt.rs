//! Ctrl-C: the first one ends the work in order, the second one at once.

use std::future::pending;
use std::process::exit;
use std::thread;

use aiopool::block_on;
use tokio::signal::ctrl_c;

/// Ready at the first Ctrl-C; from then on another one ends the process at once.
pub async fn first() {
    if ctrl_c().await.is_err() {
        // Without a handler the first one ends us.
        return pending().await;
    }
    // A thread of its own, so that nothing that hangs can keep it from being heard.
    let second = || {
        if block_on(ctrl_c()).is_ok() {
            exit(1);
        }
    };
    let _ = thread::Builder::new().name("ctrl-c".into()).spawn(second);
}
