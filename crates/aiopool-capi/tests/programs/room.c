/* What the descriptor for room promises: readable until a call is refused for want of room, and
 * readable again when there may be some. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { CAPACITY = 16, ALONE = 500, TOGETHER = 5000, LONG = 60000, LENT = 64 << 10 };

static aiopool_pool *pool;
static uint32_t echo_function, slow_function;
static int fd;

static int32_t echo(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)task, (void)user;
    return aiopool_output_write(output, input, len);
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

static aiopool_status try_submit(uint32_t function, uint64_t number, uint64_t *ticket) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    call.function = function;
    call.input = &number;
    call.input_len = sizeof number;
    call.user_data = number;
    return aiopool_pool_try_submit(pool, &call, ticket);
}

static int readable(int timeout) {
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    int ready = poll(&watched, 1, timeout);
    CHECK(ready >= 0);
    return ready == 1 && watched.revents == POLLIN;
}

/* Repeats a call that is refused until the descriptor stays silent: it may be readable once more
 * than there is room, as by a worker that rings for what the host has taken already. */
#define SILENT_AFTER(refused)                                   \
    do {                                                        \
        int tries = 0;                                          \
        do CHECK((refused) && ++tries < 1000); while (readable(20)); \
    } while (0)

static uint64_t received, sum;

/* Receives what there is; waits for the first at most `timeout` milliseconds. */
static void receive(uint64_t timeout) {
    aiopool_outcome *outcome;
    aiopool_status status = aiopool_pool_wait(pool, timeout, &outcome);
    while (status == AIOPOOL_OK) {
        sum += aiopool_outcome_user_data(outcome);
        received++;
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
        status = aiopool_pool_try_wait(pool, &outcome);
    }
}

static void start(uint32_t queues) {
    aiopool_pool_options options;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = queues;
    options.queues = queues;
    options.capacity = CAPACITY;
    options.input_arena = 1 << 20;
    options.max_payload = 512 << 10;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_room_fd(pool, &fd) == AIOPOOL_OK && readable(0));
    received = sum = 0;
}

/* Fills the pool with tasks that do not end; writes their tickets. */
static void fill(uint64_t *tickets) {
    for (int i = 0; i < CAPACITY; i++) {
        CHECK(try_submit(slow_function, 0, &tickets[i]) == AIOPOOL_OK);
    }
    CHECK(readable(0));
    SILENT_AFTER(try_submit(slow_function, 0, NULL) == AIOPOOL_ERR_FULL);
}

