// What every worker does: the program says that it is ready when all are up, gives each of them a new
// key, and asks each how much it has done.
#include "aiopool.hpp"

#include <cstdio>
#include <exception>

// Each worker's own.
static std::uint64_t key = 0, done = 0;

static std::uint64_t change_key(std::uint64_t to) { return std::exchange(key, to); }

static std::uint64_t seal(std::uint64_t number) {
    done++;
    return number ^ key;
}

static std::uint64_t how_many(std::uint64_t) { return done; }

static void expect(bool that, const char *what) {
    if (!that) throw std::logic_error(what);
}

int main() {
    try {
        using number = std::uint64_t;
        const auto change = aiopool::register_function("key", aiopool::task<number, change_key>);
        const auto sealing = aiopool::register_function("seal", aiopool::task<number, seal>);
        const auto count = aiopool::register_function("count", aiopool::task<number, how_many>);
        aiopool::check(aiopool_init());
        aiopool::options options;
        options.processes = 3;
        aiopool::pool pool(options);
        pool.ready();
        for (const auto &old : pool.broadcast(change, number{0xabcd}))
            expect(old.as<number>() == 0, "no worker had a key");
        for (number i = 0; i < 100; i++) pool.submit(sealing, i, i);
        for (int i = 0; i < 100; i++) {
            const aiopool::outcome sealed = pool.wait();
            expect(sealed.as<number>() == (sealed.user_data() ^ 0xabcd), "each has the key");
        }
        number sum = 0;
        for (const auto &of_one : pool.broadcast(count, number{0})) sum += of_one.as<number>();
        pool.close();
        try {
            pool.broadcast(count, number{0});
            throw std::logic_error("a closed pool took a broadcast");
        } catch (const aiopool::error &refused) {
            expect(refused.status == AIOPOOL_ERR_CLOSED, "it says that it is closed");
        }
        std::printf("broadcast: 3 workers have the key, and did %d tasks\n", static_cast<int>(sum));
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
