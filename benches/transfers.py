#!/usr/bin/env python3
"""Cache lines that travel per task, for more processors than this machine has: a simulation.

    python3 benches/transfers.py

Hosts' threads and workers go through the protocol step by step (`src/ring/claim.rs` and its
READMEs), each on a processor of its own. Reading a line that somebody else has written, or writing
one that somebody else has read, is a transfer: it takes LINE nanoseconds, and one at a time for one
line. Everything else is free but for one nanosecond an access, so what is left is what processors
do to each other. Each queue has a thread of the host that submits and receives, as when several
threads share a pool; nobody sleeps, so doorbells are only looked at.
"""

import argparse
import collections
import heapq

# Nanoseconds of a task, workers, queues.
CASES = [
    *((0, workers, queues) for workers, queues in [(1, 1), (2, 1), (4, 1), (4, 4)]),
    *((0, 16, queues) for queues in (1, 4, 16)),
    *((1_000, workers, queues) for workers, queues in [(1, 1), (4, 1), (4, 4)]),
    *((1_000, 16, queues) for queues in (1, 4, 16)),
    (1_000, 64, 16),
    *((10_000, 16, queues) for queues in (1, 4)),
]
SLOTS_A_LINE = 8
LOOK = 50  # nanoseconds between two looks at something that has not changed


class Line:
    """Who has it, and until when it travels."""

    __slots__ = ("writer", "readers", "busy")

    def __init__(self):
        self.writer, self.readers, self.busy = None, set(), 0


class Queue:
    """One queue: its head, ring, records and lanes, and the lines that they lie on."""

    def __init__(self, workers, records):
        self.head = self.tail = 0
        self.ring = {}
        self.state = [None] * records
        self.free = list(range(records))
        self.lanes = {worker: collections.deque() for worker in workers}
        self.written = collections.Counter()
        self.lines = collections.defaultdict(Line)

    def slot(self, position):
        return self.lines["slot", position // SLOTS_A_LINE % 512]

    def record(self, index):
        return self.lines["record", index]

    def lane(self, worker, number):
        return self.lines["lane", worker, number // SLOTS_A_LINE % 1024]


class Machine:
    def __init__(self, line_ns):
        self.line_ns, self.transfers, self.done, self.now = line_ns, 0, 0, 0
        self.pending = []

    def add(self, actor):
        # Not all at the same moment.
        self.pending.append((len(self.pending), len(self.pending), actor))

    def access(self, who, line, write, now):
        """When the access is over."""
        mine = line.writer == who or (not write and who in line.readers)
        alone = not (line.readers - {who}) and line.writer in (who, None)
        if mine and (not write or alone):
            return now + 1
        untouched = line.writer is None and not line.readers
        if write:
            line.writer, line.readers = who, set()
        else:
            line.readers |= {who, line.writer} - {None}
            line.writer = None
        if untouched:
            return now + 1
        self.transfers += 1
        line.busy = max(now, line.busy) + self.line_ns
        return line.busy

    def run(self, tasks):
        """Until so many tasks are done; an actor yields (line, write) or nanoseconds of its own."""
        while self.done < tasks:
            self.now, number, actor = heapq.heappop(self.pending)
            step = next(actor)
            if isinstance(step, tuple):
                then = self.access(number, *step, self.now)
            else:
                then = self.now + step
            heapq.heappush(self.pending, (then, number, actor))


def worker(me, queue, task_ns):
    head, flag = queue.lines["head"], queue.lines["flag"]
    while True:
        yield head, False
        position = queue.head
        yield queue.slot(position), False
        if position >= queue.tail:
            yield LOOK
            continue
        index = queue.ring[position]
        yield queue.record(index), False
        seen = queue.state[index]
        if seen == position:
            yield queue.record(index), True
            if queue.state[index] == position:
                queue.state[index] = "running"
                yield head, True
                queue.head = max(queue.head, position + 1)
                yield task_ns
                yield queue.record(index), True
                yield queue.lane(me, queue.written[me]), True
                queue.lanes[me].append(index)
                queue.written[me] += 1
                yield flag, False
                continue
        # Another worker has claimed it: help head on.
        yield head, True
        if queue.head == position:
            queue.head += 1


def host(machine, queue):
    taken = collections.Counter()
    while True:
        for me, lane in queue.lanes.items():
            yield queue.lane(me, taken[me]), False
            while lane:
                index = lane.popleft()
                yield queue.lane(me, taken[me]), False
                taken[me] += 1
                yield queue.record(index), False
                queue.state[index] = None
                queue.free.append(index)
                machine.done += 1
        for _ in range(16):
            if not queue.free:
                break
            index = queue.free.pop()
            yield queue.record(index), True
            yield queue.slot(queue.tail), True
            queue.state[index] = queue.tail
            queue.ring[queue.tail] = index
            queue.tail += 1


def simulate(workers, queues, task_ns, line_ns, tasks):
    machine = Machine(line_ns)
    served = [[w for w in range(workers) if w % queues == q] for q in range(queues)]
    # As a map does: some tasks in flight for every worker.
    made = [Queue(mine, 16 * len(mine)) for mine in served]
    for me in range(workers):
        machine.add(worker(me, made[me % queues], task_ns))
    for queue in made:
        machine.add(host(machine, queue))
    warm = tasks // 4
    machine.run(warm)
    began, before = machine.now, machine.transfers
    machine.run(tasks)
    per_us = (tasks - warm) / (machine.now - began) * 1e3
    return per_us, (machine.transfers - before) / (tasks - warm)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--line", type=int, default=100, help="nanoseconds of a transfer; 100")
    parser.add_argument("--tasks", type=int, default=1_000, help="tasks of each simulation; 1,000")
    arguments = parser.parse_args()
    print("| task | workers | queues | M tasks/s | transfers a task |\n|---|---|---|---|---|")
    for task_ns, workers, queues in CASES:
        rate, moved = simulate(workers, queues, task_ns, arguments.line, arguments.tasks)
        name = f"{task_ns / 1000:g} us"
        print(f"| {name} | {workers} | {queues} | {rate:.2f} | {moved:.1f} |", flush=True)


if __name__ == "__main__":
    main()
