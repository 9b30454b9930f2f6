//! The verbs that say when a task is in its queue: `try_submit`, `submit` and `submit_many`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::task::{Finish, Plain, TaskError, TaskOptions};

use super::Pool;
use super::submit::Submit;
use super::task::Task;

impl Submit<'_> {
    /// Submits a task if there is room for it; never waits.
    ///
    /// For a function whose errors are to become the task's:
    /// `try_apply(function, argument).submitted_now()`.
    ///
    /// # Errors
    ///
    /// Why it was not submitted; [`TaskError::is_full`] tells whether to try again later. The
    /// argument is only borrowed, so nothing is lost.
    pub fn try_submit<F, A, Fut>(
        self,
        function: F,
        argument: &A,
    ) -> Result<Task<<Plain as Finish<Fut::Output>>::Value>, TaskError>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
    {
        self.apply_ref(function, argument).submitted_now()
    }

    /// Submits a task, and waits for room in a full pool before it does.
    ///
    /// For a function whose errors are to become the task's:
    /// `try_apply(function, argument).submitted().await`.
    ///
    /// # Errors
    ///
    /// Why it was not submitted.
    ///
    /// # Cancel safety
    ///
    /// When the wait is given up, the task is not submitted.
    pub async fn submit<F, A, Fut>(
        self,
        function: F,
        argument: A,
    ) -> Result<Task<<Plain as Finish<Fut::Output>>::Value>, TaskError>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
    {
        self.apply(function, argument).submitted().await
    }

    /// Submits a task for each of `items`, in order, and waits for room wherever there is none.
    ///
    /// One handle an item; [`map`](Self::map) is the verb for items without end.
    ///
    /// # Errors
    ///
    /// Why a task was not submitted; those before it are called off.
    ///
    /// # Cancel safety
    ///
    /// When the wait is given up, all of them are called off.
    pub async fn submit_many<F, A, Fut, I>(
        self,
        function: F,
        items: I,
    ) -> Result<Vec<Task<<Plain as Finish<Fut::Output>>::Value>>, TaskError>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
        I: IntoIterator<Item = A>,
    {
        let items = items.into_iter();
        let mut tasks = Vec::with_capacity(items.size_hint().0);
        for item in items {
            tasks.push(self.submit(function, item).await?);
        }
        Ok(tasks)
    }
}

impl Pool {
    /// As [`Submit::try_submit`], with the default options.
    ///
    /// # Errors
    ///
    /// As [`Submit::try_submit`].
    pub fn try_submit<F, A, Fut>(
        &self,
        function: F,
        argument: &A,
    ) -> Result<Task<<Plain as Finish<Fut::Output>>::Value>, TaskError>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
    {
        self.with(TaskOptions::new()).try_submit(function, argument)
    }

    /// As [`Submit::submit`], with the default options.
    ///
    /// # Errors
    ///
    /// As [`Submit::submit`].
    ///
    /// # Cancel safety
    ///
    /// As [`Submit::submit`].
    pub async fn submit<F, A, Fut>(
        &self,
        function: F,
        argument: A,
    ) -> Result<Task<<Plain as Finish<Fut::Output>>::Value>, TaskError>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
    {
        self.with(TaskOptions::new()).submit(function, argument).await
    }

    /// As [`Submit::submit_many`], with the default options.
    ///
    /// # Errors
    ///
    /// As [`Submit::submit_many`].
    ///
    /// # Cancel safety
    ///
    /// As [`Submit::submit_many`].
    pub async fn submit_many<F, A, Fut, I>(
        &self,
        function: F,
        items: I,
    ) -> Result<Vec<Task<<Plain as Finish<Fut::Output>>::Value>>, TaskError>
    where
        F: Fn(A) -> Fut + Copy + Send + 'static,
        A: Serialize + DeserializeOwned + 'static,
        Fut: Future + 'static,
        Plain: Finish<Fut::Output>,
        I: IntoIterator<Item = A>,
    {
        self.with(TaskOptions::new()).submit_many(function, items).await
    }
}
