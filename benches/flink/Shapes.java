import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.api.common.typeinfo.BasicArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;

/** All shapes of records; {@code shapes.rs} says what each is. */
public final class Shapes {
    private static final VarHandle LONGS =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    private Shapes() {}

    static Shape<?> of(String name) {
        switch (name) {
            case "fixed-16":
                return new Pair();
            case "fixed-100":
                return new Fixed();
            case "fixed-1k":
                return new Block();
            case "numbers-9":
                return new Numbers();
            case "text-16":
                return new Text(16);
            case "text-100":
                return new Text(100);
            case "text-1k":
                return new Text(1_024);
            case "text-64k":
                return new Text(65_536);
            case "text-cyrillic-100":
                return new Cyrillic();
            case "bytes-100":
                return new Bytes(100);
            case "bytes-1k":
                return new Bytes(1_024);
            case "bytes-10k":
                return new Bytes(10_240);
            case "bytes-1m":
                return new Bytes(1 << 20);
            case "bytes-4m":
                return new Bytes(4 << 20);
            case "bytes-in-field":
                return new Uploads();
            case "f64-1k":
                return new Floats(128);
            case "f64-64k":
                return new Floats(8_192);
            case "u64-1k":
                return new Words(128);
            case "texts-8":
                return new Texts();
            case "text-tuple":
                return new TextTuple();
            case "map-8":
                return new Counts();
            case "nested":
                return new Nested();
            case "options":
                return new Options();
            case "enum":
                return new Events();
            default:
                throw new IllegalArgumentException("there is no shape " + name);
        }
    }

    /** Writes a key as 16 hexadecimal digits. */
    private static void hex(long key, byte[] target) {
        for (int digit = 0; digit < 16; digit++) {
            target[digit] = Records.HEX[(int) (key >>> (60 - 4 * digit)) & 15];
        }
    }

    static String hexText(long key) {
        byte[] digits = new byte[16];
        hex(key, digits);
        return new String(digits, StandardCharsets.ISO_8859_1);
    }

    private static int place(long key, int length) {
        return (int) ((key >>> 8) % length);
    }

    /** The word of a text that starts with eight ASCII characters or more. */
    static long textWord(String text) {
        long first = Records.eight(text, 0);
        int length = text.length();
        return Records.pair(first, length) ^ text.charAt(place(first, length));
    }

    private static final class Pair implements Shape<Tuple2<Long, Long>> {
        private final Tuple2<Long, Long> record = Tuple2.of(0L, 0L);

        @Override
        public TypeInformation<Tuple2<Long, Long>> type() {
            return Types.TUPLE(Types.LONG, Types.LONG);
        }

        @Override
        public Tuple2<Long, Long> make(long key) {
            record.f0 = key;
            record.f1 = ~key;
            return record;
        }

        @Override
        public long word(Tuple2<Long, Long> record) {
            return Records.pair(record.f0, record.f1);
        }
    }

    private static final class Fixed implements Shape<Wide> {
        private transient Wide record;

        @Override
        public TypeInformation<Wide> type() {
            return new WideType();
        }

        @Override
        public Wide make(long key) {
            if (record == null) {
                record = new Wide();
            }
            return record.set(key, ~key);
        }

        @Override
        public long word(Wide record) {
            return record.word();
        }
    }

    /** Common to arrays of numbers of 64 bits. */
    private abstract static class Longs implements Shape<long[]> {
        @Override
        public TypeInformation<long[]> type() {
            @SuppressWarnings("unchecked")
            TypeInformation<long[]> type =
                    (TypeInformation<long[]>) Types.PRIMITIVE_ARRAY(Types.LONG);
            return type;
        }

        @Override
        public long word(long[] record) {
            long key = record[0];
            return Records.pair(key, record.length) ^ record[place(key, record.length)];
        }
    }

    private static final class Block extends Longs {
        private final long[] record = new long[128];

        @Override
        public long[] make(long key) {
            Arrays.fill(record, ~key);
            record[0] = key;
            return record;
        }
    }

