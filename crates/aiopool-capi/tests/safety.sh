#!/bin/sh
# The boundary's safety: the C tests and examples under AddressSanitizer, pools and leaks included;
# random calls under it; and under valgrind the calls that start no process (Debian 12's valgrind
# knows neither clone3 nor pidfd_open). Both sides are instrumented, C by gcc, Rust by rustc.
#
# Usage: crates/aiopool-capi/tests/safety.sh [seconds of random calls] [seed]
set -eu
cd "$(dirname "$0")/../../.."
seconds=${1:-25}
seed=${2:-$(date +%s)}
triple=$(rustc -vV | sed -n 's/^host: //p')
out=$PWD/target/asan
features="--package aiopool-capi --no-default-features --features stats-page"
programs=crates/aiopool-capi/tests/programs
symbols=crates/aiopool-capi/tests/abi/aiopool.symbols

# shellcheck disable=SC2086 # words are wanted
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
    cargo build --quiet --lib $features --target "$triple" --target-dir "$out"
lib=$out/$triple/debug
nm "$lib/libaiopool.so" | grep -q __asan_ || { echo "the library is not instrumented"; exit 1; }

# What it finds in a worker is written to a file, too: the host only sees a worker that ended.
# Segmentation faults are the workers' own; what malloc cannot give is NULL, as without it.
rm -f "$out"/report.*
export ASAN_OPTIONS="detect_leaks=1:handle_segv=0:allocator_may_return_null=1:log_path=$out/report"

build() { # source: the program's name
    gcc -std=c11 -O1 -g -fsanitize=address -fno-omit-frame-pointer -pthread -Iinclude "$1" \
        -o "$out/$(basename "$1" .c)" -L"$lib" -laiopool -ldl -Wl,-rpath,"$lib"
    basename "$1" .c
}

run() { # source, arguments…
    name=$(build "$1")
    shift
    if ! said=$(LD_LIBRARY_PATH=$lib timeout --kill-after=5 300 "$out/$name" "$@" 2>"$out/$name.err") ||
        grep -qs "ERROR:" "$out"/report.*; then
        echo "$name: FAILED under AddressSanitizer: $said"
        tail -n 100 "$out/$name.err" "$out"/report.* 2>/dev/null || true
        exit 1
    fi
    echo "$said"
}

run $programs/quiet.c $symbols
for test in misuse loans options polling room shutdown processes worker; do run "$programs/$test.c"; done
# Forked while pools are open: what only the stacks of their threads lead to looks lost in a worker.
with_leaks=$ASAN_OPTIONS
export ASAN_OPTIONS="$with_leaks:detect_leaks=0"
for test in contexts libraries; do run "$programs/$test.c"; done
export ASAN_OPTIONS="$with_leaks"
for example in map loop async zero-copy crash; do run "ffi-examples/c/$example.c"; done
run ffi-examples/c/million.c 20000 2
run $programs/fuzz.c "$seed" "$seconds"

command -v valgrind >/dev/null || { [ -z "${AIOPOOL_CI:-}" ] && echo "no valgrind here" && exit 0; }
# shellcheck disable=SC2086 # words are wanted
cargo build --quiet --lib $features --target "$triple" --target-dir "$out/plain"
lib=$out/plain/$triple/debug
gcc -std=c11 -g -Iinclude $programs/quiet.c -o "$out/quiet-plain" -L"$lib" -laiopool -ldl
LD_LIBRARY_PATH=$lib timeout 300 valgrind --quiet --error-exitcode=9 --leak-check=full \
    --show-leak-kinds=definite --errors-for-leak-kinds=definite "$out/quiet-plain" $symbols
echo "nothing found by AddressSanitizer, its leak check and valgrind"
