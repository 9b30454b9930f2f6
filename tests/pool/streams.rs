//! Streams of results, batches, and work that is added while others run.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use aiopool::{Argument, Pool, Submit, Task, TaskError, TaskFn, TaskOptions};
use aiopool_testing::{Folder, in_time, until};
use futures_core::Stream;
use tokio::sync::mpsc;

async fn double(x: u64) -> u64 {
    x * 2
}

async fn odd_is_an_error(x: u64) -> Result<u64, String> {
    if x % 2 == 1 { Err(format!("{x} is odd")) } else { Ok(x) }
}

/// How many files have names with that beginning.
fn count(folder: &Folder, prefix: &str) -> usize {
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with(prefix)).count()
}

/// Leaves a file when it is dropped, which takes longer than the pool looks after what is over.
struct Dropped(PathBuf);

impl Drop for Dropped {
    fn drop(&mut self) {
        std::thread::sleep(Duration::from_millis(60));
        std::fs::write(&self.0, "").unwrap();
    }
}

/// Says that it began, never ends, and says that it was dropped.
async fn linger((number, marks): (u64, String)) {
    let mark = |what: &str| Path::new(&marks).join(format!("{what}-{number}"));
    let _dropped = Dropped(mark("dropped"));
    std::fs::write(mark("began"), "").unwrap();
    std::future::pending().await
}

struct Channel(mpsc::Receiver<u64>);

impl Stream for Channel {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<u64>> {
        self.0.poll_recv(context)
    }
}

#[tokio::test]
async fn a_map_over_a_stream_gives_results_before_the_stream_goes_on() {
    let pool = Pool::builder().processes(2).build().unwrap();
    let (sender, receiver) = mpsc::channel(4);
    let mut doubled = pool.map_stream(double, Channel(receiver));
    for x in 0..50 {
        // The next item is sent only when the last one's result is here.
        sender.send(x).await.unwrap();
        assert_eq!(in_time(doubled.next()).await.unwrap().unwrap(), 2 * x);
    }
    drop(sender);
    assert!(in_time(doubled.next()).await.is_none());
}

#[tokio::test]
async fn one_stage_feeds_the_next() {
    /// The values of a map.
    struct Values<S>(S);

    impl<S: Stream<Item = Result<u64, TaskError>> + Unpin> Stream for Values<S> {
        type Item = u64;

        fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<u64>> {
            Pin::new(&mut self.0).poll_next(context).map(|item| item.map(Result::unwrap))
        }
    }

    let pool = Pool::builder().processes(2).capacity(16).build().unwrap();
    let first = pool.map(double, 0..500).window(8);
    let second = pool.map_stream(double, Values(first)).window(8);
    let third = pool.try_map_stream(odd_is_an_error, Values(second)).window(8);
    let wanted: Vec<u64> = (0..500).map(|x| 4 * x).collect();
    assert_eq!(in_time(third).await.unwrap(), wanted);
}

#[tokio::test]
async fn a_stream_dropped_half_way_calls_off_what_runs_and_frees_the_rest() {
    let marks = Folder::new("half-way");
    let pool = Pool::builder().processes(2).child_concurrency(4).capacity(64).build().unwrap();
    for ordered in [true, false] {
        let items = (0..).map(|number| (number, marks.text()));
        let mut stream = pool.map(linger, items).window(20);
        if !ordered {
            stream = stream.as_completed();
        }
        let waits = tokio::time::timeout(Duration::from_millis(5), stream.next()).await;
        assert!(waits.is_err(), "what never ends has ended");
        until(|| count(&marks, "began") == 8).await;
        assert_eq!(pool.stats().pending, 20);
        drop(stream);
        assert_eq!(pool.stats().pending, 0);
        // The futures themselves are dropped, and what never began never does.
        until(|| count(&marks, "dropped") == 8).await;
        // Records and blocks come back although the pool is not used meanwhile.
        until(|| pool.stats().free_records == 64).await;
        assert_eq!((count(&marks, "began"), pool.stats().input_bytes), (8, 0));
        std::fs::remove_dir_all(marks.path()).unwrap();
        std::fs::create_dir(marks.path()).unwrap();
    }
    assert_eq!(in_time(pool.map(double, 0..3)).await.unwrap(), [0, 2, 4]);
    assert_eq!(pool.stats().deaths, 0);
}

