import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.serialization.SimpleStringEncoder;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.connector.file.sink.FileSink;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.co.ProcessJoinFunction;
import org.apache.flink.streaming.api.functions.sink.filesystem.bucketassigners.BasePathBucketAssigner;
import org.apache.flink.streaming.api.functions.sink.filesystem.rollingpolicies.OnCheckpointRollingPolicy;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;
import org.apache.flink.util.ParameterTool;

/** Apache Flink's side of the paired benchmarks; README.md says what every job computes. */
public final class BenchJob {
    private static final TypeInformation<Tuple2<Long, Long>> PAIR =
            Types.TUPLE(Types.LONG, Types.LONG);
    private static final TypeInformation<Tuple2<String, Long>> COUNTED =
            Types.TUPLE(Types.STRING, Types.LONG);

    private static final Configuration NO_KRYO =
            new Configuration().set(PipelineOptions.GENERIC_TYPES, false);

    private final StreamExecutionEnvironment env;
    private final long records;
    private final long keys;
    private final long seed;
    private final String shape;
    private final String input;
    private final String output;

    private BenchJob(StreamExecutionEnvironment env, ParameterTool args) {
        this.env = env;
        records = args.getLong("records", 0);
        keys = args.getLong("keys", 1);
        seed = args.getLong("seed", 0);
        shape = args.get("shape", "");
        input = args.get("input", "");
        output = args.getRequired("output");
    }

    public static void main(String[] arguments) throws Exception {
        ParameterTool args = ParameterTool.fromArgs(arguments);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.setParallelism(args.getInt("parallelism"));
        env.getConfig().enableObjectReuse();
        String job = args.getRequired("job");
        new BenchJob(env, args).build(job, args);
        env.execute(job);
    }

    private void build(String job, ParameterTool args) {
        switch (job) {
            case "chain":
                chain();
                break;
            case "rebalance":
                finishPairs(pairs().rebalance());
                break;
            case "hash":
                finishPairs(pairs().keyBy(pair -> pair.f0, Types.LONG));
                break;
            case "wide-rebalance":
                finishWide(wide("default").rebalance());
                break;
            case "wide-hash":
                finishWide(wide("default").keyBy(record -> record.key, Types.LONG));
                break;
            case "wide-wire":
                // Two groups never share a slot: every record crosses from one worker to the other.
                finishWide(wide("left").rebalance()).slotSharingGroup("right");
                break;
            case "shape-rebalance":
            case "shape-hash":
            case "shape-wire":
                shape(Shapes.of(shape), job);
                break;
            case "keyed-sum":
                keyedSum();
                break;
            case "wide-sum":
                wideSum();
                break;
            case "recover":
                recover(args);
                break;
            case "timed-sum":
                timedSum();
                break;
            case "tumbling":
                windows(TumblingEventTimeWindows.of(Duration.ofSeconds(1)));
                break;
            case "sessions":
                windows(EventTimeSessionWindows.withGap(Duration.ofMillis(201)));
                break;
            case "interval-join":
                intervalJoin();
                break;
            case "sliding-1s":
                windows(
                        SlidingEventTimeWindows.of(
                                Duration.ofSeconds(10), Duration.ofSeconds(1)));
                break;
            case "sliding-100ms":
                windows(
                        SlidingEventTimeWindows.of(
                                Duration.ofSeconds(10), Duration.ofMillis(100)));
                break;
            case "text-sum":
                textSum();
                break;
            case "json-lines":
            case "json-lines-12":
                JsonSums.build(env, input, output);
                break;
            case "paced":
                paced(args);
                break;
            case "word-count":
                wordCount();
                break;
            case "stamp":
                numbers().map(new Stamp(output)).sinkTo(new DigestSink<>(output, number -> number));
                break;
            default:
                throw new IllegalArgumentException("there is no job " + job);
        }
    }

    private SingleOutputStreamOperator<Long> numbers() {
        return env.fromSequence(0, records - 1);
    }

    private void chain() {
        numbers()
                .map(number -> number * 3 + 1)
                .returns(Types.LONG)
                .filter(number -> (number & 15) != 0)
                .map(number -> number ^ (number >>> 7))
                .returns(Types.LONG)
                .sinkTo(new DigestSink<>(output, number -> number));
    }

    private SingleOutputStreamOperator<Tuple2<Long, Long>> pairs() {
        return numbers().map(new MakePair(seed)).returns(PAIR);
    }

    private void finishPairs(DataStream<Tuple2<Long, Long>> pairs) {
        pairs.map(
                        pair -> {
                            pair.f1 = pair.f1 + 1;
                            return pair;
                        })
                .returns(PAIR)
                .sinkTo(new DigestSink<>(output, pair -> Records.pair(pair.f0, pair.f1)));
    }

