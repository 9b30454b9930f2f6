/* All that starts no process: every exported function with NULL and 0, and the calls that are right
 * before aiopool_init. For valgrind, which knows neither clone3 nor pidfd_open.
 * Usage: quiet tests/abi/aiopool.symbols
 */
#define _GNU_SOURCE
#include "check.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static int32_t nothing(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                       void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    return 0;
}

static void log_nothing(uint32_t level, const char *text, void *user) {
    (void)level, (void)text, (void)user;
}

static void *until_unlocked(void *mutex) {
    pthread_mutex_lock(mutex);
    pthread_mutex_unlock(mutex);
    return NULL;
}

typedef int32_t (*any_call)(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t);

/* What a function says to nothing but NULL and 0. */
struct expected {
    const char *name;
    int32_t status;
};
static const struct expected EXPECTED[] = {
    /* Takes NULL. */
    {"aiopool_context_free", AIOPOOL_OK},
    {"aiopool_loan_return", AIOPOOL_OK},
    {"aiopool_outcome_release", AIOPOOL_OK},
    {"aiopool_pool_free", AIOPOOL_OK},
    {"aiopool_process_free", AIOPOOL_OK},
    /* Takes nothing, and has nothing to end here. */
    {"aiopool_shutdown", AIOPOOL_OK},
    /* Values. */
    {"aiopool_has_feature", 0},
    {"aiopool_task_is_cancelled", 0},
    {"aiopool_task_attempt", 0},
    {"aiopool_outcome_is_bystander", 0},
    {"aiopool_outcome_attempts", 0},
    {"aiopool_outcome_code", 0},
    {"aiopool_outcome_data", 0},
    {"aiopool_outcome_error", AIOPOOL_ERR_HANDLE},
    {"aiopool_outcome_len", 0},
    {"aiopool_outcome_ran_ns", 0},
    {"aiopool_outcome_kind", AIOPOOL_OUTCOME_NONE},
    {"aiopool_outcome_status", AIOPOOL_OUTCOME_NONE},
    {"aiopool_outcome_ticket", 0},
    {"aiopool_outcome_user_data", 0},
    {"aiopool_outcome_waited_ns", 0},
    /* Has no pointer that is required. */
    {"aiopool_context_log_set", AIOPOOL_ERR_INVALID},
    {"aiopool_log_set", AIOPOOL_ERR_INVALID},
    {"aiopool_worker_serve", AIOPOOL_ERR_MISUSE},
};

static int32_t expected(const char *name) {
    for (size_t i = 0; i < sizeof EXPECTED / sizeof *EXPECTED; i++) {
        if (strcmp(EXPECTED[i].name, name) == 0) return EXPECTED[i].status;
    }
    return AIOPOOL_ERR_NULL;
}