static void of_records(void) {
    uint64_t tickets[CAPACITY], ticket;
    aiopool_call call = AIOPOOL_CALL_INIT;
    int again;
    start(1);
    fill(tickets);
    CHECK(aiopool_pool_room_fd(pool, &again) == AIOPOOL_OK && again == fd && !readable(0));
    /* A cancelled task makes room without any call that receives. */
    CHECK(aiopool_pool_cancel(pool, tickets[0]) == AIOPOOL_OK && readable(LONG));
    while (try_submit(slow_function, 0, &ticket) != AIOPOOL_OK) CHECK(readable(LONG));
    /* A submission that waits in vain empties it, too. */
    call.function = slow_function;
    SILENT_AFTER(aiopool_pool_submit(pool, &call, 5, NULL) != AIOPOOL_OK);
    /* So does one of several. */
    CHECK(aiopool_pool_cancel(pool, tickets[1]) == AIOPOOL_OK && readable(LONG));
    receive(AIOPOOL_NO_WAIT);
    while (try_submit(slow_function, 0, &ticket) != AIOPOOL_OK) CHECK(readable(LONG));
    {
        aiopool_call calls[2] = {call, call};
        size_t submitted;
        SILENT_AFTER(aiopool_pool_submit_many(pool, calls, 2, 0, NULL, &submitted) != AIOPOOL_OK &&
                     submitted == 0);
    }
    /* The end is told, too. */
    CHECK(aiopool_pool_close(pool) == AIOPOOL_OK && readable(LONG));
    CHECK(try_submit(slow_function, 0, NULL) == AIOPOOL_ERR_CLOSED && readable(0));
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

/* Outcomes that nobody receives are what fills the pool: receiving one makes room. */
static void of_outcomes(void) {
    aiopool_outcome *outcome;
    start(1);
    for (int by_close = 0; by_close < 2; by_close++) {
        while (try_submit(echo_function, 1, NULL) == AIOPOOL_OK) {
            CHECK(aiopool_pool_wait_idle(pool, AIOPOOL_FOREVER) == AIOPOOL_OK);
        }
        SILENT_AFTER(try_submit(echo_function, 1, NULL) != AIOPOOL_OK &&
                     strstr(aiopool_last_error(), "wait to be received") != NULL);
        /* Of a call to every worker, too, where the descriptor has told of the end or of room. */
        if (by_close == 0) {
            aiopool_call call = AIOPOOL_CALL_INIT;
            uint32_t workers;
            call.function = echo_function;
            call.flags = AIOPOOL_CALL_BY_TICKET;
            CHECK(aiopool_pool_try_wait(pool, &outcome) == AIOPOOL_OK);
            CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK && readable(0));
            CHECK(try_submit(echo_function, 1, NULL) == AIOPOOL_OK);
            CHECK(aiopool_pool_wait_idle(pool, AIOPOOL_FOREVER) == AIOPOOL_OK);
            SILENT_AFTER(aiopool_pool_broadcast(pool, &call, NULL, &workers) == AIOPOOL_ERR_FULL);
        }
        if (by_close) {
            CHECK(aiopool_pool_close(pool) == AIOPOOL_OK && readable(LONG));
            CHECK(try_submit(echo_function, 1, NULL) == AIOPOOL_ERR_CLOSED);
            break;
        }
        CHECK(aiopool_pool_try_wait(pool, &outcome) == AIOPOOL_OK);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK && readable(0));
        CHECK(try_submit(echo_function, 1, NULL) == AIOPOOL_OK);
        CHECK(aiopool_pool_wait_idle(pool, AIOPOOL_FOREVER) == AIOPOOL_OK);
    }
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

