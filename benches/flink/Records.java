/**
 * The generator and the checksum, the same as {@code records.rs}: record {@code i} of a run is a
 * function of {@code i} and the seed alone, whichever subtask makes it.
 */
final class Records {
    static final long GOLDEN = 0x9E3779B97F4A7C15L;
    private static final long PAIR = 0xD6E8FEB86659FD93L;

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

    /** What one record adds to the checksum; the sum of it does not depend on the order. */
    static long fold(long word) {
        long hash = word * GOLDEN;
        return hash ^ (hash >>> 32);
    }

    /** Two words of a record as one. */
    static long pair(long first, long second) {
        return first * PAIR + second;
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
