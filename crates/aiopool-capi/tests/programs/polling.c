/* What the pool's descriptor promises: readable until a peek or wait finds nothing, and readable
 * again when there is something, however it is watched. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { ALONE = 2000, BESIDE = 300, ENDS = 20, FILLED = 1000, TOGETHER = 20000, LONG = 60000 };

static aiopool_pool *pool, *kept;
static uint32_t echo_function, slow_function, nap_function;
static int fd;

static int32_t echo(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)task, (void)user;
    aiopool_output_write(output, input, len);
    return 0;
}

static void over(aiopool_task *task, uint32_t events, void *data) {
    (void)events, (void)data;
    aiopool_task_complete(task, 0);
}

static int32_t slow(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)input, (void)len, (void)output, (void)user;
    aiopool_task_sleep(task, 3600000, over, NULL);
    return AIOPOOL_PENDING;
}

static int32_t nap(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    usleep(500);
    return 0;
}

static uint64_t submit(uint32_t function, uint64_t x, uint32_t flags) {
    uint64_t ticket;
    aiopool_call call;
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.function = function;
    call.input = &x;
    call.input_len = sizeof x;
    call.user_data = x;
    call.flags = flags;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket) == AIOPOOL_OK);
    return ticket;
}

static int completed;

static void note(aiopool_outcome *outcome, uint64_t user_data) {
    CHECK(user_data == 7);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    completed++;
}

static void wait_and_note(aiopool_outcome *outcome, uint64_t user_data) {
    CHECK(aiopool_pool_wait_idle(pool, LONG) == AIOPOOL_OK);
    note(outcome, user_data);
}

static int readable(int timeout) {
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    int ready = poll(&watched, 1, timeout);
    CHECK(ready >= 0);
    return ready == 1 && watched.revents == POLLIN;
}

static int peek(void) {
    aiopool_outcome *outcome;
    aiopool_status status = aiopool_pool_try_wait(pool, &outcome);
    if (status == AIOPOOL_ERR_EMPTY) return 0;
    CHECK(status == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    return 1;
}

/* Peeks until there is nothing; gives how many there were. */
static int drain(void) {
    int count = 0;
    while (peek()) count++;
    return count;
}

/* Whether there is nothing and it stays so. It may be readable once more than there was something:
 * by a worker that rings for what the host has taken already. */
static int silent(void) {
    for (int looks = 0; looks < 1000 && !peek(); looks++) {
        if (!readable(20)) return 1;
    }
    return 0;
}

/* Waits until `pending` tasks are without an outcome in the pool itself. */
static void until_pending(uint64_t pending) {
    aiopool_stats stats = {.struct_size = sizeof stats};
    do {
        CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK);
        usleep(1000);
    } while (stats.running + stats.queued > pending);
}

static int received;

static void *waiter(void *unused) {
    (void)unused;
    for (;;) {
        aiopool_outcome *outcomes[7];
        size_t count;
        aiopool_status status = aiopool_pool_wait_many(pool, outcomes, 7, 5, &count);
        if (status == AIOPOOL_ERR_CLOSED) return NULL;
        if (status == AIOPOOL_ERR_TIMEOUT) continue;
        CHECK(status == AIOPOOL_OK && count >= 1 && count <= 7);
        for (size_t i = 0; i < count; i++) {
            CHECK(aiopool_outcome_release(outcomes[i]) == AIOPOOL_OK);
        }
        __atomic_fetch_add(&received, (int)count, __ATOMIC_SEQ_CST);
    }
}

