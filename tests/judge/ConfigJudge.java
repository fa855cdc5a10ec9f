import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.configuration.StateRecoveryOptions;

/**
 * Prints what Flink reads from each configuration directory named on standard input: {@code REFUSED reason}, or {@code
 * READ n}, n lines {@code key value}, and the values of the start path, savepoint and checkpoint directory options, and the
 * job's arguments with zeros between them. All
 * texts are {@code =} and hexadecimal UTF-8; {@code -} is an option without value.
 */
public final class ConfigJudge {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        StringBuilder out = new StringBuilder();
        for (String dir = in.readLine(); dir != null; dir = in.readLine()) {
            StringBuilder answer = new StringBuilder();
            try {
                Configuration conf = GlobalConfiguration.loadConfiguration(dir);
                Map<String, String> flat = new TreeMap<>(conf.toMap());
                answer.append("READ ").append(flat.size()).append('\n');
                flat.forEach((k, v) -> answer.append(encode(k)).append(' ').append(encode(v)).append('\n'));
                answer.append(option(conf, StateRecoveryOptions.SAVEPOINT_PATH)).append(' ');
                answer.append(option(conf, CheckpointingOptions.SAVEPOINT_DIRECTORY)).append(' ');
                answer.append(option(conf, CheckpointingOptions.CHECKPOINTS_DIRECTORY)).append(' ');
                answer.append(conf.getOptional(ARGUMENTS).map(all -> encode(String.join("\0", all))).orElse("-")).append('\n');
            } catch (Exception | StackOverflowError e) {
                Throwable root = e;
                while (root.getCause() != null) {
                    root = root.getCause();
                }
                answer.setLength(0);
                answer.append("REFUSED ").append(encode(String.valueOf(root))).append('\n');
            }
            out.append(answer);
        }
        System.out.print(out);
        System.out.flush();
    }

    /** {@code ApplicationConfiguration.APPLICATION_ARGS}. */
    private static final ConfigOption<List<String>> ARGUMENTS = ConfigOptions.key("$internal.application.program-args")
            .stringType()
            .asList()
            .noDefaultValue();

    private static String option(Configuration conf, ConfigOption<String> option) {
        return conf.getOptional(option).map(ConfigJudge::encode).orElse("-");
    }

    private static String encode(String text) {
        StringBuilder hex = new StringBuilder("=");
        for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
            hex.append(String.format("%02x", b));
        }
        return hex.toString();
    }
}
