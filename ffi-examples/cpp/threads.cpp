// One pool in several threads, and handles that go from one thread to another: each thread has the
// outcomes and the error texts of its own calls.
#include "aiopool.hpp"

#include <atomic>
#include <cstdio>
#include <exception>
#include <thread>

using number = std::uint64_t;

static constexpr number COUNT = 500;
static constexpr int THREADS = 4;

static number square(number x) { return x * x; }

static void expect(bool that, const char *what) {
    if (!that) throw std::logic_error(what);
}

/// Runs a function in a thread of its own; what it throws is thrown here.
class thread {
public:
    template <typename F> explicit thread(F function) {
        own = std::thread([this, function = std::move(function)]() mutable {
            try {
                function();
            } catch (...) {
                thrown = std::current_exception();
            }
        });
    }
    void join() {
        own.join();
        if (thrown) std::rethrow_exception(thrown);
    }
    ~thread() {
        if (own.joinable()) own.join();
    }

private:
    std::exception_ptr thrown;
    std::thread own;
};

/// Waits for its own tasks, in the midst of mistakes whose texts are its own, too.
static void own_tasks(aiopool::pool &pool, std::uint32_t function, number from) {
    for (number x = from; x < from + COUNT; x++) {
        aiopool::call call(function, x);
        call.flags = AIOPOOL_CALL_BY_TICKET;
        const std::uint64_t ticket = pool.submit(call);
        call.priority = static_cast<std::uint32_t>(from + 1);
        const std::string named = "priority = " + std::to_string(from + 1);
        const auto refused = pool.try_submit(call);
        expect(!refused && refused.failure().what() == named + ": 0 to 0 are possible", "its text");
        expect(pool.wait_ticket(ticket).as<number>() == x * x, "its own outcome");
    }
}

int main() {
    try {
        const auto function = aiopool::register_function("square", aiopool::task<number, square>);
        aiopool::check(aiopool_init());
        aiopool::options options;
        options.processes = 2;
        aiopool::pool pool(options);
        {
            std::vector<std::unique_ptr<thread>> threads;
            for (number i = 0; i < THREADS; i++)
                threads.push_back(std::make_unique<thread>(
                    [&pool, function, i] { own_tasks(pool, function, i * COUNT); }));
            // Some threads submit, and some receive what there is.
            std::atomic<number> sum{0}, received{0};
            thread receives([&] {
                while (received < COUNT) {
                    sum += pool.wait().as<number>();
                    received++;
                }
            });
            for (number x = 0; x < COUNT; x++) pool.submit(function, x);
            receives.join();
            expect(sum == (COUNT - 1) * COUNT * (2 * COUNT - 1) / 6, "the sum");
            for (const auto &one : threads) one->join();
        }
        // A pool that another thread ends; its outcome comes back here and outlives it.
        pool.submit(function, number{12});
        aiopool::outcome outcome;
        thread ends([pool = std::move(pool), &outcome]() mutable {
            outcome = pool.wait();
            const aiopool::pool last(std::move(pool));
        });
        ends.join();
        expect(outcome.as<number>() == 144, "an outcome outlives its pool and its thread");
        std::printf("threads: %d with %d tasks each, and one that receives\n", THREADS,
                    static_cast<int>(COUNT));
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
