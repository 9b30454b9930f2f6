/* Loans both ways: where inputs and outputs are, how long, and what happens when all is borrowed.
 * Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"
#include "mapping.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

/* Whether the input is read where the host has written it. */
static int32_t where(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    unsigned char there = (unsigned char)lies_in(input, "memfd:aiopool-requests");
    (void)task, (void)len, (void)user;
    aiopool_output_write(output, &there, 1);
    return 0;
}

struct order {
    size_t len, trimmed;
    unsigned char byte, how;
};

enum { IN_PLACE, COPIED, FAILING, CRASHING, PENDING, TIMED };
/* Whether an outcome is borrowed does not matter. */
enum { ANYWHERE = 2 };

static void awake(aiopool_task *task, uint32_t events, void *data) {
    (void)events, (void)data;
    aiopool_task_complete(task, 0);
}

/* Gives `len` times `byte`. */
static int32_t fill(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    struct order order;
    void *place;
    aiopool_status status;
    (void)user, (void)len;
    memcpy(&order, input, sizeof order);
    status = order.how == COPIED ? aiopool_output_reserve(output, order.len, &place)
                                 : aiopool_output_loan(output, order.len, &place);
    if (status != AIOPOOL_OK) {
        aiopool_task_set_error(task, aiopool_last_error());
        return status;
    }
    memset(place, order.byte, order.len);
    if (order.how == CRASHING) raise(SIGKILL);
    if (order.how == FAILING) return -1;
    if (order.trimmed > 0) status = aiopool_output_trim(output, order.trimmed);
    if (order.how == PENDING) {
        aiopool_task_sleep(task, 3600000, awake, NULL);
        return AIOPOOL_PENDING;
    }
    if (order.how == TIMED) {
        aiopool_task_sleep(task, 20, awake, NULL);
        return AIOPOOL_PENDING;
    }
    return status;
}

/* What the calls say that are wrong. */
static int32_t wrong(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    int32_t said[9];
    void *place;
    (void)task, (void)input, (void)len, (void)user;
    said[0] = aiopool_output_loan(NULL, 1, &place);
    said[1] = aiopool_output_loan(output, 1, NULL);
    said[2] = aiopool_output_loan(output, 0, &place);
    said[3] = aiopool_output_loan(output, SIZE_MAX, &place);
    said[4] = aiopool_output_reserve(output, SIZE_MAX / 4, &place);
    said[5] = aiopool_output_trim(output, 1);
    said[6] = aiopool_output_loan(output, sizeof said, &place);
    said[7] = aiopool_output_write(output, said, sizeof said);
    said[8] = aiopool_output_loan(output, 1, &place);
    if (aiopool_output_trim(output, sizeof said + 1) != AIOPOOL_ERR_INVALID) return -1;
    memcpy(place, said, sizeof said);
    return 0;
}

static int messages;

static void count_message(uint32_t level, const char *text, void *user) {
    if (level <= AIOPOOL_LOG_WARN && strlen(text) > 10) {
        __atomic_fetch_add((int *)user, 1, __ATOMIC_SEQ_CST);
    }
}

static aiopool_pool *pool;
static uint32_t functions[3];

static uint64_t submit(uint32_t function, const void *input, size_t len, uint32_t flags) {
    uint64_t ticket;
    aiopool_call call;
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.function = function;
    call.input = input;
    call.input_len = len;
    call.flags = flags;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket) == AIOPOOL_OK);
    return ticket;
}

static uint64_t order(size_t len, size_t trimmed, int byte, int how, uint32_t flags) {
    struct order order;
    memset(&order, 0, sizeof order);
    order.len = len, order.trimmed = trimmed;
    order.byte = (unsigned char)byte, order.how = (unsigned char)how;
    return submit(functions[1], &order, sizeof order, flags);
}

static aiopool_outcome *next(void) {
    aiopool_outcome *outcome;
    CHECK(aiopool_pool_wait(pool, 60000, &outcome) == AIOPOOL_OK);
    return outcome;
}

