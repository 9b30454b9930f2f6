"""Programs that load Python after their start: those that embed it, and frozen ones."""

import os
import shutil
import subprocess
import sys
import sysconfig

import aiopool
import pytest
from pools import WATCHDOG

HOST = """
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv) {
    void *python = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (!python) {
        puts(dlerror());
        return 2;
    }
    void (*start)(int) = dlsym(python, "Py_InitializeEx");
    int (*run)(const char *) = dlsym(python, "PyRun_SimpleString");
    int (*end)(void) = dlsym(python, "Py_FinalizeEx");
    start(1);
    int failed = run(argv[2]);
    return end() < 0 || failed;
}
"""
PROGRAM = """
import asyncio, multiprocessing, os
import aiopool

def square(x):
    return x * x

async def main():
    async with aiopool.Pool(2) as pool:
        print(await pool.map(square, range(4)), await pool.apply(os.getenv, ("LD_PRELOAD",)))

multiprocessing.set_executable(EXECUTABLE)
asyncio.run(main())
with aiopool.ProcessPoolExecutor(1) as executor:
    print(executor.submit(abs, -3).result())
"""
LIBRARY = os.path.join(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
is_possible = pytest.mark.skipif(
    not (shutil.which("cc") and sysconfig.get_config_var("Py_ENABLE_SHARED")),
    reason="needs a C compiler and a Python that is a shared library",
)


@is_possible
def test_a_program_that_embeds_python(tmp_path):
    source, program = tmp_path / "host.c", tmp_path / "host"
    source.write_text(HOST)
    subprocess.run(["cc", source, "-o", program, "-ldl"], check=True)
    site = os.path.dirname(os.path.dirname(os.path.abspath(aiopool.__file__)))
    # The workers' Python finds its own things.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    environment |= {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": site}
    words = [program, LIBRARY, PROGRAM.replace("EXECUTABLE", repr(sys.executable))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=WATCHDOG, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 1, 4, 9] None\n3\n", "")
