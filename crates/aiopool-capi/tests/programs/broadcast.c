/* One task on every worker, and the wait until all workers are up: what comes of each, to whom it
 * goes, and what is refused. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 3 };

/* Memory that the workers share with this process, which it made before aiopool_init. */
static struct shared {
    int open; /* Workers may start. */
    int broken; /* They fail instead. */
} *shared;

static int32_t on_start(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                        void *user) {
    (void)input, (void)len, (void)output, (void)user;
    while (!__atomic_load_n(&shared->open, __ATOMIC_SEQ_CST)) usleep(1000);
    if (!__atomic_load_n(&shared->broken, __ATOMIC_SEQ_CST)) return 0;
    aiopool_task_set_error(task, "the model is not there");
    return -1;
}

/* Gives its input, the worker's seat behind it; ends the worker whose seat is the input. */
static int32_t seat(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    uint32_t worker = 99, ends = 99;
    (void)task, (void)user;
    if (aiopool_worker_id(&worker) != AIOPOOL_OK) return -1;
    if (len == sizeof ends) memcpy(&ends, input, len);
    if (worker == ends) raise(SIGKILL);
    if (worker + 10 == ends) return -(int32_t)ends;
    if (aiopool_output_write(output, input, len) != AIOPOOL_OK) return -1;
    return aiopool_output_write(output, &worker, sizeof worker) == AIOPOOL_OK ? 0 : -1;
}

static aiopool_pool *pool;
static uint32_t seats;

/* In a worker the calls are refused for a pool that its host had started before. */
static int32_t inside(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    uint32_t count;
    (void)task, (void)input, (void)len, (void)output, (void)user;
    call.function = seats;
    return aiopool_pool_broadcast(pool, &call, NULL, &count) == AIOPOOL_ERR_IN_WORKER &&
                   aiopool_pool_ready(pool, AIOPOOL_FOREVER) == AIOPOOL_ERR_IN_WORKER
               ? 0
               : -1;
}

static aiopool_pool *start(uint32_t init) {
    aiopool_pool_options options;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = WORKERS;
    options.init_function = init;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    return pool;
}

static uint64_t spread(const aiopool_call *call) {
    uint64_t ticket = 0;
    uint32_t count = 0;
    CHECK(aiopool_pool_broadcast(pool, call, &ticket, &count) == AIOPOOL_OK);
    CHECK(ticket > 0 && count == WORKERS);
    return ticket;
}

/* The outcome of one worker's task, which is its seat behind `before`. */
static void is_seat(aiopool_outcome *outcome, const char *before, uint32_t worker) {
    size_t len = strlen(before);
    const char *data = aiopool_outcome_data(outcome);
    uint32_t said;
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_len(outcome) == len + sizeof said && memcmp(data, before, len) == 0);
    memcpy(&said, data + len, sizeof said);
    CHECK(said == worker && aiopool_outcome_attempts(outcome) == 1);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

static uint64_t first;
static uint32_t told, of_all;

static void arrived(aiopool_outcome *outcome, uint64_t user_data) {
    CHECK(user_data == 4711);
    told++;
    is_seat(outcome, "", (uint32_t)(aiopool_outcome_ticket(outcome) - first));
}

static void *waits_until_ready(void *status) {
    *(aiopool_status *)status = aiopool_pool_ready(pool, AIOPOOL_FOREVER);
    return NULL;
}

static void refuse(aiopool_call call, aiopool_status status, const char *named) {
    uint64_t ticket = 7;
    uint32_t count = 7;
    call.function = call.function == 0 ? seats : call.function;
    CHECK(aiopool_pool_broadcast(pool, &call, &ticket, &count) == status);
    CHECK(ticket == 7 && count == 7 && strstr(aiopool_last_error(), named) != NULL);
}

static bool again(const aiopool_attempt *attempt, uint64_t user_data) {
    return attempt->number < user_data;
}

