package io.drey.example;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import org.apache.flink.api.common.state.CheckpointListener;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.runtime.state.FunctionInitializationContext;
import org.apache.flink.runtime.state.FunctionSnapshotContext;
import org.apache.flink.streaming.api.checkpoint.CheckpointedFunction;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Numbers the events of each key 1, 2, 3 and so on, from keyed state, and fails or dawdles as asked.
 *
 * <p>State is fetched in initializeState: open() has another parameter from Flink 2.0 on.
 */
final class CountPerKey extends KeyedProcessFunction<Integer, Event, String>
        implements CheckpointedFunction, CheckpointListener {
    /** Survives the restart of the job inside the JVM, unlike a static field of a reloaded class. */
    private static final String FAILED_ONCE = "io.drey.example.failed-once";

    private final int stateBytes;
    private final long failAfter;
    private final long failEvery;
    private final long snapshotDelay;
    private final String snapshotDelayFile;
    private final long stopDelay;
    private final String failCommitFile;

    private transient ValueState<Long> count;
    private transient ValueState<byte[]> ballast;
    private transient long seen;

    CountPerKey(Options options) {
        stateBytes = (int) options.number("state-bytes", 0);
        failAfter = options.number("fail-after", -1);
        failEvery = options.number("fail-every", -1);
        snapshotDelay = options.number("snapshot-delay-ms", 0);
        snapshotDelayFile = options.text("snapshot-delay-file", "");
        stopDelay = options.number("stop-delay-ms", 0);
        failCommitFile = options.text("fail-commit-file", "");
    }

    @Override
    public void initializeState(FunctionInitializationContext context) throws Exception {
        count = context.getKeyedStateStore().getState(new ValueStateDescriptor<>("count", Types.LONG));
        ballast = context.getKeyedStateStore()
                .getState(new ValueStateDescriptor<>(
                        "ballast", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
    }

    @Override
    public void processElement(Event event, Context context, Collector<String> out) throws Exception {
        seen++;
        failIfAsked();
        Long before = count.value();
        long now = before == null ? 1 : before + 1;
        count.update(now);
        if (before == null && stateBytes > 0) {
            ballast.update(new byte[stateBytes]);
        }
        out.collect(event.number + " " + event.split + " " + event.subtask + " " + event.key + " " + now);
    }

    private void failIfAsked() {
        if (failEvery > 0 && seen >= failEvery) {
            throw new IllegalStateException("example job: --fail-every " + failEvery);
        }
        if (failAfter >= 0 && seen > failAfter && System.setProperty(FAILED_ONCE, "yes") == null) {
            throw new IllegalStateException("example job: --fail-after " + failAfter);
        }
    }

    @Override
    public void snapshotState(FunctionSnapshotContext context) throws Exception {
        Thread.sleep(delayNow());
    }

    private long delayNow() throws IOException {
        Path file = Paths.get(snapshotDelayFile);
        if (snapshotDelayFile.isEmpty() || !Files.exists(file)) {
            return snapshotDelay;
        }
        String text = new String(Files.readAllBytes(file)).trim();
        return text.isEmpty() ? snapshotDelay : Long.parseLong(text);
    }

    @Override
    public void notifyCheckpointComplete(long checkpointId) {
        if (!failCommitFile.isEmpty() && Files.exists(Paths.get(failCommitFile))) {
            throw new IllegalStateException("example job: --fail-commit-file, checkpoint " + checkpointId);
        }
    }

    @Override
    public void close() throws Exception {
        Thread.sleep(stopDelay);
    }
}
