// A small RAII header over aiopool.h: handles that free themselves, errors as exceptions.
#pragma once

#include <aiopool.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

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

    bool ok() const { return aiopool_outcome_status(handle.get()) == AIOPOOL_OUTCOME_OK; }
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

} // namespace aiopool
