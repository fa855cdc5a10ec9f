package io.drey.example;

import java.io.Serializable;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/**
 * The job's arguments, {@code --name value}. Flink's own ParameterTool moved to another package in
 * 2.0, so it cannot be used by a source that compiles against all versions.
 */
final class Options implements Serializable {
    static final String USAGE = String.join(
            "\n",
            "--out DIR                where the committed part files go (required)",
            "--name TEXT              the job's name (example)",
            "--sink-uid TEXT          another one than before begins the files anew (files)",
            "--rate N                 events per second of all subtasks together; 0: unlimited (1000)",
            "--count N                stop after the numbers 0 to N-1; -1: never (-1)",
            "--splits N               parts of the number sequence; a restored job keeps its own (8)",
            "--keys N                 number of keys (100)",
            "--state-bytes N          bytes of state per key besides its count (0)",
            "--parallelism N          of all operators; 0: the cluster's default (0)",
            "--fail-after N           fail once in each TaskManager process, at N events in a subtask (-1)",
            "--fail-every N           fail each attempt at its Nth event in a subtask: a restart loop (-1)",
            "--snapshot-delay-ms N    how long each snapshot of the keyed operator takes longer (0)",
            "--snapshot-delay-file F  a file with that number, read at each snapshot; wins while it exists",
            "--stop-delay-ms N        how long the keyed operator takes to close (0)",
            "--fail-commit-file F     while F exists, a task fails when told that a checkpoint completed");

    private static final Set<String> NAMES = new TreeSet<>();

    static {
        for (String line : USAGE.split("\n")) {
            NAMES.add(line.substring(2, line.indexOf(' ')));
        }
    }

    private final HashMap<String, String> values = new HashMap<>();

    /** Reads the arguments; throws IllegalArgumentException, with the usage, for what is unknown. */
    static Options parse(String[] args) {
        Options options = new Options();
        for (int i = 0; i < args.length; i += 2) {
            String name = args[i].startsWith("--") ? args[i].substring(2) : args[i];
            if (!NAMES.contains(name) || i + 1 == args.length) {
                throw new IllegalArgumentException("unknown or without value: " + args[i] + "\n" + USAGE);
            }
            options.values.put(name, args[i + 1]);
        }
        return options;
    }

    String text(String name, String otherwise) {
        return values.getOrDefault(name, otherwise);
    }

    long number(String name, long otherwise) {
        String value = values.get(name);
        return value == null ? otherwise : Long.parseLong(value);
    }

    String required(String name) {
        String value = values.get(name);
        if (value == null) {
            throw new IllegalArgumentException("missing: --" + name + "\n" + USAGE);
        }
        return value;
    }
}
