/* Asynchronous tasks: one worker keeps 200 of them in flight, with timers and a pipe each.
 * Build: see README.md.
 */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

enum { COUNT = 200 };

struct state {
    aiopool_output *output;
    int pipe[2];
    uint64_t x;
    int turns;
};

static void end(aiopool_task *task, struct state *state, int32_t result) {
    close(state->pipe[0]);
    close(state->pipe[1]);
    free(state);
    aiopool_task_complete(task, result);
}

/* 3: it was put off some times, so that others had their turn; done. */
static void deferred(aiopool_task *task, uint32_t events, void *data) {
    struct state *state = data;
    (void)events;
    if (--state->turns > 0) {
        aiopool_task_defer(task, deferred, state);
        return;
    }
    aiopool_output_write(state->output, &state->x, sizeof state->x);
    end(task, state, 0);
}

/* 2: the pipe can be read. */
static void readable(aiopool_task *task, uint32_t events, void *data) {
    struct state *state = data;
    (void)events;
    if (read(state->pipe[0], &state->x, sizeof state->x) != sizeof state->x) {
        aiopool_task_set_error(task, "the pipe was cut off");
        end(task, state, -1);
        return;
    }
    aiopool_task_defer(task, deferred, state);
}

/* 1: 50 milliseconds are over; something is written to the pipe, that is read when it is there. */
static void slept(aiopool_task *task, uint32_t events, void *data) {
    struct state *state = data;
    uint64_t doubled = state->x * 2;
    (void)events;
    aiopool_task_watch_fd(task, state->pipe[0], AIOPOOL_EVENT_READABLE, readable, state);
    if (write(state->pipe[1], &doubled, sizeof doubled) != sizeof doubled) perror("write");
}

static void cancelled(aiopool_task *task, uint32_t events, void *data) {
    struct state *state = data;
    (void)task, (void)events;
    close(state->pipe[0]);
    close(state->pipe[1]);
    free(state);
}

static int32_t work(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    struct state *state = calloc(1, sizeof *state);
    (void)user;
    if (state == NULL || pipe(state->pipe) != 0) {
        free(state);
        aiopool_task_set_error(task, "no memory or no pipe");
        return -1;
    }
    memcpy(&state->x, input, len < sizeof state->x ? len : sizeof state->x);
    state->output = output;
    state->turns = 3;
    aiopool_task_on_cancel(task, cancelled, state);
    aiopool_task_sleep(task, state->x == UINT64_MAX ? 3600000 : 50, slept, state);
    return AIOPOOL_PENDING;
}

int main(void) {
    uint32_t function;
    aiopool_pool *pool;
    aiopool_pool_options options;
    aiopool_call call;
    aiopool_outcome *outcome;
    uint64_t sum = 0, x, endless = UINT64_MAX, ticket;
    struct timespec begin, now;

    check(aiopool_function_register("work", work, NULL, &function), "register");
    check(aiopool_init(), "init");
    check(aiopool_pool_options_init(&options), "options");
    options.processes = 1;
    options.child_concurrency = COUNT + 1;
    check(aiopool_pool_start(&options, &pool), "start");
    check(aiopool_call_init(&call), "call");
    call.function = function;
    call.input_len = sizeof x;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    call.input = &endless;
    check(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket), "submit");
    call.input = &x;
    for (x = 0; x < COUNT; x++) {
        check(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL), "submit");
    }
    for (int i = 0; i < COUNT; i++) {
        check(aiopool_pool_wait(pool, 60000, &outcome), "wait");
        if (aiopool_outcome_kind(outcome) != AIOPOOL_OUTCOME_OK) {
            fprintf(stderr, "task: %s\n", aiopool_outcome_text(outcome));
            return 1;
        }
        memcpy(&x, aiopool_outcome_data(outcome), sizeof x);
        sum += x;
        check(aiopool_outcome_release(outcome), "release");
    }
    clock_gettime(CLOCK_MONOTONIC, &now);

    /* The one that sleeps for an hour is cancelled. */
    check(aiopool_pool_cancel(pool, ticket), "cancel");
    check(aiopool_pool_wait_ticket(pool, ticket, 60000, &outcome), "wait for the cancelled one");
    printf("async: %d tasks in one worker, sum %llu; %s\n", COUNT, (unsigned long long)sum,
           aiopool_outcome_text(outcome));
    fprintf(stderr, "%ld ms\n", (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000);
    check(aiopool_outcome_release(outcome), "release");
    check(aiopool_pool_close(pool), "close");
    check(aiopool_pool_join(pool, 60000), "join");
    check(aiopool_pool_free(pool), "free");
    return 0;
}
