//! Building a pool: options, their ranges, and what the system is asked for.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::control::{Control, LAYOUT_VERSION};
use crate::error::{Error, Result};
use crate::launch::{Confinement, Launcher, PoolFds, PoolSpec, StartMethod};
use crate::logs::{Logs, Reader};
use crate::queue::{Common, HostQueue, Inputs, searchers};
use crate::ring::MAX_CLASSES;
use crate::scheduler::{RoundRobin, Scheduler};
#[cfg(feature = "stats-page")]
use crate::stats::{Page, Promise};
use crate::supervisor::{Plan, Respawn, Shared, Supervisor, WORKER_SPIN_NS};
use crate::sys::{cpus, fd};
use crate::table::Owner;
use crate::task::address::ImageAddress;
use crate::task::callback::{self, ConfigureRuntime, HandleException};
use crate::task::{Argument, LiveError, TryTaskFn};
use crate::worker::{Hook, WorkerConfig};

use super::Pool;
use super::hooks::{self, hook};
use super::observed;
use super::ranges::{
    MAX_CONCURRENCY, MAX_PAYLOAD, MAX_PROCESSES, arena, bell, check_capacity, check_fds,
    check_limits, check_stack, no_memory, within,
};
use super::trace;

/// Options of a pool; see [`Pool::builder`].
pub struct PoolBuilder {
    processes: Option<usize>,
    queues: usize,
    pub(super) child_concurrency: usize,
    max_tasks_per_child: u64,
    capacity: usize,
    priorities: usize,
    max_payload: usize,
    input_arena: Option<usize>,
    output_arena: Option<usize>,
    grace: Duration,
    start_timeout: Duration,
    pub(super) start: StartMethod,
    snapshot: bool,
    pub(super) confinement: Confinement,
    initializer: Option<Result<Hook>>,
    initializer_name: Option<&'static str>,
    exit_hook: Option<Result<Hook>>,
    runtime_initializer: Option<ImageAddress<ConfigureRuntime>>,
    exception_handler: Option<ImageAddress<HandleException>>,
    scheduler: Box<dyn Scheduler>,
    respawn: Respawn,
    pub(super) name: Option<String>,
    pub(super) observable: bool,
    pub(super) blocked_after: Option<Duration>,
    pub(super) output_per_task: bool,
    /// The number of the pool, if its caller had to know that first.
    pub(super) id: Option<usize>,
    pub(super) metrics: bool,
    pub(super) deadline: Option<u64>,
    pub(super) logs: Logs,
    pub(super) held: Option<OwnedFd>,
    pub(super) probation: u32,
    #[cfg(feature = "stats-page")]
    pub(super) stats_page: Option<String>,
}

impl std::fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("processes", &self.processes)
            .field("queues", &self.queues)
            .field("child_concurrency", &self.child_concurrency)
            .field("max_tasks_per_child", &self.max_tasks_per_child)
            .finish_non_exhaustive()
    }
}

impl Default for PoolBuilder {
    fn default() -> Self {
        Self {
            processes: None,
            queues: 1,
            child_concurrency: 16,
            max_tasks_per_child: 0,
            capacity: 4096,
            priorities: 1,
            max_payload: 64 << 20,
            input_arena: None,
            output_arena: None,
            grace: Duration::from_secs(2),
            start_timeout: Duration::from_secs(60),
            start: StartMethod::Fork,
            snapshot: false,
            confinement: Confinement::default(),
            initializer: None,
            initializer_name: None,
            exit_hook: None,
            runtime_initializer: None,
            exception_handler: None,
            scheduler: Box::new(RoundRobin::default()),
            respawn: Respawn::Always,
            name: None,
            observable: true,
            blocked_after: None,
            output_per_task: false,
            id: None,
            metrics: false,
            deadline: None,
            logs: Logs::default(),
            held: None,
            probation: 0,
            #[cfg(feature = "stats-page")]
            stats_page: None,
        }
    }
}

impl PoolBuilder {
    /// Worker processes, 1 to 2,047 a queue. The default is one for each processor that this
    /// process may use, by its affinity and its control group.
    #[must_use]
    pub fn processes(mut self, processes: usize) -> Self {
        self.processes = Some(processes);
        self
    }

    /// Queues, 1 to `processes`; worker `w` serves queue `w % queues`. The default is 1, which
    /// balances best; more of them share less memory between processors.
    #[must_use]
    pub fn queues(mut self, queues: usize) -> Self {
        self.queues = queues;
        self
    }

    /// Tasks that a worker has in flight at most, 1 to 65,536. The default is 16.
    #[must_use]
    pub fn child_concurrency(mut self, tasks: usize) -> Self {
        self.child_concurrency = tasks;
        self
    }

