/* Submits and receives in one event loop: epoll on the pool's descriptor. How fast that was, and how
 * long one task alone takes there and back, goes to stderr.
 * Build: see README.md.
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { COUNT = 10000, IN_FLIGHT = 256, ALONE = 1000 };

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int32_t square(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    uint64_t x;
    (void)task, (void)user, (void)len;
    memcpy(&x, input, sizeof x);
    x *= x;
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

static void submit(aiopool_pool *pool, uint32_t function, uint64_t x) {
    aiopool_call call;
    check(aiopool_call_init(&call), "call");
    call.function = function;
    call.input = &x;
    call.input_len = sizeof x;
    call.user_data = x;
    check(aiopool_pool_try_submit(pool, &call, NULL), "submit");
}

int main(void) {
    uint32_t function;
    aiopool_pool *pool;
    uint64_t submitted = 0, received = 0, sum = 0, square_of;
    struct epoll_event event = {.events = EPOLLIN};
    double start, middle;
    int fd, loop;

    check(aiopool_function_register("square", square, NULL, &function), "register");
    check(aiopool_init(), "init");
    check(aiopool_pool_start(NULL, &pool), "start");
    check(aiopool_pool_fd(pool, &fd), "fd");
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) {
        perror("epoll");
        return 1;
    }

    start = seconds();
    while (submitted < IN_FLIGHT) submit(pool, function, submitted++);
    while (received < COUNT) {
        aiopool_outcome *outcome;
        aiopool_status status;
        if (epoll_wait(loop, &event, 1, 120000) != 1) {
            fprintf(stderr, "nothing came for two minutes\n");
            return 1;
        }
        /* Until there is none: then the descriptor is not readable any more. */
        while ((status = aiopool_pool_try_wait(pool, &outcome)) == AIOPOOL_OK) {
            if (aiopool_outcome_kind(outcome) != AIOPOOL_OUTCOME_OK) {
                fprintf(stderr, "task: %s\n", aiopool_outcome_text(outcome));
                return 1;
            }
            memcpy(&square_of, aiopool_outcome_data(outcome), sizeof square_of);
            sum += square_of;
            received++;
            check(aiopool_outcome_release(outcome), "release");
            if (submitted < COUNT) submit(pool, function, submitted++);
        }
        if (status != AIOPOOL_ERR_EMPTY) check(status, "peek");
    }
    middle = seconds();
    for (uint64_t x = 0; x < ALONE; x++) {
        aiopool_outcome *outcome;
        submit(pool, function, x);
        check(aiopool_pool_wait(pool, 60000, &outcome), "wait");
        check(aiopool_outcome_release(outcome), "release");
    }
    fprintf(stderr, "%.0f tasks a second\n%.1f microseconds a round trip\n",
            COUNT / (middle - start), (seconds() - middle) / ALONE * 1e6);
    close(loop);
    check(aiopool_pool_free(pool), "free");
    printf("loop: %d squares, sum %llu\n", COUNT, (unsigned long long)sum);
    return 0;
}
