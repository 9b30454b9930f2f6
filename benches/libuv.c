/* Tasks from C beside libuv's thread pool: blocks in turns, in one process.
 *
 *     cargo build --release && sh benches/libuv.sh
 *
 * Both keep WINDOW tasks in flight and start another one for each that comes back; a task mixes the
 * bits of a number, and every answer is checked. libuv's tasks are calls of uv_queue_work, which run
 * on threads of this process; aiopool's run in processes of their own. Then one task at a time,
 * there and back.
 *
 * Run: libuv [workers] [pairs of blocks] [tasks a block]
 */
#define _POSIX_C_SOURCE 200809L
#include <aiopool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

/* Tasks in flight: enough that nobody waits for a task that is just not sent yet. */
enum { WINDOW = 1024, MANY = 256, MAX_PAIRS = 101, TRIPS = 2000 };

static void check(aiopool_status status, const char *what) {
    if (status == AIOPOOL_OK) return;
    fprintf(stderr, "%s: %s\n", what, aiopool_last_error());
    exit(1);
}

static void wrong(const char *whose, uint64_t x) {
    fprintf(stderr, "%s answered %llu wrongly\n", whose, (unsigned long long)x);
    exit(1);
}

static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    return x;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* libuv */

static struct job {
    uv_work_t work;
    uint64_t x, answer;
} jobs[WINDOW];
static uint64_t to_start, next_x;

static void job_runs(uv_work_t *work) {
    struct job *job = (struct job *)work->data;
    job->answer = mix(job->x);
}

static void job_starts(struct job *job);

static void job_ended(uv_work_t *work, int status) {
    struct job *job = (struct job *)work->data;
    if (status != 0 || job->answer != mix(job->x)) wrong("libuv", job->x);
    job_starts(job);
}

static void job_starts(struct job *job) {
    if (to_start == 0) return;
    to_start--;
    job->x = next_x++;
    job->work.data = job;
    if (uv_queue_work(uv_default_loop(), &job->work, job_runs, job_ended) != 0) exit(1);
}

static double libuv_block(uint64_t tasks, uint64_t window) {
    double begin = seconds();
    to_start = tasks;
    for (uint64_t i = 0; i < window; i++) job_starts(&jobs[i]);
    uv_run(uv_default_loop(), UV_RUN_DEFAULT);
    return seconds() - begin;
}

/* aiopool */

static aiopool_pool *pool;
static uint32_t function;

static int32_t mix_task(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                        void *user) {
    uint64_t x;
    (void)user;
    if (len != sizeof x) {
        aiopool_task_set_error(task, "a number of 8 bytes is expected");
        return -1;
    }
    memcpy(&x, input, sizeof x);
    x = mix(x);
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

static void starts(void) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    uint64_t x = next_x++;
    call.function = function;
    call.input = &x;
    call.input_len = sizeof x;
    call.user_data = x;
    check(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL), "submit");
}

static void ended(aiopool_outcome *outcome) {
    uint64_t x = aiopool_outcome_user_data(outcome), answer;
    if (aiopool_outcome_kind(outcome) != AIOPOOL_OUTCOME_OK) wrong("aiopool", x);
    memcpy(&answer, aiopool_outcome_data(outcome), sizeof answer);
    if (answer != mix(x)) wrong("aiopool", x);
    check(aiopool_outcome_release(outcome), "release");
}

/* One call a task, as libuv has it. */
static double aiopool_block(uint64_t tasks, uint64_t window) {
    double begin = seconds();
    uint64_t started = 0, received = 0;
    for (; started < tasks && started < window; started++) starts();
    while (received < tasks) {
        aiopool_outcome *outcome;
        check(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome), "wait");
        ended(outcome);
        received++;
        if (started < tasks) {
            starts();
            started++;
        }
    }
    return seconds() - begin;
}

