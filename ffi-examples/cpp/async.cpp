// Asynchronous tasks: one worker keeps 200 of them in flight, with a timer each.
#include "aiopool.hpp"

#include <cstdio>

namespace {

/// A task that doubles, 50 milliseconds later; it owns itself until it is over.
struct nap {
    aiopool_output *output;
    std::uint64_t x;

    static void awake(aiopool_task *task, std::uint32_t, void *data) {
        std::unique_ptr<nap> self(static_cast<nap *>(data));
        const std::uint64_t doubled = 2 * self->x;
        const bool written =
            aiopool_output_write(self->output, &doubled, sizeof doubled) == AIOPOOL_OK;
        aiopool_task_complete(task, written ? 0 : -1);
    }

    static void cancelled(aiopool_task *, std::uint32_t, void *data) {
        delete static_cast<nap *>(data);
    }

    static std::int32_t start(aiopool_task *task, const void *input, std::size_t len,
                              aiopool_output *output, void *) {
        auto self = std::make_unique<nap>();
        self->output = output;
        if (len != sizeof self->x) return -1;
        std::memcpy(&self->x, input, sizeof self->x);
        if (aiopool_task_on_cancel(task, cancelled, self.get()) != AIOPOOL_OK ||
            aiopool_task_sleep(task, 50, awake, self.get()) != AIOPOOL_OK) {
            return -1;
        }
        static_cast<void>(self.release());
        return AIOPOOL_PENDING;
    }
};

} // namespace

int main() {
    constexpr std::uint64_t count = 200;
    try {
        const auto function = aiopool::register_function("slow_double", nap::start);
        aiopool::check(aiopool_init());
        aiopool::options options;
        options.processes = 1;
        options.child_concurrency = count;
        aiopool::pool pool(options);
        for (std::uint64_t x = 0; x < count; x++) pool.submit(function, x);
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i < count; i++) sum += pool.wait().as<std::uint64_t>();
        std::printf("async: %llu tasks in one worker, sum %llu\n",
                    static_cast<unsigned long long>(count), static_cast<unsigned long long>(sum));
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
