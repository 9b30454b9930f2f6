// A small header over aiopool.h for C++17: handles that move and free themselves, errors as
// exceptions or as values, and, from C++20 on, tasks that are awaited.
#pragma once

#include <aiopool.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if __cplusplus >= 202002L && __has_include(<coroutine>)
#include <coroutine>
#define AIOPOOL_HAS_COROUTINES 1
#endif

namespace aiopool {

/// A call that failed: its status and text.
class error : public std::runtime_error {
public:
    error(aiopool_status status, const std::string &text)
        : std::runtime_error(text), status(status) {}

    aiopool_status status;
};

/// What a task ended with that has no value: how, and the number that its function returned.
class task_error : public error {
public:
    task_error(aiopool_kind kind, std::int32_t code, const std::string &text)
        : error(AIOPOOL_ERR_TASK, text), kind(kind), code(code) {}

    aiopool_kind kind;
    std::int32_t code;
};

/// What `pool::submit_many` was refused with, and the tickets of the tasks that it had submitted.
class submit_error : public error {
public:
    submit_error(const error &refused, std::vector<std::uint64_t> tickets)
        : error(refused), tickets(std::move(tickets)) {}

    std::vector<std::uint64_t> tickets;
};

/// Throws the status of a call that failed.
inline void check(aiopool_status status) {
    if (status != AIOPOOL_OK) throw error(status, aiopool_last_error());
}

/// A value, or the error of the call that was to give it: for programs that throw nothing.
template <typename T> class result {
public:
    result(T value) : either(std::in_place_index<0>, std::move(value)) {}
    result(aiopool::error failure) : either(std::in_place_index<1>, std::move(failure)) {}

    bool has_value() const noexcept { return either.index() == 0; }
    explicit operator bool() const noexcept { return has_value(); }

    /// The value; throws the error if there is none.
    T &value() & {
        if (!has_value()) throw std::get<1>(either);
        return std::get<0>(either);
    }
    T &&value() && { return std::move(value()); }
    T &operator*() & { return value(); }
    T *operator->() { return &value(); }

    /// The error, of a result that has no value.
    const aiopool::error &failure() const { return std::get<1>(either); }

private:
    std::variant<T, aiopool::error> either;
};

/// The standard exceptions, which pass from a task to its receiver as themselves: each has a number
/// that `task` returns for it and `outcome::payload` throws it for.
namespace exceptions {

enum code : std::int32_t {
    other = -1,
    unknown = -2,
    invalid_argument = -3,
    domain_error = -4,
    length_error = -5,
    out_of_range = -6,
    logic_error = -7,
    range_error = -8,
    overflow_error = -9,
    underflow_error = -10,
    runtime_error = -11,
    bad_alloc = -12,
};

/// Returns the number of an exception.
inline code of(const std::exception &exception) {
    // The most derived ones first.
    const auto is = [&](auto *type) {
        return dynamic_cast<std::remove_pointer_t<decltype(type)> *>(&exception) != nullptr;
    };
    if (is(static_cast<const std::invalid_argument *>(nullptr))) return invalid_argument;
    if (is(static_cast<const std::domain_error *>(nullptr))) return domain_error;
    if (is(static_cast<const std::length_error *>(nullptr))) return length_error;
    if (is(static_cast<const std::out_of_range *>(nullptr))) return out_of_range;
    if (is(static_cast<const std::logic_error *>(nullptr))) return logic_error;
    if (is(static_cast<const std::range_error *>(nullptr))) return range_error;
    if (is(static_cast<const std::overflow_error *>(nullptr))) return overflow_error;
    if (is(static_cast<const std::underflow_error *>(nullptr))) return underflow_error;
    if (is(static_cast<const std::runtime_error *>(nullptr))) return runtime_error;
    if (is(static_cast<const std::bad_alloc *>(nullptr))) return bad_alloc;
    return other;
}

/// Throws the standard exception that has this number; returns for any other number.
inline void raise(std::int32_t number, const std::string &text) {
    switch (number) {
    case invalid_argument: throw std::invalid_argument(text);
    case domain_error: throw std::domain_error(text);
    case length_error: throw std::length_error(text);
    case out_of_range: throw std::out_of_range(text);
    case logic_error: throw std::logic_error(text);
    case range_error: throw std::range_error(text);
    case overflow_error: throw std::overflow_error(text);
    case underflow_error: throw std::underflow_error(text);
    case runtime_error: throw std::runtime_error(text);
    case bad_alloc: throw std::bad_alloc();
    default: return;
    }
}

} // namespace exceptions

/// An outcome; released at the end of its scope, also after its pool's.
class outcome {
public:
    outcome() = default;
    explicit outcome(aiopool_outcome *handle) noexcept : handle(handle) {}

