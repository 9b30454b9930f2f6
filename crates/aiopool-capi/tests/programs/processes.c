/* One function in a process of its own: its outcome, its end in every way, its handle misused.
 * Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LONG = 60000, LARGE = 300000 };

static uint32_t upper_function, nap_function, leave_function, fail_function, refuse_function,
    inside_function;

static char started_with[16];

static int32_t start(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    (void)task, (void)output, (void)user;
    memcpy(started_with, input, len);
    return 0;
}

static int32_t refuse(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    (void)input, (void)len, (void)output, (void)user;
    aiopool_task_set_error(task, "it does not want to start");
    return -1;
}

/* What the start function was given, its process id, and the input in upper case. */
static int32_t upper(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    uint32_t pid = (uint32_t)getpid();
    char *place;
    void *reserved;
    (void)user;
    aiopool_output_write(output, started_with, sizeof started_with);
    aiopool_output_write(output, &pid, sizeof pid);
    if (aiopool_output_reserve(output, len, &reserved) != AIOPOOL_OK) return -1;
    place = reserved;
    for (size_t i = 0; i < len; i++) place[i] = (char)(((const char *)input)[i] - 'a' + 'A');
    (void)task;
    return 0;
}

static int32_t nap(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    while (pause() != 0) {
    }
    return 0;
}

static int32_t leave(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                     void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    _exit(7);
}

static int32_t fail(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)input, (void)len, (void)output, (void)user;
    aiopool_task_set_error(task, "as it was asked to");
    return -42;
}

/* In a process: there are no processes of its own. */
static int32_t inside(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    aiopool_process *process;
    aiopool_call call;
    int32_t said;
    (void)task, (void)input, (void)len, (void)user;
    aiopool_call_init(&call);
    call.function = fail_function;
    said = aiopool_process_start(&call, NULL, NULL, &process);
    aiopool_output_write(output, &said, sizeof said);
    return 0;
}

static aiopool_call call_of(uint32_t function, const void *input, size_t len) {
    aiopool_call call;
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
    call.function = function;
    call.input = input;
    call.input_len = len;
    return call;
}

static aiopool_process *run(uint32_t function) {
    aiopool_process *process;
    aiopool_call call = call_of(function, NULL, 0);
    CHECK(aiopool_process_start(&call, NULL, NULL, &process) == AIOPOOL_OK);
    return process;
}

static int alive(aiopool_process *process) {
    bool alive;
    CHECK(aiopool_process_is_alive(process, &alive) == AIOPOOL_OK);
    return alive;
}

/* Joins the process, and looks at its outcome and exit code. */
static void ends(aiopool_process *process, int32_t status, int32_t code) {
    aiopool_outcome *outcome;
    int32_t exit_code = 4711;
    CHECK(aiopool_process_join(process, LONG) == AIOPOOL_OK);
    CHECK(!alive(process));
    CHECK(aiopool_process_wait(process, 0, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == status);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_process_exit_code(process, &exit_code) == AIOPOOL_OK && exit_code == code);
    CHECK(aiopool_process_free(process) == AIOPOOL_OK);
}

