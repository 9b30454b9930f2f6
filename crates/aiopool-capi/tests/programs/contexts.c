/* Libraries of one program with a context each: names, numbers, pools, logs and ends of their own,
 * and no call of aiopool_init. Prints how many checks were made.
 */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LONG = 60000 };

/* What a library is in this program. */
struct library {
    aiopool_context *context;
    aiopool_pool *pool;
    uint32_t work;
    uint64_t adds;
    char said[256];
    int messages;
};

static int32_t work(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    uint64_t x = 0;
    (void)task;
    memcpy(&x, input, len < sizeof x ? len : sizeof x);
    x += ((const struct library *)user)->adds;
    aiopool_output_write(output, &x, sizeof x);
    return 0;
}

/* In memory that is the workers', too. */
static int *is_told;

static int32_t hold(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                    void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    while (!__atomic_load_n(is_told, __ATOMIC_ACQUIRE)) usleep(1000);
    return 0;
}

static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void note(uint32_t level, const char *text, void *user) {
    struct library *library = user;
    pthread_mutex_lock(&said_lock);
    library->messages++;
    if (level == AIOPOOL_LOG_WARN) snprintf(library->said, sizeof library->said, "%s", text);
    pthread_mutex_unlock(&said_lock);
}

static int has_said(struct library *library, const char *what) {
    pthread_mutex_lock(&said_lock);
    int found = strstr(library->said, what) != NULL;
    pthread_mutex_unlock(&said_lock);
    return found;
}

static aiopool_status try_start(aiopool_context *context, aiopool_pool **pool) {
    aiopool_pool_options options;
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    CHECK(options.context == NULL && options.blocked_after_ms == 0);
    options.processes = 1;
    options.context = context;
    options.blocked_after_ms = 100;
    return aiopool_pool_start(&options, pool);
}

static uint64_t ask(aiopool_pool *pool, const char *name, uint32_t function, uint64_t x) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome = NULL;
    call.name = name;
    call.function = function;
    call.input = &x;
    call.input_len = sizeof x;
    CHECK(aiopool_pool_submit(pool, &call, LONG, NULL) == AIOPOOL_OK);
    CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_kind(outcome) == AIOPOOL_OUTCOME_OK);
    if (aiopool_outcome_len(outcome) == sizeof x) memcpy(&x, aiopool_outcome_data(outcome), sizeof x);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    return x;
}

static aiopool_status refused(aiopool_pool *pool, const char *name, uint32_t function) {
    aiopool_call call = AIOPOOL_CALL_INIT;
    call.name = name;
    call.function = function;
    return aiopool_pool_submit(pool, &call, 0, NULL);
}

static void kill_worker(aiopool_pool *pool) {
    uint32_t pid;
    size_t count;
    CHECK(aiopool_pool_workers(pool, &pid, 1, &count) == AIOPOOL_OK && count == 1);
    CHECK(kill((pid_t)pid, SIGKILL) == 0);
}

/* All that a library does, as if it were alone. */
static void begin(struct library *library, uint64_t adds) {
    library->adds = adds;
    CHECK(aiopool_context_new(&library->context) == AIOPOOL_OK);
    CHECK(aiopool_context_register(library->context, "work", work, library, &library->work) ==
          AIOPOOL_OK);
    CHECK(try_start(library->context, &library->pool) == AIOPOOL_OK);
}

static void names(struct library *images, struct library *mail) {
    uint32_t found, declared;
    aiopool_pool *pool = NULL;
    aiopool_pool_options options;
    begin(images, 10);
    begin(mail, 20);
    CHECK(images->work != mail->work);
    CHECK(ask(images->pool, "work", 0, 1) == 11 && ask(images->pool, NULL, images->work, 2) == 12);
    CHECK(ask(mail->pool, "work", 0, 1) == 21 && ask(mail->pool, NULL, mail->work, 2) == 22);
    /* Nobody has what is another's, by name or by number. */
    CHECK(refused(images->pool, NULL, mail->work) == AIOPOOL_ERR_UNKNOWN);
    CHECK(strstr(aiopool_last_error(), "another context") != NULL);
    CHECK(aiopool_function_find("work", &found) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_context_find(NULL, "work", &found) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_context_find(mail->context, "work", &found) == AIOPOOL_OK && found == mail->work);
    CHECK(aiopool_context_declare(mail->context, "far", &declared) == AIOPOOL_OK);
    CHECK(refused(images->pool, "far", 0) == AIOPOOL_ERR_UNKNOWN);
    CHECK(try_start(NULL, &pool) == AIOPOOL_OK);
    CHECK(refused(pool, NULL, mail->work) == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    options.context = images->context;
    options.init_function = mail->work;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_UNKNOWN);
    /* A name is another function's, and the old one's number stays with the pool that has it. */
    CHECK(aiopool_context_unregister(images->context, "work") == AIOPOOL_OK);
    CHECK(aiopool_context_unregister(images->context, "work") == AIOPOOL_ERR_UNKNOWN);
    CHECK(aiopool_context_register(images->context, "work", hold, NULL, &found) == AIOPOOL_OK);
    CHECK(found != images->work && ask(images->pool, NULL, images->work, 3) == 13);
    CHECK(refused(images->pool, NULL, found) == AIOPOOL_ERR_TOO_LATE);
    CHECK(try_start(images->context, &pool) == AIOPOOL_OK);
    CHECK(refused(pool, NULL, images->work) == AIOPOOL_ERR_UNKNOWN);
    CHECK(strstr(aiopool_last_error(), "unregistered") != NULL);
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
}

