import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Random;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** Expectations, and the loops that wait for them. */
final class Check {
    private Check() {}

    /** Code of an answer to a receipt handle whose lease is over. */
    static final int INVALID_RECEIPT_HANDLE = 40013;

    static void that(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    static void equal(Object expected, Object actual, String what) {
        that(Objects.equals(expected, actual), what + ": expected " + expected + ", got " + actual);
    }

    static void sameBody(byte[] expected, MessageView view) {
        byte[] actual = body(view);
        that(
                Arrays.equals(expected, actual),
                "body of " + view.getMessageId() + " differs: " + expected.length + " bytes sent, " + actual.length
                        + " received, first difference at " + Arrays.mismatch(expected, actual));
    }

    static byte[] body(MessageView view) {
        ByteBuffer buffer = view.getBody().duplicate();
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        return bytes;
    }

    static byte[] randomBytes(int length, long seed) {
        byte[] bytes = new byte[length];
        new Random(seed).nextBytes(bytes);
        return bytes;
    }

    /** Receives until {@code count} messages have come; fails when {@code within} is over. */
    static List<MessageView> receive(SimpleConsumer consumer, int count, Duration lease, Duration within)
            throws ClientException {
        long deadline = System.nanoTime() + within.toNanos();
        List<MessageView> views = new ArrayList<>();
        while (views.size() < count && System.nanoTime() < deadline) {
            views.addAll(consumer.receive(32, lease));
        }
        equal(count, views.size(), "messages received within " + within);
        return views;
    }

    static MessageView receiveOne(SimpleConsumer consumer, Duration lease, Duration within) throws ClientException {
        return receive(consumer, 1, lease, within).get(0);
    }

    /** Polls for at least {@code span}; any message is a failure. */
    static void receivesNothing(SimpleConsumer consumer, Duration lease, Duration span, String why)
            throws ClientException {
        long until = System.nanoTime() + span.toNanos();
        do {
            List<MessageView> views = consumer.receive(32, lease);
            that(views.isEmpty(), why + ", yet received " + views);
        } while (System.nanoTime() < until);
    }

    static void ackRefused(SimpleConsumer consumer, MessageView view, String which) {
        try {
            consumer.ack(view);
        } catch (ClientException refusal) {
            that(
                    refusal.toString().contains("response-code=" + INVALID_RECEIPT_HANDLE),
                    which + " was refused with another code: " + refusal);
            return;
        }
        throw new AssertionError(which + " was accepted");
    }

    /** Waits until {@code condition} holds; fails with {@code otherwise} when {@code within} is over. */
    static void eventually(Duration within, Callable<Boolean> condition, String otherwise) throws Exception {
        long deadline = System.nanoTime() + within.toNanos();
        while (!condition.call()) {
            that(System.nanoTime() < deadline, otherwise + " within " + within);
            Thread.sleep(20);
        }
    }

    /** Repeats {@code action} until it succeeds; what it threw last is thrown on when {@code within} is over. */
    static <T> T retry(Duration within, Callable<T> action) throws Exception {
        long deadline = System.nanoTime() + within.toNanos();
        while (true) {
            try {
                return action.call();
            } catch (Exception failure) {
                if (System.nanoTime() >= deadline) {
                    throw failure;
                }
                Thread.sleep(500);
            }
        }
    }
}
