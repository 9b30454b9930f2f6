//! The site in a process of its own, gone when this one is.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

/// A running `aiopool site`. Dropping it ends the site.
#[derive(Debug)]
pub struct SiteProcess {
    child: Child,
    base_url: String,
}

impl SiteProcess {
    /// Starts `executable`, an `aiopool`, as a site on a free port of 127.0.0.1 and waits until it
    /// serves.
    ///
    /// The child watches a pipe that only this process keeps open, so it ends with this process
    /// whatever that dies of.
    ///
    /// # Errors
    ///
    /// When the program cannot be started or does not come to serve.
    pub fn start(executable: &Path, latency: Duration) -> anyhow::Result<Self> {
        let mut child = Command::new(executable)
            .args(["site", "--port", "0", "--until-stdin-closes", "--latency-ms"])
            .arg(latency.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C in the terminal is for us; the site must answer until we are through.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start the site: {}", executable.display()))?;
        let stdout = child.stdout.take().context("the site has no stdout")?;
        // From here on an early return ends the child.
        let mut site = Self { child, base_url: String::new() };
        BufReader::new(stdout)
            .read_line(&mut site.base_url)
            .context("cannot read from the site")?;
        site.base_url.truncate(site.base_url.trim_end().len());
        ensure!(!site.base_url.is_empty(), "the site ended before it served");
        Ok(site)
    }

    /// Where it serves, ended by a slash.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for SiteProcess {
    fn drop(&mut self) {
        // Neither can fail in a way that matters: the child is ours and not yet waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
