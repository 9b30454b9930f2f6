// A task function that crashes takes its worker down, and nothing else.
#include "aiopool.hpp"

#include <csignal>
#include <cstdio>

static std::uint64_t fragile(std::uint64_t x) {
    if (x % 20 == 7) std::raise(SIGSEGV);
    return x;
}

int main() {
    constexpr std::uint64_t count = 100;
    try {
        const auto function =
            aiopool::register_function("fragile", aiopool::task<std::uint64_t, fragile>);
        aiopool::check(aiopool_init());
        aiopool::options options;
        options.processes = 2;
        options.child_concurrency = 1;
        aiopool::pool pool(options);
        for (std::uint64_t x = 0; x < count; x++) pool.submit(function, x, x);
        int ok = 0, lost = 0;
        for (std::uint64_t i = 0; i < count; i++) {
            aiopool::outcome outcome = pool.wait();
            if (outcome.ok()) {
                ok++;
            } else if (outcome.kind() == AIOPOOL_OUTCOME_WORKER_LOST &&
                       outcome.user_data() % 20 == 7) {
                lost++;
            } else {
                throw std::runtime_error(std::string(outcome.text()));
            }
        }
        if (pool.stats().deaths != static_cast<std::uint64_t>(lost)) {
            throw std::runtime_error("the count of deaths is wrong");
        }
        std::printf("crash: %d done, %d lost with their workers, each replaced\n", ok, lost);
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
