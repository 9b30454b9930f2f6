/* The options of a pool that C shares with Rust: schedulers, hooks, the exception function, the
 * page of numbers; and what can be asked of a pool. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include <glob.h>
#include "check.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Memory that the workers share with this process, which it made before aiopool_init. */
static struct shared {
    int starts, ends, told;
    char state[32], function[32], text[64];
    int32_t code;
} *shared;

static char state_of_this_worker[32];

static int32_t on_start(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                        void *user) {
    (void)task, (void)output;
    memcpy(state_of_this_worker, input, len);
    __atomic_fetch_add(&((struct shared *)user)->starts, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int32_t on_end(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    struct shared *shared = user;
    (void)task, (void)output;
    if (len == 4 && memcmp(input, "bye", 4) == 0) {
        memcpy(shared->state, state_of_this_worker, sizeof shared->state);
        __atomic_fetch_add(&shared->ends, 1, __ATOMIC_SEQ_CST);
    }
    return 0;
}

static int32_t on_exception(aiopool_task *task, const void *input, size_t len,
                            aiopool_output *output, void *user) {
    const aiopool_exception *exception = input;
    struct shared *shared = user;
    (void)task, (void)output;
    if (len < sizeof *exception || exception->struct_size != len) return -1;
    snprintf(shared->function, sizeof shared->function, "%s", exception->function);
    snprintf(shared->text, sizeof shared->text, "%s", exception->text);
    shared->code = exception->code;
    __atomic_fetch_add(&shared->told, 1, __ATOMIC_SEQ_CST);
    return 0;
}

static int32_t fail(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)input, (void)len, (void)output, (void)user;
    aiopool_task_set_error(task, "it was asked to");
    return -7;
}

/* Its worker's process id and what the start hook was given. */
static int32_t who(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    uint32_t pid = (uint32_t)getpid();
    (void)task, (void)input, (void)len, (void)user;
    aiopool_output_write(output, &pid, sizeof pid);
    aiopool_output_write(output, state_of_this_worker, sizeof state_of_this_worker);
    return 0;
}

/* A scheduler that sends each task where its input's length says. */
struct tally {
    pthread_mutex_t lock;
    uint32_t queues;
    int chosen, completed, ok, started, ended, died;
    uint64_t last_ticket;
    char function[32];
};

static uint32_t by_length(const aiopool_new_task *task, const aiopool_queue_load *loads,
                          uint32_t queues, void *user) {
    struct tally *tally = user;
    pthread_mutex_lock(&tally->lock);
    tally->queues = queues;
    tally->chosen++;
    tally->last_ticket = task->ticket;
    snprintf(tally->function, sizeof tally->function, "%s", task->function);
    if (loads[0].workers != 1 || loads[0].pending < loads[0].waiting) tally->chosen = -1000;
    pthread_mutex_unlock(&tally->lock);
    return (uint32_t)task->input_len;
}

static void completed(const aiopool_completed_task *task, void *user) {
    struct tally *tally = user;
    pthread_mutex_lock(&tally->lock);
    tally->completed++;
    tally->ok += (int)task->ok;
    pthread_mutex_unlock(&tally->lock);
}

static void process(const aiopool_process_change *change, void *user) {
    struct tally *tally = user;
    pthread_mutex_lock(&tally->lock);
    if (change->started) tally->started++;
    if (!change->started) tally->ended++;
    tally->died += (int)change->died;
    pthread_mutex_unlock(&tally->lock);
}

static aiopool_pool *pool;

static aiopool_outcome *run(uint32_t function, size_t len, int32_t status) {
    static const char input[16];
    aiopool_outcome *outcome;
    aiopool_call call;
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.function = function;
    call.input = input;
    call.input_len = len;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, 60000, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == status);
    return outcome;
}

