//! `scribble`: a worker writes over the pool's shared memory while others work: random words
//! anywhere (task table, rings, lanes, doorbells, reports, its result arena), words that could be
//! true where something is, and the same words again and again while the host reads them.
//!
//! The task finds the mappings of its own process in `/proc/self/maps`, as no well-meaning code
//! does. Outcomes may be spoiled, the host may not: every handle resolves, every record and byte
//! comes back, and the pool works afterwards.

#![allow(unsafe_code)] // Scribbling is the point; it happens in a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aiopool::{Pool, TaskError, TaskOptions};
use bytes::Bytes;

use crate::figures::Figures;
use crate::random::Random;
use crate::{Ask, books, tasks};

const WATCHDOG: Duration = Duration::from_secs(60);
const CAPACITY: usize = 256;
const QUEUES: usize = 2;
/// Words of a scribble, at most.
const MOST_WORDS: u32 = 32;

#[derive(Default)]
struct Counts {
    tasks: AtomicU64,
    wedged: AtomicU64,
    scribbles: AtomicU64,
    storms: AtomicU64,
    corrupt: AtomicU64,
    lost_workers: AtomicU64,
    spoiled: AtomicU64,
    ok: AtomicU64,
    stop: AtomicBool,
}

/// Runs it.
pub fn run(ask: Ask) -> Figures {
    books::open();
    aiopool::init().expect("nothing was started before");
    let seconds = ask.seconds.unwrap_or(if ask.quick { 15 } else { 300 });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system refuses a runtime");
    let pool = Arc::new(
        Pool::builder()
            .processes(4)
            .queues(QUEUES)
            .child_concurrency(4)
            .capacity(CAPACITY)
            .max_payload(1 << 20)
            .output_arena(8 << 20)
            .build()
            .expect("the pool starts"),
    );
    let counts = Arc::new(Counts::default());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut figures = Figures::default();
    runtime.block_on(async {
        let clients: Vec<_> = (0..24)
            .map(|n| tokio::spawn(client(Arc::clone(&pool), Arc::clone(&counts), n, end)))
            .collect();
        for client in clients {
            if client.await.is_err() {
                figures.wrong += 1;
                figures.complain("a client panicked");
            }
        }
        // The last scribble may go unnoticed until it is read: the pool has to repair itself under
        // ordinary work, and then work correctly.
        let mended = Instant::now() + WATCHDOG;
        let mut row = 0;
        while row < 200 {
            let number = books::number();
            let task = pool.apply(tasks::small, number);
            counts.tasks.fetch_add(1, Relaxed);
            match tokio::time::timeout(WATCHDOG, task).await {
                Ok(Ok(value)) if value == tasks::answer(number) => row += 1,
                Ok(_) => row = 0,
                Err(_) => {
                    figures.wedged += 1;
                    break;
                }
            }
            if Instant::now() > mended {
                figures.wrong += 1;
                figures.complain("the pool does not come to itself again");
                break;
            }
        }
    });
    settle(&pool, &mut figures, &counts);
    figures.tasks = counts.tasks.load(Relaxed);
    figures.wedged += counts.wedged.load(Relaxed);
    figures.count("scribbles", counts.scribbles.load(Relaxed));
    figures.count("storms", counts.storms.load(Relaxed));
    figures.count("ok", counts.ok.load(Relaxed));
    figures.count("corrupt", counts.corrupt.load(Relaxed));
    figures.count("worker_lost", counts.lost_workers.load(Relaxed));
    figures.count("spoiled", counts.spoiled.load(Relaxed));
    if counts.scribbles.load(Relaxed) == 0 {
        figures.wrong += 1;
        figures.complain("nobody scribbled");
    }
    figures
}

