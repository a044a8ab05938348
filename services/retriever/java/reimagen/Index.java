package reimagen;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.apache.lucene.index.BinaryDocValues;
import org.apache.lucene.index.DocValues;
import org.apache.lucene.index.IndexReader;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.index.MultiBits;
import org.apache.lucene.index.MultiReader;
import org.apache.lucene.index.MultiTerms;
import org.apache.lucene.index.PostingsEnum;
import org.apache.lucene.index.ReaderUtil;
import org.apache.lucene.index.SortedDocValues;
import org.apache.lucene.index.Term;
import org.apache.lucene.index.Terms;
import org.apache.lucene.index.TermsEnum;
import org.apache.lucene.search.DocIdSetIterator;
import org.apache.lucene.search.Explanation;
import org.apache.lucene.search.FieldDoc;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.MatchAllDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.ScoreDoc;
import org.apache.lucene.search.Sort;
import org.apache.lucene.search.SortField;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.search.similarities.BM25Similarity;
import org.apache.lucene.util.Bits;
import org.apache.lucene.util.BytesRef;
import org.apache.lucene.util.SmallFloat;

/**
 * An open index of pairs. Each operation is one call from Python, which returns little-endian bytes.
 *
 * <p>Any number of threads may call the methods at the same time. They are static because pyjnius stores the object of
 * a call to an instance method in the method, which all threads share. For a static method it stores nothing, and it
 * releases Python's lock during the call.
 *
 * <p>Lists of terms are strings with a space after each term but the last: no term contains white space.
 */
public final class Index {
    static final String ID = "id";
    static final String ORIGIN = "origin";
    static final String RECORD = "record";
    private static final String LICENSE = "license";
    private static final String CONTENTS = "contents";
    private static final Sort ORDER =
            new Sort(SortField.FIELD_SCORE, new SortField(ID, SortField.Type.STRING_VAL));

    private final IndexReader reader;
    private final IndexSearcher searcher;
    private final Parts parts;
    private final SharedTexts[] origins;
    private final SharedTexts[] licenses;

    private Index(IndexReader reader, float k1, float b, int cores, int smallestPart) {
        this.reader = reader;
        searcher = new IndexSearcher(reader);
        searcher.setSimilarity(new BM25Similarity(k1, b));
        parts = new Parts(searcher, cores, smallestPart);
        int leaves = reader.leaves().size();
        origins = Stream.generate(SharedTexts::new).limit(leaves).toArray(SharedTexts[]::new);
        licenses = Stream.generate(SharedTexts::new).limit(leaves).toArray(SharedTexts[]::new);
    }

    /**
     * Returns the index of one reader, or the union of several. Closing the readers is up to the caller.
     *
     * @param cores the maximum number of threads that search at the same time
     * @param smallestPart the minimum number of documents for a thread
     */
    public static Index over(IndexReader[] readers, float k1, float b, int cores, int smallestPart)
            throws IOException {
        IndexReader all = readers.length == 1 ? readers[0] : new MultiReader(readers, false);
        return new Index(all, k1, b, cores, smallestPart);
    }

    /**
     * Returns the best documents by BM25 of a bag of words, ties in the byte order of their ids, as {@link #pack} does.
     *
     * @param required alternatives, one per line, of which a document must have all terms of at least one; null: none
     * @param filter a result of {@link Queries#filter}
     * @param depth the maximum number of documents
     */
    public static byte[] search(Index index, String terms, String required, Query filter, int depth)
            throws IOException {
        Query query = Queries.bagOfWords(CONTENTS, terms);
        Query requirement = required == null ? null : Queries.requirement(CONTENTS, required);
        ScoreDoc[] hits = index.best(Queries.restricted(query, requirement, filter), depth);
        int[] numbers = new int[hits.length];
        float[] scores = new float[hits.length];
        for (int i = 0; i < hits.length; i++) {
            numbers[i] = hits[i].doc;
            scores[i] = (Float) ((FieldDoc) hits[i]).fields[0];
        }
        return index.pack(numbers, scores);
    }

    /**
     * Returns the results of {@link #search} with many queries, one after the other, each after its size in bytes (32
     * bits). The arrays have an element for each query.
     */
    public static byte[] searchAll(Index index, String[] terms, String[] required, Query[] filters, int[] depths)
            throws IOException {
        byte[][] found = new byte[terms.length][];
        index.parts.forEach(terms.length, number ->
                found[number] = search(index, terms[number], required[number], filters[number], depths[number]));
        int size = 0;
        for (byte[] each : found) {
            size = Math.addExact(size, Integer.BYTES + each.length);
        }
        ByteBuffer packed = littleEndian(new byte[size]);
        for (byte[] each : found) {
            packed.putInt(each.length).put(each);
        }
        return packed.array();
    }

