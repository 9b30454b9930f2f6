// Submits and receives in one event loop: epoll on the pool's descriptor.
// How fast that was, and how long one task alone takes there and back, goes to stderr.
#include "aiopool.hpp"

#include <chrono>
#include <cstdio>
#include <sys/epoll.h>
#include <unistd.h>

static std::uint64_t square(std::uint64_t x) { return x * x; }

int main() {
    constexpr std::uint64_t count = 10000, in_flight = 256, alone = 1000;
    try {
        const auto function =
            aiopool::register_function("square", aiopool::task<std::uint64_t, square>);
        aiopool::check(aiopool_init());
        aiopool::pool pool;
        const int loop = epoll_create1(EPOLL_CLOEXEC);
        epoll_event event{};
        event.events = EPOLLIN;
        if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, pool.fd(), &event) != 0) {
            throw std::runtime_error("epoll");
        }
        std::uint64_t submitted = 0, received = 0, sum = 0;
        const auto start = std::chrono::steady_clock::now();
        while (submitted < in_flight) pool.submit(function, submitted++);
        while (received < count) {
            if (epoll_wait(loop, &event, 1, 120000) != 1) throw std::runtime_error("nothing came");
            while (auto outcome = pool.try_wait()) {
                sum += outcome->as<std::uint64_t>();
                received++;
                if (submitted < count) pool.submit(function, submitted++);
            }
        }
        const auto middle = std::chrono::steady_clock::now();
        for (std::uint64_t x = 0; x < alone; x++) {
            pool.submit(function, x);
            pool.wait();
        }
        const auto end = std::chrono::steady_clock::now();
        using seconds = std::chrono::duration<double>;
        std::fprintf(stderr, "%.0f tasks a second\n%.1f microseconds a round trip\n",
                     count / seconds(middle - start).count(),
                     seconds(end - middle).count() / alone * 1e6);
        close(loop);
        std::printf("loop: %llu squares, sum %llu\n", static_cast<unsigned long long>(count),
                    static_cast<unsigned long long>(sum));
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
