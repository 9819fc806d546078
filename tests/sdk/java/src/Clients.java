import java.io.Closeable;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientConfigurationBuilder;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/** Opens the clients of one case, with everything at the client's defaults, and closes them together. */
final class Clients implements Closeable {
    static final Duration POLL = Duration.ofSeconds(5);

    private static final ClientServiceProvider PROVIDER = ClientServiceProvider.loadService();
    private static final ClientConfiguration CONFIGURATION = configuration();

    private final List<Closeable> open = new ArrayList<>();

    Producer producer(String... topics) throws ClientException {
        return keep(PROVIDER.newProducerBuilder()
                .setClientConfiguration(CONFIGURATION)
                .setTopics(topics)
                .build());
    }

    SimpleConsumer simple(String group, String topic, String tags) throws ClientException {
        return keep(PROVIDER.newSimpleConsumerBuilder()
                .setClientConfiguration(CONFIGURATION)
                .setConsumerGroup(group)
                .setAwaitDuration(POLL)
                .setSubscriptionExpressions(Map.of(topic, new FilterExpression(tags)))
                .build());
    }

    SimpleConsumer simple(String group, String topic) throws ClientException {
        return simple(group, topic, "*");
    }

    PushConsumer push(String group, String topic, MessageListener listener) throws ClientException {
        return keep(PROVIDER.newPushConsumerBuilder()
                .setClientConfiguration(CONFIGURATION)
                .setConsumerGroup(group)
                .setSubscriptionExpressions(Map.of(topic, new FilterExpression("*")))
                .setMessageListener(listener)
                .build());
    }

    static MessageBuilder message(String topic, byte[] body) {
        return PROVIDER.newMessageBuilder().setTopic(topic).setBody(body);
    }

    static String send(Producer producer, Message message) throws ClientException {
        SendReceipt receipt = producer.send(message);
        return receipt.getMessageId().toString();
    }

    static String send(Producer producer, String topic, byte[] body) throws ClientException {
        return send(producer, message(topic, body).build());
    }

    /** Closing a push consumer waits for its long poll, 20 s at most. */
    @Override
    public void close() throws IOException {
        for (Closeable client : open) {
            client.close();
        }
        open.clear();
    }

    private <T extends Closeable> T keep(T client) {
        open.add(client);
        return client;
    }

    private static ClientConfiguration configuration() {
        ClientConfigurationBuilder builder =
                ClientConfiguration.newBuilder().setEndpoints(System.getenv("BOLIDE_ENDPOINT"));
        if ("0".equals(System.getenv("BOLIDE_TLS"))) {
            withoutTls(builder);
        }
        return builder.build();
    }

    /** By name, because 5.0.3 has no such method: it knows TLS only. */
    private static void withoutTls(ClientConfigurationBuilder builder) {
        try {
            ClientConfigurationBuilder.class.getMethod("enableSsl", boolean.class).invoke(builder, false);
        } catch (ReflectiveOperationException absent) {
            throw new IllegalStateException("this release of the client cannot do without TLS", absent);
        }
    }
}
