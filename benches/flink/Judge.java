import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.co.ProcessJoinFunction;
import org.apache.flink.streaming.api.functions.windowing.ProcessAllWindowFunction;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.CloseableIterator;
import org.apache.flink.util.Collector;
import org.apache.flink.util.OutputTag;
import org.apache.flink.util.ParameterTool;

/** Apache Flink's side of the jobs that {@code judge.sh} compares; see {@code judge_job.rs}. */
public final class Judge {
    /** Key, value, event time, and the watermark behind the record or the least number. */
    private static final TypeInformation<Tuple4<Long, Long, Long, Long>> ROW =
            TypeInformation.of(new TypeHint<Tuple4<Long, Long, Long, Long>>() {});
    private static final OutputTag<Tuple4<Long, Long, Long, Long>> LATE =
            new OutputTag<>("late", ROW);

    private Judge() {}

    @SuppressWarnings("try")
    public static void main(String[] arguments) throws Exception {
        ParameterTool args = ParameterTool.fromArgs(arguments);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.setParallelism(2);
        String input = args.getRequired("input");
        DataStream<String> lines = build(env, args.getRequired("job"), input);
        try (PrintWriter out =
                        new PrintWriter(
                                Files.newBufferedWriter(
                                        Path.of(args.getRequired("output")),
                                        StandardCharsets.UTF_8));
                CloseableIterator<String> results = lines.executeAndCollect()) {
            results.forEachRemaining(out::println);
        }
    }

    private static DataStream<String> build(
            StreamExecutionEnvironment env, String job, String input) {
        DataStream<Tuple4<Long, Long, Long, Long>> rows = rows(env, input);
        KeyedStream<Tuple4<Long, Long, Long, Long>, Long> keyed = rows.keyBy(row -> row.f0);
        switch (job) {
            case "tumbling":
                return sums(keyed, TumblingEventTimeWindows.of(Duration.ofMillis(100)), 0);
            case "offset":
                return sums(
                        keyed,
                        TumblingEventTimeWindows.of(Duration.ofMillis(100), Duration.ofMillis(30)),
                        0);
            case "sliding":
                return sums(
                        keyed,
                        SlidingEventTimeWindows.of(Duration.ofMillis(100), Duration.ofMillis(30)),
                        0);
            case "session":
                return sums(keyed, EventTimeSessionWindows.withGap(Duration.ofMillis(50)), 0);
            case "late":
                return sums(keyed, TumblingEventTimeWindows.of(Duration.ofMillis(100)), 80);
            case "late-sliding":
                return sums(
                        keyed,
                        SlidingEventTimeWindows.of(Duration.ofMillis(90), Duration.ofMillis(30)),
                        50);
            case "late-session":
                return sums(keyed, EventTimeSessionWindows.withGap(Duration.ofMillis(50)), 60);
            case "count":
                return keyed.countWindow(5)
                        .reduce((sum, row) -> Tuple4.of(sum.f0, sum.f1 + row.f1, 0L, 0L))
                        .returns(ROW)
                        .map(row -> row.f0 + "," + row.f1)
                        .returns(Types.STRING);
            case "sequence":
                return sequence(keyed);
            case "timers":
                return keyed.process(new Timers()).returns(Types.STRING);
            case "interval":
                return even(rows)
                        .intervalJoin(odd(rows))
                        .between(Duration.ofMillis(-40), Duration.ofMillis(60))
                        .process(new Pairs())
                        .returns(Types.STRING);
            case "join":
                return even(rows)
                        .join(odd(rows))
                        .where(row -> row.f0)
                        .equalTo(row -> row.f0)
                        .window(TumblingEventTimeWindows.of(Duration.ofMillis(100)))
                        .apply(
                                (left, right) -> left.f0 + "," + left.f1 + "," + right.f1,
                                Types.STRING);
            default:
                throw new IllegalArgumentException("there is no job " + job);
        }
    }

    private static DataStream<Tuple4<Long, Long, Long, Long>> rows(
            StreamExecutionEnvironment env, String input) {
        FileSource<String> source =
                FileSource.forRecordStreamFormat(
                                new TextLineInputFormat(),
                                new org.apache.flink.core.fs.Path(input))
                        .build();
        return env.fromSource(source, WatermarkStrategy.noWatermarks(), "rows")
                .setParallelism(1)
                .map(
                        line -> {
                            String[] fields = line.split(",");
                            return Tuple4.of(
                                    Long.valueOf(fields[0]),
                                    Long.valueOf(fields[1]),
                                    Long.valueOf(fields[2]),
                                    fields[3].equals("-")
                                            ? Long.valueOf(Long.MIN_VALUE)
                                            : Long.valueOf(fields[3]));
                        })
                .returns(ROW)
                .setParallelism(1)
                .assignTimestampsAndWatermarks(
                        WatermarkStrategy.<Tuple4<Long, Long, Long, Long>>forGenerator(
                                        context -> new BehindRows())
                                .withTimestampAssigner((row, before) -> row.f2))
                .setParallelism(1);
    }

