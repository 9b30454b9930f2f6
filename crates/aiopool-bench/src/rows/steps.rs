//! A pool at work for as long as its instructions are counted: see `benches/instructions.py`.

use std::io::Write;

use super::pool;

/// A task that can be seen from outside: one system call that nothing else makes.
async fn marked(x: u64) -> u64 {
    mark();
    x
}

fn mark() {
    std::hint::black_box(std::os::unix::process::parent_id());
}

/// Prints the worker's process id, then works until it is killed or its input ends.
pub fn serve(verb: &str) -> anyhow::Result<()> {
    let pool = pool(1)?;
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", pool.worker_pids()[0])?;
    stdout.flush()?;
    aiopool::block_on(async {
        loop {
            match verb {
                "apply" => {
                    pool.apply(marked, 7).await?;
                    mark();
                }
                "map" => {
                    let mut results = pool.map(marked, 0..u64::MAX).window(100);
                    while let Some(result) = results.next().await {
                        result?;
                        mark();
                    }
                }
                _ => anyhow::bail!("apply or map, not {verb}"),
            }
        }
    })
}
