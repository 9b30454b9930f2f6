/* One function in a process of its own: its value, and what it exits with when it is stopped.
 * Build: see README.md.
 */
#include "check.h"

#include <unistd.h>

static int32_t sum(aiopool_task *task, const void *input, size_t len, aiopool_output *output,
                   void *user) {
    uint64_t total = 0;
    (void)task, (void)user;
    for (size_t i = 0; i < len / sizeof(uint64_t); i++) total += ((const uint64_t *)input)[i];
    aiopool_output_write(output, &total, sizeof total);
    return 0;
}

static int32_t serve_for_ever(aiopool_task *task, const void *input, size_t len,
                              aiopool_output *output, void *user) {
    (void)task, (void)input, (void)len, (void)output, (void)user;
    while (pause() != 0) {
    }
    return 0;
}

int main(void) {
    uint64_t numbers[1000];
    uint32_t adding, serving;
    int32_t code;
    aiopool_call call;
    aiopool_outcome *outcome;
    aiopool_process *adder, *server;

    check(aiopool_function_register("sum", sum, NULL, &adding), "register");
    check(aiopool_function_register("serve", serve_for_ever, NULL, &serving), "register");
    check(aiopool_init(), "init");
    for (uint64_t i = 0; i < 1000; i++) numbers[i] = i;

    check(aiopool_call_init(&call), "call");
    call.function = serving;
    check(aiopool_process_start(&call, NULL, "server", &server), "start the server");
    call.function = adding;
    call.input = numbers;
    call.input_len = sizeof numbers;
    check(aiopool_process_start(&call, NULL, NULL, &adder), "start the adder");

    check(aiopool_process_wait(adder, AIOPOOL_FOREVER, &outcome), "wait");
    if (aiopool_outcome_kind(outcome) != AIOPOOL_OUTCOME_OK) {
        fprintf(stderr, "%s\n", aiopool_outcome_text(outcome));
        return 1;
    }
    check(aiopool_process_terminate(server), "terminate");
    check(aiopool_process_join(server, AIOPOOL_FOREVER), "join");
    check(aiopool_process_exit_code(server, &code), "exit code");
    printf("process: sum %llu; %s ended with %d\n",
           (unsigned long long)*(const uint64_t *)aiopool_outcome_data(outcome),
           aiopool_process_name(server), code);
    check(aiopool_outcome_release(outcome), "release");
    check(aiopool_process_free(adder), "free");
    check(aiopool_process_free(server), "free");
    return 0;
}