    aiopool_kind kind() const noexcept { return aiopool_outcome_kind(handle.get()); }
    bool ok() const noexcept { return kind() == AIOPOOL_OUTCOME_OK; }
    std::int32_t code() const noexcept { return aiopool_outcome_code(handle.get()); }
    std::uint64_t user_data() const noexcept { return aiopool_outcome_user_data(handle.get()); }
    std::uint64_t ticket() const noexcept { return aiopool_outcome_ticket(handle.get()); }
    std::string_view text() const noexcept { return aiopool_outcome_text(handle.get()); }
    /// What is behind `AIOPOOL_OUTCOME_ERR`.
    aiopool_status cause() const noexcept { return aiopool_outcome_error(handle.get()); }
    /// How often its task was begun.
    std::uint32_t attempts() const noexcept { return aiopool_outcome_attempts(handle.get()); }
    /// Whether another task is what ended its own: that held their worker, or was running when it died.
    bool is_bystander() const noexcept { return aiopool_outcome_is_bystander(handle.get()); }
    /// Nanoseconds that its task waited for the last attempt, and that this one ran; 0 if it did not end.
    std::uint64_t waited_ns() const noexcept { return aiopool_outcome_waited_ns(handle.get()); }
    std::uint64_t ran_ns() const noexcept { return aiopool_outcome_ran_ns(handle.get()); }

    /// The payload, if there is one.
    std::optional<std::string_view> try_payload() const noexcept {
        if (!ok()) return std::nullopt;
        return std::string_view(static_cast<const char *>(aiopool_outcome_data(handle.get())),
                                aiopool_outcome_len(handle.get()));
    }

    /// The payload; throws what the task ended with if there is none: the standard exception that
    /// left its function, or a `task_error`.
    std::string_view payload() const {
        if (const auto bytes = try_payload()) return *bytes;
        if (kind() == AIOPOOL_OUTCOME_ERR) exceptions::raise(code(), std::string(text()));
        throw task_error(kind(), code(), std::string(text()));
    }

    /// The payload as a value of a type without pointers.
    template <typename T> T as() const {
        static_assert(std::is_trivially_copyable_v<T>, "only bytes travel between processes");
        T value;
        const std::string_view bytes = payload();
        if (bytes.size() != sizeof value) throw error(AIOPOOL_ERR_INVALID, "another size");
        std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }

private:
    struct release {
        void operator()(aiopool_outcome *handle) const noexcept { aiopool_outcome_release(handle); }
    };
    std::unique_ptr<aiopool_outcome, release> handle;
};

/// What one library of a program has for itself: names of functions, a log, pools. Freed at the end
/// of its scope, which has to be the end of its pools' and processes', too: while one is left it
/// stays, with its functions and its log.
class context {
public:
    context() {
        aiopool_context *made = nullptr;
        check(aiopool_context_new(&made));
        handle.reset(made);
    }

    /// Registers a task function; the context's next pool has it.
    std::uint32_t register_function(const char *name, aiopool_task_fn function,
                                    void *user = nullptr) {
        std::uint32_t number = 0;
        check(aiopool_context_register(handle.get(), name, function, user, &number));
        return number;
    }

    /// Names a function that only the workers have, where they are another program.
    std::uint32_t declare_function(const char *name) {
        std::uint32_t number = 0;
        check(aiopool_context_declare(handle.get(), name, &number));
        return number;
    }

    /// The number of a function, if the context has one of that name.
    std::optional<std::uint32_t> find_function(const char *name) const {
        std::uint32_t number = 0;
        const aiopool_status status = aiopool_context_find(handle.get(), name, &number);
        if (status == AIOPOOL_ERR_UNKNOWN) return std::nullopt;
        check(status);
        return number;
    }

