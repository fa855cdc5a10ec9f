#!/usr/bin/env python3
"""Proves from its committed output that the example job ran exactly once.

Usage: check.py OUT_DIR [--json] [--min N] [--count N] [--splits N]

Reads the part files that are committed, and only these: what FileSink has not committed yet has a name that begins with
a dot. Each line is `number split subtask key count-of-key`. The verdict is good when

- each split has each of its numbers once and without a gap, from its first to its highest, and no split is empty,
- each key has each count from 1 to its highest once: the keyed state was neither lost nor restored twice,
- there are at least --min events; with --count, exactly the numbers 0 to N-1.

Run it when the job has stopped: while a checkpoint is being committed, one subtask's files are there before another's.

Exits 0 when all is good, 1 when not (stdout says what and in which file), 64 on wrong usage.
"""

import argparse
import json
import os
import sys

SHOWN = 10


class Sequence:
    """Which of first, first + 1, ... were seen, and which more than once."""

    def __init__(self):
        self.seen = bytearray()
        self.repeated = []

    def add(self, index):
        if index >= len(self.seen):
            self.seen.extend(bytes(index + 1 - len(self.seen)))
        if self.seen[index]:
            self.repeated.append(index)
        self.seen[index] = 1

    def missing(self):
        """The gaps, as pairs of first and last missing index."""
        gaps, at = [], self.seen.find(0)
        while at >= 0:
            end = self.seen.find(1, at)
            gaps.append((at, end - 1))
            at = self.seen.find(0, end)
        return gaps


class Output:
    """All events of an output directory."""

    def __init__(self, directory, splits):
        self.splits_total = splits
        self.files = committed_files(directory)
        self.events = 0
        self.splits = {}
        self.keys = {}
        self.damaged = []
        for path in self.files:
            self.read(path)

    def read(self, path):
        for place, fields in lines_of(path):
            if fields is None:
                self.damaged.append(place)
                continue
            number, split, _subtask, key, count = fields
            if number % self.splits_total != split or count < 1:
                self.damaged.append(place)
                continue
            self.events += 1
            self.splits.setdefault(split, Sequence()).add(number // self.splits_total)
            self.keys.setdefault(key, Sequence()).add(count - 1)

    def number(self, split, index):
        return index * self.splits_total + split


def committed_files(directory):
    found = []
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def lines_of(path):
    """Yields (file:line, the five numbers or None) for each line."""
    with open(path, "rb") as file:
        for index, line in enumerate(file, 1):
            try:
                fields = tuple(int(field) for field in line.split())
            except ValueError:
                fields = ()
            whole = len(fields) == 5 and line.endswith(b"\n")
            yield f"{path}:{index}", fields if whole else None


def places(output, numbers, keys):
    """Where these numbers and (key, count) pairs are: a second reading, only done when something is wrong."""
    found = {}
    for path in output.files:
        for place, fields in lines_of(path):
            if fields is None:
                continue
            number, _split, _subtask, key, count = fields
            if number in numbers:
                found.setdefault(("number", number), []).append(place)
            if (key, count) in keys:
                found.setdefault(("key", key, count), []).append(place)
    return found


def problems(output, count, minimum):
    """Everything that is wrong, as sentences, the first SHOWN of each sort."""
    lost, twice, lost_counts, twice_counts = [], [], [], []
    for split, sequence in sorted(output.splits.items()):
        lost += [(output.number(split, a), output.number(split, b), split) for a, b in sequence.missing()]
        twice += [output.number(split, index) for index in sequence.repeated]
    for key, sequence in sorted(output.keys.items()):
        lost_counts += [(key, a + 1, b + 1) for a, b in sequence.missing()]
        twice_counts += [(key, index + 1) for index in sequence.repeated]
    where = {}
    if twice or twice_counts:
        where = places(output, set(twice[:SHOWN]), set(twice_counts[:SHOWN]))

    report = [f"damaged line: {place}" for place in output.damaged[:SHOWN]]
    report += [f"number {n} is there more than once: {', '.join(where[('number', n)])}" for n in sorted(set(twice[:SHOWN]))]
    report += [f"split {split}: numbers {a} to {b} are missing" for a, b, split in lost[:SHOWN]]
    report += [
        f"key {k}: count {c} is there more than once: {', '.join(where[('key', k, c)])}"
        for k, c in sorted(set(twice_counts[:SHOWN]))
    ]
    report += [f"key {k}: counts {a} to {b} are missing" for k, a, b in lost_counts[:SHOWN]]
    report += size_problems(output, count, minimum)
    totals = {
        "damaged": len(output.damaged),
        "duplicates": len(twice),
        "gaps": len(lost),
        "key_duplicates": len(twice_counts),
        "key_gaps": len(lost_counts),
    }
    return report, totals


def size_problems(output, count, minimum):
    report = []
    if output.events < minimum:
        report.append(f"only {output.events} events, at least {minimum} were expected")
    for split in range(output.splits_total):
        have = len(output.splits[split].seen) if split in output.splits else 0
        if count is not None:
            want = (count - split + output.splits_total - 1) // output.splits_total
            if have != want:
                report.append(f"split {split} ends after {have} numbers, {want} were expected")
        elif output.events and not have:
            report.append(f"split {split} has no numbers")
    return report


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.error = lambda message: (parser.print_usage(sys.stderr), sys.exit(64))
    parser.add_argument("directory", metavar="OUT_DIR")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--min", type=int, default=1, metavar="N", help="least number of events (1)")
    parser.add_argument("--count", type=int, metavar="N", help="the job's own --count, when it has finished")
    parser.add_argument("--splits", type=int, default=8, metavar="N", help="the job's own --splits (8)")
    return parser.parse_args()


def main():
    asked = arguments()
    if not os.path.isdir(asked.directory):
        print(f"no such directory: {asked.directory}", file=sys.stderr)
        return 64
    output = Output(asked.directory, asked.splits)
    report, totals = problems(output, asked.count, asked.min)
    if asked.json:
        summary = {"ok": not report, "events": output.events, "files": len(output.files), "problems": report, **totals}
        highest = {str(s): output.number(s, len(q.seen) - 1) for s, q in sorted(output.splits.items())}
        print(json.dumps({**summary, "keys": len(output.keys), "highest": highest}))
    elif report:
        print(f"{output.events} events in {len(output.files)} files, NOT exactly once:")
        for line in report:
            print(f"  {line}")
        counted = [f"{n} {name.replace('_', ' ')}" for name, n in totals.items() if n]
        if counted:
            print("  in all: " + ", ".join(counted))
    else:
        print(f"{output.events} events, each exactly once")
    return 1 if report else 0


if __name__ == "__main__":
    sys.exit(main())