/* Texts are never NULL; these are not looked at as numbers. Init starts a process. */
static int is_other(const char *name) {
    const char *others[] = {"aiopool_init",       "aiopool_last_error",   "aiopool_outcome_text",
                            "aiopool_status_str", "aiopool_version_text", "aiopool_version",
                            "aiopool_process_name"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcmp(others[i], name) == 0) return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    char name[128];
    uint32_t function, again;
    aiopool_pool *pool = NULL;
    aiopool_worker *worker = NULL;
    aiopool_pool_options options;
    aiopool_scheduler scheduler;
    aiopool_call call;
    const char *command[] = {NULL};
    FILE *list = argc == 2 ? fopen(argv[1], "r") : NULL;

    CHECK(list != NULL);
    while (fscanf(list, "%127s", name) == 1) {
        any_call function_of_any_type;
        void *symbol = dlsym(RTLD_DEFAULT, name);
        int32_t status;
        CHECK(symbol != NULL);
        if (is_other(name)) continue;
        memcpy(&function_of_any_type, &symbol, sizeof symbol);
        status = function_of_any_type(0, 0, 0, 0, 0, 0);
        /* A bool is a byte. */
        if (strcmp(name, "aiopool_has_feature") == 0) status &= 0xff;
        if (strcmp(name, "aiopool_task_is_cancelled") == 0) status &= 0xff;
        if (strcmp(name, "aiopool_outcome_is_bystander") == 0) status &= 0xff;
        checks++;
        if (status != expected(name)) {
            fprintf(stderr, "%s of nothing is %d, not %d\n", name, status, expected(name));
            return 1;
        }
        CHECK(status == AIOPOOL_OK || expected(name) != status || *aiopool_last_error() != 0);
    }
    fclose(list);
    CHECK(*aiopool_outcome_text(NULL) == 0);
    CHECK(strcmp(aiopool_status_str(4711), "an unknown status") == 0);
    for (int32_t status = 0; status >= AIOPOOL_ERR_TASK; status--) {
        CHECK(strcmp(aiopool_status_str(status), "an unknown status") != 0);
    }
    CHECK(aiopool_version() >> 16 == AIOPOOL_VERSION_MAJOR);
    CHECK((aiopool_version() >> 8 & 0xff) == AIOPOOL_VERSION_MINOR);
    CHECK((aiopool_version() & 0xff) == AIOPOOL_VERSION_PATCH);
    CHECK(aiopool_version() == AIOPOOL_VERSION);
    CHECK(aiopool_has_feature("loan") && !aiopool_has_feature("flying"));
    CHECK(aiopool_has_feature("stats-page"));

    {
        aiopool_call constant = AIOPOOL_CALL_INIT;
        CHECK(aiopool_call_init(&call) == AIOPOOL_OK);
        CHECK(memcmp(&constant, &call, sizeof call) == 0);
    }
    {
        /* A text speaks C to a program in C. */
        pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
        pthread_t second;
        pthread_mutex_lock(&held);
        CHECK(pthread_create(&second, NULL, until_unlocked, &held) == 0);
        CHECK(aiopool_init() == AIOPOOL_ERR_TOO_LATE);
        CHECK(strstr(aiopool_last_error(), "aiopool_init()") != NULL);
        CHECK(strstr(aiopool_last_error(), "::") == NULL);
        CHECK(strstr(aiopool_last_error(), "#[") == NULL);
        pthread_mutex_unlock(&held);
        CHECK(pthread_join(second, NULL) == 0);
    }
    /* A text is its call's until the next call of the thread that fails. */
    CHECK(aiopool_function_find("flying", &function) == AIOPOOL_ERR_UNKNOWN);
    CHECK(strstr(aiopool_last_error(), "flying") != NULL);
    CHECK(*aiopool_status_str(AIOPOOL_ERR_NULL) != 0 && aiopool_call_init(&call) == AIOPOOL_OK);
    CHECK(strstr(aiopool_last_error(), "flying") != NULL);

    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "function %d", i % 10);
        CHECK(aiopool_function_register(name, nothing, NULL, &function) == AIOPOOL_OK);
        CHECK(aiopool_function_find(name, &again) == AIOPOOL_OK && again == function);
    }
    CHECK(aiopool_function_declare("elsewhere", &function) == AIOPOOL_OK);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    CHECK(aiopool_function_declare(name, &function) == AIOPOOL_OK);
    CHECK(aiopool_function_declare("\xff", &function) == AIOPOOL_ERR_INVALID);
    CHECK(aiopool_log_set(AIOPOOL_LOG_DEBUG, log_nothing, NULL) == AIOPOOL_OK);
    CHECK(aiopool_log_set(AIOPOOL_LOG_DEBUG, NULL, NULL) == AIOPOOL_OK);
    CHECK(aiopool_call_init(&call) == AIOPOOL_OK && call.struct_size == sizeof call);
    CHECK(aiopool_scheduler_init(&scheduler) == AIOPOOL_OK);
    CHECK(aiopool_pool_options_init(&options) == AIOPOOL_OK);
    CHECK(aiopool_pool_start(NULL, &pool) == AIOPOOL_ERR_TOO_EARLY);
    options.start_method = AIOPOOL_START_COMMAND;
    options.command = command;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    options.init_function = 1;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_INVALID);
    options.struct_size = 0xffffffff;
    CHECK(aiopool_pool_start(&options, &pool) == AIOPOOL_ERR_STRUCT);
    CHECK(aiopool_worker_attach(&worker) == AIOPOOL_ERR_MISUSE);
    CHECK(aiopool_worker_id(&function) == AIOPOOL_ERR_NOT_IN_WORKER);
    CHECK(pool == NULL && worker == NULL);
    printf("%d checks that start no process\n", checks);
    return 0;
}
