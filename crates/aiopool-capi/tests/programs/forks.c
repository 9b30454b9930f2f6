/* Children that are forked while threads of their parent hold the library's locks: each call in
 * them says AIOPOOL_ERR_FORKED, and none waits for a lock. */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 400, THREADS = 6 };

static aiopool_pool *pool;
static aiopool_process *process;
static aiopool_outcome *lent;
static aiopool_loan *loan;
static aiopool_call call;

static int32_t quick(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    (void)task, (void)user;
    return aiopool_output_write(output, input, len);
}

static int32_t nap(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    sleep(1000);
    return 0;
}

/* Hold, each for as much of their time as they can, the locks of what children call. */
static void *peeks(void *arg) {
    aiopool_outcome *outcome;
    for (;;)
        if (aiopool_pool_try_wait(pool, &outcome) == AIOPOOL_OK) aiopool_outcome_release(outcome);
    return arg;
}

static void *submits(void *arg) {
    aiopool_call named;
    aiopool_call_init(&named);
    named.name = "quick";
    for (;;) aiopool_pool_submit(pool, &named, 1, NULL);
    return arg;
}

static void *counts(void *arg) {
    aiopool_stats stats;
    size_t count;
    stats.struct_size = sizeof stats;
    for (;;) {
        aiopool_pool_stats(pool, &stats);
        aiopool_pool_workers(pool, NULL, 0, &count);
    }
    return arg;
}

static void *reads(void *arg) {
    bool alive;
    for (;;) {
        aiopool_outcome_len(lent);
        aiopool_outcome_text(lent);
        aiopool_process_is_alive(process, &alive);
        aiopool_process_name(process);
    }
    return arg;
}

static void *lends(void *arg) {
    aiopool_loan *other;
    void *data;
    for (;;)
        if (aiopool_pool_loan(pool, 100, &data, &other) == AIOPOOL_OK) aiopool_loan_return(other);
    return arg;
}

static void *registers(void *arg) {
    uint32_t number;
    for (;;) aiopool_function_declare("declared", &number);
    return arg;
}

#define FORKED(call) if ((call) != AIOPOOL_ERR_FORKED) { fprintf(stderr, "%s: %s\n", #call, aiopool_last_error()); _exit(1); }

static void in_child(int k) {
    aiopool_outcome *outcome;
    aiopool_stats stats;
    aiopool_loan *other;
    aiopool_pool *own;
    void *data;
    size_t count;
    uint32_t number;
    uint64_t ticket;
    int32_t fd;
    bool alive;
    stats.struct_size = sizeof stats;
    FORKED(aiopool_pool_try_wait(pool, &outcome));
    FORKED(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome));
    FORKED(aiopool_pool_wait_many(pool, &outcome, 1, AIOPOOL_FOREVER, &count));
    FORKED(aiopool_pool_wait_ticket(pool, 1, AIOPOOL_FOREVER, &outcome));
    FORKED(aiopool_pool_cancel(pool, 1));
    FORKED(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket));
    FORKED(aiopool_pool_try_submit(pool, &call, &ticket));
    FORKED(aiopool_pool_submit_many(pool, &call, 1, AIOPOOL_FOREVER, NULL, &count));
    FORKED(aiopool_pool_broadcast(pool, &call, &ticket, &number));
    FORKED(aiopool_pool_ready(pool, AIOPOOL_FOREVER));
    FORKED(aiopool_pool_extend_deadline(pool, 1));
    FORKED(aiopool_pool_stats(pool, &stats));
    FORKED(aiopool_pool_workers(pool, NULL, 0, &count));
    FORKED(aiopool_pool_loan(pool, 100, &data, &other));
    FORKED(aiopool_pool_fd(pool, &fd));
    FORKED(aiopool_pool_close(pool));
    FORKED(aiopool_pool_drain(pool, AIOPOOL_FOREVER));
    FORKED(aiopool_pool_terminate(pool));
    FORKED(aiopool_pool_join(pool, AIOPOOL_FOREVER));
    FORKED(aiopool_pool_free(pool));
    FORKED(aiopool_process_wait(process, AIOPOOL_FOREVER, &outcome));
    FORKED(aiopool_process_join(process, AIOPOOL_FOREVER));
    FORKED(aiopool_process_is_alive(process, &alive));
    FORKED(aiopool_process_terminate(process));
    FORKED(aiopool_process_kill(process));
    FORKED(aiopool_process_free(process));
    FORKED(aiopool_loan_return(loan));
    FORKED(aiopool_outcome_release(lent));
    /* What a parent was lent can be read, unless it was just being read. */
    if (aiopool_outcome_len(lent) != 5 && aiopool_outcome_len(lent) != 0) _exit(2);
    aiopool_outcome_text(lent);
    aiopool_process_name(process);
    if (aiopool_function_declare("of the child", &number) != AIOPOOL_OK) _exit(3);
    /* A pool of its own. */
    if (k % 100 == 0) {
        aiopool_pool_options options;
        aiopool_pool_options_init(&options);
        options.processes = 1;
        options.start_method = AIOPOOL_START_SPAWN;
        int32_t started = aiopool_pool_start(&options, &own);
        if (started != AIOPOOL_OK) {
            fprintf(stderr, "its own pool: %s\n", aiopool_last_error());
            _exit(4);
        }
        if (aiopool_pool_try_wait(own, &outcome) != AIOPOOL_ERR_EMPTY) _exit(5);
        if (aiopool_pool_free(own) != AIOPOOL_OK) _exit(6);
    }
    _exit(0);
}

int main(void) {
    void *(*holders[THREADS])(void *) = {peeks, submits, counts, reads, lends, registers};
    aiopool_pool_options options;
    aiopool_call slow;
    pthread_t thread;
    void *data;
    uint64_t ticket;
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK && aiopool_call_init(&slow) == AIOPOOL_OK);
    CHECK(aiopool_function_register("quick", quick, NULL, &call.function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("nap", nap, NULL, &slow.function) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 1;
    options.capacity = 64;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(aiopool_process_start(&slow, NULL, "napping", &process) == AIOPOOL_OK);
    CHECK(aiopool_pool_loan(pool, 100, &data, &loan) == AIOPOOL_OK);
    call.input = "hello";
    call.input_len = 5;
    CHECK(aiopool_pool_submit(pool, &call, 1000, &ticket) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, 60000, &lent) == AIOPOOL_OK);
    for (int k = 0; k < THREADS; k++)
        CHECK(pthread_create(&thread, NULL, holders[k], NULL) == 0);
    for (int k = 0; k < CHILDREN; k++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            /* Far longer than this takes on a loaded machine. */
            alarm(60);
            in_child(k);
        }
        CHECK(waitpid(child, &status, 0) == child);
        if (status != 0) fprintf(stderr, "child %d: status %#x\n", k, status);
        CHECK(status == 0);
    }
    printf("%d checks of children\n", checks);
    fflush(stdout);
    _exit(0);
}
