/* Workers that are not what their host is: environment, directory, umask, niceness, user, output.
 * Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a worker says of itself. */
struct said {
    char kept[16], given[16], directory[64];
    uint32_t umask, user, group, group_count, last_processor;
    int32_t nice, processors, variables, blocked;
};

extern char **environ;

static void copy(char *to, size_t size, const char *from) {
    snprintf(to, size, "%s", from == NULL ? "(none)" : from);
}

static int32_t look(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    struct said said = {0};
    cpu_set_t processors;
    sigset_t signals;
    (void)task, (void)input, (void)len, (void)user;
    copy(said.kept, sizeof said.kept, getenv("KEPT"));
    copy(said.given, sizeof said.given, getenv("GIVEN"));
    if (getcwd(said.directory, sizeof said.directory) == NULL) return -1;
    said.umask = umask(0);
    umask(said.umask);
    said.user = getuid();
    said.group = getgid();
    said.group_count = (uint32_t)getgroups(0, NULL);
    said.nice = getpriority(PRIO_PROCESS, 0);
    sched_getaffinity(0, sizeof processors, &processors);
    said.processors = CPU_COUNT(&processors);
    said.last_processor = CPU_SETSIZE;
    while (!CPU_ISSET(--said.last_processor, &processors)) continue;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &signals) == 0);
    for (int number = 1; number < SIGRTMIN; number++) said.blocked += sigismember(&signals, number);
    while (environ[said.variables] != NULL) said.variables++;
    printf("a worker has looked\n");
    return aiopool_output_write(output, &said, sizeof said);
}

static uint32_t function, talking;

/* Says its input on both streams, a piece of it without a line's end, and dies where that asks. */
static int32_t talk(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)task, (void)output, (void)user;
    printf("out %.*s", (int)len, (const char *)input);
    fprintf(stderr, "err %.*s\n", (int)len, (const char *)input);
    if (len > 3 && memcmp(input, "die", 3) == 0) raise(SIGKILL);
    return 0;
}

static struct said ask(const aiopool_surroundings *surroundings) {
    aiopool_pool_options options;
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome;
    aiopool_pool *pool;
    struct said said;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 1;
    options.surroundings = surroundings;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    call.function = function;
    CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_len(outcome) == sizeof said);
    memcpy(&said, aiopool_outcome_data(outcome), sizeof said);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    return said;
}

/* A pool with these is refused with a text that has `needle`. */
static void refuse(aiopool_surroundings surroundings, aiopool_status status, const char *needle) {
    aiopool_pool_options options;
    aiopool_pool *pool;
    surroundings.struct_size = sizeof surroundings;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.surroundings = &surroundings;
    CHECK(aiopool_pool_start(&options, &pool) == status);
    CHECK(strstr(aiopool_last_error(), needle) != NULL);
}

