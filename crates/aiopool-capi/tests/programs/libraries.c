/* Two libraries of one program, each with task functions of its own, and what a pool does without a
 * caller that waits: functions for outcomes, inputs in parts, a free that refuses nothing.
 */
#define _DEFAULT_SOURCE
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { LONG = 60000 };

static uint64_t secret = 1;

static int32_t add_secret(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                          void *user) {
    uint64_t x = 0;
    (void)task, (void)user;
    memcpy(&x, input, len < sizeof x ? len : sizeof x);
    x += secret;
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

static int32_t sum(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    const unsigned char *bytes = input;
    uint64_t total = 0;
    (void)task, (void)user;
    for (size_t i = 0; i < len; i++) total += bytes[i];
    aiopool_output_write(output, &total, sizeof total);
    return 0;
}

static int32_t nap(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    const struct timespec pause = {0, 20000000};
    (void)task, (void)input, (void)len, (void)output, (void)user;
    nanosleep(&pause, NULL);
    return 0;
}

/* What each library does, as if it were alone. */
static aiopool_pool *library(const char *name, aiopool_task_fn function, uint32_t *number) {
    aiopool_pool *pool = NULL;
    aiopool_pool_options options;
    CHECK(aiopool_function_register(name, function, NULL, number) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 2;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    return pool;
}

static uint64_t number_of(aiopool_outcome *outcome) {
    uint64_t x;
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_len(outcome) == sizeof x);
    memcpy(&x, aiopool_outcome_data(outcome), sizeof x);
    return x;
}

static uint64_t ask(aiopool_pool *pool, uint32_t function, uint64_t x) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome = NULL;
    call.function = function;
    call.input = &x;
    call.input_len = sizeof x;
    CHECK(aiopool_pool_submit(pool, &call, LONG, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
    x = number_of(outcome);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    return x;
}

static int stop;

static void *thread_of_another_library(void *unused) {
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) usleep(1000);
    return unused;
}

/* Children of this process, dead ones that nobody has reaped among them. */
static int count_children(void) {
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    int count = 0;
    CHECK(processes != NULL);
    while ((entry = readdir(processes)) != NULL) {
        char path[300], line[512] = "", *end;
        int parent = 0;
        FILE *stat;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || (stat = fopen(path, "r")) == NULL) {
            continue;
        }
        end = fgets(line, sizeof line, stat) == NULL ? NULL : strrchr(line, ')');
        fclose(stat);
        if (end != NULL && sscanf(end, ") %*c %d", &parent) == 1) count += parent == getpid();
    }
    closedir(processes);
    return count;
}

static void two_libraries(void) {
    uint32_t images, mail, late;
    pthread_t thread;
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_pool *first = library("images.resize", add_secret, &images), *second, *third;
    CHECK(ask(first, images, 41) == 42);
    secret = 100;
    second = library("mail.parse", add_secret, &mail);
    /* Each pool has the memory of its own library's moment. */
    CHECK(ask(second, mail, 1) == 101);
    CHECK(ask(second, images, 2) == 102);
    CHECK(ask(first, images, 3) == 4);
    call.function = mail;
    CHECK(aiopool_pool_submit(first, &call, 0, NULL) == AIOPOOL_ERR_TOO_LATE);
    CHECK(strstr(aiopool_last_error(), "mail.parse") != NULL);
    /* One ends, and the other does not notice. */
    CHECK(count_children() == 2);
    CHECK(aiopool_pool_free(first) == AIOPOOL_OK);
    /* The process that its workers were forked from goes with it, and is reaped. */
    while (count_children() > 1) usleep(1000);
    for (uint64_t x = 0; x < 100; x++) CHECK(ask(second, mail, x) == 100 + x);
    /* The threads of other code cannot be copied. */
    CHECK(pthread_create(&thread, NULL, thread_of_another_library, NULL) == 0);
    CHECK(aiopool_function_register("late", sum, NULL, &late) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_ERR_TOO_LATE);
    CHECK(strstr(aiopool_last_error(), "thread") != NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_pool_start(NULL, &third) == AIOPOOL_OK);
    CHECK(ask(third, late, 5) == 5);
    CHECK(ask(third, images, 5) == 105);
    CHECK(aiopool_pool_free(second) == AIOPOOL_OK);
    CHECK(ask(third, late, 6) == 6);
    CHECK(aiopool_pool_free(third) == AIOPOOL_OK);
}

