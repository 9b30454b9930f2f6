// libaiopool for Node: a pool whose outcomes arrive as promises.
//
// Node's own event loop watches the pool's descriptor (libuv's poll, through koffi): no thread waits
// and nothing is asked again and again.
import koffi from 'koffi';

const lib = koffi.load(process.env.AIOPOOL_LIBRARY ?? 'libaiopool.so');

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
  reserved_0: 'uint32_t', reserved: koffi.array('uint64_t', 5),
});
export const Call = koffi.struct('aiopool_call', {
  struct_size: 'uint32_t', flags: 'uint32_t', function: 'uint32_t', priority: 'uint32_t',
  name: 'const char *', input: 'void *', input_len: 'size_t', user_data: 'uint64_t',
  timeout_ms: 'uint64_t', queue_ttl_ms: 'uint64_t', backoff_ms: 'uint64_t', retries: 'uint32_t',
  queue: 'uint32_t', loan: 'void *', reserved: koffi.array('uint64_t', 4),
});

const lastError = lib.func('const char *aiopool_last_error()');
const initOptions = lib.func('int aiopool_pool_options_init(_Out_ aiopool_pool_options *options)');
const initCall = lib.func('int aiopool_call_init(_Out_ aiopool_call *call)');
const declare = lib.func('int aiopool_function_declare(const char *name, _Out_ uint32_t *number)');
const start = lib.func('int aiopool_pool_start(aiopool_pool_options *options, _Out_ void **pool)');
const descriptor = lib.func('int aiopool_pool_fd(void *pool, _Out_ int *fd)');
const trySubmit = lib.func('int aiopool_pool_try_submit(void *pool, aiopool_call *call, _Out_ uint64_t *ticket)');
const borrow = lib.func('int aiopool_pool_loan(void *pool, size_t len, _Out_ void **data, _Out_ void **loan)');
const giveBack = lib.func('int aiopool_loan_return(void *loan)');
const peek = lib.func('int aiopool_pool_peek(void *pool, _Out_ void **outcome)');
const close = lib.func('int aiopool_pool_close(void *pool)');
const join = lib.func('int aiopool_pool_join(void *pool, uint64_t timeout_ms)');
const free = lib.func('int aiopool_pool_free(void *pool)');
const status = lib.func('int aiopool_outcome_status(void *outcome)');
const data = lib.func('void *aiopool_outcome_data(void *outcome)');
const length = lib.func('size_t aiopool_outcome_len(void *outcome)');
const text = lib.func('const char *aiopool_outcome_text(void *outcome)');
const userData = lib.func('uint64_t aiopool_outcome_user_data(void *outcome)');
const release = lib.func('int aiopool_outcome_release(void *outcome)');

const [OK, TIMEOUT, EMPTY, FULL] = [0, -6, -7, -8];
const START_COMMAND = 2;
const [NO_NEW_PRIVS, NO_NETWORK, NO_SIGNALS, BEST_EFFORT] = [2, 4, 16, 32];
const BORROW_OUTPUT = 4;
export const WORKER_LOST = 5;

function check(result) {
  if (result !== OK) throw new Error(lastError());
}

/** A task that ended without a value; `status` is AIOPOOL_OUTCOME_*. */
export class TaskError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
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

/** A rule that nobody knows must not go by unseen. */
function only(object, ...names) {
  const unknown = Object.keys(object).find((name) => !names.includes(name));
  if (unknown) throw new TypeError(`${unknown}: ${names.join(', ')} are possible`);
}

export class Pool {
  #pool;
  #poll;
  #call = {};
  #functions = new Map();
  #tasks = new Map();
  #full = []; // Calls that found no room.
  #next = 1;
  #ended;

