/* An observer: reads the numbers that a pool publishes under a name, and prints some of them.
 * Needs neither the library nor its header: the page is plain memory with a documented layout
 * (src/stats/mod.rs).
 * Build: cc -std=c11 -Wall -Wextra -O2 -o stats_page stats_page.c
 * Run:   ./stats_page NAME
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAGIC, VERSION, PID, SEQUENCE, WRITTEN, MADE, NUMBERS };
enum { SUBMITTED, QUEUED, RUNNING, OK, FAILED, COUNT = 21 };
enum { LAYOUT_VERSION = 2, TRIES = 1000 };

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s NAME\n", argv[0]);
        return 2;
    }
    char name[128];
    snprintf(name, sizeof name, "/aiopool.%s", argv[1]);
    int fd = shm_open(name, O_RDONLY, 0);
    struct stat stat;
    if (fd == -1 || fstat(fd, &stat) == -1) {
        perror(name);
        return 1;
    }
    size_t size = (NUMBERS + COUNT) * sizeof(uint64_t);
    if (stat.st_size < (off_t)size) {
        fprintf(stderr, "%s is no stats page\n", name);
        return 1;
    }
    const _Atomic uint64_t *words = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (words == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    uint64_t magic = atomic_load_explicit(&words[MAGIC], memory_order_acquire);
    uint64_t version = atomic_load_explicit(&words[VERSION], memory_order_relaxed);
    if (memcmp(&magic, "aiopool", 8) != 0 || (uint32_t)version != LAYOUT_VERSION) {
        fprintf(stderr, "%s is no stats page of layout %d\n", name, LAYOUT_VERSION);
        return 1;
    }
    for (int try = 0; try < TRIES; try++) {
        /* Even before, and the same after: nothing was written in between. */
        uint64_t before = atomic_load_explicit(&words[SEQUENCE], memory_order_acquire);
        uint64_t numbers[COUNT];
        for (int i = 0; i < COUNT; i++) {
            numbers[i] = atomic_load_explicit(&words[NUMBERS + i], memory_order_relaxed);
        }
        atomic_thread_fence(memory_order_acquire);
        uint64_t after = atomic_load_explicit(&words[SEQUENCE], memory_order_relaxed);
        if (before % 2 == 0 && before == after) {
            uint64_t pid = atomic_load_explicit(&words[PID], memory_order_relaxed);
            printf("host %" PRIu64 " submitted %" PRIu64 " queued %" PRIu64 " running %" PRIu64
                   " ok %" PRIu64 " failed %" PRIu64 "\n",
                   pid, numbers[SUBMITTED], numbers[QUEUED], numbers[RUNNING], numbers[OK],
                   numbers[FAILED]);
            return 0;
        }
    }
    fprintf(stderr, "%s is never written to its end\n", name);
    return 1;
}
