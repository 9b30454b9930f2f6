/* What the tests of the C API share: CHECK counts a check, and ends the program if it fails. */
#ifndef TESTS_CAPI_CHECK_H
#define TESTS_CAPI_CHECK_H

/* These programs make mistakes on purpose. */
#define AIOPOOL_NO_ATTRIBUTES
#include <aiopool.h>
#include <stdio.h>
#include <stdlib.h>

/* Of all threads. */
static int checks;

#define CHECK(that)                                                                                \
    do {                                                                                           \
        __atomic_fetch_add(&checks, 1, __ATOMIC_RELAXED);                                          \
        if (!(that)) {                                                                             \
            fprintf(stderr, "%s:%d: not %s: %s\n", __FILE__, __LINE__, #that,                      \
                    aiopool_last_error());                                                         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
