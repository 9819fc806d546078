import static java.nio.charset.StandardCharsets.UTF_8;

import java.time.Duration;
import java.util.HashSet;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** The server goes away and returns; the same client objects carry on, through every round. */
final class RestartCases {
    private static final int BATCH = 3;
    private static final Duration LEASE = Duration.ofSeconds(10);
    private static final Duration RECONNECT = Duration.ofSeconds(30);
    private static final Duration ALL = Duration.ofSeconds(60);

    private final Driver driver;
    private final String pulled;
    private final String pushed;
    private final Producer producer;
    private final SimpleConsumer simple;
    private final Queue<MessageView> pushSeen = new ConcurrentLinkedQueue<>();
    /** Bodies whose send failed on the client's side: the server may have stored them or not. */
    private final Set<String> undecided = new HashSet<>();

    RestartCases(Names names, Driver driver, Clients clients) throws Exception {
        this.driver = driver;
        pulled = names.topic("restart");
        pushed = names.topic("restart-push");
        producer = clients.producer(pulled, pushed);
        simple = clients.simple(names.group("restart"), pulled);
        clients.push(names.group("restart-push"), pushed, view -> {
            pushSeen.add(view);
            return ConsumeResult.SUCCESS;
        });
    }

    void round(String how) throws Exception {
        Set<String> pushedBefore = send(pushed, how + "-push-before");
        awaitPush(pushedBefore);

        Set<String> acked = send(pulled, how + "-acked");
        long leased = System.nanoTime();
        for (MessageView view : Check.receive(simple, BATCH, LEASE, RECONNECT)) {
            Check.that(acked.contains(view.getMessageId().toString()), "unexpected message " + view);
            simple.ack(view);
        }
        Set<String> kept = send(pulled, how + "-kept");
        // Time is the condition: a push consumer acks behind its listener's back, and this is one that must
        // have reached the server.
        Thread.sleep(2_000);
        pushSeen.clear();

        driver.restartServer(how);

        Set<String> after = send(pulled, how + "-after");
        Set<String> pushedAfter = send(pushed, how + "-push-after");
        drain(acked, kept, after, leased + LEASE.toNanos());
        awaitPush(pushedAfter);
        for (MessageView view : pushSeen) {
            Check.that(
                    !pushedBefore.contains(view.getMessageId().toString()),
                    "acked before the restart, pushed after it: " + view);
        }
    }

    /**
     * Receives and acks until everything of {@code kept} and {@code after} came, then once more in vain, and not
     * before {@code leaseEnd}: a lost ack would show only then.
     */
    private void drain(Set<String> acked, Set<String> kept, Set<String> after, long leaseEnd) throws Exception {
        Set<String> missing = new HashSet<>(kept);
        missing.addAll(after);
        long deadline = System.nanoTime() + ALL.toNanos();
        boolean idle = false;
        while (!missing.isEmpty() || !idle) {
            Check.that(System.nanoTime() < deadline, missing.size() + " messages did not come within " + ALL);
            var views = Check.retry(RECONNECT, () -> simple.receive(32, LEASE));
            idle = views.isEmpty() && System.nanoTime() > leaseEnd;
            for (MessageView view : views) {
                String id = view.getMessageId().toString();
                Check.that(!acked.contains(id), "acked before the restart, delivered after it: " + view);
                // The client repeats a send by itself, so one of the later messages may be there twice.
                boolean expected = missing.remove(id)
                        || after.contains(id)
                        || undecided.contains(new String(Check.body(view), UTF_8));
                Check.that(expected, "unexpected message " + view);
                Check.retry(RECONNECT, () -> {
                    simple.ack(view);
                    return null;
                });
            }
        }
    }

    private void awaitPush(Set<String> ids) throws Exception {
        Check.eventually(
                ALL,
                () -> {
                    Set<String> seen = new HashSet<>();
                    pushSeen.forEach(view -> seen.add(view.getMessageId().toString()));
                    return seen.containsAll(ids);
                },
                "the push consumer did not get all messages");
    }

    /** Sends a few messages, each for as long as a client may need to find its server; returns their ids. */
    private Set<String> send(String topic, String name) throws Exception {
        Set<String> ids = new HashSet<>();
        int[] attempt = {0};
        for (int n = 0; n < BATCH; n++) {
            String body = name + "-" + n;
            ids.add(Check.retry(RECONNECT, () -> {
                String text = body + "-try" + attempt[0]++;
                try {
                    return Clients.send(producer, topic, text.getBytes(UTF_8));
                } catch (ClientException failure) {
                    undecided.add(text);
                    throw failure;
                }
            }));
        }
        return ids;
    }
}