    /// Takes the name of a function back: later pools do not have it.
    void unregister_function(const char *name) {
        check(aiopool_context_unregister(handle.get(), name));
    }

    /// Sets what is called for each message about the context's pools; NULL for nothing.
    void log(std::uint32_t level, aiopool_log_fn function, void *user = nullptr) {
        check(aiopool_context_log_set(handle.get(), level, function, user));
    }

    /// Frees it now: throws, and nothing is done, while a pool or a process of it is left.
    void free() {
        check(aiopool_context_free(handle.get()));
        static_cast<void>(handle.release());
    }

    /// What the C API takes.
    aiopool_context *get() const noexcept { return handle.get(); }

private:
    struct end {
        void operator()(aiopool_context *handle) const noexcept {
            static_cast<void>(aiopool_context_free(handle) == AIOPOOL_OK);
        }
    };
    std::unique_ptr<aiopool_context, end> handle;
};

/// Options with their defaults, of a pool of the program's or of a context's.
struct options : aiopool_pool_options {
    options() { check(aiopool_pool_options_init(this)); }
    explicit options(const aiopool::context &of) : options() { context = of.get(); }
};

/// A call with its defaults.
struct call : aiopool_call {
    explicit call(std::uint32_t number) : aiopool_call(AIOPOOL_CALL_INIT) { function = number; }

    /// With an input that stays where it is until the call is submitted.
    template <typename T> call(std::uint32_t number, const T &value) : call(number) {
        static_assert(std::is_trivially_copyable_v<T>, "only bytes travel between processes");
        input = &value;
        input_len = sizeof value;
    }
};

/// Memory for one input, borrowed from a pool; given back at the end of its scope if it was not
/// submitted.
class loan {
public:
    loan(aiopool_loan *handle, void *data, std::size_t size) noexcept
        : handle(handle), bytes(static_cast<unsigned char *>(data)), length(size) {}

    unsigned char *data() noexcept { return bytes; }
    std::size_t size() const noexcept { return length; }

private:
    friend class pool;
    struct give_back {
        void operator()(aiopool_loan *handle) const noexcept { aiopool_loan_return(handle); }
    };
    std::unique_ptr<aiopool_loan, give_back> handle;
    unsigned char *bytes;
    std::size_t length;
};

namespace detail {

class line;

/// A task that a coroutine awaits. Its own memory: the coroutine may be destroyed before it is over.
struct awaited {
    explicit awaited(std::shared_ptr<detail::line> line) : line(std::move(line)) {}

    /// Has the coroutine go on, if there still is one.
    void go_on() {
        if (void *frame = std::exchange(coroutine, nullptr)) resume(frame);
    }

    std::shared_ptr<detail::line> line;
    /// Its input is in the coroutine.
    aiopool_call call = AIOPOOL_CALL_INIT;
    /// No pointer once the coroutine goes on, or is destroyed.
    void *coroutine = nullptr;
    void (*resume)(void *) = nullptr;
    outcome got;
    std::optional<error> refused;
};

/// The tasks of coroutines that found their pool full, the oldest first. Each outcome that arrives
/// has them tried again.
class line {
public:
    explicit line(aiopool_pool *pool) noexcept : pool(pool) {}

    /// Submits a task, now or when there is room; throws what it is refused with now.
    void join(const std::shared_ptr<awaited> &task) {
        const std::lock_guard<std::mutex> guard(lock);
        if (!waiting.empty() || !submit(task)) waiting.push_back(task);
        if (!task->refused) return;
        task->coroutine = nullptr;
        throw *task->refused;
    }

    /// Submits what there is room for. False if nothing could be done for those that still wait.
    bool pump() {
        std::unique_lock<std::mutex> guard(lock);
        again = true;
        if (pumping) return true;
        bool advanced = false;
        pumping = true;
        while (!waiting.empty() && (again || advanced)) {
            again = false;
            const std::shared_ptr<awaited> first = waiting.front();
            advanced = first->coroutine == nullptr || submit(first);
            if (!advanced) continue;
            some = true;
            waiting.pop_front();
            if (!first->refused) continue;
            guard.unlock();
            first->go_on();
            guard.lock();
        }
        pumping = false;
        return std::exchange(some, false) || waiting.empty();
    }