static void logs(struct library *images, struct library *mail, struct library *rest) {
    aiopool_pool *pool = NULL;
    aiopool_call call = AIOPOOL_CALL_INIT;
    aiopool_outcome *outcome = NULL;
    CHECK(aiopool_context_log_set(images->context, 9, note, images) == AIOPOOL_ERR_INVALID);
    CHECK(aiopool_context_log_set(images->context, AIOPOOL_LOG_WARN, note, images) == AIOPOOL_OK);
    CHECK(aiopool_log_set(AIOPOOL_LOG_WARN, note, rest) == AIOPOOL_OK);
    kill_worker(images->pool);
    while (!has_said(images, "worker died")) usleep(1000);
    CHECK(rest->messages == 0);
    /* A context without a log has the program's. */
    kill_worker(mail->pool);
    while (!has_said(rest, "worker died")) usleep(1000);
    CHECK(mail->messages == 0 && images->messages == 1);
    /* What holds up its worker is told to whom it concerns. */
    CHECK(try_start(images->context, &pool) == AIOPOOL_OK);
    call.name = "work";
    CHECK(aiopool_pool_submit(pool, &call, LONG, NULL) == AIOPOOL_OK);
    while (!has_said(images, "holds up its worker")) usleep(1000);
    __atomic_store_n(is_told, 1, __ATOMIC_RELEASE);
    CHECK(aiopool_pool_wait(pool, LONG, &outcome) == AIOPOOL_OK);
    CHECK(aiopool_outcome_release(outcome) == AIOPOOL_OK);
    CHECK(has_said(images, "work") && !has_said(rest, "holds up"));
    CHECK(aiopool_pool_free(pool) == AIOPOOL_OK);
    CHECK(aiopool_context_log_set(images->context, AIOPOOL_LOG_WARN, NULL, NULL) == AIOPOOL_OK);
    CHECK(aiopool_log_set(AIOPOOL_LOG_WARN, NULL, NULL) == AIOPOOL_OK);
}

static void ends(struct library *images, struct library *mail) {
    uint32_t found;
    aiopool_pool *pool = NULL;
    int messages = images->messages;
    CHECK(aiopool_context_log_set(images->context, AIOPOOL_LOG_DEBUG, note, images) == AIOPOOL_OK);
    CHECK(aiopool_context_free(images->context) == AIOPOOL_ERR_BUSY);
    CHECK(strstr(aiopool_last_error(), "not freed") != NULL);
    CHECK(ask(images->pool, NULL, images->work, 4) == 14);
    CHECK(aiopool_pool_free(images->pool) == AIOPOOL_OK);
    CHECK(images->messages > messages);
    CHECK(aiopool_context_free(images->context) == AIOPOOL_OK);
    CHECK(aiopool_context_free(images->context) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_context_free(NULL) == AIOPOOL_OK);
    CHECK(aiopool_context_find(images->context, "work", &found) == AIOPOOL_ERR_HANDLE);
    CHECK(aiopool_context_register(images->context, "x", hold, NULL, &found) == AIOPOOL_ERR_HANDLE);
    CHECK(try_start(images->context, &pool) == AIOPOOL_ERR_HANDLE);
    /* The other one does not notice. */
    CHECK(ask(mail->pool, "work", 0, 5) == 25);
    CHECK(aiopool_pool_free(mail->pool) == AIOPOOL_OK);
    CHECK(aiopool_context_free(mail->context) == AIOPOOL_OK);
    CHECK(aiopool_shutdown() == AIOPOOL_OK);
}

static int stop;

static void *thread_of_another_library(void *unused) {
    while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) usleep(1000);
    return unused;
}

/* A library that is unloaded takes its functions with it, and stands in nobody's way. */
static void unloaded(void) {
    struct library last = {.adds = 0};
    uint32_t function;
    pthread_t thread;
    aiopool_context *context;
    void *code = dlopen("libthread_db.so.1", RTLD_LAZY | RTLD_LOCAL), *symbol;
    aiopool_task_fn never_called = NULL;
    CHECK(code != NULL && (symbol = dlsym(code, "td_init")) != NULL);
    memcpy(&never_called, &symbol, sizeof symbol);
    CHECK(aiopool_context_new(&context) == AIOPOOL_OK);
    CHECK(aiopool_context_register(context, "td", never_called, NULL, &function) == AIOPOOL_OK);
    CHECK(dlclose(code) == 0);
    CHECK(aiopool_init() == AIOPOOL_ERR_INVALID);
    CHECK(aiopool_context_free(context) == AIOPOOL_OK);
    CHECK(aiopool_init() == AIOPOOL_OK);
    /* The fork is the whole program's, so the rule about its threads is, too. */
    CHECK(pthread_create(&thread, NULL, thread_of_another_library, NULL) == 0);
    CHECK(aiopool_context_new(&last.context) == AIOPOOL_OK);
    CHECK(aiopool_context_register(last.context, "work", work, &last, &last.work) == AIOPOOL_OK);
    CHECK(try_start(last.context, &last.pool) == AIOPOOL_ERR_TOO_LATE);
    CHECK(strstr(aiopool_last_error(), "thread") != NULL);
    CHECK(aiopool_context_free(last.context) == AIOPOOL_OK);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    CHECK(pthread_join(thread, NULL) == 0);
    begin(&last, 30);
    CHECK(ask(last.pool, "work", 0, 1) == 31);
    CHECK(aiopool_pool_free(last.pool) == AIOPOOL_OK);
    CHECK(aiopool_context_free(last.context) == AIOPOOL_OK);
}

int main(void) {
    static struct library images, mail, rest;
    is_told = mmap(NULL, sizeof *is_told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK((void *)is_told != MAP_FAILED);
    names(&images, &mail);
    logs(&images, &mail, &rest);
    ends(&images, &mail);
    unloaded();
    printf("%d checks of contexts\n", checks);
    return 0;
}