fn settle(pool: &Pool, figures: &mut Figures, counts: &Counts) {
    counts.stop.store(true, Relaxed);
    let full = (QUEUES * CAPACITY) as u64;
    let end = Instant::now() + WATCHDOG;
    loop {
        let stats = pool.stats();
        let back = stats.pending == 0 && stats.free_records == full && stats.input_bytes == 0;
        if back || Instant::now() > end {
            let outcomes = stats.outcomes();
            figures.lost += stats.submitted.saturating_sub(outcomes);
            figures.doubled += outcomes.saturating_sub(stats.submitted);
            figures.leaked += full.abs_diff(stats.free_records) + stats.input_bytes;
            figures.count("damages", stats.damages);
            figures.count("deaths", stats.deaths);
            if !back {
                figures.complain(format!("{stats:?}"));
            }
            if stats.damages == 0 {
                figures.wrong += 1;
                figures.complain("no damage was reported");
            }
            return;
        }
        let _ = pool.apply(tasks::small, books::number()).wait();
        std::thread::sleep(Duration::from_millis(20));
    }
}

async fn client(pool: Arc<Pool>, counts: Arc<Counts>, number: u64, end: Instant) {
    let mut random = Random(number * 0xABCD_EF12_3457 + 7);
    while Instant::now() < end {
        let retries = TaskOptions::new().retries(random.below(2) as u32 * 3);
        counts.tasks.fetch_add(1, Relaxed);
        let id = books::number();
        let submit = pool.with(retries);
        match random.below(800) {
            0 => {
                let task = submit.apply(storm, (random.below(u64::MAX), 5 + random.below(60)));
                counts.storms.fetch_add(1, Relaxed);
                take(&pool, &counts, id, task, |_| true).await;
            }
            1 | 2 => {
                let words = 1 + random.below(MOST_WORDS.into()) as u32;
                let task = submit.apply(scribble, (random.below(u64::MAX), words));
                counts.scribbles.fetch_add(1, Relaxed);
                take(&pool, &counts, id, task, |_| true).await;
            }
            3..40 => {
                let len = random.below(200_000) as usize;
                let task = submit.apply(fill, (id, len));
                take(&pool, &counts, id, task, |out| *out == tasks::pattern(id, len)).await;
            }
            40..80 => {
                let bytes = tasks::pattern(id, random.below(100_000) as usize);
                let len = bytes.len();
                let task = submit.apply(tasks::weigh, (id, bytes));
                take(&pool, &counts, id, task, |out| out.0 == len).await;
            }
            80..120 => {
                let mut task = submit.apply(doze, (id, random.below(20)));
                task.cancel();
                take(&pool, &counts, id, task, |_| true).await;
            }
            120..160 => {
                let limit = Duration::from_millis(5);
                let task = pool.with(retries.timeout(limit)).apply(doze, (id, 30));
                take(&pool, &counts, id, task, |_| true).await;
            }
            _ => {
                let task = submit.apply(tasks::small, id);
                take(&pool, &counts, id, task, |out| *out == tasks::answer(id)).await;
            }
        }
    }
}

async fn take<T: serde::de::DeserializeOwned + 'static>(
    pool: &Pool,
    counts: &Counts,
    id: u32,
    task: aiopool::Task<T>,
    right: impl Fn(&T) -> bool,
) {
    let count = match tokio::time::timeout(WATCHDOG, task).await {
        Err(_) => {
            let (runs, output) = (books::runs(id), std::any::type_name::<T>());
            let stats = pool.stats();
            eprintln!(
                "chaos: task {id} (of a {output}) has no outcome; its function ran {runs} times; \
                 {} pending, {} running",
                stats.pending, stats.running
            );
            &counts.wedged
        }
        Ok(Ok(value)) if right(&value) => &counts.ok,
        Ok(Err(TaskError::Corrupt(_))) => &counts.corrupt,
        Ok(Err(TaskError::WorkerLost(_))) => &counts.lost_workers,
        Ok(Err(
            TaskError::Cancelled | TaskError::TimedOut { .. } | TaskError::NeighbourBlocked(_),
        )) => &counts.ok,
        Ok(_) => &counts.spoiled,
    };
    count.fetch_add(1, Relaxed);
}

