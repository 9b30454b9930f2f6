// Large inputs and outputs without a copy: each is written where the other side reads it.
#include "aiopool.hpp"

#include <algorithm>
#include <cstdio>
#include <numeric>

/// Each byte's complement, written where the host reads it.
static std::int32_t invert(aiopool_task *task, const void *input, std::size_t len,
                           aiopool_output *output, void *) {
    void *place = nullptr;
    if (aiopool_output_loan(output, len, &place) != AIOPOOL_OK) {
        aiopool_task_set_error(task, aiopool_last_error());
        return -1;
    }
    const auto *from = static_cast<const unsigned char *>(input);
    std::transform(from, from + len, static_cast<unsigned char *>(place),
                   [](unsigned char byte) { return static_cast<unsigned char>(~byte); });
    return 0;
}

int main() {
    constexpr int count = 8;
    constexpr std::size_t size = 4 << 20;
    try {
        const auto function = aiopool::register_function("invert", invert);
        aiopool::check(aiopool_init());
        aiopool::options options;
        options.processes = 2;
        aiopool::pool pool(options);
        for (int i = 0; i < count; i++) {
            aiopool::loan input = pool.borrow(size);
            std::fill_n(input.data(), input.size(), static_cast<unsigned char>(i + 1));
            pool.submit(function, std::move(input));
        }
        std::uint64_t sum = 0;
        for (int i = 0; i < count; i++) {
            // Until the end of this scope the bytes are the worker's own.
            aiopool::outcome outcome = pool.wait();
            for (char byte : outcome.payload()) sum += static_cast<unsigned char>(byte);
        }
        std::printf("zero-copy: %d inputs and outputs of %d MiB, sum %llu\n", count,
                    static_cast<int>(size >> 20), static_cast<unsigned long long>(sum));
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