static void as_they_are_told(void) {
    const char *variables[] = {"GIVEN=a=b", "KEPT", NULL}, *one[] = {"GIVEN=1", NULL};
    aiopool_surroundings surroundings;
    char here[64], output[] = "/tmp/aiopool-workers-XXXXXX", file[64], line[64] = "";
    int nice = getpriority(PRIO_PROCESS, 0);
    struct said said;
    FILE *said_there;

    CHECK(aiopool_surroundings_init(&surroundings) == AIOPOOL_OK);
    said = ask(&surroundings);
    CHECK(getcwd(here, sizeof here) != NULL);
    CHECK(strcmp(said.kept, "yes") == 0 && strcmp(said.given, "(none)") == 0);
    CHECK(strcmp(said.directory, here) == 0 && said.umask == 022 && said.nice == nice);
    CHECK(said.user == getuid() && said.group == getgid());

    CHECK(mkdtemp(output) != NULL);
    surroundings.flags = AIOPOOL_SURROUNDINGS_UMASK;
    surroundings.environment = variables;
    surroundings.directory = "/usr";
    surroundings.output_directory = output;
    surroundings.umask = 0;
    surroundings.nice = 3;
    said = ask(&surroundings);
    CHECK(strcmp(said.kept, "(none)") == 0 && strcmp(said.given, "a=b") == 0);
    CHECK(strcmp(said.directory, "/usr") == 0 && said.umask == 0);
    /* 19 is as nice as a process can be. */
    CHECK(said.nice == (nice + 3 < 19 ? nice + 3 : 19));
    snprintf(file, sizeof file, "%s/worker-0.out", output);
    said_there = fopen(file, "r");
    CHECK(said_there != NULL && fgets(line, sizeof line, said_there) != NULL);
    CHECK(strcmp(line, "a worker has looked\n") == 0);
    fclose(said_there);

    CHECK(aiopool_surroundings_init(&surroundings) == AIOPOOL_OK);
    surroundings.flags = AIOPOOL_SURROUNDINGS_CLEAR_ENVIRONMENT;
    surroundings.environment = one;
    said = ask(&surroundings);
    CHECK(strcmp(said.given, "1") == 0 && said.variables == 1);

    {
        cpu_set_t possible;
        uint32_t last = CPU_SETSIZE;
        CHECK(sched_getaffinity(0, sizeof possible, &possible) == 0);
        while (!CPU_ISSET(--last, &possible)) continue;
        CHECK(aiopool_surroundings_init(&surroundings) == AIOPOOL_OK);
        surroundings.processors = &last;
        surroundings.processors_len = 1;
        said = ask(&surroundings);
        CHECK(said.processors == 1 && said.last_processor == last);
        surroundings.processors_len = 0;
        refuse(surroundings, AIOPOOL_ERR_INVALID, "processors = none");
        last = 1 << 30;
        surroundings.processors_len = 1;
        refuse(surroundings, AIOPOOL_ERR_INVALID, "processors = 1073741824");
        surroundings.processors = NULL;
        refuse(surroundings, AIOPOOL_ERR_NULL, "surroundings.processors");
    }

    if (getuid() == 0) {
        CHECK(aiopool_surroundings_init(&surroundings) == AIOPOOL_OK);
        surroundings.flags = AIOPOOL_SURROUNDINGS_USER | AIOPOOL_SURROUNDINGS_GROUP;
        surroundings.user = 65534;
        surroundings.group = 65533;
        said = ask(&surroundings);
        CHECK(said.user == 65534 && said.group == 65533 && said.group_count <= 1);
    }
}

/* What each task prints is told apart, of one that its worker died of, too. */
static void printed_per_task(void) {
    enum { COUNT = 40 };
    char directory[] = "/tmp/aiopool-printed-XXXXXX", inputs[COUNT][16], text[64], wanted[64];
    aiopool_pool_options options;
    aiopool_surroundings surroundings;
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome;
    aiopool_pool *pool;
    uint64_t tickets[COUNT], ticket;
    size_t length;
    CHECK(mkdtemp(directory) != NULL);
    CHECK(aiopool_surroundings_init(&surroundings) == AIOPOOL_OK);
    surroundings.flags = AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 2;
    options.surroundings = &surroundings;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    CHECK(strstr(aiopool_last_error(), "output_directory") != NULL);
    surroundings.output_directory = directory;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    CHECK(strstr(aiopool_last_error(), "child_concurrency 1") != NULL);
    options.child_concurrency = 1;
    surroundings.flags = 0;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_printed(pool, 0, 1, text, sizeof text, &length) == AIOPOOL_ERR_MISUSE);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    surroundings.flags = AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_OK);
    call.function = talking;
    for (int i = 0; i < COUNT; i++) {
        snprintf(inputs[i], sizeof inputs[i], "%s %d", i % 10 == 7 ? "die" : "live", i);
        call.input = inputs[i];
        call.input_len = strlen(inputs[i]);
        CHECK(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, &tickets[i]) == AIOPOOL_OK);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK);
        ticket = aiopool_outcome_ticket(outcome);
        int at = 0;
        while (tickets[at] != ticket) at++;
        snprintf(wanted, sizeof wanted, "err %.15s\n", inputs[at]);
        CHECK(aiopool_pool_printed(pool, ticket, 2, text, sizeof text, &length) == AIOPOOL_OK);
        CHECK(length == strlen(wanted) && strcmp(text, wanted) == 0);
        CHECK(aiopool_pool_printed(pool, ticket, 1, text, sizeof text, &length) == AIOPOOL_OK);
        if (at % 10 == 7) {
            /* What C had buffered went with the worker. */
            CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_WORKER_LOST && length == 0);
        } else {
            snprintf(wanted, sizeof wanted, "out %.15s", inputs[at]);
            CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
            CHECK(length == strlen(wanted) && strcmp(text, wanted) == 0);
        }
        CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    }
    CHECK(aiopool_pool_printed(pool, ticket, 3, text, sizeof text, &length) == AIOPOOL_ERR_INVALID);
    CHECK(aiopool_pool_printed(pool, ticket, 1, NULL, 1, &length) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_printed(pool, ticket, 2, NULL, 0, &length) == AIOPOOL_OK && length > 0);
    CHECK(aiopool_pool_printed(pool, ticket, 2, text, 3, &length) == AIOPOOL_OK && length > 3);
    /* Nobody has that number. */
    CHECK(aiopool_pool_printed(pool, 4711, 1, NULL, 0, &length) == AIOPOOL_OK && length == 0);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