    private static final class Words extends Longs {
        private final long[] record;

        Words(int length) {
            record = new long[length];
            for (int at = 0; at < length; at++) {
                record[at] = at * Records.GOLDEN;
            }
        }

        @Override
        public long[] make(long key) {
            record[0] = key;
            return record;
        }
    }

    private static final class Floats implements Shape<double[]> {
        private final double[] record;

        Floats(int length) {
            record = new double[length];
            for (int at = 0; at < length; at++) {
                record[at] = at * 0.5 + 1.0;
            }
        }

        @Override
        public TypeInformation<double[]> type() {
            @SuppressWarnings("unchecked")
            TypeInformation<double[]> type =
                    (TypeInformation<double[]>) Types.PRIMITIVE_ARRAY(Types.DOUBLE);
            return type;
        }

        @Override
        public double[] make(long key) {
            record[0] = key >>> 12;
            return record;
        }

        @Override
        public long word(double[] record) {
            long key = (long) record[0];
            double chosen = record[place(key, record.length)];
            return Records.pair(key, record.length) ^ Double.doubleToRawLongBits(chosen);
        }
    }

    private static final class Bytes implements Shape<byte[]> {
        private final int length;
        private transient byte[] record;

        Bytes(int length) {
            this.length = length;
        }

        private byte[] template() {
            byte[] bytes = new byte[length];
            for (int at = 0; at < length; at++) {
                bytes[at] = (byte) (at * 31 + (at >> 8));
            }
            return bytes;
        }

        @Override
        public TypeInformation<byte[]> type() {
            @SuppressWarnings("unchecked")
            TypeInformation<byte[]> type =
                    (TypeInformation<byte[]>) Types.PRIMITIVE_ARRAY(Types.BYTE);
            return type;
        }

        @Override
        public byte[] make(long key) {
            if (record == null) {
                record = template();
            }
            LONGS.set(record, 0, key);
            return record;
        }

        @Override
        public long word(byte[] record) {
            long key = (long) LONGS.get(record, 0);
            return Records.pair(key, record.length) ^ (record[place(key, record.length)] & 255);
        }
    }

    private static final class Text implements Shape<String> {
        private final byte[] record;

        Text(int length) {
            record = new byte[length];
            for (int at = 16; at < length; at++) {
                record[at] = (byte) ('a' + at % 26);
            }
        }

        @Override
        public TypeInformation<String> type() {
            return Types.STRING;
        }

        @Override
        public String make(long key) {
            hex(key, record);
            return new String(record, StandardCharsets.ISO_8859_1);
        }

        @Override
        public long word(String record) {
            return textWord(record);
        }
    }

    private static final class Cyrillic implements Shape<String> {
        private final char[] record = new char[50];

        Cyrillic() {
            for (int at = 16; at < record.length; at++) {
                record[at] = (char) (0x430 + at % 32);
            }
        }

        @Override
        public TypeInformation<String> type() {
            return Types.STRING;
        }

        @Override
        public String make(long key) {
            for (int at = 0; at < 16; at++) {
                record[at] = (char) (0x430 + ((key >>> (60 - 4 * at)) & 15));
            }
            return new String(record);
        }

        @Override
        public long word(String record) {
            long key = 0;
            for (int at = 0; at < 16; at++) {
                key = key << 4 | (record.charAt(at) & 15);
            }
            // Every letter has two bytes on the other side.
            return Records.pair(key, 2L * record.length()) ^ record.charAt(record.length() - 1);
        }
    }

    private static final class Texts implements Shape<String[]> {
        private final String[] record = new String[8];

        @Override
        public TypeInformation<String[]> type() {
            return BasicArrayTypeInfo.STRING_ARRAY_TYPE_INFO;
        }

        @Override
        public String[] make(long key) {
            for (int at = 0; at < record.length; at++) {
                record[at] = hexText(key + at);
            }
            return record;
        }

