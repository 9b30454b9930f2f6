// Maps a function over 1,000 inputs in forked worker processes, with the RAII header beside this.
#include "aiopool.hpp"

#include <cstdio>
#include <exception>
#include <vector>

static std::uint64_t square(std::uint64_t x) { return x * x; }

int main() {
    try {
        const auto function =
            aiopool::register_function("square", aiopool::task<std::uint64_t, square>);
        aiopool::check(aiopool_init());
        aiopool::options options;
        options.processes = 4;
        aiopool::pool pool(options);
        for (std::uint64_t i = 0; i < 1000; i++) pool.submit(function, i, i);
        std::vector<std::uint64_t> squares(1000);
        for (int i = 0; i < 1000; i++) {
            aiopool::outcome outcome = pool.wait();
            squares.at(outcome.user_data()) = outcome.as<std::uint64_t>();
        }
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i < 1000; i++) {
            if (squares[i] != i * i) throw std::logic_error("a square is wrong");
            sum += squares[i];
        }
        char few[3] = {1, 2, 3};
        std::uint64_t ticket = pool.submit(function, few);
        std::string text(pool.wait_ticket(ticket).text());
        if (text != "an input of another size") throw std::logic_error(text);
        pool.close();
        pool.join();
        std::printf("map: 1000 squares, sum %llu\n", static_cast<unsigned long long>(sum));
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
