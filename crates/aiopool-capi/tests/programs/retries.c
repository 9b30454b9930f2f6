/* Further attempts after an error and after a run limit, one that each knows its own number, a
 * neighbour that is told from the one that took their worker down, a task that runs alone, and
 * attempts that a function decides about.
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

/* Fails with the number of its attempt as code and in its text; waits for ever, or dies, at the
 * attempts whose numbers are its input's bytes. */
static int32_t troubled(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                        void *user) {
    uint32_t attempt = aiopool_task_attempt(task);
    const char *says = input;
    char text[32];
    (void)output, (void)user;
    if (len > 0 && attempt == (uint32_t)says[0]) return AIOPOOL_PENDING;
    if (len > 1 && attempt == (uint32_t)says[1]) raise(SIGKILL);
    snprintf(text, sizeof text, "trouble %u", (unsigned)attempt);
    aiopool_task_set_error(task, text);
    return -(int32_t)attempt;
}

/* What a predicate was asked. */
static struct asked {
    aiopool_kind kind;
    int32_t code;
    char text[160];
} asked[64];
static uint32_t questions;

/* Notes what it is asked; wants attempts until there were as many as its call says. */
static bool until(const aiopool_attempt *attempt, uint64_t attempts) {
    struct asked *next = &asked[questions++];
    CHECK(attempt->struct_size == sizeof *attempt && attempt->number == questions);
    CHECK(attempt->bystander == 0 && attempt->reserved_0 == 0 && attempt->reserved[3] == 0);
    next->kind = attempt->kind;
    next->code = attempt->code;
    snprintf(next->text, sizeof next->text, "%s", attempt->text);
    return attempt->number < attempts;
}

static bool never(const aiopool_attempt *attempt, uint64_t user_data) {
    return attempt->number > user_data && user_data > attempt->number;
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
    uint32_t thirds, seconds, waits, crashes, troubles;
    const char at_two_and_three[] = {2, 3};
    aiopool_process *process;
    aiopool_pool *pool;
    aiopool_pool_options options;
    aiopool_outcome *outcome, *beside;
    aiopool_call call = AIOPOOL_CALL_INIT;
    uint64_t waiting, crashing, progress;
    CHECK(aiopool_function_register("third", third, NULL, &thirds) == AIOPOOL_OK);
    CHECK(aiopool_function_register("second", second, NULL, &seconds) == AIOPOOL_OK);
    CHECK(aiopool_function_register("wait", wait, NULL, &waits) == AIOPOOL_OK);
    CHECK(aiopool_function_register("crash", crash, NULL, &crashes) == AIOPOOL_OK);
    CHECK(aiopool_function_register("troubled", troubled, NULL, &troubles) == AIOPOOL_OK);
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
    call.run_limit_ms = 5000;
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

    /* A function decides, also about a run limit and a worker's death. */
    call = (aiopool_call)AIOPOOL_CALL_INIT;
    call.function = troubles;
    call.input = at_two_and_three;
    call.input_len = sizeof at_two_and_three;
    call.run_limit_ms = 2000;
    call.retries = 10;
    call.retry_if = until;
    call.user_data = 4;
    outcome = outcome_of(pool, submit(pool, call));
    CHECK(questions == 4);
    CHECK(asked[0].kind == AIOPOOL_OUTCOME_ERR && asked[0].code == -1);
    CHECK(strcmp(asked[0].text, "trouble 1") == 0);
    CHECK(asked[1].kind == AIOPOOL_OUTCOME_TIMED_OUT && asked[1].code == 0);
    CHECK(*asked[1].text != 0 && !speaks_rust(asked[1].text));
    CHECK(asked[2].kind == AIOPOOL_OUTCOME_WORKER_LOST && asked[2].code == 0);
    CHECK(*asked[2].text != 0 && !speaks_rust(asked[2].text));
    CHECK(asked[3].kind == AIOPOOL_OUTCOME_ERR && asked[3].code == -4);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_ERR);
    CHECK(aiopool_outcome_code(outcome) == -4 && aiopool_outcome_attempts(outcome) == 4);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    /* It stands in the flags' place; without retries it is not asked. */
    questions = 0;
    call.input_len = 0;
    call.retry_if = never;
    call.flags = AIOPOOL_CALL_RETRY_ON_ERROR;
    outcome = outcome_of(pool, submit(pool, call));
    CHECK(aiopool_outcome_code(outcome) == -1 && aiopool_outcome_attempts(outcome) == 1);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    call.retry_if = until;
    call.retries = 0;
    outcome = outcome_of(pool, submit(pool, call));
    CHECK(aiopool_outcome_code(outcome) == -1 && questions == 0);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    /* Pauses that doubled each time would outlast the test. */
    call.retries = call.user_data = 40;
    call.backoff_ms = call.longest_backoff_ms = 1;
    outcome = outcome_of(pool, submit(pool, call));
    CHECK(aiopool_outcome_attempts(outcome) == 40 && questions == 40);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    call = (aiopool_call)AIOPOOL_CALL_INIT;
    call.function = troubles;
    call.retry_if = never;
    CHECK(aiopool_process_start(&call, NULL, NULL, &process) == AIOPOOL_ERR_INVALID);
    call.retry_if = NULL;
    call.reserved[3] = 1;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_ERR_STRUCT);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    printf("%d checks of further attempts\n", checks);
    return 0;
}