        @Override
        public long word(String[] record) {
            long word = 0;
            for (String text : record) {
                word = Records.pair(word, textWord(text));
            }
            return word;
        }
    }

    private static final class TextTuple implements Shape<Tuple3<String, String, String>> {
        private final Tuple3<String, String, String> record = Tuple3.of("", "", "");

        @Override
        public TypeInformation<Tuple3<String, String, String>> type() {
            return Types.TUPLE(Types.STRING, Types.STRING, Types.STRING);
        }

        @Override
        public Tuple3<String, String, String> make(long key) {
            record.f0 = hexText(key);
            record.f1 = hexText(~key);
            record.f2 = hexText(key * 3);
            return record;
        }

        @Override
        public long word(Tuple3<String, String, String> record) {
            long first = Records.pair(textWord(record.f0), textWord(record.f1));
            return Records.pair(first, textWord(record.f2));
        }
    }

    private static final class Counts implements Shape<Map<String, Long>> {
        private final HashMap<String, Long> record = new HashMap<>();

        @Override
        public TypeInformation<Map<String, Long>> type() {
            return Types.MAP(Types.STRING, Types.LONG);
        }

        @Override
        public Map<String, Long> make(long key) {
            record.clear();
            for (int at = 0; at < 8; at++) {
                record.put(hexText(key + at), key ^ at);
            }
            return record;
        }

        @Override
        public long word(Map<String, Long> record) {
            long word = 0;
            for (Map.Entry<String, Long> entry : record.entrySet()) {
                word += Records.fold(Records.pair(textWord(entry.getKey()), entry.getValue()));
            }
            return word;
        }
    }

    /** Common to the shapes whose records are POJOs. */
    private abstract static class Pojo<T> implements Shape<T> {
        private final Class<T> type;

        Pojo(Class<T> type) {
            this.type = type;
        }

        @Override
        public TypeInformation<T> type() {
            return Types.POJO(type);
        }
    }

    public static final class Reading {
        public long id;
        public int sensor;
        public short channel;
        public byte flags;
        public boolean valid;
        public long at;
        public int delta;
        public double value;
        public float error;
    }

    private static final class Numbers extends Pojo<Reading> {
        private transient Reading record;

        Numbers() {
            super(Reading.class);
        }

        @Override
        public Reading make(long key) {
            if (record == null) {
                record = new Reading();
            }
            record.id = key;
            record.sensor = (int) key;
            record.channel = (short) (key & 0x7FFF);
            record.flags = (byte) (key & 0x7F);
            record.valid = (key & 1) == 0;
            record.at = key >>> 1;
            record.delta = (int) (key >>> 40);
            record.value = key >>> 12;
            record.error = key >>> 48;
            return record;
        }

        @Override
        public long word(Reading record) {
            long small =
                    Integer.toUnsignedLong(record.sensor)
                            ^ record.channel
                            ^ record.flags
                            ^ (record.valid ? 1 : 0)
                            ^ record.delta;
            long floats =
                    Double.doubleToRawLongBits(record.value)
                            ^ Integer.toUnsignedLong(Float.floatToRawIntBits(record.error));
            return Records.pair(record.id, record.at) ^ small ^ floats;
        }
    }

    public static final class Upload {
        public long id;
        public int part;
        public byte[] content;
    }

    private static final class Uploads extends Pojo<Upload> {
        private final Bytes bytes = new Bytes(1_024);
        private transient Upload record;

        Uploads() {
            super(Upload.class);
        }

        @Override
        public Upload make(long key) {
            if (record == null) {
                record = new Upload();
            }
            record.id = ~key;
            record.part = (int) key;
            record.content = bytes.make(key);
            return record;
        }

        @Override
        public long word(Upload record) {
            long part = Integer.toUnsignedLong(record.part);
            return bytes.word(record.content) ^ Records.pair(record.id, part);
        }
    }

    public static final class Order {
        public long id;
        public Customer customer;
        public List<Item> items;
    }

    public static final class Customer {
        public String name;
        public String country;
        public long since;
    }

