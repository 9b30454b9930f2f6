// Two libraries of one program: each has functions, a pool and a log of its own, with the same names.
#include "aiopool.hpp"

#include <atomic>
#include <csignal>
#include <cstdio>
#include <exception>
#include <thread>

using number = std::uint64_t;

static number half(number x) { return x / 2; }
static number square(number x) { return x * x; }

static void expect(bool that, const char *what) {
    if (!that) throw std::logic_error(what);
}

/// Whether this throws with that status.
template <typename F> static bool is_refused(aiopool_status status, F call) {
    try {
        call();
    } catch (const aiopool::error &refused) {
        return refused.status == status;
    }
    return false;
}

static void note(std::uint32_t, const char *, void *count) {
    ++*static_cast<std::atomic<int> *>(count);
}

/// A library, as it would be in a file of its own: nobody else's names or messages meet it. What is
/// declared last is freed first, so the pool goes before its context.
struct library {
    library(aiopool_task_fn function)
        : work(own.register_function("work", function)), pool(one_worker(own)) {}

    static aiopool::options one_worker(const aiopool::context &own) {
        aiopool::options options(own);
        options.processes = 1;
        return options;
    }

    number ask(number x) {
        pool.submit(work, x);
        return pool.wait().as<number>();
    }

    void kill_worker() {
        std::uint32_t pid;
        std::size_t count;
        aiopool::check(aiopool_pool_workers(pool.get(), &pid, 1, &count));
        expect(count == 1 && kill(static_cast<pid_t>(pid), SIGKILL) == 0, "it had a worker");
    }

    aiopool::context own;
    std::uint32_t work;
    aiopool::pool pool;
};

int main() {
    try {
        library images(aiopool::task<number, square>);
        std::atomic<int> said{0};
        {
            library mail(aiopool::task<number, half>);
            expect(images.ask(12) == 144 && mail.ask(12) == 6, "each has its own `work`");
            expect(images.own.find_function("work") == images.work, "it is found by its name");
            expect(!images.own.find_function("rest"), "another name is none");
            expect(is_refused(AIOPOOL_ERR_UNKNOWN, [&] { images.pool.submit(mail.work, number{1}); }),
                   "a number is its context's");
            mail.own.log(AIOPOOL_LOG_WARN, note, &said);
            mail.kill_worker();
            while (said == 0) std::this_thread::yield();
            mail.own.log(AIOPOOL_LOG_WARN, nullptr);
            expect(is_refused(AIOPOOL_ERR_BUSY, [&] { mail.own.free(); }), "its pool is not freed");
            expect(mail.ask(10) == 5, "what was refused has done nothing");
        }
        expect(images.ask(3) == 9, "it does not notice that the other one is gone");

        aiopool::context last;
        static_cast<void>(last.declare_function("elsewhere"));
        last.unregister_function("elsewhere");
        expect(is_refused(AIOPOOL_ERR_UNKNOWN, [&] { last.unregister_function("elsewhere"); }),
               "its name was taken back");
        aiopool::context moved = std::move(last);
        moved.free();
        expect(moved.get() == nullptr && last.get() == nullptr, "it is freed, and once");
        std::printf("context: two of one name, 144 and 6; one log heard its own worker's death\n");
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
