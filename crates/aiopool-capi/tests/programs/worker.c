/* A worker that is a program of its own, this one, and lends its outputs: loans that are completed,
 * given back or misused. Without an argument it is the host. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"
#include "mapping.h"

#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1 << 20, LONG = 60000, ROUNDS = 20 };

struct order {
    size_t len, used;
    unsigned char byte, how;
};

/* What the worker does with its loan, or instead. */
enum { COMPLETES, FAILS, COPIES_OTHER, COPIES_MIDDLE, HOLDS, BLOCKS, CRASHES };

/* ---- The worker. ---- */

static aiopool_worker *worker;

static void complete(uint64_t task, uint32_t how, const void *data, size_t len) {
    CHECK(aiopool_worker_complete(worker, task, how, data, len) == AIOPOOL_OK);
}

static void fill(uint64_t task, const struct order *order) {
    static char elsewhere[2 * MIB];
    unsigned char *place;
    void *loan;
    aiopool_status status = aiopool_worker_loan(worker, task, order->len, &loan);
    if (status != AIOPOOL_OK) {
        complete(task, AIOPOOL_END_FAILED, aiopool_last_error(), strlen(aiopool_last_error()));
        return;
    }
    CHECK(lies_in(loan, "memfd:aiopool-results"));
    place = loan;
    memset(place, order->byte, order->len);
    switch (order->how) {
    case COMPLETES: complete(task, AIOPOOL_END_OK, place, order->used); break;
    case FAILS: complete(task, AIOPOOL_END_FAILED, "it fails", 8); break;
    case COPIES_OTHER:
        memset(elsewhere, order->byte, order->used);
        complete(task, AIOPOOL_END_OK, elsewhere, order->used);
        break;
    case COPIES_MIDDLE: complete(task, AIOPOOL_END_OK, place + 1, order->used); break;
    case HOLDS: break;
    case BLOCKS:
        while (access(getenv("UNTIL"), F_OK) != 0) usleep(1000);
        complete(task, AIOPOOL_END_OK, place, order->used);
        break;
    default: abort();
    }
}

/* What the calls say that are wrong, with a task that ends with it. */
static void misuse(uint64_t task) {
    int32_t said[9] = {0};
    void *loan = NULL;
    int state = -1;
    pid_t child;
    said[0] = aiopool_worker_loan(NULL, task, 1, &loan);
    said[1] = aiopool_worker_loan(worker, task, 1, NULL);
    said[2] = aiopool_worker_loan(worker, task, 0, &loan);
    said[3] = aiopool_worker_loan(worker, task + 1000, 1, &loan);
    said[4] = aiopool_worker_loan(worker, task, SIZE_MAX, &loan);
    said[5] = aiopool_worker_loan(worker, task, 64 * MIB, &loan);
    CHECK(loan == NULL);
    said[6] = aiopool_worker_loan(worker, task, sizeof said, &loan);
    said[7] = aiopool_worker_loan(worker, task, sizeof said, &loan);
    if ((child = fork()) == 0) {
        _exit(aiopool_worker_loan(worker, task, 1, &loan) == AIOPOOL_ERR_FORKED &&
                      aiopool_worker_complete(worker, task, 0, loan, 1) == AIOPOOL_ERR_FORKED
                  ? 0
                  : 1);
    }
    CHECK(waitpid(child, &state, 0) == child);
    said[8] = state;
    CHECK(aiopool_worker_complete(worker, task, 99, loan, 1) == AIOPOOL_ERR_INVALID);
    CHECK(aiopool_worker_complete(worker, task, AIOPOOL_END_OK, NULL, 1) == AIOPOOL_ERR_NULL);
    memcpy(loan, said, sizeof said);
    complete(task, AIOPOOL_END_OK, loan, sizeof said);
    /* It is over: neither a loan nor a second end. */
    CHECK(aiopool_worker_loan(worker, task, 1, &loan) == AIOPOOL_ERR_MISUSE);
    CHECK(aiopool_worker_complete(worker, task, AIOPOOL_END_OK, NULL, 0) == AIOPOOL_ERR_MISUSE);
}

