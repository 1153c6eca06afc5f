import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.RichMapFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.DeserializationFeature;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectReader;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.filesystem.bucketassigners.BasePathBucketAssigner;

/** Running sums by user over lines of JSON, from files to files. */
final class JsonSums {
    private static final TypeInformation<Tuple2<String, Long>> SUM =
            Types.TUPLE(Types.STRING, Types.LONG);

    private JsonSums() {}

    /** The fields that the job needs; the other nine are skipped. */
    public static final class Visit {
        public String user;
        public String kind;
        public long quantity;
    }

    private static final class Parse extends RichMapFunction<String, Visit> {
        private transient ObjectReader reader;

        @Override
        public void open(OpenContext context) {
            reader =
                    new ObjectMapper()
                            .readerFor(Visit.class)
                            .without(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);
        }

        @Override
        public Visit map(String line) throws IOException {
            return reader.readValue(line);
        }
    }

    static void build(StreamExecutionEnvironment env, String input, String output) {
        FileSource<String> source =
                FileSource.forRecordStreamFormat(new TextLineInputFormat(), new Path(input))
                        .build();
        FileSink<Tuple2<String, Long>> sink =
                FileSink.<Tuple2<String, Long>>forRowFormat(
                                new Path(output, "lines"),
                                (sum, stream) ->
                                        stream.write(
                                                (sum.f0 + ',' + sum.f1 + '\n')
                                                        .getBytes(StandardCharsets.UTF_8)))
                        .withBucketAssigner(new BasePathBucketAssigner<>())
                        .build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "lines")
                .map(new Parse())
                .returns(Types.POJO(Visit.class))
                .filter(visit -> visit.kind.equals("view"))
                .map(visit -> Tuple2.of(visit.user, visit.quantity))
                .returns(SUM)
                .keyBy(sum -> sum.f0, Types.STRING)
                .reduce(
                        (sum, next) -> {
                            sum.f1 = sum.f1 + next.f1;
                            return sum;
                        })
                .sinkTo(sink);
    }
}