#[tokio::test]
async fn stopping_at_the_first_error_and_collecting_results_are_both_to_be_had() {
    let pool = Pool::builder().processes(2).build().unwrap();
    let first = in_time(pool.try_map(odd_is_an_error, (2..).step_by(1))).await.unwrap_err();
    // The first error that comes, whichever worker it comes from; there is no end to the items.
    assert!(first.to_string().ends_with(" is odd"), "{first}");
    until(|| pool.stats().pending == 0).await;
    let all = in_time(pool.try_map(odd_is_an_error, 0..100).results()).await;
    let said = |(x, result): (u64, &Result<u64, TaskError>)| match result {
        Ok(value) => x % 2 == 0 && *value == x,
        Err(error) => x % 2 == 1 && error.to_string() == format!("{x} is odd"),
    };
    assert!((0..).zip(&all).all(said), "{all:?}");
    let unordered = in_time(pool.try_map(odd_is_an_error, 0..100).as_completed().results()).await;
    assert_eq!(unordered.iter().filter(|result| result.is_ok()).count(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_is_added_by_threads_and_tasks_while_streams_are_read() {
    let pool = Arc::new(Pool::builder().processes(2).capacity(64).build().unwrap());
    let threads: Vec<_> = (0..3)
        .map(|t| {
            let pool = Arc::clone(&pool);
            std::thread::spawn(move || {
                for x in 0..200 {
                    assert_eq!(
                        pool.apply(double, t * 1000 + x).wait().unwrap(),
                        2 * (t * 1000 + x)
                    );
                }
            })
        })
        .collect();
    let tasks: Vec<_> = (0..3)
        .map(|t| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move {
                for x in 0..200 {
                    let task = pool.submit(double, t * 1000 + x).await.unwrap();
                    assert_eq!(task.await.unwrap(), 2 * (t * 1000 + x));
                }
            })
        })
        .collect();
    let (mut ordered, mut completed) =
        (pool.map(double, 0..1000), pool.map(double, 0..1000).as_completed());
    let mut sum = 0;
    for x in 0..1000 {
        assert_eq!(in_time(ordered.next()).await.unwrap().unwrap(), 2 * x);
        sum += in_time(completed.next()).await.unwrap().unwrap();
    }
    assert_eq!(sum, 999 * 1000);
    for task in tasks {
        in_time(task).await.unwrap();
    }
    let joined =
        tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| t.join().unwrap()));
    in_time(joined).await.unwrap();
}

/// Cannot be sent when it is 13.
#[derive(serde::Deserialize)]
struct NotThirteen(u64);

impl serde::Serialize for NotThirteen {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 13 {
            return Err(serde::ser::Error::custom("13 brings bad luck"));
        }
        serializer.serialize_u64(self.0)
    }
}

/// A handle for each of `items`; those that were submitted are cancelled where one is refused.
async fn submit_all<F: TaskFn<A>, A: Argument>(
    submit: Submit<'_>,
    function: F,
    items: impl IntoIterator<Item = A>,
) -> Result<Vec<Task<F::Value>>, TaskError> {
    let mut tasks = Vec::new();
    for item in items {
        tasks.push(submit.submit(function, item).await?);
    }
    Ok(tasks)
}

async fn linger_at((at, marks): (NotThirteen, String)) {
    linger((at.0, marks)).await
}

#[tokio::test]
async fn a_batch_that_cannot_be_submitted_whole_calls_off_the_part_that_was() {
    let marks = Folder::new("batch");
    let pool = Pool::builder().processes(1).child_concurrency(4).capacity(64).build().unwrap();
    let items = (0..20).map(|number| (NotThirteen(number), marks.text()));
    let refused =
        in_time(submit_all(pool.with(TaskOptions::new()), linger_at, items)).await.unwrap_err();
    assert!(matches!(refused, TaskError::NotSubmitted(_)), "{refused:?}");
    assert!(refused.to_string().contains("13 brings bad luck"), "{refused}");
    assert_eq!(pool.stats().pending, 0);
    // Those that had begun by then are dropped, the others do not begin.
    until(|| count(&marks, "dropped") == count(&marks, "began")).await;
    until(|| pool.stats().free_records == 64 && pool.stats().input_bytes == 0).await;
    assert_eq!(in_time(pool.apply(double, 2)).await.unwrap(), 4);
}

