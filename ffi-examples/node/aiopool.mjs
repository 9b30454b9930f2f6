// libaiopool for Node: a pool whose outcomes arrive as promises.
//
// Node's own event loop watches the pool's descriptor (libuv's poll, through koffi): no thread waits
// and nothing is asked again and again.
import { isMainThread } from 'node:worker_threads';
import koffi from 'koffi';

const lib = koffi.load(process.env.AIOPOOL_LIBRARY ?? 'libaiopool.so');

export const Surroundings = koffi.struct('aiopool_surroundings', {
  struct_size: 'uint32_t', flags: 'uint32_t', environment: 'const char **', directory: 'const char *',
  output_directory: 'const char *', umask: 'uint32_t', user: 'uint32_t', group: 'uint32_t',
  nice: 'int32_t', processors: 'void *', processors_len: 'size_t', reserved: koffi.array('uint64_t', 2),
});
export const Options = koffi.struct('aiopool_pool_options', {
  struct_size: 'uint32_t', flags: 'uint32_t', processes: 'uint32_t', queues: 'uint32_t',
  child_concurrency: 'uint32_t', priorities: 'uint32_t', max_tasks_per_child: 'uint64_t',
  capacity: 'uint64_t', max_payload: 'uint64_t', input_arena: 'uint64_t',
  output_arena: 'uint64_t', grace_ms: 'uint64_t', start_method: 'uint32_t',
  scheduler: 'uint32_t', command: 'const char **', init_function: 'uint32_t',
  exit_function: 'uint32_t', init_input: 'void *', init_input_len: 'size_t',
  exit_input: 'void *', exit_input_len: 'size_t', limit_address_space: 'uint64_t',
  limit_cpu_seconds: 'uint64_t', limit_open_files: 'uint64_t', read_only: 'const char **',
  read_write: 'const char **', denied_calls: 'void *', denied_calls_len: 'size_t',
  custom_scheduler: 'void *', stats_page: 'const char *', exception_function: 'uint32_t',
  start_timeout_ms: 'uint32_t', name: 'const char *', surroundings: koffi.pointer(Surroundings),
  context: 'void *', blocked_after_ms: 'uint64_t', probation: 'uint32_t', held_fd: 'int32_t',
  deadline_ns: 'uint64_t', reserved: koffi.array('uint64_t', 4),
});
export const Call = koffi.struct('aiopool_call', {
  struct_size: 'uint32_t', flags: 'uint32_t', function: 'uint32_t', priority: 'uint32_t',
  name: 'const char *', input: 'void *', input_len: 'size_t', user_data: 'uint64_t',
  run_limit_ms: 'uint64_t', wait_limit_ms: 'uint64_t', backoff_ms: 'uint64_t', retries: 'uint32_t',
  queue: 'uint32_t', loan: 'void *', on_complete: 'void *', parts: 'void *', parts_len: 'size_t',
  retry_if: 'void *', longest_backoff_ms: 'uint64_t', reserved: koffi.array('uint64_t', 4),
});

