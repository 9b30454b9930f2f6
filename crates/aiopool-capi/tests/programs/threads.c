/* Threads that are cancelled in calls, and a submitter that waits for the thread that receives. */
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static aiopool_pool *pool;
static aiopool_process *process;
static aiopool_call call, slow;

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

static void *waits(void *arg) {
    aiopool_outcome *outcome;
    aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome);
    return arg;
}

static void *waits_for_many(void *arg) {
    aiopool_outcome *outcomes[4];
    size_t count;
    aiopool_pool_wait_many(pool, outcomes, 4, AIOPOOL_FOREVER, &count);
    return arg;
}

static void *waits_for_ticket(void *ticket) {
    aiopool_outcome *outcome;
    aiopool_pool_wait_ticket(pool, *(uint64_t *)ticket, AIOPOOL_FOREVER, &outcome);
    return NULL;
}

static void *submits(void *arg) {
    for (;;) aiopool_pool_submit(pool, &slow, AIOPOOL_FOREVER, NULL);
    return arg;
}

static void *submits_many(void *arg) {
    static aiopool_call calls[64];
    size_t count;
    for (int i = 0; i < 64; i++) calls[i] = slow;
    aiopool_pool_submit_many(pool, calls, 64, AIOPOOL_FOREVER, NULL, &count);
    return arg;
}

static void *joins(void *arg) {
    aiopool_pool_close(pool);
    aiopool_pool_join(pool, AIOPOOL_FOREVER);
    return arg;
}

static void *drains(void *arg) {
    aiopool_pool_drain(pool, AIOPOOL_FOREVER);
    return arg;
}

static void *waits_for_process(void *arg) {
    aiopool_outcome *outcome;
    aiopool_process_wait(process, AIOPOOL_FOREVER, &outcome);
    return arg;
}

static void *joins_process(void *arg) {
    aiopool_process_join(process, AIOPOOL_FOREVER);
    return arg;
}

/* Rings, takes and waits without end: each of its system calls is one to be cancelled in. */
static void *is_busy(void *arg) {
    aiopool_outcome *outcome;
    for (;;) {
        if (aiopool_pool_submit(pool, &call, 100, NULL) == AIOPOOL_OK &&
            aiopool_pool_wait(pool, 1000, &outcome) == AIOPOOL_OK)
            aiopool_outcome_release(outcome);
        pthread_testcancel();
    }
    return arg;
}

static void cancelled(void *(*body)(void *), void *arg, useconds_t after) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, body, arg) == 0);
    usleep(after);
    CHECK(pthread_cancel(thread) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
}

static void start(uint32_t processes, uint64_t capacity) {
    aiopool_pool_options options;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = processes;
    options.capacity = capacity;
    options.grace_ms = 100;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
}

static void round_trip(void) {
    aiopool_outcome *outcome = NULL;
    uint64_t ticket;
    call.flags = AIOPOOL_CALL_BY_TICKET;
    CHECK(aiopool_pool_submit(pool, &call, 10000, &ticket) == AIOPOOL_OK);
    call.flags = 0;
    CHECK(aiopool_pool_wait_ticket(pool, ticket, 60000, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

/* A thread that is cancelled in a call leaves the pool as it was, for all other threads. */
static void cancels(void) {
    uint64_t ticket;
    start(1, 16);
    cancelled(waits, NULL, 100000);
    cancelled(waits_for_many, NULL, 100000);
    round_trip();
    for (int k = 0; k < 20; k++) cancelled(is_busy, NULL, 2000 + 777 * (useconds_t)k);
    aiopool_pool_free(pool);

    start(1, 16);
    CHECK(aiopool_pool_submit(pool, &slow, 1000, &ticket) == AIOPOOL_OK);
    cancelled(waits_for_ticket, &ticket, 100000);
    cancelled(submits, NULL, 100000);
    cancelled(submits_many, NULL, 100000);
    cancelled(drains, NULL, 100000);
    cancelled(joins, NULL, 100000);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);

    CHECK(aiopool_process_start(&slow, NULL, NULL, &process) == AIOPOOL_OK);
    cancelled(waits_for_process, NULL, 100000);
    cancelled(joins_process, NULL, 100000);
    CHECK(aiopool_process_free(process) == AIOPOOL_OK);
}

enum { TASKS = 2000 };

static void *receives(void *arg) {
    aiopool_outcome *outcome;
    for (int k = 0; k < TASKS; k++) {
        CHECK(aiopool_pool_wait(pool, 60000, &outcome) == AIOPOOL_OK);
        usleep(50);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    }
    return arg;
}

static void *peeks(void *arg) {
    aiopool_outcome *outcome;
    for (int k = 0; k < TASKS;) {
        if (aiopool_pool_try_wait(pool, &outcome) == AIOPOOL_OK) {
            CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
            k++;
        } else {
            usleep(100);
        }
    }
    return arg;
}

/* One thread submits, for ever if need be, and another receives. */
static void waits_for_a_receiver(void *(*receiver)(void *)) {
    pthread_t thread;
    start(1, 16);
    CHECK(pthread_create(&thread, NULL, receiver, NULL) == 0);
    for (int k = 0; k < TASKS; k++)
        CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

static int refused;

/* Submits and receives like another thread: each may find the pool full of the other's. */
static void *takes_part(void *arg) {
    aiopool_outcome *outcome;
    for (int k = 0; k < TASKS;) {
        int32_t status = aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL);
        if (status == AIOPOOL_OK) {
            k++;
            continue;
        }
        /* Both would wait for each other. */
        CHECK(status == AIOPOOL_ERR_FULL);
        __atomic_fetch_add(&refused, 1, __ATOMIC_RELAXED);
        for (int n = 0; n < 8 && aiopool_pool_wait(pool, 0, &outcome) == AIOPOOL_OK; n++)
            CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    }
    while (aiopool_pool_wait(pool, 1000, &outcome) == AIOPOOL_OK)
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    return arg;
}

/* Where nobody else receives, waiting would be for ever. */
static void is_full_at_once(void) {
    pthread_t threads[2];
    aiopool_outcome *outcome;
    int accepted = 0;
    start(1, 16);
    while (aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK) accepted++;
    CHECK(accepted >= 16);
    CHECK(aiopool_pool_wait(pool, 1000, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    while (aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK) accepted++;
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);

    start(1, 16);
    for (int k = 0; k < 2; k++) CHECK(pthread_create(&threads[k], NULL, takes_part, NULL) == 0);
    for (int k = 0; k < 2; k++) CHECK(pthread_join(threads[k], NULL) == 0);
    CHECK(refused > 0);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

int main(void) {
    /* Far longer than this takes on a loaded machine. */
    alarm(300);
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    CHECK(aiopool_call_init(&slow) == AIOPOOL_OK);
    CHECK(aiopool_function_register("quick", quick, NULL, &call.function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("nap", nap, NULL, &slow.function) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    waits_for_a_receiver(receives);
    waits_for_a_receiver(peeks);
    is_full_at_once();
    cancels();
    printf("%d checks of threads\n", checks);
    return 0;
}
