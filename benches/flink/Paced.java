import java.util.Collections;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;

/**
 * The keys of the numbers from 0 at a steady rate, an even range and an even rate per subtask, each
 * with the time of its creation on the monotonic clock.
 */
final class Paced implements Source<Tuple2<Long, Long>, Paced.NoSplit, Integer> {
    private final long seed;
    private final long records;
    private final long rate;
    private final long tickMillis;

    Paced(long seed, long records, long rate, long tickMillis) {
        this.seed = seed;
        this.records = records;
        this.rate = rate;
        this.tickMillis = tickMillis;
    }

    /** No subtask needs one: its number says which part it makes. */
    static final class NoSplit implements SourceSplit {
        @Override
        public String splitId() {
            return "";
        }
    }

    @Override
    public Boundedness getBoundedness() {
        return Boundedness.BOUNDED;
    }

    @Override
    public SourceReader<Tuple2<Long, Long>, NoSplit> createReader(SourceReaderContext context) {
        int subtask = context.getIndexOfSubtask();
        int parallelism = context.currentParallelism();
        long first = records * subtask / parallelism;
        long end = records * (subtask + 1) / parallelism;
        return new Reader(seed, first, end, (double) rate / parallelism, tickMillis);
    }

    private static final class Reader implements SourceReader<Tuple2<Long, Long>, NoSplit> {
        /** One thread for all sources of the process, as their own would disturb the tasks. */
        private static final ScheduledExecutorService TIMER =
                Executors.newSingleThreadScheduledExecutor(
                        work -> {
                            Thread thread = new Thread(work, "paced");
                            thread.setDaemon(true);
                            return thread;
                        });

        private final long seed;
        private final long first;
        private final long end;
        private final double rate;
        private final long tickMillis;
        private final Tuple2<Long, Long> record = Tuple2.of(0L, 0L);
        private long next;
        private long start;

        Reader(long seed, long first, long end, double rate, long tickMillis) {
            this.seed = seed;
            this.first = first;
            this.end = end;
            this.rate = rate;
            this.tickMillis = tickMillis;
            next = first;
        }

        @Override
        public void start() {}

        @Override
        public InputStatus pollNext(ReaderOutput<Tuple2<Long, Long>> output) {
            long now = System.nanoTime();
            if (start == 0) {
                start = now;
            }
            long due = Math.min(end, first + (long) ((now - start) / 1e9 * rate));
            record.f1 = now;
            for (; next < due; next++) {
                record.f0 = Records.scramble(seed, next);
                output.collect(record);
            }
            return next == end ? InputStatus.END_OF_INPUT : InputStatus.NOTHING_AVAILABLE;
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            CompletableFuture<Void> available = new CompletableFuture<>();
            TIMER.schedule(() -> available.complete(null), tickMillis, TimeUnit.MILLISECONDS);
            return available;
        }

        @Override
        public List<NoSplit> snapshotState(long checkpoint) {
            return Collections.emptyList();
        }

        @Override
        public void addSplits(List<NoSplit> splits) {}

        @Override
        public void notifyNoMoreSplits() {}

        @Override
        public void close() {}
    }

    @Override
    public SplitEnumerator<NoSplit, Integer> createEnumerator(
            SplitEnumeratorContext<NoSplit> context) {
        return new Enumerator();
    }

    @Override
    public SplitEnumerator<NoSplit, Integer> restoreEnumerator(
            SplitEnumeratorContext<NoSplit> context, Integer checkpoint) {
        return new Enumerator();
    }

    private static final class Enumerator implements SplitEnumerator<NoSplit, Integer> {
        @Override
        public void start() {}

        @Override
        public void handleSplitRequest(int subtask, String host) {}

        @Override
        public void addSplitsBack(List<NoSplit> splits, int subtask) {}

        @Override
        public void addReader(int subtask) {}

        @Override
        public Integer snapshotState(long checkpoint) {
            return 0;
        }

        @Override
        public void close() {}
    }

    @Override
    public SimpleVersionedSerializer<NoSplit> getSplitSerializer() {
        return new Nothing<>(new NoSplit());
    }

    @Override
    public SimpleVersionedSerializer<Integer> getEnumeratorCheckpointSerializer() {
        return new Nothing<>(0);
    }

    private static final class Nothing<T> implements SimpleVersionedSerializer<T> {
        private final T value;

        Nothing(T value) {
            this.value = value;
        }

        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(T value) {
            return new byte[0];
        }

        @Override
        public T deserialize(int version, byte[] bytes) {
            return value;
        }
    }
}