static void of_memory(void) {
    aiopool_loan *loans[64], *loan;
    void *data;
    int count = 0;
    start(1);
    while (aiopool_pool_loan(pool, LENT, &data, &loans[count]) == AIOPOOL_OK) count++;
    CHECK(count > 2 && count < 64);
    SILENT_AFTER(aiopool_pool_loan(pool, LENT, &data, &loans[count]) == AIOPOOL_ERR_FULL);
    CHECK(aiopool_loan_return(loans[--count]) == AIOPOOL_OK && readable(0));
    CHECK(aiopool_pool_loan(pool, LENT, &data, &loan) == AIOPOOL_OK);
    SILENT_AFTER(aiopool_pool_loan(pool, LENT, &data, &loans[count]) == AIOPOOL_ERR_FULL);
    CHECK(aiopool_loan_return(loan) == AIOPOOL_OK && readable(0));
    /* Of an input that is copied, too; the last memory is taken by a task, and then by loans. */
    {
        static char large[LENT];
        uint64_t ticket;
        aiopool_call call = AIOPOOL_CALL_INIT;
        call.function = slow_function;
        call.input = large;
        call.input_len = sizeof large;
        CHECK(aiopool_pool_try_submit(pool, &call, &ticket) == AIOPOOL_OK);
        SILENT_AFTER(aiopool_pool_try_submit(pool, &call, NULL) == AIOPOOL_ERR_FULL);
        CHECK(aiopool_pool_cancel(pool, ticket) == AIOPOOL_OK && readable(LONG));
        while (aiopool_pool_try_submit(pool, &call, &ticket) != AIOPOOL_OK) CHECK(readable(LONG));
        receive(LONG);
        CHECK(aiopool_pool_cancel(pool, ticket) == AIOPOOL_OK);
        receive(LONG);
    }
    while (count > 0) CHECK(aiopool_loan_return(loans[--count]) == AIOPOOL_OK);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

/* Of two queues, a place in the line of each. */
static void of_queues(void) {
    uint64_t tickets[2][CAPACITY];
    aiopool_call call = AIOPOOL_CALL_INIT;
    start(2);
    call.function = slow_function;
    call.flags = AIOPOOL_CALL_ON_QUEUE;
    for (call.queue = 0; call.queue < 2; call.queue++) {
        for (int i = 0; i < CAPACITY; i++) {
            CHECK(aiopool_pool_try_submit(pool, &call, &tickets[call.queue][i]) == AIOPOOL_OK);
        }
    }
    for (uint32_t queue = 0; queue < 2; queue++) {
        SILENT_AFTER((call.queue = 0, aiopool_pool_try_submit(pool, &call, NULL)) == AIOPOOL_ERR_FULL &&
                     (call.queue = 1, aiopool_pool_try_submit(pool, &call, NULL)) == AIOPOOL_ERR_FULL);
        CHECK(aiopool_pool_cancel(pool, tickets[queue][0]) == AIOPOOL_OK && readable(LONG));
        call.queue = queue;
        while (aiopool_pool_try_submit(pool, &call, NULL) != AIOPOOL_OK) CHECK(readable(LONG));
    }
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

/* One loop that watches for room only: what comes meanwhile is taken in without it. */
static void in_a_loop(uint32_t kind, int with_outcomes) {
    struct epoll_event event = {.events = EPOLLIN | kind};
    int loop = epoll_create1(EPOLL_CLOEXEC);
    uint64_t number = 0;
    start(1);
    CHECK(loop >= 0 && epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) == 0);
    if (with_outcomes) {
        int outcomes;
        CHECK(aiopool_pool_fd(pool, &outcomes) == AIOPOOL_OK);
        CHECK(epoll_ctl(loop, EPOLL_CTL_ADD, outcomes, &event) == 0);
    }
    while (number < ALONE) {
        aiopool_status status = try_submit(echo_function, number, NULL);
        if (status == AIOPOOL_OK) {
            number++;
            continue;
        }
        CHECK(status == AIOPOOL_ERR_FULL);
        /* Every other time: outcomes are not what it is woken by. */
        if (with_outcomes || number % 2 == 0 || strstr(aiopool_last_error(), "wait to be received") != NULL) {
            receive(AIOPOOL_NO_WAIT);
        }
        CHECK(epoll_wait(loop, &event, 1, LONG) == 1);
    }
    while (received < ALONE) receive(LONG);
    CHECK(sum == (uint64_t)ALONE * (ALONE - 1) / 2);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    close(loop);
}

static void *receiver(void *unused) {
    (void)unused;
    while (received < 2 * TOGETHER) receive(LONG);
    return NULL;
}

static void *submitter(void *unused) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    (void)unused;
    call.function = echo_function;
    for (uint64_t i = 0; i < TOGETHER; i++) {
        call.user_data = i;
        CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    }
    return NULL;
}

/* Beside a thread that receives and one that waits in a call for room. */
static void beside_threads(void) {
    pthread_t threads[2];
    start(1);
    CHECK(pthread_create(&threads[0], NULL, receiver, NULL) == 0);
    CHECK(pthread_create(&threads[1], NULL, submitter, NULL) == 0);
    for (uint64_t i = 0; i < TOGETHER;) {
        aiopool_status status = try_submit(echo_function, i, NULL);
        CHECK(status == AIOPOOL_OK || status == AIOPOOL_ERR_FULL);
        if (status == AIOPOOL_OK) {
            i++;
        } else {
            CHECK(readable(LONG));
        }
    }
    for (int i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(sum == (uint64_t)TOGETHER * (TOGETHER - 1));
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

int main(void) {
    CHECK(aiopool_function_register("echo", echo, NULL, &echo_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("slow", slow, NULL, &slow_function) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    of_records();
    of_outcomes();
    of_memory();
    of_queues();
    in_a_loop(0, 0);
    in_a_loop(EPOLLET, 0);
    in_a_loop(0, 1);
    beside_threads();
    CHECK(aiopool_pool_room_fd(pool, &fd) == AIOPOOL_ERR_HANDLE);
    printf("room: %d checks of the descriptor for room\n", checks);
    return 0;
}