    public static final class Item {
        public String article;
        public int count;
        public double price;
    }

    private static final class Nested extends Pojo<Order> {
        Nested() {
            super(Order.class);
        }

        @Override
        public Order make(long key) {
            Order order = new Order();
            order.id = key;
            order.customer = new Customer();
            order.customer.name = hexText(~key);
            order.customer.country = "Iceland!";
            order.customer.since = key >>> 7;
            order.items = new ArrayList<>(3);
            for (int at = 0; at < 3; at++) {
                Item item = new Item();
                item.article = hexText(key + at);
                item.count = at + 1;
                item.price = (key >>> 40) * 0.25;
                order.items.add(item);
            }
            return order;
        }

        @Override
        public long word(Order record) {
            Customer from = record.customer;
            long customer = Records.pair(textWord(from.name), from.since) ^ textWord(from.country);
            long word = Records.pair(record.id, customer);
            for (Item item : record.items) {
                long number = item.count ^ Double.doubleToRawLongBits(item.price);
                word = Records.pair(word, textWord(item.article) ^ number);
            }
            return word;
        }
    }

    public static final class Profile {
        public long id;
        public String name;
        public String mail;
        public Integer age;
        public Long visits;
        public Double score;
        public Boolean active;
        public Long parent;
    }

    private static final class Options extends Pojo<Profile> {
        private transient Profile record;

        Options() {
            super(Profile.class);
        }

        private static boolean has(long key, int bit) {
            return (key >>> bit & 1) == 1;
        }

        @Override
        public Profile make(long key) {
            if (record == null) {
                record = new Profile();
            }
            record.id = key;
            record.name = has(key, 0) ? hexText(key) : null;
            record.mail = has(key, 1) ? hexText(~key) : null;
            record.age = has(key, 2) ? (Integer) ((int) key >>> 25) : null;
            record.visits = has(key, 3) ? (Long) (key >>> 9) : null;
            record.score = has(key, 4) ? (Double) (double) (key >>> 12) : null;
            record.active = has(key, 5) ? (Boolean) has(key, 6) : null;
            record.parent = has(key, 7) ? (Long) ~key : null;
            return record;
        }

        @Override
        public long word(Profile record) {
            long word = record.id;
            word = Records.pair(word, record.name == null ? 1 : textWord(record.name));
            word = Records.pair(word, record.mail == null ? 1 : textWord(record.mail));
            word = Records.pair(word, record.age == null ? 1 : record.age);
            word = Records.pair(word, record.visits == null ? 1 : record.visits);
            word =
                    Records.pair(
                            word,
                            record.score == null ? 1 : Double.doubleToRawLongBits(record.score));
            word = Records.pair(word, record.active == null ? 2 : record.active ? 1 : 0);
            return Records.pair(word, record.parent == null ? 1 : record.parent);
        }
    }

    /** Flink has no sum types: a kind, and the fields of all kinds. */
    public static final class Event {
        public byte kind;
        public int x;
        public int y;
        public long cents;
        public String text;
    }

    private static final class Events extends Pojo<Event> {
        private transient Event record;

        Events() {
            super(Event.class);
        }

        @Override
        public Event make(long key) {
            if (record == null) {
                record = new Event();
            }
            record.kind = (byte) (key & 3);
            record.text = null;
            switch (record.kind) {
                case 0:
                    break;
                case 1:
                    record.x = (int) key;
                    record.y = (int) (key >>> 32);
                    break;
                case 2:
                    record.text = hexText(key);
                    break;
                default:
                    record.cents = key >>> 5;
                    record.text = hexText(~key);
            }
            return record;
        }

        @Override
        public long word(Event record) {
            switch (record.kind) {
                case 0:
                    return Records.pair(0, 0);
                case 1:
                    return Records.pair(1, (long) record.x << 32 | Integer.toUnsignedLong(record.y));
                case 2:
                    return Records.pair(2, textWord(record.text));
                default:
                    return Records.pair(3, record.cents ^ textWord(record.text));
            }
        }
    }
}
