/* Large inputs and outputs without a copy: each is written where the other side reads it.
 * Build: see README.md.
 */
#include "check.h"

#include <string.h>

enum { COUNT = 8, SIZE = 4 << 20 };

/* Each byte's complement. The input is read where the host has written it, the output is written
 * where the host reads it. */
static int32_t invert(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    const unsigned char *from = input;
    unsigned char *to;
    void *place;
    (void)user;
    if (aiopool_output_loan(output, len, &place) != AIOPOOL_OK) {
        aiopool_task_set_error(task, aiopool_last_error());
        return -1;
    }
    to = place;
    for (size_t i = 0; i < len; i++) to[i] = (unsigned char)~from[i];
    return 0;
}

int main(void) {
    uint32_t function;
    aiopool_pool *pool;
    aiopool_pool_options options;
    uint64_t total = 0;

    check(aiopool_function_register("invert", invert, NULL, &function), "register");
    check(aiopool_init(), "init");
    check(aiopool_pool_options_init(&options), "options");
    options.processes = 2;
    check(aiopool_pool_start(&options, &pool), "start");
    for (int i = 0; i < COUNT; i++) {
        aiopool_call call;
        aiopool_loan *loan;
        void *place;
        check(aiopool_pool_loan(pool, SIZE, &place, &loan), "loan");
        memset(place, i + 1, SIZE);
        check(aiopool_call_init(&call), "call");
        call.function = function;
        call.loan = loan;
        call.flags = AIOPOOL_CALL_BORROW_OUTPUT;
        check(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL), "submit");
    }
    for (int i = 0; i < COUNT; i++) {
        aiopool_outcome *outcome;
        const unsigned char *bytes;
        check(aiopool_pool_wait(pool, 60000, &outcome), "wait");
        if (aiopool_outcome_kind(outcome) != AIOPOOL_OUTCOME_OK) {
            fprintf(stderr, "task: %s\n", aiopool_outcome_text(outcome));
            return 1;
        }
        /* Until the release these bytes are the worker's own. */
        bytes = aiopool_outcome_data(outcome);
        for (size_t at = 0; at < aiopool_outcome_len(outcome); at++) total += bytes[at];
        check(aiopool_outcome_release(outcome), "release");
    }
    check(aiopool_pool_free(pool), "free");
    printf("zero-copy: %d inputs and outputs of %d MiB, sum %llu\n", COUNT, SIZE >> 20,
           (unsigned long long)total);
    return total == (uint64_t)SIZE * (COUNT * 255 - 36) ? 0 : 1;
}
