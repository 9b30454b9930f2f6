/* Maps a C function over 1,000 inputs in forked worker processes.
 * Build: see README.md.
 */
#include "check.h"

#include <string.h>

enum { COUNT = 1000 };

static int32_t square(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    uint64_t x;
    (void)user;
    if (len != sizeof x) {
        aiopool_task_set_error(task, "a number of 8 bytes is expected");
        return -1;
    }
    memcpy(&x, input, sizeof x);
    x *= x;
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

int main(void) {
    static uint64_t squares[COUNT];
    uint32_t function;
    aiopool_pool *pool;
    aiopool_pool_options options;
    uint64_t sum = 0;

    check(aiopool_function_register("square", square, NULL, &function), "register");
    check(aiopool_init(), "init");

    check(aiopool_pool_options_init(&options), "options");
    options.processes = 4;
    check(aiopool_pool_start(&options, &pool), "start");

    for (uint64_t i = 0; i < COUNT; i++) {
        aiopool_call call;
        check(aiopool_call_init(&call), "call");
        call.function = function;
        call.input = &i;
        call.input_len = sizeof i;
        call.user_data = i;
        check(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL), "submit");
    }
    for (int i = 0; i < COUNT; i++) {
        aiopool_outcome *outcome;
        check(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome), "wait");
        if (aiopool_outcome_kind(outcome) != AIOPOOL_OUTCOME_OK) {
            fprintf(stderr, "task: %s\n", aiopool_outcome_text(outcome));
            return 1;
        }
        memcpy(&squares[aiopool_outcome_user_data(outcome)], aiopool_outcome_data(outcome),
               aiopool_outcome_len(outcome));
        check(aiopool_outcome_release(outcome), "release");
    }
    check(aiopool_pool_close(pool), "close");
    check(aiopool_pool_join(pool, AIOPOOL_FOREVER), "join");
    check(aiopool_pool_free(pool), "free");

    for (uint64_t i = 0; i < COUNT; i++) {
        if (squares[i] != i * i) {
            fprintf(stderr, "%llu squared is not %llu\n", (unsigned long long)i,
                    (unsigned long long)squares[i]);
            return 1;
        }
        sum += squares[i];
    }
    printf("map: %d squares, sum %llu\n", COUNT, (unsigned long long)sum);
    return 0;
}
