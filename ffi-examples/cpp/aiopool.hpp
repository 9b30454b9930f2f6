// A small RAII header over aiopool.h: handles that free themselves, errors as exceptions.
#pragma once

#include <aiopool.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace aiopool {

/// A call that failed: its status and text.
class error : public std::runtime_error {
public:
    error(aiopool_status status, const std::string &text)
        : std::runtime_error(text), status(status) {}

    aiopool_status status;
};

inline void check(aiopool_status status) {
    if (status != AIOPOOL_OK) throw error(status, aiopool_last_error());
}

/// An outcome; released at the end of its scope.
class outcome {
public:
    explicit outcome(aiopool_outcome *handle) : handle(handle) {}

    std::int32_t status() const { return aiopool_outcome_kind(handle.get()); }
    bool ok() const { return status() == AIOPOOL_OUTCOME_OK; }
    std::uint64_t user_data() const { return aiopool_outcome_user_data(handle.get()); }
    std::uint64_t ticket() const { return aiopool_outcome_ticket(handle.get()); }
    std::string_view text() const { return aiopool_outcome_text(handle.get()); }

    /// The payload; throws what the task ended with if there is none.
    std::string_view payload() const {
        if (!ok()) throw error(AIOPOOL_ERR_TASK, std::string(text()));
        return {static_cast<const char *>(aiopool_outcome_data(handle.get())),
                aiopool_outcome_len(handle.get())};
    }

    /// The payload as a value of a type without pointers.
    template <typename T> T as() const {
        T value;
        std::string_view bytes = payload();
        if (bytes.size() != sizeof value) throw error(AIOPOOL_ERR_INVALID, "another size");
        std::memcpy(&value, bytes.data(), sizeof value);
        return value;
    }

private:
    struct release {
        void operator()(aiopool_outcome *handle) const { aiopool_outcome_release(handle); }
    };
    std::unique_ptr<aiopool_outcome, release> handle;
};

/// Options with their defaults.
struct options : aiopool_pool_options {
    options() { check(aiopool_pool_options_init(this)); }
};

/// Memory for one input, borrowed from a pool; given back at the end of its scope if it was not
/// submitted.
class loan {
public:
    loan(aiopool_loan *handle, void *data, std::size_t size)
        : handle(handle), bytes(static_cast<unsigned char *>(data)), length(size) {}

    unsigned char *data() { return bytes; }
    std::size_t size() const { return length; }

private:
    friend class pool;
    struct give_back {
        void operator()(aiopool_loan *handle) const { aiopool_loan_return(handle); }
    };
    std::unique_ptr<aiopool_loan, give_back> handle;
    unsigned char *bytes;
    std::size_t length;
};

/// A pool; terminated and freed at the end of its scope, after its outcomes.
class pool {
public:
    explicit pool(const options &options = {}) {
        aiopool_pool *started = nullptr;
        check(aiopool_pool_start(&options, &started));
        handle.reset(started);
    }

    template <typename T>
    std::uint64_t submit(std::uint32_t function, const T &input, std::uint64_t user_data = 0) {
        aiopool_call call;
        std::uint64_t ticket;
        check(aiopool_call_init(&call));
        call.function = function;
        call.input = &input;
        call.input_len = sizeof input;
        call.user_data = user_data;
        check(aiopool_pool_submit(handle.get(), &call, AIOPOOL_FOREVER, &ticket));
        return ticket;
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
        aiopool_call call;
        std::uint64_t ticket;
        check(aiopool_call_init(&call));
        call.function = function;
        call.loan = input.handle.get();
        call.flags = AIOPOOL_CALL_BORROW_OUTPUT;
        call.user_data = user_data;
        check(aiopool_pool_submit(handle.get(), &call, AIOPOOL_FOREVER, &ticket));
        static_cast<void>(input.handle.release());
        return ticket;
    }

    /// The descriptor to watch: readable until `peek` finds nothing.
    int fd() {
        std::int32_t number;
        check(aiopool_pool_fd(handle.get(), &number));
        return number;
    }

    std::optional<outcome> peek() {
        aiopool_outcome *lent = nullptr;
        aiopool_status status = aiopool_pool_try_wait(handle.get(), &lent);
        if (status == AIOPOOL_ERR_EMPTY) return std::nullopt;
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
        aiopool_outcome *lent = nullptr;
        check(aiopool_pool_wait(handle.get(), timeout_ms, &lent));
        return outcome(lent);
    }

    outcome wait_for(std::uint64_t ticket, std::uint64_t timeout_ms = AIOPOOL_FOREVER) {
        aiopool_outcome *lent = nullptr;
        check(aiopool_pool_wait_ticket(handle.get(), ticket, timeout_ms, &lent));
        return outcome(lent);
    }

    void close() { check(aiopool_pool_close(handle.get())); }
    void join() { check(aiopool_pool_join(handle.get(), AIOPOOL_FOREVER)); }

private:
    struct free {
        void operator()(aiopool_pool *handle) const { aiopool_pool_free(handle); }
    };
    std::unique_ptr<aiopool_pool, free> handle;
};

/// One task function in a process of its own; killed, if it has not ended, and freed at the end of
/// its scope, after its outcome.
class process {
public:
    template <typename T>
    process(std::uint32_t function, const T &input, const options &options = {},
            const char *name = nullptr) {
        aiopool_call call;
        aiopool_process *started = nullptr;
        check(aiopool_call_init(&call));
        call.function = function;
        call.input = &input;
        call.input_len = sizeof input;
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
        aiopool_status status = aiopool_process_exit_code(handle.get(), &code);
        if (status == AIOPOOL_ERR_EMPTY) return std::nullopt;
        check(status);
        return code;
    }

    void terminate() { check(aiopool_process_terminate(handle.get())); }
    void kill() { check(aiopool_process_kill(handle.get())); }
    std::string_view name() const { return aiopool_process_name(handle.get()); }

private:
    struct free {
        void operator()(aiopool_process *handle) const { aiopool_process_free(handle); }
    };
    std::unique_ptr<aiopool_process, free> handle;
};

/// A function that takes a `T` and gives a value, as a task function; an exception is its error.
template <typename T, auto function>
std::int32_t task(aiopool_task *task, const void *input, std::size_t len, aiopool_output *output,
                  void *) {
    try {
        T argument;
        if (len != sizeof argument) throw std::invalid_argument("an input of another size");
        std::memcpy(&argument, input, sizeof argument);
        const auto value = function(argument);
        check(aiopool_output_write(output, &value, sizeof value));
        return 0;
    } catch (const std::exception &exception) {
        aiopool_task_set_error(task, exception.what());
        return -1;
    }
}

/// Registers a task function, before `aiopool_init`.
inline std::uint32_t register_function(const char *name, aiopool_task_fn function) {
    std::uint32_t number = 0;
    check(aiopool_function_register(name, function, nullptr, &number));
    return number;
}

} // namespace aiopool