  /**
   * Starts worker processes of `command`, an array of words.
   *
   * `limits`: `addressSpace` (bytes), `cpuSeconds`, `openFiles` of each worker. `sandbox`:
   * `readOnly` and `readWrite` (the only paths that workers can open), `noNetwork`, `noSignals`,
   * `noNewPrivs`, `deniedCalls` (numbers of system calls), `bestEffort` (go without what the kernel
   * cannot enforce).
   */
  constructor(command, { processes = 2, childConcurrency = 16, limits = {}, sandbox = {} } = {}) {
    const options = {};
    check(initOptions(options));
    Object.assign(options, {
      processes, child_concurrency: childConcurrency, start_method: START_COMMAND,
      command: [...command, null], ...confined(limits, sandbox),
    });
    const out = [null];
    check(start(options, out));
    this.#pool = out[0];
    check(initCall(this.#call));
    const fd = [0];
    check(descriptor(this.#pool, fd));
    this.#poll = koffi.node.poll(fd[0], { readable: true }, () => this.#readable());
    this.#poll.unref();
  }

  /** Runs a worker's function on a Buffer; a promise of its output, copied. */
  apply(name, input) {
    return this.#submit({ function: this.#number(name), input, input_len: input.length }, (outcome) => {
      const bytes = Buffer.from(new Uint8Array(koffi.view(data(outcome), Number(length(outcome)))));
      check(release(outcome));
      return bytes;
    });
  }

  /**
   * Runs a worker's function on `size` bytes that `fill` writes where the workers read them; a
   * promise of its output where the worker has written it.
   */
  applyInPlace(name, size, fill) {
    const [memory, loan] = [[null], [null]];
    check(borrow(this.#pool, size, memory, loan));
    try {
      fill(new Uint8Array(koffi.view(memory[0], size)));
    } catch (error) {
      check(giveBack(loan[0]));
      throw error;
    }
    const call = { function: this.#number(name), loan: loan[0], flags: BORROW_OUTPUT };
    return this.#submit(call, (outcome) => new Borrowed(outcome));
  }

  #number(name) {
    if (!this.#functions.has(name)) {
      const number = [0];
      check(declare(name, number));
      this.#functions.set(name, number[0]);
    }
    return this.#functions.get(name);
  }

  #submit(call, take) {
    if (this.#ended) throw new Error('the pool is closed');
    const key = this.#next++;
    const complete = { ...this.#call, ...call, user_data: key };
    if (this.#full.length > 0 || !this.#push(complete)) this.#full.push(complete);
    this.#poll.ref();
    return new Promise((resolve, reject) => this.#tasks.set(key, { take, resolve, reject }));
  }

  /** False if the pool is full. */
  #push(call) {
    const result = trySubmit(this.#pool, call, [0n]);
    if (result === FULL) return false;
    check(result);
    return true;
  }

  /** There may be outcomes: takes them all; then the descriptor is not readable any more. */
  #readable() {
    const out = [null];
    let result;
    while ((result = peek(this.#pool, out)) === OK) this.#settle(out[0]);
    if (result !== EMPTY) check(result);
    while (this.#full.length > 0 && this.#push(this.#full[0])) this.#full.shift();
    if (this.#tasks.size > 0) return;
    if (!this.#ended) this.#poll.unref();
    else if ((result = join(this.#pool, 0)) !== TIMEOUT) this.#end(result);
  }

  #settle(outcome) {
    const key = Number(userData(outcome));
    const { take, resolve, reject } = this.#tasks.get(key);
    this.#tasks.delete(key);
    const how = status(outcome);
    if (how === 0) {
      resolve(take(outcome));
    } else {
      reject(new TaskError(text(outcome), how));
      check(release(outcome));
    }
  }

  #end(result) {
    const { resolve, reject } = this.#ended;
    const error = result === OK ? undefined : new Error(lastError());
    this.#poll.close();
    check(free(this.#pool));
    if (error) reject(error);
    else resolve();
  }

  /** Ends the workers; a promise of their end. */
  close() {
    if (this.#tasks.size > 0) throw new Error('await the tasks first');
    check(close(this.#pool));
    this.#poll.ref();
    return new Promise((resolve, reject) => {
      this.#ended = { resolve, reject };
    });
  }
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
