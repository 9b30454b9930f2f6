/* aiopool: a process pool for tasks. The C API.
 *
 * Made from src/ffi by cbindgen; do not edit. See docs/c-api.md for a tour and ffi-examples/c for
 * programs.
 *
 * In all calls:
 * - Texts are UTF-8 and end with NUL. Sizes and lengths are bytes. Names of times end with their
 *   unit.
 * - `..._out` arguments are written only when a call returns AIOPOOL_OK.
 * - NULL is refused (AIOPOOL_ERR_NULL) unless the call's description accepts it.
 * - What a call lends is given back by the call that its description names.
 * - No panic or exception leaves a call.
 * - pthread_cancel leaves no call half done: a thread that is cancelled ends when the call returns.
 *   A call that waits for `timeout_ms` lets it end within a second and has then received nothing,
 *   and submitted no task but those before the one that it waited with. The type of cancellation
 *   is the deferred one, which is the default.
 */
#ifndef AIOPOOL_H
#define AIOPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What compilers can warn of: a pointer that is NULL where it must not be, a status that is not
 * read. Define AIOPOOL_NO_ATTRIBUTES to do without. */
#if defined(__GNUC__) && !defined(AIOPOOL_NO_ATTRIBUTES)
#define AIOPOOL_NONNULL(arguments) __attribute__((nonnull arguments))
#define AIOPOOL_CHECKED __attribute__((warn_unused_result))
#else
#define AIOPOOL_NONNULL(arguments)
#define AIOPOOL_CHECKED
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------
 * Version and features.
 *
 * The library's version follows semantic versioning; a program that was compiled against one
 * 0.x header runs with every later library of the same 0.x.
 * ------------------------------------------------------------------ */

/**
 * The version of this header, major number.
 */
#define AIOPOOL_VERSION_MAJOR 0

/**
 * The version of this header, minor number.
 */
#define AIOPOOL_VERSION_MINOR 1

/**
 * The version of this header, patch number.
 */
#define AIOPOOL_VERSION_PATCH 0

/**
 * The version of this header as one number, in the form of `aiopool_version`.
 */
#define AIOPOOL_VERSION (((AIOPOOL_VERSION_MAJOR << 16) | (AIOPOOL_VERSION_MINOR << 8)) | AIOPOOL_VERSION_PATCH)


/**
 * Returns the version of the library, as `major << 16 | minor << 8 | patch`.
 *
 * Thread rule: callable from everywhere, at any time, as are all functions of this section.
 */
uint32_t aiopool_version(void);

/**
 * Returns the version of the library as text, such as `"0.1.0"`; static, never freed.
 */
const char *aiopool_version_text(void);

/**
 * Returns whether the library has the feature `name`; false for one it does not know.
 *
 * Features of this version: `async` (asynchronous task functions), `command` (workers that
 * are other programs), `hooks`, `loan` (zero-copy), `log`, `process`. Depending on how the
 * library was built: `sandbox` (`aiopool_pool_options.sandbox`), `stats-page`.
 */
bool aiopool_has_feature(const char *name);

/* ---------------------------------------------------------------------
 * Status codes and errors.
 *
 * Every function that can fail returns an `aiopool_status`: `AIOPOOL_OK` or a negative number.
 * Numbers are never changed and never used again. What a call gives back is written to its last
 * arguments, and only when it returns `AIOPOOL_OK`.
 *
 * Four kinds of numbers say how something ended, and each has its own name: a *status* is what a
 * call returns (`aiopool_status`), a *kind* is how a task ended (`aiopool_kind`), a *code* is what
 * a task function returned (`aiopool_outcome_code`), and an *exit code* is what a process ended
 * with (`aiopool_process_exit_code`).
 *
 * An argument `timeout_ms` is how long the call may wait, in all calls: `AIOPOOL_NO_WAIT` (0) not
 * at all, `AIOPOOL_FOREVER` as long as it takes. A field `..._limit_...` bounds something else
 * than a call's wait: `AIOPOOL_NO_LIMIT` (0) is no bound, so that a struct of zeros sets none.
 * ------------------------------------------------------------------ */

/**
 * A `timeout_ms` of a call that waits as long as it takes.
 */
#define AIOPOOL_FOREVER UINT64_MAX

/**
 * A `timeout_ms` of a call that does not wait.
 */
#define AIOPOOL_NO_WAIT 0

/**
 * A field `..._limit_...` without limit.
 */
#define AIOPOOL_NO_LIMIT 0

/**
 * What a call returns: 0 or a negative number.
 */
enum aiopool_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    AIOPOOL_OK = 0,
    /**
     * A pointer that is required is NULL.
     */
    AIOPOOL_ERR_NULL = -1,
    /**
     * An argument or option is outside its range; the text names it and what is allowed.
     */
    AIOPOOL_ERR_INVALID = -2,
    /**
     * A `struct_size` of no version of the library, or a reserved field that is not 0.
     */
    AIOPOOL_ERR_STRUCT = -3,
    /**
     * The handle is not one of a living object: it was freed or released, or never was one.
     */
    AIOPOOL_ERR_HANDLE = -4,
    /**
     * The system refused something: memory, descriptors, processes.
     */
    AIOPOOL_ERR_SYSTEM = -5,
    /**
     * Nothing arrived within the time given.
     */
    AIOPOOL_ERR_TIMEOUT = -6,
    /**
     * Nothing is available now; ask again later.
     */
    AIOPOOL_ERR_EMPTY = -7,
    /**
     * The pool is full: receive some outcomes first.
     */
    AIOPOOL_ERR_FULL = -8,
    /**
     * The pool takes no more tasks: it was closed or terminated, or has failed.
     */
    AIOPOOL_ERR_CLOSED = -9,
    /**
     * Something of the object is still in use.
     */
    AIOPOOL_ERR_BUSY = -10,
    /**
     * The input is larger than the pool takes.
     */
    AIOPOOL_ERR_TOO_LARGE = -11,
    /**
     * The call had to come before: see `aiopool_init`.
     */
    AIOPOOL_ERR_TOO_LATE = -12,
    /**
     * The call must come after `aiopool_init`.
     */
    AIOPOOL_ERR_TOO_EARLY = -13,
    /**
     * The call came from a process that was forked from the pool's host.
     */
    AIOPOOL_ERR_FORKED = -14,
    /**
     * The call is for the host and came from inside a worker.
     */
    AIOPOOL_ERR_IN_WORKER = -15,
    /**
     * The call is for a worker's event loop and came from elsewhere.
     */
    AIOPOOL_ERR_NOT_IN_WORKER = -16,
    /**
     * No such task function, ticket or name.
     */
    AIOPOOL_ERR_UNKNOWN = -17,
    /**
     * No worker could be started, or every initializer failed.
     */
    AIOPOOL_ERR_NO_WORKERS = -18,
    /**
     * Shared memory holds something that no correct process writes.
     */
    AIOPOOL_ERR_CORRUPT = -19,
    /**
     * The call is not allowed at this moment; the text says why.
     */
    AIOPOOL_ERR_MISUSE = -20,
    /**
     * The pool has failed as a whole; the text gives the cause.
     */
    AIOPOOL_ERR_FAILED = -21,
    /**
     * A bug in aiopool: a panic was caught.
     */
    AIOPOOL_ERR_PANIC = -22,
    /**
     * The output found no room in the worker's result arena.
     */
    AIOPOOL_ERR_OUTPUT_SPACE = -23,
    /**
     * The task function returned an error.
     */
    AIOPOOL_ERR_TASK = -24,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum aiopool_status aiopool_status;
#else
typedef int32_t aiopool_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus


/**
 * Returns the meaning of `status` in a few words; static, never freed, never NULL.
 *
 * Thread rule: callable from everywhere, at any time.
 */
const char *aiopool_status_str(aiopool_status status);

/**
 * Returns what was wrong in this thread's last call that failed, and what to do about it.
 *
 * Valid until the next call of this thread that fails; calls that succeed, this one and
 * `aiopool_status_str` leave it as it is. Empty if none failed yet; never NULL.
 */
const char *aiopool_last_error(void);

/* ---------------------------------------------------------------------
 * Inside of a task.
 *
 * What a task function can do with its `aiopool_task` and `aiopool_output`. Both are valid until
 * the function returns, or, if it returns `AIOPOOL_PENDING`, until the task is completed or its
 * cancel callback has returned; later calls with them return `AIOPOOL_ERR_HANDLE`.
 *
 * Thread rule: the worker's event loop, which is the thread that task functions and callbacks
 * are called on. `aiopool_task_complete` and the output functions are callable from other
 * threads of the worker, too.
 * ------------------------------------------------------------------ */

/**
 * Where a task function writes its output.
 */
typedef struct aiopool_output aiopool_output;

/**
 * A task, as its function gets it.
 */
typedef struct aiopool_task aiopool_task;


/**
 * Appends `len` bytes at `data` to the output.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_HANDLE`; `AIOPOOL_ERR_MISUSE` after
 * `aiopool_output_loan`; `AIOPOOL_ERR_SYSTEM` if memory has run out.
 */
aiopool_status aiopool_output_write(struct aiopool_output *output, const void *data, size_t len)
    AIOPOOL_NONNULL((1));

/**
 * Appends `len` zero bytes to the output, for the caller to fill in.
 *
 * `data_out` is valid until the next call that writes to this output.
 *
 * Returns as `aiopool_output_write`.
 */
aiopool_status aiopool_output_reserve(struct aiopool_output *output, size_t len, void **data_out)
    AIOPOOL_NONNULL((1, 3)) AIOPOOL_CHECKED;

/**
 * Borrows `len` bytes of the memory that the host reads outputs from, as this task's output,
 * which saves the worker's copy. Their initial content is undefined.
 *
 * `data_out` is valid until the task is over. Call this at most once a task, instead of
 * `aiopool_output_write` and `aiopool_output_reserve`. It pays for outputs of many kilobytes.
 * If the output is shorter than `len`, call `aiopool_output_trim`. The host saves its own copy
 * if it submits with `AIOPOOL_CALL_BORROW_OUTPUT`.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_HANDLE`; `AIOPOOL_ERR_INVALID` if
 * `len` is 0; `AIOPOOL_ERR_MISUSE` if the output has bytes or memory already;
 * `AIOPOOL_ERR_FULL` if other outputs take the memory now (use `aiopool_output_write`, which
 * waits for room); `AIOPOOL_ERR_TOO_LARGE` for more than `output_arena` has;
 * `AIOPOOL_ERR_SYSTEM`; `AIOPOOL_ERR_NOT_IN_WORKER` on another thread than the worker's event
 * loop; `AIOPOOL_ERR_FORKED` in a child of the worker.
 */
aiopool_status aiopool_output_loan(struct aiopool_output *output, size_t len, void **data_out)
    AIOPOOL_NONNULL((1, 3)) AIOPOOL_CHECKED;

/**
 * Shortens an output in borrowed memory to its first `len` bytes.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_HANDLE`; `AIOPOOL_ERR_MISUSE` if
 * nothing is borrowed; `AIOPOOL_ERR_INVALID` if fewer than `len` bytes are.
 */
aiopool_status aiopool_output_trim(struct aiopool_output *output, size_t len)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Sets the text of the error that the task is about to end with; `text` is copied.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` (not UTF-8) or
 * `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_task_set_error(struct aiopool_task *task, const char *error)
    AIOPOOL_NONNULL((1, 2));

/**
 * Ends a task whose function has returned or will return `AIOPOOL_PENDING`.
 *
 * `result` is what the function would have returned: 0, or a number for an error. The task's
 * and the output's handle are invalid after this.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` (`AIOPOOL_PENDING` does not
 * end a task) or `AIOPOOL_ERR_HANDLE` (ended before).
 * Thread rule: callable from every thread of the worker.
 */
aiopool_status aiopool_task_complete(struct aiopool_task *task, int32_t result)
    AIOPOOL_NONNULL((1));

/**
 * Returns whether the task that calls was cancelled or ran out of time: its outcome is
 * decided, and what it returns is dropped. A function that computes for long asks from time
 * to time, which costs a few loads.
 *
 * False for NULL, for a task that is over, and on other threads than the worker's event loop.
 */
