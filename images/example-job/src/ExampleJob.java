package io.drey.example;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.SimpleStringEncoder;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.filesystem.bucketassigners.BasePathBucketAssigner;
import org.apache.flink.streaming.api.functions.sink.filesystem.rollingpolicies.OnCheckpointRollingPolicy;

/**
 * A job whose output proves exactly-once: numbers → count per key → files that become visible when a
 * checkpoint completes. Each line is {@code number split subtask key count-of-key}; check.py reads them.
 *
 * <p>Compiles against Flink 1.13 to 2.3. Checkpointing, restart strategy and state backend are left to the
 * cluster's configuration.
 */
public final class ExampleJob {
    private ExampleJob() {}

    public static void main(String[] args) throws Exception {
        Options options = Options.parse(args);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        int parallelism = (int) options.number("parallelism", 0);
        if (parallelism > 0) {
            env.setParallelism(parallelism);
        }
        NumberSource source = new NumberSource(
                (int) options.number("splits", 8),
                options.number("count", -1),
                options.number("rate", 1000),
                (int) options.number("keys", 100));
        FileSink<String> sink = FileSink.<String>forRowFormat(
                        new Path(options.required("out")), new SimpleStringEncoder<>("UTF-8"))
                .withBucketAssigner(new BasePathBucketAssigner<>())
                .withRollingPolicy(OnCheckpointRollingPolicy.build())
                .build();

        env.fromSource(source, WatermarkStrategy.noWatermarks(), "numbers", Types.POJO(Event.class))
                .uid("numbers")
                .keyBy(event -> event.key, Types.INT)
                .process(new CountPerKey(options))
                .returns(Types.STRING)
                .name("count")
                .uid("count")
                .sinkTo(sink)
                .name("files")
                .uid(options.text("sink-uid", "files"));
        env.execute(options.text("name", "example"));
    }
}
