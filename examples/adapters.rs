//! A pool as a `tower` service, and as an executor that tests replace by one without processes.
//!
//! A pool has room for a task, whose queue, class and size are not known before the call: so the wait
//! for room is part of the call, and the library has no such type. What bounds the calls is around it.

use std::pin::Pin;
use std::task::{Context, Poll};

use aiopool::{Argument, Pool, TaskError, TaskFn};
use tower_service::Service;

/// A task function as a service: a request is its argument, a full pool holds requests up.
#[derive(Clone)]
struct PoolService<F>(Pool, F);

impl<F: TaskFn<A>, A: Argument + Send> Service<A> for PoolService<F> {
    type Response = F::Value;
    type Error = TaskError;
    type Future = Pin<Box<dyn Future<Output = Result<F::Value, TaskError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TaskError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, argument: A) -> Self::Future {
        let Self(pool, function) = self.clone();
        Box::pin(async move { pool.submit(function, argument).await?.await })
    }
}

/// Something that runs functions: in workers, or, for tests, here.
enum Executor {
    Workers(Pool),
    ThisProcess,
}

impl Executor {
    async fn run<F: TaskFn<A>, A: Argument>(&self, f: F, a: A) -> Result<F::Value, TaskError> {
        match self {
            Self::Workers(pool) => pool.apply(f, a).await,
            Self::ThisProcess => Ok(f(a).await),
        }
    }
}

async fn shout(word: String) -> String {
    format!("{} from {}", word.to_uppercase(), std::process::id())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::builder().processes(1).build()?;
    let mut service = PoolService(pool.clone(), shout);
    println!("a service: {}", service.call("hello".to_owned()).await?);
    for executor in [Executor::Workers(pool), Executor::ThisProcess] {
        println!("an executor: {}", executor.run(shout, "hello".to_owned()).await?);
    }
    Ok(())
}
