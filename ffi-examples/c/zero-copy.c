/* Large inputs without a copy: they are written where the workers read them.
 * Build: see README.md.
 */
#include "check.h"

#include <string.h>

enum { COUNT = 8, SIZE = 4 << 20 };

/* Adds the bytes up. */
static int32_t add(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    const unsigned char *bytes = input;
    uint64_t sum = 0;
    void *place;
    (void)task, (void)user;
    for (size_t i = 0; i < len; i++) sum += bytes[i];
    if (aiopool_output_reserve(output, sizeof sum, &place) != AIOPOOL_OK) return -1;
    memcpy(place, &sum, sizeof sum);
    return 0;
}

int main(void) {
    uint32_t function;
    aiopool_pool *pool;
    aiopool_pool_options options;
    uint64_t total = 0;

    check(aiopool_function_register("add", add, NULL, &function), "register");
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
        check(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL), "submit");
    }
    for (int i = 0; i < COUNT; i++) {
        aiopool_outcome *outcome;
        uint64_t sum;
        check(aiopool_pool_wait(pool, 60000, &outcome), "wait");
        if (aiopool_outcome_status(outcome) != AIOPOOL_OUTCOME_OK) {
            fprintf(stderr, "task: %s\n", aiopool_outcome_text(outcome));
            return 1;
        }
        memcpy(&sum, aiopool_outcome_data(outcome), sizeof sum);
        total += sum;
        check(aiopool_outcome_release(outcome), "release");
    }
    check(aiopool_pool_free(pool), "free");
    printf("zero-copy: %d inputs of %d MiB, sum %llu\n", COUNT, SIZE >> 20,
           (unsigned long long)total);
    return total == (uint64_t)SIZE * 36 ? 0 : 1;
}
