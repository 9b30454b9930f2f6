/* Further attempts after an error and after a run limit, one that each knows its own number, a
 * neighbour that is told from the one that took their worker down, and a task that runs alone.
 * Prints how many checks were made.
 */
#include "check.h"

#include <signal.h>
#include <stdint.h>

/* Fails until its third attempt, whose number is its value. */
static int32_t third(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    uint32_t attempt = aiopool_task_attempt(task);
    (void)input, (void)len, (void)user;
    if (attempt != 3) return -1;
    return aiopool_output_write(output, &attempt, sizeof attempt) == AIOPOOL_OK ? 0 : -1;
}

/* Never ends, but for its second attempt. */
static int32_t second(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    (void)input, (void)len, (void)output, (void)user;
    return aiopool_task_attempt(task) == 2 ? 0 : AIOPOOL_PENDING;
}

/* Waits until it is cancelled or its worker dies. */
static int32_t wait(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)input, (void)len, (void)output, (void)user;
    return aiopool_task_progress(task, 1) == AIOPOOL_OK ? AIOPOOL_PENDING : -1;
}

static int32_t crash(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    raise(SIGKILL);
    return 0;
}

static uint64_t submit(aiopool_pool *pool, aiopool_call call) {
    uint64_t ticket;
    call.flags |= AIOPOOL_CALL_BY_TICKET;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket) == AIOPOOL_OK);
    return ticket;
}

static aiopool_outcome *outcome_of(aiopool_pool *pool, uint64_t ticket) {
    aiopool_outcome *outcome;
    CHECK(aiopool_pool_wait_ticket(pool, ticket, 60000, &outcome) == AIOPOOL_OK);
    return outcome;
}

int main(void) {
    uint32_t thirds, seconds, waits, crashes;
    aiopool_pool *pool;
    aiopool_pool_options options;
    aiopool_outcome *outcome, *beside;
    aiopool_call call = AIOPOOL_CALL_INIT;
    uint64_t waiting, crashing, progress;
    CHECK(aiopool_function_register("third", third, NULL, &thirds) == AIOPOOL_OK);
    CHECK(aiopool_function_register("second", second, NULL, &seconds) == AIOPOOL_OK);
    CHECK(aiopool_function_register("wait", wait, NULL, &waits) == AIOPOOL_OK);
    CHECK(aiopool_function_register("crash", crash, NULL, &crashes) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 1;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(aiopool_task_attempt(NULL) == 0);
    CHECK(!aiopool_outcome_is_bystander(NULL));

    call.function = thirds;
    call.retries = 2;
    call.backoff_ms = 2;
    call.flags = AIOPOOL_CALL_RETRY_ON_ERROR | AIOPOOL_CALL_JITTER | AIOPOOL_CALL_ALONE;
    outcome = outcome_of(pool, submit(pool, call));
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(*(const uint32_t *)aiopool_outcome_data(outcome) == 3);
    CHECK(aiopool_outcome_attempts(outcome) == 3);
    CHECK(!aiopool_outcome_is_bystander(outcome));
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);

    call = (aiopool_call)AIOPOOL_CALL_INIT;
    call.function = seconds;
    call.retries = 1;
    call.run_limit_ms = 20;
    outcome = outcome_of(pool, submit(pool, call));
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_TIMED_OUT);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    call.flags = AIOPOOL_CALL_RETRY_ON_TIMEOUT;
    /* Long enough for the attempt that is to succeed. */
    call.run_limit_ms = 2000;
    outcome = outcome_of(pool, submit(pool, call));
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);

    /* Two in one worker: the one that crashes is the suspect. */
    call = (aiopool_call)AIOPOOL_CALL_INIT;
    call.function = waits;
    waiting = submit(pool, call);
    while (aiopool_pool_progress(pool, waiting, &progress) != AIOPOOL_OK) continue;
    call.function = crashes;
    crashing = submit(pool, call);
    outcome = outcome_of(pool, crashing);
    beside = outcome_of(pool, waiting);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_WORKER_LOST);
    CHECK(!aiopool_outcome_is_bystander(outcome));
    CHECK(aiopool_outcome_kind(beside) == AIOPOOL_OUTCOME_WORKER_LOST);
    CHECK(aiopool_outcome_is_bystander(beside));
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(beside) == AIOPOOL_OK);
    CHECK(!aiopool_outcome_is_bystander(beside));

    /* One that is alone waits until its worker has nothing else. */
    call.function = waits;
    waiting = submit(pool, call);
    while (aiopool_pool_progress(pool, waiting, &progress) != AIOPOOL_OK) continue;
    call.function = crashes;
    call.flags = AIOPOOL_CALL_ALONE;
    crashing = submit(pool, call);
    CHECK(aiopool_pool_wait_ticket(pool, crashing, 50, &outcome) == AIOPOOL_ERR_TIMEOUT);
    CHECK(aiopool_pool_cancel(pool, waiting) == AIOPOOL_OK);
    outcome = outcome_of(pool, crashing);
    beside = outcome_of(pool, waiting);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_WORKER_LOST);
    CHECK(aiopool_outcome_kind(beside) == AIOPOOL_OUTCOME_CANCELLED);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(beside) == AIOPOOL_OK);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    printf("%d checks of further attempts\n", checks);
    return 0;
}