/* What the header says of processors: workers have those of the thread that starts the pool. */
static void processors_are_the_threads(void) {
    cpu_set_t all, first;
    int cpu = 0;
    CHECK(sched_getaffinity(0, sizeof all, &all) == 0);
    while (!CPU_ISSET(cpu, &all)) cpu++;
    CPU_ZERO(&first);
    CPU_SET(cpu, &first);
    CHECK(sched_setaffinity(0, sizeof first, &first) == 0);
    CHECK(ask(NULL).processors == 1);
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
    CHECK(ask(NULL).processors == CPU_COUNT(&all));
    /* And its niceness, which is the last thing here: it can only grow. */
    CHECK(nice(1) != -1);
    CHECK(ask(NULL).nice == getpriority(PRIO_PROCESS, 0));
}

/* Nor is a signal blocked that the thread blocks, now or when the library was begun. */
static void signals_arrive(void) {
    sigset_t all;
    CHECK(sigfillset(&all) == 0 && sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    CHECK(ask(NULL).blocked == 0);
    CHECK(sigprocmask(SIG_UNBLOCK, &all, NULL) == 0);
}

int main(void) {
    const char *wrong[] = {"=", NULL};
    sigset_t one;
    CHECK(setenv("KEPT", "yes", 1) == 0);
    umask(022);
    CHECK(aiopool_function_register("look", look, NULL, &function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("talk", talk, NULL, &talking) == AIOPOOL_OK);
    CHECK(sigemptyset(&one) == 0 && sigaddset(&one, SIGUSR1) == 0);
    CHECK(sigprocmask(SIG_BLOCK, &one, NULL) == 0);
    CHECK(aiopool_init() == AIOPOOL_OK);
    CHECK(ask(NULL).blocked == 0);
    CHECK(sigprocmask(SIG_UNBLOCK, &one, NULL) == 0);
    as_they_are_told();
    processors_are_the_threads();
    signals_arrive();
    printed_per_task();
    refuse((aiopool_surroundings){.flags = 64}, AIOPOOL_ERR_INVALID, "unknown bits");
    refuse((aiopool_surroundings){.umask = 1}, AIOPOOL_ERR_INVALID, "without its flag");
    refuse((aiopool_surroundings){.nice = 40}, AIOPOOL_ERR_INVALID, "0 to 39");
    refuse((aiopool_surroundings){.nice = -1}, AIOPOOL_ERR_INVALID, "0 to 39");
    refuse((aiopool_surroundings){.flags = AIOPOOL_SURROUNDINGS_UMASK, .umask = 01000},
           AIOPOOL_ERR_INVALID, "0 to 0o777");
    refuse((aiopool_surroundings){.directory = "/no/such"}, AIOPOOL_ERR_INVALID, "a directory");
    refuse((aiopool_surroundings){.output_directory = "/no/such"}, AIOPOOL_ERR_INVALID,
           "a directory");
    refuse((aiopool_surroundings){.environment = wrong}, AIOPOOL_ERR_INVALID, "env");
    refuse((aiopool_surroundings){.reserved = {1}}, AIOPOOL_ERR_STRUCT, "reserved");
    printf("%d checks of what workers are\n", checks);
    return 0;
}
