package io.drey.example;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.core.io.InputStatus;

/** Emits the numbers of its splits in turn, at its share of the rate. */
final class NumberReader implements SourceReader<Event, NumberSplit> {
    /** How much of a pause, such as a slow snapshot, is made up for by going faster afterwards. */
    private static final long MAX_CATCH_UP_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

    private final int subtask;
    private final long count;
    private final double rate;
    private final int keys;
    /** The splits with numbers left. One that is done leaves the state: its numbers are all out. */
    private final List<NumberSplit> splits = new ArrayList<>();

    private int turn;
    private boolean noMoreSplits;
    /** When the next event is due, by System.nanoTime(). */
    private long due = System.nanoTime();

    private CompletableFuture<Void> available = new CompletableFuture<>();
    private ScheduledExecutorService timer;

    NumberReader(int subtask, long count, double rate, int keys) {
        this.subtask = subtask;
        this.count = count;
        this.rate = rate;
        this.keys = keys;
    }

    @Override
    public void start() {
        timer = Executors.newSingleThreadScheduledExecutor(runnable -> {
            Thread thread = new Thread(runnable, "number-source-timer");
            thread.setDaemon(true);
            return thread;
        });
    }

    @Override
    public InputStatus pollNext(ReaderOutput<Event> output) {
        if (splits.isEmpty()) {
            return noMoreSplits ? endOfInput() : InputStatus.NOTHING_AVAILABLE;
        }
        long now = System.nanoTime();
        if (rate > 0 && now < due) {
            return InputStatus.NOTHING_AVAILABLE;
        }
        turn = (turn + 1) % splits.size();
        NumberSplit split = splits.get(turn);
        // A split may begin at or after the end: after a restore, or with more splits than numbers.
        if (!isDone(split)) {
            output.collect(new Event(split.next, split.id, subtask, (int) (split.next % keys)));
            split.next += split.stride;
            if (rate > 0) {
                double share = rate * splits.size() / split.stride;
                due = Math.max(due, now - MAX_CATCH_UP_NANOS) + (long) (1e9 / share);
            }
        }
        if (isDone(split)) {
            splits.remove(turn);
        }
        return InputStatus.MORE_AVAILABLE;
    }

    private boolean isDone(NumberSplit split) {
        return count >= 0 && split.next >= count;
    }

    /** An unbounded reader without a split, with fewer splits than readers, stays: checkpoints before 1.15 need it. */
    private InputStatus endOfInput() {
        return count < 0 ? InputStatus.NOTHING_AVAILABLE : InputStatus.END_OF_INPUT;
    }

    @Override
    public List<NumberSplit> snapshotState(long checkpointId) {
        List<NumberSplit> copies = new ArrayList<>();
        for (NumberSplit split : splits) {
            copies.add(split.copy());
        }
        return copies;
    }

    /** Called by the task after NOTHING_AVAILABLE: completes when the next event is due or a split comes. */
    @Override
    public CompletableFuture<Void> isAvailable() {
        if (available.isDone()) {
            available = new CompletableFuture<>();
        }
        if (!splits.isEmpty()) {
            CompletableFuture<Void> wake = available;
            long nanos = Math.max(0, due - System.nanoTime());
            timer.schedule(() -> wake.complete(null), nanos, TimeUnit.NANOSECONDS);
        } else if (noMoreSplits && count >= 0) {
            available.complete(null);
        }
        return available;
    }

    @Override
    public void addSplits(List<NumberSplit> added) {
        for (NumberSplit split : added) {
            splits.add(split.copy());
        }
        available.complete(null);
    }

    @Override
    public void notifyNoMoreSplits() {
        noMoreSplits = true;
        available.complete(null);
    }

    @Override
    public void close() {
        if (timer != null) {
            timer.shutdownNow();
        }
    }
}