    bool empty() {
        const std::lock_guard<std::mutex> guard(lock);
        return waiting.empty();
    }

    /// The pool takes nothing more: the coroutines that wait for room go on with an exception.
    void end() {
        {
            const std::lock_guard<std::mutex> guard(lock);
            pool = nullptr;
        }
        pump();
    }

private:
    /// False if the pool is full. With the lock.
    bool submit(const std::shared_ptr<awaited> &task) {
        auto owner = std::make_unique<std::shared_ptr<awaited>>(task);
        task->call.on_complete = arrived;
        task->call.user_data = reinterpret_cast<std::uintptr_t>(owner.get());
        std::uint64_t ticket = 0;
        aiopool_status status = AIOPOOL_ERR_CLOSED;
        if (pool != nullptr) status = aiopool_pool_try_submit(pool, &task->call, &ticket);
        if (status == AIOPOOL_ERR_FULL) return false;
        if (status == AIOPOOL_OK)
            static_cast<void>(owner.release());
        else
            task->refused = error(status, pool ? aiopool_last_error() : "the pool has ended");
        return true;
    }

    static void arrived(aiopool_outcome *outcome, std::uint64_t owner) noexcept {
        const std::unique_ptr<std::shared_ptr<awaited>> task(
            reinterpret_cast<std::shared_ptr<awaited> *>(static_cast<std::uintptr_t>(owner)));
        (*task)->got = aiopool::outcome(outcome);
        (*task)->go_on();
        (*task)->line->pump();
    }

    std::mutex lock;
    aiopool_pool *pool;
    std::deque<std::shared_ptr<awaited>> waiting;
    bool pumping = false;
    /// There may be more room than when `pump` looked.
    bool again = false;
    /// `pump` has done something.
    bool some = false;
};

} // namespace detail

#ifdef AIOPOOL_HAS_COROUTINES
template <typename R, typename T> class awaitable;
#endif

/// A pool. At the end of its scope it is terminated and freed; coroutines that await its tasks go
/// on with an exception before that. Outcomes and loans outlive it.
class pool {
public:
    explicit pool(const options &options = {}) {
        aiopool_pool *started = nullptr;
        check(aiopool_pool_start(&options, &started));
        handle.reset(started);
        handle.get_deleter().line = std::make_shared<detail::line>(started);
    }

    /// Submits a call; throws what it is refused with.
    std::uint64_t submit(const aiopool::call &call, std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        std::uint64_t ticket;
        check(aiopool_pool_submit(handle.get(), &call, timeout_ms, &ticket));
        return ticket;
    }

    /// Submits a call if there is room now.
    result<std::uint64_t> try_submit(const aiopool::call &call) {
        std::uint64_t ticket;
        const aiopool_status status = aiopool_pool_try_submit(handle.get(), &call, &ticket);
        if (status != AIOPOOL_OK) return error(status, aiopool_last_error());
        return ticket;
    }

    template <typename T>
    std::uint64_t submit(std::uint32_t function, const T &input, std::uint64_t user_data = 0) {
        aiopool::call call(function, input);
        call.user_data = user_data;
        return submit(call);
    }

    /// Submits calls in order, and gives their tickets; throws a `submit_error` where one is refused.
    std::vector<std::uint64_t> submit_many(const std::vector<aiopool::call> &calls,
                                           std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        static_assert(sizeof(aiopool::call) == sizeof(aiopool_call));
        std::vector<std::uint64_t> tickets(calls.size());
        if (calls.empty()) return tickets;
        std::size_t submitted = 0;
        const aiopool_status status = aiopool_pool_submit_many(
            handle.get(), calls.data(), calls.size(), timeout_ms, tickets.data(), &submitted);
        if (status == AIOPOOL_OK) return tickets;
        const error refused(status, aiopool_last_error());
        tickets.resize(submitted);
        throw submit_error(refused, std::move(tickets));
    }

    /// Borrows memory that the workers read, for an input of `size` bytes.
    loan borrow(std::size_t size) {
        void *data = nullptr;
        aiopool_loan *lent = nullptr;
        check(aiopool_pool_loan(handle.get(), size, &data, &lent));
        return loan(lent, data, size);
    }

