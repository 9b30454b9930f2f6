/* Workers with limits and rules, as a C program asks for them. */
#define _GNU_SOURCE
#include "../../../../ffi-examples/c/check.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Answers with what it could do: five numbers, 0 or an errno. */
static int32_t look(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    static char *no_arguments[] = {NULL};
    struct rlimit files;
    struct utsname name;
    int32_t said[6] = {0};
    int fd;
    (void)task, (void)input, (void)len, (void)user;
    if ((fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) said[0] = errno;
    if (fd >= 0) close(fd);
    if ((fd = open("/etc/hostname", O_RDONLY)) < 0) said[1] = errno;
    if (fd >= 0) close(fd);
    if ((fd = open("/dev/null", O_WRONLY)) < 0) said[2] = errno;
    if (fd >= 0) close(fd);
    if (execve("/bin/true", no_arguments, no_arguments) < 0) said[3] = errno;
    if (uname(&name) < 0) said[4] = errno;
    getrlimit(RLIMIT_NOFILE, &files);
    said[5] = (int32_t)files.rlim_cur;
    aiopool_output_write(output, said, sizeof said);
    return 0;
}

static int32_t burn(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    volatile uint64_t x = 1;
    (void)task, (void)input, (void)len, (void)output, (void)user;
    while (x != 0) x = x * 3;
    return 0;
}

static aiopool_outcome *run(aiopool_pool *pool, uint32_t function) {
    aiopool_call call;
    aiopool_outcome *outcome;
    check(aiopool_call_init(&call), "call");
    call.function = function;
    check(aiopool_pool_submit(pool, &call, AIOPOOL_FOREVER, NULL), "submit");
    check(aiopool_pool_wait(pool, AIOPOOL_FOREVER, &outcome), "wait");
    return outcome;
}

static void refused(aiopool_pool_options *options, const char *text) {
    aiopool_pool *pool;
    if (aiopool_pool_start(options, &pool) != AIOPOOL_ERR_INVALID ||
        strstr(aiopool_last_error(), text) == NULL) {
        fprintf(stderr, "not refused for %s: %s\n", text, aiopool_last_error());
        exit(1);
    }
}

int main(void) {
    static const char *readable[] = {"/usr", NULL}, *writable[] = {"/dev/null", NULL};
    static const char *missing[] = {"/no/such/path", NULL};
    static const int64_t denied[] = {SYS_uname};
    uint32_t look_function, burn_function;
    aiopool_pool *pool;
    aiopool_pool_options options, plain;
    aiopool_outcome *outcome;
    int32_t said[6];

    if (!aiopool_has_feature("sandbox")) return 2;
    check(aiopool_function_register("look", look, NULL, &look_function), "register");
    check(aiopool_function_register("burn", burn, NULL, &burn_function), "register");
    check(aiopool_init(), "init");

    check(aiopool_pool_options_init(&plain), "options");
    plain.processes = 1;
    plain.max_payload = 1 << 20;

    options = plain;
    options.flags = AIOPOOL_POOL_NO_NEW_PRIVS | AIOPOOL_POOL_NO_NETWORK | AIOPOOL_POOL_NO_EXEC |
                    AIOPOOL_POOL_NO_SIGNALS;
    options.limit_open_files = 77;
    options.read_only = readable;
    options.read_write = writable;
    options.denied_calls = denied;
    options.denied_calls_len = 1;
    check(aiopool_pool_start(&options, &pool), "start");
    outcome = run(pool, look_function);
    if (aiopool_outcome_len(outcome) != sizeof said) {
        fprintf(stderr, "look: %s\n", aiopool_outcome_text(outcome));
        return 1;
    }
    memcpy(said, aiopool_outcome_data(outcome), sizeof said);
    check(aiopool_outcome_release(outcome), "release");
    check(aiopool_pool_free(pool), "free");
    printf("isolation: socket %s, other files %s, /dev/null %s, exec %s, uname %s, %d descriptors\n",
           strerror(said[0]), strerror(said[1]), said[2] == 0 ? "open" : strerror(said[2]),
           strerror(said[3]), strerror(said[4]), said[5]);

    options = plain;
    options.limit_cpu_seconds = 1;
    check(aiopool_pool_start(&options, &pool), "start");
    outcome = run(pool, burn_function);
    printf("isolation: lost %d, %s\n", aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_WORKER_LOST,
           strstr(aiopool_outcome_text(outcome), "signal 24") != NULL ? "SIGXCPU"
                                                                      : aiopool_outcome_text(outcome));
    check(aiopool_outcome_release(outcome), "release");
    check(aiopool_pool_free(pool), "free");

    options = plain;
    options.limit_address_space = 4096;
    refused(&options, "limits.address_space");
    options = plain;
    options.limit_open_files = 2;
    refused(&options, "limits.open_files");
    options = plain;
    options.read_only = missing;
    refused(&options, "/no/such/path");
    options = plain;
    options.flags = 1 << 30;
    refused(&options, "has unknown bits");
    return 0;
}
