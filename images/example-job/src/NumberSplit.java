package io.drey.example;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/** The numbers id, id + stride, id + 2 * stride and so on; {@code next} is the first not yet emitted. */
final class NumberSplit implements SourceSplit {
    final int id;
    final int stride;
    long next;

    NumberSplit(int id, int stride, long next) {
        this.id = id;
        this.stride = stride;
        this.next = next;
    }

    @Override
    public String splitId() {
        return Integer.toString(id);
    }

    NumberSplit copy() {
        return new NumberSplit(id, stride, next);
    }

    private void write(DataOutputStream out) throws IOException {
        out.writeInt(id);
        out.writeInt(stride);
        out.writeLong(next);
    }

    private static NumberSplit read(DataInputStream in) throws IOException {
        return new NumberSplit(in.readInt(), in.readInt(), in.readLong());
    }

    static final class Serializer implements SimpleVersionedSerializer<NumberSplit> {
        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(NumberSplit split) throws IOException {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            split.write(new DataOutputStream(bytes));
            return bytes.toByteArray();
        }

        @Override
        public NumberSplit deserialize(int version, byte[] bytes) throws IOException {
            return read(new DataInputStream(new ByteArrayInputStream(bytes)));
        }
    }

    /** For the enumerator's state: the splits that no reader has. */
    static final class ListSerializer implements SimpleVersionedSerializer<List<NumberSplit>> {
        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(List<NumberSplit> splits) throws IOException {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream();
            DataOutputStream out = new DataOutputStream(bytes);
            out.writeInt(splits.size());
            for (NumberSplit split : splits) {
                split.write(out);
            }
            return bytes.toByteArray();
        }

        @Override
        public List<NumberSplit> deserialize(int version, byte[] bytes) throws IOException {
            DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes));
            List<NumberSplit> splits = new ArrayList<>();
            for (int n = in.readInt(); n > 0; n--) {
                splits.add(read(in));
            }
            return splits;
        }
    }
}
