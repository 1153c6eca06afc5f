import java.io.IOException;
import java.io.Serializable;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;

/**
 * Counts the records and sums their folds; at the end of input every subtask writes
 * {@code <count> <checksum>} to a file of its own.
 */
final class DigestSink<T> implements Sink<T> {
    /** The word of a record that the checksum is made of. */
    interface Word<T> extends Serializable {
        long of(T record);
    }

    private final String directory;
    private final Word<T> word;

    DigestSink(String directory, Word<T> word) {
        this.directory = directory;
        this.word = word;
    }

    @Override
    public SinkWriter<T> createWriter(WriterInitContext context) {
        int subtask = context.getTaskInfo().getIndexOfThisSubtask();
        return new Writer<>(Path.of(directory, Integer.toString(subtask)), word);
    }

    private static final class Writer<T> implements SinkWriter<T> {
        private final Path file;
        private final Word<T> word;
        private long count;
        private long checksum;

        Writer(Path file, Word<T> word) {
            this.file = file;
            this.word = word;
        }

        @Override
        public void write(T record, Context context) {
            count++;
            checksum += Records.fold(word.of(record));
        }

        @Override
        public void flush(boolean endOfInput) throws IOException {
            if (endOfInput) {
                Files.writeString(file, count + " " + Long.toUnsignedString(checksum) + "\n");
            }
        }

        @Override
        public void close() {}
    }
}