    private static KeyedStream<Tuple4<Long, Long, Long, Long>, Long> even(
            DataStream<Tuple4<Long, Long, Long, Long>> rows) {
        return rows.filter(row -> row.f1 % 2 == 0).setParallelism(1).keyBy(row -> row.f0);
    }

    private static KeyedStream<Tuple4<Long, Long, Long, Long>, Long> odd(
            DataStream<Tuple4<Long, Long, Long, Long>> rows) {
        return rows.filter(row -> row.f1 % 2 != 0).setParallelism(1).keyBy(row -> row.f0);
    }

    /** The sum of each window, and the records that were late. */
    private static DataStream<String> sums(
            KeyedStream<Tuple4<Long, Long, Long, Long>, Long> keyed,
            WindowAssigner<Object, TimeWindow> windows,
            long lateness) {
        SingleOutputStreamOperator<String> sums =
                keyed.window(windows)
                        .allowedLateness(Duration.ofMillis(lateness))
                        .sideOutputLateData(LATE)
                        .reduce(
                                (sum, row) -> Tuple4.of(sum.f0, sum.f1 + row.f1, 0L, 0L),
                                new Described())
                        .returns(Types.STRING);
        DataStream<String> late =
                sums.getSideOutput(LATE)
                        .map(row -> "late," + row.f0 + "," + row.f1 + "," + row.f2)
                        .returns(Types.STRING);
        return sums.union(late);
    }

    /** The largest sum of all keys in each window. */
    private static DataStream<String> sequence(
            KeyedStream<Tuple4<Long, Long, Long, Long>, Long> keyed) {
        return keyed.window(TumblingEventTimeWindows.of(Duration.ofMillis(100)))
                .reduce((sum, row) -> Tuple4.of(sum.f0, sum.f1 + row.f1, 0L, 0L))
                .returns(ROW)
                .map(row -> Tuple2.of(row.f0, row.f1))
                .returns(Types.TUPLE(Types.LONG, Types.LONG))
                .windowAll(TumblingEventTimeWindows.of(Duration.ofMillis(100)))
                .process(new Largest())
                .returns(Types.STRING);
    }

    /** Emits the watermark that a row names. */
    private static final class BehindRows
            implements WatermarkGenerator<Tuple4<Long, Long, Long, Long>> {
        @Override
        public void onEvent(
                Tuple4<Long, Long, Long, Long> row, long time, WatermarkOutput output) {
            if (row.f3 != Long.MIN_VALUE) {
                output.emitWatermark(new Watermark(row.f3));
            }
        }

        @Override
        public void onPeriodicEmit(WatermarkOutput output) {}
    }

    private static final class Described
            extends ProcessWindowFunction<
                    Tuple4<Long, Long, Long, Long>, String, Long, TimeWindow> {
        @Override
        public void process(
                Long key,
                Context context,
                Iterable<Tuple4<Long, Long, Long, Long>> sums,
                Collector<String> out) {
            long sum = sums.iterator().next().f1;
            TimeWindow window = context.window();
            out.collect(key + "," + window.getStart() + "," + window.getEnd() + "," + sum);
        }
    }

    private static final class Largest
            extends ProcessAllWindowFunction<Tuple2<Long, Long>, String, TimeWindow> {
        @Override
        public void process(
                Context context, Iterable<Tuple2<Long, Long>> sums, Collector<String> out) {
            long largest = Long.MIN_VALUE;
            for (Tuple2<Long, Long> sum : sums) {
                largest = Math.max(largest, sum.f1);
            }
            out.collect(context.window().getStart() + "," + largest);
        }
    }

    private static final class Pairs
            extends ProcessJoinFunction<
                    Tuple4<Long, Long, Long, Long>, Tuple4<Long, Long, Long, Long>, String> {
        @Override
        public void processElement(
                Tuple4<Long, Long, Long, Long> left,
                Tuple4<Long, Long, Long, Long> right,
                Context context,
                Collector<String> out) {
            out.collect(
                    left.f0 + "," + left.f1 + "," + right.f1 + "," + context.getTimestamp());
        }
    }

    /** The number of a key's records so far, 50 ms after each. */
    private static final class Timers
            extends KeyedProcessFunction<Long, Tuple4<Long, Long, Long, Long>, String> {
        private transient ValueState<Long> count;

        @Override
        public void open(OpenContext context) {
            count =
                    getRuntimeContext()
                            .getState(new ValueStateDescriptor<>("count", Types.LONG));
        }

        @Override
        public void processElement(
                Tuple4<Long, Long, Long, Long> row, Context context, Collector<String> out)
                throws Exception {
            Long before = count.value();
            count.update(before == null ? 1L : before + 1);
            context.timerService().registerEventTimeTimer(row.f2 + 50);
        }

        @Override
        public void onTimer(long time, OnTimerContext context, Collector<String> out)
                throws Exception {
            out.collect(context.getCurrentKey() + "," + time + "," + count.value());
        }
    }
}