bool aiopool_task_is_cancelled(struct aiopool_task *task)
    AIOPOOL_NONNULL((1));

/**
 * Returns the number of this attempt of the task that calls, from 1; above 65,536 it stays.
 *
 * 0 for NULL, for a task that is over, and on other threads than the worker's event loop.
 */
uint32_t aiopool_task_attempt(struct aiopool_task *task)
    AIOPOOL_NONNULL((1));

/**
 * Says how far the task is, in a unit of its own: for `aiopool_pool_progress` in the host.
 *
 * Costs one store. The host reads the last number, and nothing of those before.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE` (the task is over);
 * `AIOPOOL_ERR_MISUSE` on other threads than the worker's event loop.
 */
aiopool_status aiopool_task_progress(struct aiopool_task *task, uint64_t number)
    AIOPOOL_NONNULL((1));

/* ---------------------------------------------------------------------
 * Task functions.
 *
 * Register task functions before `aiopool_init`: workers are forked from the process as it is
 * then, so function and `user` pointer are valid in them. Functions that live in workers of
 * another program are declared by name, at any time.
 * ------------------------------------------------------------------ */

/**
 * The return value of a task function that will complete its task later; see
 * `aiopool_task_complete`.
 */
#define AIOPOOL_PENDING 1

/**
 * A task function, which runs in a worker process.
 *
 * `input` is what was submitted: `input_len` bytes at a multiple of 16, so a cast to any type is
 * aligned. They are valid until the function returns something else than `AIOPOOL_PENDING`, or the
 * task is completed. What the function writes to `output` is the outcome's payload. `user` is the
 * pointer that it was registered with.
 *
 * It returns 0 when it is done, `AIOPOOL_PENDING` if it will call `aiopool_task_complete` later,
 * and any other number for an error. `aiopool_task_set_error` sets the error's text; the payload
 * is then dropped. A worker runs one function at a time, so a function that waits should be
 * asynchronous.
 */
typedef int32_t (*aiopool_task_fn)(aiopool_task *task,
                                   const void *input,
                                   size_t input_len,
                                   aiopool_output *output,
                                   void *user);


/**
 * Registers `function` under `name`, to be called with `user`, and writes its number.
 *
 * A program in Rust can submit it by its name, too, beside functions of its own. `name` is
 * copied. `user` may be NULL; workers see what it points to as it was at `aiopool_init`. After
 * `aiopool_init` it has to be called again; pools that were started before do not get the
 * function (`AIOPOOL_ERR_TOO_LATE` when it is submitted). Registering the same function under
 * the same name again gives the same number.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_INVALID` for a name that is taken,
 * empty or too long (224 bytes), and for a function that is in no image mapped into this
 * process (made at run time).
 * Thread rule: callable from every thread of the host.
 */
aiopool_status aiopool_function_register(const char *name,
                                         aiopool_task_fn function,
                                         void *user,
                                         uint32_t *function_out)
    AIOPOOL_NONNULL((1, 4)) AIOPOOL_CHECKED;

/**
 * Declares a function that only the workers have, by `name`, and writes its number.
 *
 * For pools whose workers are another program (`AIOPOOL_START_COMMAND`), which serves the
 * name. If the worker does not have the name, the task ends with an error that says so.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_INVALID` (as
 * `aiopool_function_register`).
 * Thread rule: callable from every thread of the host, at any time.
 */
