//! `aiopool top`: a pool on the terminal.

mod draw;
mod format;
mod model;

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use aiopool_bench::output;
use aiopool_cluster::interrupt;
use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use crate::pools::{self, Asked, Sample};
use model::{Model, Turn};

/// How often the screen looks whether a key, a signal or an answer has come.
const TICK: Duration = Duration::from_millis(50);
/// How long after a signal the screen's own end is waited for.
const GONE: Duration = Duration::from_secs(1);

/// Show what a pool does: its workers, queues, functions and events
///
/// Keys: Tab or 1 to 4 for the table, arrows to choose a row, Enter for a worker's tasks, s and r
/// to sort, / to filter, p to pause, + and - for the pace, q to leave.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The pool: its name or its host's process id; not needed while there is only one
    pool: Option<String>,
    /// Print one picture and end
    #[arg(long)]
    once: bool,
    /// Print JSON, an object a line, with `pool`, `workers`, `queues`, `functions` and `events`
    #[arg(long)]
    json: bool,
    /// Seconds between two pictures
    #[arg(long, default_value_t = 1.0, value_parser = interval)]
    interval: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.1 to 3600 seconds".to_owned()),
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let address = pools::find(args.pool.as_deref())?;
    let interval = Duration::from_secs_f64(args.interval);
    if args.once || args.json {
        let mut asked = Asked::new(&address)?;
        let (mut before, mut now) = asked.twice()?;
        loop {
            if args.json {
                output::say(format_args!(
                    "{}",
                    pools::plain_json(&pools::in_json(&before, &now)?)?
                ))?;
            } else {
                output::say(format_args!("{}", in_text(before.clone(), now.clone())?))?;
            }
            if args.once {
                return Ok(ExitCode::SUCCESS);
            }
            std::thread::sleep(interval);
            before = std::mem::replace(
                &mut now,
                match asked.ask() {
                    Ok(sample) => sample,
                    // The pool was there, and has ended: so has the watch.
                    Err(_) => return Ok(ExitCode::SUCCESS),
                },
            );
        }
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("top needs a terminal: use --once for one picture, or --json for a script");
    }
    on_terminal(&args, interval)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns one picture as a text, wide and high enough for everything.
fn in_text(before: Sample, now: Sample) -> anyhow::Result<String> {
    let mut model = Model::new(Duration::from_secs(1), false);
    let snapshot = &now.snapshot;
    // The shares of the tables, as `draw` divides a high screen.
    let heights = [
        2 * (snapshot.workers.len() + 2),
        6 * (snapshot.queues.len() + 2),
        4 * (snapshot.functions.len() + 2),
        12 * (snapshot.events.len().min(20) + 2),
    ];
    let height = 5 + heights.into_iter().max().unwrap_or(0);
    let mut terminal = Terminal::new(TestBackend::new(120, height.clamp(44, 8000) as u16))?;
    model.take(Ok(before));
    model.take(Ok(now));
    terminal.draw(|frame| draw::all(&mut model, frame))?;
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    let lines = buffer.content().chunks(width).map(|line| {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    let mut lines: Vec<String> = lines.collect();
    // The last line names the keys.
    lines.pop();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Ok(lines.join("\n"))
}

/// Puts the terminal back, however the program leaves.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn on_terminal(args: &Args, interval: Duration) -> anyhow::Result<()> {
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let leave = move || {
        stop.store(true, Ordering::Relaxed);
        // Where the terminal is gone, crossterm looks for keys for ever and does not come back.
        std::thread::sleep(GONE);
        ratatui::restore();
        std::process::exit(0)
    };
    let leave_too = leave.clone();
    std::thread::spawn(move || {
        aiopool::block_on(interrupt::next());
        leave()
    });
    std::thread::spawn(move || {
        wait_for_hangup();
        leave_too()
    });
    // One sample at most waits: what the screen has not shown is old by then.
    let (send, samples) = sync_channel(1);
    let (pace, paces) = sync_channel(1);
    let word = args.pool.clone();
    std::thread::spawn(move || ask(word.as_deref(), interval, &send, &paces));
    // A panic restores the terminal, too: `ratatui::init` has the hook for it.
    let mut terminal = ratatui::try_init().context("cannot draw on this terminal")?;
    let _restored = Restored;
    let mut model = Model::new(interval, std::env::var_os("NO_COLOR").is_none());
    let mut dirty = true;
    while !over.load(Ordering::Relaxed) {
        loop {
            match samples.try_recv() {
                Ok(sample) => {
                    model.take(sample);
                    dirty = true;
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => bail!("the thread that asks the pool is gone"),
            }
        }
        if std::mem::take(&mut dirty) {
            terminal.draw(|frame| draw::all(&mut model, frame))?;
        }
        if !event::poll(TICK)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match model.press(key) {
                Turn::Stay => {}
                Turn::Pace(interval) => drop(pace.try_send(interval)),
                Turn::Leave => break,
            },
            Event::Resize(..) => {}
            _ => continue,
        }
        dirty = true;
    }
    Ok(())
}

/// Comes back when nobody is at the other end of the terminal any more: where `SIGHUP` is ignored, as
/// under `nohup`, nothing else says so.
fn wait_for_hangup() {
    let input = std::io::stdin();
    let mut terminal = [PollFd::new(input.as_fd(), PollFlags::empty())];
    while poll(&mut terminal, PollTimeout::NONE) == Err(Errno::EINTR) {}
}

/// Asks the pool again and again; finds it anew when it has ended and one of that name is there.
fn ask(
    word: Option<&str>,
    mut interval: Duration,
    send: &SyncSender<Result<Sample, String>>,
    paces: &Receiver<Duration>,
) {
    let mut asked = None;
    loop {
        let begun = Instant::now();
        let answer = match &mut asked {
            None => pools::find(word).and_then(|address| asked.insert(Asked::new(&address)?).ask()),
            Some(asked) => asked.ask(),
        };
        if answer.is_err() {
            asked = None;
        }
        if send.send(answer.map_err(|error| format!("{error:#}"))).is_err() {
            return;
        }
        if let Ok(other) = paces.recv_timeout(interval.saturating_sub(begun.elapsed())) {
            interval = other;
        }
    }
}