#[tokio::test]
async fn a_batch_that_waits_for_room_ends_with_the_pool() {
    let marks = Folder::new("batch-close");
    for end in [Pool::close as fn(&Pool), Pool::terminate] {
        let pool = Pool::builder().processes(1).child_concurrency(4).capacity(16).build().unwrap();
        let pool = Arc::new(pool);
        let items: Vec<_> = (0..40).map(|number| (number, marks.text())).collect();
        let batch = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                submit_all(pool.with(TaskOptions::new()), linger, items)
                    .await
                    .map(|tasks| tasks.len())
            }
        });
        // Sixteen are in, and the next one waits.
        until(|| pool.stats().pending == 16 && count(&marks, "began") >= 4).await;
        assert!(!batch.is_finished());
        end(&pool);
        let refused = in_time(batch).await.unwrap().unwrap_err();
        assert!(matches!(refused, TaskError::PoolClosed { .. }), "{refused:?}");
        // Their handles are gone, so those that were submitted are cancelled.
        in_time(pool.join()).await.unwrap();
        assert_eq!(pool.stats().pending, 0);
    }
}

#[tokio::test]
async fn a_batch_that_is_given_up_takes_back_what_it_submitted() {
    let marks = Folder::new("batch-given-up");
    let pool = Pool::builder().processes(1).child_concurrency(4).capacity(16).build().unwrap();
    let items = (0..40).map(|number| (number, marks.text()));
    let limit = Duration::from_millis(20);
    let batch =
        tokio::time::timeout(limit, submit_all(pool.with(TaskOptions::new()), linger, items)).await;
    assert!(batch.is_err(), "forty tasks found room where there is room for sixteen");
    assert_eq!(pool.stats().pending, 0);
    let options = TaskOptions::new().retries(1);
    let tasks = in_time(submit_all(pool.with(options), double, 0..40)).await.unwrap();
    for (x, task) in tasks.into_iter().enumerate() {
        assert_eq!(in_time(task).await.unwrap(), 2 * x as u64);
    }
}

/// What a hook was told: results, and all items where they are known.
type Told = Arc<Mutex<Vec<(u64, Option<u64>)>>>;

/// A hook, and what it was told.
fn told() -> (impl FnMut(aiopool::Progress) + Send + 'static, Told) {
    let said = Told::default();
    let kept = Arc::clone(&said);
    (move |now: aiopool::Progress| kept.lock().unwrap().push((now.done, now.total)), said)
}

#[tokio::test]
async fn a_map_says_how_far_it_is() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let pool = Pool::builder().processes(2).capacity(16).build().unwrap();
    let last = |said: &Mutex<Vec<(u64, Option<u64>)>>| *said.lock().unwrap().last().unwrap();

    let (hook, said) = told();
    in_time(is_send(pool.map(double, 0..500).progress(hook))).await.unwrap();
    assert_eq!(last(&said), (500, Some(500)));
    let said = said.lock().unwrap().clone();
    assert!(said.is_sorted_by(|a, b| a.0 < b.0), "{said:?}");
    assert!(said.iter().all(|(_, total)| *total == Some(500)), "{said:?}");

    // Errors are results, and a filter knows how many it gives only when it has given them all.
    let (hook, said) = told();
    let some = pool.try_map(odd_is_an_error, (0..50).filter(|x| x % 5 == 0)).progress(hook);
    assert_eq!(in_time(some.results()).await.len(), 10);
    let said = said.lock().unwrap().clone();
    assert_eq!(said.last().unwrap().0, 10);
    assert!(said.iter().all(|(_, total)| total.is_none_or(|total| total == 10)), "{said:?}");

    let (hook, said) = told();
    let keyed = pool.map_keyed(double, (0..30).map(|x| (x, x))).as_completed().progress(hook);
    assert_eq!(in_time(keyed.results()).await.len(), 30);
    assert_eq!(last(&said), (30, Some(30)));

    // One by one: what is told is what has ended, not what was given.
    let (hook, said) = told();
    let mut one_by_one = pool.map(double, 0..5).progress(hook);
    in_time(one_by_one.next()).await.unwrap().unwrap();
    assert!(last(&said).0 >= 1);
    while in_time(one_by_one.next()).await.is_some() {}
    assert_eq!(last(&said), (5, Some(5)));
}