    /// Submits a loan; the output, too, stays where it is written until its outcome's end.
    std::uint64_t submit(std::uint32_t function, loan input, std::uint64_t user_data = 0) {
        aiopool::call call(function);
        call.loan = input.handle.get();
        call.flags = AIOPOOL_CALL_BORROW_OUTPUT;
        call.user_data = user_data;
        const std::uint64_t ticket = submit(call);
        static_cast<void>(input.handle.release());
        return ticket;
    }

    /// Waits until every worker can take tasks; throws why they cannot.
    void ready(std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        check(aiopool_pool_ready(handle.get(), timeout_ms));
    }

    /// Runs a function once on every worker and waits for it: the outcomes, by the workers' seats.
    template <typename T>
    std::vector<outcome> broadcast(std::uint32_t function, const T &input) {
        aiopool::call call(function, input);
        call.flags = AIOPOOL_CALL_BY_TICKET;
        std::uint64_t first = 0;
        std::uint32_t count = 0;
        check(aiopool_pool_broadcast(handle.get(), &call, &first, &count));
        std::vector<outcome> all;
        all.reserve(count);
        while (all.size() < count) all.push_back(wait_ticket(first + all.size()));
        return all;
    }

    /// The descriptor to watch: readable until `try_wait` finds nothing.
    int fd() {
        std::int32_t number;
        check(aiopool_pool_fd(handle.get(), &number));
        return number;
    }

    /// The descriptor to watch while there is something to submit: readable until the pool has no room.
    int room_fd() {
        std::int32_t number;
        check(aiopool_pool_room_fd(handle.get(), &number));
        return number;
    }

    /// An outcome, if there is one.
    std::optional<outcome> try_wait() {
        aiopool_outcome *lent = nullptr;
        const aiopool_status status = aiopool_pool_try_wait(handle.get(), &lent);
        if (status == AIOPOOL_ERR_EMPTY) {
            line().pump();
            return std::nullopt;
        }
        check(status);
        return outcome(lent);
    }

    aiopool_stats stats() {
        aiopool_stats numbers{};
        numbers.struct_size = sizeof numbers;
        check(aiopool_pool_stats(handle.get(), &numbers));
        return numbers;
    }

    outcome wait(std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        line().pump();
        aiopool_outcome *lent = nullptr;
        check(aiopool_pool_wait(handle.get(), timeout_ms, &lent));
        return outcome(lent);
    }

    /// As `wait`, without an exception.
    result<outcome> wait_for(std::uint64_t timeout_ms) {
        line().pump();
        aiopool_outcome *lent = nullptr;
        const aiopool_status status = aiopool_pool_wait(handle.get(), timeout_ms, &lent);
        if (status != AIOPOOL_OK) return error(status, aiopool_last_error());
        return outcome(lent);
    }

    outcome wait_ticket(std::uint64_t ticket, std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        aiopool_outcome *lent = nullptr;
        check(aiopool_pool_wait_ticket(handle.get(), ticket, timeout_ms, &lent));
        return outcome(lent);
    }

    /// Cancels a task; false if it is over. What computes on is not killed.
    bool cancel(std::uint64_t ticket) {
        return is_known(aiopool_pool_cancel(handle.get(), ticket));
    }

    /// As `cancel`, and kills the worker if the function does not obey within that time.
    bool cancel_within(std::uint64_t ticket, std::uint64_t grace_ms) {
        return is_known(aiopool_pool_cancel_within(handle.get(), ticket, grace_ms));
    }

    /// How far a running task says it is, if it has said so.
    std::optional<std::uint64_t> progress(std::uint64_t ticket) {
        std::uint64_t number;
        if (!is_known(aiopool_pool_progress(handle.get(), ticket, &number))) return std::nullopt;
        return number;
    }

    /// What a task has printed until now, to its standard output (1) or error (2): of a pool whose
    /// surroundings have `AIOPOOL_SURROUNDINGS_OUTPUT_PER_TASK`.
    std::string printed(std::uint64_t ticket, std::uint32_t stream = 1) {
        std::string text;
        std::size_t length = 0;
        // It may grow between two looks.
        do {
            text.resize(length);
            check(aiopool_pool_printed(handle.get(), ticket, stream, text.data(), text.size(), &length));
        } while (length > text.size());
        text.resize(length);
        return text;
    }