// A task's input may be scribbled over, the number of its function as well: `fill` with a length
// that `doze` takes for milliseconds. So no task runs for long whatever its input says; then a task
// without an outcome is the pool's fault.

/// [`tasks::make`], not for long.
async fn fill((number, len): (u32, usize)) -> Bytes {
    tasks::make((number, len.min(200_000))).await
}

/// [`tasks::nap`], not for long.
async fn doze((number, millis): (u32, u64)) -> u64 {
    tasks::nap((number, millis.min(30))).await
}

/// A mapping that this worker can write.
#[derive(Clone, Copy)]
struct Region {
    start: usize,
    len: usize,
    control: bool,
}

impl Region {
    /// The words of it that are worth a scribble.
    fn words(&self, random: &mut Random) -> usize {
        let span = match random.below(2) {
            // Heads, flags and the workers' lines are few words among many: hit them as often.
            0 if self.control => 4096.min(self.len),
            // What the arena holds beyond its first chunk may not be reserved.
            _ if self.control => self.len,
            _ => self.len.min(1 << 20),
        };
        span / 8
    }

    fn word(&self, at: usize) -> &'static AtomicU64 {
        // SAFETY: within a mapping of this process that stays, aligned; all others access it as
        // atomics.
        unsafe { AtomicU64::from_ptr((self.start + 8 * at) as *mut u64) }
    }

    /// A word, and a place for it: anything anywhere, or what could be true where something is.
    fn pick(&self, random: &mut Random) -> (&'static AtomicU64, u64) {
        let words = self.words(random);
        let mut at = random.below(words as u64) as usize;
        match random.below(8) {
            0 => (self.word(at), 0),
            1 => (self.word(at), u64::MAX),
            2 | 3 => (self.word(at), random.below(u64::MAX)),
            kind => {
                // Something is where there is no zero: another state, a bit, the next number, or
                // what stands elsewhere.
                let full = |at: &usize| self.word(*at).load(Relaxed) != 0;
                at = (at..words).chain(0..at).take(4096).find(full).unwrap_or(at);
                let seen = self.word(at).load(Relaxed);
                let value = match kind {
                    4 => seen & !0xFF | random.below(8),
                    5 => seen ^ 1 << random.below(64),
                    6 => seen.wrapping_add(random.below(5)).wrapping_sub(2),
                    _ => self.word(random.below(words as u64) as usize).load(Relaxed),
                };
                (self.word(at), value)
            }
        }
    }
}

fn regions() -> Vec<Region> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let ours = maps.lines().filter(|l| l.contains("memfd:aiopool-") && l.contains(" rw-s "));
    ours.filter_map(|line| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let control = line.contains("aiopool-control");
        Some(Region { start, len: end - start, control })
    })
    .collect()
}

/// Writes `words` words over regions of the pool that this worker can write.
async fn scribble((seed, words): (u64, u32)) -> u32 {
    let regions = regions();
    let mut random = Random(seed | 1);
    for _ in 0..words.min(MOST_WORDS) {
        let region = regions[random.below(regions.len() as u64) as usize];
        let (word, value) = region.pick(&mut random);
        word.store(value, Relaxed);
    }
    words
}

/// Writes the same few words of the control region again and again, while the host reads them.
async fn storm((seed, millis): (u64, u64)) -> u64 {
    let regions: Vec<Region> = regions().into_iter().filter(|region| region.control).collect();
    let mut random = Random(seed | 1);
    let picked: Vec<_> = (0..6).map(|_| regions[0].pick(&mut random)).collect();
    // A thread that outlives the task, as a hostile one would.
    std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_millis(millis.min(65));
        while Instant::now() < end {
            for (word, value) in &picked {
                let seen = word.load(Relaxed);
                word.store(*value, Relaxed);
                std::hint::spin_loop();
                word.store(seen, Relaxed);
            }
        }
    });
    millis
}
