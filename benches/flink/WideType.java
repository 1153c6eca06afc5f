import org.apache.flink.api.common.serialization.SerializerConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeutils.TypeSerializer;

/** Tells Flink to use the serializer of {@link Wide}. */
final class WideType extends TypeInformation<Wide> {
    @Override
    public boolean isBasicType() {
        return false;
    }

    @Override
    public boolean isTupleType() {
        return false;
    }

    @Override
    public int getArity() {
        return 1;
    }

    @Override
    public int getTotalFields() {
        return 1;
    }

    @Override
    public Class<Wide> getTypeClass() {
        return Wide.class;
    }

    @Override
    public boolean isKeyType() {
        return false;
    }

    @Override
    public TypeSerializer<Wide> createSerializer(SerializerConfig config) {
        return new Wide.Serializer();
    }

    @Override
    public String toString() {
        return "Wide";
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof WideType;
    }

    @Override
    public int hashCode() {
        return WideType.class.hashCode();
    }

    @Override
    public boolean canEqual(Object other) {
        return other instanceof WideType;
    }
}