    /**
     * Returns the first documents of which a field has any of the values, as {@link #pack} does.
     *
     * @param field null: all documents
     * @param filter a result of {@link Queries#filter}
     */
    public static byte[] find(Index index, String field, String[] values, Query filter, int limit)
            throws IOException {
        Query query = field == null ? new MatchAllDocsQuery() : Queries.anyOf(field, values);
        FirstDocuments first = new FirstDocuments(limit);
        index.searcher.search(Queries.restricted(query, null, filter), first);
        return index.pack(first.numbers(), null);
    }

    /** Returns the first of the documents with these packed numbers that are not removed, as {@link #pack} does. */
    public static byte[] documents(Index index, byte[] packed, int limit) throws IOException {
        ByteBuffer numbers = littleEndian(packed);
        Bits live = MultiBits.getLiveDocs(index.reader);
        int[] found = new int[Math.min(limit, packed.length / Integer.BYTES)];
        int count = 0;
        while (count < found.length && numbers.hasRemaining()) {
            int number = numbers.getInt();
            if (live == null || live.get(number)) {
                found[count++] = number;
            }
        }
        return index.pack(Arrays.copyOf(found, count), null);
    }

    /** Returns the first documents whose ids come after an id, in byte order, as {@link #pack} does. */
    public static byte[] following(Index index, String id, int limit) throws IOException {
        int[] found = new int[limit];
        int count = 0;
        Terms terms = MultiTerms.getTerms(index.reader, ID);
        if (terms != null) {
            Bits live = MultiBits.getLiveDocs(index.reader);
            BytesRef before = new BytesRef(id);
            TermsEnum ids = terms.iterator();
            BytesRef next = ids.seekCeil(before) == TermsEnum.SeekStatus.END ? null : ids.term();
            for (; next != null && count < limit; next = ids.next()) {
                int[] documents = next.equals(before) ? new int[0] : live(ids, live, 1);
                if (documents.length > 0) {
                    found[count++] = documents[0];
                }
            }
        }
        return index.pack(Arrays.copyOf(found, count), null);
    }

    /** Returns an id that several documents have, or null. */
    public static String sharedId(Index index) throws IOException {
        Terms terms = MultiTerms.getTerms(index.reader, ID);
        if (terms == null) {
            return null;
        }
        Bits live = MultiBits.getLiveDocs(index.reader);
        TermsEnum ids = terms.iterator();
        for (BytesRef id = ids.next(); id != null; id = ids.next()) {
            if (ids.docFreq() > 1 && live(ids, live, 2).length > 1) {
                return id.utf8ToString();
            }
        }
        return null;
    }

    /**
     * Returns what BM25 scores depend on: the number of documents and of all their terms (64 bits each), the 256
     * lengths that Lucene distinguishes, and the document frequency of each of some terms (32 bits each).
     */
    public static byte[] statistics(Index index, String terms) throws IOException {
        List<String> asked = Queries.split(terms, ' ');
        ByteBuffer packed = littleEndian(new byte[2 * Long.BYTES + (256 + asked.size()) * Integer.BYTES]);
        packed.putLong(index.reader.getDocCount(CONTENTS)).putLong(index.reader.getSumTotalTermFreq(CONTENTS));
        for (int norm = 0; norm < 256; norm++) {
            packed.putInt(SmallFloat.byte4ToInt((byte) norm));
        }
        for (String term : asked) {
            packed.putInt(index.reader.docFreq(new Term(CONTENTS, term)));
        }
        return packed.array();
    }

    /** Returns for each term its score, idf and tf in a document (64 bits each), or zeros if the document lacks it. */
    public static byte[] explain(Index index, String terms, int document) throws IOException {
        List<String> asked = Queries.split(terms, ' ');
        ByteBuffer packed = littleEndian(new byte[asked.size() * 3 * Double.BYTES]);
        for (String term : asked) {
            Explanation explanation = index.searcher.explain(new TermQuery(new Term(CONTENTS, term)), document);
            double idf = 0;
            double tf = 0;
            if (explanation.isMatch()) {
                for (Explanation factor : explanation.getDetails()[0].getDetails()) {
                    // Lucene describes the factors as "idf, computed as ..." and "tf, computed as ...".
                    idf = factor.getDescription().startsWith("idf,") ? factor.getValue().doubleValue() : idf;
                    tf = factor.getDescription().startsWith("tf,") ? factor.getValue().doubleValue() : tf;
                }
            }
            packed.putDouble(explanation.getValue().doubleValue()).putDouble(idf).putDouble(tf);
        }
        return packed.array();
    }

