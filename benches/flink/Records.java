import java.nio.charset.StandardCharsets;

/**
 * The generator and the checksum, the same as {@code records.rs}: record {@code i} of a run is a
 * function of {@code i} and the seed alone, whichever subtask makes it.
 */
final class Records {
    static final long GOLDEN = 0x9E3779B97F4A7C15L;
    private static final long PAIR = 0xD6E8FEB86659FD93L;

    /** A power of two. */
    static final long DISORDER_MS = 64;

    static final byte[] HEX = "0123456789abcdef".getBytes(StandardCharsets.ISO_8859_1);

    private Records() {}

    /** SplitMix64 of a counter. */
    static long scramble(long seed, long index) {
        long z = (index + seed) * GOLDEN;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    /** A key below {@code keys}, which is less than 2^31. */
    static long key(long seed, long index, long keys) {
        return ((scramble(seed, index) >>> 32) * keys) >>> 32;
    }

    /** The event time of a number of the interval join. */
    static long disorderedTime(long seed, long index, long each, long sources) {
        long inOrder = 10 * (index % each * sources / 2000 * 2);
        return inOrder + (scramble(seed, index) & (DISORDER_MS - 1));
    }

    /** What one record adds to the checksum; the sum of it does not depend on the order. */
    static long fold(long word) {
        long hash = word * GOLDEN;
        return hash ^ (hash >>> 32);
    }

    /** Two words of a record as one. */
    static long pair(long first, long second) {
        return first * PAIR + second;
    }

    /** Writes 36 characters that stand for a key, in the form of a UUID. */
    static void text(long key, byte[] target) {
        long high = scramble(0, key);
        digits(high, 0, 8, target, 0);
        digits(high, 8, 4, target, 9);
        digits(high, 12, 4, target, 14);
        long low = scramble(0, high);
        digits(low, 0, 4, target, 19);
        digits(low, 4, 12, target, 24);
        for (int at = 8; at < 24; at += 5) {
            target[at] = '-';
        }
    }

    private static void digits(long word, int from, int count, byte[] target, int at) {
        for (int digit = 0; digit < count; digit++) {
            target[at + digit] = HEX[(int) (word >>> (60 - 4 * (from + digit))) & 15];
        }
    }

    /** The first 8 characters of a text and its last 8 as one word. */
    static long ends(String text) {
        return pair(eight(text, 0), eight(text, text.length() - 8));
    }

    /** Eight characters of one byte each as a number, the first is the lowest. */
    static long eight(String text, int from) {
        long word = 0;
        for (int at = 0; at < 8; at++) {
            word |= (long) text.charAt(from + at) << (8 * at);
        }
        return word;
    }

    /** FNV-1a of a word that holds ASCII only. */
    static long hash(String word) {
        long hash = 0xCBF29CE484222325L;
        for (int i = 0; i < word.length(); i++) {
            hash = (hash ^ word.charAt(i)) * 0x100000001B3L;
        }
        return hash;
    }
}
