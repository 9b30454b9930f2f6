/* 1,000,000 tasks through epoll, every answer checked, and how fast that was.
 * Build: see README.md. Run: million [tasks] [workers]
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64 };

static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    return x;
}

static int32_t mix_task(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                        void *user) {
    uint64_t x;
    (void)user;
    if (len != sizeof x) {
        aiopool_task_set_error(task, "a number of 8 bytes is expected");
        return -1;
    }
    memcpy(&x, input, sizeof x);
    x = mix(x);
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Submits up to BATCH tasks from `next` on; gives how many there was room for. */
static uint64_t submit(aiopool_pool *pool, uint32_t function, uint64_t next, uint64_t total) {
    static uint64_t inputs[BATCH];
    aiopool_call calls[BATCH];
    size_t count = 0, submitted;
    aiopool_status status;
    while (count < BATCH && next + count < total) {
        aiopool_call *call = &calls[count];
        memset(call, 0, sizeof *call);
        call->struct_size = sizeof *call;
        call->function = function;
        inputs[count] = next + count;
        call->input = &inputs[count];
        call->input_len = sizeof inputs[count];
        call->user_data = next + count;
        count++;
    }
    if (count == 0) return 0;
    status = aiopool_pool_submit_many(pool, calls, count, 0, NULL, &submitted);
    if (status != AIOPOOL_ERR_TIMEOUT && status != AIOPOOL_ERR_FULL) check(status, "submit");
    return submitted;
}

int main(int argc, char **argv) {
    uint64_t total = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    uint64_t submitted = 0, received = 0;
    unsigned char *seen = calloc(total, 1);
    struct epoll_event event = {.events = EPOLLIN};
    aiopool_pool_options options;
    aiopool_pool *pool;
    aiopool_outcome *outcome;
    uint32_t function;
    int fd, loop;
    double begin, end;

    if (seen == NULL) return 1;
    check(aiopool_function_register("mix", mix_task, NULL, &function), "register");
    check(aiopool_init(), "init");
    check(aiopool_pool_options_init(&options), "options");
    if (argc > 2) options.processes = (uint32_t)strtoul(argv[2], NULL, 10);
    check(aiopool_pool_start(&options, &pool), "start");
    check(aiopool_pool_fd(pool, &fd), "fd");
    loop = epoll_create1(EPOLL_CLOEXEC);
    if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) != 0) {
        perror("epoll");
        return 1;
    }

    begin = seconds();
    while (received < total) {
        aiopool_status status;
        uint64_t more = 1;
        while (submitted - received < 2048 && more > 0) {
            more = submit(pool, function, submitted, total);
            submitted += more;
        }
        if (epoll_wait(loop, &event, 1, 60000) != 1) {
            fprintf(stderr, "nothing came for a minute: %llu of %llu are here\n",
                    (unsigned long long)received, (unsigned long long)submitted);
            return 1;
        }
        while ((status = aiopool_pool_try_wait(pool, &outcome)) == AIOPOOL_OK) {
            uint64_t x = aiopool_outcome_user_data(outcome), answer;
            if (aiopool_outcome_kind(outcome) != AIOPOOL_OUTCOME_OK) {
                fprintf(stderr, "task %llu: %s\n", (unsigned long long)x,
                        aiopool_outcome_text(outcome));
                return 1;
            }
            memcpy(&answer, aiopool_outcome_data(outcome), sizeof answer);
            if (answer != mix(x) || seen[x]++) {
                fprintf(stderr, "the answer to %llu is wrong or came twice\n",
                        (unsigned long long)x);
                return 1;
            }
            received++;
            check(aiopool_outcome_release(outcome), "release");
        }
        if (status != AIOPOOL_ERR_EMPTY) check(status, "peek");
    }
    end = seconds();
    fprintf(stderr, "%.0f tasks a second\n", (double)total / (end - begin));

    /* One at a time: the round trip. */
    begin = seconds();
    for (uint64_t i = 0; i < 10000; i++) {
        aiopool_call call;
        uint64_t ticket;
        check(aiopool_call_init(&call), "call");
        call.function = function;
        call.input = &i;
        call.input_len = sizeof i;
        call.flags = AIOPOOL_CALL_BY_TICKET;
        check(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket), "submit");
        check(aiopool_pool_wait_ticket(pool, ticket, 60000, &outcome), "wait");
        check(aiopool_outcome_release(outcome), "release");
    }
    end = seconds();
    fprintf(stderr, "%.1f microseconds a round trip\n", (end - begin) * 1e6 / 10000);

    close(loop);
    check(aiopool_pool_free(pool), "free");
    printf("million: %llu tasks, every answer right\n", (unsigned long long)received);
    free(seen);
    return 0;
}
