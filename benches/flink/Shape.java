import java.io.Serializable;
import org.apache.flink.api.common.typeinfo.TypeInformation;

/** A way to make records and to read them, the counterpart of {@code shapes.rs}. */
interface Shape<T> extends Serializable {
    /** The type with the fastest serializer that Flink has for it. */
    TypeInformation<T> type();

    /** The record of a key; the next call may change it, for the exchange serializes at once. */
    T make(long key);

    /** The part of a record that is in the checksum. */
    long word(T record);
}
