import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import org.apache.flink.api.common.functions.MapFunction;

/** Writes the time of day in microseconds to the file {@code first} when it sees a record. */
final class Stamp implements MapFunction<Long, Long> {
    private final String directory;
    private boolean stamped;

    Stamp(String directory) {
        this.directory = directory;
    }

    @Override
    public Long map(Long number) throws IOException {
        if (!stamped) {
            stamped = true;
            Instant now = Instant.now();
            long micros = now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
            Files.writeString(Path.of(directory, "first"), micros + "\n");
        }
        return number;
    }
}
