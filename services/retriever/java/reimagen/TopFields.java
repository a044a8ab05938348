package reimagen;

import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import org.apache.lucene.search.CollectorManager;
import org.apache.lucene.search.FieldDoc;
import org.apache.lucene.search.Sort;
import org.apache.lucene.search.TopFieldCollector;
import org.apache.lucene.search.TopFieldDocs;

/** Makes collectors of the best documents: a static method of Lucene 9 that Lucene 10 replaced by a class. */
final class TopFields {
    private static final MethodHandle MAKE = find();

    private TopFields() {}

    /**
     * Returns a manager of collectors of the first documents in an order.
     *
     * @param limit the maximum number of documents, and the number of hits from which Lucene no longer counts
     */
    static CollectorManager<TopFieldCollector, TopFieldDocs> manager(Sort order, int limit) {
        try {
            @SuppressWarnings("unchecked")
            var manager = (CollectorManager<TopFieldCollector, TopFieldDocs>)
                    (CollectorManager<?, ?>) MAKE.invokeExact(order, limit, (FieldDoc) null, limit);
            return manager;
        } catch (RuntimeException | Error error) {
            throw error;
        } catch (Throwable error) {
            throw new IllegalStateException(error);
        }
    }

    private static MethodHandle find() {
        MethodType made = MethodType.methodType(
                CollectorManager.class, Sort.class, int.class, FieldDoc.class, int.class);
        MethodHandles.Lookup lookup = MethodHandles.lookup();
        try {
            return lookup.findStatic(TopFieldCollector.class, "createSharedManager", made);
        } catch (NoSuchMethodException lucene10) {
            try {
                Class<?> manager = Class.forName("org.apache.lucene.search.TopFieldCollectorManager");
                return lookup.findConstructor(manager, made.changeReturnType(void.class)).asType(made);
            } catch (ReflectiveOperationException error) {
                throw new ExceptionInInitializerError(error);
            }
        } catch (IllegalAccessException error) {
            throw new ExceptionInInitializerError(error);
        }
    }
}
