/* Task functions for hosts in languages that cannot have any in a forked process.
 * A worker is `aiopool worker --load libtasks.so`. Build: see README.md.
 */
#include <aiopool.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int32_t read_number(aiopool_task *task, const void *input, size_t len, uint64_t *x) {
    if (len != sizeof *x) {
        aiopool_task_set_error(task, "a number of 8 bytes is expected");
        return -1;
    }
    memcpy(x, input, sizeof *x);
    return 0;
}

static int32_t square(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    uint64_t x;
    (void)user;
    if (read_number(task, input, len, &x) != 0) return -1;
    x *= x;
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

/* Crashes at every twentieth number. */
static int32_t fragile(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                       void *user) {
    uint64_t x;
    (void)user;
    if (read_number(task, input, len, &x) != 0) return -1;
    if (x % 20 == 7) raise(SIGSEGV);
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

struct nap {
    aiopool_output *output;
    uint64_t x;
};

static void awake(aiopool_task *task, uint32_t events, void *data) {
    struct nap *nap = data;
    uint64_t doubled = nap->x * 2;
    (void)events;
    aiopool_output_write(nap->output, &doubled, sizeof doubled);
    free(nap);
    aiopool_task_complete(task, 0);
}

/* Doubles, 50 milliseconds later: as many at once as the worker's child_concurrency. */
static int32_t slow_double(aiopool_task *task, const void *input, size_t len,
                           aiopool_output *output, void *user) {
    struct nap *nap = malloc(sizeof *nap);
    (void)user;
    if (nap == NULL || read_number(task, input, len, &nap->x) != 0) {
        free(nap);
        return -1;
    }
    nap->output = output;
    aiopool_task_sleep(task, 50, awake, nap);
    return AIOPOOL_PENDING;
}

/* Each byte's complement, written where the host reads it. */
static int32_t invert(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                      void *user) {
    const unsigned char *from = input;
    unsigned char *to;
    void *place;
    (void)user;
    if (aiopool_output_loan(output, len, &place) != AIOPOOL_OK) {
        aiopool_task_set_error(task, aiopool_last_error());
        return -1;
    }
    to = place;
    for (size_t i = 0; i < len; i++) to[i] = (unsigned char)~from[i];
    return 0;
}

/* Says what becomes of 100 open files, a socket, and a new file. */
static int32_t trespass(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                        void *user) {
    static const char path[] = "/tmp/aiopool-trespass";
    int fds[100], count = 0, files = 0, network = 0, writing = 0, fd;
    char text[256], texts[3][64];
    (void)task, (void)input, (void)len, (void)user;
    while (count < 100 && (fds[count] = open("/dev/null", O_RDONLY)) >= 0) count++;
    if (count < 100) files = errno;
    while (count > 0) close(fds[--count]);
    if ((fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) network = errno;
    if (fd >= 0) close(fd);
    if ((fd = open(path, O_WRONLY | O_CREAT, 0600)) < 0) writing = errno;
    if (fd >= 0) close(fd), unlink(path);
    snprintf(texts[0], sizeof texts[0], "%s", strerror(files));
    snprintf(texts[1], sizeof texts[1], "%s", strerror(network));
    snprintf(texts[2], sizeof texts[2], "%s", strerror(writing));
    snprintf(text, sizeof text, "files %s, socket %s, writing %s", texts[0], texts[1], texts[2]);
    aiopool_output_write(output, text, strlen(text));
    return 0;
}

/* Says what its worker's process is, and prints its input. */
static int32_t surroundings(aiopool_task *task, const void *input, size_t len,
                            aiopool_output *output, void *user) {
    char directory[256] = "?", text[512];
    const char *greeting = getenv("GREETING");
    mode_t mask = umask(0);
    (void)task, (void)user;
    umask(mask);
    if (getcwd(directory, sizeof directory) == NULL) return -1;
    snprintf(text, sizeof text, "GREETING %s, in %s, umask %03o, niceness %d",
             greeting == NULL ? "not set" : greeting, directory, (unsigned)mask,
             getpriority(PRIO_PROCESS, 0));
    printf("%.*s", (int)len, (const char *)input);
    fflush(stdout);
    aiopool_output_write(output, text, strlen(text));
    return 0;
}

/* Is 42 steps far, and waits until it is cancelled. */
static int32_t never_done(aiopool_task *task, const void *input, size_t len,
                          aiopool_output *output, void *user) {
    (void)input, (void)len, (void)output, (void)user;
    return aiopool_task_progress(task, 42) == AIOPOOL_OK ? AIOPOOL_PENDING : -1;
}

/* Computes for ever: obeys nobody. */
static int32_t spin(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    volatile uint64_t turns = 0;
    (void)input, (void)len, (void)output, (void)user;
    if (aiopool_task_progress(task, 1) != AIOPOOL_OK) return -1;
    for (;;) turns++;
}

/* An error with the number that is its input. */
static int32_t fail(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    uint64_t x;
    (void)output, (void)user;
    if (read_number(task, input, len, &x) != 0) return -1;
    aiopool_task_set_error(task, "it was to fail");
    return (int32_t)x;
}

/* Each worker's own. */
static uint64_t key, done;

/* The worker has another key from now on. */
static int32_t change_key(aiopool_task *task, const void *input, size_t len,
                          aiopool_output *output, void *user) {
    uint64_t old = key;
    (void)user;
    if (read_number(task, input, len, &key) != 0) return -1;
    aiopool_output_write(output, &old, sizeof old);
    return 0;
}

/* A number under the worker's key. */
static int32_t seal(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    uint64_t x;
    (void)user;
    if (read_number(task, input, len, &x) != 0) return -1;
    done++;
    x ^= key;
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

/* How many numbers this worker has sealed. */
static int32_t how_many(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                        void *user) {
    (void)task, (void)input, (void)len, (void)user;
    aiopool_output_write(output, &done, sizeof done);
    return 0;
}

int aiopool_register_tasks(void) {
    uint32_t function;
    aiopool_status status = aiopool_function_register("square", square, NULL, &function);
    if (status == AIOPOOL_OK) {
        status = aiopool_function_register("fragile", fragile, NULL, &function);
    }
    if (status == AIOPOOL_OK) {
        status = aiopool_function_register("slow_double", slow_double, NULL, &function);
    }
    if (status == AIOPOOL_OK) {
        status = aiopool_function_register("invert", invert, NULL, &function);
    }
    if (status == AIOPOOL_OK) {
        status = aiopool_function_register("trespass", trespass, NULL, &function);
    }
    if (status == AIOPOOL_OK) {
        status = aiopool_function_register("surroundings", surroundings, NULL, &function);
    }
    if (status == AIOPOOL_OK) {
        status = aiopool_function_register("never_done", never_done, NULL, &function);
    }
    if (status == AIOPOOL_OK) status = aiopool_function_register("spin", spin, NULL, &function);
    if (status == AIOPOOL_OK) status = aiopool_function_register("fail", fail, NULL, &function);
    if (status == AIOPOOL_OK) {
        status = aiopool_function_register("change_key", change_key, NULL, &function);
    }
    if (status == AIOPOOL_OK) status = aiopool_function_register("seal", seal, NULL, &function);
    if (status == AIOPOOL_OK) {
        status = aiopool_function_register("how_many", how_many, NULL, &function);
    }
    return status;
}
