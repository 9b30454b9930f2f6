/* What aiopool_shutdown promises: it refuses while something of a pool is there, leaves no child,
 * thread or descriptor, and the library can be used again. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 3 };

static uint64_t base;

static int32_t add(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    uint64_t number = *(const uint64_t *)input + base;
    (void)task, (void)len, (void)user;
    return aiopool_output_write(output, &number, sizeof number);
}

static int count_in(const char *folder) {
    DIR *list = opendir(folder);
    int count = 0;
    CHECK(list != NULL);
    while (readdir(list) != NULL) count++;
    closedir(list);
    return count;
}

/* Children of this process, those that no ordinary wait sees among them. */
static int has_children(void) {
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 || errno != ECHILD;
}

static aiopool_pool *start(void) {
    aiopool_pool_options options;
    aiopool_pool *pool;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 1;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    return pool;
}

static aiopool_outcome *run(aiopool_pool *pool, uint32_t function, uint64_t number) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome;
    call.function = function;
    call.input = &number;
    call.input_len = sizeof number;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    return outcome;
}

static int32_t from_a_task(aiopool_task *task, const void *input, size_t len,
                           aiopool_output *output, void *user) {
    int32_t status = aiopool_shutdown();
    (void)task, (void)input, (void)len, (void)user;
    return aiopool_output_write(output, &status, sizeof status);
}

int main(void) {
    int descriptors = count_in("/proc/self/fd");
    uint32_t function, task_function;
    aiopool_pool *pool;
    aiopool_outcome *outcome;

    /* Before anything, there is nothing to end. */
    CHECK(!has_children() && aiopool_shutdown() == AIOPOOL_OK);
    CHECK(aiopool_function_register("add", add, NULL, &function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("task", from_a_task, NULL, &task_function) == AIOPOOL_OK);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        /* Workers have the memory of the last init. */
        base = 100 * round;
        CHECK(aiopool_pool_start(NULL, &pool) == AIOPOOL_ERR_TOO_EARLY);
        CHECK(aiopool_init() == AIOPOOL_OK && has_children());
        pool = start();
        CHECK(aiopool_shutdown() == AIOPOOL_ERR_BUSY);
        CHECK(strstr(aiopool_last_error(), "not freed") != NULL);
        outcome = run(pool, task_function, 0);
        CHECK(*(const int32_t *)aiopool_outcome_data(outcome) == AIOPOOL_ERR_IN_WORKER);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
        outcome = run(pool, function, round);
        CHECK(*(const uint64_t *)aiopool_outcome_data(outcome) == 101 * round);
        CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
        /* An outcome that was copied is nothing of the pool's any more. */
        CHECK(aiopool_shutdown() == AIOPOOL_OK);
        CHECK(*(const uint64_t *)aiopool_outcome_data(outcome) == 101 * round);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
        CHECK(!has_children() && count_in("/proc/self/fd") == descriptors);
        /* A joined thread is in the list for a moment more. */
        for (int tries = 0; count_in("/proc/self/task") != 3; tries++) {
            CHECK(tries < 60000 && usleep(1000) == 0);
        }
        CHECK(aiopool_pool_free(pool) == AIOPOOL_ERR_HANDLE);
        CHECK(aiopool_shutdown() == AIOPOOL_OK);
    }
    printf("shutdown: %d checks of the end of the library\n", checks);
    return 0;
}