const lastError = lib.func('const char *aiopool_last_error()');
const initOptions = lib.func('int aiopool_pool_options_init(_Out_ aiopool_pool_options *options)');
const initSurroundings = lib.func('int aiopool_surroundings_init(_Out_ aiopool_surroundings *surroundings)');
const initCall = lib.func('int aiopool_call_init(_Out_ aiopool_call *call)');
const declare = lib.func('int aiopool_function_declare(const char *name, _Out_ uint32_t *number)');
const start = lib.func('int aiopool_pool_start(aiopool_pool_options *options, _Out_ void **pool)');
const descriptor = lib.func('int aiopool_pool_fd(void *pool, _Out_ int *fd)');
const roomDescriptor = lib.func('int aiopool_pool_room_fd(void *pool, _Out_ int *fd)');
const progressOf = lib.func('int aiopool_pool_progress(void *pool, uint64_t ticket, _Out_ uint64_t *number)');
const trace = lib.func('int aiopool_pool_trace(void *pool, const char *path, uint32_t every)');
const endTrace = lib.func('int aiopool_pool_trace_end(void *pool)');
const endAll = lib.func('int aiopool_shutdown()');
const ready = lib.func('int aiopool_pool_ready(void *pool, uint64_t timeout_ms)');
const extendDeadline = lib.func('int aiopool_pool_extend_deadline(void *pool, uint64_t deadline_ns)');
const clock = lib.func('int clock_gettime(int clock, _Out_ int64_t *time)'); // The library's own libc.
const broadcast = lib.func('int aiopool_pool_broadcast(void *pool, aiopool_call *call, _Out_ uint64_t *ticket, _Out_ uint32_t *count)');
const trySubmit = lib.func('int aiopool_pool_try_submit(void *pool, aiopool_call *call, _Out_ uint64_t *ticket)');
const borrow = lib.func('int aiopool_pool_loan(void *pool, size_t len, _Out_ void **data, _Out_ void **loan)');
const giveBack = lib.func('int aiopool_loan_return(void *loan)');
const peek = lib.func('int aiopool_pool_try_wait(void *pool, _Out_ void **outcome)');
const cancel = lib.func('int aiopool_pool_cancel(void *pool, uint64_t ticket)');
const cancelWithin = lib.func('int aiopool_pool_cancel_within(void *pool, uint64_t ticket, uint64_t grace_ms)');
const close = lib.func('int aiopool_pool_close(void *pool)');
const join = lib.func('int aiopool_pool_join(void *pool, uint64_t timeout_ms)');
const free = lib.func('int aiopool_pool_free(void *pool)');
const status = lib.func('int aiopool_outcome_kind(void *outcome)');
const data = lib.func('void *aiopool_outcome_data(void *outcome)');
const length = lib.func('size_t aiopool_outcome_len(void *outcome)');
const text = lib.func('const char *aiopool_outcome_text(void *outcome)');
const userData = lib.func('uint64_t aiopool_outcome_user_data(void *outcome)');
const code = lib.func('int32_t aiopool_outcome_code(void *outcome)');
const attempts = lib.func('uint32_t aiopool_outcome_attempts(void *outcome)');
const ticketOf = lib.func('uint64_t aiopool_outcome_ticket(void *outcome)');
const causeOf = lib.func('int aiopool_outcome_error(void *outcome)');
const isBystander = lib.func('bool aiopool_outcome_is_bystander(void *outcome)');
const release = lib.func('int aiopool_outcome_release(void *outcome)');

const [OK, TIMEOUT, EMPTY, FULL, CLOSED, MISUSE] = [0, -6, -7, -8, -9, -20];
const START_COMMAND = 2;
const [NO_NEW_PRIVS, NO_NETWORK, NO_SIGNALS, BEST_EFFORT, NOT_OBSERVABLE] = [2, 4, 16, 32, 64];
const SCHEDULERS = { 'round-robin': 0, 'least-loaded': 1, priority: 2 };
const [CLEAR_ENVIRONMENT, UMASK, USER, GROUP] = [1, 2, 4, 8];
const [RETRY_ON_ERROR, BORROW_OUTPUT, ON_QUEUE, RETRY_ON_TIMEOUT, JITTER, ALONE] = [2, 4, 8, 16, 32, 64];
// How a task ended that has no value: the `status` of a TaskError. The text of FAILED is the function's
// own; its `cause` says whether the function returned it.
export const [FAILED, PANICKED, CANCELLED, TIMED_OUT, WORKER_LOST, POOL_CLOSED, NEIGHBOUR_BLOCKED] = [1, 2, 3, 4, 5, 6, 7];
export const [CAUSE_TASK, CAUSE_UNKNOWN, CAUSE_OUTPUT_SPACE] = [-24, -17, -23];
const BOOTTIME = 7; // The clock of deadlines.
const SLICE = 250; // Milliseconds that a thread of Node's waits for workers at once.

/** A call that the library refused; `status` is AIOPOOL_ERR_*. */
export class PoolError extends Error {
  constructor(message, status) {
    super(message);
    this.name = 'PoolError';
    this.status = status;
  }
}

/**
 * A task that ended without a value; `status` is AIOPOOL_OUTCOME_*, `code` the number that its
 * function returned, `attempts` how often it was begun, `cause` what is behind FAILED (AIOPOOL_ERR_*).
 * `bystander`: another task is what ended it: it held their worker, or was running when that died.
 */
