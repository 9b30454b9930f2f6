// What each task prints, told apart by its ticket.
#include "aiopool.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <map>

using number = std::uint64_t;

static number greet(number x) {
    std::cout << "task of " << x << std::string(100 * x, '.') << std::endl;
    if (x % 2 == 1) std::fprintf(stderr, "odd\n");
    return x;
}

int main() {
    try {
        const auto function = aiopool::register_function("greet", aiopool::task<number, greet>);
        aiopool::check(aiopool_init());
        std::string folder = std::filesystem::temp_directory_path() / "aiopool-printed-XXXXXX";
        if (mkdtemp(folder.data()) == nullptr) throw std::runtime_error("no folder");
        aiopool_surroundings surroundings;
        aiopool::check(aiopool_surroundings_init(&surroundings));
        surroundings.flags = AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK;
        surroundings.output_directory = folder.c_str();
        aiopool::options options;
        options.processes = 2;
        options.child_concurrency = 1;
        options.surroundings = &surroundings;
        int right = 0;
        {
            aiopool::pool pool(options);
            std::map<std::uint64_t, number> asked;
            for (number x = 0; x < 6; x++) asked[pool.submit(function, x)] = x;
            for (std::size_t i = 0; i < asked.size(); i++) static_cast<void>(pool.wait().payload());
            for (const auto &[ticket, x] : asked) {
                const std::string line =
                    "task of " + std::to_string(x) + std::string(100 * x, '.') + "\n";
                right += pool.printed(ticket) == line &&
                         pool.printed(ticket, 2) == (x % 2 == 1 ? "odd\n" : "");
            }
        }
        std::filesystem::remove_all(folder);
        std::printf("printed: %d of 6 tasks said what they were asked for\n", right);
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
