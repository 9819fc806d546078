import java.io.PrintStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;

/** Runs the cases and tells the driver how they ended. The contract is in ../README.md. */
public final class Suite {
    /** Enough to hide the waiting, few enough that a start on two cores keeps its time limits. */
    private static final int CASES_AT_ONCE = 5;

    interface Case {
        void run(Clients clients) throws Exception;
    }

    /** Cases for what not every release of the client has. */
    interface MoreCases {
        void addTo(Map<String, Case> cases, Names names);
    }

    private final Driver driver;
    private final Names names;
    private final AtomicBoolean allPassed = new AtomicBoolean(true);
    private final ExecutorService closing = Executors.newCachedThreadPool();

    private Suite(Driver driver) {
        this.driver = driver;
        this.names = new Names(driver, System.getenv("BOLIDE_TOPIC_PREFIX"));
    }

    public static void main(String[] args) throws Exception {
        // Stdout belongs to the driver; whatever a library prints goes to the log.
        PrintStream lines = System.out;
        System.setOut(System.err);
        Suite suite = new Suite(new Driver(lines));
        Map<String, Case> cases = suite.independentCases();
        suite.addNewer(cases);
        suite.runTogether(cases);
        suite.runRestarts();
        // Threads of clients still open must not keep the process.
        Runtime.getRuntime().halt(suite.allPassed.get() ? 0 : 1);
    }

    /** Longest first, so that the waiting overlaps. */
    private Map<String, Case> independentCases() {
        RedeliveryCases redelivery = new RedeliveryCases(names);
        DeliveryCases delivery = new DeliveryCases(names);
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("dead_letter", redelivery::deadLetter);
        cases.put("push_failure_redelivers", redelivery::pushFailureRedelivers);
        cases.put("push_consumes", delivery::pushConsumes);
        cases.put("send_receive_ack", delivery::sendReceiveAck);
        cases.put("tag_filter", delivery::tagFilter);
        cases.put("expired_ack_refused", redelivery::expiredAckRefused);
        cases.put("nack_redelivers", redelivery::nackRedelivers);
        cases.put("double_ack", redelivery::doubleAck);
        cases.put("two_topics_one_producer", delivery::twoTopicsOneProducer);
        cases.put("empty_receive", delivery::emptyReceive);
        KindCases kinds = new KindCases(names);
        cases.put("transaction_commit_rollback", kinds::transactionCommitRollback);
        cases.put("fifo_order", kinds::fifoOrder);
        cases.put("sql_filter", kinds::sqlFilter);
        cases.put("redrive", kinds::redrive);
        cases.put("delayed", kinds::delayed);
        return cases;
    }

    /** Compiled only against releases that have the methods. */
    private void addNewer(Map<String, Case> cases) throws ReflectiveOperationException {
        Class<?> newer;
        try {
            newer = Class.forName("NewerCases");
        } catch (ClassNotFoundException absent) {
            return;
        }
        ((MoreCases) newer.getDeclaredConstructor().newInstance()).addTo(cases, names);
    }

    private void runTogether(Map<String, Case> cases) throws Exception {
        ExecutorService running = Executors.newFixedThreadPool(CASES_AT_ONCE);
        List<Future<Future<?>>> ended = new ArrayList<>();
        cases.forEach((name, body) -> ended.add(running.submit(() -> {
            Clients clients = new Clients();
            report(name, () -> body.run(clients));
            return closing.submit(() -> close(name, clients));
        })));
        // No client may be under way when the restarts begin.
        for (Future<Future<?>> end : ended) {
            end.get().get();
        }
        running.shutdown();
    }

    /** These clients end with the process: closing is proven by the others, and would wait for a long poll. */
    private void runRestarts() {
        RestartCases[] survivor = new RestartCases[1];
        report("restart_kill", () -> {
            survivor[0] = new RestartCases(names, driver, new Clients());
            survivor[0].round("kill");
        });
        report("restart_term", () -> {
            Check.that(survivor[0] != null, "the clients did not start");
            survivor[0].round("term");
        });
    }

    private void close(String name, Clients clients) {
        try {
            clients.close();
        } catch (Exception failure) {
            allPassed.set(false);
            System.err.println("closing the clients of " + name + ": " + failure);
        }
    }

    private interface Step {
        void run() throws Exception;
    }

    private void report(String name, Step step) {
        try {
            step.run();
            driver.passed(name);
        } catch (Exception | AssertionError failure) {
            allPassed.set(false);
            failure.printStackTrace();
            driver.failed(name, failure.toString());
        }
    }
}