struct chain {
    aiopool_pool *pool;
    uint32_t function;
    uint64_t left, done;
};

static void link_done(aiopool_outcome *outcome, uint64_t user_data);

static void next_link(struct chain *chain) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    call.function = chain->function;
    call.input = &chain->left;
    call.input_len = sizeof chain->left;
    call.on_complete = link_done;
    call.user_data = (uint64_t)(uintptr_t)chain;
    CHECK(aiopool_pool_submit(chain->pool, &call, LONG, NULL) == AIOPOOL_OK);
}

static void link_done(aiopool_outcome *outcome, uint64_t user_data) {
    struct chain *chain = (struct chain *)(uintptr_t)user_data;
    CHECK(number_of(outcome) == chain->left + secret);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    chain->done++;
    if (--chain->left > 0) next_link(chain);
}

static void functions_for_outcomes(aiopool_pool *pool, uint32_t function) {
    struct chain chains[8];
    aiopool_outcome *outcome = NULL;
    aiopool_call call = AIOPOOL_CALL_INIT;
    for (int i = 0; i < 8; i++) {
        chains[i] = (struct chain){pool, function, 20, 0};
        next_link(&chains[i]);
    }
    /* One without a function, between them. */
    CHECK(ask(pool, function, 1) == 1 + secret);
    CHECK(aiopool_pool_wait_idle(pool, LONG) == AIOPOOL_OK);
    for (int i = 0; i < 8; i++) CHECK(chains[i].done == 20 && chains[i].left == 0);
    CHECK(aiopool_pool_try_wait(pool, &outcome) == AIOPOOL_ERR_EMPTY);
    CHECK(aiopool_pool_peek(pool, &outcome) == AIOPOOL_ERR_EMPTY);
    /* Inside of a wait that gives nothing else. */
    chains[0].left = 5;
    next_link(&chains[0]);
    CHECK(aiopool_pool_wait(pool, 500, &outcome) == AIOPOOL_ERR_TIMEOUT);
    CHECK(chains[0].done == 25);
    call.function = function;
    call.on_complete = link_done;
    call.flags = AIOPOOL_CALL_BY_TICKET;
    CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_ERR_INVALID);
}

static void inputs_in_parts(aiopool_pool *pool, uint32_t function) {
    static unsigned char large[100000];
    aiopool_part parts[3] = {{"ab", 2}, {NULL, 0}, {"c", 1}};
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome = NULL;
    call.function = function;
    call.parts = parts;
    call.parts_len = 3;
    CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
    CHECK(number_of(outcome) == 'a' + 'b' + 'c');
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    memset(large, 3, sizeof large);
    parts[1].data = large;
    parts[1].len = sizeof large;
    CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
    CHECK(number_of(outcome) == 'a' + 'b' + 'c' + 3 * sizeof large);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    parts[1].data = NULL;
    CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_ERR_NULL);
    call.input = large;
    CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_ERR_INVALID);
    call.input = NULL;
    call.parts = NULL;
    CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_ERR_NULL);
    call.parts_len = 0;
    call.queue = 1;
    CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_ERR_INVALID);
    CHECK(strstr(aiopool_last_error(), "AIOPOOL_CALL_ON_QUEUE") != NULL);
}

static void *wait_for_ever(void *pool) {
    aiopool_outcome *outcome;
    aiopool_status status;
    while ((status = aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome)) == AIOPOOL_OK) {
        aiopool_outcome_release(outcome);
    }
    return (void *)(intptr_t)status;
}

