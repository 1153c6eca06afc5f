import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.TimerService;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** A running sum per key, which is forgotten when the key has been silent for a minute. */
final class TimedSum extends KeyedProcessFunction<Long, Tuple2<Long, Long>, Tuple2<Long, Long>> {
    private static final long SILENCE_MS = 60_000;

    private transient ValueState<Tuple2<Long, Long>> sumAndTimeout;

    @Override
    public void open(OpenContext context) {
        sumAndTimeout =
                getRuntimeContext()
                        .getState(
                                new ValueStateDescriptor<>(
                                        "sum", Types.TUPLE(Types.LONG, Types.LONG)));
    }

    @Override
    public void processElement(
            Tuple2<Long, Long> pair, Context context, Collector<Tuple2<Long, Long>> out)
            throws Exception {
        TimerService timers = context.timerService();
        Tuple2<Long, Long> state = sumAndTimeout.value();
        if (state == null) {
            state = Tuple2.of(0L, 0L);
        } else {
            timers.deleteProcessingTimeTimer(state.f1);
        }
        state.f0 += pair.f1;
        state.f1 = timers.currentProcessingTime() + SILENCE_MS;
        timers.registerProcessingTimeTimer(state.f1);
        sumAndTimeout.update(state);
        pair.f1 = state.f0;
        out.collect(pair);
    }

    @Override
    public void onTimer(long time, OnTimerContext context, Collector<Tuple2<Long, Long>> out) {
        sumAndTimeout.clear();
    }
}
