/* Workers that execute this program anew: which functions they have, what they are given of the
 * options, what is refused. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1 << 20, LONG = 60000 };

static int since_main = 1;

struct facts {
    int32_t pid, parent, since_main, files, inherited;
};

/* What this process is like. */
static int32_t facts(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    struct facts facts = {getpid(), getppid(), since_main, 0, 0};
    struct rlimit files;
    int fd;
    (void)task, (void)user;
    getrlimit(RLIMIT_NOFILE, &files);
    facts.files = (int32_t)files.rlim_cur;
    if (len == sizeof fd) {
        memcpy(&fd, input, sizeof fd);
        facts.inherited = write(fd, "x", 1) == 1;
    }
    aiopool_output_write(output, &facts, sizeof facts);
    return 0;
}

static int32_t fill(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    void *place;
    (void)task;
    if (user != (void *)0x77 || len != MIB) return -1;
    if (aiopool_output_loan(output, len, &place) != AIOPOOL_OK) return -2;
    memset(place, *(const char *)input + 1, len);
    return 0;
}

static void awake(aiopool_task *task, uint32_t events, void *data) {
    (void)events, (void)data;
    aiopool_task_complete(task, 0);
}

static int32_t nap(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    (void)input, (void)len, (void)output, (void)user;
    aiopool_task_sleep(task, len == 0 ? 3600000 : 20, awake, NULL);
    return AIOPOOL_PENDING;
}

static int32_t crash(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    raise(SIGSEGV);
    return 0;
}

static uint32_t facts_function, fill_function, nap_function, crash_function;

/* Run in every execution of this program, before its libraries begin and after: a worker's never
 * comes to `main`.
 */
static void before_all(void) {
    aiopool_function_register("facts", facts, NULL, &facts_function);
    aiopool_function_register("fill", fill, (void *)0x77, &fill_function);
}
__attribute__((section(".preinit_array"), used)) static void (*const start)(void) = before_all;

__attribute__((constructor)) static void at_start(void) {
    aiopool_function_register("nap", nap, NULL, &nap_function);
    aiopool_function_register("crash", crash, NULL, &crash_function);
}

static aiopool_pool *pool;

static aiopool_pool_options options_for(uint32_t processes) {
    aiopool_pool_options options;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.start_method = AIOPOOL_START_SPAWN;
    options.processes = processes;
    return options;
}

static void submit(uint32_t function, const void *input, size_t len, uint64_t timeout_ms) {
    aiopool_call call;
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.function = function;
    call.input = input;
    call.input_len = len;
    call.run_limit_ms = timeout_ms;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
}

static aiopool_outcome *next(int32_t status) {
    aiopool_outcome *outcome;
    CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
    if (aiopool_outcome_kind(outcome) != status) fprintf(stderr, "%s\n", aiopool_outcome_text(outcome));
    CHECK(aiopool_outcome_kind(outcome) == status);
    return outcome;
}

static void release(aiopool_outcome *outcome) {
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
}

static struct facts facts_of(const void *input, size_t len) {
    struct facts facts;
    aiopool_outcome *outcome;
    submit(facts_function, input, len, 0);
    outcome = next(AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_len(outcome) == sizeof facts);
    memcpy(&facts, aiopool_outcome_data(outcome), sizeof facts);
    release(outcome);
    return facts;
}

