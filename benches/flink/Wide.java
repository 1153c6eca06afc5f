import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** A record of exactly 100 bytes: a key, a value and a payload that does not compress. */
final class Wide {
    static final int PAYLOAD = 84;
    private static final VarHandle LONGS =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final VarHandle INTS =
            MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);

    long key;
    long value;
    final byte[] payload = new byte[PAYLOAD];

    /** Makes this the record of {@code index}. */
    Wide fill(long seed, long index) {
        return set(Records.scramble(seed, index), index);
    }

    /** Makes this the record of a key. */
    Wide set(long key, long value) {
        this.key = key;
        this.value = value;
        for (int word = 0; word < 10; word++) {
            LONGS.set(payload, word * 8, key * (2L * word + 3));
        }
        INTS.set(payload, 80, (int) (key >>> 32));
        return this;
    }

    /** What the checksum covers: key, value and the last two fields of the payload. */
    long word() {
        long last = (long) LONGS.get(payload, 72);
        long tail = Integer.toUnsignedLong((int) INTS.get(payload, 80));
        return Records.pair(key, value) ^ last ^ tail;
    }

    /** Written by hand, because Flink's own serializers for tuples and POJOs are slower here. */
    static final class Serializer extends TypeSerializerSingleton<Wide> {
        private static final Serializer INSTANCE = new Serializer();

        @Override
        public boolean isImmutableType() {
            return false;
        }

        @Override
        public Wide createInstance() {
            return new Wide();
        }

        @Override
        public Wide copy(Wide from) {
            return copy(from, new Wide());
        }

        @Override
        public Wide copy(Wide from, Wide reuse) {
            reuse.key = from.key;
            reuse.value = from.value;
            System.arraycopy(from.payload, 0, reuse.payload, 0, PAYLOAD);
            return reuse;
        }

        @Override
        public int getLength() {
            return 100;
        }

        @Override
        public void serialize(Wide record, DataOutputView target) throws IOException {
            target.writeLong(record.key);
            target.writeLong(record.value);
            target.write(record.payload, 0, PAYLOAD);
        }

        @Override
        public Wide deserialize(DataInputView source) throws IOException {
            return deserialize(new Wide(), source);
        }

        @Override
        public Wide deserialize(Wide reuse, DataInputView source) throws IOException {
            reuse.key = source.readLong();
            reuse.value = source.readLong();
            source.readFully(reuse.payload, 0, PAYLOAD);
            return reuse;
        }

        @Override
        public void copy(DataInputView source, DataOutputView target) throws IOException {
            target.write(source, 100);
        }

        @Override
        public TypeSerializerSnapshot<Wide> snapshotConfiguration() {
            return new Snapshot();
        }
    }

    /** Names the serializer; nothing is ever restored from it. */
    public static final class Snapshot extends SimpleTypeSerializerSnapshot<Wide> {
        public Snapshot() {
            super(() -> Serializer.INSTANCE);
        }
    }
}
