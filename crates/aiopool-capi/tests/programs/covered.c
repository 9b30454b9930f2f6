/* Tasks whose coverage is to be found when the pool has ended: compiled with the compiler's
 * instruments. The first argument says how the pool ends. Prints what the tasks gave.
 */
#include <aiopool.h>
#include <stdio.h>
#include <string.h>

static int32_t only_in_workers(aiopool_task *task, const void *input, size_t len,
                               aiopool_output *output, void *user) {
    int32_t sum = 0;
    (void)task, (void)input, (void)user;
    for (size_t i = 0; i < len; i++) sum += (int32_t)i;
    return aiopool_output_write(output, &sum, sizeof sum) == AIOPOOL_OK ? 0 : -1;
}

int main(int argc, char **argv) {
    static const char input[10] = {0};
    aiopool_pool_options options;
    aiopool_outcome *outcome;
    aiopool_pool *pool;
    aiopool_call call;
    int32_t sum;

    if (aiopool_call_init(&call) != AIOPOOL_OK || aiopool_pool_options_init(&options) != AIOPOOL_OK ||
        aiopool_function_register("only_in_workers", only_in_workers, NULL, &call.function) !=
            AIOPOOL_OK ||
        aiopool_init() != AIOPOOL_OK)
        return 2;
    options.processes = 1;
    options.grace_ms = 60000;
    call.input = input;
    call.input_len = sizeof input;
    if (aiopool_pool_start(&options, &pool) != AIOPOOL_OK ||
        aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) != AIOPOOL_OK ||
        aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) != AIOPOOL_OK)
        return 3;
    memcpy(&sum, aiopool_outcome_data(outcome), sizeof sum);
    aiopool_outcome_release(outcome);
    if (argc > 1 && strcmp(argv[1], "join") == 0)
        if (aiopool_pool_close(pool) != AIOPOOL_OK ||
            aiopool_pool_join(pool, AIOPOOL_FOREVER) != AIOPOOL_OK)
            return 4;
    if (aiopool_pool_free(pool) != AIOPOOL_OK) return 5;
    printf("covered: %d\n", (int)sum);
    return 0;
}
