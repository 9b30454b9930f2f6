/* What the tests of the C API share: CHECK counts a check, and ends the program if it fails, or if
 * the text of the last mistake is for a program in Rust. */
#ifndef TESTS_CAPI_CHECK_H
#define TESTS_CAPI_CHECK_H

/* These programs make mistakes on purpose. */
#define AIOPOOL_NO_ATTRIBUTES
#include <aiopool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of all threads. */
static int checks;

/* A text of the library has words of Rust, or a call that a program in C does not have. */
static int speaks_rust(const char *text) {
    static const char *words[] = {"::", "#[", "await", "tokio", "uilder", "StartMethod", "serde"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strstr(text, words[i]) != NULL) return 1;
    }
    for (const char *call = strstr(text, "()"); call != NULL; call = strstr(call + 1, "()")) {
        const char *name = call;
        while (name > text && strchr(" `\"(:", name[-1]) == NULL) name--;
        if (strncmp(name, "aiopool_", 8) != 0) return 1;
    }
    return 0;
}

#define CHECK(that)                                                                                \
    do {                                                                                           \
        __atomic_fetch_add(&checks, 1, __ATOMIC_RELAXED);                                          \
        if (!(that) || speaks_rust(aiopool_last_error())) {                                            \
            fprintf(stderr, "%s:%d: not %s: %s\n", __FILE__, __LINE__, #that,                      \
                    aiopool_last_error());                                                         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
