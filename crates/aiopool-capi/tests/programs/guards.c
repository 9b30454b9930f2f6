/* Functions that are new to a pool run alone, a pool that ends at a time whatever its host does, and
 * a lock that is free when no process of the pool is left. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <fcntl.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* Says that it has begun, and waits until it is cancelled. */
static int32_t wait(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)input, (void)len, (void)output, (void)user;
    return aiopool_task_progress(task, 1) == AIOPOOL_OK ? AIOPOOL_PENDING : -1;
}

static aiopool_pool *pool;
static uint32_t waits;

static uint64_t submit(void) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    uint64_t ticket;
    call.function = waits;
    call.flags = AIOPOOL_CALL_BY_TICKET;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket) == AIOPOOL_OK);
    return ticket;
}

static void begins(uint64_t ticket) {
    uint64_t progress;
    while (aiopool_pool_progress(pool, ticket, &progress) != AIOPOOL_OK) usleep(1000);
}

static void ends(uint64_t ticket, aiopool_kind kind, const char *text) {
    aiopool_outcome *outcome;
    CHECK(aiopool_pool_wait_ticket(pool, ticket, 60000, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == kind);
    CHECK(strstr(aiopool_outcome_text(outcome), text) != NULL);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

static uint64_t now_ns(void) {
    struct timespec now;
    CHECK(clock_gettime(CLOCK_BOOTTIME, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static const uint64_t SECOND = 1000000000;

static void free_pool(void) { CHECK(aiopool_pool_free(pool) == AIOPOOL_OK); }

int main(void) {
    aiopool_pool_options options;
    aiopool_outcome *outcome;
    uint64_t first, second, progress;
    char path[64];
    int held, other;
    CHECK(aiopool_function_register("wait", wait, NULL, &waits) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 1;

    /* Two share the worker, unless their function has still to prove itself. */
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    first = submit();
    second = submit();
    begins(first);
    begins(second);
    CHECK(aiopool_pool_extend_deadline(pool, now_ns() + SECOND) == AIOPOOL_ERR_MISUSE);
    CHECK(strstr(aiopool_last_error(), "deadline_ns") != NULL);
    free_pool();
    options.probation = 10;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    first = submit();
    begins(first);
    second = submit();
    CHECK(aiopool_pool_wait_ticket(pool, second, 100, &outcome) == AIOPOOL_ERR_TIMEOUT);
    CHECK(aiopool_pool_progress(pool, second, &progress) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_pool_cancel(pool, first) == AIOPOOL_OK);
    ends(first, AIOPOOL_OUTCOME_CANCELLED, "");
    begins(second);
    free_pool();
    options.probation = 0;

    /* The end comes at its time, and was moved in between. */
    options.deadline_ns = now_ns() + 600 * SECOND;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    first = submit();
    begins(first);
    CHECK(aiopool_pool_extend_deadline(NULL, 1) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_extend_deadline(pool, 0) == AIOPOOL_ERR_INVALID);
    CHECK(aiopool_pool_extend_deadline(pool, now_ns() + 1200 * SECOND) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait_ticket(pool, first, 50, &outcome) == AIOPOOL_ERR_TIMEOUT);
    CHECK(aiopool_pool_extend_deadline(pool, now_ns() + SECOND / 10) == AIOPOOL_OK);
    ends(first, AIOPOOL_OUTCOME_POOL_CLOSED, "deadline");
    CHECK(aiopool_pool_extend_deadline(pool, now_ns() + SECOND) == AIOPOOL_OK);
    free_pool();
    CHECK(aiopool_pool_extend_deadline(pool, now_ns() + SECOND) == AIOPOOL_ERR_HANDLE);
    options.deadline_ns = 0;

    /* A lock is held as long as there is a process of the pool. */
    snprintf(path, sizeof path, "/tmp/capi-guards-%d", (int)getpid());
    held = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    other = open(path, O_RDWR | O_CLOEXEC);
    CHECK(held >= 0 && other >= 0 && unlink(path) == 0 && flock(held, LOCK_EX) == 0);
    options.held_fd = held;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    CHECK(strstr(aiopool_last_error(), "AIOPOOL_POOL_HOLD") != NULL);
    options.flags = AIOPOOL_POOL_HOLD;
    options.held_fd = -1;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_SYSTEM);
    options.held_fd = 1 << 20;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_SYSTEM);
    CHECK(strstr(aiopool_last_error(), "held_fd") != NULL);
    options.held_fd = held;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    begins(submit());
    CHECK(close(held) == 0);
    CHECK(flock(other, LOCK_EX | LOCK_NB) != 0);
    free_pool();
    CHECK(flock(other, LOCK_EX) == 0);
    options.reserved[3] = 1;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_STRUCT);
    printf("%d checks of guards\n", checks);
    return 0;
}