    private ScoreDoc[] best(Query query, int depth) throws IOException {
        int limit = Math.max(1, Math.min(depth, reader.maxDoc()));
        // As soon as there are enough hits, skip documents that cannot be among the best, instead of counting them.
        return parts.search(query, TopFields.manager(ORDER, limit)).scoreDocs;
    }

    /** Returns the first documents, at most limit, of the current term that are not removed. */
    private static int[] live(TermsEnum terms, Bits live, int limit) throws IOException {
        int[] found = new int[limit];
        int count = 0;
        PostingsEnum postings = terms.postings(null, PostingsEnum.NONE);
        for (int number = postings.nextDoc();
                number != DocIdSetIterator.NO_MORE_DOCS && count < limit;
                number = postings.nextDoc()) {
            if (live == null || live.get(number)) {
                found[count++] = number;
            }
        }
        return Arrays.copyOf(found, count);
    }

    /**
     * Returns the number of documents, their numbers, their scores, the lengths of their pairs (32 bits each), and these
     * pairs, as {@link #pairs} does.
     *
     * @param scores null: zeros
     */
    private byte[] pack(int[] numbers, float[] scores) throws IOException {
        byte[][] pairs = pairs(numbers);
        int size = (1 + 3 * numbers.length) * Integer.BYTES;
        for (byte[] pair : pairs) {
            size += pair.length;
        }
        ByteBuffer packed = littleEndian(new byte[size]).putInt(numbers.length);
        for (int number : numbers) {
            packed.putInt(number);
        }
        for (int i = 0; i < numbers.length; i++) {
            packed.putFloat(scores == null ? 0 : scores[i]);
        }
        for (byte[] pair : pairs) {
            packed.putInt(pair.length);
        }
        for (byte[] pair : pairs) {
            packed.put(pair);
        }
        return packed.array();
    }

    /** Returns for each document the lengths of its id, origin and license (16 bits each), these texts, and its record. */
    private byte[][] pairs(int[] numbers) throws IOException {
        // Doc values can only be read forward.
        long[] ascending = new long[numbers.length];
        for (int i = 0; i < numbers.length; i++) {
            ascending[i] = (long) numbers[i] << Integer.SIZE | i;
        }
        Arrays.sort(ascending);
        byte[][] pairs = new byte[numbers.length][];
        List<LeafReaderContext> leaves = reader.leaves();
        LeafReaderContext leaf = null;
        BinaryDocValues records = null;
        BinaryDocValues ids = null;
        SortedDocValues itsOrigin = null;
        SortedDocValues itsLicense = null;
        for (long each : ascending) {
            int number = (int) (each >>> Integer.SIZE);
            if (leaf == null || number >= leaf.docBase + leaf.reader().maxDoc()) {
                leaf = leaves.get(ReaderUtil.subIndex(number, leaves));
                records = DocValues.getBinary(leaf.reader(), RECORD);
                ids = DocValues.getBinary(leaf.reader(), ID);
                itsOrigin = DocValues.getSorted(leaf.reader(), ORIGIN);
                itsLicense = DocValues.getSorted(leaf.reader(), LICENSE);
            }
            int document = number - leaf.docBase;
            if (!records.advanceExact(document)
                    || !ids.advanceExact(document)
                    || !itsOrigin.advanceExact(document)
                    || !itsLicense.advanceExact(document)) {
                throw new IllegalStateException("document " + number + " is no pair");
            }
            byte[] origin = origins[leaf.ord].get(itsOrigin);
            byte[] license = licenses[leaf.ord].get(itsLicense);
            BytesRef id = ids.binaryValue();
            BytesRef record = records.binaryValue();
            byte[] pair = new byte[3 * Short.BYTES + id.length + origin.length + license.length + record.length];
            littleEndian(pair)
                    .putShort((short) id.length)
                    .putShort((short) origin.length)
                    .putShort((short) license.length)
                    .put(id.bytes, id.offset, id.length)
                    .put(origin)
                    .put(license)
                    .put(record.bytes, record.offset, record.length);
            pairs[(int) each] = pair;
        }
        return pairs;
    }

    private static ByteBuffer littleEndian(byte[] bytes) {
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }
}
