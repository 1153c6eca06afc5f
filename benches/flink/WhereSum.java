import java.lang.management.ManagementFactory;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The sum of {@link WideSum}, with the subtask and the process that made it. */
final class WhereSum extends KeyedProcessFunction<Long, Tuple2<Long, Long>, String> {
    private transient ValueState<Tuple2<Long, byte[]>> wide;
    private transient String where;

    @Override
    public void open(OpenContext context) {
        wide = WideSum.state(getRuntimeContext());
        where =
                getRuntimeContext().getTaskInfo().getIndexOfThisSubtask()
                        + ","
                        + ManagementFactory.getRuntimeMXBean().getPid()
                        + ",";
    }

    @Override
    public void processElement(Tuple2<Long, Long> pair, Context context, Collector<String> out)
            throws Exception {
        out.collect(where + pair.f0 + ',' + WideSum.add(wide, pair.f1));
    }
}
