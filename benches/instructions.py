#!/usr/bin/env python3
"""How many instructions a task costs, on the host and in the worker: counted, not timed.

    cargo build --release && python3 benches/instructions.py [--functions] [apply|map]...

Host and worker of a pool of one are stepped by ptrace, an instruction here, an instruction there,
as if each had a processor of its own and every instruction took the same time. Their clock is made
to go by instructions as well, three a nanosecond, so that neither thinks that it has waited long
and goes to sleep. What comes out is the path of a task while both sides are awake, with what they
spin; it is the same on a busy machine. (Callgrind runs a pool, too, but one thread at a time.)

Needs Linux on x86-64, two processors, the right to trace, and addr2line of binutils.
"""

import argparse
import collections
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target" / "release" / "aiopool"

SINGLESTEP, GETREGS, SETREGS, PEEKUSER = 9, 12, 13, 3
DETACH, SEIZE, INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000
# Words of user_regs_struct.
RAX, RSI, ORIG_RAX, RIP, RSP = 10, 13, 15, 16, 19
GETPPID = 110
INSTRUCTIONS_PER_NS = 3
# A system call that has not returned after this many polls waits for something. Between polls the
# tracer sleeps: on one processor the call could not go on otherwise.
LOOKS, PAUSE = 20, 50e-6

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread, address=None, data=None):
    result = libc.ptrace(request, thread, address, data)
    if result == -1 and request != PEEKUSER:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x} of {thread}")
    return result


class Side:
    """A thread under ptrace, and where it has been."""

    def __init__(self, thread):
        self.thread = thread
        self.steps = collections.Counter()
        self.marks = 0
        self.asleep = False
        self.calls = {}
        self.clock = clock_of(thread)
        program = os.readlink(f"/proc/{thread}/exe")
        image = [(start, end) for start, end, _, name in maps(thread) if name == program]
        self.image = image[0][0], image[-1][1]
        self.memory = open(f"/proc/{thread}/mem", "rb+", buffering=0)
        self.registers = (ctypes.c_ulonglong * 27)()
        ptrace(SEIZE, thread)
        ptrace(INTERRUPT, thread)
        os.waitpid(thread, WALL)

    def bytes(self, address, length):
        return os.pread(self.memory.fileno(), length, address)

    def is_call(self, at):
        if at not in self.calls:
            self.calls[at] = self.bytes(at, 2) == b"\x0f\x05"
        return self.calls[at]

    def step(self, now):
        """One instruction, or a look whether a system call has returned."""
        if self.asleep:
            if os.waitpid(self.thread, os.WNOHANG | WALL)[0] == 0:
                return
            self.asleep = False
        at = ptrace(PEEKUSER, self.thread, 8 * RIP)
        if at == self.clock:
            return self.tell_time(now)
        self.steps[at] += 1
        if not self.is_call(at):
            ptrace(SINGLESTEP, self.thread)
            os.waitpid(self.thread, WALL)
            return
        if ptrace(PEEKUSER, self.thread, 8 * RAX) == GETPPID:
            self.marks += 1
        ptrace(SINGLESTEP, self.thread)
        for _ in range(LOOKS):
            if os.waitpid(self.thread, os.WNOHANG | WALL)[0] != 0:
                return
            time.sleep(PAUSE)
        self.asleep = True

    def tell_time(self, now):
        """clock_gettime returns at once, and says what we say."""
        ptrace(GETREGS, self.thread, None, self.registers)
        registers = self.registers
        seconds, nanoseconds = divmod(now, 10**9)
        for offset, value in ((0, seconds), (8, nanoseconds)):
            os.pwrite(self.memory.fileno(), value.to_bytes(8, "little"), registers[RSI] + offset)
        registers[RIP] = int.from_bytes(self.bytes(registers[RSP], 8), "little")
        registers[RSP] += 8
        registers[RAX] = 0
        registers[ORIG_RAX] = 2**64 - 1
        ptrace(SETREGS, self.thread, None, self.registers)
        self.steps["clock"] += 1

    def forget(self):
        self.steps.clear()
        self.marks = 0


def maps(pid):
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        start, end = (int(part, 16) for part in fields[0].split("-"))
        yield start, end, int(fields[2], 16), fields[5] if len(fields) > 5 else ""


def clock_of(pid):
    """Where the kernel's clock_gettime is in that process."""
    start, end = next((s, e) for s, e, _, name in maps(pid) if name == "[vdso]")
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(start)
        image = memory.read(end - start)
    path = Path(f"/tmp/aiopool-vdso-{pid}")
    path.write_bytes(image)
    names = subprocess.run(["nm", "-D", path], capture_output=True, text=True, check=True).stdout
    path.unlink()
    offset = next(line.split()[0] for line in names.splitlines() if "__vdso_clock_gettime" in line)
    return start + int(offset, 16)


