import java.util.Arrays;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RuntimeContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** A running sum per key, with 1,000 bytes that never change. */
final class WideSum extends KeyedProcessFunction<Long, Tuple2<Long, Long>, Tuple2<Long, Long>> {
    private static final int TEXT_BYTES = 1_000;

    private transient ValueState<Tuple2<Long, byte[]>> wide;

    static ValueState<Tuple2<Long, byte[]>> state(RuntimeContext context) {
        return context.getState(
                new ValueStateDescriptor<>(
                        "sum",
                        Types.TUPLE(
                                Types.LONG,
                                PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO)));
    }

    /** Adds a number to the sum of the key at hand, which is returned. */
    static long add(ValueState<Tuple2<Long, byte[]>> wide, long number) throws Exception {
        Tuple2<Long, byte[]> state = wide.value();
        if (state == null) {
            byte[] text = new byte[TEXT_BYTES];
            Arrays.fill(text, (byte) 'x');
            state = Tuple2.of(0L, text);
        }
        state.f0 += number;
        wide.update(state);
        return state.f0;
    }

    @Override
    public void open(OpenContext context) {
        wide = state(getRuntimeContext());
    }

    @Override
    public void processElement(
            Tuple2<Long, Long> pair, Context context, Collector<Tuple2<Long, Long>> out)
            throws Exception {
        pair.f1 = add(wide, pair.f1);
        out.collect(pair);
    }
}