    /// Tasks that a worker runs before it is replaced; 0, the default, for no limit.
    #[must_use]
    pub fn max_tasks_per_child(mut self, tasks: u64) -> Self {
        self.max_tasks_per_child = tasks;
        self
    }

    /// Tasks that a queue holds at most, queued and running: a power of two from 16 to
    /// 1,048,576. The default is 4,096. A pool that is full pushes back.
    #[must_use]
    pub fn capacity(mut self, tasks: usize) -> Self {
        self.capacity = tasks;
        self
    }

    /// Priority classes, 1 (the default) to 4; see
    /// [`TaskOptions::priority`](crate::TaskOptions::priority).
    #[must_use]
    pub fn priorities(mut self, classes: usize) -> Self {
        self.priorities = classes;
        self
    }

    /// Sets the largest encoded input in bytes, 1 to 1 GiB. The default is 64 MiB.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Memory for inputs above 64 bytes, in bytes: from twice `max_payload`, whichever is set
    /// first, to 32 GiB, rounded up to a power of two of at least 1 MiB. Taken from the system as
    /// it is used, and given back, but for 16 MiB, when most of it was not used for a second. The
    /// default is four times `max_payload`.
    #[must_use]
    pub fn input_arena(mut self, bytes: usize) -> Self {
        self.input_arena = Some(bytes);
        self
    }

    /// Memory of each worker for outputs above 128 bytes, as [`input_arena`](Self::input_arena).
    #[must_use]
    pub fn output_arena(mut self, bytes: usize) -> Self {
        self.output_arena = Some(bytes);
        self
    }

    /// Sets how long a worker may take to drop a task whose deadline has passed, or to leave when
    /// the pool ends, before it is killed. The default is 2 seconds.
    #[must_use]
    pub fn grace(mut self, period: Duration) -> Self {
        self.grace = period;
        self
    }