static void *waiter(void *process) {
    aiopool_outcome *outcome;
    CHECK(aiopool_process_wait(process, LONG, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    return NULL;
}

static aiopool_process *host_process;

static void in_child(void) {
    aiopool_outcome *outcome;
    bool alive;
    CHECK(aiopool_process_wait(host_process, 0, &outcome) == AIOPOOL_ERR_FORKED);
    CHECK(aiopool_process_is_alive(host_process, &alive) == AIOPOOL_ERR_FORKED);
    CHECK(aiopool_process_kill(host_process) == AIOPOOL_ERR_FORKED);
    CHECK(aiopool_process_free(host_process) == AIOPOOL_ERR_FORKED);
    _exit(0);
}

int main(void) {
    static char large[LARGE];
    uint32_t start_function, pid;
    aiopool_process *process = NULL, *other;
    aiopool_pool_options options;
    aiopool_outcome *outcome;
    aiopool_call call;
    int32_t said, code;
    int fd, state;
    bool is_alive;
    pthread_t thread;
    pid_t child;
    struct pollfd watched = {.events = POLLIN};

    memset(large, 'x', sizeof large);
    CHECK(aiopool_function_register("upper", upper, NULL, &upper_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("nap", nap, NULL, &nap_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("leave", leave, NULL, &leave_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("fail", fail, NULL, &fail_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("start", start, NULL, &start_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("refuse", refuse, NULL, &refuse_function) == AIOPOOL_OK);
    CHECK(aiopool_function_register("inside", inside, NULL, &inside_function) == AIOPOOL_OK);
    call = call_of(upper_function, NULL, 0);
    CHECK(aiopool_process_start(&call, NULL, NULL, &process) == AIOPOOL_ERR_TOO_EARLY);
    CHECK(aiopool_init() == AIOPOOL_OK);

    /* What is refused, and leaves nothing behind. */
    CHECK(aiopool_process_start(NULL, NULL, NULL, &process) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_process_start(&call, NULL, NULL, NULL) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_process_start(&call, NULL, "\xff", &process) == AIOPOOL_ERR_INVALID);
    call.struct_size = 3;
    CHECK(aiopool_process_start(&call, NULL, NULL, &process) == AIOPOOL_ERR_STRUCT);
    call = call_of(4711, NULL, 0);
    CHECK(aiopool_process_start(&call, NULL, NULL, &process) == AIOPOOL_ERR_UNKNOWN);
    call = call_of(upper_function, NULL, 0);
    call.retries = 1;
    CHECK(aiopool_process_start(&call, NULL, NULL, &process) == AIOPOOL_ERR_INVALID);
    call = call_of(upper_function, NULL, 5);
    CHECK(aiopool_process_start(&call, NULL, NULL, &process) == AIOPOOL_ERR_NULL);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.struct_size = 8;
    CHECK(aiopool_process_start(&call, &options, NULL, &process) == AIOPOOL_ERR_STRUCT);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.priorities = 9;
    CHECK(aiopool_process_start(&call, &options, NULL, &process) == AIOPOOL_ERR_INVALID);
    CHECK(process == NULL);
    /* Never started is no handle. */
    CHECK(aiopool_process_join(process, 0) == AIOPOOL_ERR_NULL);

    /* A value, with the options of a pool, those of the pool's size aside. */
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.processes = 3;
    options.init_function = start_function;
    options.init_input = "from the start";
    options.init_input_len = 15;
    call = call_of(0, large, sizeof large);
    call.name = "upper";
    call.user_data = 0xfeed;
    call.flags = AIOPOOL_CALL_BY_TICKET | AIOPOOL_CALL_BORROW_OUTPUT;
    CHECK(aiopool_process_start(&call, &options, "shouter", &process) == AIOPOOL_OK);
    CHECK(strcmp(aiopool_process_name(process), "shouter") == 0);
    CHECK(aiopool_process_pid(process, &pid) == AIOPOOL_OK && pid != (uint32_t)getpid());
    CHECK(aiopool_process_wait(process, LONG, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    CHECK(aiopool_outcome_user_data(outcome) == 0xfeed);
    CHECK(aiopool_outcome_len(outcome) == sizeof started_with + sizeof pid + sizeof large);
    {
        const char *data = aiopool_outcome_data(outcome);
        CHECK(strcmp(data, "from the start") == 0);
        CHECK(memcmp(data + sizeof started_with, &pid, sizeof pid) == 0);
        data += sizeof started_with + sizeof pid;
        CHECK(data[0] == 'X' && memcmp(data, data + 1, sizeof large - 1) == 0);
    }
    CHECK(aiopool_process_join(process, LONG) == AIOPOOL_OK);
    CHECK(aiopool_process_join(process, 0) == AIOPOOL_OK);
    CHECK(aiopool_process_exit_code(process, &code) == AIOPOOL_OK && code == 0);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_process_wait(process, LONG, &outcome) == AIOPOOL_ERR_UNKNOWN);
    CHECK(strstr(aiopool_last_error(), "received before") != NULL);
    CHECK(aiopool_process_kill(process) == AIOPOOL_OK);
    CHECK(aiopool_process_free(process) == AIOPOOL_OK);

    /* Freed is freed. */
    CHECK(aiopool_process_free(process) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_process_join(process, 0) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_process_wait(process, 0, &outcome) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_process_fd(process, &fd) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_process_is_alive(process, &is_alive) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_process_pid(process, &pid) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_process_exit_code(process, &code) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_process_terminate(process) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_process_kill(process) == AIOPOOL_ERR_HANDLE);
    CHECK(*aiopool_process_name(process) == 0);
    CHECK(aiopool_process_free(NULL) == AIOPOOL_OK);

    /* Ends of all kinds. */
    ends(run(fail_function), AIOPOOL_OUTCOME_ERR, 1);
    ends(run(leave_function), AIOPOOL_OUTCOME_WORKER_LOST, 7);
    process = run(nap_function);
    other = run(nap_function);
    CHECK(strncmp(aiopool_process_name(process), "Process-", 8) == 0);
    CHECK(strcmp(aiopool_process_name(process), aiopool_process_name(other)) != 0);
    CHECK(alive(process) && alive(other));
    CHECK(aiopool_process_join(process, 0) == AIOPOOL_ERR_TIMEOUT);
    CHECK(aiopool_process_join(process, 20) == AIOPOOL_ERR_TIMEOUT);
    CHECK(aiopool_process_wait(process, 0, &outcome) == AIOPOOL_ERR_TIMEOUT);
    CHECK(aiopool_process_exit_code(process, &code) == AIOPOOL_ERR_EMPTY);
    CHECK(aiopool_process_terminate(process) == AIOPOOL_OK);
    CHECK(aiopool_process_kill(other) == AIOPOOL_OK);
    ends(process, AIOPOOL_OUTCOME_WORKER_LOST, -SIGTERM);
    ends(other, AIOPOOL_OUTCOME_WORKER_LOST, -SIGKILL);

    /* A deadline, limits. */
    call = call_of(nap_function, NULL, 0);
    call.run_limit_ms = 500;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.grace_ms = 10;
    options.limit_open_files = 100;
    CHECK(aiopool_process_start(&call, &options, NULL, &process) == AIOPOOL_OK);
    ends(process, AIOPOOL_OUTCOME_TIMED_OUT, -SIGKILL);

    /* One that does not come to run anything. */
    call = call_of(upper_function, NULL, 0);
    options.init_function = refuse_function;
    if (aiopool_process_start(&call, &options, NULL, &process) == AIOPOOL_OK) {
        CHECK(aiopool_process_join(process, LONG) == AIOPOOL_ERR_FAILED);
        CHECK(strstr(aiopool_last_error(), "does not want to start") != NULL);
        CHECK(aiopool_process_free(process) == AIOPOOL_OK);
    } else {
        CHECK(strstr(aiopool_last_error(), "does not want to start") != NULL);
    }

    /* The descriptor: readable when there is an outcome, and not before. */
    process = run(nap_function);
    CHECK(aiopool_process_fd(process, &watched.fd) == AIOPOOL_OK);
    CHECK(aiopool_process_wait(process, 0, &outcome) == AIOPOOL_ERR_TIMEOUT);
    CHECK(poll(&watched, 1, 20) == 0);
    CHECK(aiopool_process_kill(process) == AIOPOOL_OK);
    do {
        CHECK(poll(&watched, 1, LONG) == 1);
    } while (aiopool_process_wait(process, 0, &outcome) == AIOPOOL_ERR_TIMEOUT);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_WORKER_LOST);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_process_free(process) == AIOPOOL_OK);

    /* From another thread, from a forked child, from inside, and freed while it runs. */
    host_process = process = run(nap_function);
    CHECK(pthread_create(&thread, NULL, waiter, process) == 0);
    usleep(5000);
    CHECK(aiopool_process_kill(process) == AIOPOOL_OK);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(aiopool_process_free(process) == AIOPOOL_OK);
    host_process = run(nap_function);
    CHECK((child = fork()) >= 0);
    if (child == 0) in_child();
    CHECK(waitpid(child, &state, 0) == child && state == 0);
    process = run(inside_function);
    CHECK(aiopool_process_wait(process, LONG, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_len(outcome) == sizeof said);
    memcpy(&said, aiopool_outcome_data(outcome), sizeof said);
    CHECK(said == AIOPOOL_ERR_IN_WORKER);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(aiopool_process_free(process) == AIOPOOL_OK);
    CHECK(aiopool_process_pid(host_process, &pid) == AIOPOOL_OK);
    CHECK(aiopool_process_free(host_process) == AIOPOOL_OK);
    CHECK(kill((pid_t)pid, 0) != 0);
    printf("%d checks of processes\n", checks);
    return 0;
}
