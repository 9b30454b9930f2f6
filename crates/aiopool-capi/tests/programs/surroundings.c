/* What docs/c-api.md says of the process around a pool: a host that reaps its children itself,
 * descriptors over an exec, a pool that is freed in an atexit handler. Prints how many checks were
 * made, from that handler.
 */
#define _GNU_SOURCE
#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static aiopool_pool *pool;

static int32_t add_one(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                       void *user) {
    uint64_t number = *(const uint64_t *)input + 1;
    (void)task, (void)len, (void)user;
    return aiopool_output_write(output, &number, sizeof number);
}

static uint64_t run(uint32_t function, uint64_t number) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome;
    call.function = function;
    call.input = &number;
    call.input_len = sizeof number;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    number = *(const uint64_t *)aiopool_outcome_data(outcome);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    return number;
}

/* Descriptors above the standard ones that an exec would keep. */
static int kept_over_exec(void) {
    DIR *list = opendir("/proc/self/fd");
    struct dirent *entry;
    int kept = 0;
    CHECK(list != NULL);
    while ((entry = readdir(list)) != NULL) {
        int fd = atoi(entry->d_name);
        if (fd > 2 && fd != dirfd(list) && !(fcntl(fd, F_GETFD) & FD_CLOEXEC)) kept++;
    }
    closedir(list);
    return kept;
}

static void at_exit(void) {
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    printf("surroundings: %d checks of the process around a pool\n", checks);
}

int main(void) {
    uint32_t function;
    aiopool_pool_options options;
    int before = kept_over_exec();
    CHECK(aiopool_function_register("add one", add_one, NULL, &function) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    aiopool_pool_options_init(&options);
    options.processes = 2;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(kept_over_exec() == before);
    CHECK(run(function, 1) == 2);
    /* A host that has its children reaped at their death, or reaps all there are. */
    CHECK(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
    CHECK(run(function, 2) == 3);
    CHECK(signal(SIGCHLD, SIG_DFL) != SIG_ERR);
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    CHECK(run(function, 3) == 4);
    CHECK(atexit(at_exit) == 0);
    return 0;
}