static void what_is_refused(void) {
    static char large[2048];
    const aiopool_part parts[] = {{NULL, 1}};
    const aiopool_call plain = AIOPOOL_CALL_INIT;
    aiopool_call call;
    aiopool_loan *loan;
    void *data;
    uint32_t count;
    CHECK(aiopool_pool_broadcast(NULL, &plain, NULL, &count) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_broadcast(pool, NULL, NULL, &count) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_broadcast(pool, &plain, NULL, NULL) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_broadcast(pool, &plain, NULL, &count) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_ready(NULL, 0) == AIOPOOL_ERR_NULL);
    call = plain, call.struct_size = 3;
    refuse(call, AIOPOOL_ERR_STRUCT, "struct_size");
    call = plain, call.reserved[0] = 1;
    refuse(call, AIOPOOL_ERR_STRUCT, "reserved");
    call = plain, call.flags = 1u << 30;
    refuse(call, AIOPOOL_ERR_INVALID, "flags");
    call = plain, call.function = 77;
    refuse(call, AIOPOOL_ERR_UNKNOWN, "77");
    call = plain, call.input_len = 1;
    refuse(call, AIOPOOL_ERR_NULL, "input");
    call = plain, call.parts = parts, call.parts_len = 1;
    refuse(call, AIOPOOL_ERR_NULL, "part");
    call = plain, call.input = large, call.input_len = (size_t)1 << 40;
    refuse(call, AIOPOOL_ERR_TOO_LARGE, "");
    /* What a task that no other worker can run has no use for. */
    call = plain, call.flags = AIOPOOL_CALL_ON_QUEUE;
    refuse(call, AIOPOOL_ERR_INVALID, "AIOPOOL_CALL_ON_QUEUE");
    call = plain, call.flags = AIOPOOL_CALL_ALONE;
    refuse(call, AIOPOOL_ERR_INVALID, "AIOPOOL_CALL_ALONE");
    call = plain, call.flags = AIOPOOL_CALL_RETRY_ON_ERROR;
    refuse(call, AIOPOOL_ERR_INVALID, "AIOPOOL_CALL_RETRY_ON_ERROR");
    call = plain, call.retries = 1;
    refuse(call, AIOPOOL_ERR_INVALID, "retries");
    call = plain, call.retry_if = again;
    refuse(call, AIOPOOL_ERR_INVALID, "retry_if");
    call = plain, call.wait_limit_ms = 5;
    refuse(call, AIOPOOL_ERR_INVALID, "wait_limit_ms");
    call = plain, call.flags = AIOPOOL_CALL_BY_TICKET, call.on_complete = arrived;
    refuse(call, AIOPOOL_ERR_INVALID, "on_complete");
    CHECK(aiopool_pool_loan(pool, 100, &data, &loan) == AIOPOOL_OK);
    call = plain, call.loan = loan;
    refuse(call, AIOPOOL_ERR_INVALID, "loan");
    CHECK(aiopool_loan_return(loan) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait_idle(pool, 0) == AIOPOOL_OK);
    CHECK(aiopool_pool_try_wait(pool, &(aiopool_outcome *){NULL}) == AIOPOOL_ERR_EMPTY);
}

