/* What the examples do when a call fails: say why, and end. */
#ifndef CHECK_H
#define CHECK_H

#include <aiopool.h>
#include <stdio.h>
#include <stdlib.h>

static void check(aiopool_status status, const char *what) {
    if (status != AIOPOOL_OK) {
        fprintf(stderr, "%s: %s (%s)\n", what, aiopool_last_error(), aiopool_status_str(status));
        exit(1);
    }
}

#endif
