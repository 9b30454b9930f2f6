#!/bin/sh
# Builds benches/libuv.c against the release build and runs it with one worker and with two:
#     cargo build --release && sh benches/libuv.sh [pairs of blocks] [tasks a block]
# Needs libuv's header (Debian: libuv1-dev). Run it on a machine that does nothing else.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
lib=${AIOPOOL_LIB_DIR:-$root/target/release}
out=${AIOPOOL_OUT:-$root/target/benches}
mkdir -p "$out"
"${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -pedantic -I"$root/include" "$root/benches/libuv.c" \
    -L"$lib" -laiopool -luv -Wl,-rpath,"$lib" -o "$out/libuv"
for workers in 1 2; do "$out/libuv" "$workers" "$@"; done
