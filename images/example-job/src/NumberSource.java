package io.drey.example;

import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/**
 * The numbers 0, 1, 2 and so on, divided over a fixed number of splits: split i has the numbers that
 * leave i when divided by the number of splits. Each split's position is state of the reader that has
 * it; Flink moves splits between readers when the job is restored with another parallelism.
 */
final class NumberSource implements Source<Event, NumberSplit, List<NumberSplit>> {
    private final int splits;
    private final long count;
    private final double rate;
    private final int keys;

    /**
     * @param count the first number not to emit, or -1 to go on for ever
     * @param rate events per second of all readers together, or 0 for no limit
     */
    NumberSource(int splits, long count, double rate, int keys) {
        this.splits = splits;
        this.count = count;
        this.rate = rate;
        this.keys = keys;
    }

    @Override
    public Boundedness getBoundedness() {
        return count < 0 ? Boundedness.CONTINUOUS_UNBOUNDED : Boundedness.BOUNDED;
    }

    @Override
    public SourceReader<Event, NumberSplit> createReader(SourceReaderContext context) {
        return new NumberReader(context.getIndexOfSubtask(), count, rate, keys);
    }

    @Override
    public SplitEnumerator<NumberSplit, List<NumberSplit>> createEnumerator(
            SplitEnumeratorContext<NumberSplit> context) {
        List<NumberSplit> all = new ArrayList<>();
        for (int id = 0; id < splits; id++) {
            all.add(new NumberSplit(id, splits, id));
        }
        return new Enumerator(context, all);
    }

    @Override
    public SplitEnumerator<NumberSplit, List<NumberSplit>> restoreEnumerator(
            SplitEnumeratorContext<NumberSplit> context, List<NumberSplit> unassigned) {
        return new Enumerator(context, unassigned);
    }

    @Override
    public SimpleVersionedSerializer<NumberSplit> getSplitSerializer() {
        return new NumberSplit.Serializer();
    }

    @Override
    public SimpleVersionedSerializer<List<NumberSplit>> getEnumeratorCheckpointSerializer() {
        return new NumberSplit.ListSerializer();
    }

    /** Gives each reader, when it registers, its share of the splits that no reader has. */
    private static final class Enumerator implements SplitEnumerator<NumberSplit, List<NumberSplit>> {
        private final SplitEnumeratorContext<NumberSplit> context;
        private final List<NumberSplit> unassigned;

        Enumerator(SplitEnumeratorContext<NumberSplit> context, List<NumberSplit> unassigned) {
            this.context = context;
            this.unassigned = new ArrayList<>(unassigned);
        }

        @Override
        public void start() {}

        @Override
        public void handleSplitRequest(int subtask, String host) {}

        @Override
        public void addSplitsBack(List<NumberSplit> splits, int subtask) {
            unassigned.addAll(splits);
        }

        @Override
        public void addReader(int subtask) {
            for (NumberSplit split : new ArrayList<>(unassigned)) {
                if (split.id % context.currentParallelism() == subtask) {
                    unassigned.remove(split);
                    context.assignSplit(split, subtask);
                }
            }
            context.signalNoMoreSplits(subtask);
        }

        // The next two are one method, whose parameter came with Flink 1.14: hence no @Override.
        public List<NumberSplit> snapshotState() {
            return new ArrayList<>(unassigned);
        }

        public List<NumberSplit> snapshotState(long checkpointId) {
            return snapshotState();
        }

        @Override
        public void close() {}
    }
}
