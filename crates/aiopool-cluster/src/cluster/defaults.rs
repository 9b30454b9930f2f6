//! The verbs of [`Submit`](super::Submit) with the default options.

use aiopool::{Argument, Part, StarFn, TaskFn, TaskOptions, TryStarFn, TryTaskFn, Value};
use bytes::Bytes;
use futures_core::Stream;

use super::{Cluster, Encoded, Flat, Keyed, Map, Parts, Task, TaskSet};
use crate::error::ClusterError;

impl Cluster {
    /// As [`Submit::apply`](super::Submit::apply), with the default options.
    pub fn apply<F: TaskFn<A>, A: Argument>(&self, function: F, argument: A) -> Task<F::Value> {
        self.with(TaskOptions::new()).apply(function, argument)
    }

    /// As [`Submit::try_apply`](super::Submit::try_apply), with the default options.
    pub fn try_apply<F, A>(&self, function: F, argument: A) -> Task<F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
    {
        self.with(TaskOptions::new()).try_apply(function, argument)
    }

    /// As [`Submit::apply_named`](super::Submit::apply_named), with the default options.
    pub fn apply_named(&self, name: &str, input: impl Into<Bytes>) -> Task<Bytes> {
        self.with(TaskOptions::new()).apply_named(name, input)
    }

    /// As [`Submit::map`](super::Submit::map), with the default options.
    pub fn map<F, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).map(function, items)
    }

    /// As [`Submit::try_map`](super::Submit::try_map), with the default options.
    pub fn try_map<F, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).try_map(function, items)
    }

    /// As [`Submit::map_stream`](super::Submit::map_stream), with the default options.
    pub fn map_stream<F, A, S>(
        &self,
        function: F,
        items: S,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, S>, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        S: Stream<Item = A>,
    {
        self.with(TaskOptions::new()).map_stream(function, items)
    }

    /// As [`Submit::try_map_stream`](super::Submit::try_map_stream), with the default options.
    pub fn try_map_stream<F, A, S>(
        &self,
        function: F,
        items: S,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, S>, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        S: Stream<Item = A>,
    {
        self.with(TaskOptions::new()).try_map_stream(function, items)
    }

    /// As [`Submit::starmap`](super::Submit::starmap), with the default options.
    pub fn starmap<F, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: StarFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).starmap(function, items)
    }

    /// As [`Submit::try_starmap`](super::Submit::try_starmap), with the default options.
    pub fn try_starmap<F, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TryStarFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).try_starmap(function, items)
    }

    /// As [`Submit::map_keyed`](super::Submit::map_keyed), with the default options.
    pub fn map_keyed<F, K, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Keyed<impl Stream<Item = Encoded> + use<F, K, A, I>, K, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = (K, A)>,
    {
        self.with(TaskOptions::new()).map_keyed(function, items)
    }

    /// As [`Submit::try_map_keyed`](super::Submit::try_map_keyed), with the default options.
    pub fn try_map_keyed<F, K, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Keyed<impl Stream<Item = Encoded> + use<F, K, A, I>, K, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = (K, A)>,
    {
        self.with(TaskOptions::new()).try_map_keyed(function, items)
    }

    /// As [`Submit::submit_now`](super::Submit::submit_now), with the default options.
    ///
    /// # Errors
    ///
    /// As [`Task::submitted_now`].
    pub fn submit_now<F, A>(
        &self,
        function: F,
        argument: &A,
    ) -> Result<Task<F::Value>, ClusterError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        self.with(TaskOptions::new()).submit_now(function, argument)
    }

    /// As [`Submit::submit`](super::Submit::submit), with the default options.
    ///
    /// # Errors
    ///
    /// As [`Task::submitted`].
    pub async fn submit<F, A>(
        &self,
        function: F,
        argument: A,
    ) -> Result<Task<F::Value>, ClusterError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        self.with(TaskOptions::new()).submit(function, argument).await
    }

    /// As [`Submit::apply_star`](super::Submit::apply_star), with the default options.
    pub fn apply_star<F: StarFn<A>, A: Argument>(
        &self,
        function: F,
        arguments: A,
    ) -> Task<F::Value> {
        self.with(TaskOptions::new()).apply_star(function, arguments)
    }

    /// As [`Submit::try_apply_star`](super::Submit::try_apply_star), with the default options.
    pub fn try_apply_star<F, A>(&self, function: F, arguments: A) -> Task<F::Value>
    where
        F: TryStarFn<A>,
        A: Argument,
    {
        self.with(TaskOptions::new()).try_apply_star(function, arguments)
    }

    /// As [`Submit::apply_many`](super::Submit::apply_many), with the default options.
    pub fn apply_many<F, A, I>(&self, function: F, arguments: I) -> TaskSet<F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).apply_many(function, arguments)
    }

    /// As [`Submit::task_set`](super::Submit::task_set), with the default options.
    pub fn task_set<T>(&self) -> TaskSet<T> {
        self.with(TaskOptions::new()).task_set()
    }

    /// As [`Submit::map_flat`](super::Submit::map_flat), with the default options.
    pub fn map_flat<F, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Flat<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TaskFn<A, Value: IntoIterator>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).map_flat(function, items)
    }

    /// As [`Submit::try_map_flat`](super::Submit::try_map_flat), with the default options.
    pub fn try_map_flat<F, A, I>(
        &self,
        function: F,
        items: I,
    ) -> Flat<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TryTaskFn<A, Value: IntoIterator>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).try_map_flat(function, items)
    }
    /// As [`Submit::map_parts`](super::Submit::map_parts), with the default options.
    pub fn map_parts<F, V, A, I>(&self, function: F, items: I) -> Parts<I::IntoIter, V, A>
    where
        F: TaskFn<A, Value = Part<V, A>>,
        V: Value,
        A: Argument + Value,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).map_parts(function, items)
    }

    /// As [`Submit::try_map_parts`](super::Submit::try_map_parts), with the default options.
    pub fn try_map_parts<F, V, A, I>(&self, function: F, items: I) -> Parts<I::IntoIter, V, A>
    where
        F: TryTaskFn<A, Value = Part<V, A>>,
        V: Value,
        A: Argument + Value,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).try_map_parts(function, items)
    }
}