    private SingleOutputStreamOperator<Wide> wide(String group) {
        return numbers()
                .slotSharingGroup(group)
                .map(new MakeWide(seed))
                .returns(new WideType());
    }

    private SingleOutputStreamOperator<Wide> finishWide(DataStream<Wide> records) {
        SingleOutputStreamOperator<Wide> added =
                records.map(
                                record -> {
                                    record.value++;
                                    return record;
                                })
                        .returns(new WideType());
        added.sinkTo(new DigestSink<>(output, Wide::word));
        return added;
    }

    private <T> void shape(Shape<T> shape, String job) {
        // No record of these may fall back to Kryo.
        env.getConfig().configure(NO_KRYO, getClass().getClassLoader());
        long seed = this.seed;
        SingleOutputStreamOperator<T> made =
                numbers()
                        .slotSharingGroup(job.equals("shape-wire") ? "left" : "default")
                        .map(index -> shape.make(Records.scramble(seed, index)))
                        .returns(shape.type());
        DataStream<T> sent =
                job.equals("shape-hash")
                        ? made.keyBy(shape::word, Types.LONG)
                        : made.rebalance();
        sent.sinkTo(new DigestSink<>(output, shape::word))
                .slotSharingGroup(job.equals("shape-wire") ? "right" : "default");
    }

    private void keyedSum() {
        numbers()
                .map(new MakeOne(seed, keys))
                .returns(PAIR)
                .keyBy(pair -> pair.f0, Types.LONG)
                .reduce(
                        (sum, pair) -> {
                            sum.f1 = sum.f1 + pair.f1;
                            return sum;
                        })
                .sinkTo(new DigestSink<>(output, pair -> Records.pair(pair.f0, pair.f1)));
    }

    private void wideSum() {
        numbers()
                .map(new MakeOne(seed, keys))
                .returns(PAIR)
                .keyBy(pair -> pair.f0, Types.LONG)
                .process(new WideSum())
                .returns(PAIR)
                .sinkTo(new DigestSink<>(output, pair -> Records.pair(pair.f0, pair.f1)));
    }

