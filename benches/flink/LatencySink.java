import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.api.java.tuple.Tuple2;

/**
 * Counts the records, sums their folds, and counts how long they took in buckets of 10 microseconds;
 * at the end of input each subtask writes its digest to a file of its number, and its times to
 * {@code latency-<number>}. The first two seconds of times do not count.
 */
final class LatencySink implements Sink<Tuple2<Long, Long>> {
    private static final long SKIPPED = 2_000_000_000L;
    private static final int BUCKETS = 400_000;

    private final String directory;

    LatencySink(String directory) {
        this.directory = directory;
    }

    @Override
    public SinkWriter<Tuple2<Long, Long>> createWriter(WriterInitContext context) {
        return new Writer(directory, context.getTaskInfo().getIndexOfThisSubtask());
    }

    private static final class Writer implements SinkWriter<Tuple2<Long, Long>> {
        private final String directory;
        private final int subtask;
        private long[] counts = new long[1_024];
        private long count;
        private long checksum;
        private long first;

        Writer(String directory, int subtask) {
            this.directory = directory;
            this.subtask = subtask;
        }

        @Override
        public void write(Tuple2<Long, Long> record, Context context) {
            long now = System.nanoTime();
            if (count == 0) {
                first = now;
            }
            count++;
            checksum += Records.fold(record.f0);
            if (now - first >= SKIPPED) {
                int bucket = (int) Math.min((now - record.f1) / 10_000, BUCKETS - 1);
                if (bucket >= counts.length) {
                    counts = Arrays.copyOf(counts, Math.max(bucket + 1, 2 * counts.length));
                }
                counts[bucket]++;
            }
        }

        @Override
        public void flush(boolean endOfInput) throws IOException {
            if (!endOfInput) {
                return;
            }
            String digest = count + " " + Long.toUnsignedString(checksum) + "\n";
            Files.writeString(Path.of(directory, Integer.toString(subtask)), digest);
            StringBuilder times = new StringBuilder();
            for (int bucket = 0; bucket < counts.length; bucket++) {
                if (counts[bucket] > 0) {
                    times.append(bucket).append(' ').append(counts[bucket]).append('\n');
                }
            }
            Files.writeString(Path.of(directory, "latency-" + subtask), times);
        }

        @Override
        public void close() {}
    }
}
