package reimagen;

import java.io.IOException;
import java.io.StringReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.document.IntPoint;
import org.apache.lucene.document.SortedDocValuesField;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.BooleanClause.Occur;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.BoostQuery;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.TermInSetQuery;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.util.BytesRef;

/** Makes terms and queries. The methods are static for the same reason as those of {@link Index}. */
public final class Queries {
    private Queries() {}

    /**
     * Returns a filter with the conditions of Python's Filters, or null if it has none.
     *
     * @param origins the origins of the prefixes of sources, see Python's records
     * @param rests the rests of these prefixes
     */
    public static Query filter(
            String[] licenses,
            String[] origins,
            String[] rests,
            int minimumSide,
            boolean safeOnly,
            String[] excludedIds) {
        BooleanQuery.Builder filter = new BooleanQuery.Builder();
        if (licenses.length > 0) {
            filter.add(anyOf("license", licenses), Occur.FILTER);
        }
        if (origins.length > 0) {
            BooleanQuery.Builder prefixes = new BooleanQuery.Builder();
            for (int i = 0; i < origins.length; i++) {
                addSources(prefixes, origins[i], rests[i]);
            }
            filter.add(prefixes.build(), Occur.FILTER);
        }
        if (minimumSide > 0) {
            filter.add(IntPoint.newRangeQuery("side", minimumSide, Integer.MAX_VALUE), Occur.FILTER);
        }
        if (safeOnly) {
            filter.add(new TermQuery(new Term("unsafe", "1")), Occur.MUST_NOT);
        }
        if (excludedIds.length > 0) {
            filter.add(anyOf(Index.ID, excludedIds), Occur.MUST_NOT);
        }
        BooleanQuery built = filter.build();
        return built.clauses().isEmpty() ? null : built;
    }

    /** Returns the terms of a text. */
    public static String terms(Analyzer analyzer, String text) throws IOException {
        StringBuilder terms = new StringBuilder();
        try (TokenStream tokens = analyzer.tokenStream(null, new StringReader(text))) {
            CharTermAttribute term = tokens.addAttribute(CharTermAttribute.class);
            tokens.reset();
            while (tokens.incrementToken()) {
                if (term.length() > 0) {
                    terms.append(terms.length() > 0 ? " " : "").append(term);
                }
            }
            tokens.end();
        }
        return terms.toString();
    }

    /** Returns a query whose score is the sum over all terms, as Anserini's BagOfWordsQueryGenerator makes it. */
    static Query bagOfWords(String field, String terms) {
        Map<String, Float> counts = new LinkedHashMap<>();
        for (String term : split(terms, ' ')) {
            counts.put(term, counts.getOrDefault(term, 0f) + 1);
        }
        BooleanQuery.Builder query = new BooleanQuery.Builder();
        for (Map.Entry<String, Float> each : counts.entrySet()) {
            query.add(new BoostQuery(new TermQuery(new Term(field, each.getKey())), each.getValue()), Occur.SHOULD);
        }
        return query.build();
    }

    /**
     * Returns a query that finds the documents with all terms of at least one alternative, each of which is a line.
     *
     * <p>It has no TermQuery. Where a term query is both a filter and an optional clause, Lucene 10 makes it a
     * required clause, and adds the scores of required and optional clauses in 32 bits instead of 64. Scores would
     * then depend on what is required.
     */
    static Query requirement(String field, String required) {
        List<String> single = new ArrayList<>();
        BooleanQuery.Builder alternatives = new BooleanQuery.Builder();
        for (String alternative : split(required, '\n')) {
            List<String> terms = split(alternative, ' ');
            if (terms.size() == 1) {
                single.add(alternative);
            } else {
                BooleanQuery.Builder together = new BooleanQuery.Builder();
                for (String term : terms) {
                    together.add(anyOf(field, new String[] {term}), Occur.FILTER);
                }
                alternatives.add(together.build(), Occur.SHOULD);
            }
        }
        Query anyOfSingle = single.isEmpty() ? new MatchNoDocsQuery() : anyOf(field, single.toArray(new String[0]));
        return alternatives.add(anyOfSingle, Occur.SHOULD).build();
    }

    /** Returns a query with the same scores, without the documents that do not meet the requirement and the filter. */
    static Query restricted(Query query, Query requirement, Query filter) {
        if (requirement == null && filter == null) {
            return query;
        }
        BooleanQuery.Builder restricted = new BooleanQuery.Builder();
        restricted.add(query, Occur.MUST);
        if (requirement != null) {
            restricted.add(requirement, Occur.FILTER);
        }
        if (filter != null) {
            for (BooleanClause clause : ((BooleanQuery) filter).clauses()) {
                restricted.add(clause);
            }
        }
        return restricted.build();
    }

    /** Returns a query that finds the documents whose field has one of the values. */
    static Query anyOf(String field, String[] values) {
        List<BytesRef> found = new ArrayList<>();
        for (String value : values) {
            found.add(new BytesRef(value));
        }
        return new TermInSetQuery(field, found);
    }

    /** Adds queries that together find the documents whose source begins with the origin and the rest. */
    private static void addSources(BooleanQuery.Builder prefixes, String origin, String rest) {
        BytesRef exact = new BytesRef(origin);
        BooleanQuery.Builder both = new BooleanQuery.Builder();
        both.add(SortedDocValuesField.newSlowRangeQuery(Index.ORIGIN, exact, exact, true, true), Occur.FILTER);
        if (!rest.isEmpty()) {
            both.add(SourceRest.startsWith(rest), Occur.FILTER);
        }
        prefixes.add(both.build(), Occur.SHOULD);
        if (origin.isEmpty()) {
            // The prefix may also be the beginning of an origin. In UTF-8, no character has the byte 255.
            BytesRef first = new BytesRef(rest);
            BytesRef after = new BytesRef(Arrays.copyOf(first.bytes, first.length + 1));
            after.bytes[first.length] = (byte) 0xFF;
            prefixes.add(
                    SortedDocValuesField.newSlowRangeQuery(Index.ORIGIN, first, after, true, false), Occur.SHOULD);
        }
    }

    static List<String> split(String text, char separator) {
        List<String> parts = new ArrayList<>();
        for (int start = 0; start < text.length(); ) {
            int end = text.indexOf(separator, start);
            end = end < 0 ? text.length() : end;
            parts.add(text.substring(start, end));
            start = end + 1;
        }
        return parts;
    }
}
