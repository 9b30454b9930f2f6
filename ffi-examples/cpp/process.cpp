// One function in a process of its own: its value, and what it exits with when it is stopped.
#include "aiopool.hpp"

#include <array>
#include <cstdio>
#include <thread>

#include <signal.h>
#include <unistd.h>

using numbers = std::array<std::uint64_t, 1000>;

static std::uint64_t sum(const numbers &summands) {
    std::uint64_t total = 0;
    for (std::uint64_t summand : summands) total += summand;
    return total;
}

static std::uint64_t serve_for_ever(std::uint64_t) {
    while (pause() != 0) {
    }
    return 0;
}

int main() {
    try {
        const auto adding = aiopool::register_function("sum", aiopool::task<numbers, sum>);
        const auto serving =
            aiopool::register_function("serve", aiopool::task<std::uint64_t, serve_for_ever>);
        aiopool::check(aiopool_init());

        aiopool::process server(serving, std::uint64_t{0}, {}, "server");
        numbers summands;
        for (std::uint64_t i = 0; i < summands.size(); i++) summands[i] = i;
        const auto total = aiopool::process(adding, summands).wait().as<std::uint64_t>();

        server.terminate();
        server.join();
        std::uint32_t killed;
        {
            aiopool::process other(serving, std::uint64_t{0});
            if (!other.is_alive() || other.exit_code()) throw std::runtime_error("not alive");
            killed = other.pid();
        }
        // It has ended; its number is its own until its parent has looked.
        while (kill(static_cast<pid_t>(killed), 0) == 0) std::this_thread::yield();
        std::printf("process: sum %llu; %s ended with %d\n",
                    static_cast<unsigned long long>(total), server.name().data(),
                    server.exit_code().value());
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
