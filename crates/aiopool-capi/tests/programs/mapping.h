/* Where memory is, for the tests of loans. */
#ifndef TESTS_CAPI_MAPPING_H
#define TESTS_CAPI_MAPPING_H

#include <stdio.h>
#include <string.h>

/* Whether an address lies in a mapping of the memory called `name`. */
static int lies_in(const void *address, const char *name) {
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && !found && fgets(line, sizeof line, maps) != NULL) {
        unsigned long start, end;
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && (unsigned long)address >= start &&
            (unsigned long)address < end) {
            found = strstr(line, name) != NULL;
        }
    }
    if (maps != NULL) fclose(maps);
    return found;
}

#endif