/* An outcome of `len` times `byte`, which lies in the worker's memory or not. */
static void is_filled(aiopool_outcome *outcome, size_t len, int byte, int borrowed) {
    const unsigned char *data = aiopool_outcome_data(outcome);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_len(outcome) == len);
    CHECK(borrowed == ANYWHERE || lies_in(data, "memfd:aiopool-results") == borrowed);
    CHECK(data[0] == byte && memcmp(data, data + 1, len - 1) == 0);
}

static void release(aiopool_outcome *outcome) {
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

int main(void) {
    aiopool_pool_options options;
    aiopool_outcome *outcome, *kept[2];
    aiopool_stats stats = {.struct_size = sizeof stats};
    const uint32_t borrow = AIOPOOL_CALL_BORROW_OUTPUT;
    int32_t said[9];
    static char large[1000];
    uint64_t ticket;

    CHECK(aiopool_function_register("where", where, NULL, &functions[0]) == AIOPOOL_OK);
    CHECK(aiopool_function_register("fill", fill, NULL, &functions[1]) == AIOPOOL_OK);
    CHECK(aiopool_function_register("wrong", wrong, NULL, &functions[2]) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 1;
    options.max_payload = MIB;
    options.output_arena = 2 * MIB;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);

    /* A large input is read in place, a small one is not. */
    submit(functions[0], large, sizeof large, 0);
    outcome = next();
    CHECK(*(const char *)aiopool_outcome_data(outcome) == 1);
    release(outcome);
    submit(functions[0], large, 8, 0);
    outcome = next();
    CHECK(*(const char *)aiopool_outcome_data(outcome) == 0);
    release(outcome);

    /* Outputs: filled in place or not, borrowed or not, large or not. */
    for (int how = IN_PLACE; how <= COPIED; how++) {
        order(MIB / 2, 0, 7, how, borrow);
        is_filled(outcome = next(), MIB / 2, 7, 1);
        release(outcome);
        order(MIB / 2, 0, 8, how, 0);
        is_filled(outcome = next(), MIB / 2, 8, 0);
        release(outcome);
        order(40, 0, 9, how, how == COPIED ? borrow : 0);
        is_filled(outcome = next(), 40, 9, 0);
        release(outcome);
    }
    order(MIB / 2, 1000, 7, IN_PLACE, borrow);
    is_filled(outcome = next(), 1000, 7, 1);
    release(outcome);

    submit(functions[2], NULL, 0, 0);
    outcome = next();
    CHECK(aiopool_outcome_len(outcome) == sizeof said);
    memcpy(said, aiopool_outcome_data(outcome), sizeof said);
    release(outcome);
    CHECK(said[0] == AIOPOOL_ERR_NULL && said[1] == AIOPOOL_ERR_NULL);
    CHECK(said[2] == AIOPOOL_ERR_INVALID && said[3] == AIOPOOL_ERR_TOO_LARGE);
    CHECK(said[4] == AIOPOOL_ERR_SYSTEM && said[5] == AIOPOOL_ERR_MISUSE);
    CHECK(said[6] == AIOPOOL_OK && said[7] == AIOPOOL_ERR_MISUSE && said[8] == AIOPOOL_ERR_MISUSE);

    /* Half of the memory can be borrowed: what comes then is copied, and finds room. */
    order(MIB, 0, 1, COPIED, borrow);
    is_filled(kept[0] = next(), MIB, 1, 1);
    for (int i = 2; i < 5; i++) {
        order(MIB, 0, i, i % 2 == 0 ? COPIED : IN_PLACE, borrow);
        is_filled(outcome = next(), MIB, i, 0);
        release(outcome);
    }
    is_filled(kept[0], MIB, 1, 1);
    release(kept[0]);
    order(MIB, 0, 4, IN_PLACE, borrow);
    is_filled(outcome = next(), MIB, 4, 1);
    release(outcome);

    /* More outputs than there is room for: each waits for its turn, in whatever order. */
    for (int i = 0; i < 6; i++) order(MIB, 0, i + 1, COPIED, borrow);
    for (int i = 0, seen = 0; i < 6; i++) {
        outcome = next();
        CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
        is_filled(outcome, MIB, *(const unsigned char *)aiopool_outcome_data(outcome), ANYWHERE);
        CHECK((seen & 1 << *(const unsigned char *)aiopool_outcome_data(outcome)) == 0);
        seen |= 1 << *(const unsigned char *)aiopool_outcome_data(outcome);
        release(outcome);
    }

    /* Loans that lie scattered: an output that finds no room between them is an error, no hang. */
    for (int tries = 0, found = 0; !found; tries++) {
        aiopool_outcome *scattered[8];
        CHECK(tries < 100);
        for (int i = 0; i < 8; i++) order(MIB / 4, 0, 1, TIMED, i % 2 == 0 ? borrow : 0);
        for (int i = 0; i < 8; i++) {
            scattered[i] = next();
            CHECK(aiopool_outcome_kind(scattered[i]) == AIOPOOL_OUTCOME_OK);
        }
        order(MIB, 0, 3, COPIED, 0);
        outcome = next();
        if (aiopool_outcome_kind(outcome) != AIOPOOL_OUTCOME_OK) {
            found = 1;
            CHECK(aiopool_outcome_error(outcome) == AIOPOOL_ERR_OUTPUT_SPACE);
            CHECK(strstr(aiopool_outcome_text(outcome), "borrowed") != NULL);
            release(outcome);
            order(MIB, 0, 3, IN_PLACE, 0);
            outcome = next();
            CHECK(aiopool_outcome_code(outcome) == AIOPOOL_ERR_FULL);
        }
        release(outcome);
        for (int i = 0; i < 8; i++) release(scattered[i]);
    }

    /* Memory of tasks that end otherwise goes back. */
    for (int i = 0; i < 20; i++) {
        order(MIB, 0, i, FAILING, borrow);
        outcome = next();
        CHECK(aiopool_outcome_code(outcome) == -1);
        release(outcome);
        ticket = order(MIB, 0, i, PENDING, borrow);
        do {
            CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK);
        } while (stats.running == 0);
        CHECK(aiopool_pool_cancel(pool, ticket) == AIOPOOL_OK);
        outcome = next();
        CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_CANCELLED);
        release(outcome);
    }

    /* A worker that dies leaves what is borrowed of it, and the next one has memory of its own. */
    order(MIB, 0, 5, IN_PLACE, borrow);
    is_filled(kept[0] = next(), MIB, 5, 1);
    CHECK(aiopool_log_set(AIOPOOL_LOG_WARN, count_message, &messages) == AIOPOOL_OK);
    order(MIB, 0, 6, CRASHING, borrow);
    outcome = next();
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_WORKER_LOST);
    release(outcome);
    /* Another thread notifies the listener, perhaps after the outcome has come. */
    for (int i = 0; i < 60000 && __atomic_load_n(&messages, __ATOMIC_SEQ_CST) == 0; i++) {
        usleep(1000);
    }
    CHECK(__atomic_load_n(&messages, __ATOMIC_SEQ_CST) >= 1);
    CHECK(aiopool_log_set(AIOPOOL_LOG_WARN, NULL, NULL) == AIOPOOL_OK);
    for (int i = 0; i < 2; i++) {
        order(MIB, 0, i + 6, IN_PLACE, borrow);
        kept[1] = next();
        is_filled(kept[1], MIB, i + 6, 1);
        is_filled(kept[0], MIB, 5, 1);
        release(kept[1]);
    }

    /* Borrowed is borrowed, also beyond the pool's end. */
    order(MIB, 0, 1, IN_PLACE, borrow);
    kept[1] = next();
    CHECK(aiopool_pool_terminate(pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_join(pool, 60000) == AIOPOOL_OK);
    is_filled(kept[0], MIB, 5, 1);
    is_filled(kept[1], MIB, 1, 1);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    is_filled(kept[0], MIB, 5, 1);
    is_filled(kept[1], MIB, 1, 1);
    release(kept[0]);
    release(kept[1]);
    printf("%d checks of loans\n", checks);
    return 0;
}
