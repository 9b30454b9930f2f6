// Maps a function over 1,000 inputs in forked worker processes, with the RAII header beside this.
#include "aiopool.hpp"

#include <cstdio>
#include <exception>
#include <vector>

namespace {

// An exception must not leave a task function: it would end the worker.
std::int32_t square(aiopool_task *task, const void *input, std::size_t len, aiopool_output *output,
                    void *) {
    try {
        std::uint64_t x = 0;
        if (len != sizeof x) throw std::invalid_argument("a number of 8 bytes is expected");
        std::memcpy(&x, input, sizeof x);
        x *= x;
        aiopool::check(aiopool_output_write(output, &x, sizeof x));
        return 0;
    } catch (const std::exception &exception) {
        aiopool_task_set_error(task, exception.what());
        return -1;
    }
}

} // namespace

int main() {
    try {
        std::uint32_t function = 0;
        aiopool::check(aiopool_function_register("square", square, nullptr, &function));
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
        std::string text(pool.wait_for(ticket).text());
        if (text != "a number of 8 bytes is expected") throw std::logic_error(text);
        pool.close();
        pool.join();
        std::printf("map: 1000 squares, sum %llu\n", static_cast<unsigned long long>(sum));
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
