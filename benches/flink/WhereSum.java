import java.lang.management.ManagementFactory;
import java.util.Arrays;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** A running sum per key, with 1,000 bytes that never change, and the process that made it. */
final class WhereSum extends KeyedProcessFunction<Long, Tuple2<Long, Long>, String> {
    private static final int TEXT_BYTES = 1_000;

    private transient ValueState<Tuple2<Long, byte[]>> wide;
    private transient String where;

    @Override
    public void open(OpenContext context) {
        where =
                getRuntimeContext().getTaskInfo().getIndexOfThisSubtask()
                        + ","
                        + ManagementFactory.getRuntimeMXBean().getPid()
                        + ",";
        wide =
                getRuntimeContext()
                        .getState(
                                new ValueStateDescriptor<>(
                                        "sum",
                                        Types.TUPLE(
                                                Types.LONG,
                                                PrimitiveArrayTypeInfo
                                                        .BYTE_PRIMITIVE_ARRAY_TYPE_INFO)));
    }

    @Override
    public void processElement(
            Tuple2<Long, Long> pair, Context context, Collector<String> out)
            throws Exception {
        Tuple2<Long, byte[]> state = wide.value();
        if (state == null) {
            byte[] text = new byte[TEXT_BYTES];
            Arrays.fill(text, (byte) 'x');
            state = Tuple2.of(0L, text);
        }
        state.f0 += pair.f1;
        wide.update(state);
        out.collect(where + pair.f0 + ',' + state.f0);
    }
}
