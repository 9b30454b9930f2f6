//! A second process of this program, asleep except in blocks.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// Reads a byte before each block and answers with one when it is ready; ends with its input.
pub struct Other(Child);

impl Other {
    pub fn start(name: &str, argument: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "--partner", name, argument]);
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// Wakes it; it spins for work when this returns.
    pub fn wake(&mut self) -> anyhow::Result<()> {
        self.0.stdin.as_mut().context("a pipe")?.write_all(b"\n")?;
        let mut ready = [0];
        Ok(self.0.stdout.as_mut().context("a pipe")?.read_exact(&mut ready)?)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It is our own child and ends by itself.
        let _ = self.0.wait();
    }
}

/// The other side: runs `block` each time it is woken.
pub fn serve(mut block: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut stdin = std::io::stdin().lock();
    let mut stdout = std::io::stdout().lock();
    let mut byte = [0];
    while stdin.read(&mut byte)? == 1 {
        stdout.write_all(b"!")?;
        stdout.flush()?;
        block()?;
    }
    Ok(())
}
