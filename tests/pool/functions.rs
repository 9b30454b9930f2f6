//! What may be a task function: async functions, closures that capture nothing, and functions that
//! are not async, by every verb.

use aiopool::{
    Argument, Pool, Process, TaskError, TaskFn, TaskOptions, TryTaskFn, Value, Worker, sync_fn,
};
use aiopool_testing::in_time;

struct Shop;

impl Shop {
    async fn price(item: u64) -> u64 {
        item * 10
    }
}

async fn add(a: u64, b: u64) -> u64 {
    a + b
}

async fn pair<T>(x: T) -> (T, T)
where
    T: Value + Clone,
{
    (x.clone(), x)
}

fn square(x: u64) -> u64 {
    x * x
}

fn half(x: u64) -> Result<u64, String> {
    if x.is_multiple_of(2) { Ok(x / 2) } else { Err(format!("{x} is odd")) }
}

fn pool() -> Pool {
    Pool::builder().processes(1).build().unwrap()
}

fn streamed<T>(items: Vec<T>) -> impl futures_core::Stream<Item = T> {
    struct Items<T>(std::vec::IntoIter<T>);
    impl<T> Unpin for Items<T> {}
    impl<T> futures_core::Stream for Items<T> {
        type Item = T;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            std::task::Poll::Ready(self.0.next())
        }
    }
    Items(items.into_iter())
}

#[tokio::test]
async fn closures_that_capture_nothing_are_tasks_and_infer_their_argument() {
    let pool = pool();
    let words = || ["one".to_owned(), "three".to_owned()];
    assert_eq!(in_time(pool.apply(|x| async move { x + 1 }, 1_u64)).await.unwrap(), 2);
    assert_eq!(in_time(pool.apply(async |x: u64| x + 1, 1)).await.unwrap(), 2);
    assert_eq!(in_time(pool.map(|s| async move { s.len() }, words())).await.unwrap(), [3, 5]);
    let stream = streamed(words().to_vec());
    let lengths = pool.map_stream(|s| async move { s.len() }, stream);
    assert_eq!(in_time(lengths).await.unwrap(), [3, 5]);
    let sums = pool.starmap(|a: u64, b: u64| async move { a + b }, [(1, 2), (3, 4)]);
    assert_eq!(in_time(sums).await.unwrap(), [3, 7]);
    let task = in_time(pool.submit(|x| async move { x * 3_u64 }, 2)).await.unwrap();
    assert_eq!(in_time(task).await.unwrap(), 6);
    let task = pool.submit_now(|x| async move { x * 3_u64 }, &2).unwrap();
    assert_eq!(in_time(task).await.unwrap(), 6);
}

#[tokio::test]
async fn closures_that_return_a_result_are_tasks_of_the_try_verbs() {
    let pool = pool();
    let parse = |s: String| async move { s.parse::<u64>() };
    let numbers = || ["1".to_owned(), "2".to_owned()];
    assert_eq!(in_time(pool.try_apply(parse, "7".to_owned())).await.unwrap(), 7);
    let refused = in_time(pool.try_apply(parse, "seven".to_owned())).await.unwrap_err();
    assert!(refused.to_string().contains("invalid digit"), "{refused}");
    assert_eq!(in_time(pool.try_map(parse, numbers())).await.unwrap(), [1, 2]);
    let parsed = pool.try_map(|s| async move { s.parse::<u64>() }, numbers());
    assert_eq!(in_time(parsed).await.unwrap(), [1, 2]);
    let stream = streamed(numbers().to_vec());
    assert_eq!(in_time(pool.try_map_stream(parse, stream)).await.unwrap(), [1, 2]);
    let sums = |a: u64, b: u64| async move { a.checked_add(b).ok_or("too large") };
    assert_eq!(in_time(pool.try_starmap(sums, [(1, 2)])).await.unwrap(), [3]);
}

#[tokio::test]
async fn no_argument_several_methods_and_generic_functions() {
    let pool = pool();
    let id = in_time(pool.apply(|()| async { std::process::id() }, ())).await.unwrap();
    assert_eq!(id, pool.worker_pids()[0]);
    assert_eq!(in_time(pool.map(|(a, b)| add(a, b), [(1, 2), (3, 4)])).await.unwrap(), [3, 7]);
    assert_eq!(in_time(pool.starmap(add, [(1, 2), (3, 4)])).await.unwrap(), [3, 7]);
    assert_eq!(in_time(pool.map(Shop::price, [1, 2])).await.unwrap(), [10, 20]);
    assert_eq!(in_time(pool.map(pair, [1_u8, 2])).await.unwrap(), [(1, 1), (2, 2)]);
    let (one, two) = in_time(pool.apply(pair::<String>, "x".to_owned())).await.unwrap();
    assert_eq!(one, two);
}

#[tokio::test]
async fn functions_that_are_not_async_are_tasks_by_sync_fn() {
    let pool = pool();
    assert_eq!(in_time(pool.apply(sync_fn(square), 5)).await.unwrap(), 25);
    assert_eq!(in_time(pool.map(sync_fn(square), 1..=3)).await.unwrap(), [1, 4, 9]);
    assert_eq!(in_time(pool.map(sync_fn(|x| x + 1_u64), 1..=3)).await.unwrap(), [2, 3, 4]);
    let halves = in_time(pool.try_map(sync_fn(half), [2, 3]).results()).await;
    assert_eq!(*halves[0].as_ref().unwrap(), 1);
    assert!(halves[1].as_ref().unwrap_err().to_string().contains("3 is odd"));
    let pid = in_time(pool.apply(sync_fn(|()| std::process::id()), ())).await.unwrap();
    assert_eq!(pid, pool.worker_pids()[0]);
}

