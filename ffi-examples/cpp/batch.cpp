// More calls than the pool has room for, some at a time: an event loop watches for room and for
// outcomes. Then what became of tasks that fail, and of those beside one that takes its worker down.
#include "aiopool.hpp"

#include <csignal>
#include <cstdio>
#include <exception>
#include <poll.h>

using number = std::uint64_t;

static number square(number x) { return x * x; }
static number fail(number x) { throw std::runtime_error("it was to fail: " + std::to_string(x)); }

static number crash(number x) {
    std::raise(SIGKILL);
    return x;
}

static std::int32_t never_done(aiopool_task *task, const void *, std::size_t, aiopool_output *,
                               void *) {
    return aiopool_task_progress(task, 1) == AIOPOOL_OK ? AIOPOOL_PENDING : -1;
}

static void expect(bool that, const char *what) {
    if (!that) throw std::logic_error(what);
}

static number sum_of_squares(aiopool::pool &pool, std::uint32_t function, number count) {
    pollfd watched[] = {{pool.fd(), POLLIN, 0}, {pool.room_fd(), POLLIN, 0}};
    number submitted = 0, received = 0, sum = 0;
    std::vector<number> inputs(40);
    while (received < count) {
        // The one for room is silent only where something was refused.
        expect(poll(watched, submitted < count ? 2 : 1, 120000) > 0, "nothing came");
        while (const auto outcome = pool.try_wait()) {
            sum += outcome->as<number>();
            received++;
        }
        std::vector<aiopool::call> calls;
        for (number x = submitted; x < count && calls.size() < inputs.size(); x++) {
            inputs[calls.size()] = x;
            calls.emplace_back(function, inputs[calls.size()]);
        }
        try {
            submitted += pool.submit_many(calls, AIOPOOL_NO_WAIT).size();
        } catch (const aiopool::submit_error &refused) {
            const bool full = refused.status == AIOPOOL_ERR_FULL || refused.status == AIOPOOL_ERR_TIMEOUT;
            expect(full, refused.what());
            submitted += refused.tickets.size();
        }
    }
    return sum;
}

int main() {
    constexpr number count = 1000;
    try {
        const auto squares = aiopool::register_function("square", aiopool::task<number, square>);
        const auto failing = aiopool::register_function("fail", aiopool::task<number, fail>);
        const auto crashing = aiopool::register_function("crash", aiopool::task<number, crash>);
        const auto pending = aiopool::register_function("never done", never_done);
        aiopool::check(aiopool_init());
        aiopool::options options;
        options.processes = 1;
        options.child_concurrency = 2;
        options.capacity = 16;
        aiopool::pool pool(options);
        const number sum = sum_of_squares(pool, squares, count);

        const number seven = 7;
        aiopool::call call(failing, seven);
        call.retries = 2;
        call.flags = AIOPOOL_CALL_RETRY_ON_ERROR;
        pool.submit(call);
        const aiopool::outcome failed = pool.wait();
        expect(failed.attempts() == 3 && failed.cause() == AIOPOOL_ERR_TASK, "it was tried thrice");
        expect(!failed.is_bystander() && failed.waited_ns() > 0, "and is its own fault");

        const std::uint64_t beside = pool.submit(pending, number{0});
        while (!pool.progress(beside)) poll(nullptr, 0, 1);
        const std::uint64_t suspect = pool.submit(crashing, number{0});
        for (int i = 0; i < 2; i++) {
            const aiopool::outcome lost = pool.wait();
            expect(lost.kind() == AIOPOOL_OUTCOME_WORKER_LOST, "it was lost");
            expect(lost.is_bystander() == (lost.ticket() != suspect), "by the other");
        }

        pool.submit(squares, seven);
        expect(pool.drain() && pool.wait().as<number>() == 49, "what was accepted is done");
        try {
            pool.submit_many({aiopool::call(squares, seven)});
            throw std::logic_error("a closed pool took calls");
        } catch (const aiopool::submit_error &refused) {
            expect(refused.status == AIOPOOL_ERR_CLOSED && refused.tickets.empty(), "it is closed");
        }
        aiopool::pool stuck(options);
        stuck.submit(pending, number{0});
        expect(!stuck.drain(20), "it is never done");
        stuck.terminate();
        expect(stuck.wait().kind() == AIOPOOL_OUTCOME_POOL_CLOSED, "until it is ended");
        std::printf("batch: %d squares through 16 places, sum %llu; 3 attempts, a bystander\n",
                    static_cast<int>(count), static_cast<unsigned long long>(sum));
        return 0;
    } catch (const std::exception &exception) {
        std::fprintf(stderr, "%s\n", exception.what());
        return 1;
    }
}
