// Tasks that say how far they are and are cancelled: one that asks, and one that has to be killed.
#include "aiopool.hpp"

#include <cstdio>
#include <exception>

/// Counts until it is cancelled.
static std::uint64_t obeys(aiopool::running task, std::uint64_t from) {
    while (!task.is_cancelled()) task.progress(++from);
    return from;
}

/// Counts, and asks nobody.
static std::uint64_t goes_on(aiopool::running task, std::uint64_t from) {
    for (;;) task.progress(++from);
}

static std::uint64_t square(std::uint64_t x) { return x * x; }

static void expect(bool that, const char *what) {
    if (!that) throw std::logic_error(what);
}

/// Starts a task and returns its ticket when it has counted beyond `from`.
static std::uint64_t begin(aiopool::pool &pool, std::uint32_t function, std::uint64_t from) {
    const std::uint64_t ticket = pool.submit(function, from);
    std::optional<std::uint64_t> far;
    while (!(far = pool.progress(ticket))) continue;
    expect(*far > from, "it has counted");
    return ticket;
}

int main() {
    try {
        using number = std::uint64_t;
        const auto count = aiopool::register_function("obeys", aiopool::task<number, obeys>);
        const auto stay = aiopool::register_function("goes_on", aiopool::task<number, goes_on>);
        const auto once = aiopool::register_function("once", aiopool::task<number, obeys>);
        aiopool::unregister_function("once");
        const auto again = aiopool::register_function("once", aiopool::task<number, square>);
        expect(once != again, "a name that was taken back is free");
        aiopool::check(aiopool_init());
        aiopool::options options;
        options.processes = 1;
        aiopool::pool pool(options);

        std::uint64_t ticket = begin(pool, count, 100);
        expect(pool.cancel(ticket), "it runs");
        expect(pool.wait().kind() == AIOPOOL_OUTCOME_CANCELLED, "it is cancelled");
        expect(!pool.cancel(ticket) && !pool.progress(ticket), "it is over");

        ticket = begin(pool, stay, 1000);
        expect(pool.cancel_within(ticket, 10), "it runs");
        expect(pool.wait().kind() == AIOPOOL_OUTCOME_CANCELLED, "it is cancelled");
        expect(!pool.cancel_within(ticket, 10), "it is over");

        // The worker that went on was killed, and another one has its place.
        pool.submit(again, number{12});
        expect(pool.wait().as<number>() == 144, "the pool goes on");
        try {
            aiopool::unregister_function("never");
            throw std::logic_error("no such function");
        } catch (const aiopool::error &refused) {
            expect(refused.status == AIOPOOL_ERR_UNKNOWN, "an unknown name is said to be one");
        }
        std::printf("cancel: one obeyed, one was killed, 144\n");
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
