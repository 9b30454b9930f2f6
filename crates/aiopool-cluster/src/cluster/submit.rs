//! The verbs that submit.

use std::sync::Arc;

use aiopool::remote::{self, Place};
use aiopool::{Argument, Part, StarFn, TaskFn, TaskOptions, TryStarFn, TryTaskFn, Value};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::{StreamExt, stream};

use super::flat::Flat;
use super::keyed::{Keyed, split};
use super::map::{Encoded, Map};
use super::parts::Parts;
use super::task::Task;
use super::task_set::TaskSet;
use super::{Error, Shared};
use crate::blob::LARGEST;
use crate::error::ClusterError;
use crate::wire::{CLASSES, Function};

/// The verbs of a cluster with options for the tasks they submit; see
/// [`Cluster::with`](super::Cluster::with).
#[derive(Clone, Copy, Debug)]
pub struct Submit<'c> {
    pub(super) shared: &'c Arc<Shared>,
    pub(super) options: TaskOptions,
}

impl Submit<'_> {
    /// Runs `function` on `argument` on a node of this build.
    ///
    /// The task is submitted at once; where too many are out, it is submitted when there is room
    /// and the handle is polled.
    pub fn apply<F: TaskFn<A>, A: Argument>(self, function: F, argument: A) -> Task<F::Value> {
        self.one(Place::of(function), &argument)
    }

    /// [`apply`](Self::apply) for a function that returns a `Result`: its error becomes the task's.
    pub fn try_apply<F, A>(self, function: F, argument: A) -> Task<F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
    {
        self.one(Place::of_try(function), &argument)
    }

    /// Runs a function of several arguments, or of none, on a tuple of them.
    pub fn apply_star<F: StarFn<A>, A: Argument>(
        self,
        function: F,
        arguments: A,
    ) -> Task<F::Value> {
        self.one(Place::of_star(function), &arguments)
    }

    /// [`apply_star`](Self::apply_star) for a function that returns a `Result`.
    pub fn try_apply_star<F, A>(self, function: F, arguments: A) -> Task<F::Value>
    where
        F: TryStarFn<A>,
        A: Argument,
    {
        self.one(Place::of_try_star(function), &arguments)
    }

    /// Runs `function` on each of `arguments`, all of which are taken now: a [`TaskSet`] of them,
    /// whose results come with the number of the argument.
    pub fn apply_many<F, A, I>(self, function: F, arguments: I) -> TaskSet<F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        let mut tasks = self.task_set();
        for argument in arguments {
            tasks.apply(function, argument);
        }
        tasks
    }

    /// Returns an empty set for tasks that are waited for together.
    pub fn task_set<T>(self) -> TaskSet<T> {
        TaskSet::new(Arc::clone(self.shared), self.options)
    }

    /// Runs the function that workers know as `name` on raw bytes, on a node of the handle's
    /// version.
    pub fn apply_named(self, name: &str, input: impl Into<Bytes>) -> Task<Bytes> {
        self.bytes(Function::Named(name.to_owned()), Ok(input.into()))
    }

    /// Runs `function` on each of `items`. Items are taken only as there is room for them; the
    /// results come in the order of the items.
    pub fn map<F, A, I>(
        self,
        function: F,
        items: I,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.all(Place::of(function), stream::iter(items.into_iter().map(encode)))
    }

    /// [`map`](Self::map) for a function that returns a `Result`.
    pub fn try_map<F, A, I>(
        self,
        function: F,
        items: I,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.all(Place::of_try(function), stream::iter(items.into_iter().map(encode)))
    }

    /// [`map`](Self::map) over pairs of a key and an argument: each result comes with its key.
    pub fn map_keyed<F, K, A, I>(
        self,
        function: F,
        items: I,
    ) -> Keyed<impl Stream<Item = Encoded> + use<F, K, A, I>, K, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = (K, A)>,
    {
        let (keys, arguments) = split(items);
        Keyed::new(self.all(Place::of(function), stream::iter(arguments.map(encode))), keys)
    }

    /// [`map_keyed`](Self::map_keyed) for a function that returns a `Result`.
    pub fn try_map_keyed<F, K, A, I>(
        self,
        function: F,
        items: I,
    ) -> Keyed<impl Stream<Item = Encoded> + use<F, K, A, I>, K, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        I: IntoIterator<Item = (K, A)>,
    {
        let (keys, arguments) = split(items);
        Keyed::new(self.all(Place::of_try(function), stream::iter(arguments.map(encode))), keys)
    }

    /// [`map`](Self::map) for a function that yields several values for an item, or none.
    pub fn map_flat<F, A, I>(
        self,
        function: F,
        items: I,
    ) -> Flat<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TaskFn<A, Value: IntoIterator>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        Flat::new(self.map(function, items))
    }

    /// [`map_flat`](Self::map_flat) for a function that returns a `Result`.
    pub fn try_map_flat<F, A, I>(
        self,
        function: F,
        items: I,
    ) -> Flat<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TryTaskFn<A, Value: IntoIterator>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        Flat::new(self.try_map(function, items))
    }

    /// [`map`](Self::map) for a function that yields its values part by part: it returns some, and
    /// what it is to be called with for the next ones, on whichever node.
    ///
    /// A reader that stops holds the tasks up, so memory is bounded by the [window](Parts::window).
    /// Each part is a task: options are of each, and a death costs one part and no value that was
    /// given. A durable [`Job`](super::Job) has no such maps: the one result is an error that says
    /// so.
    pub fn map_parts<F, V, A, I>(self, function: F, items: I) -> Parts<I::IntoIter, V, A>
    where
        F: TaskFn<A, Value = Part<V, A>>,
        V: Value,
        A: Argument + Value,
        I: IntoIterator<Item = A>,
    {
        let add = move |tasks: &mut TaskSet<F::Value>, argument| {
            tasks.apply(function, argument);
        };
        Parts::new(items.into_iter(), self.task_set(), Box::new(add))
    }

    /// [`map_parts`](Self::map_parts) for a function that returns a `Result`.
    pub fn try_map_parts<F, V, A, I>(self, function: F, items: I) -> Parts<I::IntoIter, V, A>
    where
        F: TryTaskFn<A, Value = Part<V, A>>,
        V: Value,
        A: Argument + Value,
        I: IntoIterator<Item = A>,
    {
        let add = move |tasks: &mut TaskSet<F::Value>, argument| {
            tasks.try_apply(function, argument);
        };
        Parts::new(items.into_iter(), self.task_set(), Box::new(add))
    }

    /// Submits a task if there is room for it now; the argument is only borrowed.
    ///
    /// # Errors
    ///
    /// As [`Task::submitted_now`].
    pub fn submit_now<F, A>(self, function: F, argument: &A) -> Result<Task<F::Value>, ClusterError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        self.one(Place::of(function), argument).submitted_now()
    }

    /// Submits a task, and waits for room if there is none.
    ///
    /// # Errors
    ///
    /// As [`Task::submitted`].
    pub async fn submit<F, A>(
        self,
        function: F,
        argument: A,
    ) -> Result<Task<F::Value>, ClusterError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        self.apply(function, argument).submitted().await
    }

    /// [`map`](Self::map) over an async stream.
    pub fn map_stream<F, A, S>(
        self,
        function: F,
        items: S,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, S>, F::Value>
    where
        F: TaskFn<A>,
        A: Argument,
        S: Stream<Item = A>,
    {
        self.all(Place::of(function), items.map(encode))
    }

    /// [`try_map`](Self::try_map) over an async stream.
    pub fn try_map_stream<F, A, S>(
        self,
        function: F,
        items: S,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, S>, F::Value>
    where
        F: TryTaskFn<A>,
        A: Argument,
        S: Stream<Item = A>,
    {
        self.all(Place::of_try(function), items.map(encode))
    }

    /// [`map`](Self::map) for a function of several arguments and items that are tuples of them.
    pub fn starmap<F, A, I>(
        self,
        function: F,
        items: I,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: StarFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.all(Place::of_star(function), stream::iter(items.into_iter().map(encode)))
    }

    /// [`starmap`](Self::starmap) for a function that returns a `Result`.
    pub fn try_starmap<F, A, I>(
        self,
        function: F,
        items: I,
    ) -> Map<impl Stream<Item = Encoded> + use<F, A, I>, F::Value>
    where
        F: TryStarFn<A>,
        A: Argument,
        I: IntoIterator<Item = A>,
    {
        self.all(Place::of_try_star(function), stream::iter(items.into_iter().map(encode)))
    }

    fn one<A: Argument, T>(self, place: Place, argument: &A) -> Task<T> {
        let input = remote::encode(argument).map(Bytes::from);
        self.bytes(Function::Place(place.to_bits()), input)
    }

    fn bytes<T>(self, function: Function, input: Encoded) -> Task<T> {
        Task::submit(self.shared, function, self.options, input)
    }

    fn all<S: Stream<Item = Encoded>, T>(self, place: Place, items: S) -> Map<S, T> {
        Map::new(Arc::clone(self.shared), Function::Place(place.to_bits()), self.options, items)
    }
}

fn encode<A: Argument>(argument: A) -> Encoded {
    remote::encode(&argument).map(Bytes::from)
}

/// Checks what can be checked before a task is submitted.
pub(super) fn check(
    shared: &Shared,
    options: &TaskOptions,
    input: Encoded,
) -> Result<(String, Bytes), ClusterError> {
    let invalid = |name, value: String, allowed: &str| {
        ClusterError::Ended(Error::InvalidOption { name, value, allowed: allowed.to_owned() })
    };
    let build = shared.build.clone().map_err(ClusterError::Ended)?;
    shared.check_process()?;
    if shared.lost.get().is_some() {
        return Err(ClusterError::Ended(shared.gone()));
    }
    let input = input.map_err(|reason| ClusterError::from(aiopool::TaskError::Value(reason)))?;
    if input.len() > LARGEST {
        let size = format!("{} bytes", input.len());
        return Err(invalid("input", size, "up to 64 MiB: pass the place of larger data"));
    }
    let priority = remote::limits(options).priority;
    if priority >= CLASSES {
        return Err(invalid("priority", priority.to_string(), "0 to 3, 0 the most urgent"));
    }
    Ok((build, input))
}
