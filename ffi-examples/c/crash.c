/* A task function that crashes takes its worker down, and nothing else.
 * Build: see README.md.
 */
#include "check.h"

#include <signal.h>
#include <string.h>

enum { COUNT = 100 };

static int32_t work(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    uint64_t x;
    (void)task, (void)user, (void)len;
    memcpy(&x, input, sizeof x);
    if (x % 20 == 7) raise(SIGSEGV);
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

int main(void) {
    uint32_t function;
    aiopool_pool *pool;
    aiopool_pool_options options;
    aiopool_stats stats = {.struct_size = sizeof stats};
    int ok = 0, lost = 0;

    check(aiopool_function_register("work", work, NULL, &function), "register");
    check(aiopool_init(), "init");
    check(aiopool_pool_options_init(&options), "options");
    options.processes = 2;
    options.child_concurrency = 1;
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
        check(aiopool_pool_wait(pool, 60000, &outcome), "wait");
        switch (aiopool_outcome_kind(outcome)) {
        case AIOPOOL_OUTCOME_OK:
            ok++;
            break;
        case AIOPOOL_OUTCOME_WORKER_LOST:
            if (aiopool_outcome_user_data(outcome) % 20 != 7) {
                fprintf(stderr, "a neighbour was lost: %s\n", aiopool_outcome_text(outcome));
                return 1;
            }
            fprintf(stderr, "%s\n", aiopool_outcome_text(outcome));
            lost++;
            break;
        default:
            fprintf(stderr, "task: %s\n", aiopool_outcome_text(outcome));
            return 1;
        }
        check(aiopool_outcome_release(outcome), "release");
    }
    check(aiopool_pool_stats(pool, &stats), "stats");
    check(aiopool_pool_free(pool), "free");
    printf("crash: %d done, %d lost with their workers, %s\n", ok, lost,
           stats.deaths == (uint64_t)lost ? "each replaced" : "the count of deaths is wrong");
    return 0;
}
