package reimagen;

import java.io.IOException;
import java.util.Arrays;
import org.apache.lucene.index.BinaryDocValues;
import org.apache.lucene.index.DocValues;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.queries.function.FunctionMatchQuery;
import org.apache.lucene.search.DoubleValues;
import org.apache.lucene.search.DoubleValuesSource;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.util.BytesRef;

/** The value 1 for the documents whose source goes on with a text after its origin, and 0 for others. */
final class SourceRest extends DoubleValuesSource {
    private final byte[] prefix;

    private SourceRest(BytesRef prefix) {
        this.prefix = Arrays.copyOfRange(prefix.bytes, prefix.offset, prefix.offset + prefix.length);
    }

    /** Returns a query that finds these documents. It reads the record of each document that is asked for. */
    static Query startsWith(String prefix) {
        return new FunctionMatchQuery(new SourceRest(new BytesRef(prefix)), value -> value > 0);
    }

    /** Returns what a record begins with: the rest of the source, after its length (16 bits). */
    private static BytesRef rest(BytesRef record) {
        byte[] bytes = record.bytes;
        int length = Byte.toUnsignedInt(bytes[record.offset]) | Byte.toUnsignedInt(bytes[record.offset + 1]) << 8;
        return new BytesRef(bytes, record.offset + Short.BYTES, length);
    }

    @Override
    public DoubleValues getValues(LeafReaderContext context, DoubleValues scores) throws IOException {
        BinaryDocValues records = DocValues.getBinary(context.reader(), Index.RECORD);
        return new DoubleValues() {
            @Override
            public boolean advanceExact(int document) throws IOException {
                return records.advanceExact(document);
            }

            @Override
            public double doubleValue() throws IOException {
                BytesRef rest = rest(records.binaryValue());
                int end = rest.offset + Math.min(rest.length, prefix.length);
                return Arrays.equals(rest.bytes, rest.offset, end, prefix, 0, prefix.length) ? 1 : 0;
            }
        };
    }

    @Override
    public boolean needsScores() {
        return false;
    }

    @Override
    public DoubleValuesSource rewrite(IndexSearcher searcher) {
        return this;
    }

    @Override
    public boolean isCacheable(LeafReaderContext context) {
        return true;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof SourceRest && Arrays.equals(prefix, ((SourceRest) other).prefix);
    }

    @Override
    public int hashCode() {
        return Arrays.hashCode(prefix);
    }

    @Override
    public String toString() {
        return "rest of the source starts with " + new BytesRef(prefix).utf8ToString();
    }
}
