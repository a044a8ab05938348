package reimagen;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.search.BulkScorer;
import org.apache.lucene.search.CollectionTerminatedException;
import org.apache.lucene.search.Collector;
import org.apache.lucene.search.CollectorManager;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.LeafCollector;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.Weight;

/**
 * Searches with many queries, or ranges of documents of a large index, on the cores that no other search uses.
 *
 * <p>Lucene's own executor searches whole segments, but a built base has one segment.
 */
final class Parts {
    private static final ExecutorService POOL = Executors.newCachedThreadPool(Parts::daemon);

    private final IndexSearcher searcher;
    private final int smallest;
    private final Semaphore cores;

    /**
     * @param cores the maximum number of threads that search
     * @param smallest the minimum number of documents of a part
     */
    Parts(IndexSearcher searcher, int cores, int smallest) {
        this.searcher = searcher;
        this.smallest = smallest;
        this.cores = new Semaphore(cores);
    }

    /** Returns the same result as IndexSearcher's method of this name. */
    <C extends Collector, T> T search(Query query, CollectorManager<C, T> manager) throws IOException {
        int documents = searcher.getIndexReader().maxDoc();
        boolean own = cores.tryAcquire();
        int others = own ? others(documents / smallest - 1) : 0;
        try {
            return others == 0 ? searcher.search(query, manager) : search(query, manager, documents, others + 1);
        } finally {
            cores.release(others + (own ? 1 : 0));
        }
    }

    /** The search with one of many queries. */
    interface Task {
        void run(int number) throws IOException;
    }

    /** Runs a task for each number below a limit, on the caller's thread and others. After an error, some may not run. */
    void forEach(int limit, Task task) throws IOException {
        AtomicInteger next = new AtomicInteger();
        boolean own = cores.tryAcquire();
        int others = others(limit - 1);
        List<Future<?>> started = new ArrayList<>();
        try {
            for (int other = 0; other < others; other++) {
                started.add(POOL.submit(() -> {
                    runAll(next, limit, task);
                    return null;
                }));
            }
            runAll(next, limit, task);
        } finally {
            try {
                awaitAll(started);
            } finally {
                cores.release(others + (own ? 1 : 0));
            }
        }
    }

    private static void runAll(AtomicInteger next, int limit, Task task) throws IOException {
        boolean complete = false;
        try {
            for (int number = next.getAndIncrement(); number < limit; number = next.getAndIncrement()) {
                task.run(number);
            }
            complete = true;
        } finally {
            if (!complete) {
                next.set(limit);
            }
        }
    }

    private int others(int wanted) {
        int acquired = 0;
        while (acquired < wanted && cores.tryAcquire()) {
            acquired++;
        }
        return acquired;
    }

    private <C extends Collector, T> T search(Query query, CollectorManager<C, T> manager, int documents, int parts)
            throws IOException {
        List<C> collectors = new ArrayList<>();
        for (int part = 0; part < parts; part++) {
            collectors.add(manager.newCollector());
        }
        Weight weight = searcher.createWeight(searcher.rewrite(query), collectors.get(0).scoreMode(), 1);
        List<Future<?>> started = new ArrayList<>();
        try {
            for (int part = 1; part < parts; part++) {
                int number = part;
                started.add(POOL.submit(() -> {
                    int last = start(documents, number + 1, parts);
                    collect(weight, collectors.get(number), start(documents, number, parts), last);
                    return null;
                }));
            }
            collect(weight, collectors.get(0), 0, start(documents, 1, parts));
        } finally {
            awaitAll(started);
        }
        return manager.reduce(collectors);
    }

    private void collect(Weight weight, Collector collector, int from, int to) throws IOException {
        for (LeafReaderContext leaf : searcher.getLeafContexts()) {
            int first = Math.max(from - leaf.docBase, 0);
            int last = Math.min(to - leaf.docBase, leaf.reader().maxDoc());
            BulkScorer scorer = first < last ? weight.bulkScorer(leaf) : null;
            if (scorer != null) {
                LeafCollector leafCollector = collector.getLeafCollector(leaf);
                try {
                    scorer.score(leafCollector, leaf.reader().getLiveDocs(), first, last);
                } catch (CollectionTerminatedException enough) {
                    // The rest of this segment cannot be among the best.
                }
                leafCollector.finish();
            }
        }
    }

    private static int start(int documents, int part, int parts) {
        return (int) ((long) documents * part / parts);
    }

    /** Waits for all threads, also after an error of one: the caller may close the index then. */
    private static void awaitAll(List<Future<?>> started) throws IOException {
        IOException failure = null;
        for (Future<?> each : started) {
            try {
                each.get();
            } catch (ExecutionException error) {
                failure = new IOException(error.getCause());
            } catch (InterruptedException error) {
                failure = new IOException(error);
            }
        }
        if (failure != null) {
            throw failure;
        }
    }

    private static Thread daemon(Runnable work) {
        Thread thread = new Thread(work, "search");
        thread.setDaemon(true);
        return thread;
    }
}