def is_locked(code):
    """Whether an instruction begins that locks the bus: LOCK, XCHG with memory, MFENCE."""
    while code and code[0] in (0x66, 0xF2, 0xF3):
        code = code[1:]
    if code[:1] == b"\xf0" or code[:3] == b"\x0f\xae\xf0":
        return True
    if code and 0x40 <= code[0] <= 0x4F:
        code = code[1:]
    return len(code) > 1 and code[0] in (0x86, 0x87) and code[1] < 0xC0


def places(program, addresses, functions):
    """The source that each address of the program comes from, as it reads best in a table."""
    text = "\n".join(hex(address) for address in addresses)
    command = ["addr2line", "-a", "-i", "-f", "-C", "-e", program]
    lines = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    found, frames, function = {}, [], None
    for line in lines.splitlines():
        if line.startswith("0x"):
            frames = found[int(line, 16)] = []
        elif function is None:
            function = line
        else:
            frames.append((function, line.rsplit(":", 1)[0]))
            function = None
    return {address: place(frames, functions) for address, frames in found.items()}


def place(frames, functions):
    # The innermost frame of ours; what is inlined there from a library counts as ours.
    for function, file in frames:
        if "/.cargo/" not in file and "/rustc/" not in file and "/src/" in file:
            file = file.rsplit("/src/", 1)[1]
            return f"{file} {function.rsplit('::', 1)[-1]}" if functions else file
    for _, file in reversed(frames):
        if "/.cargo/" in file:
            return file.split("/registry/src/")[1].split("/")[1].rsplit("-", 1)[0]
    return "std"


def report(verb, name, side, arguments):
    tasks = side.marks
    total = sum(side.steps.values())
    locked = sum(n for at, n in side.steps.items() if at != "clock" and is_locked(side.bytes(at, 8)))
    calls = sum(n for at, n in side.steps.items() if at != "clock" and side.calls.get(at))
    print(
        f"{verb}, {name}: {total / tasks:.0f} instructions a task, {locked / tasks:.1f} locked, "
        f"{side.steps['clock'] / tasks:.1f} clock readings, {(calls - tasks) / tasks:.2f} system calls"
    )
    start, end = side.image
    ours = [at for at in side.steps if at != "clock" and start <= at < end]
    program = str(arguments.program)
    where = places(program, [at - start for at in ours], arguments.functions)
    files = collections.Counter()
    locks = collections.Counter()
    for at, n in side.steps.items():
        file = "the clock" if at == "clock" else where.get(at - start, "libc")
        files[file] += n
        if at != "clock" and is_locked(side.bytes(at, 8)):
            locks[file] += n
    for file, n in files.most_common(40 if arguments.functions else 14):
        locked = f"{locks[file] / tasks:5.1f} locked" if locks[file] else ""
        print(f"    {n / tasks:7.1f}  {file:<44} {locked}")


def count(verb, arguments):
    tasks = arguments.tasks
    command = [arguments.program, "bench", "--partner", "steps", verb]
    target = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        worker = int(target.stdout.readline())
        time.sleep(0.3)
        # Each side has a processor of its own, or neither would spin for the other.
        processors = sorted(os.sched_getaffinity(0))
        threads = [int(name) for name in os.listdir(f"/proc/{target.pid}/task")]
        for thread in threads:
            os.sched_setaffinity(thread, processors[:1])
        os.sched_setaffinity(worker, processors[1:2])
        # The supervisor and the like stand still meanwhile.
        sides = {thread: Side(thread) for thread in [*threads, worker]}
        host, worker = sides[target.pid], sides[worker]
        start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        steps = 0

        def until(marks):
            nonlocal steps
            while host.marks < marks:
                now = start + steps // INSTRUCTIONS_PER_NS
                for _ in range(arguments.host_steps):
                    host.step(now)
                worker.step(now)
                if host.asleep and worker.asleep:
                    time.sleep(PAUSE)
                steps += 1

        # What they were about when they were stopped is not steady; a map has 100 in flight.
        until(max(tasks // 2, 120))
        host.forget()
        worker.forget()
        until(tasks)
        report(verb, "host", host, arguments)
        report(verb, "worker", worker, arguments)
    finally:
        target.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("verb", nargs="*", default=["apply", "map"], help="apply or map; both")
    parser.add_argument("--tasks", type=int, default=200, help="to count over; 200")
    parser.add_argument(
        "--host-steps", type=int, default=1, help="for one of the worker, which waits for less then; 1"
    )
    parser.add_argument("--functions", action="store_true", help="by functions instead of files")
    parser.add_argument("--program", default=PROGRAM, help="another aiopool than the release build")
    arguments = parser.parse_args()
    for verb in arguments.verb:
        count(verb, arguments)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
