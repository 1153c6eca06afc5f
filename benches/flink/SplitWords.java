import java.util.Locale;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.util.Collector;

/** Splits a line into words: runs of ASCII letters and digits, lower-cased. */
final class SplitWords implements FlatMapFunction<String, Tuple2<String, Long>> {
    private final Tuple2<String, Long> word = Tuple2.of("", 1L);

    @Override
    public void flatMap(String text, Collector<Tuple2<String, Long>> out) {
        String line = text.toLowerCase(Locale.ROOT);
        int start = -1;
        for (int at = 0; at < line.length(); at++) {
            char c = line.charAt(at);
            if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
                if (start < 0) {
                    start = at;
                }
            } else if (start >= 0) {
                emit(line, start, at, out);
                start = -1;
            }
        }
        if (start >= 0) {
            emit(line, start, line.length(), out);
        }
    }

    private void emit(String line, int start, int end, Collector<Tuple2<String, Long>> out) {
        word.f0 = line.substring(start, end);
        out.collect(word);
    }
}