#[tokio::test]
async fn a_process_and_a_worker_take_what_a_pool_takes() {
    assert_eq!(in_time(Worker::new(|x| async move { x + 1 }, 1_u64)).await.unwrap(), 2);
    assert_eq!(in_time(Worker::new(sync_fn(square), 3)).await.unwrap(), 9);
    let failed = in_time(Worker::try_new(sync_fn(half), 3)).await.unwrap_err();
    assert!(failed.to_string().contains("3 is odd"), "{failed}");
    let mut process = Process::try_new(|()| async { Err::<(), _>("never") }, ());
    process.start().unwrap();
    in_time(process.join(None)).await.unwrap();
    assert!(process.take_error().unwrap().to_string().contains("never"));
}

/// Bounds by name are enough for a function of one's own.
async fn every_way<F, A>(pool: &Pool, function: F, argument: A) -> Vec<F::Value>
where
    F: TaskFn<A>,
    A: Argument + Clone,
{
    let options = TaskOptions::new().retries(1);
    let mut values = vec![pool.apply(function, argument.clone()).await.unwrap()];
    values.push(pool.with(options).apply(function, argument.clone()).await.unwrap());
    values.extend(pool.map(function, [argument]).await.unwrap());
    values
}

async fn errors_of<F, A>(pool: &Pool, function: F, items: Vec<A>) -> usize
where
    F: TryTaskFn<A>,
    A: Argument,
{
    pool.try_map(function, items).results().await.iter().filter(|result| result.is_err()).count()
}

#[tokio::test]
async fn a_function_of_ones_own_names_the_bounds() {
    let pool = pool();
    assert_eq!(in_time(every_way(&pool, Shop::price, 1)).await, [10, 10, 10]);
    assert_eq!(in_time(every_way(&pool, |x: u8| async move { x }, 1)).await, [1, 1, 1]);
    assert_eq!(in_time(errors_of(&pool, sync_fn(half), vec![1, 2, 3])).await, 2);
}

#[tokio::test]
async fn clones_are_handles_of_one_pool_that_ends_with_the_last() {
    let pool = pool();
    let other = pool.clone();
    let worker = pool.worker_pids()[0];
    let elsewhere = tokio::spawn(async move { other.apply(sync_fn(square), 3).await.unwrap() });
    assert_eq!(in_time(elsewhere).await.unwrap(), 9);
    let last = pool.clone();
    drop(pool);
    assert_eq!(in_time(last.apply(Shop::price, 2)).await.unwrap(), 20);
    assert_eq!(last.worker_pids(), [worker]);
    let task = last.apply(|()| std::future::pending::<u8>(), ());
    drop(last);
    let ended = in_time(task).await.unwrap_err();
    assert!(matches!(ended, TaskError::PoolClosed { .. }), "{ended:?}");
    assert!(!std::path::Path::new(&format!("/proc/{worker}")).exists());
}

#[test]
fn the_old_name_of_submit_now_still_works() {
    let pool = pool();
    #[expect(deprecated)]
    let task = pool.try_submit(square_later, &4).unwrap();
    assert_eq!(task.wait().unwrap(), 16);
}

async fn square_later(x: u64) -> u64 {
    square(x)
}

/// A type of the test's own, whose methods are task functions.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Counter(u64);

impl Counter {
    async fn next(self) -> Self {
        Self(self.0 + 1)
    }

    async fn of(text: String) -> Result<Self, std::num::ParseIntError> {
        text.parse().map(Self)
    }

    async fn zero() -> Self {
        Self(0)
    }

    async fn sum(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

async fn parse<T: std::str::FromStr<Err: std::fmt::Display> + 'static>(
    text: String,
) -> Result<T, T::Err> {
    text.parse()
}

#[tokio::test]
async fn functions_are_taken_as_they_come() {
    let pool = aiopool::Pool::builder().processes(1).build().unwrap();
    // Paths to methods, associated functions, functions of the standard library.
    assert_eq!(pool.apply(Counter::next, Counter(6)).await.unwrap(), Counter(7));
    assert_eq!(pool.try_apply(Counter::of, "8".into()).await.unwrap(), Counter(8));
    assert_eq!(pool.apply(aiopool::sync_fn(u64::count_ones), 7).await.unwrap(), 3);
    assert_eq!(
        pool.apply(aiopool::sync_fn(String::into_bytes), "four".to_owned()).await.unwrap(),
        b"four"
    );
    // No argument and several, with an error or without.
    assert_eq!(pool.apply_star(Counter::zero, ()).await.unwrap(), Counter(0));
    let two = (Counter(1), Counter(2));
    assert_eq!(pool.apply_star(Counter::sum, two).await.unwrap(), Counter(3));
    assert_eq!(pool.try_apply_star(Counter::of, ("9".to_owned(),)).await.unwrap(), Counter(9));
    // Generic functions, each of its types a function of its own.
    assert_eq!(pool.try_apply(parse::<u8>, "10".into()).await.unwrap(), 10);
    assert!(pool.try_apply(parse::<u8>, "1000".into()).await.is_err());
    assert!((pool.try_apply(parse::<f64>, "0.5".into()).await.unwrap() - 0.5).abs() < 1e-9);
    let all = pool.map(Counter::next, (0..3).map(Counter)).await.unwrap();
    assert_eq!(all, [Counter(1), Counter(2), Counter(3)]);
}
