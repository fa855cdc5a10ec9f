package io.drey.beam;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.UUID;
import org.apache.beam.runners.flink.FlinkPipelineOptions;
import org.apache.beam.runners.flink.FlinkRunner;
import org.apache.beam.sdk.Pipeline;
import org.apache.beam.sdk.coders.KvCoder;
import org.apache.beam.sdk.coders.VarLongCoder;
import org.apache.beam.sdk.io.GenerateSequence;
import org.apache.beam.sdk.options.PipelineOptionsFactory;
import org.apache.beam.sdk.options.PipelineOptionsValidator;
import org.apache.beam.sdk.options.Validation;
import org.apache.beam.sdk.state.StateSpec;
import org.apache.beam.sdk.state.StateSpecs;
import org.apache.beam.sdk.state.ValueState;
import org.apache.beam.sdk.transforms.DoFn;
import org.apache.beam.sdk.transforms.ParDo;
import org.apache.beam.sdk.transforms.WithKeys;
import org.apache.beam.sdk.values.KV;
import org.apache.beam.sdk.values.TypeDescriptors;
import org.joda.time.Duration;

/**
 * An Apache Beam pipeline whose state can be judged: the numbers from 0 on, counted for each of eight keys. Each number is
 * written with its key's count before it and with the release that wrote it.
 */
public final class BeamJob {
    /** As many as there may be parallel readers: then the numbers of a key come in their order. */
    static final long KEYS = 8;

    private BeamJob() {}

    /** What the pipeline is started with. */
    public interface Options extends FlinkPipelineOptions {
        /** The directory for the output. */
        @Validation.Required
        String getOut();

        void setOut(String out);

        /** What is written beside each number. */
        @Validation.Required
        String getRelease();

        void setRelease(String release);
    }

    public static void main(String[] args) {
        var options = PipelineOptionsFactory.fromArgs(args).as(Options.class);
        options.setRunner(FlinkRunner.class);
        options.setStreaming(true);
        // Nobody waits for the results of an application.
        options.setAttachedMode(false);
        PipelineOptionsValidator.validate(Options.class, options);
        var pipeline = Pipeline.create(options);
        pipeline.apply("numbers", GenerateSequence.from(0).withRate(20, Duration.millis(100)))
                .apply("key", WithKeys.<Long, Long>of(number -> number % KEYS).withKeyType(TypeDescriptors.longs()))
                .setCoder(KvCoder.of(VarLongCoder.of(), VarLongCoder.of()))
                .apply("count", ParDo.of(new Count()))
                .apply("write", ParDo.of(new Write(options.getOut(), options.getRelease())));
        pipeline.run();
    }

    /** Puts a key's count before each of its numbers. */
    static final class Count extends DoFn<KV<Long, Long>, String> {
        @StateId("count")
        private final StateSpec<ValueState<Long>> spec = StateSpecs.value(VarLongCoder.of());

        @ProcessElement
        public void process(
                @Element KV<Long, Long> number, @StateId("count") ValueState<Long> state, OutputReceiver<String> out) {
            Long known = state.read();
            long count = known == null ? 0 : known;
            state.write(count + 1);
            out.output(number.getValue() + " " + count);
        }
    }

    /** Appends to a file of its own. */
    static final class Write extends DoFn<String, Void> {
        private final String out;
        private final String release;
        private transient Path file;

        Write(String out, String release) {
            this.out = out;
            this.release = release;
        }

        @Setup
        public void open() throws IOException {
            file = Files.createDirectories(Path.of(out)).resolve(UUID.randomUUID() + ".txt");
        }

        @ProcessElement
        public void process(@Element String line) throws IOException {
            var bytes = (line + " " + release + "\n").getBytes(StandardCharsets.UTF_8);
            Files.write(file, bytes, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        }
    }
}
