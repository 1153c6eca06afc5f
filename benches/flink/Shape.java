import java.io.Serializable;
import org.apache.flink.api.common.typeinfo.TypeInformation;

/** How records of one shape are made and read, the counterpart of {@code shapes.rs}. */
interface Shape<T> extends Serializable {
    /** The type with the fastest serializer that Flink has for it. */
    TypeInformation<T> type();

    /** The record of a key; the next call may change it, for the exchange serializes at once. */
    T make(long key);

    /** What of a record is in the checksum. */
    long word(T record);
}
