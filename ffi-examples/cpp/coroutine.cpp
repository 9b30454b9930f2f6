// Coroutines that await tasks: 100 of them, each with 20 tasks one after the other, in one thread;
// 10,000 at once, more than the pool has room for; and some that are destroyed while they wait.
// Compiled as C++20.
#include "aiopool.hpp"

#include <cstdio>
#include <exception>
#include <utility>

namespace {

std::uint64_t square(std::uint64_t x) {
    if (x == 13) throw std::out_of_range("thirteen");
    return x * x;
}

/// A coroutine that begins at once and is over when it is over.
struct detached {
    struct promise_type {
        detached get_return_object() noexcept { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
};

detached add_squares(aiopool::pool &pool, std::uint32_t function, std::uint64_t &sum, int &caught) {
    for (std::uint64_t x = 0; x < 20; x++) {
        try {
            sum += co_await pool.async<std::uint64_t>(function, x);
        } catch (const std::out_of_range &exception) {
            // It left the task's function in another process.
            if (std::string_view(exception.what()) == "thirteen") caught++;
        }
    }
}

detached wait_for_the_end(aiopool::pool &pool, std::uint32_t function, int &ended) {
    try {
        const std::uint64_t forever = 600000;
        co_await pool.async<std::uint64_t>(function, forever);
    } catch (const aiopool::task_error &error) {
        ended += error.kind == AIOPOOL_OUTCOME_POOL_CLOSED;
    } catch (const aiopool::error &error) {
        ended += error.status == AIOPOOL_ERR_CLOSED;
    }
}

detached add_square(aiopool::pool &pool, std::uint32_t function, std::uint64_t &sum) {
    sum += co_await pool.async<std::uint64_t>(function, std::uint64_t{3});
}

/// A coroutine that its owner destroys.
struct owned {
    struct promise_type {
        owned get_return_object() noexcept {
            return owned(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };

    explicit owned(std::coroutine_handle<> handle) noexcept : handle(handle) {}
    owned(owned &&other) noexcept : handle(std::exchange(other.handle, nullptr)) {}
    ~owned() {
        if (handle) handle.destroy();
    }

    std::coroutine_handle<> handle;
};

owned destroyed(aiopool::pool &pool, std::uint32_t function, int &went_on) {
    co_await pool.async<std::uint64_t>(function, std::uint64_t{3});
    went_on++;
}

std::int32_t nap(aiopool_task *task, const void *, std::size_t, aiopool_output *, void *) {
    const auto awake = [](aiopool_task *task, std::uint32_t, void *) {
        aiopool_task_complete(task, 0);
    };
    return aiopool_task_sleep(task, 600000, awake, nullptr) == AIOPOOL_OK ? AIOPOOL_PENDING : -1;
}

} // namespace

int main() {
    try {
        const auto squaring =
            aiopool::register_function("square", aiopool::task<std::uint64_t, square>);
        const auto napping = aiopool::register_function("nap", nap);
        aiopool::check(aiopool_init());
        std::uint64_t sum = 0;
        std::uint64_t many = 0;
        int caught = 0, ended = 0, went_on = 0;
        {
            aiopool::pool pool;
            for (int i = 0; i < 100; i++) add_squares(pool, squaring, sum, caught);
            pool.run();
            // The first one's task is submitted, the last one's waits for room.
            {
                const owned first = destroyed(pool, squaring, went_on);
            }
            for (int i = 0; i < 10000; i++) add_square(pool, squaring, many);
            {
                const owned last = destroyed(pool, squaring, went_on);
            }
            pool.run();
            if (many != 90000 || went_on != 0) {
                std::fprintf(stderr, "sum %llu, %d went on\n", static_cast<unsigned long long>(many),
                             went_on);
                return 1;
            }
            // What waits when the pool ends goes on with an exception, and nothing leaks; also what
            // waits for room in it.
            for (int i = 0; i < 5000; i++) wait_for_the_end(pool, napping, ended);
        }
        std::printf("coroutine: sum %llu, %d exceptions, %d ended with the pool\n",
                    static_cast<unsigned long long>(sum), caught, ended);
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
