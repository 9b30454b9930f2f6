//! The verbs of [`Submit`](crate::Submit) with the default options, so that a pool itself has them.

use bytes::Bytes;
use futures_core::Stream;

use crate::task::{Argument, TaskError, TaskFn, TaskOptions, TryTaskFn, Value};

use super::Pool;
use super::broadcast::Broadcast;
use super::map::{Flat, Keyed, Map};
use super::parts::{Part, Parts};
use super::source::FromStream;
use super::star::{StarFn, TryStarFn};
use super::task::Task;
use super::task_set::TaskSet;

// Each verb names `CHECK`, like the verb of `Submit`: the compiler shows the line of the caller
// only if the verb that is called names the constant.
impl Pool {
    /// [`Submit::apply`](crate::Submit::apply) with the default options.
    pub fn apply<F, A>(&self, function: F, argument: A) -> Task<F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).apply(function, argument)
    }

    /// [`Submit::try_apply`](crate::Submit::try_apply) with the default options.
    pub fn try_apply<F, A>(&self, function: F, argument: A) -> Task<F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_apply(function, argument)
    }

    /// [`Submit::submit_now`](crate::Submit::submit_now) with the default options.
    ///
    /// # Errors
    ///
    /// As [`Submit::submit_now`](crate::Submit::submit_now).
    pub fn submit_now<F, A>(&self, function: F, argument: &A) -> Result<Task<F::Value>, TaskError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).submit_now(function, argument)
    }

    /// The old name of [`submit_now`](Self::submit_now): `try_` is for functions that can fail.
    ///
    /// # Errors
    ///
    /// As [`submit_now`](Self::submit_now).
    #[deprecated = "renamed to `submit_now`: `try_` marks the verbs for functions that return a `Result`"]
    pub fn try_submit<F, A>(&self, function: F, argument: &A) -> Result<Task<F::Value>, TaskError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.submit_now(function, argument)
    }

    /// [`Submit::submit`](crate::Submit::submit) with the default options.
    ///
    /// # Errors
    ///
    /// As [`Submit::submit`](crate::Submit::submit).
    ///
    /// # Cancel safety
    ///
    /// As [`Submit::submit`](crate::Submit::submit).
    pub async fn submit<F, A>(&self, function: F, argument: A) -> Result<Task<F::Value>, TaskError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).submit(function, argument).await
    }

    /// [`Submit::map`](crate::Submit::map) with the default options.
    pub fn map<F, A, I>(&self, function: F, items: I) -> Map<I::IntoIter, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).map(function, items)
    }

    /// [`Submit::try_map`](crate::Submit::try_map) with the default options.
    pub fn try_map<F, A, I>(&self, function: F, items: I) -> Map<I::IntoIter, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_map(function, items)
    }

    /// [`Submit::map_keyed`](crate::Submit::map_keyed) with the default options.
    ///
    /// ```
    /// # fn main() -> aiopool::Result<()> {
    /// async fn shout(word: String) -> String {
    ///     word.to_uppercase()
    /// }
    ///
    /// let pool = aiopool::Pool::builder().processes(2).build()?;
    /// let words = [("en", "hello"), ("de", "hallo")].map(|(key, word)| (key, word.to_owned()));
    /// for (language, word) in pool.map_keyed(shout, words).as_completed().into_blocking_iter() {
    ///     match word {
    ///         Ok(word) => assert!(word == if language == "en" { "HELLO" } else { "HALLO" }),
    ///         Err(error) => eprintln!("{language}: {error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_keyed<F, K, A, I>(&self, function: F, items: I) -> Keyed<I::IntoIter, K, A, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = (K, A)>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).map_keyed(function, items)
    }

    /// [`Submit::try_map_keyed`](crate::Submit::try_map_keyed) with the default options.
    pub fn try_map_keyed<F, K, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Keyed<I::IntoIter, K, A, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = (K, A)>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_map_keyed(function, items)
    }

    /// [`Submit::map_stream`](crate::Submit::map_stream) with the default options.
    pub fn map_stream<F, A, S>(&self, function: F, items: S) -> Map<FromStream<S>, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        S: Stream<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).map_stream(function, items)
    }

    /// [`Submit::try_map_stream`](crate::Submit::try_map_stream) with the default options.
    pub fn try_map_stream<F, A, S>(&self, function: F, items: S) -> Map<FromStream<S>, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        S: Stream<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_map_stream(function, items)
    }

    /// [`Submit::starmap`](crate::Submit::starmap) with the default options.
    pub fn starmap<F, A, I>(&self, function: F, items: I) -> Map<I::IntoIter, F::Value>
    where
        F: StarFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).starmap(function, items)
    }

    /// [`Submit::try_starmap`](crate::Submit::try_starmap) with the default options.
    pub fn try_starmap<F, A, I>(&self, function: F, items: I) -> Map<I::IntoIter, F::Value>
    where
        F: TryStarFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_starmap(function, items)
    }

    /// [`Submit::map_flat`](crate::Submit::map_flat) with the default options.
    ///
    /// ```
    /// # fn main() -> aiopool::Result<()> {
    /// async fn words(line: String) -> Vec<String> {
    ///     line.split_whitespace().map(String::from).collect()
    /// }
    ///
    /// let pool = aiopool::Pool::builder().processes(2).build()?;
    /// let lines = ["to be or", "", "not to be"].map(String::from);
    /// let words = pool.map_flat(words, lines).into_blocking_iter().flatten();
    /// assert!(words.eq(["to", "be", "or", "not", "to", "be"]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_flat<F, A, I>(&self, function: F, items: I) -> Flat<I::IntoIter, F::Value>
    where
        F: TaskFn<A, Value: IntoIterator>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).map_flat(function, items)
    }

    /// [`Submit::try_map_flat`](crate::Submit::try_map_flat) with the default options.
    pub fn try_map_flat<F, A, I>(&self, function: F, items: I) -> Flat<I::IntoIter, F::Value>
    where
        F: TryTaskFn<A, Value: IntoIterator>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_map_flat(function, items)
    }

    /// [`Submit::map_parts`](crate::Submit::map_parts) with the default options.
    ///
    /// ```
    /// use aiopool::{Part, Pool};
    ///
    /// /// The squares below `end`, at most four at a time.
    /// async fn squares((begin, end): (u64, u64)) -> Part<u64, (u64, u64)> {
    ///     let there = (begin + 4).min(end);
    ///     let values = (begin..there).map(|x| x * x).collect();
    ///     if there == end { Part::last(values) } else { Part::more(values, (there, end)) }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder().processes(1).build()?;
    /// let squares = pool.map_parts(squares, [(0, 10)]).into_blocking_iter();
    /// assert_eq!(squares.collect::<Result<Vec<_>, _>>()?, [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn map_parts<F, V, A, I>(&self, function: F, items: I) -> Parts<I::IntoIter, V, A>
    where
        F: TaskFn<A, Value = Part<V, A>>,
        V: Value,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).map_parts(function, items)
    }

    /// [`Submit::try_map_parts`](crate::Submit::try_map_parts) with the default options.
    pub fn try_map_parts<F, V, A, I>(&self, function: F, items: I) -> Parts<I::IntoIter, V, A>
    where
        F: TryTaskFn<A, Value = Part<V, A>>,
        V: Value,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_map_parts(function, items)
    }

    /// [`Submit::apply_star`](crate::Submit::apply_star) with the default options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// async fn add(a: u64, b: u64) -> u64 {
    ///     a + b
    /// }
    ///
    /// async fn pid() -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// let pool = aiopool::Pool::builder().processes(1).build()?;
    /// assert_eq!(pool.apply_star(add, (3, 4)).wait()?, 7);
    /// assert_eq!(pool.apply_star(pid, ()).wait()?, pool.worker_pids()[0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Submit::apply`](crate::Submit::apply).
    pub fn apply_star<F: StarFn<A>, A: Argument>(
        &self,
        function: F,
        arguments: A,
    ) -> Task<F::Value> {
        const { F::CHECK };
        self.with(TaskOptions::new()).apply_star(function, arguments)
    }

    /// [`Submit::try_apply_star`](crate::Submit::try_apply_star) with the default options.
    ///
    /// # Errors
    ///
    /// As [`Submit::apply`](crate::Submit::apply).
    pub fn try_apply_star<F: TryStarFn<A>, A: Argument>(
        &self,
        function: F,
        arguments: A,
    ) -> Task<F::Value> {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_apply_star(function, arguments)
    }

    /// [`Submit::apply_many`](crate::Submit::apply_many) with the default options.
    pub fn apply_many<F, A, I>(&self, function: F, arguments: I) -> TaskSet<F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        const { F::CHECK };
        self.with(TaskOptions::new()).apply_many(function, arguments)
    }

    /// Returns an empty [`TaskSet`](crate::TaskSet) for tasks with the default options.
    pub fn task_set<T>(&self) -> TaskSet<T> {
        self.with(TaskOptions::new()).task_set()
    }

    /// [`Submit::broadcast`](crate::Submit::broadcast) with the default options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// async fn pid(_: ()) -> u32 {
    ///     std::process::id()
    /// }
    ///
    /// let pool = aiopool::Pool::builder().processes(2).build()?;
    /// let pids = pool.broadcast(pid, ()).wait();
    /// assert!(pids.iter().flatten().all(|pid| pool.worker_pids().contains(pid)));
    /// assert_eq!(pids.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of each worker's own task.
    pub fn broadcast<F: TaskFn<A>, A: Argument>(
        &self,
        function: F,
        argument: A,
    ) -> Broadcast<F::Value> {
        const { F::CHECK };
        self.with(TaskOptions::new()).broadcast(function, argument)
    }

    /// [`Submit::try_broadcast`](crate::Submit::try_broadcast) with the default options.
    ///
    /// # Errors
    ///
    /// Those of each worker's own task.
    pub fn try_broadcast<F: TryTaskFn<A>, A: Argument>(
        &self,
        function: F,
        argument: A,
    ) -> Broadcast<F::Value> {
        const { F::CHECK };
        self.with(TaskOptions::new()).try_broadcast(function, argument)
    }

    /// [`Submit::apply_named`](crate::Submit::apply_named) with the default options.
    pub fn apply_named(&self, name: &str, input: impl Into<Bytes>) -> Task<Bytes> {
        self.with(TaskOptions::new()).apply_named(name, input)
    }
}
