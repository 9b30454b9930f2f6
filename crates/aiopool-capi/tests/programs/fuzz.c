/* Random calls with random arguments, in the host and in its workers: every answer is a status, no
 * task is lost or doubled, and under AddressSanitizer nothing is touched that should not be.
 * Usage: fuzz [seed] [seconds]. Prints how many calls were made, and the seed.
 */
#define AIOPOOL_NO_ATTRIBUTES /* It makes mistakes on purpose. */
#define _GNU_SOURCE
#include <aiopool.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POOLS = 2, OUTCOMES = 48, LOANS = 12, TICKETS = 1 << 20, DEAD = 16 };

static uint64_t seed, steps, tasks, state;

static uint64_t any(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state * 0x2545f4914f6cdd1dULL >> 16;
}

static uint64_t below(uint64_t limit) { return any() % limit; }
static int once_in(uint64_t times) { return below(times) == 0; }

#define CHECK(that)                                                                                \
    do {                                                                                           \
        if (!(that)) {                                                                             \
            fprintf(stderr, "seed %llu, step %llu, line %d: not %s: %s\n",                         \
                    (unsigned long long)seed, (unsigned long long)steps, __LINE__, #that,          \
                    aiopool_last_error());                                                         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Every call goes through this: a status is one of those that there are, and no bug. */
static aiopool_status is(aiopool_status status) {
    CHECK(status <= 0 && status >= AIOPOOL_ERR_TASK && status != AIOPOOL_ERR_PANIC);
    CHECK(status == AIOPOOL_OK || *aiopool_last_error() != 0);
    steps++;
    return status;
}

/* ---- In a worker: a task function whose input is the seed of what it does. ---- */

static void on_event(aiopool_task *task, uint32_t events, void *data);

static void act(aiopool_task *task, aiopool_output *output) {
    aiopool_pool *pool = NULL;
    void *place = NULL;
    size_t len = once_in(20) ? SIZE_MAX : below(once_in(8) ? 40000 : 200);
    uint32_t number;
    switch (below(14)) {
    case 0: is(aiopool_task_set_error(task, once_in(9) ? NULL : "an error")); break;
    case 1: is(aiopool_task_sleep(task, below(3), once_in(9) ? NULL : on_event, output)); break;
    case 2: is(aiopool_task_defer(task, once_in(9) ? NULL : on_event, output)); break;
    case 3:
        is(aiopool_task_watch_fd(task, (int)below(40) - 2, (uint32_t)below(5), on_event, output));
        break;
    case 4: is(aiopool_task_on_cancel(task, once_in(3) ? NULL : on_event, output)); break;
    case 5: is(aiopool_worker_id(once_in(5) ? NULL : &number)); break;
    case 6: CHECK(is(aiopool_pool_start(NULL, &pool)) == AIOPOOL_ERR_IN_WORKER); break;
    case 7: CHECK(is(aiopool_init()) == AIOPOOL_ERR_IN_WORKER); break;
    case 8: is(aiopool_output_trim(output, below(300))); break;
    case 9:
        if (is(aiopool_output_loan(output, len, &place)) == AIOPOOL_OK) memset(place, 1, len);
        break;
    case 10:
        if (is(aiopool_output_reserve(output, len, &place)) == AIOPOOL_OK) memset(place, 2, len);
        break;
    case 11: is(aiopool_task_complete(once_in(9) ? NULL : task, (int32_t)below(4) - 1)); break;
    default:
        place = calloc(1, 40000);
        if (place != NULL) is(aiopool_output_write(output, place, len == SIZE_MAX ? 0 : len));
        free(place);
    }
}

static void on_event(aiopool_task *task, uint32_t events, void *data) {
    (void)events;
    for (uint64_t i = below(3); i > 0; i--) act(task, data);
    if (!once_in(4)) is(aiopool_task_complete(task, 0));
}

static int32_t mad(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    uint64_t sum = 0;
    (void)user;
    for (size_t i = 0; i < len; i++) sum += ((const unsigned char *)input)[i];
    state = (sum + len + (uint64_t)getpid() * 77 + (uint64_t)clock()) | 1;
    for (uint64_t i = below(5); i > 0; i--) act(task, output);
    if (once_in(300)) raise(SIGKILL);
    if (once_in(300)) exit((int)below(3));
    return (int32_t)below(4) - 1;
}

static int32_t mild(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)user;
    if (is(aiopool_output_write(output, input, len)) != AIOPOOL_OK) {
        aiopool_task_set_error(task, aiopool_last_error());
        return -1;
    }
    return 0;
}

/* ---- The host. ---- */

static struct pool {
    aiopool_pool *handle;
    uint64_t live; /* Tasks without an outcome here. */
    int closed;
    unsigned char *out;
} pools[POOLS];

static struct held {
    aiopool_outcome *handle;
    int pool;
} outcomes[OUTCOMES];

static struct lent {
    aiopool_loan *handle;
    unsigned char *data;
    size_t len;
    int pool;
} loans[LOANS];

static aiopool_pool *dead_pools[DEAD];
static aiopool_loan *dead_loans[DEAD];
static uint32_t numbers[2];

/* A pool's handle, or now and then one that is none. */
static aiopool_pool *handle_of(int pool) {
    if (once_in(60)) return NULL;
    if (once_in(60)) {
        aiopool_pool *dead = dead_pools[below(DEAD)];
        /* A handle is used again after 64 others. */
        for (int i = 0; i < POOLS; i++) dead = dead == pools[i].handle ? NULL : dead;
        return dead;
    }
    return pools[pool].handle;
}

/* A copy of `size` bytes with nothing behind them. */
static void *exact(const void *from, size_t size) {
    void *copy = malloc(size);
    CHECK(copy != NULL);
    memcpy(copy, from, size);
    return copy;
}

static void has_come(int pool, aiopool_outcome *outcome) {
    uint64_t ticket = aiopool_outcome_ticket(outcome);
    CHECK(ticket < TICKETS && pools[pool].out[ticket] == 1);
    pools[pool].out[ticket] = 0;
    CHECK(pools[pool].live > 0);
    pools[pool].live--;
}

static void look_at(aiopool_outcome *outcome) {
    const unsigned char *data = aiopool_outcome_data(outcome);
    volatile unsigned char byte = 0;
    size_t len = aiopool_outcome_len(outcome);
    int32_t how = aiopool_outcome_kind(outcome);
    CHECK(how >= AIOPOOL_ERR_TASK && how <= AIOPOOL_OUTCOME_NEIGHBOUR_BLOCKED);
    for (size_t i = 0; i < len; i++) byte ^= data[i];
    CHECK((how == AIOPOOL_OUTCOME_OK) == (data != NULL));
    CHECK(strlen(aiopool_outcome_text(outcome)) < 100000);
    /* The task's status, which no call of this thread has failed with. */
    CHECK(aiopool_outcome_error(outcome) <= 0 && aiopool_outcome_error(outcome) >= AIOPOOL_ERR_TASK);
    steps++;
    (void)aiopool_outcome_code(outcome), (void)aiopool_outcome_attempts(outcome);
    (void)aiopool_outcome_waited_ns(outcome), (void)aiopool_outcome_ran_ns(outcome);
}

static void release(struct held *held) {
    CHECK(is(aiopool_outcome_release(held->handle)) == AIOPOOL_OK);
    held->handle = NULL;
}

/* Keeps an outcome for later, or releases it at once. */
static void take(int pool, aiopool_outcome *outcome) {
    struct held *held = &outcomes[below(OUTCOMES)];
    has_come(pool, outcome);
    look_at(outcome);
    if (held->handle != NULL) release(held);
    held->handle = outcome, held->pool = pool;
    if (once_in(3)) release(held);
}

/* Some attempts are made again, whatever they ended with. */
static bool by_its_number(const aiopool_attempt *attempt, uint64_t user_data) {
    CHECK(attempt->struct_size == sizeof *attempt && attempt->number > 0);
    CHECK(attempt->kind > AIOPOOL_OUTCOME_OK && attempt->text != NULL);
    return (attempt->number + user_data) % 3 != 0;
}

/* A call with what it points to in memory of its own; the caller frees both. */
static aiopool_call *some_call(int pool, void **input, struct lent **loan) {
    aiopool_call call;
    size_t len = once_in(5) ? below(60000) : below(100), size = sizeof call;
    aiopool_call *made;
    *loan = NULL;
    *input = malloc(len + 1);
    CHECK(*input != NULL && is(aiopool_call_init(&call)) == AIOPOOL_OK);
    memset(*input, (int)any(), len + 1);
    call.function = numbers[!once_in(3)];
    call.input = *input;
    call.input_len = len;
    call.run_limit_ms = 30 + below(50);
    call.user_data = any();
    call.flags = (uint32_t)below(8);
    if (once_in(4)) call.retries = (uint32_t)below(3), call.backoff_ms = below(3);
    if (once_in(4)) call.retry_if = by_its_number, call.longest_backoff_ms = below(3);
    if (once_in(9)) call.wait_limit_ms = 1 + below(20);
    if (once_in(9)) call.priority = (uint32_t)below(5);
    if (once_in(9)) call.flags |= AIOPOOL_CALL_ON_QUEUE, call.queue = (uint32_t)below(4);
    if (once_in(20)) call.function = (uint32_t)below(9), call.name = once_in(2) ? "mild" : "\xfe";
    if (once_in(40)) call.flags = (uint32_t)any();
    if (once_in(40)) call.reserved[below(sizeof call.reserved / sizeof *call.reserved)] = any();
    if (once_in(40)) call.input = NULL;
    if (once_in(3)) {
        struct lent *some = &loans[below(LOANS)];
        if (some->handle != NULL && (some->pool == pool || once_in(9))) {
            call.loan = some->handle;
            *loan = some;
        } else if (once_in(9)) {
            call.loan = dead_loans[below(DEAD)];
            for (int i = 0; i < LOANS; i++) {
                if (loans[i].handle == call.loan) *loan = &loans[i];
            }
        }
        if (call.loan != NULL && !once_in(9)) call.input = NULL, call.input_len = below(100);
    }
    if (once_in(30)) call.struct_size = (uint32_t)(once_in(2) ? below(sizeof call + 40) : any());
    if (call.struct_size > size && call.struct_size <= 4096) size = call.struct_size;
    made = calloc(1, size);
    CHECK(made != NULL);
    memcpy(made, &call, sizeof call);
    if (size > sizeof call && once_in(2)) ((unsigned char *)made)[size - 1] = 1;
    return made;
}

static void submitted(int pool, uint64_t ticket, struct lent *loan) {
    CHECK(ticket < TICKETS && pools[pool].out[ticket] == 0);
    pools[pool].out[ticket] = 1;
    pools[pool].live++;
    tasks++;
    if (loan != NULL) dead_loans[below(DEAD)] = loan->handle, loan->handle = NULL;
}

static void submit(int pool) {
    void *input;
    struct lent *loan;
    aiopool_call *call = some_call(pool, &input, &loan);
    uint64_t ticket = 0;
    aiopool_pool *handle = handle_of(pool);
    aiopool_status status = once_in(2) ? is(aiopool_pool_try_submit(handle, call, &ticket))
                                       : is(aiopool_pool_submit(handle, call, below(3), &ticket));
    if (status == AIOPOOL_OK) submitted(pool, ticket, loan);
    free(call);
    free(input);
}

static void broadcast(int pool) {
    void *input;
    struct lent *loan;
    aiopool_call *call = some_call(pool, &input, &loan);
    uint64_t ticket = 0;
    uint32_t count = 0;
    if (!once_in(9)) {
        call->retries = call->priority = 0, call->retry_if = NULL, call->wait_limit_ms = 0;
        call->loan = NULL, call->flags &= AIOPOOL_CALL_BY_TICKET | AIOPOOL_CALL_BORROW_OUTPUT;
        call->queue = 0;
    }
    if (is(aiopool_pool_broadcast(handle_of(pool), call, &ticket, &count)) == AIOPOOL_OK) {
        for (uint32_t seat = 0; seat < count; seat++) submitted(pool, ticket + seat, NULL);
    }
    free(call);
    free(input);
}

static void submit_many(int pool) {
    void *input;
    struct lent *loan;
    aiopool_call *call = some_call(pool, &input, &loan), *calls;
    size_t count = below(6), done = 99, size = sizeof *call;
    uint64_t tickets[6];
    call->struct_size = (uint32_t)size, call->loan = NULL;
    calls = malloc(count * size + 1);
    CHECK(calls != NULL);
    for (size_t i = 0; i < count; i++) memcpy(&calls[i], call, size);
    aiopool_status status =
        is(aiopool_pool_submit_many(handle_of(pool), calls, count, below(3), tickets, &done));
    CHECK(done <= count && (status != AIOPOOL_OK || done == count));
    for (size_t i = 0; i < done; i++) submitted(pool, tickets[i], NULL);
    free(calls);
    free(call);
    free(input);
}

static void receive(int pool) {
    aiopool_outcome *some[5];
    size_t count = 0, max = below(6);
    struct pollfd fd = {.fd = -1, .events = POLLIN};
    switch (below(5)) {
    case 0:
        count = is(aiopool_pool_try_wait(handle_of(pool), some)) == AIOPOOL_OK;
        break;
    case 1:
        count = is(aiopool_pool_wait(handle_of(pool), below(4), some)) == AIOPOOL_OK;
        break;
    case 2:
        if (is(aiopool_pool_wait_many(handle_of(pool), some, max, below(4), &count))) count = 0;
        CHECK(count <= max);
        break;
    case 3:
        count = is(aiopool_pool_wait_ticket(handle_of(pool), below(tasks + 3), below(3), some)) ==
                AIOPOOL_OK;
        break;
    default:
        if (is(aiopool_pool_fd(handle_of(pool), &fd.fd)) == AIOPOOL_OK) {
            CHECK(poll(&fd, 1, (int)below(3)) >= 0);
        }
    }
    for (size_t i = 0; i < count; i++) take(pool, some[i]);
}

static void borrow(int pool) {
    struct lent *loan = &loans[below(LOANS)];
    size_t len = once_in(9) ? below(1 << 21) : below(5000);
    void *data;
    if (loan->handle != NULL) {
        CHECK(is(aiopool_loan_return(loan->handle)) == AIOPOOL_OK);
        dead_loans[below(DEAD)] = loan->handle;
        loan->handle = NULL;
    }
    if (is(aiopool_pool_loan(handle_of(pool), len, &data, &loan->handle)) != AIOPOOL_OK) {
        loan->handle = NULL;
        return;
    }
    loan->data = data, loan->len = len, loan->pool = pool;
    memset(data, (int)any(), len);
}

static void log_it(uint32_t level, const char *text, void *user) {
    CHECK(level >= 1 && level <= 4 && strlen(text) > 0 && user == &seed);
}

/* One context beside the default one. */
static aiopool_context *context, *dead_context;

static void use_context(int pool) {
    aiopool_context *handle = once_in(5) ? NULL : once_in(9) ? dead_context : context;
    const char *name = once_in(9) ? NULL : once_in(9) ? "\xfe" : once_in(2) ? "mine" : "mad";
    uint32_t number;
    char text[16];
    size_t length;
    switch (below(8)) {
    case 0:
        if (context == NULL && is(aiopool_context_new(&context)) != AIOPOOL_OK) context = NULL;
        break;
    case 1:
        if (is(aiopool_context_free(handle)) != AIOPOOL_OK || handle == NULL) break;
        CHECK(handle == context);
        dead_context = context;
        context = NULL;
        break;
    /* Those of the default context are for the others. */
    case 2: if (handle) is(aiopool_context_register(handle, name, mad, NULL, &number)); break;
    case 3: if (handle) is(aiopool_context_declare(handle, name, &number)); break;
    case 4: if (handle) is(aiopool_context_unregister(handle, name)); break;
    case 5: is(aiopool_context_find(handle, name, &number)); break;
    case 6: is(aiopool_context_log_set(handle, (uint32_t)below(6), once_in(2) ? log_it : NULL, &seed)); break;
    default:
        is(aiopool_pool_printed(handle_of(pool), any(), (uint32_t)below(4), text, below(16), &length));
    }
}

static void ask(int pool) {
    struct held *held = &outcomes[below(OUTCOMES)];
    aiopool_stats stats = {.struct_size = (uint32_t)(once_in(3) ? below(400) : sizeof stats)};
    aiopool_function_stats times = {.struct_size = sizeof times};
    aiopool_worker *worker;
    size_t size = stats.struct_size > sizeof stats ? stats.struct_size : sizeof stats, count;
    void *room = calloc(1, size);
    uint32_t number, *pids = malloc(2 * sizeof *pids);
    CHECK(room != NULL && pids != NULL);
    memcpy(room, &stats, sizeof stats);
    switch (below(13)) {
    case 0: is(aiopool_pool_stats(handle_of(pool), room)); break;
    case 1: is(aiopool_pool_function_stats(handle_of(pool), once_in(2) ? "mad" : "no", &times)); break;
    case 2: is(aiopool_pool_workers(handle_of(pool), pids, below(3), &count)); break;
    case 3: is(aiopool_pool_cancel(handle_of(pool), below(tasks + 3))); break;
    case 4: if (held->handle != NULL) look_at(held->handle); break;
    case 5: if (held->handle != NULL) release(held); break;
    case 6:
        is(aiopool_outcome_release(NULL)), is(aiopool_loan_return(NULL));
        look_at(NULL);
        break;
    case 7: is(aiopool_function_find(once_in(2) ? "mad" : "nobody", &number)); break;
    case 8: is(aiopool_function_register("late", mad, NULL, &number)); break;
    case 9: is(aiopool_log_set((uint32_t)below(6), once_in(2) ? log_it : NULL, &seed)); break;
    case 10: is(aiopool_worker_attach(&worker)); break;
    case 11: use_context(pool); break;
    default: CHECK(aiopool_status_str((aiopool_status)any()) != NULL);
    }
    free(room);
    free(pids);
}

/* One process beside the pools, its outcome received at most once. */
static aiopool_process *process, *dead_process;
static int received;

static void use_process(int pool) {
    aiopool_process *handle = once_in(20) ? NULL : once_in(20) ? dead_process : process;
    aiopool_outcome *outcome;
    struct lent *loan;
    void *input;
    aiopool_call *call;
    uint32_t pid;
    int32_t code;
    bool alive;
    if (process == NULL && once_in(8)) {
        call = some_call(pool, &input, &loan);
        if (is(aiopool_process_start(call, NULL, once_in(9) ? "\xfe" : NULL, &process))) {
            process = NULL;
        }
        received = 0;
        free(call);
        free(input);
        return;
    }
    switch (below(9)) {
    case 0: is(aiopool_process_join(handle, below(4))); break;
    case 1: is(aiopool_process_is_alive(handle, &alive)); break;
    case 2: is(aiopool_process_pid(handle, &pid)); break;
    case 3: is(aiopool_process_exit_code(handle, &code)); break;
    case 4: is(aiopool_process_fd(handle, &code)); break;
    case 5: is(once_in(2) ? aiopool_process_kill(handle) : aiopool_process_terminate(handle)); break;
    case 6:
        if (is(aiopool_process_free(handle)) != AIOPOOL_OK || handle == NULL) break;
        CHECK(handle == process);
        dead_process = process;
        process = NULL;
        break;
    case 7: CHECK(strlen(aiopool_process_name(handle)) < 100); break;
    default:
        if (is(aiopool_process_wait(handle, below(4), &outcome)) != AIOPOOL_OK) break;
        CHECK(handle == process && !received);
        received = 1;
        look_at(outcome);
        CHECK(is(aiopool_outcome_release(outcome)) == AIOPOOL_OK);
    }
}

/* Ends a pool and counts: each of its tasks had one outcome. */
static void retire(int pool) {
    struct pool *self = &pools[pool];
    aiopool_outcome *outcome;
    if (self->handle == NULL) return;
    for (int i = 0; i < LOANS; i++) {
        if (loans[i].handle != NULL && loans[i].pool == pool) {
            CHECK(is(aiopool_loan_return(loans[i].handle)) == AIOPOOL_OK);
            loans[i].handle = NULL;
        }
    }
    if (once_in(2)) is(aiopool_pool_terminate(self->handle));
    is(aiopool_pool_close(self->handle));
    CHECK(is(aiopool_pool_join(self->handle, 60000)) != AIOPOOL_ERR_TIMEOUT);
    while (is(aiopool_pool_try_wait(self->handle, &outcome)) == AIOPOOL_OK) take(pool, outcome);
    for (uint64_t ticket = 0; self->live > 0; ticket++) {
        CHECK(ticket < TICKETS);
        if (self->out[ticket] == 0) continue;
        CHECK(is(aiopool_pool_wait_ticket(self->handle, ticket, 0, &outcome)) == AIOPOOL_OK);
        take(pool, outcome);
    }
    CHECK(is(aiopool_pool_wait(self->handle, 0, &outcome)) == AIOPOOL_ERR_CLOSED);
    for (int i = 0; i < OUTCOMES; i++) {
        if (outcomes[i].handle != NULL && outcomes[i].pool == pool) release(&outcomes[i]);
    }
    CHECK(is(aiopool_pool_free(self->handle)) == AIOPOOL_OK);
    dead_pools[below(DEAD)] = self->handle;
    self->handle = NULL;
    free(self->out);
}

static void start(int pool) {
    aiopool_pool_options options, *made;
    const char *page = "no/such";
    retire(pool);
    CHECK(is(aiopool_pool_options_init(&options)) == AIOPOOL_OK);
    options.processes = 1 + (uint32_t)below(3);
    options.queues = 1 + (uint32_t)below(options.processes);
    options.child_concurrency = 1 + (uint32_t)below(8);
    options.priorities = 1 + (uint32_t)below(4);
    options.max_tasks_per_child = once_in(3) ? 1 + below(9) : 0;
    options.capacity = 16 << below(2);
    options.max_payload = 1 << (10 + below(11));
    options.output_arena = 2 * options.max_payload;
    options.grace_ms = 10 + below(50);
    options.scheduler = (uint32_t)below(3);
    if (once_in(4)) options.init_function = numbers[1];
    if (once_in(4)) options.exit_function = numbers[1];
    if (once_in(4)) options.exception_function = numbers[1];
    if (once_in(4)) options.probation = (uint32_t)below(9);
    if (once_in(15)) options.reserved[below(sizeof options.reserved / sizeof *options.reserved)] = any();
    if (once_in(15)) options.queues = (uint32_t)below(9);
    if (once_in(15)) options.capacity = any();
    if (once_in(15)) options.max_payload = any();
    if (once_in(15)) options.scheduler = (uint32_t)any();
    if (once_in(15)) options.start_method = 3 + (uint32_t)below(9);
    if (once_in(15)) options.flags = 1u << 31;
    if (once_in(15)) options.struct_size = (uint32_t)below(sizeof options);
    if (once_in(15)) options.stats_page = page;
    made = exact(&options, sizeof options);
    if (is(aiopool_pool_start(made, &pools[pool].handle)) != AIOPOOL_OK) pools[pool].handle = NULL;
    free(made);
    pools[pool].live = 0;
    pools[pool].closed = 0;
    pools[pool].out = pools[pool].handle == NULL ? NULL : calloc(1, TICKETS);
}

int main(int argc, char **argv) {
    time_t end = time(NULL) + (argc > 2 ? atoi(argv[2]) : 10);
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
    state = seed * 2 + 1;
    CHECK(is(aiopool_function_register("mad", mad, NULL, &numbers[0])) == AIOPOOL_OK);
    CHECK(is(aiopool_function_register("mild", mild, NULL, &numbers[1])) == AIOPOOL_OK);
    CHECK(is(aiopool_init()) == AIOPOOL_OK);
    while (time(NULL) < end) {
        int pool = (int)below(POOLS);
        if (pools[pool].handle == NULL || once_in(pools[pool].closed ? 20 : 1000)) {
            start(pool);
            continue;
        }
        switch (below(14)) {
        case 0: case 1: case 2: submit(pool); break;
        case 3: submit_many(pool); break;
        case 4: case 5: case 6: receive(pool); break;
        case 7: borrow(pool); break;
        case 8:
            if (once_in(60)) pools[pool].closed = 1, is(aiopool_pool_close(handle_of(pool)));
            if (once_in(90)) pools[pool].closed = 1, is(aiopool_pool_terminate(handle_of(pool)));
            if (once_in(90)) pools[pool].closed = 1, is(aiopool_pool_drain(handle_of(pool), 2));
            is(aiopool_pool_join(handle_of(pool), below(3)));
            break;
        case 9: use_process(pool); break;
        case 10: once_in(2) ? broadcast(pool) : (void)is(aiopool_pool_ready(handle_of(pool), below(3))); break;
        default: ask(pool);
        }
    }
    for (int pool = 0; pool < POOLS; pool++) retire(pool);
    CHECK(is(aiopool_process_free(process)) == AIOPOOL_OK);
    printf("fuzz: %llu calls and %llu tasks, seed %llu\n", (unsigned long long)steps,
           (unsigned long long)tasks, (unsigned long long)seed);
    return 0;
}