aiopool_status aiopool_function_declare(const char *name, uint32_t *function_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Writes the number of the function that was registered or declared under `name`.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_UNKNOWN`.
 * Thread rule: callable from every thread of the host, at any time.
 */
aiopool_status aiopool_function_find(const char *name, uint32_t *function_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Takes the name of a function back: later pools do not have it, and another function may be
 * registered under the name. Pools that have been given calls of it keep it, with its number.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_UNKNOWN`.
 * Thread rule: callable from every thread of the host, at any time.
 */
aiopool_status aiopool_function_unregister(const char *name)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Asynchronous tasks.
 *
 * A task function that returns `AIOPOOL_PENDING` leaves the worker's event loop to other tasks, up
 * to `child_concurrency` at once. It continues when an event that it requested happens. Each
 * request is for one event; the function called for the event may request the next one, or
 * complete the task.
 *
 * Thread rule: the worker's event loop, which task functions and callbacks are called on; from
 * elsewhere `AIOPOOL_ERR_NOT_IN_WORKER`, in a child of the worker `AIOPOOL_ERR_FORKED`. To
 * complete a task from another thread of the worker, call `aiopool_task_complete` there.
 * ------------------------------------------------------------------ */

/**
 * The delay of `aiopool_task_sleep` has passed.
 */
#define AIOPOOL_EVENT_TIMER 1

/**
 * A watched descriptor can be read, has ended or has an error.
 */
#define AIOPOOL_EVENT_READABLE 2

/**
 * A watched descriptor can be written, or has an error.
 */
#define AIOPOOL_EVENT_WRITABLE 4

/**
 * The other tasks have had their turn since `aiopool_task_defer`.
 */
#define AIOPOOL_EVENT_DEFERRED 8

/**
 * The task is cancelled.
 */
#define AIOPOOL_EVENT_CANCELLED 16

/**
 * The function called when an event of a pending task happens: with the events, `AIOPOOL_EVENT_*`,
 * and the `data` of the request.
 */
typedef void (*aiopool_event_fn)(aiopool_task *task, uint32_t events, void *data);


/**
 * Has `function` called with `AIOPOOL_EVENT_TIMER` after `delay_ms`.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_HANDLE` or
 * `AIOPOOL_ERR_NOT_IN_WORKER`.
 */
aiopool_status aiopool_task_sleep(aiopool_task *task,
                                  uint64_t delay_ms,
                                  aiopool_event_fn function,
                                  void *data)
    AIOPOOL_NONNULL((1));

/**
 * Has `function` called when `fd` is ready for one of `events`, `AIOPOOL_EVENT_READABLE`,
 * `AIOPOOL_EVENT_WRITABLE` or both; at once, if it is.
 *
 * `fd` stays the caller's. It should be non-blocking, and may be closed while it is watched.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_HANDLE`, `AIOPOOL_ERR_INVALID` for
 * other events, `AIOPOOL_ERR_NOT_IN_WORKER`, or `AIOPOOL_ERR_SYSTEM` for a descriptor that is
 * not open or cannot be watched (an ordinary file).
 */
aiopool_status aiopool_task_watch_fd(aiopool_task *task,
                                     int32_t fd,
                                     uint32_t events,
                                     aiopool_event_fn function,
                                     void *data)
    AIOPOOL_NONNULL((1));

/**
 * Has `function` called when the other tasks of the worker have had their turn.
 *
 * For a task that computes for long, piece by piece.
 *
 * Returns as `aiopool_task_sleep`.
 */
aiopool_status aiopool_task_defer(aiopool_task *task, aiopool_event_fn function, void *data)
    AIOPOOL_NONNULL((1));

/**
 * Has `function` called with `AIOPOOL_EVENT_CANCELLED` if the task is cancelled while it is
 * pending: by the host, by its deadline, or because the worker leaves.
 *
 * `function` frees what the task holds. The outcome is already decided, and the task's and the
 * output's handle are invalid after it. A second function replaces the first; NULL removes it.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_task_on_cancel(aiopool_task *task, aiopool_event_fn function, void *data)
    AIOPOOL_NONNULL((1));

/**
 * Writes the number of the worker that the caller runs in: its seat in the pool, from 0 on.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NOT_IN_WORKER`.
 */
aiopool_status aiopool_worker_id(uint32_t *worker_out)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Errors, reported where they happen.
 *
 * A pool with an `exception_function` calls it in the worker with each error that a task function
 * returns and each panic of a task in Rust, before the outcome goes to the host: to log it, or to
 * send it to a collector of errors.
 *
 * Thread rule: the worker's event loop.
 * ------------------------------------------------------------------ */

/**
 * The input of the exception function; valid during the call.
 */
typedef struct aiopool_exception {
    /**
     * `sizeof(aiopool_exception)` of the library.
     */
    uint32_t struct_size;
    /**
     * The number that a C task function returned; 0 for a task in Rust.
     */
    int32_t code;
    /**
     * The name that the task function was registered with.
     */
    const char *function;
    /**
     * The text of the error.
     */
    const char *text;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_exception;

/* ---------------------------------------------------------------------
 * Start of the process.
 *
 * First thing in `main`: register the task functions, load what all workers are to share, call
 * `aiopool_init`, then start threads and pools as you like.
 * ------------------------------------------------------------------ */

/**
 * Forks the process from which the workers of later pools are forked; they share its memory as
 * it is at this moment, copy-on-write.
 *
 * Task functions that were registered before can be submitted to those pools. Standard output
 * is flushed. Calling it again does nothing unless functions were registered since: then
 * another process is forked, for the pools that are started after that, and those that there
 * are keep theirs. So each library of a program can register its functions, call this and
 * start its pools without knowing of the others. Without this call a pool takes only functions
 * that are declared by name, for workers that are another program.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TOO_LATE` if this process has a second thread (those of
 * this library's own pools do not count) or has started a pool without having called this
 * before; `AIOPOOL_ERR_INVALID` if a registered function is in no mapped image;
 * `AIOPOOL_ERR_SYSTEM`.
 * Thread rule: from the only thread of the process.
 */
aiopool_status aiopool_init(void);

/**
 * Ends the process that `aiopool_init` forked, or that the first pool started: then this
 * process has no child, thread or descriptor of the library.
 *
 * All pools and processes are to be freed before. Functions stay registered: `aiopool_init`
 * can be called again, as if it were called again for new functions, and pools started after
 * it. What is left until the process ends is memory: names of functions, and cells of handles,
 * by which a freed handle is recognised.
 *
 * Returns `AIOPOOL_OK`, also where there is nothing to end; `AIOPOOL_ERR_BUSY`, and nothing
 * is done, while there is a pool, or a process, or an outcome or loan of one.
 * Thread rule: while no other thread calls the library.
 */
aiopool_status aiopool_shutdown(void);

/* ---------------------------------------------------------------------
 * Log.
 *
 * What the library has to say beside its statuses: workers that died, pools that failed.
 * ------------------------------------------------------------------ */

/**
 * Something is wrong: a pool has failed, shared memory is damaged.
 */
#define AIOPOOL_LOG_ERROR 1

/**
 * Something went wrong and was dealt with: a worker died.
 */
#define AIOPOOL_LOG_WARN 2

/**
 * Something happened.
 */
#define AIOPOOL_LOG_INFO 3

/**
 * Something happened that only helps to find mistakes.
 */
#define AIOPOOL_LOG_DEBUG 4

/**
 * Called with each message, one at a time, from any thread of the host; `text` is valid during
 * the call. It must not call this library.
 */
typedef void (*aiopool_log_fn)(uint32_t level, const char *text, void *user);


/**
 * Has `function` called with every message up to `level`, `AIOPOOL_LOG_*`; NULL ends that. Not
 * with those about pools of a context that has a log of its own (`aiopool_context_log_set`).
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` for a level that does not exist;
 * `AIOPOOL_ERR_MISUSE` in a program that listens by other means (tracing, in Rust).
 * Thread rule: callable from every thread of the host, at any time; in no worker.
 */
aiopool_status aiopool_log_set(uint32_t level, aiopool_log_fn function, void *user)
    AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Contexts.
 *
 * A library that is one of several in a program makes a context, and has names of functions and a
 * log of its own: what others register or listen to does not meet it. It names the context in the
 * options of its pools, and needs to call nothing else: the first pool that is started with
 * functions which no snapshot has yet takes one, as `aiopool_init` does.
 *
 * The calls without a context (`aiopool_function_register`, `aiopool_log_set`) are those of the
 * default context, which NULL stands for, too. A pool has the functions of its context and no
 * others. One process for all contexts remains: the one that `aiopool_init` forks, since a fork
 * copies the whole program; and so its rule does, that no other thread may run then. Workers that
 * are not forks of this program find functions by their names in their own default context.
 *
 * Thread rule: callable from every thread of the host.
 * ------------------------------------------------------------------ */

/**
 * What a library of a program has for itself: names of functions, a log, pools.
 */
typedef struct aiopool_context aiopool_context;


/**
 * Makes a context. The caller owns `context_out` and frees it with `aiopool_context_free`.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
 */
aiopool_status aiopool_context_new(struct aiopool_context **context_out)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Frees a context: its functions are unregistered, and its log function is called no more. A
 * library whose functions they were may be unloaded then.
 *
 * NULL is accepted and does nothing.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_BUSY`, and nothing is done, while there is a pool or a
 * process of this context, or a call of another thread with one; `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_context_free(struct aiopool_context *context);

/**
 * As `aiopool_function_register`, in a context. The first pool of the context that is started
 * after this has the function; `aiopool_init` may be called before, to choose the moment
 * whose memory workers have.
 *
 * Returns as `aiopool_function_register`; `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_context_register(struct aiopool_context *context,
                                        const char *name,
                                        aiopool_task_fn function,
                                        void *user,
                                        uint32_t *function_out)
    AIOPOOL_NONNULL((2, 5)) AIOPOOL_CHECKED;

/**
 * As `aiopool_function_declare`, in a context.
 *
 * Returns as `aiopool_function_declare`; `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_context_declare(struct aiopool_context *context,
                                       const char *name,
                                       uint32_t *function_out)
    AIOPOOL_NONNULL((2, 3)) AIOPOOL_CHECKED;

/**
 * As `aiopool_function_find`, in a context.
 *
 * Returns as `aiopool_function_find`; `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_context_find(struct aiopool_context *context,
                                    const char *name,
                                    uint32_t *function_out)
    AIOPOOL_NONNULL((2, 3)) AIOPOOL_CHECKED;

/**
 * As `aiopool_function_unregister`, in a context.
 *
 * Returns as `aiopool_function_unregister`; `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_context_unregister(struct aiopool_context *context, const char *name)
    AIOPOOL_NONNULL((2)) AIOPOOL_CHECKED;

/**
 * As `aiopool_log_set`, for the messages about pools of a context. While a context has no
 * function for them, the default context's is called.
 *
 * Returns as `aiopool_log_set`; `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_context_log_set(struct aiopool_context *context,
                                       uint32_t level,
                                       aiopool_log_fn function,
                                       void *user)
    AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Schedulers.
 *
 * A scheduler chooses the queue of each task. The choice is final; the queue's idle workers take
 * its tasks in order. Three schedulers are built in, and a program can supply its own.
 *
 * Thread rule: the functions of a scheduler are called from any thread of the host, several at
 * once; they must be quick, must not block and must not call this library.
 * ------------------------------------------------------------------ */

/**
 * Takes the queues in turn.
 */
#define AIOPOOL_SCHEDULER_ROUND_ROBIN 0

/**
 * Chooses the queue with the fewest unfinished tasks per living worker.
 */
#define AIOPOOL_SCHEDULER_LEAST_LOADED 1

/**
 * Chooses the queue with the fewest tasks ahead: those of the task's priority class and of more
 * urgent ones.
 */
#define AIOPOOL_SCHEDULER_PRIORITY 2

/**
 * The functions of the options' `custom_scheduler`.
 */
#define AIOPOOL_SCHEDULER_CUSTOM 3

/**
 * A task that needs a queue.
 */
typedef struct aiopool_new_task {
    /**
     * Its ticket.
     */
    uint64_t ticket;
    /**
     * The name of its function; valid during the call.
     */
    const char *function;
    /**
     * Bytes of its input.
     */
    size_t input_len;
    /**
     * Its priority class, 0 the most urgent.
     */
    uint32_t priority;
    /**
     * 0.
     */
    uint32_t reserved_0;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_new_task;

/**
 * The approximate load of a queue at this moment.
 */
typedef struct aiopool_queue_load {
    /**
     * Tasks that no worker has claimed.
     */
    uint64_t waiting;
    /**
     * Tasks without an outcome, claimed or not.
     */
    uint64_t pending;
    /**
     * Workers alive.
     */
    uint64_t workers;
} aiopool_queue_load;

/**
 * Chooses the queue for `task`, counted from 0; a number that is no queue counts as queue 0.
 *
 * `loads` has `queues` entries and is valid during the call. If the chosen queue is full, it may
 * be called again for the same task.
 */
typedef uint32_t (*aiopool_schedule_fn)(const struct aiopool_new_task *task,
                                        const struct aiopool_queue_load *loads,
                                        uint32_t queues,
                                        void *user);

/**
 * A task that has its outcome.
 */
typedef struct aiopool_completed_task {
    /**
     * Its ticket.
     */
    uint64_t ticket;
    /**
     * The queue it was on, counted from 0.
     */
    uint32_t queue;
    /**
     * 1 if its outcome is `AIOPOOL_OUTCOME_OK`, else 0.
     */
    uint32_t ok;
    /**
     * Nanoseconds from its submission to the start of its last attempt; 0 if that is not known.
     */
    uint64_t waited_ns;
    /**
     * Nanoseconds that its last attempt ran; 0 if that is not known.
     */
    uint64_t ran_ns;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_completed_task;

/**
 * Called for each task that gets its outcome; `task` is valid during the call.
 */
typedef void (*aiopool_completed_fn)(const struct aiopool_completed_task *task, void *user);

/**
 * A worker process that was started or has ended.
 */
typedef struct aiopool_process_change {
    /**
     * The queue it serves, counted from 0.
     */
    uint32_t queue;
    /**
     * Its seat in the pool.
     */
    uint32_t seat;
    /**
     * Its process id.
     */
    uint32_t pid;
    /**
     * 1 if it was started, 0 if it has ended.
     */
    uint32_t started;
    /**
     * 1 if its end was not planned: neither recycling nor the end of the pool.
     */
    uint32_t died;
    /**
     * 0.
     */
    uint32_t reserved_0;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_process_change;

/**
 * Called when a worker process starts or ends; `change` is valid during the call.
 */
typedef void (*aiopool_process_fn)(const struct aiopool_process_change *change, void *user);

/**
 * A scheduler supplied by the program; copied by `aiopool_pool_start`.
 */
typedef struct aiopool_scheduler {
    /**
     * `sizeof(aiopool_scheduler)`.
     */
    uint32_t struct_size;
    /**
     * 0.
     */
    uint32_t reserved_0;
    /**
     * Chooses the queue of each task; required.
     */
    aiopool_schedule_fn schedule;
    /**
     * May be NULL.
     */
    aiopool_completed_fn completed;
    /**
     * May be NULL.
     */
    aiopool_process_fn process;
    /**
     * Passed to the functions; must stay valid as long as the pool.
     */
    void *user;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_scheduler;


/**
 * Sets all fields of a scheduler to their defaults; the caller then sets `schedule`.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
 */
aiopool_status aiopool_scheduler_init(struct aiopool_scheduler *scheduler_out)
    AIOPOOL_NONNULL((1));

/* ---------------------------------------------------------------------
 * What the processes of workers are, where that is not what the host is.
 *
 * By default a worker has the environment, directory, user, niceness and umask of the process that
 * starts its pool, as they are then, and the processors and the scheduling policy of the thread
 * that calls `aiopool_pool_start`: set that policy (`sched_setscheduler`) before the call, and
 * back after it. No signal is ever blocked in a worker.
 * ------------------------------------------------------------------ */

/**
 * Workers have the variables that `environment` sets, and no others.
 */
#define AIOPOOL_SURROUNDINGS_CLEAR_ENVIRONMENT 1

/**
 * `umask` is set.
 */
#define AIOPOOL_SURROUNDINGS_UMASK 2

/**
 * `user` is set.
 */
#define AIOPOOL_SURROUNDINGS_USER 4

/**
 * `group` is set.
 */
#define AIOPOOL_SURROUNDINGS_GROUP 8

/**
 * What each task prints goes to files of its own in `output_directory`, `task-17.out` and
 * `task-17.err` for the ticket 17: see `aiopool_pool_printed`. It takes a `child_concurrency` of
 * 1.
 */
#define AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK 16

/**
 * What workers are that the host is not: `surroundings` of the options of a pool; set by
 * `aiopool_surroundings_init`, then changed where wanted.
 */
typedef struct aiopool_surroundings {
    /**
     * `sizeof(aiopool_surroundings)`.
     */
    uint32_t struct_size;
    /**
     * `AIOPOOL_SURROUNDINGS_*`, or 0.
     */
    uint32_t flags;
    /**
     * Variables of their environment, ended by NULL: `NAME=value` sets one, `NAME` takes it out;
     * or NULL.
     */
    const char *const *environment;
    /**
     * Their working directory, or NULL.
     */
    const char *directory;
    /**
     * A directory for their standard output and error, or NULL: those of the worker on seat 3 go
     * to `worker-3.out` and `worker-3.err` there, behind what is there.
     */
    const char *output_directory;
    /**
     * With `AIOPOOL_SURROUNDINGS_UMASK` the bits that files created by workers lack, 0 to 0777.
     */
    uint32_t umask;
    /**
     * With `AIOPOOL_SURROUNDINGS_USER` the number of the user that they run as; it takes root.
     * They then have the groups of `group` alone, or none but their own.
     */
    uint32_t user;
    /**
     * With `AIOPOOL_SURROUNDINGS_GROUP` the number of the group that they run in; it takes root.
     */
    uint32_t group;
    /**
     * How much nicer than the host they are, 0 to 39.
     */
    int32_t nice;
    /**
     * The numbers of the processors that they run on; NULL, the default, for those of the thread
     * that starts the pool. Where `processes` is 0 there is one worker for each of them.
     */
    const uint32_t *processors;
    /**
     * Number of entries in `processors`.
     */
    size_t processors_len;
    /**
     * 0.
     */
    uint64_t reserved[2];
} aiopool_surroundings;


/**
 * Sets surroundings that change nothing.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
 */
aiopool_status aiopool_surroundings_init(struct aiopool_surroundings *surroundings_out)
    AIOPOOL_NONNULL((1));

/* ---------------------------------------------------------------------
 * Options of a pool.
 * ------------------------------------------------------------------ */

/**
 * Workers are forked from the process that called `aiopool_init`.
 */
#define AIOPOOL_START_FORK 0

/**
 * Workers execute this program anew and never reach its `main`. They have the functions that its
 * constructors register in the default context, and no others: a pool of another context, too,
 * finds them there, by their names.
 */
#define AIOPOOL_START_SPAWN 1

/**
 * Workers are another program: `command`.
 */
#define AIOPOOL_START_COMMAND 2

/**
 * Workers keep the descriptors that were open at `aiopool_init`.
 */
#define AIOPOOL_POOL_KEEP_FDS 1

/**
 * Executing a set-user-id program gives workers no new rights. Every rule of a sandbox (the flags
 * below, paths, denied calls) implies it.
 */
#define AIOPOOL_POOL_NO_NEW_PRIVS 2

/**
 * Workers cannot create sockets: `socket` fails with `EPERM`.
 */
#define AIOPOOL_POOL_NO_NETWORK 4

/**
 * Workers cannot execute programs. Not possible with `AIOPOOL_START_COMMAND`.
 */
#define AIOPOOL_POOL_NO_EXEC 8

/**
 * Workers can send signals to their own children only (Linux 6.12).
 */
#define AIOPOOL_POOL_NO_SIGNALS 16

/**
 * Leaves out those rules (of the three flags above, `read_only`, `read_write` and `denied_calls`)
 * that the kernel cannot enforce. Without this flag `aiopool_pool_start` fails, and its text names
 * them.
 */
#define AIOPOOL_POOL_BEST_EFFORT 32

/**
 * Nobody can look at the pool with `aiopool ps`, `aiopool top` or `aiopool dashboard`. Without
 * this flag the programs of this user can.
 */
#define AIOPOOL_POOL_NOT_OBSERVABLE 64

/**
 * `held_fd` is set.
 */
#define AIOPOOL_POOL_HOLD 128

/**
 * Options of a pool; set by `aiopool_pool_options_init`, then changed where wanted.
 *
 * `aiopool_pool_start` refuses a number outside its range with a text that gives the range.
 */
typedef struct aiopool_pool_options {
    /**
     * `sizeof(aiopool_pool_options)`.
     */
    uint32_t struct_size;
    /**
     * `AIOPOOL_POOL_*`, or 0.
     */
    uint32_t flags;
    /**
     * Worker processes; 0, the default, for one for each processor that this process may use.
     */
    uint32_t processes;
    /**
     * Queues, 1 (the default) to `processes`; worker w serves queue w modulo `queues`.
     */
    uint32_t queues;
    /**
     * Most tasks that a worker has in flight, 16 by default. It matters for asynchronous
     * functions.
     */
    uint32_t child_concurrency;
    /**
     * Priority classes, 1 (the default) to 4.
     */
    uint32_t priorities;
    /**
     * Tasks that a worker runs before it is replaced; 0, the default, for no limit.
     */
    uint64_t max_tasks_per_child;
    /**
     * Most tasks that a queue holds, a power of two; 4096 by default.
     */
    uint64_t capacity;
    /**
     * The largest input in bytes; 64 MiB by default.
     */
    uint64_t max_payload;
    /**
     * Bytes of memory for inputs above 64 bytes; 0, the default, for four times `max_payload`.
     * Taken from the system as it is used, and given back, but for 16 MiB, when most of it was not
     * used for a second.
     */
    uint64_t input_arena;
    /**
     * Bytes of memory of each worker for outputs above 128 bytes; default as `input_arena`.
     */
    uint64_t output_arena;
    /**
     * Milliseconds that a worker has to obey a deadline or the pool's end; 2000 by default.
     */
    uint64_t grace_ms;
    /**
     * `AIOPOOL_START_*`; `AIOPOOL_START_FORK` by default.
     */
    uint32_t start_method;
    /**
     * `AIOPOOL_SCHEDULER_*`; `AIOPOOL_SCHEDULER_ROUND_ROBIN` by default.
     */
    uint32_t scheduler;
    /**
     * With `AIOPOOL_START_COMMAND` the program and its arguments, ended by NULL; else NULL.
     */
    const char *const *command;
    /**
     * A registered function that each worker runs before its first task, or 0. If it returns an
     * error the worker does not start; if it fails in every worker, the pool fails with its text.
     */
    uint32_t init_function;
    /**
     * A registered function that each worker runs after its last task, or 0.
     */
    uint32_t exit_function;
    /**
     * The input of the init function; copied. With `AIOPOOL_START_COMMAND` workers get it with
     * `aiopool_worker_describe`.
     */
    const void *init_input;
    /**
     * Its length in bytes.
     */
    size_t init_input_len;
    /**
     * The input of the exit function; copied.
     */
    const void *exit_input;
    /**
     * Its length in bytes.
     */
    size_t exit_input_len;
    /**
     * Bytes of address space that a worker may map, the arenas included; 0, the default, for this
     * process's own limit. An allocation beyond it fails.
     */
    uint64_t limit_address_space;
    /**
     * Seconds of processor time in a worker's life, then `SIGXCPU`; 0 for this process's own
     * limit.
     */
    uint64_t limit_cpu_seconds;
    /**
     * Descriptors that a worker may have open, the pool's included; 0 for this process's own
     * limit.
     */
    uint64_t limit_open_files;
    /**
     * Paths that workers can read and execute, ended by NULL; NULL, the default, for no rule. If
     * this or `read_write` is not NULL, workers can open nothing else. Needs Linux 6.2.
     */
    const char *const *read_only;
    /**
     * Paths that workers can also write, create and remove, ended by NULL; or NULL.
     */
    const char *const *read_write;
    /**
     * Numbers of system calls that fail with `EPERM` in workers.
     */
    const int64_t *denied_calls;
    /**
     * Number of entries in `denied_calls`.
     */
    size_t denied_calls_len;
    /**
     * With `AIOPOOL_SCHEDULER_CUSTOM` the scheduler, else NULL.
     */
    const aiopool_scheduler *custom_scheduler;
    /**
     * The name under which the pool publishes its numbers, for `aiopool stats` and others, in
     * `/dev/shm/aiopool.<name>`; NULL, the default, to publish nothing.
     */
    const char *stats_page;
    /**
     * A registered function that each worker calls with each error of a task, in an
     * `aiopool_exception`; or 0.
     */
    uint32_t exception_function;
    /**
     * Milliseconds that a worker has from its order until it can take tasks, its init function or
     * its attaching included; 0, the default, for 60 seconds. Then it is killed, and if no other
     * worker can take tasks the pool fails with a text that names the function or the command.
     */
    uint32_t start_timeout_ms;
    /**
     * The pool's name for `aiopool top` and others, 1 to 32 letters, digits, dots, dashes and
     * underscores; NULL, the default, for the program's name.
     */
    const char *name;
    /**
     * What workers are that this process is not; NULL, the default, for nothing.
     */
    const aiopool_surroundings *surroundings;
    /**
     * The context whose functions and log the pool has; NULL, the default, for the default one.
     * Contexts have no names, so workers that are no forks (`AIOPOOL_START_SPAWN`,
     * `AIOPOOL_START_COMMAND`) look in their own default context for a function of the same name,
     * which may be another library's: give it a name that only yours has.
     */
    aiopool_context *context;
    /**
     * Milliseconds after which a task that holds up its worker becomes an event: in the snapshot,
     * in `aiopool top`, in the log. 0, the default, for none. In a worker of another program it is
     * a task after which the loop has not called `aiopool_worker_next` again.
     */
    uint64_t blocked_after_ms;
    /**
     * Tasks of a function that run alone in their workers before others may run beside them; 0,
     * the default, for none. A death that one of them may have caused begins the count anew. See
     * `AIOPOOL_CALL_ALONE` for a single call.
     */
    uint32_t probation;
    /**
     * With `AIOPOOL_POOL_HOLD` a descriptor of which the fork server and every worker keep a
     * duplicate until they have ended; programs that tasks start do not get it. A lock that its
     * open file holds is free when the last process of the pool has ended, however it did, and the
     * caller has closed its own. Such a pool ends with its fork server.
     */
    int32_t held_fd;
    /**
     * When every worker is killed, in nanoseconds of `CLOCK_BOOTTIME`; 0, the default, for never.
     * It comes even if this process is stopped or blocked, and the pool has ended then. See
     * `aiopool_pool_extend_deadline`.
     */
    uint64_t deadline_ns;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_pool_options;


/**
 * Sets all options to their defaults.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
 */
aiopool_status aiopool_pool_options_init(struct aiopool_pool_options *options_out)
    AIOPOOL_NONNULL((1));

/* ---------------------------------------------------------------------
 * Pools.
 *
 * A pool is started, given tasks, closed or terminated, joined and freed. Freeing it frees
 * everything that belongs to it, worker processes included.
 *
 * Thread rule, unless a function says otherwise: callable from every thread of the process that
 * started the pool, also several at once. In a forked child every call returns
 * `AIOPOOL_ERR_FORKED`, in a task function `AIOPOOL_ERR_IN_WORKER`; a freed handle is
 * `AIOPOOL_ERR_HANDLE`.
 * ------------------------------------------------------------------ */

/**
 * A pool of worker processes.
 */
typedef struct aiopool_pool aiopool_pool;


/**
 * Starts a pool; `options` may be NULL for the defaults.
 *
 * Returns when the worker processes exist. The caller owns `pool_out` and frees it with
 * `aiopool_pool_free`.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` and `AIOPOOL_ERR_STRUCT` for options;
 * `AIOPOOL_ERR_TOO_EARLY` if functions are registered but `aiopool_init` was not called; with
 * a context, `AIOPOOL_ERR_TOO_LATE` where that is called here and refuses;
 * `AIOPOOL_ERR_HANDLE` for a context that was freed; `AIOPOOL_ERR_NO_WORKERS`,
 * `AIOPOOL_ERR_SYSTEM`.
 */
aiopool_status aiopool_pool_start(const aiopool_pool_options *options,
                                  struct aiopool_pool **pool_out)
    AIOPOOL_NONNULL((2)) AIOPOOL_CHECKED;

/**
 * Waits until every worker can take tasks, at most `timeout_ms`: its process is there and its
 * init function has returned, or it has attached.
 *
 * Tasks may be submitted before that. It is for a program that is to say that it is ready, or
 * that is to fail at its start and not at its first task.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_FAILED` if no worker can start,
 * with a text that says why; `AIOPOOL_ERR_CLOSED` if the pool was closed.
 */
aiopool_status aiopool_pool_ready(struct aiopool_pool *pool, uint64_t timeout_ms)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Frees a pool: terminates it if it was not, and waits until no worker is left of it.
 *
 * Idle workers leave at once and in order: their exit function runs, what they printed
 * arrives. One that is still busy after `grace_ms` is killed.
 *
 * It refuses nothing. Outcomes and loans that the caller holds stay valid until they are
 * released or given back, outcomes that were not received are dropped, and calls of other
 * threads with this pool return as for a terminated one. NULL is accepted and does nothing.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT` when a worker lives 10 seconds after it was
 * killed (the handle is freed all the same); `AIOPOOL_ERR_HANDLE` for one that was freed.
 */
aiopool_status aiopool_pool_free(struct aiopool_pool *pool);

/**
 * Closes the pool: it takes no more tasks and finishes those that were submitted.
 *
 * Returns `AIOPOOL_OK`, also the second time.
 */
aiopool_status aiopool_pool_close(struct aiopool_pool *pool)
    AIOPOOL_NONNULL((1));

/**
 * Ends every unfinished task as `AIOPOOL_OUTCOME_POOL_CLOSED` and has the workers leave.
 *
 * Their outcomes can be received. Workers that do not leave within `grace_ms` are killed.
 *
 * Returns `AIOPOOL_OK`, also the second time.
 */
aiopool_status aiopool_pool_terminate(struct aiopool_pool *pool)
    AIOPOOL_NONNULL((1));

/**
 * Moves the `deadline_ns` of the pool's options, at which every worker is killed.
 *
 * Returns `AIOPOOL_OK`, also when the old time has come, which ended the pool;
 * `AIOPOOL_ERR_INVALID` if `deadline_ns` is 0; `AIOPOOL_ERR_MISUSE` for a pool that was
 * started without one; `AIOPOOL_ERR_SYSTEM`.
 */
aiopool_status aiopool_pool_extend_deadline(struct aiopool_pool *pool, uint64_t deadline_ns)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Waits until every task has its outcome, at most `timeout_ms`. The pool stays as it is, open
 * or closed.
 *
 * The outcomes can then be received without waiting; those of calls with `on_complete` were
 * handed to their functions, of which another thread may still run one.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_TIMEOUT`.
 */
aiopool_status aiopool_pool_wait_idle(struct aiopool_pool *pool, uint64_t timeout_ms)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Deprecated: `aiopool_pool_close` and then `aiopool_pool_wait_idle`, under a name that does
 * not say that it closes.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_TIMEOUT`.
 */
aiopool_status aiopool_pool_drain(struct aiopool_pool *pool, uint64_t timeout_ms)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Waits until a closed or terminated pool has come to its end, at most `timeout_ms`.
 *
 * Then no worker is left; outcomes that were not received still can be.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if the pool is open; `AIOPOOL_ERR_TIMEOUT`;
 * `AIOPOOL_ERR_FAILED` if the pool ended for another reason than close or terminate.
 */
aiopool_status aiopool_pool_join(struct aiopool_pool *pool, uint64_t timeout_ms)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Writes the pool's descriptor, which any event loop can watch for reading.
 *
 * It is level-triggered: readable until a try_wait or wait finds nothing. Do not read from it,
 * write to it or close it; it belongs to the pool and is valid until the pool is freed.
 * Outcomes kept for their ticket make it readable, too.
 *
 * Returns `AIOPOOL_OK`.
 */
aiopool_status aiopool_pool_fd(struct aiopool_pool *pool, int32_t *fd_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Writes the descriptor of the pool's room, which an event loop watches for reading while it
 * has something to submit.
 *
 * It is level-triggered: readable until a submission, or `aiopool_pool_loan`, answers
 * `AIOPOOL_ERR_FULL` or waits in vain for room, and then when there may be room again, or the
 * pool has come to its end. May: another thread can have taken it. Where outcomes wait that
 * fill the pool, it is receiving some that makes room. Do not read from it, write to it or
 * close it; it belongs to the pool and is valid until the pool is freed. One thread should
 * watch it, and try again all that it has to submit.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_SYSTEM`.
 */
aiopool_status aiopool_pool_room_fd(struct aiopool_pool *pool, int32_t *fd_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Loans.
 *
 * A loan avoids the copy of a large input: borrow memory that the workers have mapped, write the
 * input there and submit the loan. The task function reads it in place. For outputs see
 * `aiopool_output_loan` and `AIOPOOL_CALL_BORROW_OUTPUT`.
 *
 * Thread rule: as for pools; one thread at a time for one loan.
 * ------------------------------------------------------------------ */

/**
 * Memory for one input, borrowed from a pool.
 */
typedef struct aiopool_loan aiopool_loan;


/**
 * Borrows `len` bytes from the pool's memory for inputs; their initial content is undefined.
 *
 * `data_out` is valid until the loan is submitted, as `loan` of an `aiopool_call`, or given
 * back with `aiopool_loan_return`, also when the pool is freed meanwhile.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` if `len` is 0; `AIOPOOL_ERR_TOO_LARGE`;
 * `AIOPOOL_ERR_FULL` if other inputs take the memory now; `AIOPOOL_ERR_SYSTEM`.
 */
aiopool_status aiopool_pool_loan(aiopool_pool *pool,
                                 size_t len,
                                 void **data_out,
                                 struct aiopool_loan **loan_out)
    AIOPOOL_NONNULL((1, 3, 4)) AIOPOOL_CHECKED;

/**
 * Gives back a loan that will not be submitted. NULL is accepted and does nothing.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_HANDLE` if it was submitted or given back before;
 * `AIOPOOL_ERR_FORKED` in a forked child.
 */
aiopool_status aiopool_loan_return(struct aiopool_loan *loan);

/* ---------------------------------------------------------------------
 * Outcomes.
 *
 * The calls that receive lend an outcome until `aiopool_outcome_release`. Until then everything
 * that the accessors point to is valid, also when the pool is freed. No accessor fails; each
 * documents what it returns for NULL or a released outcome.
 *
 * Thread rule: any thread, one at a time for one outcome.
 * ------------------------------------------------------------------ */

/**
 * How a task ended.
 */
enum aiopool_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * There is no outcome: the handle is NULL or was released.
     */
    AIOPOOL_OUTCOME_NONE = -1,
    /**
     * The task function returned 0.
     */
    AIOPOOL_OUTCOME_OK = 0,
    /**
     * The task function returned an error, or the task could not be run; see
     * `aiopool_outcome_error`.
     */
    AIOPOOL_OUTCOME_ERR = 1,
    /**
     * User code in Rust panicked.
     */
    AIOPOOL_OUTCOME_PANICKED = 2,
    /**
     * The task was cancelled.
     */
    AIOPOOL_OUTCOME_CANCELLED = 3,
    /**
     * The task did not end, or did not start, in the time it was given.
     */
    AIOPOOL_OUTCOME_TIMED_OUT = 4,
    /**
     * The worker that ran the task died.
     */
    AIOPOOL_OUTCOME_WORKER_LOST = 5,
    /**
     * The pool ended before the task did.
     */
    AIOPOOL_OUTCOME_POOL_CLOSED = 6,
    /**
     * Another task held the worker until its own run limit, and the worker was killed for
     * that.
     */
    AIOPOOL_OUTCOME_NEIGHBOUR_BLOCKED = 7,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum aiopool_kind aiopool_kind;
#else
typedef int32_t aiopool_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a task ended with.
 */
typedef struct aiopool_outcome aiopool_outcome;

/**
 * Called with the outcome of a call that named it, and with the call's `user_data`, by the thread
 * that receives: inside of `aiopool_pool_try_wait`, `aiopool_pool_wait`, `aiopool_pool_wait_many`
 * or `aiopool_pool_wait_idle`. It releases the outcome, then or later, and may use the pool.
 */
typedef void (*aiopool_complete_fn)(struct aiopool_outcome *outcome, uint64_t user_data);


/**
 * Returns how the task ended: `AIOPOOL_OUTCOME_*`; `AIOPOOL_OUTCOME_NONE` for no outcome.
 */
aiopool_kind aiopool_outcome_kind(const struct aiopool_outcome *outcome);

/**
 * Deprecated: the name of `aiopool_outcome_kind` when four things were called a status.
 */
aiopool_kind aiopool_outcome_status(const struct aiopool_outcome *outcome);

/**
 * Returns the number that a C task function returned; 0 if it succeeded, or if there is none.
 */
int32_t aiopool_outcome_code(const struct aiopool_outcome *outcome);

/**
 * Returns the kind of error behind `AIOPOOL_OUTCOME_ERR`: `AIOPOOL_ERR_TASK` if the task
 * function returned it, `AIOPOOL_ERR_UNKNOWN` if the worker has no such function,
 * `AIOPOOL_ERR_OUTPUT_SPACE`, `AIOPOOL_ERR_CORRUPT` or `AIOPOOL_ERR_INVALID` (a value that
 * cannot be encoded or decoded); else `AIOPOOL_OK`, and `AIOPOOL_ERR_HANDLE` for no outcome.
 */
aiopool_status aiopool_outcome_error(const struct aiopool_outcome *outcome)
    AIOPOOL_CHECKED;

/**
 * Returns the payload: `aiopool_outcome_len` bytes at a multiple of 16; never NULL for an
 * outcome that is `OK`.
 */
const void *aiopool_outcome_data(const struct aiopool_outcome *outcome);

/**
 * Returns the length of the payload in bytes; 0 for an outcome that is not `OK`.
 */
size_t aiopool_outcome_len(const struct aiopool_outcome *outcome);

/**
 * Returns the text of the error, earlier attempts included; empty for an outcome that is `OK`;
 * never NULL.
 */
const char *aiopool_outcome_text(const struct aiopool_outcome *outcome);

/**
 * Returns the ticket of the task; 0 for no outcome.
 */
uint64_t aiopool_outcome_ticket(const struct aiopool_outcome *outcome);

/**
 * Returns the `user_data` of the call; 0 for no outcome.
 */
uint64_t aiopool_outcome_user_data(const struct aiopool_outcome *outcome);

/**
 * Returns the number of attempts made; 0 for no outcome.
 */
uint32_t aiopool_outcome_attempts(const struct aiopool_outcome *outcome);

/**
 * Returns whether another task is what ended this one: it held their worker, or was running
 * when that died. False for no outcome.
 */
bool aiopool_outcome_is_bystander(const struct aiopool_outcome *outcome);

/**
 * Returns the nanoseconds from the submission to the start of the last attempt; 0 if that
 * attempt did not end.
 */
uint64_t aiopool_outcome_waited_ns(const struct aiopool_outcome *outcome);

/**
 * Returns the nanoseconds that the last attempt ran; 0 if it did not end.
 */
uint64_t aiopool_outcome_ran_ns(const struct aiopool_outcome *outcome);

/**
 * Releases an outcome; what its accessors pointed to is invalid after this. NULL is accepted
 * and does nothing.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_HANDLE` if it was released before; `AIOPOOL_ERR_FORKED`
 * in a forked child, whose copy ends with the child.
 */
aiopool_status aiopool_outcome_release(struct aiopool_outcome *outcome);

/* ---------------------------------------------------------------------
 * Calls.
 *
 * What is to be run: one call of a task function, as `aiopool_pool_submit` and
 * `aiopool_process_start` take it.
 *
 * Thread rule: callable from everywhere, at any time.
 * ------------------------------------------------------------------ */

/**
 * The outcome is kept for `aiopool_pool_wait_ticket`, never given to try_wait or wait.
 */
#define AIOPOOL_CALL_BY_TICKET 1

/**
 * Retries also apply to an error that the function returns, not only to its worker's death.
 */
#define AIOPOOL_CALL_RETRY_ON_ERROR 2

/**
 * A large payload is not copied: the outcome's data points to where the worker wrote it, and that
 * memory stays taken until the outcome's release. At most half of a worker's `output_arena` is
 * lent in this way; payloads beyond that are copied, so release early.
 */
#define AIOPOOL_CALL_BORROW_OUTPUT 4

/**
 * The task goes to the queue numbered `queue`, whatever the pool's scheduler would choose.
 */
#define AIOPOOL_CALL_ON_QUEUE 8

/**
 * Retries also apply to a run limit that the task itself used up.
 */
#define AIOPOOL_CALL_RETRY_ON_TIMEOUT 16

/**
 * Each pause before a further attempt is shortened by chance, down to half of it: tasks that
 * failed together do not come back together.
 */
#define AIOPOOL_CALL_JITTER 32

/**
 * The task runs with no other beside it in its worker, so that its crash costs no other. It waits
 * until a worker has nothing else, and other tasks wait for it.
 */
#define AIOPOOL_CALL_ALONE 64

/**
 * A part of an input; laid out as the system's `struct iovec`.
 */
typedef struct aiopool_part {
    /**
     * The part's bytes; may be NULL if `len` is 0.
     */
    const void *data;
    /**
     * Number of bytes.
     */
    size_t len;
} aiopool_part;

/**
 * How an attempt of a task ended, for the function that decides whether another follows.
 */
typedef struct aiopool_attempt {
    /**
     * `sizeof(aiopool_attempt)` of the library.
     */
    uint32_t struct_size;
    /**
     * The number of the attempt, from 1.
     */
    uint32_t number;
    /**
     * How it ended: `AIOPOOL_OUTCOME_ERR`, `_PANICKED`, `_TIMED_OUT` of a task that was running,
     * `_WORKER_LOST` or `_NEIGHBOUR_BLOCKED`.
     */
    aiopool_kind kind;
    /**
     * The number that a C task function returned; else 0.
     */
    int32_t code;
    /**
     * 1 if another task is what ended it, else 0; see `aiopool_outcome_is_bystander`.
     */
    uint32_t bystander;
    /**
     * 0.
     */
    uint32_t reserved_0;
    /**
     * The text of the error, never NULL; valid during the call.
     */
    const char *text;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_attempt;

/**
 * Decides whether another attempt follows `attempt`, which is valid during the call; `user_data`
 * is the call's.
 *
 * It is called from any thread of the host, the library's own among them, several at once, and
 * while other outcomes wait: it must be quick, must not block and must not call this library.
 */
typedef bool (*aiopool_retry_fn)(const struct aiopool_attempt *attempt, uint64_t user_data);

/**
 * What to run: one call of a task function.
 *
 * Everything but `struct_size` and `function` (or `name`) may be 0: begin with
 * `AIOPOOL_CALL_INIT` or `aiopool_call_init`.
 */
typedef struct aiopool_call {
    /**
     * `sizeof(aiopool_call)`.
     */
    uint32_t struct_size;
    /**
     * `AIOPOOL_CALL_*`, or 0.
     */
    uint32_t flags;
    /**
     * The number of the function; 0 to find it by `name`.
     */
    uint32_t function;
    /**
     * The priority class, 0 the most urgent, below the pool's `priorities`.
     */
    uint32_t priority;
    /**
     * The name of the function, where `function` is 0.
     */
    const char *name;
    /**
     * The input, which is copied; may be NULL if `input_len` is 0.
     */
    const void *input;
    /**
     * Bytes of input.
     */
    size_t input_len;
    /**
     * Passed through to the outcome.
     */
    uint64_t user_data;
    /**
     * Milliseconds that an attempt may run; `AIOPOOL_NO_LIMIT`, 0, for as long as it takes.
     */
    uint64_t run_limit_ms;
    /**
     * Milliseconds that the task may wait for a worker; `AIOPOOL_NO_LIMIT`, 0, for as long as it
     * takes.
     */
    uint64_t wait_limit_ms;
    /**
     * Milliseconds to wait before the second attempt, doubled for each one after.
     */
    uint64_t backoff_ms;
    /**
     * Number of further attempts that the task gets when its worker dies.
     */
    uint32_t retries;
    /**
     * With `AIOPOOL_CALL_ON_QUEUE` the queue, 0 to the pool's `queues - 1`; else 0.
     */
    uint32_t queue;
    /**
     * Instead of `input`: a loan of this pool, of which the first `input_len` bytes are the input
     * (0 for all). The loan ends when the task is submitted; if the task is refused it stays the
     * caller's.
     */
    aiopool_loan *loan;
    /**
     * Called with the outcome by the thread that receives, instead of giving it to that thread;
     * NULL, the default, for no function. See `aiopool_complete_fn`.
     */
    aiopool_complete_fn on_complete;
    /**
     * Instead of `input`: parts that are copied one behind the other, at most 1024.
     */
    const struct aiopool_part *parts;
    /**
     * Number of parts.
     */
    size_t parts_len;
    /**
     * Decides whether an attempt that ended without a value is made again, as long as there are
     * `retries`: in place of `AIOPOOL_CALL_RETRY_ON_ERROR` and `AIOPOOL_CALL_RETRY_ON_TIMEOUT`,
     * and for the death of a worker, too. NULL, the default, for no function. See
     * `aiopool_retry_fn`.
     */
    aiopool_retry_fn retry_if;
    /**
     * Most milliseconds that `backoff_ms` is doubled to; 0, the default, for a minute. A first
     * pause that is longer stays what it is.
     */
    uint64_t longest_backoff_ms;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_call;


/**
 * Sets all fields of a call to their defaults.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
 */
aiopool_status aiopool_call_init(struct aiopool_call *call_out)
    AIOPOOL_NONNULL((1));

/**
 * A call with all fields at their defaults: `aiopool_call call = AIOPOOL_CALL_INIT;`
 */
#define AIOPOOL_CALL_INIT                                                                     \
    {sizeof(aiopool_call), 0, 0, 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0,      \
     NULL, 0, {0}}

/* ---------------------------------------------------------------------
 * Submitting.
 *
 * Thread rule: as for pools; several threads may submit at once.
 * ------------------------------------------------------------------ */

/**
 * Submits a task; waits at most `timeout_ms` for room if the pool is full.
 *
 * The input is copied. `ticket_out` may be NULL; a ticket is the number of a task in its
 * pool and is never used again.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT` if there was no room in time; `AIOPOOL_ERR_FULL`
 * at once if as many outcomes wait to be received as the pool holds tasks and no other thread
 * receives any, since waiting would not help; `AIOPOOL_ERR_CLOSED`; `AIOPOOL_ERR_FAILED`;
 * `AIOPOOL_ERR_INVALID`, `AIOPOOL_ERR_STRUCT`, `AIOPOOL_ERR_UNKNOWN` or
 * `AIOPOOL_ERR_TOO_LARGE` for the call;
 * `AIOPOOL_ERR_SYSTEM` if memory has run out.
 */
aiopool_status aiopool_pool_submit(aiopool_pool *pool,
                                   const aiopool_call *call,
                                   uint64_t timeout_ms,
                                   uint64_t *ticket_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Submits a task if there is room now.
 *
 * Returns as `aiopool_pool_submit`; `AIOPOOL_ERR_FULL` if there is no room.
 */
aiopool_status aiopool_pool_try_submit(aiopool_pool *pool,
                                       const aiopool_call *call,
                                       uint64_t *ticket_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Submits `count` tasks, in order; waits at most `timeout_ms` in all for room.
 *
 * `calls` is an array of structs of the size that the first one states. `tickets_out`, which
 * may be NULL, has room for `count` tickets.
 *
 * `submitted_out` is written unless an argument is NULL. It is the number of submitted tasks,
 * and so the index of the call that was refused.
 *
 * Returns `AIOPOOL_OK` if all were submitted, else the status of the first that was not, as
 * `aiopool_pool_submit`.
 */
aiopool_status aiopool_pool_submit_many(aiopool_pool *pool,
                                        const aiopool_call *calls,
                                        size_t count,
                                        uint64_t timeout_ms,
                                        uint64_t *tickets_out,
                                        size_t *submitted_out)
    AIOPOOL_NONNULL((1, 2, 6)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * A task on every worker.
 *
 * To warm a cache, to change a key, to collect a number. What every worker, replacements among
 * them, needs before its first task is the init function's.
 *
 * Thread rule: as for pools.
 * ------------------------------------------------------------------ */

/**
 * Runs a call once on every worker. Each runs it beside the tasks that it has, as soon as it
 * comes round to it, and one that is being replaced has its successor do so. A worker that
 * starts later does not run it.
 *
 * There are `count_out` outcomes, one for each seat of the pool: that of the worker on seat
 * `n` (`aiopool_worker_id`) has the ticket `ticket_out + n` and the call's `user_data`. They
 * go where those of submitted calls go, by the call's flags and `on_complete`. `ticket_out`
 * may be NULL. A worker that dies of it is its own task's `AIOPOOL_OUTCOME_WORKER_LOST`, and
 * no task is tried again. `aiopool_pool_cancel` knows a task once a worker has it.
 *
 * The input is copied, from `input` or `parts`; of the options `run_limit_ms` counts. It does
 * not wait: where a queue is full, the tasks do.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_FULL` if as many outcomes wait to be received as the pool
 * holds tasks; `AIOPOOL_ERR_CLOSED`; `AIOPOOL_ERR_FAILED`; `AIOPOOL_ERR_INVALID`, also for
 * what such a call has no use for (retries, a queue, a priority, a loan), and
 * `AIOPOOL_ERR_STRUCT`, `AIOPOOL_ERR_UNKNOWN` or `AIOPOOL_ERR_TOO_LARGE`.
 */
aiopool_status aiopool_pool_broadcast(aiopool_pool *pool,
                                      const aiopool_call *call,
                                      uint64_t *ticket_out,
                                      uint32_t *count_out)
    AIOPOOL_NONNULL((1, 2, 4)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Receiving.
 *
 * Outcomes are received in the order in which they arrive. Those asked for by ticket are kept for
 * `aiopool_pool_wait_ticket`; the others go to the next call of try_wait or wait.
 *
 * Thread rule: as for pools; several threads may wait at once, each outcome goes to one.
 * ------------------------------------------------------------------ */

/**
 * Lends an outcome if there is one.
 *
 * The caller releases it with `aiopool_outcome_release`. Outcomes of calls with `on_complete`
 * are handed to their functions first.
 *
 * Returns `AIOPOOL_OK`, or `AIOPOOL_ERR_EMPTY` if there is none now; then the pool's
 * descriptor is not readable until there is one.
 */
aiopool_status aiopool_pool_try_wait(aiopool_pool *pool, aiopool_outcome **outcome_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Deprecated: the name of `aiopool_pool_try_wait` before it was said that it takes.
 */
aiopool_status aiopool_pool_peek(aiopool_pool *pool, aiopool_outcome **outcome_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Waits at most `timeout_ms` for an outcome and lends it.
 *
 * The caller releases it with `aiopool_outcome_release`.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_CLOSED` if the pool is closed
 * and every outcome was received.
 */
aiopool_status aiopool_pool_wait(aiopool_pool *pool,
                                 uint64_t timeout_ms,
                                 aiopool_outcome **outcome_out)
    AIOPOOL_NONNULL((1, 3)) AIOPOOL_CHECKED;

/**
 * Waits at most `timeout_ms` for the first outcome and lends it together with up to `max - 1`
 * others that have arrived by then.
 *
 * `outcomes_out` has room for `max` handles; each is released by the caller.
 *
 * Returns as `aiopool_pool_wait`; `AIOPOOL_ERR_INVALID` if `max` is 0.
 */
aiopool_status aiopool_pool_wait_many(aiopool_pool *pool,
                                      aiopool_outcome **outcomes_out,
                                      size_t max,
                                      uint64_t timeout_ms,
                                      size_t *count_out)
    AIOPOOL_NONNULL((1, 2, 5)) AIOPOOL_CHECKED;

/**
 * Waits at most `timeout_ms` for the outcome of one task and lends it.
 *
 * From this call on the outcome is kept for its ticket, also if the call times out. Those of
 * tasks submitted with `AIOPOOL_CALL_BY_TICKET` are kept from the submission on, so no other
 * thread's wait can take them before.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_UNKNOWN` if there is no such
 * task or its outcome was received before.
 */
aiopool_status aiopool_pool_wait_ticket(aiopool_pool *pool,
                                        uint64_t ticket,
                                        uint64_t timeout_ms,
                                        aiopool_outcome **outcome_out)
    AIOPOOL_NONNULL((1, 4)) AIOPOOL_CHECKED;

/**
 * Cancels a task. A queued one ends at once; a running asynchronous one has its cancel
 * function called.
 *
 * Its outcome arrives at once, as `AIOPOOL_OUTCOME_CANCELLED` unless the task was over before.
 * A cancel never kills: a function that continues keeps its worker busy until it returns. For
 * a task that must not run on, set `run_limit_ms`, which does kill, or call
 * `aiopool_pool_cancel_within`.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_UNKNOWN` if there is no such task or it is over.
 */
aiopool_status aiopool_pool_cancel(aiopool_pool *pool, uint64_t ticket)
    AIOPOOL_NONNULL((1));

/**
 * Cancels a task as `aiopool_pool_cancel` does, and has its worker killed if it has not
 * dropped the task within `grace_ms`: for a function that computes and does not ask
 * `aiopool_task_is_cancelled`.
 *
 * What else runs in that worker is lost with it, or runs again where its call has `retries`.
 *
 * Returns as `aiopool_pool_cancel`.
 */
aiopool_status aiopool_pool_cancel_within(aiopool_pool *pool, uint64_t ticket, uint64_t grace_ms)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Writes how far a running task says it is (`aiopool_task_progress`) to `progress_out`.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_UNKNOWN` if there is no such task, it is over, or it has
 * said nothing in its current attempt.
 */
aiopool_status aiopool_pool_progress(aiopool_pool *pool, uint64_t ticket, uint64_t *progress_out)
    AIOPOOL_NONNULL((1, 3)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Processes.
 *
 * One task function in a process of its own, which ends with it: like a pool of one worker and one
 * task. What holds for workers holds here: how they start, what they are forbidden, and that none
 * is left behind.
 *
 * Thread rule: as for pools. In a forked child every call returns `AIOPOOL_ERR_FORKED`, in a task
 * function `AIOPOOL_ERR_IN_WORKER`; a freed handle is `AIOPOOL_ERR_HANDLE`.
 * ------------------------------------------------------------------ */

/**
 * A task function in a process of its own.
 */
typedef struct aiopool_process aiopool_process;


/**
 * Starts a process that runs `call` and ends.
 *
 * `call` is as for `aiopool_pool_submit`; it has no retries, since no other worker could run
 * it again. `options` are those of a pool, or NULL for the defaults; `processes`, `queues`,
 * `child_concurrency`, `max_tasks_per_child` and `capacity` are ignored. `name` is for logs,
 * and copied; NULL for "Process-" and a number. The caller owns `process_out` and frees it
 * with `aiopool_process_free`.
 *
 * Returns `AIOPOOL_OK`; else as `aiopool_pool_start` and `aiopool_pool_submit`, and nothing
 * is left of the process.
 */
aiopool_status aiopool_process_start(const aiopool_call *call,
                                     const aiopool_pool_options *options,
                                     const char *name,
                                     struct aiopool_process **process_out)
    AIOPOOL_NONNULL((1, 4)) AIOPOOL_CHECKED;

/**
 * Waits at most `timeout_ms` for the outcome of the function, and lends it.
 *
 * A process that died has one, too: `AIOPOOL_OUTCOME_WORKER_LOST`. The caller releases it with
 * `aiopool_outcome_release`. The process itself may live a moment longer: join it.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_UNKNOWN` if the outcome was
 * received before.
 */
aiopool_status aiopool_process_wait(struct aiopool_process *process,
                                    uint64_t timeout_ms,
                                    aiopool_outcome **outcome_out)
    AIOPOOL_NONNULL((1, 3)) AIOPOOL_CHECKED;

/**
 * Writes the process's descriptor, which any event loop can watch for reading.
 *
 * It is readable when there may be an outcome, until `aiopool_process_wait` has found none;
 * that call does not block with a `timeout_ms` of 0. Do not read, write or close it; it is
 * valid until the process is freed.
 *
 * Returns `AIOPOOL_OK`.
 */
aiopool_status aiopool_process_fd(struct aiopool_process *process, int32_t *fd_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Waits until the process is gone, at most `timeout_ms`.
 *
 * A function that failed, or a process that was killed, is no error here: see
 * `aiopool_process_exit_code`. The outcome can be received before and after.
 *
 * Returns `AIOPOOL_OK`, also the second time; `AIOPOOL_ERR_TIMEOUT`; `AIOPOOL_ERR_FAILED` if
 * its init function failed.
 */
aiopool_status aiopool_process_join(struct aiopool_process *process, uint64_t timeout_ms)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Writes whether the process is alive.
 *
 * Returns `AIOPOOL_OK`.
 */
aiopool_status aiopool_process_is_alive(struct aiopool_process *process, bool *alive_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Writes its process id, which another process may have once this one has ended.
 *
 * Returns `AIOPOOL_OK`.
 */
aiopool_status aiopool_process_pid(struct aiopool_process *process, uint32_t *pid_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Writes its exit code: 0 if the function succeeded, 1 if it failed, minus the signal's number
 * if one killed it, else the number that the process itself passed to `exit`.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_EMPTY` while it is alive; `AIOPOOL_ERR_UNKNOWN` if the
 * exit code is not known, or the process never ran anything.
 */
aiopool_status aiopool_process_exit_code(struct aiopool_process *process, int32_t *code_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Sends the process `SIGTERM`, which ends it unless its code handles that.
 *
 * Returns `AIOPOOL_OK`, also if it has ended; `AIOPOOL_ERR_SYSTEM`.
 */
aiopool_status aiopool_process_terminate(struct aiopool_process *process)
    AIOPOOL_NONNULL((1));

/**
 * Sends the process `SIGKILL`.
 *
 * Returns `AIOPOOL_OK`, also if it has ended; `AIOPOOL_ERR_SYSTEM`.
 */
aiopool_status aiopool_process_kill(struct aiopool_process *process)
    AIOPOOL_NONNULL((1));

/**
 * Returns its name, valid until it is freed; empty for no process; never NULL.
 */
const char *aiopool_process_name(struct aiopool_process *process);

/**
 * Frees a process: ends it if it has not ended, kills it after the `grace_ms` of its options,
 * and waits for its end.
 *
 * It refuses nothing. An outcome that the caller holds stays valid until it is released, and
 * calls of other threads with this process return as for one that has ended. NULL is accepted
 * and does nothing.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_TIMEOUT` when it lives 10 seconds after it was killed
 * (the handle is freed all the same); `AIOPOOL_ERR_HANDLE` for one that was freed.
 */
aiopool_status aiopool_process_free(struct aiopool_process *process);

/* ---------------------------------------------------------------------
 * Workers in other programs.
 *
 * The program named by a pool's `command` becomes a worker of that pool with
 * `aiopool_worker_attach`. It then runs its own event loop: it watches `aiopool_worker_fd`, and
 * when that is readable it takes events with `aiopool_worker_next` until there is none.
 * `aiopool_worker_serve` is the ready-made loop for task functions in C.
 *
 * Thread rule: any thread, one at a time; in a child of the worker `AIOPOOL_ERR_FORKED`.
 * ------------------------------------------------------------------ */

/**
 * There is nothing to do: wait until the descriptor is readable.
 */
#define AIOPOOL_WORKER_NOTHING 0

/**
 * Run a task, and answer it with `aiopool_worker_complete`.
 */
#define AIOPOOL_WORKER_RUN 1

/**
 * Stop a task, whose caller already has its outcome; complete it as `AIOPOOL_END_CANCELLED`.
 */
#define AIOPOOL_WORKER_CANCEL 2

/**
 * Drop what still runs, call `aiopool_worker_leave` and end the program.
 */
#define AIOPOOL_WORKER_LEAVE 3

/**
 * The task was successful; the data is its payload.
 */
#define AIOPOOL_END_OK 0

/**
 * The task ended with an error; the data is its text.
 */
#define AIOPOOL_END_FAILED 1

/**
 * The worker has no such function or cannot read the input; the data is a text that names the
 * cause.
 */
#define AIOPOOL_END_REFUSED 2

/**
 * The task's value cannot be encoded; the data is a text that says why.
 */
#define AIOPOOL_END_UNENCODABLE 3

/**
 * The task was stopped because it was cancelled; the data is ignored.
 */
#define AIOPOOL_END_CANCELLED 4

/**
 * This process as a worker.
 */
typedef struct aiopool_worker aiopool_worker;

/**
 * What a worker needs to know about its pool.
 */
typedef struct aiopool_worker_info {
    /**
     * The worker's seat in its pool, from 0 to `processes - 1`.
     */
    uint32_t seat;
    /**
     * Most tasks that the worker is given at once.
     */
    uint32_t child_concurrency;
    /**
     * The `init_input` of the pool's options; valid until the worker leaves.
     */
    const void *init_input;
    /**
     * Length of `init_input` in bytes.
     */
    size_t init_input_len;
    /**
     * 0.
     */
    uint64_t reserved[4];
} aiopool_worker_info;

/**
 * The next thing for a worker to do.
 */
typedef struct aiopool_worker_event {
    /**
     * `AIOPOOL_WORKER_*`.
     */
    uint32_t kind;
    /**
     * 0.
     */
    uint32_t reserved_0;
    /**
     * The number of the task to run or to stop.
     */
    uint64_t task;
    /**
     * The name of the function to run, else NULL; valid until the next event is taken.
     */
    const char *function;
    /**
     * The input of the function; valid until the next event is taken.
     */
    const void *input;
    /**
     * Bytes of input.
     */
    size_t input_len;
    /**
     * 0.
     */
    uint64_t reserved[2];
} aiopool_worker_event;


/**
 * Attaches this process, which a pool executed, as a worker of that pool.
 *
 * Call it once, before the program starts threads that read its environment. The pool must
 * have executed this program itself, not another one that waits for it: a shell script ends
 * with `exec`.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if the process was not started as a worker or
 * has attached before; `AIOPOOL_ERR_SYSTEM` if the pool's library is another version.
 */
aiopool_status aiopool_worker_attach(struct aiopool_worker **worker_out)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/**
 * Writes what this worker needs to know about its pool.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_worker_describe(struct aiopool_worker *worker,
                                       struct aiopool_worker_info *info_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Writes the worker's descriptor, which any event loop can watch for reading.
 *
 * It is level-triggered: readable when there may be an event, until `aiopool_worker_next`
 * gives `AIOPOOL_WORKER_NOTHING`. Do not read, write or close it.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_worker_fd(struct aiopool_worker *worker, int32_t *fd_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Writes what to do next; never waits.
 *
 * The first call reports to the pool that the worker is ready, so initialise before it. Call
 * it until the event is `AIOPOOL_WORKER_NOTHING`. Begin a task before the next call: a task
 * that was taken and waits here cannot be run by another worker that is idle.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_worker_next(struct aiopool_worker *worker,
                                   struct aiopool_worker_event *event_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Borrows `len` bytes of the memory that the host reads outputs from, for the output of
 * `task`, which saves a copy. Their initial content is undefined.
 *
 * `data_out` is valid until the task is completed. Complete it as `AIOPOOL_END_OK` with
 * `data_out` as the data and up to `len` bytes; in any other way, the memory goes back.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` if `len` is 0; `AIOPOOL_ERR_MISUSE` if there is
 * no such task or it has borrowed already; `AIOPOOL_ERR_FULL` if other outputs take the memory
 * now; `AIOPOOL_ERR_TOO_LARGE`; `AIOPOOL_ERR_SYSTEM`; `AIOPOOL_ERR_NULL`;
 * `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_worker_loan(struct aiopool_worker *worker,
                                   uint64_t task,
                                   size_t len,
                                   void **data_out)
    AIOPOOL_NONNULL((1, 4)) AIOPOOL_CHECKED;

/**
 * Completes a task: `how` is `AIOPOOL_END_*`. The data is copied unless it is in memory that
 * `aiopool_worker_loan` lent for it.
 *
 * If the task was cancelled meanwhile, this confirms the cancellation, whatever `how` is.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if there is no such task or it is over;
 * `AIOPOOL_ERR_INVALID` for another `how`, or a text that is not UTF-8; `AIOPOOL_ERR_NULL`;
 * `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_worker_complete(struct aiopool_worker *worker,
                                       uint64_t task,
                                       uint32_t how,
                                       const void *data,
                                       size_t len)
    AIOPOOL_NONNULL((1));

/**
 * Reports to the pool why this worker cannot start; end the program after this.
 *
 * If no worker of the pool can start, the pool fails with the last such reason. The handle is
 * invalid after this.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` (not UTF-8) or
 * `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_worker_fail(struct aiopool_worker *worker, const char *reason)
    AIOPOOL_NONNULL((1, 2));

/**
 * Leaves the pool in an orderly way; end the program with status 0 soon after this.
 *
 * The handle is invalid after this.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_HANDLE`.
 */
aiopool_status aiopool_worker_leave(struct aiopool_worker *worker)
    AIOPOOL_NONNULL((1));

/**
 * Serves this process's registered task functions by name, and ends the process when the pool
 * does.
 *
 * Use it instead of `aiopool_worker_attach` and a loop; the same conditions hold.
 *
 * Returns only if it cannot attach, with the status of `aiopool_worker_attach`.
 */
aiopool_status aiopool_worker_serve(void)
    AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Counts.
 *
 * Thread rule: as for pools.
 * ------------------------------------------------------------------ */

/**
 * What a pool has counted since its start.
 */
typedef struct aiopool_stats {
    /**
     * `sizeof(aiopool_stats)`; set by the caller.
     */
    uint32_t struct_size;
    /**
     * 0.
     */
    uint32_t reserved_0;
    /**
     * Tasks submitted.
     */
    uint64_t submitted;
    /**
     * Tasks without an outcome now.
     */
    uint64_t pending;
    /**
     * Outcomes: values.
     */
    uint64_t ok;
    /**
     * Outcomes: errors that task functions returned.
     */
    uint64_t failed;
    /**
     * Outcomes: panics.
     */
    uint64_t panicked;
    /**
     * Outcomes: tasks that were cancelled.
     */
    uint64_t cancelled;
    /**
     * Outcomes: tasks that missed a deadline.
     */
    uint64_t timed_out;
    /**
     * Outcomes: tasks whose worker died.
     */
    uint64_t worker_lost;
    /**
     * Outcomes: tasks that were unfinished when the pool ended.
     */
    uint64_t pool_closed;
    /**
     * Outcomes: everything else.
     */
    uint64_t other;
    /**
     * Attempts after the first.
     */
    uint64_t retries;
    /**
     * Tasks queued again before any worker had started them.
     */
    uint64_t requeued;
    /**
     * Workers that died unplanned.
     */
    uint64_t deaths;
    /**
     * Workers replaced after `max_tasks_per_child`.
     */
    uint64_t recycles;
    /**
     * Workers alive now.
     */
    uint64_t workers;
    /**
     * Processor time of the workers in nanoseconds, user and system.
     */
    uint64_t cpu_ns;
    /**
     * Bytes of the inputs' memory in use.
     */
    uint64_t input_bytes;
    /**
     * Tasks that could be submitted now without waiting.
     */
    uint64_t free_records;
    /**
     * Pending tasks that no worker has claimed, approximately.
     */
    uint64_t queued;
    /**
     * Pending tasks that a worker has claimed.
     */
    uint64_t running;
    /**
     * Workers that the pool killed because a task did not obey its deadline.
     */
    uint64_t killed_for_deadline;
    /**
     * Workers that the pool killed because they had damaged shared memory.
     */
    uint64_t killed_for_damage;
    /**
     * Times that shared memory held what no correct worker writes, and workers were replaced.
     */
    uint64_t damages;
    /**
     * Processor time of this process in nanoseconds, user and system, all its threads together.
     */
    uint64_t host_cpu_ns;
} aiopool_stats;

/**
 * Waiting and running times of one function's finished tasks.
 */
typedef struct aiopool_function_stats {
    /**
     * `sizeof(aiopool_function_stats)`; set by the caller.
     */
    uint32_t struct_size;
    /**
     * 0.
     */
    uint32_t reserved_0;
    /**
     * Tasks that have ended.
     */
    uint64_t count;
    /**
     * Mean nanoseconds from the submission to the start of the last attempt.
     */
    uint64_t waited_mean_ns;
    /**
     * Median of the same, in nanoseconds; the upper end of a bucket, so at most a quarter
     * more than the exact value.
     */
    uint64_t waited_p50_ns;
    /**
     * 99th percentile of the same, with the same accuracy.
     */
    uint64_t waited_p99_ns;
    /**
     * Mean nanoseconds that the last attempt ran.
     */
    uint64_t ran_mean_ns;
    /**
     * Median of the same, in nanoseconds.
     */
    uint64_t ran_p50_ns;
    /**
     * 99th percentile of the same, in nanoseconds.
     */
    uint64_t ran_p99_ns;
    /**
     * 90th percentile of the time from the submission to the start of the last attempt.
     */
    uint64_t waited_p90_ns;
    /**
     * The longest such time, exactly.
     */
    uint64_t waited_max_ns;
    /**
     * 90th percentile of the time that the last attempt ran.
     */
    uint64_t ran_p90_ns;
    /**
     * The longest such time, exactly.
     */
    uint64_t ran_max_ns;
    /**
     * Outcomes: values.
     */
    uint64_t ok;
    /**
     * Outcomes: errors that the function returned.
     */
    uint64_t failed;
    /**
     * Outcomes: panics.
     */
    uint64_t panicked;
    /**
     * Outcomes: tasks that were cancelled.
     */
    uint64_t cancelled;
    /**
     * Outcomes: tasks that missed a deadline.
     */
    uint64_t timed_out;
    /**
     * Outcomes: tasks whose worker died.
     */
    uint64_t worker_lost;
    /**
     * Outcomes: tasks that were unfinished when the pool ended.
     */
    uint64_t pool_closed;
    /**
     * Outcomes: everything else.
     */
    uint64_t other;
} aiopool_function_stats;


/**
 * Gives what the pool has counted; `stats_out->struct_size` is set by the caller.
 *
 * Fields that this version of the library does not know are left alone.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL` or `AIOPOOL_ERR_STRUCT`.
 */
aiopool_status aiopool_pool_stats(aiopool_pool *pool, struct aiopool_stats *stats_out)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Gives how long the tasks of the function `name` took; `stats_out->struct_size` is set by
 * the caller.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_STRUCT`; `AIOPOOL_ERR_UNKNOWN` if
 * no task of a function of that name has ended in this pool.
 */
aiopool_status aiopool_pool_function_stats(aiopool_pool *pool,
                                           const char *name,
                                           struct aiopool_function_stats *stats_out)
    AIOPOOL_NONNULL((1, 2, 3)) AIOPOOL_CHECKED;

/**
 * Gives the process ids of the workers that are alive: up to `max` of them to `pids_out`,
 * which may be NULL if `max` is 0, and how many there are to `count_out`.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
 */
aiopool_status aiopool_pool_workers(aiopool_pool *pool,
                                    uint32_t *pids_out,
                                    size_t max,
                                    size_t *count_out)
    AIOPOOL_NONNULL((1, 4)) AIOPOOL_CHECKED;

/**
 * Gives the pool as it is now, as a line of JSON: an object with `pool`, `workers`, `queues`,
 * `functions` and `events`, as `aiopool top --json` has them.
 *
 * Up to `size` bytes are written to `json_out`, which may be NULL if `size` is 0, and how many
 * there are to `length_out`. A zero follows them if there is room. The text grows and shrinks
 * from call to call: one that was cut is asked for again with more room than it had.
 *
 * Returns `AIOPOOL_OK` or `AIOPOOL_ERR_NULL`.
 */
aiopool_status aiopool_pool_snapshot(aiopool_pool *pool,
                                     char *json_out,
                                     size_t size,
                                     size_t *length_out)
    AIOPOOL_NONNULL((1, 4)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Timelines.
 *
 * Thread rule: as for pools.
 * ------------------------------------------------------------------ */

/**
 * Records what the workers do from now on, for a file that ui.perfetto.dev and
 * Chrome's tracing page open: each poll of a task, its worker, how long the task was queued
 * before, and the pool's events. What a worker was doing that died is in it.
 *
 * The file is written by `aiopool_pool_trace_end`, or when the pool is freed; it is there when
 * it is whole. `every` is 1 for all tasks, and 100 for each hundredth, for long runs. The last
 * million entries are kept. `path` is UTF-8 and ends with a zero.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_INVALID` if `every` is 0; `AIOPOOL_ERR_MISUSE` if the
 * pool is recorded already; `AIOPOOL_ERR_SYSTEM` if the file cannot be made.
 */
aiopool_status aiopool_pool_trace(aiopool_pool *pool, const char *path, uint32_t every)
    AIOPOOL_NONNULL((1, 2)) AIOPOOL_CHECKED;

/**
 * Ends what `aiopool_pool_trace` began, and writes the file.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_MISUSE` if the pool is not recorded; `AIOPOOL_ERR_SYSTEM`
 * if the file cannot be written.
 */
aiopool_status aiopool_pool_trace_end(aiopool_pool *pool)
    AIOPOOL_NONNULL((1)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * What tasks have printed.
 *
 * For pools whose `surroundings` have `AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK`.
 *
 * Thread rule: as for pools.
 * ------------------------------------------------------------------ */

/**
 * Gives what the task with `ticket` has printed until now, all its attempts and all of it once
 * its outcome is there, in a pool with `AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK`. `stream` is 1
 * for its standard output and 2 for its standard error.
 *
 * Up to `size` bytes are written to `text_out`, which may be NULL if `size` is 0, and how many
 * there are to `length_out`. A zero follows them if there is room. The files stay.
 *
 * Returns `AIOPOOL_OK`, `AIOPOOL_ERR_NULL`, `AIOPOOL_ERR_INVALID` for another `stream`,
 * `AIOPOOL_ERR_MISUSE` without that flag, `AIOPOOL_ERR_SYSTEM`.
 */
aiopool_status aiopool_pool_printed(aiopool_pool *pool,
                                    uint64_t ticket,
                                    uint32_t stream,
                                    char *text_out,
                                    size_t size,
                                    size_t *length_out)
    AIOPOOL_NONNULL((1, 6)) AIOPOOL_CHECKED;

/* ---------------------------------------------------------------------
 * Workers and queues at one moment.
 *
 * Thread rule: as for pools. The numbers have the names that `aiopool_pool_snapshot` gives them.
 * ------------------------------------------------------------------ */

/**
 * A number that the system hides, or that there is none of now.
 */
#define AIOPOOL_UNKNOWN UINT64_MAX

/**
 * Its init function has not returned.
 */
#define AIOPOOL_STATE_STARTING 0

/**
 * Nothing to do; it sleeps until the host wakes it.
 */
#define AIOPOOL_STATE_IDLE 1

/**
 * Nothing in flight; it looks for a task.
 */
#define AIOPOOL_STATE_SEARCHING 2

/**
 * Between two polls of its tasks.
 */
#define AIOPOOL_STATE_BUSY 3

/**
 * It runs a task's code.
 */
#define AIOPOOL_STATE_POLLING 4

/**
 * It has done so for 100 ms or longer, and its other tasks wait.
 */
#define AIOPOOL_STATE_BLOCKED 5

/**
 * It sleeps; its tasks wait for something.
 */
#define AIOPOOL_STATE_WAITING 6

/**
 * It takes no more tasks and finishes what it has.
 */
#define AIOPOOL_STATE_RETIRING 7

/**
 * It is about to leave, or its init function has failed.
 */
#define AIOPOOL_STATE_LEAVING 8

/**
 * A signal or a debugger has stopped it.
 */
#define AIOPOOL_STATE_STOPPED 9

/**
 * A worker process.
 */
typedef struct aiopool_worker_view {
    /**
     * Its seat in the pool; the process that replaces it has the same one.
     */
    uint32_t seat;
    /**
     * Its process id.
     */
    uint32_t pid;
    /**
     * The queue that it serves.
     */
    uint32_t queue;
    /**
     * What it is doing, `AIOPOOL_STATE_*`.
     */
    uint32_t state;
    /**
     * For how long at least it has run a task's code without a pause, in nanoseconds;
     * `AIOPOOL_UNKNOWN` if it does not.
     */
    uint64_t polling_ns;
    /**
     * Nanoseconds since it was ordered.
     */
    uint64_t age_ns;
    /**
     * Tasks that this process has finished.
     */
    uint64_t done;
    /**
     * Tasks that it has.
     */
    uint64_t in_flight;
    /**
     * Processor time of this process in nanoseconds, or `AIOPOOL_UNKNOWN`.
     */
    uint64_t cpu_ns;
    /**
     * Bytes of memory that it uses, shared pages included, or `AIOPOOL_UNKNOWN`.
     */
    uint64_t rss_bytes;
    /**
     * The same with each shared page divided among its users; measured now and then.
     */
    uint64_t pss_bytes;
    /**
     * Processes that had this seat before it.
     */
    uint64_t restarts;
} aiopool_worker_view;

/**
 * A queue.
 */
typedef struct aiopool_queue_view {
    /**
     * Its number.
     */
    uint32_t queue;
    /**
     * Workers alive that serve it.
     */
    uint32_t workers;
    /**
     * Tasks that no worker has taken, approximately, by priority class: the most urgent first.
     */
    uint64_t depth[4];
    /**
     * Tasks without an outcome.
     */
    uint64_t pending;
    /**
     * How long the task at the head of the queue has waited, in nanoseconds, or
     * `AIOPOOL_UNKNOWN`.
     */
    uint64_t oldest_ns;
    /**
     * Tasks that it has room for.
     */
    uint64_t records;
    /**
     * Records that are free.
     */
    uint64_t free_records;
    /**
     * Bytes of memory that its workers' outputs have taken from the system; of what is free
     * again up to 16 MiB a worker are among them.
     */
    uint64_t output_bytes;
} aiopool_queue_view;


/**
 * Gives what the workers are doing, by seat: up to `max` of them to `views_out`, an array of
 * structs of `view_size` bytes each, `sizeof(aiopool_worker_view)`; and how many there are to
 * `count_out`. `views_out` may be NULL if `max` is 0.
 *
 * Fields that this version of the library does not know are left alone.
 *
 * Returns `AIOPOOL_OK`; `AIOPOOL_ERR_NULL`; `AIOPOOL_ERR_STRUCT` for a size that no version
 * has.
 */
aiopool_status aiopool_pool_worker_views(aiopool_pool *pool,
                                         struct aiopool_worker_view *views_out,
                                         size_t view_size,
                                         size_t max,
                                         size_t *count_out)
    AIOPOOL_NONNULL((1, 2, 5)) AIOPOOL_CHECKED;

/**
 * Gives the queues as `aiopool_pool_worker_views` gives the workers, by number.
 *
 * Returns as `aiopool_pool_worker_views`.
 */
aiopool_status aiopool_pool_queue_views(aiopool_pool *pool,
                                        struct aiopool_queue_view *views_out,
                                        size_t view_size,
                                        size_t max,
                                        size_t *count_out)
    AIOPOOL_NONNULL((1, 2, 5)) AIOPOOL_CHECKED;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* AIOPOOL_H */