export class TaskError extends Error {
  constructor(message, status, code = 0, attempts = 0, cause = OK, bystander = false) {
    super(message);
    this.name = 'TaskError';
    Object.assign(this, { status, code, attempts, cause, bystander });
  }
}

/** The bytes of an input, where they are. */
function bytesOf(input) {
  if (input instanceof Uint8Array) return input;
  if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  if (input instanceof ArrayBuffer) return new Uint8Array(input);
  const is = input === null ? 'null' : typeof input;
  throw new TypeError(`the input is of type ${is}: give a Buffer, another typed array or an ArrayBuffer`);
}

/** The options of a pool that are numbers, with their names in the library. */
const NUMBERS = {
  processes: 'processes', childConcurrency: 'child_concurrency', priorities: 'priorities',
  maxTasksPerChild: 'max_tasks_per_child', capacity: 'capacity', maxPayload: 'max_payload',
  inputArena: 'input_arena', outputArena: 'output_arena', graceMs: 'grace_ms',
  startTimeoutMs: 'start_timeout_ms', blockedAfterMs: 'blocked_after_ms', queues: 'queues',
  probation: 'probation',
};
const HERE = new Map(Object.entries(NUMBERS).map(([here, there]) => [there, here]));
HERE.set('start_timeout', 'startTimeoutMs');
HERE.set('longest_backoff_ms', 'longestBackoffMs');
HERE.set('deadline_ns', 'deadlineMs');

/** A text of the library's, with the names that options have here. */
function inOurNames(text) {
  return text.replace(/\b[a-z]+_[a-z_]+\b/g, (word) => HERE.get(word) ?? word);
}

/** The error of the last call. */
function refusal(result) {
  return new PoolError(inOurNames(lastError()), result);
}

function check(result) {
  if (result !== OK) throw refusal(result);
}

/** A number that the library takes; a part of a millisecond is a whole one. */
function whole(name, value) {
  if (typeof value !== 'number' || !(value >= 0 && value <= Number.MAX_SAFE_INTEGER)) {
    throw new RangeError(`${name} = ${value}: a number from 0 on is possible`);
  }
  return Math.ceil(value);
}

/** The options that are numbers; what is not given is as the library has it. */
function numbers(given) {
  const options = {};
  for (const [here, there] of Object.entries(NUMBERS)) {
    if (given[here] !== undefined) options[there] = whole(here, given[here]);
  }
  return options;
}

/** A time from now on, on the clock of deadlines; 0 for none. */
function deadlineIn(milliseconds) {
  if (whole('deadlineMs', milliseconds) === 0) return 0n;
  const now = new BigInt64Array(2);
  clock(BOOTTIME, now);
  return now[0] * 1_000_000_000n + now[1] + BigInt(whole('deadlineMs', milliseconds)) * 1_000_000n;
}

/** The options of a call that the library has a field for. */
function calls(given) {
  only(
    given, 'signal', 'killAfterMs', 'timeoutMs', 'waitLimitMs', 'retries', 'retryOnError', 'retryOnTimeout',
    'backoffMs', 'longestBackoffMs', 'jitter', 'alone', 'priority', 'queue',
  );
  const { timeoutMs = 0, waitLimitMs = 0, retries = 0, backoffMs = 0, longestBackoffMs = 0 } = given;
  whole('killAfterMs', given.killAfterMs ?? 0);
  return {
    run_limit_ms: whole('timeoutMs', timeoutMs), wait_limit_ms: whole('waitLimitMs', waitLimitMs),
    retries: whole('retries', retries), backoff_ms: whole('backoffMs', backoffMs),
    longest_backoff_ms: whole('longestBackoffMs', longestBackoffMs),
    priority: whole('priority', given.priority ?? 0), queue: whole('queue', given.queue ?? 0),
    flags: (given.retryOnError ? RETRY_ON_ERROR : 0) | (given.retryOnTimeout ? RETRY_ON_TIMEOUT : 0)
      | (given.jitter ? JITTER : 0) | (given.alone ? ALONE : 0)
      | (given.queue === undefined ? 0 : ON_QUEUE),
  };
}