static int serve(void) {
    struct pollfd watched = {.events = POLLIN};
    aiopool_worker_event event;
    aiopool_worker_info info;
    void *loan;
    CHECK(aiopool_worker_attach(&worker) == AIOPOOL_OK);
    CHECK(aiopool_worker_describe(worker, &info) == AIOPOOL_OK && info.child_concurrency == 4);
    CHECK(aiopool_worker_fd(worker, &watched.fd) == AIOPOOL_OK);
    for (;;) {
        CHECK(aiopool_worker_next(worker, &event) == AIOPOOL_OK);
        switch (event.kind) {
        case AIOPOOL_WORKER_NOTHING: poll(&watched, 1, -1); break;
        case AIOPOOL_WORKER_RUN:
            if (strcmp(event.function, "fill") == 0) {
                struct order order;
                CHECK(event.input_len == sizeof order);
                memcpy(&order, event.input, sizeof order);
                fill(event.task, &order);
            } else {
                misuse(event.task);
            }
            break;
        case AIOPOOL_WORKER_CANCEL:
            complete(event.task, AIOPOOL_END_CANCELLED, NULL, 0);
            break;
        default:
            CHECK(event.kind == AIOPOOL_WORKER_LEAVE);
            CHECK(aiopool_worker_leave(worker) == AIOPOOL_OK);
            CHECK(aiopool_worker_loan(worker, 1, 1, &loan) == AIOPOOL_ERR_HANDLE);
            return 0;
        }
    }
}

/* ---- The host. ---- */

static aiopool_pool *pool;
static uint32_t fill_function, misuse_function;

static uint64_t order(size_t len, size_t used, int byte, int how, uint32_t flags) {
    uint64_t ticket;
    struct order order;
    aiopool_call call;
    memset(&order, 0, sizeof order);
    order.len = len, order.used = used;
    order.byte = (unsigned char)byte, order.how = (unsigned char)how;
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.function = fill_function;
    call.input = &order;
    call.input_len = sizeof order;
    call.flags = flags;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &ticket) == AIOPOOL_OK);
    return ticket;
}

static aiopool_outcome *next(void) {
    aiopool_outcome *outcome;
    CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
    return outcome;
}

/* The next outcome is `len` times `byte`; gives where it lies. */
static int is_filled(size_t len, int byte) {
    aiopool_outcome *outcome = next();
    const unsigned char *data = aiopool_outcome_data(outcome);
    int borrowed;
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_len(outcome) == len);
    CHECK(data[0] == byte && memcmp(data, data + 1, len - 1) == 0);
    borrowed = lies_in(data, "memfd:aiopool-results");
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    return borrowed;
}

static int blocked;

static void count_blocked(uint32_t level, const char *text, void *user) {
    (void)level, (void)user;
    if (strstr(text, "holds up its worker") == NULL || strstr(text, "fill") == NULL) return;
    __atomic_fetch_add(&blocked, 1, __ATOMIC_SEQ_CST);
}

/* A loop that does not come back from a task is noticed, and one that only has it is not. */
static void held_up(void) {
    aiopool_outcome *outcome;
    uint64_t ticket = order(MIB, 0, 0, HOLDS, 0);
    int before;
    FILE *until;
    /* It is waited for, and the loop goes on. */
    for (int i = 0; i < ROUNDS; i++) {
        order(16, 16, i, COMPLETES, 0);
        CHECK(!is_filled(16, i));
        usleep(20000);
    }
    before = __atomic_load_n(&blocked, __ATOMIC_SEQ_CST);
    order(16, 16, 5, BLOCKS, 0);
    while (__atomic_load_n(&blocked, __ATOMIC_SEQ_CST) == before) usleep(1000);
    CHECK((until = fopen(getenv("UNTIL"), "w")) != NULL && fclose(until) == 0);
    CHECK(!is_filled(16, 5));
    CHECK(unlink(getenv("UNTIL")) == 0);
    CHECK(aiopool_pool_cancel(pool, ticket) == AIOPOOL_OK);
    outcome = next();
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_CANCELLED);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

static void failed(const char *text) {
    aiopool_outcome *outcome = next();
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_ERR);
    CHECK(strstr(aiopool_outcome_text(outcome), text) != NULL);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

