/* Round trips of a pool of one process beside those of a socket and a forked child, where other
 * programs want the processors. Built and run as docs/living-in-a-service.md says:
 *
 *     round_trips one|two LOAD [ROUNDS [COUNT]]
 *
 * "one" keeps host and worker on processor 0, "two" keeps the worker on processor 1. LOAD programs
 * compute on both. A round is COUNT round trips of the pool, then as many of the socket, each after
 * 20 us of computing. A line has microseconds.
 */
#define _GNU_SOURCE
#include <aiopool.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 100000, MOST_LOAD = 64, MESSAGE = 64 };

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void compute(double us) {
    double end = now() + us;
    while (now() < end) continue;
}

static void check(int is_well, const char *what) {
    if (is_well) return;
    fprintf(stderr, "%s: %s\n", what, aiopool_last_error());
    exit(2);
}

/* Process `pid` runs on the processors from `first` to `last`. */
static void stay(pid_t pid, int first, int last) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int processor = first; processor <= last; processor++) CPU_SET(processor, &set);
    check(sched_setaffinity(pid, sizeof set, &set) == 0, "sched_setaffinity");
}

static int32_t nothing(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                       void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    return 0;
}

static void ask_pool(aiopool_pool *pool, const aiopool_call *call) {
    aiopool_outcome *outcome;
    check(aiopool_pool_submit(pool, call, AIOPOOL_FOREVER, NULL) == AIOPOOL_OK, "submit");
    check(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome) == AIOPOOL_OK, "wait");
    aiopool_outcome_release(outcome);
}

static void ask_socket(int end) {
    char message[MESSAGE] = {0};
    check(write(end, message, sizeof message) == sizeof message, "write");
    check(read(end, message, sizeof message) == sizeof message, "read");
}

/* Forks a child that ends with this process. */
static pid_t child(void) {
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
    return pid;
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void report(const char *who, const char *place, int load, double *times, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += times[i];
    qsort(times, (size_t)count, sizeof *times, compare);
    printf("%-7s %s load %d: mean %7.1f p50 %6.1f p90 %6.1f p99 %7.1f\n", who, place, load,
           sum / count, times[count / 2], times[count * 9 / 10], times[count * 99 / 100]);
    fflush(stdout);
}

int main(int argc, char **argv) {
    static double times[MOST];
    aiopool_pool_options options;
    aiopool_pool *pool;
    aiopool_call call;
    uint32_t worker;
    size_t workers;
    int ends[2];

    const char *place = argc > 1 ? argv[1] : "";
    int load = argc > 2 ? atoi(argv[2]) : -1, rounds = argc > 3 ? atoi(argv[3]) : 3;
    int count = argc > 4 ? atoi(argv[4]) : 8000, partner = strcmp(place, "two") == 0;
    if ((!partner && strcmp(place, "one") != 0) || load < 0 || load > MOST_LOAD || count < 1 ||
        count > MOST) {
        fprintf(stderr, "usage: round_trips one|two LOAD [ROUNDS [COUNT]]\n");
        return 2;
    }
    check(aiopool_call_init(&call) == AIOPOOL_OK, "call");
    check(aiopool_pool_options_init(&options) == AIOPOOL_OK, "options");
    check(aiopool_function_register("nothing", nothing, NULL, &call.function) == AIOPOOL_OK, "f");
    check(aiopool_init() == AIOPOOL_OK, "init");
    options.processes = 1;
    check(aiopool_pool_start(&options, &pool) == AIOPOOL_OK, "start");
    ask_pool(pool, &call);
    check(aiopool_pool_workers(pool, &worker, 1, &workers) == AIOPOOL_OK, "workers");

    check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "socketpair");
    pid_t echo = child();
    if (echo == 0) {
        char message[MESSAGE];
        while (read(ends[1], message, sizeof message) == sizeof message)
            if (write(ends[1], message, sizeof message) != sizeof message) break;
        _exit(0);
    }
    for (int i = 0; i < load; i++)
        if (child() == 0) compute(1e12);
    stay(0, 0, 0);
    stay((pid_t)worker, partner, partner);
    stay(echo, partner, partner);
    compute(1e5);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < count; i++) {
            double begin = now();
            ask_pool(pool, &call);
            times[i] = now() - begin;
            compute(20);
        }
        report("aiopool", place, load, times, count);
        for (int i = 0; i < count; i++) {
            double begin = now();
            ask_socket(ends[0]);
            times[i] = now() - begin;
            compute(20);
        }
        report("socket", place, load, times, count);
    }
    check(aiopool_pool_free(pool) == AIOPOOL_OK, "free");
    return 0;
}