    /// Waits until every task is over; coroutines that await tasks go on inside of this. Throws
    /// `AIOPOOL_ERR_FULL` where some want room and the outcomes that take it are for others.
    void run() {
        for (;;) {
            check(aiopool_pool_wait_idle(handle.get(), AIOPOOL_FOREVER));
            if (!line().pump())
                throw error(AIOPOOL_ERR_FULL, "coroutines wait for room in the pool, which outcomes "
                                              "fill that nobody has received: receive them first");
            if (line().empty()) return;
        }
    }

    /// Closes the pool and waits until every task is over; false if some are not by then.
    bool drain(std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        close();
        const aiopool_status status = aiopool_pool_wait_idle(handle.get(), timeout_ms);
        if (status != AIOPOOL_ERR_TIMEOUT) check(status);
        return status == AIOPOOL_OK;
    }

    void close() { check(aiopool_pool_close(handle.get())); }
    void terminate() { check(aiopool_pool_terminate(handle.get())); }
    void join() { check(aiopool_pool_join(handle.get(), AIOPOOL_FOREVER)); }

    /// What the C API takes, for the calls that are not here.
    aiopool_pool *get() const noexcept { return handle.get(); }

#ifdef AIOPOOL_HAS_COROUTINES
    /// A task to be awaited, for its value of type `R`: `co_await pool.async<R>(function, input)`.
    /// The coroutine goes on in the thread that receives: inside of `run`, `wait` or `try_wait`.
    /// Where the pool is full it waits, and no thread does. A coroutine may be destroyed while it
    /// waits, by the thread that receives: what was submitted runs, and its outcome is dropped.
    template <typename R, typename T>
    awaitable<R, T> async(std::uint32_t function, const T &input) {
        return awaitable<R, T>(handle.get_deleter().line, function, input);
    }
#endif

private:
    static bool is_known(aiopool_status status) {
        if (status != AIOPOOL_ERR_UNKNOWN) check(status);
        return status == AIOPOOL_OK;
    }

    detail::line &line() noexcept { return *handle.get_deleter().line; }

    struct free {
        void operator()(aiopool_pool *handle) const noexcept {
            aiopool_pool_terminate(handle);
            // The coroutines that wait: each task has its outcome now.
            static_cast<void>(aiopool_pool_wait_idle(handle, 1000) == AIOPOOL_OK);
            if (line) line->end();
            aiopool_pool_free(handle);
        }

        std::shared_ptr<detail::line> line;
    };
    std::unique_ptr<aiopool_pool, free> handle;
};

#ifdef AIOPOOL_HAS_COROUTINES
/// See `pool::async`. It stays where it is while its coroutine waits.
template <typename R, typename T> class awaitable {
public:
    awaitable(std::shared_ptr<detail::line> line, std::uint32_t function, const T &input)
        : input(input), task(std::make_shared<detail::awaited>(std::move(line))) {
        task->call = aiopool::call(function, this->input);
    }
    awaitable(const awaitable &) = delete;
    awaitable &operator=(const awaitable &) = delete;
    /// The task goes on without a coroutine.
    ~awaitable() { task->coroutine = nullptr; }

    bool await_ready() const noexcept { return false; }

    void await_suspend(std::coroutine_handle<> coroutine) {
        // The coroutine, and this with it, may be gone when it is submitted.
        const std::shared_ptr<detail::awaited> kept = task;
        kept->coroutine = coroutine.address();
        kept->resume = [](void *frame) { std::coroutine_handle<>::from_address(frame).resume(); };
        kept->line->join(kept);
    }

    R await_resume() const {
        if (task->refused) throw *task->refused;
        return task->got.template as<R>();
    }

private:
    T input;
    std::shared_ptr<detail::awaited> task;
};
#endif

/// One task function in a process of its own; ended and freed at the end of its scope. Its outcome
/// outlives it.
class process {
public:
    template <typename T>
    process(std::uint32_t function, const T &input, const options &options = {},
            const char *name = nullptr) {
        const aiopool::call call(function, input);
        aiopool_process *started = nullptr;
        check(aiopool_process_start(&call, &options, name, &started));
        handle.reset(started);
    }