/** A copy of an outcome's payload. */
function copied(outcome) {
  try {
    return Buffer.from(new Uint8Array(koffi.view(data(outcome), Number(length(outcome)))));
  } finally {
    check(release(outcome));
  }
}

/** An output where its worker has put it: `bytes` are valid until `release`. */
export class Borrowed {
  #outcome;

  constructor(outcome) {
    this.#outcome = outcome;
    this.bytes = new Uint8Array(koffi.view(data(outcome), Number(length(outcome))));
  }

  release() {
    this.bytes = undefined;
    check(release(this.#outcome));
  }
}

/** The options that `limits` and `sandbox` are. */
function confined(limits, sandbox) {
  only(limits, 'addressSpace', 'cpuSeconds', 'openFiles');
  only(sandbox, 'readOnly', 'readWrite', 'noNetwork', 'noSignals', 'noNewPrivs', 'deniedCalls', 'bestEffort');
  const paths = (list) => (list ? [...list, null] : null);
  const calls = BigInt64Array.from(sandbox.deniedCalls ?? [], BigInt);
  return {
    limit_address_space: limits.addressSpace ?? 0, limit_cpu_seconds: limits.cpuSeconds ?? 0,
    limit_open_files: limits.openFiles ?? 0,
    flags: (sandbox.noNewPrivs ? NO_NEW_PRIVS : 0) | (sandbox.noNetwork ? NO_NETWORK : 0)
      | (sandbox.noSignals ? NO_SIGNALS : 0) | (sandbox.bestEffort ? BEST_EFFORT : 0),
    read_only: paths(sandbox.readOnly), read_write: paths(sandbox.readWrite),
    denied_calls: calls.length ? calls : null, denied_calls_len: calls.length,
  };
}

/** What workers are that this process is not; null for nothing. */
function surroundings(of) {
  only(of, 'env', 'clearEnv', 'cwd', 'umask', 'nice', 'user', 'group', 'outputTo', 'processors');
  if (Object.keys(of).length === 0) return null;
  const made = {};
  check(initSurroundings(made));
  // A variable whose value is null is taken out.
  const variables = Object.entries(of.env ?? {})
    .map(([name, value]) => (value === null ? name : `${name}=${value}`));
  const numbers = { umask: UMASK, user: USER, group: GROUP };
  return Object.assign(made, {
    environment: [...variables, null], directory: of.cwd ?? null,
    output_directory: of.outputTo ?? null, umask: of.umask ?? 0, user: of.user ?? 0,
    group: of.group ?? 0, nice: of.nice ?? 0,
    // One more: an array of none would be no pointer.
    processors: of.processors ? Uint32Array.from([...of.processors, 0]) : null,
    processors_len: of.processors?.length ?? 0,
    flags: Object.entries(numbers).reduce(
      (flags, [name, flag]) => (of[name] === undefined ? flags : flags | flag),
      of.clearEnv ? CLEAR_ENVIRONMENT : 0,
    ),
  });
}

/** A rule that nobody knows must not go by unseen. */
function only(object, ...names) {
  const unknown = Object.keys(object).find((name) => !names.includes(name));
  if (unknown) throw new TypeError(`${unknown}: ${names.join(', ')} are possible`);
}

/** The pools that have something to do: one that is dropped without that is freed. */
const busy = new Set();
/** What each pool of this thread has of the library's and of Node's. */
const open = new Set();
const dropped = new FinalizationRegistry((held) => {
  unwatch(held);
  free(held.pool);
});

function unwatch(held) {
  open.delete(held);
  held.polls.forEach((poll) => poll.close());
}

// Node would call into a thread whose JavaScript has ended. The main thread's pools end with the process.
process.on('exit', () => {
  for (const held of open) {
    unwatch(held);
    if (!isMainThread) free(held.pool);
  }
});

/** Worker processes. One that is dropped without `close` is freed when its last task is over. */
export class Pool {
  #pool;
  #poll;
  #call = {};
  #functions = new Map();
  #tasks = new Map();
  #full = []; // Keys of the tasks that found no room, the oldest first.
  #starting; // The wait for the workers' start, while there is one.
  #room; // Watches for room while there are any.
  #watchesRoom = false;
  #hasRoom;
  #held;
  #next = 1;
  #ended;
  #gone = false; // Freed: nothing of the pool may be used.

  /**
   * Starts worker processes of `command`, an array of words.
   *
   * `limits`: `addressSpace` (bytes), `cpuSeconds`, `openFiles` of each worker. `sandbox`:
   * `readOnly` and `readWrite` (the only paths that workers can open), `noNetwork`, `noSignals`,
   * `noNewPrivs`, `deniedCalls` (numbers of system calls), `bestEffort` (go without what the kernel
   * cannot enforce). `surroundings`: `env` (null takes a variable out), `clearEnv`, `cwd`, `umask`,
   * `nice`, `user` and `group` (as root), `processors`, the numbers of those that workers run on, and
   * `outputTo`, a directory for what workers print. `name` is for `aiopool top` and others. A task that holds up its worker for longer than
   * `blockedAfterMs` becomes an event of the pool.
   *
   * `processes` (2), `childConcurrency`, `priorities`, `maxTasksPerChild`, `capacity`, `maxPayload`,
   * `inputArena`, `outputArena` (bytes), `graceMs`, `startTimeoutMs`, `queues` and `probation` are as
   * in `aiopool_pool_options`, also where they are not given. `scheduler` is 'round-robin',
   * 'least-loaded' or 'priority'. After `deadlineMs` every worker is killed, even if this process is
   * stopped. `observable`, true by default, lets `aiopool top` and others look at the pool.
   */
  constructor(command, given = {}) {
    only(
      given, ...Object.keys(NUMBERS), 'limits', 'sandbox', 'surroundings', 'name', 'scheduler', 'deadlineMs', 'observable',
    );
    const { limits = {}, sandbox = {}, surroundings: of = {}, name = null, scheduler = 'round-robin' } = given;
    if (!Object.hasOwn(SCHEDULERS, scheduler)) {
      throw new RangeError(`scheduler = ${scheduler}: ${Object.keys(SCHEDULERS).join(', ')} are possible`);
    }
    const options = {};
    check(initOptions(options));
    Object.assign(options, {
      start_method: START_COMMAND, command: [...command, null], name, surroundings: surroundings(of),
      scheduler: SCHEDULERS[scheduler], deadline_ns: deadlineIn(given.deadlineMs ?? 0),
      ...confined(limits, sandbox), ...numbers({ processes: 2, ...given }),
    });
    if (given.observable === false) options.flags |= NOT_OBSERVABLE;
    const out = [null];
    check(start(options, out));
    this.#pool = out[0];
    check(initCall(this.#call));
    const fd = [0];
    check(descriptor(this.#pool, fd));
    // What watches it must not keep it.
    const weak = new WeakRef(this);
    this.#poll = koffi.node.poll(fd[0], { readable: true }, () => weak.deref()?.#readable());
    this.#poll.unref();
    check(roomDescriptor(this.#pool, fd));
    this.#hasRoom = () => weak.deref()?.#pump();
    this.#room = koffi.node.poll(fd[0], { readable: true }, this.#hasRoom);
    this.#room.stop();
    this.#held = { pool: this.#pool, polls: [this.#poll, this.#room] };
    open.add(this.#held);
    dropped.register(this, this.#held, this);
  }

  /**
   * Runs a worker's function on the bytes of a Buffer, of another typed array or of an ArrayBuffer,
   * which may change when this has returned; a promise of its output, copied.
   *
   * A call that the pool refuses rejects its promise with a `PoolError`, and concerns no other call.
   * A call that finds the pool full waits in this process, in order. `signal`, an AbortSignal,
   * cancels the task and rejects with the signal's reason; a function that has not obeyed within
   * `killAfterMs` of that is killed with its worker, and never where that is not given.
   *
   * `timeoutMs`: how long an attempt may run, `waitLimitMs` how long the task may wait for a worker;
   * 0, the default, for as long as it takes. `retries`: further attempts when its worker dies, with
   * `retryOnError` when its function returns an error, and with `retryOnTimeout` when it used up
   * `timeoutMs` itself; `backoffMs` before the second one, doubled for each one after, up to
   * `longestBackoffMs` or a minute, and shortened by chance, down to half of it, with `jitter`.
   * `alone`: no other task runs beside it in its worker, so that its crash costs no other.
   * `priority`: 0, the most urgent, to the pool's `priorities` - 1. `queue`: the one that it goes to,
   * 0 to the pool's `queues` - 1; where it is not given the pool's scheduler chooses.
   */
  async apply(name, input, options = {}) {
    return this.submit(name, input, options).output;
  }

  /**
   * As `apply`, with what there is of the call until it is over: `output`, the promise, and
   * `progress()`, how far the task says it is: a BigInt, or undefined where it has said nothing.
   */
  submit(name, input, options = {}) {
    const bytes = bytesOf(input);
    const call = { ...calls(options), function: this.#number(name), input: bytes, input_len: bytes.length };
    const { key, output } = this.#submit(call, options, copied);
    return { output, progress: () => this.#progress(key) };
  }

  /**
   * Runs a worker's function once on every worker: to warm a cache, to change a key, to collect a
   * number. A promise of what each came to, by their seats, in the form of `Promise.allSettled`. A
   * worker that starts later does not run it.
   *
   * `timeoutMs`: how long it may run on each. `signal` rejects with its reason, and cancels the tasks
   * that have begun.
   */
  async broadcast(name, input, options = {}) {
    only(options, 'signal', 'timeoutMs');
    const bytes = bytesOf(input);
    const call = { ...calls(options), function: this.#number(name), input: bytes, input_len: bytes.length };
    return this.#submit(call, options, copied, undefined, true).output;
  }

  /**
   * Waits until every worker can take tasks, and rejects if they cannot, with the cause. Tasks may be
   * submitted before: it is for a program that is to say that it is ready, or to fail at its start and
   * not at its first task. The end of `signal` rejects with its reason. Calls that wait at the same
   * time share a thread of Node's.
   */
  async ready({ signal } = {}) {
    if (this.#gone || this.#ended) throw new PoolError('the pool is closed', CLOSED);
    signal?.throwIfAborted();
    this.#starting ??= this.#start().finally(() => { this.#starting = undefined; });
    if (!signal) return this.#starting;
    let abort;
    const aborted = new Promise((_, reject) => {
      abort = () => reject(signal.reason);
      signal.addEventListener('abort', abort, { once: true });
    });
    return Promise.race([this.#starting, aborted]).finally(() => signal.removeEventListener('abort', abort));
  }

  async #start() {
    let result;
    do {
      // A slice at a time: the program, or its thread, can end meanwhile.
      result = await new Promise((resolve, reject) => {
        ready.async(this.#pool, SLICE, (error, result) => (error ? reject(error) : resolve(result)));
      });
    } while (result === TIMEOUT && !this.#gone);
    if (this.#gone) throw new PoolError('the pool is closed', CLOSED);
    // The text of an error is its thread's: asked again in this one.
    if (result !== OK) check(ready(this.#pool, 0));
  }

  /** Has the workers be killed that long from now, and not when the pool's `deadlineMs` said. */
  extendDeadline(milliseconds) {
    this.#alive();
    check(extendDeadline(this.#pool, deadlineIn(milliseconds)));
  }

  #progress(key) {
    const ticket = this.#tasks.get(key)?.ticket;
    const number = [0n];
    if (ticket === undefined || progressOf(this.#pool, ticket, number) !== OK) return undefined;
    return BigInt(number[0]);
  }

  /**
   * Records what the workers do from now on, each task or each hundredth (`every`), for a file that
   * ui.perfetto.dev opens; `endTrace` writes it.
   */
  trace(path, every = 1) {
    this.#alive();
    check(trace(this.#pool, path, every));
  }

  endTrace() {
    this.#alive();
    check(endTrace(this.#pool));
  }

  #alive() {
    if (this.#gone) throw new PoolError('the pool is closed', CLOSED);
  }

  /**
   * Runs a worker's function on `size` bytes that `fill` writes where the workers read them; a
   * promise of its output where the worker has written it. Where the pool's memory is taken, or the
   * pool is full, the call waits in this process, as others do, and `fill` is called later.
   */
  async applyInPlace(name, size, fill, options = {}) {
    const call = { ...calls(options), function: this.#number(name) };
    call.flags |= BORROW_OUTPUT;
    return this.#submit(call, options, (outcome) => new Borrowed(outcome), { size, fill }).output;
  }

  #number(name) {
    if (!this.#functions.has(name)) {
      const number = [0];
      check(declare(name, number));
      this.#functions.set(name, number[0]);
    }
    return this.#functions.get(name);
  }

  /**
   * Submits `call`; `take` makes the value of its outcome, and `inPlace` says what is to be written
   * for it into the pool's memory; every worker runs it if `all`. The promise of the value, and the
   * task's key: undefined where there is no task.
   */
  #submit(call, { signal, killAfterMs }, take, inPlace, all = false) {
    let key;
    const output = new Promise((resolve, reject) => {
      if (this.#ended) throw new PoolError('the pool is closed', CLOSED);
      signal?.throwIfAborted();
      key = this.#next++;
      const task = { call: { ...this.#call, ...call, user_data: key }, take, inPlace, all, killAfterMs, resolve, reject };
      if (signal) {
        const abort = () => this.#abort(key, signal.reason);
        signal.addEventListener('abort', abort, { once: true });
        task.forget = () => signal.removeEventListener('abort', abort);
      }
      this.#tasks.set(key, task);
      busy.add(this);
      this.#poll.ref();
      if (this.#full.length > 0 || !this.#push(key)) {
        // The library copies an input when it takes the call; until then the caller may change it.
        if (call.input) task.call.input = Uint8Array.from(call.input);
        this.#full.push(key);
      }
      this.#watch();
    });
    return { key, output };
  }

  /** Submits a task, or rejects it if it is refused; false if the pool is full. */
  #push(key) {
    const task = this.#tasks.get(key);
    if (!task) return true; // It was aborted while it waited.
    if (task.inPlace && !this.#lend(key, task)) return false;
    if (!this.#tasks.has(key)) return true; // It was refused, or aborted by what wrote its input.
    const [ticket, count] = [[0n], [1]];
    const result = task.all ? broadcast(this.#pool, task.call, ticket, count)
      : trySubmit(this.#pool, task.call, ticket);
    if (result === FULL) return false;
    if (result === OK) {
      task.ticket = ticket[0];
      if (task.all) [task.ends, task.left] = [new Array(count[0]), count[0]];
      task.call = undefined;
    } else {
      this.#refuse(key, refusal(result));
    }
    return true;
  }

  /** Has a task's input written into memory of the pool's, once; false if that is taken. */
  #lend(key, task) {
    const [memory, loan] = [[null], [null]];
    const { size, fill } = task.inPlace;
    const result = borrow(this.#pool, size, memory, loan);
    if (result === FULL) return false;
    if (result === OK) {
      task.inPlace = undefined;
      task.call.loan = loan[0];
      try {
        fill(new Uint8Array(koffi.view(memory[0], size)));
      } catch (error) {
        if (this.#tasks.has(key)) this.#refuse(key, error);
      }
    } else {
      this.#refuse(key, refusal(result));
    }
    return true;
  }

  /** Ends a task that the pool does not have. */
  #refuse(key, reason) {
    const { call, reject, forget } = this.#tasks.get(key);
    this.#tasks.delete(key);
    forget?.();
    if (call.loan) giveBack(call.loan);
    reject(reason);
    this.#rest();
  }

  #abort(key, reason) {
    const task = this.#tasks.get(key);
    if (!task) return;
    if (task.ticket === undefined) return this.#refuse(key, reason);
    task.aborted = { reason };
    if (task.all) {
      // A worker that is busy is not waited for: what it has not begun cannot be cancelled.
      for (let seat = 0; seat < task.ends.length; seat++) cancel(this.#pool, BigInt(task.ticket) + BigInt(seat));
      task.reject(reason);
      return;
    }
    // A task that is over has its outcome on the way.
    if (task.killAfterMs === undefined) cancel(this.#pool, task.ticket);
    else cancelWithin(this.#pool, task.ticket, Math.ceil(task.killAfterMs));
  }

  /** Tries the calls that found no room, the oldest first. */
  #pump() {
    if (this.#gone) return;
    while (this.#full.length > 0 && this.#push(this.#full[0])) this.#full.shift();
    this.#watch();
  }

  /** Watches for room while calls want some: the descriptor is readable as long as there is. */
  #watch() {
    const wants = this.#full.length > 0;
    if (this.#gone || wants === this.#watchesRoom) return;
    this.#watchesRoom = wants;
    if (wants) this.#room.start({ readable: true }, this.#hasRoom);
    else this.#room.stop();
  }

  /** There may be outcomes: takes them all; then the descriptor is not readable any more. */
  #readable() {
    if (this.#gone) return;
    const out = [null];
    let result;
    while ((result = peek(this.#pool, out)) === OK) this.#settle(out[0]);
    if (result !== EMPTY) return this.#fail(refusal(result));
    this.#rest();
  }

  /** Lets the process end, or ends the pool, where no task is left. */
  #rest() {
    if (this.#gone || this.#tasks.size > 0) return;
    if (!this.#ended) {
      this.#poll.unref();
      busy.delete(this);
      return;
    }
    const result = join(this.#pool, 0);
    if (result !== TIMEOUT) this.#end(result);
  }

  #settle(outcome) {
    const key = Number(userData(outcome));
    const task = this.#tasks.get(key);
    const seat = task.all ? Number(BigInt(ticketOf(outcome)) - BigInt(task.ticket)) : 0;
    let end;
    try {
      const how = status(outcome);
      if (how === OK) {
        end = { status: 'fulfilled', value: task.take(outcome) };
      } else {
        const message = how === FAILED ? text(outcome) : inOurNames(text(outcome));
        const reason = task.aborted?.reason ?? new TaskError(
          message, how, code(outcome), attempts(outcome), causeOf(outcome), isBystander(outcome),
        );
        check(release(outcome));
        end = { status: 'rejected', reason };
      }
    } catch (error) {
      end = { status: 'rejected', reason: error };
    }
    if (task.all) {
      task.ends[seat] = end;
      if (--task.left > 0) return;
    }
    this.#tasks.delete(key);
    task.forget?.();
    if (task.all) task.resolve(task.ends);
    else if (end.status === 'fulfilled') task.resolve(end.value);
    else task.reject(end.reason);
  }

  /** The pool is broken: every task ends with the reason. */
  #fail(error) {
    for (const { call, reject, forget } of this.#tasks.values()) {
      forget?.();
      if (call?.loan) giveBack(call.loan);
      reject(error);
    }
    this.#tasks.clear();
    this.#full = [];
    const ended = this.#ended;
    this.#ended = { resolve() {}, reject() {} };
    this.#release();
    ended?.reject(error);
  }

  #release() {
    this.#gone = true;
    busy.delete(this);
    dropped.unregister(this);
    unwatch(this.#held);
    return free(this.#pool);
  }

  #end(result) {
    const { resolve, reject } = this.#ended;
    const error = result === OK ? undefined : refusal(result);
    const freed = this.#release();
    if (error ?? freed !== OK) reject(error ?? refusal(freed));
    else resolve();
  }

  /** Ends the workers when the last task is over; a promise of their end. */
  async close() {
    if (this.#tasks.size > 0) throw new PoolError('await the tasks first', MISUSE);
    if (this.#ended) throw new PoolError('the pool is closed', CLOSED);
    check(close(this.#pool));
    busy.add(this);
    this.#poll.ref();
    return new Promise((resolve, reject) => {
      this.#ended = { resolve, reject };
    });
  }
}

/** Ends what the library has started, once every pool is closed; pools can be started again. */
export function shutdown() {
  check(endAll());
}

/** A number as the example tasks take it: 8 bytes. */
export function number(x) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(x));
  return bytes;
}

/** The command of a worker that serves the example tasks. */
export function worker() {
  const program = process.env.AIOPOOL ?? 'aiopool';
  return [program, 'worker', '--load', process.env.AIOPOOL_TASKS ?? './libtasks.so'];
}