    private void recover(ParameterTool args) {
        long keys = this.keys;
        FileSink<String> sink =
                FileSink.<String>forRowFormat(
                                new Path(output, "lines"), new SimpleStringEncoder<>("UTF-8"))
                        .withBucketAssigner(new BasePathBucketAssigner<>())
                        .withRollingPolicy(OnCheckpointRollingPolicy.build())
                        .build();
        Paced source = new Paced(seed, records, args.getLong("rate"), 1);
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "paced", PAIR)
                .map(
                        pair -> {
                            pair.f0 = ((pair.f0 >>> 32) * keys) >>> 32;
                            pair.f1 = 1L;
                            return pair;
                        })
                .returns(PAIR)
                .keyBy(pair -> pair.f0, Types.LONG)
                .process(new WhereSum())
                .returns(Types.STRING)
                .sinkTo(sink);
    }

    private void timedSum() {
        numbers()
                .map(new MakeOne(seed, keys))
                .returns(PAIR)
                .keyBy(pair -> pair.f0, Types.LONG)
                .process(new TimedSum())
                .returns(PAIR)
                .sinkTo(new DigestSink<>(output, pair -> Records.pair(pair.f0, pair.f1)));
    }

    private void windows(WindowAssigner<Object, TimeWindow> windows) {
        long sources = env.getParallelism();
        long each = records / sources;
        numbers()
                .assignTimestampsAndWatermarks(
                        WatermarkStrategy.<Long>forMonotonousTimestamps()
                                .withTimestampAssigner(
                                        (index, before) -> index % each * sources / 2000 * 2))
                .map(new MakeOne(seed, keys))
                .returns(PAIR)
                .keyBy(pair -> pair.f0, Types.LONG)
                .window(windows)
                // The first record is the state of all its windows, so it must not be changed.
                .reduce((sum, pair) -> Tuple2.of(sum.f0, sum.f1 + pair.f1))
                .returns(PAIR)
                .sinkTo(new DigestSink<>(output, pair -> Records.pair(pair.f0, pair.f1)));
    }

    private void intervalJoin() {
        long seed = this.seed;
        long sources = env.getParallelism();
        long each = records / sources;
        DataStream<Tuple2<Long, Long>> entries =
                numbers()
                        .assignTimestampsAndWatermarks(
                                WatermarkStrategy.<Long>forBoundedOutOfOrderness(
                                                Duration.ofMillis(Records.DISORDER_MS))
                                        .withTimestampAssigner(
                                                (index, before) ->
                                                        Records.disorderedTime(
                                                                seed, index, each, sources)))
                        .map(new MakeEntry(seed, keys))
                        .returns(PAIR);
        entries.filter(entry -> (entry.f1 & 1) == 0)
                .keyBy(entry -> entry.f0, Types.LONG)
                .intervalJoin(
                        entries.filter(entry -> (entry.f1 & 1) == 1)
                                .keyBy(entry -> entry.f0, Types.LONG))
                .between(Duration.ofSeconds(-1), Duration.ofSeconds(1))
                .process(new JoinEntries())
                .returns(PAIR)
                .sinkTo(new DigestSink<>(output, pair -> Records.pair(pair.f0, pair.f1)));
    }

    private void textSum() {
        numbers()
                .map(new MakeText(seed, keys))
                .returns(COUNTED)
                .keyBy(pair -> pair.f0, Types.STRING)
                .reduce(
                        (sum, pair) -> {
                            sum.f1 = sum.f1 + pair.f1;
                            return sum;
                        })
                .sinkTo(
                        new DigestSink<>(
                                output, pair -> Records.pair(Records.ends(pair.f0), pair.f1)));
    }

    private void paced(ParameterTool args) {
        Paced source = new Paced(seed, records, args.getLong("rate"), args.getLong("tick-ms"));
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "paced", PAIR)
                .keyBy(pair -> pair.f0, Types.LONG)
                .sinkTo(new LatencySink(output));
    }

    private void wordCount() {
        // Latin-1 maps every byte to one character: the same words, and Flink decodes it fastest.
        FileSource<String> source =
                FileSource.forRecordStreamFormat(
                                new TextLineInputFormat("ISO-8859-1"), new Path(input))
                        .build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "text")
                .flatMap(new SplitWords())
                .returns(COUNTED)
                .keyBy(word -> word.f0, Types.STRING)
                .reduce(
                        (sum, word) -> {
                            sum.f1 = sum.f1 + word.f1;
                            return sum;
                        })
                .sinkTo(
                        new DigestSink<>(
                                output, word -> Records.pair(Records.hash(word.f0), word.f1)));
    }

    /** One object serves all records: the exchange behind it serializes at once. */
    private static final class MakePair implements MapFunction<Long, Tuple2<Long, Long>> {
        private final long seed;
        private final Tuple2<Long, Long> pair = Tuple2.of(0L, 0L);

        MakePair(long seed) {
            this.seed = seed;
        }

        @Override
        public Tuple2<Long, Long> map(Long index) {
            pair.f0 = Records.scramble(seed, index);
            pair.f1 = index;
            return pair;
        }
    }

    private static final class MakeOne implements MapFunction<Long, Tuple2<Long, Long>> {
        private final long seed;
        private final long keys;
        private final Tuple2<Long, Long> pair = Tuple2.of(0L, 1L);

        MakeOne(long seed, long keys) {
            this.seed = seed;
            this.keys = keys;
        }

        @Override
        public Tuple2<Long, Long> map(Long index) {
            pair.f0 = Records.key(seed, index, keys);
            return pair;
        }
    }

    private static final class MakeEntry implements MapFunction<Long, Tuple2<Long, Long>> {
        private final long seed;
        private final long keys;
        private final Tuple2<Long, Long> entry = Tuple2.of(0L, 0L);

        MakeEntry(long seed, long keys) {
            this.seed = seed;
            this.keys = keys;
        }

        @Override
        public Tuple2<Long, Long> map(Long index) {
            entry.f0 = Records.key(seed, index, keys);
            entry.f1 = index;
            return entry;
        }
    }

    private static final class JoinEntries
            extends ProcessJoinFunction<
                    Tuple2<Long, Long>, Tuple2<Long, Long>, Tuple2<Long, Long>> {
        private final Tuple2<Long, Long> pair = Tuple2.of(0L, 0L);

        @Override
        public void processElement(
                Tuple2<Long, Long> even,
                Tuple2<Long, Long> odd,
                Context context,
                Collector<Tuple2<Long, Long>> out) {
            pair.f0 = even.f1;
            pair.f1 = odd.f1;
            out.collect(pair);
        }
    }

    private static final class MakeText implements MapFunction<Long, Tuple2<String, Long>> {
        private final long seed;
        private final long keys;
        private final byte[] text = new byte[36];
        private final Tuple2<String, Long> pair = Tuple2.of("", 1L);

        MakeText(long seed, long keys) {
            this.seed = seed;
            this.keys = keys;
        }

        @Override
        public Tuple2<String, Long> map(Long index) {
            Records.text(Records.key(seed, index, keys), text);
            pair.f0 = new String(text, StandardCharsets.ISO_8859_1);
            return pair;
        }
    }

    private static final class MakeWide implements MapFunction<Long, Wide> {
        private final long seed;
        private transient Wide record;

        MakeWide(long seed) {
            this.seed = seed;
        }

        @Override
        public Wide map(Long index) {
            if (record == null) {
                record = new Wide();
            }
            return record.fill(seed, index);
        }
    }
}