/* The verbs for many tasks, which libuv has not. */
static double aiopool_many(uint64_t tasks, uint64_t window) {
    static aiopool_outcome *outcomes[MANY];
    static aiopool_call calls[MANY];
    static uint64_t inputs[MANY];
    double begin = seconds();
    uint64_t started = 0, received = 0;
    size_t count, submitted;
    while (received < tasks) {
        while (started < tasks && started - received + MANY <= window) {
            for (count = 0; count < MANY && started + count < tasks; count++) {
                const aiopool_call call = AIOPOOL_CALL_INIT;
                inputs[count] = next_x++;
                calls[count] = call;
                calls[count].function = function;
                calls[count].input = &inputs[count];
                calls[count].input_len = sizeof inputs[count];
                calls[count].user_data = inputs[count];
            }
            check(aiopool_pool_submit_many(pool, calls, count, AIOPOOL_FOREVER, NULL, &submitted),
                  "submit");
            started += count;
        }
        check(aiopool_pool_wait_many(pool, outcomes, MANY, AIOPOOL_FOREVER, &count), "wait");
        for (size_t i = 0; i < count; i++) ended(outcomes[i]);
        received += count;
    }
    return seconds() - begin;
}

/* figures */

static int by_size(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double median(double *figures, int count) {
    qsort(figures, (size_t)count, sizeof *figures, by_size);
    return figures[count / 2];
}

static void compare(const char *what, double (*block)(uint64_t, uint64_t), int pairs,
                    uint64_t tasks, uint64_t window) {
    double ours[MAX_PAIRS], theirs[MAX_PAIRS], ratios[MAX_PAIRS];
    for (int pair = -1; pair < pairs; pair++) {
        /* Who begins alternates, too; the first pair warms up. */
        double first = 0, second = 0;
        if (pair % 2 == 0) first = block(tasks, window);
        second = libuv_block(tasks, window);
        if (pair % 2 != 0) first = block(tasks, window);
        if (pair < 0) continue;
        ours[pair] = first;
        theirs[pair] = second;
        ratios[pair] = second / first;
    }
    double aiopool = median(ours, pairs), libuv = median(theirs, pairs);
    double ratio = median(ratios, pairs);
    if (window == 1) {
        aiopool *= 1e6 / (double)tasks;
        libuv *= 1e6 / (double)tasks;
    } else {
        aiopool = (double)tasks / aiopool / 1e6;
        libuv = (double)tasks / libuv / 1e6;
    }
    printf("%s: aiopool %.2f, libuv %.2f; %.2f times as fast (%.2f to %.2f in %d pairs)\n", what,
           aiopool, libuv, ratio, ratios[0], ratios[pairs - 1], pairs);
}

int main(int argc, char **argv) {
    const char *workers = argc > 1 ? argv[1] : "1";
    int pairs = argc > 2 ? atoi(argv[2]) : 15;
    uint64_t tasks = argc > 3 ? strtoull(argv[3], NULL, 10) : 200000;
    aiopool_pool_options options;

    if (pairs < 1 || pairs > MAX_PAIRS || tasks < 1) {
        fprintf(stderr, "1 to %d pairs of blocks, of 1 task or more\n", MAX_PAIRS);
        return 2;
    }
    setenv("UV_THREADPOOL_SIZE", workers, 1);
    check(aiopool_function_register("mix", mix_task, NULL, &function), "register");
    check(aiopool_init(), "init");
    check(aiopool_pool_options_init(&options), "options");
    options.processes = (uint32_t)strtoul(workers, NULL, 10);
    check(aiopool_pool_start(&options, &pool), "start");

    printf("%s worker%s, libuv %s\n", workers, strcmp(workers, "1") == 0 ? "" : "s",
           uv_version_string());
    compare("million tasks a second, a call each", aiopool_block, pairs, tasks, WINDOW);
    compare("million tasks a second, many a call", aiopool_many, pairs, tasks, WINDOW);
    compare("microseconds there and back", aiopool_block, pairs, TRIPS, 1);
    check(aiopool_pool_free(pool), "free");
    return 0;
}