int main(int argc, char **argv) {
    const uint32_t borrow = AIOPOOL_CALL_BORROW_OUTPUT;
    const char *command[] = {"/proc/self/exe", "worker", NULL};
    char self[4096], until[64];
    aiopool_pool_options options;
    aiopool_outcome *outcome;
    aiopool_stats stats = {.struct_size = sizeof stats};
    aiopool_call call;
    int32_t said[9];
    uint64_t ticket;
    ssize_t len;
    void *loan;

    if (argc == 2 && strcmp(argv[1], "worker") == 0) return serve();
    len = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(len > 0);
    self[len] = 0;
    command[0] = self;
    CHECK(aiopool_worker_attach(&worker) == AIOPOOL_ERR_MISUSE);
    CHECK(aiopool_worker_loan(NULL, 1, 1, &loan) == AIOPOOL_ERR_NULL);
    /* Not needed for workers of another program; a zygote that is executed is no place for
     * AddressSanitizer. */
    snprintf(until, sizeof until, "/tmp/aiopool-worker-%d", (int)getpid());
    CHECK(setenv("UNTIL", until, 1) == 0);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(aiopool_log_set(AIOPOOL_LOG_WARN, count_blocked, NULL) == AIOPOOL_OK);
    CHECK(aiopool_function_declare("fill", &fill_function) == AIOPOOL_OK);
    CHECK(aiopool_function_declare("misuse", &misuse_function) == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.start_method = AIOPOOL_START_COMMAND;
    options.command = command;
    options.processes = 1;
    options.child_concurrency = 4;
    options.max_payload = MIB;
    options.output_arena = 2 * MIB;
    options.blocked_after_ms = 100;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);

    /* Filled in place and read there, or copied for the receiver; whole and in part. */
    for (int i = 0; i < ROUNDS; i++) {
        order(MIB, MIB, i, COMPLETES, borrow);
        CHECK(is_filled(MIB, i));
        order(MIB, 1000 + (size_t)i, i + 100, COMPLETES, borrow);
        CHECK(is_filled(1000 + (size_t)i, i + 100));
        order(MIB, MIB / 2, i, COMPLETES, 0);
        CHECK(!is_filled(MIB / 2, i));
        order(16, 16, i, COMPLETES, 0);
        CHECK(!is_filled(16, i));
    }

    /* A loan that is not what the task ends with goes back, and is not in the way of that. */
    for (int i = 0; i < ROUNDS; i++) {
        order(2 * MIB, MIB, i, FAILS, borrow);
        failed("it fails");
        order(2 * MIB, MIB, i, COPIES_OTHER, 0);
        is_filled(MIB, i);
        order(2 * MIB, MIB, i, COPIES_MIDDLE, 0);
        is_filled(MIB, i);
    }

    /* Tasks that hold loans: the next one gets no room now, and finds it later. */
    for (int i = 0; i < ROUNDS; i++) {
        ticket = order(2 * MIB, 0, 0, HOLDS, 0);
        do {
            CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK);
        } while (stats.running == 0);
        order(MIB, MIB, 1, COMPLETES, borrow);
        failed("found no room");
        CHECK(aiopool_pool_cancel(pool, ticket) == AIOPOOL_OK);
        outcome = next();
        CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_CANCELLED);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
        /* The worker may have taken the next one before it has dropped the one that holds. */
        for (int tries = 0;; tries++) {
            order(MIB, MIB, 2, COMPLETES, borrow);
            outcome = next();
            if (aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK) break;
            CHECK(strstr(aiopool_outcome_text(outcome), "found no room") != NULL && tries < 10000);
            CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
        }
        CHECK(((const unsigned char *)aiopool_outcome_data(outcome))[MIB - 1] == 2);
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    }

    /* Mistakes. */
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.function = misuse_function;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    outcome = next();
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_len(outcome) == sizeof said);
    memcpy(said, aiopool_outcome_data(outcome), sizeof said);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(said[0] == AIOPOOL_ERR_NULL && said[1] == AIOPOOL_ERR_NULL);
    CHECK(said[2] == AIOPOOL_ERR_INVALID && said[3] == AIOPOOL_ERR_MISUSE);
    CHECK(said[4] == AIOPOOL_ERR_TOO_LARGE && said[5] == AIOPOOL_ERR_TOO_LARGE);
    CHECK(said[6] == AIOPOOL_OK && said[7] == AIOPOOL_ERR_MISUSE && said[8] == 0);

    held_up();

    /* What is borrowed outlives the worker that has lent it. */
    order(MIB, MIB, 7, COMPLETES, borrow);
    outcome = next();
    order(MIB, 0, 0, CRASHES, 0);
    {
        aiopool_outcome *lost = next();
        CHECK(aiopool_outcome_kind(lost) == AIOPOOL_OUTCOME_WORKER_LOST);
        CHECK(aiopool_outcome_release(lost) == AIOPOOL_OK);
    }
    order(MIB, MIB, 8, COMPLETES, borrow);
    CHECK(is_filled(MIB, 8));
    {
        const char *data = aiopool_outcome_data(outcome);
        CHECK(aiopool_outcome_len(outcome) == MIB);
        CHECK(data[0] == 7 && memcmp(data, data + 1, MIB - 1) == 0);
    }
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);

    CHECK(aiopool_pool_close(pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_join(pool, LONG) == AIOPOOL_OK);
    CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK && stats.deaths == 1);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    printf("%d checks of a worker's loans\n", checks);
    return 0;
}