    outcome wait(std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        aiopool_outcome *lent = nullptr;
        check(aiopool_process_wait(handle.get(), timeout_ms, &lent));
        return outcome(lent);
    }

    /// The descriptor to watch: readable until `wait(0)` finds nothing.
    int fd() const {
        std::int32_t number;
        check(aiopool_process_fd(handle.get(), &number));
        return number;
    }

    void join(std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        check(aiopool_process_join(handle.get(), timeout_ms));
    }

    bool is_alive() const {
        bool alive;
        check(aiopool_process_is_alive(handle.get(), &alive));
        return alive;
    }

    std::uint32_t pid() const {
        std::uint32_t number;
        check(aiopool_process_pid(handle.get(), &number));
        return number;
    }

    /// None while it is alive.
    std::optional<std::int32_t> exit_code() const {
        std::int32_t code;
        const aiopool_status status = aiopool_process_exit_code(handle.get(), &code);
        if (status == AIOPOOL_ERR_EMPTY) return std::nullopt;
        check(status);
        return code;
    }

    void terminate() { check(aiopool_process_terminate(handle.get())); }
    void kill() { check(aiopool_process_kill(handle.get())); }
    std::string_view name() const { return aiopool_process_name(handle.get()); }

private:
    struct free {
        void operator()(aiopool_process *handle) const noexcept { aiopool_process_free(handle); }
    };
    std::unique_ptr<aiopool_process, free> handle;
};

/// The task that runs, for a function that takes it before its argument.
class running {
public:
    explicit running(aiopool_task *task) noexcept : task(task) {}

    /// Whether its outcome is decided: what computes for long asks from time to time.
    bool is_cancelled() const noexcept { return aiopool_task_is_cancelled(task); }
    /// Says how far it is, for `pool::progress`.
    void progress(std::uint64_t number) const { check(aiopool_task_progress(task, number)); }

private:
    aiopool_task *task;
};

/// A function that takes a `T`, or a `running` and a `T`, and gives a value, as a task function. What
/// it throws is its error: the receiver's `outcome::payload` throws a standard exception again.
template <typename T, auto function>
std::int32_t task(aiopool_task *task, const void *input, std::size_t len, aiopool_output *output,
                  void *) noexcept {
    try {
        T argument;
        if (len != sizeof argument) throw std::invalid_argument("an input of another size");
        std::memcpy(&argument, input, sizeof argument);
        const auto value = [&] {
            if constexpr (std::is_invocable_v<decltype(function), running, T>)
                return function(running(task), argument);
            else
                return function(argument);
        }();
        static_assert(std::is_trivially_copyable_v<decltype(value)>);
        check(aiopool_output_write(output, &value, sizeof value));
        return 0;
    } catch (const std::exception &exception) {
        aiopool_task_set_error(task, exception.what());
        return exceptions::of(exception);
    } catch (...) {
        aiopool_task_set_error(task, "an exception that is no std::exception");
        return exceptions::unknown;
    }
}

/// Registers a task function, before `aiopool_init`.
inline std::uint32_t register_function(const char *name, aiopool_task_fn function) {
    std::uint32_t number = 0;
    check(aiopool_function_register(name, function, nullptr, &number));
    return number;
}

/// Takes the name of a function back: later pools do not have it.
inline void unregister_function(const char *name) { check(aiopool_function_unregister(name)); }

// A handle is of one owner: copies are refused when a program is compiled.
static_assert(!std::is_copy_constructible_v<outcome> && !std::is_copy_assignable_v<outcome>);
static_assert(!std::is_copy_constructible_v<context> && !std::is_copy_assignable_v<context>);
static_assert(!std::is_copy_constructible_v<loan> && !std::is_copy_assignable_v<loan>);
static_assert(!std::is_copy_constructible_v<pool> && !std::is_copy_assignable_v<pool>);
static_assert(!std::is_copy_constructible_v<process> && !std::is_copy_assignable_v<process>);
static_assert(std::is_nothrow_move_constructible_v<outcome>);
static_assert(std::is_nothrow_move_constructible_v<context>);
static_assert(std::is_nothrow_move_constructible_v<pool>);

} // namespace aiopool