static void end(void) {
    CHECK(aiopool_pool_close(pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_join(pool, LONG) == AIOPOOL_OK);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

static void refused(aiopool_pool_options options, const char *text) {
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    CHECK(strstr(aiopool_last_error(), text) != NULL);
}

static void *another_thread(void *unused) {
    (void)unused;
    pause();
    return NULL;
}

int main(void) {
    static char large[MIB];
    const char *command[] = {"/bin/true", NULL};
    uint32_t late_function, nobody_function;
    aiopool_pool_options options;
    aiopool_outcome *outcome;
    aiopool_process *process;
    aiopool_call call;
    aiopool_stats stats = {.struct_size = sizeof stats};
    struct facts first, second;
    struct stat page;
    char name[64], path[128];
    pthread_t thread;
    int32_t seen[3], ends[2];

    /* A host that cannot be forked, and whose memory workers do not see. */
    CHECK(pthread_create(&thread, NULL, another_thread, NULL) == 0);
    since_main = 2;
    CHECK(facts_function != 0 && crash_function != 0);
    CHECK(aiopool_function_register("late", facts, NULL, &late_function) == AIOPOOL_OK);
    CHECK(aiopool_function_declare("nobody", &nobody_function) == AIOPOOL_OK);

    /* What only forks have is refused, and so is what nobody would look at. */
    options = options_for(1);
    options.init_function = facts_function;
    refused(options, "init_function");
    options = options_for(1);
    options.exit_function = facts_function;
    refused(options, "exit_function");
    options = options_for(1);
    options.exception_function = facts_function;
    refused(options, "exception_function");
    options = options_for(1);
    options.init_input = "x";
    options.init_input_len = 1;
    refused(options, "init_function");
    options = options_for(1);
    options.exit_input = "x";
    options.exit_input_len = 1;
    refused(options, "exit_function");
    options = options_for(1);
    options.command = command;
    refused(options, "command");
    options.start_method = AIOPOOL_START_FORK;
    refused(options, "command");
    options = options_for(1);
    options.start_method = AIOPOOL_START_COMMAND;
    options.command = command;
    options.exit_input = "x";
    options.exit_input_len = 1;
    refused(options, "exit_function");

    /* Functions, by number and by name; limits, a page, descriptors, recycling. */
    CHECK(pipe(ends) == 0);
    snprintf(name, sizeof name, "capi-spawn-%d", (int)getpid());
    snprintf(path, sizeof path, "/dev/shm/aiopool.%s", name);
    options = options_for(1);
    options.limit_open_files = 99;
    options.max_tasks_per_child = 2;
    options.flags = AIOPOOL_POOL_NO_NEW_PRIVS;
    options.stats_page = name;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(stat(path, &page) == 0);
    first = facts_of(&ends[1], sizeof ends[1]);
    CHECK(first.pid != getpid() && first.parent != getpid());
    CHECK(first.since_main == 1 && first.files == 99 && !first.inherited);
    second = facts_of(NULL, 0);
    CHECK(second.pid == first.pid);
    second = facts_of(NULL, 0);
    CHECK(second.pid != first.pid && second.since_main == 1 && second.files == 99);
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.name = "facts";
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    release(next(AIOPOOL_OUTCOME_OK));
    end();
    CHECK(stat(path, &page) != 0);

    /* What this process has registered since, or has only declared, workers do not have. */
    options = options_for(2);
    options.queues = 2;
    options.priorities = 2;
    options.child_concurrency = 8;
    options.grace_ms = 60000;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    submit(late_function, NULL, 0, 0);
    outcome = next(AIOPOOL_OUTCOME_ERR);
    CHECK(aiopool_outcome_error(outcome) == AIOPOOL_ERR_UNKNOWN);
    CHECK(strstr(aiopool_outcome_text(outcome), "no function named \"late\"") != NULL);
    release(outcome);
    submit(nobody_function, NULL, 0, 0);
    outcome = next(AIOPOOL_OUTCOME_ERR);
    CHECK(aiopool_outcome_error(outcome) == AIOPOOL_ERR_UNKNOWN);
    release(outcome);

    /* Queues, large inputs and outputs, asynchronous tasks, a deadline, a crash. */
    for (int i = 0; i < 3; i++) seen[i] = facts_of(NULL, 0).pid;
    CHECK(seen[0] != seen[1] && seen[0] == seen[2]);
    for (int i = 0; i < 10; i++) {
        const char *data;
        memset(large, i, sizeof large);
        submit(fill_function, large, sizeof large, 0);
        outcome = next(AIOPOOL_OUTCOME_OK);
        data = aiopool_outcome_data(outcome);
        CHECK(aiopool_outcome_len(outcome) == MIB && data[0] == i + 1);
        CHECK(memcmp(data, data + 1, MIB - 1) == 0);
        release(outcome);
    }
    for (int i = 0; i < 16; i++) submit(nap_function, "x", 1, 0);
    for (int i = 0; i < 16; i++) release(next(AIOPOOL_OUTCOME_OK));
    submit(nap_function, NULL, 0, 20);
    release(next(AIOPOOL_OUTCOME_TIMED_OUT));
    submit(crash_function, NULL, 0, 0);
    release(next(AIOPOOL_OUTCOME_WORKER_LOST));
    /* The one that crashed is replaced. */
    for (int i = 0; i < 4; i++) CHECK(facts_of(NULL, 0).since_main == 1);
    CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK && stats.deaths == 1);
    end();

    /* A process is executed, too. */
    options = options_for(1);
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.name = "facts";
    CHECK(aiopool_process_start(&call, &options, NULL, &process) == AIOPOOL_OK);
    CHECK(aiopool_process_wait(process, LONG, &outcome) == AIOPOOL_OK);
    memcpy(&first, aiopool_outcome_data(outcome), sizeof first);
    CHECK(first.since_main == 1 && first.pid != getpid());
    release(outcome);
    CHECK(aiopool_process_free(process) == AIOPOOL_OK);
    printf("%d checks of executed workers\n", checks);
    return 0;
}