int main(void) {
    const aiopool_part parts[] = {{"two ", 4}, {"parts", 5}};
    uint32_t init, ends, seen = 0;
    aiopool_process *process;
    uint64_t ticket;
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome;
    aiopool_status status;
    pthread_t waiter;
    int state = -1;

    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    CHECK(aiopool_function_register("start", on_start, NULL, &init) == AIOPOOL_OK);
    CHECK(aiopool_function_register("seat", seat, NULL, &seats) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);

    /* Ready is when every init function has returned; what is submitted before waits for that. */
    start(init);
    CHECK(aiopool_pool_ready(pool, AIOPOOL_NO_WAIT) == AIOPOOL_ERR_TIMEOUT);
    CHECK(aiopool_pool_ready(pool, 30) == AIOPOOL_ERR_TIMEOUT);
    CHECK(strstr(aiopool_last_error(), "0 of 3 workers") != NULL);
    CHECK(pthread_create(&waiter, NULL, waits_until_ready, &status) == 0);
    CHECK(pthread_cancel(waiter) == 0 && pthread_join(waiter, NULL) == 0);
    CHECK(pthread_create(&waiter, NULL, waits_until_ready, &status) == 0);
    call.function = seats;
    call.flags = AIOPOOL_CALL_BY_TICKET;
    ticket = spread(&call);
    CHECK(aiopool_pool_wait_ticket(pool, ticket, 10, &outcome) == AIOPOOL_ERR_TIMEOUT);
    __atomic_store_n(&shared->open, 1, __ATOMIC_SEQ_CST);
    CHECK(pthread_join(waiter, NULL) == 0 && status == AIOPOOL_OK);
    CHECK(aiopool_pool_ready(pool, AIOPOOL_NO_WAIT) == AIOPOOL_OK);
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        CHECK(aiopool_pool_wait_ticket(pool, ticket + worker, 60000, &outcome) == AIOPOOL_OK);
        CHECK(aiopool_outcome_ticket(outcome) == ticket + worker);
        is_seat(outcome, "", worker);
    }
    CHECK(aiopool_pool_wait_ticket(pool, ticket, 0, &outcome) == AIOPOOL_ERR_UNKNOWN);

    /* To any thread that receives, each with the call's user_data. */
    call.flags = 0;
    call.user_data = 4711;
    call.parts = parts;
    call.parts_len = 2;
    ticket = spread(&call);
    for (uint32_t i = 0; i < WORKERS; i++) {
        CHECK(aiopool_pool_wait(pool, 60000, &outcome) == AIOPOOL_OK);
        uint32_t worker = (uint32_t)(aiopool_outcome_ticket(outcome) - ticket);
        CHECK(aiopool_outcome_user_data(outcome) == 4711 && worker < WORKERS);
        CHECK((seen & 1u << worker) == 0);
        seen |= 1u << worker;
        is_seat(outcome, "two parts", worker);
    }
    CHECK(aiopool_pool_try_wait(pool, &outcome) == AIOPOOL_ERR_EMPTY);
    /* To the one that asks for its ticket, from the first moment on. */
    ticket = spread(&call);
    for (uint32_t worker = WORKERS; worker-- > 0;) {
        CHECK(aiopool_pool_wait_ticket(pool, ticket + worker, 60000, &outcome) == AIOPOOL_OK);
        is_seat(outcome, "two parts", worker);
    }
    /* To a function. */
    call.parts = NULL;
    call.parts_len = 0;
    call.on_complete = arrived;
    first = spread(&call);
    CHECK(aiopool_pool_wait_ticket(pool, first, 0, &outcome) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_pool_wait_idle(pool, 60000) == AIOPOOL_OK && told == WORKERS);
    call.on_complete = NULL;

    /* Each worker's task has an end of its own. */
    ends = 11;
    call.input = &ends;
    call.input_len = sizeof ends;
    ticket = spread(&call);
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        CHECK(aiopool_pool_wait_ticket(pool, ticket + worker, 60000, &outcome) == AIOPOOL_OK);
        CHECK(aiopool_outcome_code(outcome) == (worker == 1 ? -11 : 0));
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    }
    ends = 2;
    ticket = spread(&call);
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        aiopool_kind kind = worker == 2 ? AIOPOOL_OUTCOME_WORKER_LOST : AIOPOOL_OUTCOME_OK;
        CHECK(aiopool_pool_wait_ticket(pool, ticket + worker, 60000, &outcome) == AIOPOOL_OK);
        CHECK(aiopool_outcome_kind(outcome) == kind);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    }
    /* The worker that was lost is replaced, and its seat is served again. */
    CHECK(aiopool_pool_ready(pool, 60000) == AIOPOOL_OK);
    call.input_len = 0;
    ticket = spread(&call);
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        CHECK(aiopool_pool_wait_ticket(pool, ticket + worker, 60000, &outcome) == AIOPOOL_OK);
        is_seat(outcome, "", worker);
    }

    what_is_refused();
    call = (aiopool_call)AIOPOOL_CALL_INIT;
    CHECK(aiopool_function_register("inside", inside, NULL, &call.function) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_process_start(&call, NULL, NULL, &process) == AIOPOOL_OK);
    CHECK(aiopool_process_wait(process, 60000, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_process_free(process) == AIOPOOL_OK);
    call = (aiopool_call)AIOPOOL_CALL_INIT;
    call.function = seats;
    if (fork() == 0) {
        _exit(aiopool_pool_broadcast(pool, &call, NULL, &of_all) == AIOPOOL_ERR_FORKED &&
                      aiopool_pool_ready(pool, AIOPOOL_FOREVER) == AIOPOOL_ERR_FORKED
                  ? 0
                  : 1);
    }
    CHECK(wait(&state) > 0 && state == 0);

    /* Accepted before the close: it is finished. */
    ticket = spread(&call);
    CHECK(aiopool_pool_close(pool) == AIOPOOL_OK);
    refuse(call, AIOPOOL_ERR_CLOSED, "closed");
    CHECK(aiopool_pool_ready(pool, AIOPOOL_FOREVER) == AIOPOOL_ERR_CLOSED);
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        CHECK(aiopool_pool_wait_ticket(pool, ticket + worker, 60000, &outcome) == AIOPOOL_OK);
        is_seat(outcome, "", worker);
    }
    CHECK(aiopool_pool_join(pool, 60000) == AIOPOOL_OK);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_broadcast(pool, &call, NULL, &of_all) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_pool_ready(pool, AIOPOOL_FOREVER) == AIOPOOL_ERR_HANDLE);

    /* The pool ends before a worker has begun. */
    shared->open = 0;
    start(init);
    ticket = spread(&call);
    CHECK(pthread_create(&waiter, NULL, waits_until_ready, &status) == 0);
    CHECK(aiopool_pool_terminate(pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait_idle(pool, 60000) == AIOPOOL_OK);
    CHECK(pthread_join(waiter, NULL) == 0 && status == AIOPOOL_ERR_CLOSED);
    for (uint32_t worker = 0; worker < WORKERS; worker++) {
        CHECK(aiopool_pool_wait(pool, 60000, &outcome) == AIOPOOL_OK);
        CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_POOL_CLOSED);
        CHECK(aiopool_outcome_ticket(outcome) - ticket < WORKERS);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    }
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);

    /* No worker can start: the text says why. */
    start(init);
    CHECK(pthread_create(&waiter, NULL, waits_until_ready, &status) == 0);
    shared->broken = 1;
    __atomic_store_n(&shared->open, 1, __ATOMIC_SEQ_CST);
    CHECK(pthread_join(waiter, NULL) == 0 && status == AIOPOOL_ERR_FAILED);
    CHECK(aiopool_pool_ready(pool, AIOPOOL_NO_WAIT) == AIOPOOL_ERR_FAILED);
    CHECK(strstr(aiopool_last_error(), "the model is not there") != NULL);
    refuse(call, AIOPOOL_ERR_FAILED, "the model is not there");
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    printf("%d checks of what every worker does\n", checks);
    return 0;
}
