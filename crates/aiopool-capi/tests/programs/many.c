/* Calls that are submitted together, of all kinds beside each other: each has its ticket, its value
 * and one outcome, and one that is refused in the middle leaves those before it submitted. Prints
 * how many checks were made.
 */
#include "check.h"

#include <stdint.h>
#include <string.h>

enum { CALLS = 500, LONG = 4000, REFUSED = 70, ROOM = 16 };

/* The sum of the bytes. */
static int32_t sum(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    const unsigned char *bytes = input;
    uint64_t total = 0;
    (void)task, (void)user;
    for (size_t i = 0; i < len; i++) total += bytes[i];
    return aiopool_output_write(output, &total, sizeof total) == AIOPOOL_OK ? 0 : -1;
}

static unsigned char inputs[CALLS][LONG];
static aiopool_call calls[CALLS];
static uint64_t tickets[CALLS];

/* What call `i` is: most are plain, in runs of every length; the others break a run. */
static void describe(size_t i, uint32_t function, uint32_t other) {
    aiopool_call *call = &calls[i];
    const aiopool_call plain = AIOPOOL_CALL_INIT;
    *call = plain;
    memset(inputs[i], (int)(i % 7), sizeof inputs[i]);
    call->function = i % 97 == 3 ? other : function;
    call->input = inputs[i];
    call->input_len = i % 60;
    call->user_data = i;
    if (i % 41 == 5) call->input_len = LONG;
    if (i % 31 == 9) call->retries = 2;
    if (i % 29 == 1) call->flags = AIOPOOL_CALL_BY_TICKET;
    if (i % 23 == 0) call->wait_limit_ms = 600000;
}

static int seen[CALLS];

static void receive(aiopool_pool *pool, aiopool_outcome *outcome) {
    size_t i = (size_t)aiopool_outcome_user_data(outcome);
    uint64_t total;
    (void)pool;
    CHECK(i < CALLS && seen[i]++ == 0);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_ticket(outcome) == tickets[i]);
    CHECK(aiopool_outcome_len(outcome) == sizeof total);
    memcpy(&total, aiopool_outcome_data(outcome), sizeof total);
    CHECK(total == (i % 7) * calls[i].input_len);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

/* Receives those of the first `count` calls. */
static void receive_all(aiopool_pool *pool, size_t count) {
    aiopool_outcome *outcomes[ROOM];
    size_t plain = 0, received = 0, some;
    for (size_t i = 0; i < count; i++) {
        if (calls[i].flags == AIOPOOL_CALL_BY_TICKET) {
            CHECK(aiopool_pool_wait_ticket(pool, tickets[i], AIOPOOL_FOREVER, outcomes) ==
                  AIOPOOL_OK);
            receive(pool, outcomes[0]);
        } else {
            plain++;
        }
    }
    while (received < plain) {
        CHECK(aiopool_pool_wait_many(pool, outcomes, ROOM, AIOPOOL_FOREVER, &some) == AIOPOOL_OK);
        for (size_t i = 0; i < some; i++) receive(pool, outcomes[i]);
        received += some;
    }
    CHECK(aiopool_pool_try_wait(pool, outcomes) == AIOPOOL_ERR_EMPTY);
    for (size_t i = 0; i < CALLS; i++) CHECK(seen[i] == (i < count));
    memset(seen, 0, sizeof seen);
}

int main(void) {
    aiopool_pool_options options;
    aiopool_pool *pool;
    aiopool_stats stats;
    uint32_t function, other;
    size_t submitted, all = 0;
    CHECK(aiopool_function_register("sum", sum, NULL, &function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("other", sum, &options, &other) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    aiopool_pool_options_init(&options);
    options.processes = 2;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);

    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < CALLS; i++) describe(i, function, other);
        CHECK(aiopool_pool_submit_many(pool, calls, CALLS, AIOPOOL_FOREVER, tickets, &submitted) ==
              AIOPOOL_OK);
        CHECK(submitted == CALLS);
        receive_all(pool, CALLS);
        all += CALLS;
    }

    /* One of the middle is refused, where others could have gone together with it. */
    calls[REFUSED].priority = 1000;
    CHECK(aiopool_pool_submit_many(pool, calls, CALLS, AIOPOOL_FOREVER, tickets, &submitted) ==
          AIOPOOL_ERR_INVALID);
    CHECK(submitted == REFUSED);
    receive_all(pool, REFUSED);
    all += REFUSED;
    stats.struct_size = sizeof stats;
    CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK);
    CHECK(stats.submitted == all && stats.ok == all);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);

    /* More than there is room for: what was submitted is said, and comes back. */
    options.processes = 1;
    options.capacity = ROOM;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    for (size_t i = 0; i < CALLS; i++) {
        describe(i, function, function);
        calls[i].flags = 0;
    }
    for (int round = 0; round < 20; round++) {
        aiopool_status status;
        status = aiopool_pool_submit_many(pool, calls, CALLS, 0, tickets, &submitted);
        CHECK(status == AIOPOOL_ERR_FULL || status == AIOPOOL_ERR_TIMEOUT);
        CHECK(submitted > 0 && submitted < CALLS);
        receive_all(pool, submitted);
    }
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    printf("many: %d checks of calls that went together\n", checks);
    return 0;
}
