/* Inputs and outputs of every length lie at multiples of 16, where a cast to any C type is sound:
 * small ones in a record or a handle, larger ones on the heap or in an arena. Prints how many
 * checks were made.
 */
#include "check.h"

#include <stdint.h>
#include <string.h>

enum { ALIGNMENT = 16, LENGTHS = 300 };

/* Gives as many bytes as it was given; the first says whether the input was aligned. */
static int32_t echo(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    void *place;
    (void)task, (void)user;
    if (aiopool_output_reserve(output, len, &place) != AIOPOOL_OK) return -1;
    memset(place, (uintptr_t)input % ALIGNMENT == 0, len);
    return 0;
}

static void check_length(aiopool_pool *pool, uint32_t function, uint32_t flags, size_t len) {
    static const unsigned char zeros[1 << 16];
    aiopool_call call;
    aiopool_outcome *outcome;
    const unsigned char *data;
    aiopool_call_init(&call);
    call.function = function;
    call.flags = flags;
    call.input = zeros + len % 7;
    call.input_len = len;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_len(outcome) == len);
    data = aiopool_outcome_data(outcome);
    CHECK(data != NULL);
    CHECK((uintptr_t)data % ALIGNMENT == 0);
    if (len > 0) CHECK(data[0] == 1 && data[len - 1] == 1);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

int main(void) {
    aiopool_pool_options options;
    aiopool_pool *pool;
    uint32_t function;
    size_t len;
    CHECK(aiopool_function_register("echo", echo, NULL, &function) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    aiopool_pool_options_init(&options);
    options.processes = 1;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    for (len = 0; len < LENGTHS; len++) check_length(pool, function, 0, len);
    for (len = 1000; len < 60000; len += 8191) {
        check_length(pool, function, 0, len);
        check_length(pool, function, AIOPOOL_CALL_BORROW_OUTPUT, len);
    }
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    printf("alignment: %d checks of addresses\n", checks);
    return 0;
}
