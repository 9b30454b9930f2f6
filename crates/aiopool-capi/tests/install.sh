#!/bin/sh
# Installs the C library into a temporary prefix and builds an example by pkg-config alone.
#
# By `cargo cinstall` where cargo-c is there, or with AIOPOOL_CI set, when it is installed first.
# Else, or with a directory, by hand, the way docs/c-api.md describes: same files, same soname.
# Usage: crates/aiopool-capi/tests/install.sh [directory with a built libaiopool.so and libaiopool.a]
set -eu
cd "$(dirname "$0")/../../.."
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
major_minor=${version%.*}
# The newest that the Rust of this repository builds.
cargo_c=0.10.24+cargo-0.98.0

by_hand() { # directory
    mkdir -p "$prefix/include" "$prefix/lib/pkgconfig"
    cp include/aiopool.h "$prefix/include/"
    cp "$1/libaiopool.a" "$prefix/lib/"
    # With the soname that cargo-c gives: of a 0.x library the minor number belongs to it.
    cc -shared -o "$prefix/lib/libaiopool.so.$version" -Wl,-soname,"libaiopool.so.$major_minor" \
        -Wl,--whole-archive "$1/libaiopool.a" -Wl,--no-whole-archive \
        -Wl,--exclude-libs,libgcc.a -lpthread -ldl -lm -lgcc_s
    ln -s "libaiopool.so.$version" "$prefix/lib/libaiopool.so.$major_minor"
    ln -s "libaiopool.so.$major_minor" "$prefix/lib/libaiopool.so"
    cat >"$prefix/lib/pkgconfig/aiopool.pc" <<PC
prefix=$prefix
libdir=\${prefix}/lib
includedir=\${prefix}/include

Name: aiopool
Description: A crash-proof process pool for tasks
Version: $version
Libs: -L\${libdir} -laiopool
Libs.private: -lpthread -ldl -lm -lgcc_s
Cflags: -I\${includedir}
PC
}

if [ $# -eq 0 ] && [ -n "${AIOPOOL_CI:-}" ] && ! command -v cargo-cinstall >/dev/null; then
    # Without optimisation and what a debugger needs: three minutes of two processors, not ten.
    CARGO_PROFILE_DEV_DEBUG=0 cargo install --quiet --locked --debug cargo-c --version "$cargo_c"
fi
if [ $# -eq 0 ] && command -v cargo-cinstall >/dev/null; then
    way="cargo cinstall"
    profile=--release
    [ -z "${AIOPOOL_CI:-}" ] || profile=--debug
    cargo cinstall $profile --package aiopool-capi \
        --target-dir target/cinstall --prefix "$prefix" --libdir "$prefix/lib"
else
    way="by hand"
    [ $# -gt 0 ] || cargo build --release --package aiopool-capi
    by_hand "${1:-target/release}"
fi

PKG_CONFIG_PATH=$prefix/lib/pkgconfig
export PKG_CONFIG_PATH
[ -L "$prefix/lib/libaiopool.so.$major_minor" ]
objdump -p "$prefix/lib/libaiopool.so" | grep -q "SONAME *libaiopool.so.$major_minor\$"
# shellcheck disable=SC2046 # words are wanted
cc ffi-examples/c/map.c -o "$prefix/map" $(pkg-config --cflags --libs aiopool)
objdump -p "$prefix/map" | grep -q "NEEDED *libaiopool.so.$major_minor\$"
said=$(LD_LIBRARY_PATH=$prefix/lib timeout 120 "$prefix/map")
[ "$said" = "map: 1000 squares, sum 332833500" ]
[ "$(pkg-config --modversion aiopool)" = "$version" ]
# The static library, too, with what pkg-config says it needs.
rm "$prefix/lib/libaiopool.so"*
# shellcheck disable=SC2046
cc ffi-examples/c/map.c -o "$prefix/map" $(pkg-config --static --cflags --libs aiopool)
[ "$(timeout 120 "$prefix/map")" = "map: 1000 squares, sum 332833500" ]
echo "installed ($way), and built by pkg-config alone: $said"