static void freed_in_use(aiopool_pool *pool, uint32_t naps, uint32_t function) {
    static unsigned char large[50000];
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *held = NULL, *outcome = NULL;
    aiopool_loan *loan = NULL;
    pthread_t threads[2];
    void *data, *said;
    call.function = function;
    call.input = large;
    call.input_len = sizeof large;
    CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, LONG, &held) == AIOPOOL_OK);
    CHECK(aiopool_pool_loan(pool, 4000, &data, &loan) == AIOPOOL_OK);
    memset(data, 1, 4000);
    call = (aiopool_call)AIOPOOL_CALL_INIT;
    call.function = naps;
    for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, wait_for_ever, pool) == 0);
    for (int i = 0; i < 20; i++) CHECK(aiopool_pool_submit(pool, &call, 0, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait_idle(pool, AIOPOOL_NO_WAIT) == AIOPOOL_ERR_TIMEOUT);
    usleep(30000);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], &said) == 0);
        CHECK((intptr_t)said == AIOPOOL_ERR_CLOSED || (intptr_t)said == AIOPOOL_ERR_HANDLE);
    }
    CHECK(number_of(held) == 0);
    CHECK(aiopool_outcome_release(held) == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(held) == AIOPOOL_ERR_HANDLE);
    memset(data, 2, 4000);
    CHECK(aiopool_loan_return(loan) == AIOPOOL_OK);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_pool_wait(pool, 0, &outcome) == AIOPOOL_ERR_HANDLE);
}

static volatile unsigned spins;

static int32_t compute(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                       void *user) {
    (void)input, (void)output, (void)user;
    CHECK(aiopool_task_progress(task, 41) == AIOPOOL_OK);
    CHECK(aiopool_task_progress(task, 42) == AIOPOOL_OK);
    CHECK(aiopool_task_progress(NULL, 1) == AIOPOOL_ERR_NULL);
    /* With an input it asks, without one it computes on. */
    while (len == 0 || !aiopool_task_is_cancelled(task)) spins++;
    return 0;
}

static void cancelled(aiopool_pool *pool, uint32_t computing) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome = NULL;
    aiopool_stats stats = {.struct_size = sizeof stats};
    uint64_t ticket;
    call.function = computing;
    for (int asks = 1; asks >= 0; asks--) {
        call.input = asks ? "?" : NULL;
        call.input_len = (size_t)asks;
        CHECK(aiopool_pool_submit(pool, &call, LONG, &ticket) == AIOPOOL_OK);
        for (stats.running = 0; stats.running == 0; usleep(1000)) {
            CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK);
        }
        uint64_t progress = 0;
        while (aiopool_pool_progress(pool, ticket, &progress) != AIOPOOL_OK || progress != 42) {
            usleep(1000);
        }
        if (asks) {
            CHECK(aiopool_pool_cancel(pool, ticket) == AIOPOOL_OK);
        } else {
            CHECK(aiopool_pool_cancel_within(pool, ticket, 20) == AIOPOOL_OK);
        }
        CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
        CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_CANCELLED);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    }
    CHECK(aiopool_pool_cancel_within(pool, ticket, 0) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_pool_progress(pool, ticket, &ticket) == AIOPOOL_ERR_UNKNOWN);
    CHECK(!aiopool_task_is_cancelled(NULL));
}

int main(void) {
    uint32_t sums, naps, adds, computing, found;
    aiopool_pool *pool = NULL;
    two_libraries();
    CHECK(aiopool_function_register("sum", sum, NULL, &sums) == AIOPOOL_OK);
    CHECK(aiopool_function_register("nap", nap, NULL, &naps) == AIOPOOL_OK);
    CHECK(aiopool_function_register("compute", compute, NULL, &computing) == AIOPOOL_OK);
    CHECK(aiopool_function_unregister("nowhere") == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_function_unregister("late") == AIOPOOL_OK);
    CHECK(aiopool_function_find("late", &found) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_function_register("late", nap, NULL, &found) == AIOPOOL_OK);
    CHECK(aiopool_function_find("images.resize", &adds) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_pool_start(NULL, &pool) == AIOPOOL_OK);
    functions_for_outcomes(pool, adds);
    inputs_in_parts(pool, sums);
    cancelled(pool, computing);
    CHECK(ask(pool, adds, 1) == 1 + secret);
    freed_in_use(pool, naps, sums);
    printf("%d checks of libraries\n", checks);
    return 0;
}
