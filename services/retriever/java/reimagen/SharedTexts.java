package reimagen;

import java.io.IOException;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.lucene.index.SortedDocValues;
import org.apache.lucene.util.BytesRef;

/** Texts that documents of a segment share. Those that were read remain in memory: Lucene decompresses 64 at a time. */
final class SharedTexts {
    private static final int MOST = 65_536;

    private final Map<Integer, byte[]> read = new ConcurrentHashMap<>();

    /** Returns the text of the document to which the values were advanced. */
    byte[] get(SortedDocValues values) throws IOException {
        int place = values.ordValue();
        byte[] text = read.get(place);
        if (text == null) {
            text = BytesRef.deepCopyOf(values.lookupOrd(place)).bytes;
            if (read.size() < MOST) {
                read.put(place, text);
            }
        }
        return text;
    }
}
