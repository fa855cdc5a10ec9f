import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.flink.metrics.CharacterFilter;
import org.apache.flink.metrics.Gauge;
import org.apache.flink.metrics.LogicalScopeProvider;
import org.apache.flink.metrics.MetricConfig;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.groups.UnregisteredMetricsGroup;
import org.apache.flink.metrics.prometheus.PrometheusReporter;
import org.apache.flink.metrics.prometheus.PrometheusReporterFactory;

/** Flink's own Prometheus reporter with as many series as asked for: java Reporter.java PORT SERIES. */
public class Reporter {
    /** What a subtask's metrics have for labels in a TaskManager: some 400 bytes with the name. */
    static class Subtask extends UnregisteredMetricsGroup implements LogicalScopeProvider {
        private final Map<String, String> variables = new LinkedHashMap<>();

        Subtask(int index) {
            variables.put("<host>", "10-244-3-17.flink-metrics.svc.cluster.local");
            variables.put("<tm_id>", "10.244.3.17:6122-1f2e3d");
            variables.put("<job_id>", "9b2a7d3c5e6f708192a3b4c5d6e7f809");
            variables.put("<job_name>", "orders-enrichment");
            variables.put("<task_id>", "cbc357ccb763df2852fee8c4fc7d55f2");
            variables.put("<task_name>", "Window_TumblingEventTimeWindows____Sink__Writer");
            variables.put("<task_attempt_id>", String.format("%032x_cbc357cc_%d_0", index * 7919L, index));
            variables.put("<task_attempt_num>", "0");
            variables.put("<subtask_index>", Integer.toString(index));
        }

        @Override
        public Map<String, String> getAllVariables() {
            return variables;
        }

        @Override
        public String getLogicalScope(CharacterFilter filter) {
            return "taskmanager_job_task";
        }

        @Override
        public String getLogicalScope(CharacterFilter filter, char delimiter) {
            return "taskmanager_job_task";
        }

        @Override
        public MetricGroup getWrappedMetricGroup() {
            return this;
        }
    }

    public static void main(String[] args) throws Exception {
        MetricConfig config = new MetricConfig();
        config.setProperty("port", args[0]);
        PrometheusReporter reporter = new PrometheusReporterFactory().createMetricReporter(config);
        reporter.open(config);
        int series = Integer.parseInt(args[1]);
        int each = Math.min(series, 100);
        for (int subtask = 0; subtask < series / each; subtask++) {
            Subtask group = new Subtask(subtask);
            for (int metric = 0; metric < each; metric++) {
                double value = subtask * 1000.0 + metric / 8.0;
                reporter.notifyOfAddedMetric((Gauge<Double>) () -> value, "metricNumber" + metric, group);
            }
        }
        System.out.println("ready");
        Thread.sleep(Long.MAX_VALUE);
    }
}
