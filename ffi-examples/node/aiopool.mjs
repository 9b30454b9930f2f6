// libaiopool for Node: a pool whose outcomes arrive as promises.
//
// Waiting is koffi's asynchronous call of aiopool_pool_wait, one at a time, on libuv's own threads:
// Node cannot watch a descriptor of somebody else's.
import koffi from 'koffi';

const lib = koffi.load(process.env.AIOPOOL_LIBRARY ?? 'libaiopool.so');

const Options = koffi.struct('aiopool_pool_options', {
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
const Call = koffi.struct('aiopool_call', {
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
const submit = lib.func('int aiopool_pool_submit(void *pool, aiopool_call *call, uint64_t timeout_ms, _Out_ uint64_t *ticket)');
const wait = lib.func('int aiopool_pool_wait(void *pool, uint64_t timeout_ms, _Out_ void **outcome)');
const close = lib.func('int aiopool_pool_close(void *pool)');
const join = lib.func('int aiopool_pool_join(void *pool, uint64_t timeout_ms)');
const free = lib.func('int aiopool_pool_free(void *pool)');
const status = lib.func('int aiopool_outcome_status(void *outcome)');
const data = lib.func('void *aiopool_outcome_data(void *outcome)');
const length = lib.func('size_t aiopool_outcome_len(void *outcome)');
const text = lib.func('const char *aiopool_outcome_text(void *outcome)');
const userData = lib.func('uint64_t aiopool_outcome_user_data(void *outcome)');
const release = lib.func('int aiopool_outcome_release(void *outcome)');

const FOREVER = 0xffffffffffffffffn;
const START_COMMAND = 2;
export const WORKER_LOST = 5;

function check(result) {
  if (result !== 0) throw new Error(lastError());
}

/** A task that ended without a value; `status` is AIOPOOL_OUTCOME_*. */
export class TaskError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Pool {
  #pool;
  #call = {};
  #functions = new Map();
  #tasks = new Map();
  #next = 1;
  #waiting = false;

  /** Starts worker processes of `command`, an array of words. */
  constructor(command, { processes = 2, childConcurrency = 16 } = {}) {
    const options = {};
    check(initOptions(options));
    Object.assign(options, {
      processes, child_concurrency: childConcurrency, start_method: START_COMMAND,
      command: [...command, null],
    });
    const out = [null];
    check(start(options, out));
    this.#pool = out[0];
    check(initCall(this.#call));
  }

  /** Runs a worker's function on a Buffer; a promise of its output. */
  apply(name, input) {
    if (!this.#functions.has(name)) {
      const number = [0];
      check(declare(name, number));
      this.#functions.set(name, number[0]);
    }
    const key = this.#next++;
    check(submit(this.#pool, {
      ...this.#call, function: this.#functions.get(name), input, input_len: input.length,
      user_data: key,
    }, FOREVER, [0n]));
    const promise = new Promise((resolve, reject) => this.#tasks.set(key, { resolve, reject }));
    this.#wait();
    return promise;
  }

  #wait() {
    if (this.#waiting || this.#tasks.size === 0) return;
    this.#waiting = true;
    const out = [null];
    wait.async(this.#pool, FOREVER, out, (error, result) => {
      if (error) throw error;
      check(result);
      this.#waiting = false;
      this.#settle(out[0]);
      this.#wait();
    });
  }

  #settle(outcome) {
    const key = Number(userData(outcome));
    const { resolve, reject } = this.#tasks.get(key);
    this.#tasks.delete(key);
    const how = status(outcome);
    if (how === 0) {
      const bytes = koffi.decode(data(outcome), 'uint8_t', Number(length(outcome)));
      resolve(Buffer.from(bytes));
    } else {
      reject(new TaskError(text(outcome), how));
    }
    check(release(outcome));
  }

  /** Finishes what was submitted, and ends the workers. */
  async close() {
    if (this.#tasks.size > 0) throw new Error('await the tasks first');
    check(close(this.#pool));
    await new Promise((resolve, reject) => {
      join.async(this.#pool, FOREVER, (error, result) => (error ? reject(error) : resolve(result)));
    });
    check(free(this.#pool));
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
