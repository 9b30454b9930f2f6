/* Every mistake that can be recognised is a status. Prints how many were tried. */
#define AIOPOOL_NO_ATTRIBUTES /* It makes mistakes on purpose. */
#define _GNU_SOURCE
#include <aiopool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int tried;

#define EXPECT(status, call)                                                                       \
    do {                                                                                           \
        int32_t is = (call);                                                                       \
        tried++;                                                                                   \
        if (is != (status)) {                                                                      \
            fprintf(stderr, "line %d: %s is %d, not %s: %s\n", __LINE__, #call, is, #status,       \
                    aiopool_last_error());                                                         \
            exit(1);                                                                               \
        }                                                                                          \
        if ((status) < 0 && (status) == is && *aiopool_last_error() == 0) {                        \
            fprintf(stderr, "line %d: %s says nothing\n", __LINE__, #call);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static aiopool_pool *host_pool;
static aiopool_outcome *host_outcome;
static aiopool_loan *host_loan;

static void nothing(aiopool_task *task, uint32_t events, void *data) {
    (void)task, (void)events, (void)data;
}

/* In a worker: the host's calls are refused, and the task's own handles are checked. */
static int32_t inside(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    aiopool_pool *pool = NULL;
    int32_t said[7], state = -1;
    void *place;
    pid_t child = fork();
    (void)input, (void)len;
    if (child == 0) {
        /* Neither memory nor event loop are this process's. */
        _exit(aiopool_output_loan(output, 5000, &place) == AIOPOOL_ERR_FORKED &&
                      aiopool_task_sleep(task, 1, nothing, NULL) == AIOPOOL_ERR_FORKED &&
                      aiopool_task_defer(task, nothing, NULL) == AIOPOOL_ERR_FORKED &&
                      aiopool_pool_start(NULL, &pool) == AIOPOOL_ERR_IN_WORKER
                  ? 0
                  : 1);
    }
    if (waitpid(child, &state, 0) != child) state = -2;
    said[6] = state;
    said[0] = aiopool_pool_start(NULL, &pool);
    said[1] = aiopool_init();
    said[2] = aiopool_task_complete(task, AIOPOOL_PENDING);
    said[3] = aiopool_output_write(output, NULL, 1);
    said[4] = aiopool_task_watch_fd(task, -1, AIOPOOL_EVENT_READABLE, NULL, NULL);
    said[5] = user == (void *)0x1234;
    aiopool_output_write(output, said, sizeof said);
    return 0;
}

static int32_t fail(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)input, (void)output, (void)user;
    if (len > 0) aiopool_task_set_error(task, "as it was asked to");
    return -42;
}

static int32_t nap(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    usleep(200000);
    return 0;
}

/* Keeps the handles beyond the end of its task. */
static aiopool_task *kept_task;
static aiopool_output *kept_output;
static int32_t keep(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    int32_t said[2] = {0, 0};
    (void)input, (void)len, (void)user;
    if (kept_task != NULL) {
        said[0] = aiopool_task_complete(kept_task, 0);
        said[1] = aiopool_output_write(kept_output, "x", 1);
    }
    kept_task = task;
    kept_output = output;
    aiopool_output_write(output, said, sizeof said);
    return 0;
}

static int32_t start(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    (void)output, (void)user;
    if (len == 4 && memcmp(input, "good", 4) == 0) return 0;
    aiopool_task_set_error(task, "the start was given bad bytes");
    return -1;
}

static void in_child(void) {
    aiopool_outcome *outcome;
    EXPECT(AIOPOOL_ERR_FORKED, aiopool_pool_close(host_pool));
    EXPECT(AIOPOOL_ERR_FORKED, aiopool_pool_try_wait(host_pool, &outcome));
    EXPECT(AIOPOOL_ERR_FORKED, aiopool_pool_free(host_pool));
    EXPECT(AIOPOOL_ERR_FORKED, aiopool_outcome_release(host_outcome));
    EXPECT(AIOPOOL_ERR_FORKED, aiopool_loan_return(host_loan));
    _exit(0);
}

/* Kills this process's only child, which aiopool_init has made, and waits for its end. The child
 * sends no signal when it ends, so the kernel wants __WALL. */
static void kill_zygote(void) {
    char path[64];
    int pid = 0;
    FILE *children;
    siginfo_t end;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    children = fopen(path, "r");
    if (children == NULL || fscanf(children, "%d", &pid) != 1 || kill(pid, SIGKILL) != 0 ||
        waitid(P_PID, (id_t)pid, &end, WEXITED | WNOWAIT | __WALL) != 0) {
        perror("the zygote");
        exit(1);
    }
    fclose(children);
}

int main(void) {
    uint32_t f, g, h, k, n, s, late;
    uint64_t ticket;
    size_t count;
    int fd, state;
    void *place;
    aiopool_loan *loan;
    aiopool_pool_options options;
    aiopool_call call, calls[2];
    aiopool_outcome *outcome;
    aiopool_pool *pool;
    aiopool_stats stats;
    int32_t said[7];
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    /* Registering. */
    EXPECT(AIOPOOL_ERR_NULL, aiopool_function_register(NULL, fail, NULL, &f));
    EXPECT(AIOPOOL_ERR_NULL, aiopool_function_register("f", NULL, NULL, &f));
    EXPECT(AIOPOOL_ERR_NULL, aiopool_function_register("f", fail, NULL, NULL));
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_function_register("", fail, NULL, &f));
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_function_register("made", (aiopool_task_fn)(uintptr_t)page, NULL, &f));
    EXPECT(AIOPOOL_OK, aiopool_function_register("fail", fail, NULL, &f));
    EXPECT(AIOPOOL_OK, aiopool_function_register("fail", fail, NULL, &g));
    if (f != g) return 1;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_function_register("fail", inside, NULL, &g));
    EXPECT(AIOPOOL_OK, aiopool_function_register("inside", inside, (void *)0x1234, &g));
    EXPECT(AIOPOOL_OK, aiopool_function_register("nap", nap, NULL, &n));
    EXPECT(AIOPOOL_OK, aiopool_function_register("keep", keep, NULL, &k));
    EXPECT(AIOPOOL_OK, aiopool_function_register("start", start, NULL, &s));
    EXPECT(AIOPOOL_ERR_TOO_EARLY, aiopool_pool_start(NULL, &pool));
    EXPECT(AIOPOOL_OK, aiopool_init());
    EXPECT(AIOPOOL_OK, aiopool_init());
    EXPECT(AIOPOOL_OK, aiopool_function_register("late", fail, NULL, &late));
    EXPECT(AIOPOOL_OK, aiopool_function_declare("elsewhere", &h));
    EXPECT(AIOPOOL_ERR_UNKNOWN, aiopool_function_find("nowhere", &h));

    /* Options. */
    EXPECT(AIOPOOL_ERR_NULL, aiopool_pool_options_init(NULL));
    memset(&options, 0, sizeof options);
    EXPECT(AIOPOOL_ERR_STRUCT, aiopool_pool_start(&options, &pool));
    EXPECT(AIOPOOL_OK, aiopool_pool_options_init(&options));
    options.processes = 1;
    options.queues = 2;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_start(&options, &pool));
    options.queues = 0;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_start(&options, &pool));
    options.queues = 1;
    options.capacity = 100;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_start(&options, &pool));
    options.capacity = 16;
    options.reserved[sizeof options.reserved / 8 - 1] = 1;
    EXPECT(AIOPOOL_ERR_STRUCT, aiopool_pool_start(&options, &pool));
    options.reserved[sizeof options.reserved / 8 - 1] = 0;
    options.start_method = 9;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_start(&options, &pool));
    options.start_method = AIOPOOL_START_COMMAND;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_start(&options, &pool));
    options.start_method = AIOPOOL_START_FORK;
    options.init_function = s;
    options.init_input = "bad!";
    options.init_input_len = 4;
    EXPECT(AIOPOOL_ERR_NULL, aiopool_pool_start(&options, NULL));
    options.init_input = "good";
    options.max_payload = 1000;
    EXPECT(AIOPOOL_OK, aiopool_pool_start(&options, &pool));
    host_pool = pool;

    /* Calls. */
    EXPECT(AIOPOOL_ERR_NULL, aiopool_pool_submit(pool, NULL, 0, NULL));
    EXPECT(AIOPOOL_ERR_NULL, aiopool_pool_submit(NULL, &call, 0, NULL));
    EXPECT(AIOPOOL_OK, aiopool_call_init(&call));
    EXPECT(AIOPOOL_ERR_NULL, aiopool_pool_submit(pool, &call, 0, NULL));
    call.function = 77;
    EXPECT(AIOPOOL_ERR_UNKNOWN, aiopool_pool_submit(pool, &call, 0, NULL));
    call.function = f;
    call.input_len = 5;
    EXPECT(AIOPOOL_ERR_NULL, aiopool_pool_submit(pool, &call, 0, NULL));
    call.input_len = 1001;
    EXPECT(AIOPOOL_ERR_TOO_LARGE, aiopool_pool_submit(pool, &call, 0, NULL));
    call.input_len = 0;
    call.priority = 1;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_submit(pool, &call, 0, NULL));
    call.priority = 0;
    call.flags = 1u << 31;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_submit(pool, &call, 0, NULL));
    call.flags = AIOPOOL_CALL_BY_TICKET;

    /* Errors of tasks, outcomes and tickets. */
    EXPECT(AIOPOOL_OK, aiopool_pool_submit(pool, &call, 0, &ticket));
    EXPECT(AIOPOOL_ERR_UNKNOWN, aiopool_pool_wait_ticket(pool, ticket + 1, 0, &outcome));
    EXPECT(AIOPOOL_OK, aiopool_pool_wait_ticket(pool, ticket, 60000, &outcome));
    EXPECT(AIOPOOL_ERR_UNKNOWN, aiopool_pool_wait_ticket(pool, ticket, 0, &outcome));
    EXPECT(AIOPOOL_ERR_UNKNOWN, aiopool_pool_cancel(pool, ticket));
    EXPECT(AIOPOOL_OUTCOME_ERR, aiopool_outcome_kind(outcome));
    EXPECT(-42, aiopool_outcome_code(outcome));
    EXPECT(AIOPOOL_ERR_TASK, aiopool_outcome_error(outcome));
    if (strcmp(aiopool_outcome_text(outcome), "the task function returned -42") != 0) return 1;
    EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));
    EXPECT(AIOPOOL_ERR_HANDLE, aiopool_outcome_release(outcome));
    EXPECT(AIOPOOL_OUTCOME_NONE, aiopool_outcome_kind(outcome));
    EXPECT(AIOPOOL_OUTCOME_NONE, aiopool_outcome_kind(NULL));
    call.function = late;
    EXPECT(AIOPOOL_ERR_TOO_LATE, aiopool_pool_submit(pool, &call, 0, NULL));
    EXPECT(0, (int32_t)aiopool_outcome_len(outcome));
    EXPECT(AIOPOOL_OK, aiopool_outcome_release(NULL));
    call.flags = 0;
    call.function = 0;
    call.name = "fail";
    call.input = "x";
    call.input_len = 1;
    EXPECT(AIOPOOL_OK, aiopool_pool_submit(pool, &call, 0, NULL));
    EXPECT(AIOPOOL_OK, aiopool_pool_wait(pool, 60000, &outcome));
    if (strcmp(aiopool_outcome_text(outcome), "as it was asked to") != 0) return 1;
    EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));
    call.name = "elsewhere";
    EXPECT(AIOPOOL_OK, aiopool_pool_submit(pool, &call, 0, NULL));
    EXPECT(AIOPOOL_OK, aiopool_pool_wait(pool, 60000, &outcome));
    EXPECT(AIOPOOL_ERR_UNKNOWN, aiopool_outcome_error(outcome));
    EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));
    EXPECT(AIOPOOL_ERR_EMPTY, aiopool_pool_try_wait(pool, &outcome));
    EXPECT(AIOPOOL_ERR_TIMEOUT, aiopool_pool_wait(pool, 1, &outcome));
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_wait_many(pool, &outcome, 0, 1, &count));
    EXPECT(AIOPOOL_ERR_NULL, aiopool_pool_wait_many(pool, NULL, 1, 1, &count));

    /* Inside of a worker, and handles that outlive their task. */
    call.name = "inside";
    EXPECT(AIOPOOL_OK, aiopool_pool_submit(pool, &call, 0, NULL));
    EXPECT(AIOPOOL_OK, aiopool_pool_wait(pool, 60000, &outcome));
    EXPECT(sizeof said, (int32_t)aiopool_outcome_len(outcome));
    memcpy(said, aiopool_outcome_data(outcome), sizeof said);
    EXPECT(AIOPOOL_ERR_IN_WORKER, said[0]);
    EXPECT(AIOPOOL_ERR_IN_WORKER, said[1]);
    EXPECT(AIOPOOL_ERR_INVALID, said[2]);
    EXPECT(AIOPOOL_ERR_NULL, said[3]);
    EXPECT(AIOPOOL_ERR_NULL, said[4]);
    EXPECT(1, said[5]);
    EXPECT(0, said[6]);
    EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));
    for (int i = 0; i < 2; i++) {
        call.name = "keep";
        EXPECT(AIOPOOL_OK, aiopool_pool_submit(pool, &call, 0, NULL));
        EXPECT(AIOPOOL_OK, aiopool_pool_wait(pool, 60000, &outcome));
        memcpy(said, aiopool_outcome_data(outcome), 2 * sizeof *said);
        EXPECT(i == 0 ? AIOPOOL_OK : AIOPOOL_ERR_HANDLE, said[0]);
        EXPECT(i == 0 ? AIOPOOL_OK : AIOPOOL_ERR_HANDLE, said[1]);
        EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));
    }

    /* Loans. */
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_loan(pool, 0, &place, &loan));
    EXPECT(AIOPOOL_ERR_TOO_LARGE, aiopool_pool_loan(pool, 1001, &place, &loan));
    EXPECT(AIOPOOL_OK, aiopool_pool_loan(pool, 500, &place, &loan));
    call.name = "fail";
    call.loan = loan;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_submit(pool, &call, 0, NULL));
    call.input = NULL;
    call.input_len = 501;
    EXPECT(AIOPOOL_ERR_INVALID, aiopool_pool_submit(pool, &call, 0, NULL));
    call.input_len = 0;
    memset(place, 1, 500);
    EXPECT(AIOPOOL_OK, aiopool_pool_submit(pool, &call, 0, NULL));
    EXPECT(AIOPOOL_ERR_HANDLE, aiopool_pool_submit(pool, &call, 0, NULL));
    EXPECT(AIOPOOL_ERR_HANDLE, aiopool_loan_return(loan));
    EXPECT(AIOPOOL_OK, aiopool_pool_wait(pool, 60000, &outcome));
    EXPECT(-42, aiopool_outcome_code(outcome));
    EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));
    EXPECT(AIOPOOL_OK, aiopool_pool_loan(pool, 1000, &place, &loan));
    EXPECT(AIOPOOL_OK, aiopool_loan_return(loan));

    /* Deadlines, and many at once, of which one is wrong. */
    call.loan = NULL;
    call.name = "nap";
    call.wait_limit_ms = 20;
    EXPECT(AIOPOOL_OK, aiopool_pool_submit(pool, &call, 0, NULL));
    EXPECT(AIOPOOL_OK, aiopool_pool_submit(pool, &call, 0, NULL));
    for (int i = 0; i < 2; i++) {
        EXPECT(AIOPOOL_OK, aiopool_pool_wait(pool, 60000, &outcome));
        EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));
    }
    calls[0] = call;
    calls[1] = call;
    calls[1].name = "nowhere";
    EXPECT(AIOPOOL_ERR_UNKNOWN, aiopool_pool_submit_many(pool, calls, 2, 0, NULL, &count));
    EXPECT(1, (int32_t)count);
    EXPECT(AIOPOOL_OK, aiopool_pool_wait(pool, 60000, &outcome));
    EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));

    /* Full: as many tasks as the pool holds, nobody receives. */
    call.wait_limit_ms = 0;
    call.name = "nap";
    for (state = 0; (fd = aiopool_pool_try_submit(pool, &call, &ticket)) == AIOPOOL_OK; state++) {
    }
    EXPECT(AIOPOOL_ERR_FULL, fd);
    EXPECT(16, state);
    EXPECT(AIOPOOL_ERR_TIMEOUT, aiopool_pool_submit(pool, &call, 1, NULL));
    EXPECT(AIOPOOL_OK, aiopool_pool_cancel(pool, ticket));

    /* A forked child. */
    EXPECT(AIOPOOL_OK, aiopool_pool_wait(pool, 60000, &host_outcome));
    EXPECT(AIOPOOL_OK, aiopool_pool_loan(pool, 500, &place, &host_loan));
    if (fork() == 0) in_child();
    if (wait(&state) < 0 || state != 0) return 1;
    EXPECT(AIOPOOL_OK, aiopool_outcome_release(host_outcome));
    EXPECT(AIOPOOL_OK, aiopool_loan_return(host_loan));

    /* The end. */
    EXPECT(AIOPOOL_ERR_MISUSE, aiopool_pool_join(pool, 0));
    EXPECT(AIOPOOL_OK, aiopool_pool_terminate(pool));
    EXPECT(AIOPOOL_ERR_CLOSED, aiopool_pool_submit(pool, &call, 0, NULL));
    EXPECT(AIOPOOL_OK, aiopool_pool_join(pool, 60000));
    memset(&stats, 0, sizeof stats);
    EXPECT(AIOPOOL_ERR_STRUCT, aiopool_pool_stats(pool, &stats));
    stats.struct_size = sizeof stats;
    EXPECT(AIOPOOL_OK, aiopool_pool_stats(pool, &stats));
    EXPECT(0, (int32_t)(stats.pending + stats.input_bytes));
    for (count = 0; aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK; count++) {
        EXPECT(AIOPOOL_OK, aiopool_outcome_release(outcome));
    }
    EXPECT(15, (int32_t)count);
    EXPECT(AIOPOOL_ERR_CLOSED, aiopool_pool_wait(pool, 0, &outcome));
    EXPECT(AIOPOOL_OK, aiopool_pool_free(pool));
    EXPECT(AIOPOOL_ERR_HANDLE, aiopool_pool_free(pool));
    EXPECT(AIOPOOL_ERR_HANDLE, aiopool_pool_fd(pool, &fd));
    EXPECT(AIOPOOL_OK, aiopool_pool_free(NULL));

    /* An initializer that always fails fails the pool, with its text. */
    options.init_input = "bad!";
    pool = NULL;
    state = aiopool_pool_start(&options, &pool);
    if (state == AIOPOOL_OK) {
        call.name = "fail";
        aiopool_pool_submit(pool, &call, 0, NULL);
        EXPECT(AIOPOOL_OK, aiopool_pool_terminate(pool));
        EXPECT(AIOPOOL_OK, aiopool_pool_free(pool));
    } else {
        EXPECT(AIOPOOL_ERR_NO_WORKERS, state);
    }
    /* Without the process that has the registered functions there are no workers for them. */
    kill_zygote();
    options.init_input = "good";
    EXPECT(AIOPOOL_ERR_FAILED, aiopool_pool_start(&options, &pool));
    printf("%d mistakes and successes were statuses\n", tried);
    return tried > 100 ? 0 : 1;
}