    /// Sets how long a worker may take from its order until it can take tasks: its program's start,
    /// [`attach`](crate::AttachedWorker) and initializer. The default is 60 seconds.
    ///
    /// A worker that takes longer is killed and counts as one whose initializer failed; where no
    /// other can take tasks, the pool fails with an error that names the initializer or the
    /// command. A start of more than 5 seconds is an event, and a line on the error output where
    /// nothing listens to events.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = limit;
        self
    }

    /// Sets how worker processes come to be; the default is [`StartMethod::Fork`].
    #[must_use]
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start = method;
        self
    }

    /// Runs `initializer(argument)` in each worker before its first task. An error keeps the
    /// worker from starting; if it fails in every worker, the pool fails with it.
    ///
    /// `argument` travels encoded, so it is what every worker starts from, replacements too.
    #[must_use]
    pub fn initializer<F, A>(mut self, initializer: F, argument: A) -> Self
    where
        F: TryTaskFn<A, Value = ()>,
        A: Argument,
    {
        const { F::CHECK };
        self.initializer = Some(hook(initializer, &argument));
        self.initializer_name = Some(std::any::type_name::<F>());
        self
    }

    /// Gives `argument` to each worker of a [`StartMethod::Command`], which finds it at
    /// [`AttachedWorker::initializer_argument`](crate::AttachedWorker::initializer_argument)
    /// before its first task.
    #[must_use]
    pub fn initializer_bytes(mut self, argument: impl Into<Vec<u8>>) -> Self {
        self.initializer = Some(Ok(Hook { vtable: None, argument: argument.into() }));
        self
    }

    /// Runs `hook(argument)` in each worker that leaves in order, after its last task. An error
    /// goes to stderr.
    #[must_use]
    pub fn exit_hook<F, A>(mut self, hook_function: F, argument: A) -> Self
    where
        F: TryTaskFn<A, Value = ()>,
        A: Argument,
    {
        const { F::CHECK };
        self.exit_hook = Some(hook(hook_function, &argument));
        self
    }

    /// Hooks that are made already.
    pub(crate) fn hooks(mut self, initializer: Option<Hook>, exit_hook: Option<Hook>) -> Self {
        self.initializer = initializer.map(Ok);
        self.exit_hook = exit_hook.map(Ok);
        self
    }

    /// Runs `configure` on the builder of each worker's tokio runtime, before it is built.
    ///
    /// The runtime is one for the worker's thread alone, with timers and I/O; a function that
    /// turns those off keeps the worker from starting.
    ///
    /// ```
    /// # fn main() -> aiopool::Result<()> {
    /// fn few_blocking_threads(runtime: &mut tokio::runtime::Builder) {
    ///     runtime.max_blocking_threads(2);
    /// }
    /// let pool =
    /// aiopool::Pool::builder().processes(1).runtime_initializer(few_blocking_threads).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn runtime_initializer<F>(mut self, configure: F) -> Self
    where
        F: Fn(&mut tokio::runtime::Builder) + Copy + 'static,
    {
        self.runtime_initializer = Some(callback::configure_runtime(configure));
        self
    }

    /// Calls `handler` in the worker with each error that a `try_` task returns and each panic,
    /// while it is still the live value: to log it, or to send it to a collector of errors.
    ///
    /// A handler that panics itself is logged on the worker's stderr; the task's own error
    /// arrives all the same.
    #[must_use]
    pub fn exception_handler<F>(mut self, handler: F) -> Self
    where
        F: Fn(&LiveError<'_>) + Copy + 'static,
    {
        self.exception_handler = Some(callback::handle_exception(handler));
        self
    }

    /// Chooses the queue of each task; the default is [`RoundRobin`].
    #[must_use]
    pub fn scheduler(mut self, scheduler: impl Scheduler) -> Self {
        self.scheduler = Box::new(scheduler);
        self
    }

    /// Requires that workers share what this process had at [`init`](crate::init).
    pub(crate) fn needs_snapshot(mut self, yes: bool) -> Self {
        self.snapshot = yes;
        self
    }

    /// Has a worker that ends not replaced: the pool of a single process.
    pub(crate) fn without_replacement(mut self) -> Self {
        self.respawn = Respawn::Never;
        self
    }

    /// Builds the pool and starts its workers.
    ///
    /// Returns when the processes exist; their initializers may still be running.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] names the option, its value and what is allowed.
    /// [`Error::System`] and [`Error::NoWorkers`] say what the system refused.
    pub fn build(mut self) -> Result<Pool> {
        self.check_surroundings()?;
        fd::fill_stdio().map_err(|e| Error::system("open /dev/null for closed descriptors", e))?;
        self.resolve_output()?;
        let plan = self.plan()?;
        let name = observed::name(self.name.take())?;
        let observable = self.observable && plan.respawn == Respawn::Always;
        let seats: Vec<u32> = (0..plan.queues).map(|queue| plan.seats_of(queue)).collect();
        #[cfg(feature = "stats-page")]
        let page = self.stats_page.take().map(Promise::new).transpose()?;
        let spec = PoolSpec {
            slots: seats.iter().map(|seats| 2 * seats).collect(),
            start: plan.start.clone(),
            confinement: std::mem::take(&mut self.confinement),
            snapshot: self.snapshot,
            deadline: self.deadline.is_some(),
            logs: plan.worker.logs.is_some(),
            held: self.held.is_some(),
            #[cfg(feature = "stats-page")]
            page: page.as_ref().map(Promise::identity),
            #[cfg(not(feature = "stats-page"))]
            page: None,
            worker: postcard::to_stdvec(&plan.worker).map_err(|error| Error::Encode {
                function: "the worker configuration",
                reason: error.to_string(),
            })?,
        };
        check_fds(&spec)?;
        check_stack()?;
        let inputs = Inputs::create(self.request_arena()?)
            .map_err(no_memory("create the request arena", "lower input_arena"))?;
        let grace_ns = u64::try_from(plan.grace.as_nanos()).unwrap_or(u64::MAX);
        let common = Common::new(inputs, bell()?, bell()?, grace_ns);
        if self.probation > 0 {
            common.set_probation(self.probation);
        }
        let mut queues = Vec::new();
        for (index, &slots) in spec.slots.iter().enumerate() {
            let control = Control::create(plan.shape(index as u32))
                .map_err(no_memory("create a control region", "lower capacity or processes"))?;
            let bells = (0..slots).map(|_| bell()).collect::<Result<Vec<_>>>()?;
            queues.push(HostQueue::new(index as u16, control, bells, Arc::clone(&common)));
        }
        let deadline = self.timer()?;
        let logs = plan.worker.logs.as_ref().map(|_| Reader::start(&self.logs)).transpose()?;
        let controls: Vec<_> = queues.iter().map(|queue| queue.control()).collect();
        let launcher = Launcher::open(
            &spec,
            PoolFds {
                requests: common.inputs.as_fd(),
                host_bell: common.host_bell.as_fd(),
                supervisor_bell: common.supervisor_bell.as_fd(),
                deadline: deadline.as_ref().map(AsFd::as_fd),
                logs: logs.as_ref().map(Reader::workers_end),
                held: self.held.as_ref().map(AsFd::as_fd),
                control: controls.iter().map(|control| control.as_fd()).collect(),
                bells: queues.iter().map(|queue| queue.bells().collect()).collect(),
            },
        )?;
        // Not before the zygote knows of it: it removes the page when this process dies.
        #[cfg(feature = "stats-page")]
        let page = page.as_ref().map(Page::create).transpose()?;
        (0..seats.len()).for_each(|queue| self.scheduler.register_queue(queue));
        (0..plan.processes).for_each(|seat| {
            self.scheduler.register_process((seat % plan.queues) as usize);
        });
        let callers = logs.as_ref().map(Reader::callers);
        let shared = Shared::new(name, plan, common, queues, self.scheduler, deadline, callers);
        let listener = if observable { observed::listen(&shared) } else { None };
        let started = Supervisor::start(
            Arc::clone(&shared),
            launcher,
            logs,
            listener,
            #[cfg(feature = "stats-page")]
            page,
        );
        started.map_err(|error| Error::system("start the supervisor thread", error))?;
        let trace = if observable { trace::by_environment(&shared) } else { None };
        let pool = Pool::own(shared, trace);
        pool.shared.wait_started()?;
        Ok(pool)
    }

    /// Checks every number.
    pub(super) fn plan(&mut self) -> Result<Plan> {
        let processes = self.processes.unwrap_or_else(|| self.processors_of_workers());
        within("processes", processes, 1, MAX_PROCESSES)?;
        within("queues", self.queues, 1, MAX_PROCESSES)?;
        if self.queues > processes {
            return Err(Error::InvalidOption {
                name: "queues",
                value: self.queues.to_string(),
                allowed: format!("queue count must be <= process count, which is {processes}"),
            });
        }
        let seats = processes.div_ceil(self.queues);
        if seats > Owner::MAX_SEATS as usize {
            return Err(Error::InvalidOption {
                name: "processes",
                value: processes.to_string(),
                allowed: format!(
                    "at most {} for each of the {} queues",
                    Owner::MAX_SEATS,
                    self.queues
                ),
            });
        }
        self.check_hooks()?;
        within("child_concurrency", self.child_concurrency, 1, MAX_CONCURRENCY)?;
        check_capacity(self.capacity)?;
        within("priorities", self.priorities, 1, MAX_CLASSES)?;
        // The scheduler may need more classes than were asked for, and too many.
        self.priorities = self.priorities.max(self.scheduler.classes());
        within("priorities", self.priorities, 1, MAX_CLASSES)?;
        within("max_payload", self.max_payload, 1, MAX_PAYLOAD)?;
        let output_arena = arena("output_arena", self.output_arena, self.max_payload)?;
        check_limits(&self.confinement.limits, seats, self.request_arena()? + output_arena)?;
        self.check_sandbox()?;
        Ok(Plan {
            processes: processes as u32,
            queues: self.queues as u32,
            capacity: self.capacity as u32,
            classes: self.priorities as u32,
            max_payload: self.max_payload,
            output_arena,
            respawn: self.respawn,
            metrics: self.metrics,
            blocked_after_ns: self.blocked_after.map(|after| after.as_nanos() as u64),
            id: self.id,
            grace: self.grace,
            start_timeout: self.start_timeout,
            initializer: self.initializer_name,
            start: self.start.clone(),
            output: self.confinement.surroundings.output.clone(),
            context_of_caller: self.logs.context().map(|(of_caller, _)| of_caller),
            worker: WorkerConfig {
                layout: LAYOUT_VERSION,
                capacity: self.capacity as u32,
                classes: self.priorities as u32,
                child_concurrency: self.child_concurrency as u32,
                max_tasks: self.max_tasks_per_child,
                initializer: self.initializer.take().transpose()?,
                exit_hook: self.exit_hook.take().transpose()?,
                runtime_initializer: self.runtime_initializer,
                exception_handler: self.exception_handler,
                replaced: self.respawn == Respawn::Always,
                logs: self.logs.for_workers()?,
                printed: self.printed(),
                spin_ns: WORKER_SPIN_NS,
                searchers: searchers() as u32,
                // The host needs a processor, too.
                crowded: processes >= cpus::available(),
                adopt_context: self.logs.context().map(|(_, adopt)| adopt),
            },
        })
    }

    /// Returns the length of the request arena, in bytes.
    fn request_arena(&self) -> Result<usize> {
        arena("input_arena", self.input_arena, self.max_payload)
    }

    fn check_hooks(&self) -> Result<()> {
        let callbacks = [
            ("runtime_initializer", self.runtime_initializer.is_some()),
            ("exception_handler", self.exception_handler.is_some()),
            ("carry_context", self.logs.context().is_some()),
        ];
        let hooks = [("initializer", &self.initializer), ("exit_hook", &self.exit_hook)];
        hooks::check(self.start.is_other_program(), callbacks, hooks)
    }
}