/* How many sockets this process has for observers of pools of that name. */
static size_t sockets_of(const char *name) {
    char pattern[256];
    glob_t found;
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    size_t count;

    snprintf(pattern, sizeof pattern, "%s/aiopool/%d.*.%s.sock", runtime ? runtime : "/nowhere",
             (int)getpid(), name);
    glob(pattern, 0, NULL, &found);
    snprintf(pattern, sizeof pattern, "/tmp/aiopool-%d/%d.*.%s.sock", (int)geteuid(),
             (int)getpid(), name);
    glob(pattern, GLOB_APPEND, NULL, &found);
    count = found.gl_pathc;
    globfree(&found);
    return count;
}

static void end(void) {
    CHECK(aiopool_pool_close(pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_join(pool, 60000) == AIOPOOL_OK);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

int main(void) {
    uint32_t start, stop, exception, failing, asking, pids[4], pid[4];
    const char *const sleeper[] = {"/bin/sleep", "100000", NULL};
    aiopool_pool_options options;
    aiopool_scheduler scheduler;
    aiopool_outcome *outcome;
    aiopool_call call;
    aiopool_stats stats = {.struct_size = sizeof stats};
    aiopool_function_stats times = {.struct_size = sizeof times};
    struct tally tally = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct stat page;
    char name[64], path[128], timeline[64];
    FILE *written;
    size_t count;
    /* As a later version of the library would have it. */
    struct { aiopool_worker_view known; uint64_t later; } views[4];
    aiopool_queue_view queues[2];
    static char json[1 << 16];

    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    CHECK(aiopool_function_register("start", on_start, shared, &start) == AIOPOOL_OK);
    CHECK(aiopool_function_register("stop", on_end, shared, &stop) == AIOPOOL_OK);
    CHECK(aiopool_function_register("exception", on_exception, shared, &exception) == AIOPOOL_OK);
    CHECK(aiopool_function_register("fail", fail, NULL, &failing) == AIOPOOL_OK);
    CHECK(aiopool_function_register("who", who, NULL, &asking) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);

    /* What is refused. */
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    CHECK(aiopool_scheduler_init(NULL) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_scheduler_init(&scheduler) == AIOPOOL_OK);
    options.scheduler = 9;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    options.scheduler = AIOPOOL_SCHEDULER_CUSTOM;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_NULL);
    options.custom_scheduler = &scheduler;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_NULL);
    scheduler.struct_size = 3;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_STRUCT);
    options.scheduler = AIOPOOL_SCHEDULER_ROUND_ROBIN;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    options.custom_scheduler = NULL;
    options.exception_function = 77;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_UNKNOWN);
    options.exception_function = 0;
    options.stats_page = "no/slashes";
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);

    /* Hooks with their state, the exception function, the page. */
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    snprintf(name, sizeof name, "capi-options-%d", (int)getpid());
    snprintf(path, sizeof path, "/dev/shm/aiopool.%s", name);
    options.processes = 2;
    options.init_function = start;
    options.init_input = "what every worker starts from";
    options.init_input_len = 30;
    options.exit_function = stop;
    options.exit_input = "bye";
    options.exit_input_len = 4;
    options.exception_function = exception;
    options.stats_page = name;
    options.name = "no spaces";
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    options.name = "of-a-c-program";
    options.flags = AIOPOOL_POOL_NOT_OBSERVABLE;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(sockets_of(options.name) == 0);
    end();
    shared->starts = shared->ends = 0;
    options.flags = 0;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(sockets_of(options.name) == 1);
    CHECK(stat(path, &page) == 0);
    outcome = run(asking, 1, AIOPOOL_OUTCOME_OK);
    memcpy(pid, aiopool_outcome_data(outcome), sizeof *pid);
    CHECK(strcmp((const char *)aiopool_outcome_data(outcome) + sizeof *pid, options.init_input) == 0);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_pool_workers(pool, NULL, 1, &count) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_workers(pool, NULL, 0, &count) == AIOPOOL_OK && count == 2);
    CHECK(aiopool_pool_workers(pool, pids, 4, &count) == AIOPOOL_OK && count == 2);
    CHECK(aiopool_pool_snapshot(pool, NULL, 1, &count) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_snapshot(pool, json, sizeof json, NULL) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_snapshot(NULL, json, sizeof json, &count) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_snapshot(pool, json, sizeof json, &count) == AIOPOOL_OK);
    CHECK(count < sizeof json && json[count] == 0 && strncmp(json, "{\"pool\":{", 9) == 0);
    CHECK(strstr(json, "\"workers\":2") && strstr(json, "\"name\":\"of-a-c-program\""));
    CHECK(aiopool_pool_snapshot(pool, json, 3, &count) == AIOPOOL_OK && count > 3);
    CHECK(pids[0] == pid[0] || pids[1] == pid[0]);
    snprintf(timeline, sizeof timeline, "/tmp/capi-trace-%d.json", (int)getpid());
    CHECK(aiopool_pool_trace(NULL, timeline, 1) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_trace(pool, NULL, 1) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_trace(pool, timeline, 0) == AIOPOOL_ERR_INVALID);
    CHECK(aiopool_pool_trace(pool, "/no/such/folder.json", 1) == AIOPOOL_ERR_SYSTEM);
    CHECK(aiopool_pool_trace_end(pool) == AIOPOOL_ERR_MISUSE);
    CHECK(aiopool_pool_trace(pool, timeline, 1) == AIOPOOL_OK);
    CHECK(aiopool_pool_trace(pool, timeline, 1) == AIOPOOL_ERR_MISUSE);
    views[1].later = 4711;
    CHECK(aiopool_pool_worker_views(pool, &views->known, 8, 4, &count) == AIOPOOL_ERR_STRUCT);
    CHECK(aiopool_pool_worker_views(pool, NULL, sizeof *views, 4, &count) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_worker_views(pool, &views->known, sizeof *views, 4, NULL) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_worker_views(pool, NULL, 0, 0, &count) == AIOPOOL_OK && count == 2);
    CHECK(aiopool_pool_worker_views(pool, &views->known, sizeof *views, 4, &count) == AIOPOOL_OK);
    CHECK(count == 2 && views[0].known.seat == 0 && views[1].known.seat == 1);
    CHECK(views[1].later == 4711 && views[1].known.state <= AIOPOOL_STATE_STOPPED);
    CHECK(views[0].known.pid == pids[0] || views[0].known.pid == pids[1]);
    CHECK(views[0].known.done + views[1].known.done == 1);
    CHECK(views[0].known.rss_bytes > 0 && views[0].known.polling_ns == AIOPOOL_UNKNOWN);
    CHECK(aiopool_pool_queue_views(pool, queues, sizeof *queues, 2, &count) == AIOPOOL_OK);
    CHECK(count == 1 && queues[0].workers == 2 && queues[0].pending == 0);
    CHECK(queues[0].records == 4096 && queues[0].oldest_ns == AIOPOOL_UNKNOWN);
    CHECK(queues[0].output_bytes == 0);
    outcome = run(failing, 0, AIOPOOL_OUTCOME_ERR);
    CHECK(aiopool_pool_trace_end(NULL) == AIOPOOL_ERR_NULL);
    CHECK(stat(timeline, &page) != 0);
    CHECK(aiopool_pool_trace_end(pool) == AIOPOOL_OK);
    written = fopen(timeline, "r");
    CHECK(written != NULL);
    count = fread(json, 1, sizeof json - 1, written);
    json[count] = 0;
    CHECK(fclose(written) == 0 && unlink(timeline) == 0);
    CHECK(strstr(json, "\"traceEvents\":[") != NULL && strstr(json, "\"name\":\"fail\"") != NULL);
    CHECK(shared->told == 1 && shared->code == -7);
    CHECK(strcmp(shared->function, "fail") == 0 && strcmp(shared->text, "it was asked to") == 0);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_pool_function_stats(pool, "fail", NULL) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_function_stats(pool, "nobody", &times) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_pool_function_stats(pool, "fail", &times) == AIOPOOL_OK);
    CHECK(times.count == 1 && times.ran_p99_ns >= times.ran_mean_ns / 2);
    CHECK(times.failed == 1 && times.ok == 0 && times.ran_max_ns >= times.ran_mean_ns);
    CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK);
    CHECK(stats.ok == 1 && stats.failed == 1 && stats.queued == 0 && stats.running == 0);
    /* An older program's struct, which ends before. */
    stats.struct_size = 152;
    stats.queued = 4711;
    CHECK(aiopool_pool_stats(pool, &stats) == AIOPOOL_OK);
    CHECK(stats.submitted == 2 && stats.queued == 4711);
    end();
    CHECK(shared->starts == 2 && shared->ends == 2);
    CHECK(strcmp(shared->state, options.init_input) == 0);
    CHECK(stat(path, &page) != 0);

    /* An exception function without a start hook. */
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 1;
    options.exception_function = exception;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    outcome = run(failing, 0, AIOPOOL_OUTCOME_ERR);
    CHECK(shared->told == 2);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    end();

    /* A command that is no worker, named when its time is over. */
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    CHECK(options.start_timeout_ms == 0);
    options.processes = 1;
    options.start_method = AIOPOOL_START_COMMAND;
    options.command = sleeper;
    options.start_timeout_ms = 200;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    CHECK(aiopool_function_declare("anything", &call.function) == AIOPOOL_OK);
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_status(outcome) == AIOPOOL_OUTCOME_POOL_CLOSED);
    CHECK(strstr(aiopool_outcome_text(outcome), "/bin/sleep") != NULL);
    CHECK(strstr(aiopool_outcome_text(outcome), "200ms") != NULL);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);

    /* The schedulers. */
    for (uint32_t kind = 0; kind <= AIOPOOL_SCHEDULER_PRIORITY; kind++) {
        CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
        options.processes = options.queues = 2;
        options.priorities = 3;
        options.scheduler = kind;
        CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
        for (size_t i = 0; i < 8; i++) {
            outcome = run(asking, 0, AIOPOOL_OUTCOME_OK);
            memcpy(&pid[i % 2], aiopool_outcome_data(outcome), sizeof *pid);
            CHECK(i % 2 == 0 || pid[0] != pid[1]);
            CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
        }
        end();
    }
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    CHECK(aiopool_scheduler_init(&scheduler) == AIOPOOL_OK);
    scheduler.schedule = by_length;
    scheduler.completed = completed;
    scheduler.process = process;
    scheduler.user = &tally;
    options.processes = options.queues = 3;
    options.scheduler = AIOPOOL_SCHEDULER_CUSTOM;
    options.custom_scheduler = &scheduler;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    memset(&scheduler, 0, sizeof scheduler);
    for (size_t round = 0; round < 2; round++) {
        for (size_t queue = 0; queue < 3; queue++) {
            outcome = run(asking, queue, AIOPOOL_OUTCOME_OK);
            memcpy(&pids[queue], aiopool_outcome_data(outcome), sizeof *pids);
            CHECK(round == 0 || pids[queue] == pid[queue]);
            pid[queue] = pids[queue];
            CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
        }
    }
    CHECK(pid[0] != pid[1] && pid[1] != pid[2] && pid[0] != pid[2]);
    /* No queue is queue 0. */
    outcome = run(asking, 15, AIOPOOL_OUTCOME_OK);
    CHECK(memcmp(&pid[0], aiopool_outcome_data(outcome), sizeof *pid) == 0);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    end();
    CHECK(tally.queues == 3 && tally.chosen == 7 && tally.completed == 7 && tally.ok == 7);
    CHECK(strcmp(tally.function, "who") == 0 && tally.last_ticket > 0);
    CHECK(tally.started == 3 && tally.ended == 3 && tally.died == 0);
    printf("%d checks of options\n", checks);
    return 0;
}