static void *ticket_waiter(void *ticket) {
    aiopool_outcome *outcome;
    CHECK(aiopool_pool_wait_ticket(pool, *(uint64_t *)ticket, AIOPOOL_FOREVER, &outcome) ==
          AIOPOOL_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    __atomic_fetch_add(&received, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *last_waiter(void *unused) {
    aiopool_outcome *outcome;
    (void)unused;
    CHECK(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_ERR_CLOSED);
    __atomic_fetch_add(&received, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void *closer(void *unused) {
    (void)unused;
    usleep(2000);
    CHECK(aiopool_pool_close(pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_join(pool, AIOPOOL_FOREVER) == AIOPOOL_OK);
    return NULL;
}

static void *late_submitter(void *unused) {
    (void)unused;
    usleep(1000);
    submit(echo_function, 1, 0);
    return NULL;
}

/* Submits more than the pool has room for, and drains it. */
static void *filler(void *unused) {
    aiopool_call call;
    (void)unused;
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.function = echo_function;
    for (int i = 0; i < FILLED;) {
        aiopool_status status = aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL);
        CHECK(status == AIOPOOL_OK || status == AIOPOOL_ERR_FULL);
        if (status == AIOPOOL_OK) i++;
        /* As many outcomes wait as the pool has room for tasks. */
        if (status == AIOPOOL_ERR_FULL) usleep(50);
    }
    CHECK(aiopool_pool_drain(pool, AIOPOOL_FOREVER) == AIOPOOL_OK);
    return NULL;
}

/* Polls and peeks as long as another thread waits, which the watchdog ends if that is for ever. */
static void beside(void) {
    while (__atomic_load_n(&received, __ATOMIC_SEQ_CST) == 0) {
        if (readable(1)) CHECK(drain() == 0);
    }
}

static void *mistaken(void *unused) {
    (void)unused;
    CHECK(*aiopool_last_error() == 0);
    CHECK(aiopool_pool_close(NULL) == AIOPOOL_ERR_NULL);
    CHECK(strstr(aiopool_last_error(), "pool is NULL") != NULL);
    return NULL;
}

static void *looker(void *unused) {
    (void)unused;
    while (__atomic_load_n(&received, __ATOMIC_SEQ_CST) < TOGETHER) {
        if (readable(5)) __atomic_fetch_add(&received, drain(), __ATOMIC_SEQ_CST);
    }
    return NULL;
}

int main(void) {
    struct epoll_event event = {.events = EPOLLIN}, edge = {.events = EPOLLIN | EPOLLET};
    int loop = epoll_create1(EPOLL_CLOEXEC), edges = epoll_create1(EPOLL_CLOEXEC), again, count;
    aiopool_outcome *outcome;
    aiopool_pool_options options;
    pthread_t threads[3];
    uint64_t ticket;

    CHECK(loop >= 0 && edges >= 0);
    CHECK(aiopool_function_register("echo", echo, NULL, &echo_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("slow", slow, NULL, &slow_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("nap", nap, NULL, &nap_function) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 2;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);

    /* A thread that waits before there is a task hears of its outcome. */
    for (int i = 0; i < ENDS; i++) {
        CHECK(pthread_create(&threads[0], NULL, late_submitter, NULL) == 0);
        CHECK(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
        CHECK(pthread_join(threads[0], NULL) == 0);
    }

    /* An outcome from before the descriptor was asked for is not missed. */
    submit(echo_function, 1, 0);
    until_pending(0);
    CHECK(aiopool_pool_fd(pool, &fd) == AIOPOOL_OK);
    CHECK(aiopool_pool_fd(pool, &again) == AIOPOOL_OK && again == fd);
    CHECK(readable(LONG) && drain() == 1);

    /* Nothing: not readable, under poll and both kinds of epoll. */
    CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0);
    CHECK(epoll_ctl(edges, EPOLL_CTL_ADD, fd, &edge) == 0);
    epoll_wait(edges, &edge, 1, 0);
    CHECK(silent() && epoll_wait(loop, &event, 1, 0) == 0);

    /* Two outcomes: readable until a look has found none, also between the two. */
    submit(echo_function, 1, 0);
    submit(echo_function, 2, 0);
    CHECK(readable(LONG) && epoll_wait(loop, &event, 1, LONG) == 1);
    until_pending(0);
    CHECK(peek() && readable(0) && epoll_wait(loop, &event, 1, 0) == 1);
    CHECK(peek() && readable(0));
    CHECK(silent() && epoll_wait(loop, &event, 1, 0) == 0);

    /* An edge for each time that there is something after nothing. */
    while (epoll_wait(edges, &edge, 1, 0) == 1) {
    }
    for (int i = 0; i < 100; i++) {
        submit(echo_function, (uint64_t)i, 0);
        for (count = 0; count == 0; count = drain()) {
            CHECK(epoll_wait(edges, &edge, 1, LONG) == 1);
        }
        CHECK(count == 1);
    }

    /* One task at a time: no wake-up is lost. */
    for (int i = 0; i < ALONE; i++) {
        submit(echo_function, (uint64_t)i, 0);
        for (count = 0; count == 0; count = drain()) CHECK(readable(LONG));
        CHECK(count == 1 && !readable(0));
    }

    /* A wait that finds nothing is a look, too; one that finds something leaves it readable. */
    submit(echo_function, 1, 0);
    CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    submit(echo_function, 2, 0);
    for (count = 0; count == 0; count = drain()) CHECK(readable(LONG));
    CHECK(count == 1 && silent());
    for (int ms = 0; ms < 2; ms++) {
        CHECK(aiopool_pool_wait(pool, (uint64_t)ms, &outcome) == AIOPOOL_ERR_TIMEOUT);
        CHECK(!readable(0));
    }

    /* An outcome that is kept for its ticket makes it readable once, and is not peek's. */
    ticket = submit(echo_function, 1, AIOPOOL_CALL_BY_TICKET);
    for (;;) {
        CHECK(readable(LONG) && !peek());
        if (aiopool_pool_wait_ticket(pool, ticket, 0, &outcome) == AIOPOOL_OK) break;
    }
    CHECK(aiopool_outcome_ticket(outcome) == ticket);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(silent());

    /* A cancelled task's outcome comes the same way. */
    ticket = submit(slow_function, 1, 0);
    CHECK(silent());
    CHECK(aiopool_pool_cancel(pool, ticket) == AIOPOOL_OK);
    CHECK(readable(LONG) && drain() == 1);

    /* A thread that waits for a ticket, or for the end, is woken although this thread empties the
     * bell. */
    for (int i = 0; i < BESIDE; i++) {
        __atomic_store_n(&received, 0, __ATOMIC_SEQ_CST);
        ticket = submit(nap_function, 1, AIOPOOL_CALL_BY_TICKET);
        CHECK(pthread_create(&threads[0], NULL, ticket_waiter, &ticket) == 0);
        beside();
        CHECK(pthread_join(threads[0], NULL) == 0);
    }
    /* And the other way round: a thread that waits for something else takes nothing away. */
    for (int i = 0; i < BESIDE; i++) {
        ticket = submit(slow_function, 1, AIOPOOL_CALL_BY_TICKET);
        CHECK(pthread_create(&threads[0], NULL, ticket_waiter, &ticket) == 0);
        if (i % 2 == 0) usleep(200);
        submit(echo_function, 1, 0);
        for (count = 0; count == 0; count = drain()) CHECK(readable(LONG));
        CHECK(aiopool_pool_cancel(pool, ticket) == AIOPOOL_OK);
        CHECK(pthread_join(threads[0], NULL) == 0);
    }
    /* So are those who wait for room, or for all tasks to be over. */
    kept = pool;
    options.capacity = 16;
    for (int i = 0; i < ENDS; i++) {
        CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
        CHECK(aiopool_pool_fd(pool, &fd) == AIOPOOL_OK);
        CHECK(pthread_create(&threads[0], NULL, filler, NULL) == 0);
        for (count = 0; count < FILLED;) {
            CHECK(readable(LONG));
            count += drain();
        }
        CHECK(pthread_join(threads[0], NULL) == 0);
        CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    }
    for (int i = 0; i < ENDS; i++) {
        __atomic_store_n(&received, 0, __ATOMIC_SEQ_CST);
        CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
        CHECK(aiopool_pool_fd(pool, &fd) == AIOPOOL_OK);
        CHECK(pthread_create(&threads[0], NULL, last_waiter, NULL) == 0);
        CHECK(pthread_create(&threads[1], NULL, closer, NULL) == 0);
        beside();
        for (int t = 0; t < 2; t++) CHECK(pthread_join(threads[t], NULL) == 0);
        CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    }
    pool = kept;
    CHECK(aiopool_pool_fd(pool, &fd) == AIOPOOL_OK);
    received = 0;

    /* An outcome that goes to a function goes nowhere else, also when it has come. */
    aiopool_call call = AIOPOOL_CALL_INIT;
    call.function = echo_function;
    call.user_data = 7;
    call.on_complete = note;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket) == AIOPOOL_OK);
    CHECK(readable(LONG));
    /* A thread that waits for another one takes both in. */
    uint64_t other = submit(echo_function, 8, AIOPOOL_CALL_BY_TICKET);
    CHECK(aiopool_pool_wait_ticket(pool, other, LONG, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(completed == 0);
    CHECK(aiopool_pool_wait_ticket(pool, ticket, LONG, &outcome) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_pool_wait_idle(pool, LONG) == AIOPOOL_OK);
    CHECK(completed == 1);
    /* A function that waits for the pool hands over the outcomes behind its own. */
    call.on_complete = wait_and_note;
    for (int i = 0; i < 3; i++) {
        CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    }
    CHECK(aiopool_pool_wait_idle(pool, LONG) == AIOPOOL_OK);
    CHECK(completed == 4);

    /* Two threads wait, one polls and this one submits: each outcome comes once. */
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, waiter, NULL) == 0);
    CHECK(pthread_create(&threads[2], NULL, looker, NULL) == 0);
    for (int i = 0; i < TOGETHER; i++) submit(echo_function, (uint64_t)i, 0);
    CHECK(pthread_join(threads[2], NULL) == 0);
    CHECK(__atomic_load_n(&received, __ATOMIC_SEQ_CST) == TOGETHER);
    CHECK(drain() == 0);

    /* What was wrong is each thread's own. */
    CHECK(aiopool_pool_wait_ticket(pool, 0, 0, &outcome) == AIOPOOL_ERR_UNKNOWN);
    char text[200];
    snprintf(text, sizeof text, "%s", aiopool_last_error());
    CHECK(pthread_create(&threads[2], NULL, mistaken, NULL) == 0);
    CHECK(pthread_join(threads[2], NULL) == 0);
    CHECK(strstr(text, "ticket 0") != NULL && strcmp(text, aiopool_last_error()) == 0);

    /* The end: tasks that it overtakes have an outcome, and the end itself is reported. */
    submit(slow_function, 1, AIOPOOL_CALL_BY_TICKET);
    CHECK(!peek());
    CHECK(aiopool_pool_terminate(pool) == AIOPOOL_OK);
    CHECK(readable(LONG));
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    while (aiopool_pool_join(pool, 0) != AIOPOOL_OK) {
        CHECK(readable(LONG));
        drain();
    }
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    close(loop);
    close(edges);
    printf("%d checks of the descriptor\n", checks);
    return 0;
}
