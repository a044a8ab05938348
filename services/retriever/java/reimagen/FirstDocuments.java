package reimagen;

import java.util.Arrays;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.search.CollectionTerminatedException;
import org.apache.lucene.search.ScoreMode;
import org.apache.lucene.search.SimpleCollector;

/** Collects the numbers of the first documents that a query finds, up to a limit. */
final class FirstDocuments extends SimpleCollector {
    private final int limit;
    private int[] numbers = new int[16];
    private int count;
    private int base;

    FirstDocuments(int limit) {
        this.limit = limit;
    }

    int[] numbers() {
        return Arrays.copyOf(numbers, count);
    }

    @Override
    public ScoreMode scoreMode() {
        return ScoreMode.COMPLETE_NO_SCORES;
    }

    @Override
    protected void doSetNextReader(LeafReaderContext context) {
        base = context.docBase;
    }

    @Override
    public void collect(int number) {
        if (count == limit) {
            throw new CollectionTerminatedException();
        }
        if (count == numbers.length) {
            numbers = Arrays.copyOf(numbers, 2 * count);
        }
        numbers[count++] = base + number;
    }
}
