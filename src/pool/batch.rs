//! The verbs that say when a task is in its queue: `submit` and `submit_now`.

use crate::task::{Argument, TaskError, TaskFn};

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
    pub fn submit_now<F, A>(self, function: F, argument: &A) -> Result<Task<F::Value>, TaskError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.apply_ref(function, argument).submitted_now()
    }

    /// The old name of [`submit_now`](Self::submit_now): `try_` is for functions that can fail.
    ///
    /// # Errors
    ///
    /// As [`submit_now`](Self::submit_now).
    #[deprecated = "renamed to `submit_now`: `try_` marks the verbs for functions that return a `Result`"]
    pub fn try_submit<F, A>(self, function: F, argument: &A) -> Result<Task<F::Value>, TaskError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.submit_now(function, argument)
    }

    /// Submits a task, and waits for room in a full pool before it does.
    ///
    /// For a function whose errors are to become the task's:
    /// `try_apply(function, argument).submitted().await`. For many items and a handle each, call
    /// it in a loop; [`map`](Self::map) is the verb for items without end.
    ///
    /// # Errors
    ///
    /// Why it was not submitted.
    ///
    /// # Cancel safety
    ///
    /// When the wait is given up, the task is not submitted.
    pub async fn submit<F, A>(self, function: F, argument: A) -> Result<Task<F::Value>, TaskError>
    where
        F: TaskFn<A>,
        A: Argument,
    {
        const { F::CHECK };
        self.apply(function, argument).submitted().await
    }
}
