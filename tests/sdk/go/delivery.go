package main

import (
	"context"
	"maps"
	"slices"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

const (
	short = time.Second
	lease = 10 * time.Second
	soon  = 30 * time.Second
)

func sendReceiveAck(d *driver, c *clients) {
	topic := d.topic("plain")
	everyByte := make([]byte, 256)
	for value := range everyByte {
		everyByte[value] = byte(value)
	}
	bodies := [][]byte{{0}, everyByte, randomBytes(1<<20, 7)}
	keys := []string{"order-17", "café"}
	properties := map[string]string{"colour": "blue", "note": "zwölf €", "padded": " x "}

	producer := c.producer(topic)
	sent := map[string][]byte{}
	for _, body := range bodies {
		message := &rmq.Message{Topic: topic, Body: body}
		message.SetKeys(keys...)
		message.SetTag("tag-a")
		for key, value := range properties {
			message.AddProperty(key, value)
		}
		sent[mustSend(producer, message)] = body
	}

	consumer := c.simple(d.group("plain"), topic, "*")
	for _, view := range receive(consumer, len(bodies), lease, soon) {
		takeSent(sent, view)
		equal(topic, view.GetTopic(), "topic")
		if !slices.Equal(keys, view.GetKeys()) {
			fail("keys: expected %q, got %q", keys, view.GetKeys())
		}
		equal("tag-a", tagOf(view), "tag")
		if !maps.Equal(properties, view.GetProperties()) {
			fail("properties: expected %q, got %q", properties, view.GetProperties())
		}
		equal(1, view.GetDeliveryAttempt(), "delivery attempt")
		ack(consumer, view)
	}
	receivesNothing(consumer, lease, lease, "everything was acked")
}

func twoTopicsOneProducer(d *driver, c *clients) {
	topics := []string{d.topic("two-a"), d.topic("two-b")}
	begun := time.Now()
	producer := c.producer(topics...)
	if start := time.Since(begun); start >= 10*time.Second {
		fail("producer of two topics took %v to start", start)
	}

	ids := map[string]string{}
	for _, topic := range topics {
		ids[topic] = mustSend(producer, &rmq.Message{Topic: topic, Body: []byte(topic)})
	}
	for _, topic := range topics {
		consumer := c.simple(topic, topic, "*")
		view := receiveOne(consumer, lease, soon)
		equal(ids[topic], view.GetMessageId(), "message id in "+topic)
		sameBody([]byte(topic), view)
		ack(consumer, view)
		receivesNothing(consumer, lease, 0, "one message was sent to "+topic)
	}
}

func tagFilter(d *driver, c *clients) {
	topic := d.topic("tags")
	producer := c.producer(topic)
	for _, tag := range []string{"A", "B", "C", "AB"} {
		message := &rmq.Message{Topic: topic, Body: []byte(tag)}
		message.SetTag(tag)
		mustSend(producer, message)
	}
	mustSend(producer, &rmq.Message{Topic: topic, Body: []byte("none")})

	all := c.simple(d.group("tags-all"), topic, "*")
	expectBodies(receive(all, 5, lease, soon), "A", "AB", "B", "C", "none")

	filtered := c.simple(d.group("tags-ab"), topic, "A || B")
	views := receive(filtered, 2, lease, soon)
	expectBodies(views, "A", "B")
	for _, view := range views {
		ack(filtered, view)
	}
	receivesNothing(filtered, lease, lease, "no other message has the tag A or B")
}

func pushConsumes(d *driver, c *clients) {
	topic := d.topic("push")
	count := 20
	producer := c.producer(topic)
	sent := map[string][]byte{}
	sendNumbered := func(number int) {
		message := &rmq.Message{Topic: topic, Body: randomBytes(1+number*97, int64(number))}
		message.SetTag("pushed")
		sent[mustSend(producer, message)] = message.Body
	}
	// Half of them wait for the consumer, the other half finds it waiting.
	for number := range count / 2 {
		sendNumbered(number)
	}
	var seen collector
	c.push(d.group("push"), topic, func(view *rmq.MessageView) rmq.ConsumerResult {
		seen.add(view)
		return rmq.SUCCESS
	})
	eventually(soon, func() bool { return seen.count() >= count/2 }, "the messages sent before the start did not come")
	for number := count / 2; number < count; number++ {
		sendNumbered(number)
	}
	eventually(soon, func() bool { return seen.count() >= count }, "20 messages did not come")
	// Time is the condition here: a message whose ack was lost would come again.
	time.Sleep(3 * time.Second)

	equal(count, seen.count(), "deliveries")
	for _, view := range seen.all() {
		takeSent(sent, view)
		equal("pushed", tagOf(view), "tag")
		equal(1, view.GetDeliveryAttempt(), "delivery attempt")
	}
}

func emptyReceive(d *driver, c *clients) {
	consumer := c.simple(d.group("empty"), d.topic("empty"), "*")
	begun := time.Now()
	views, err := consumer.Receive(context.Background(), 32, lease)
	waited := time.Since(begun)
	status, ok := rmq.AsErrRpcStatus(err)
	if !ok {
		fail("an empty receive gave %d messages and the error %v", len(views), err)
	}
	equal(int32(v2.Code_MESSAGE_NOT_FOUND), status.GetCode(), "code of an empty receive")
	if waited < 4500*time.Millisecond || waited >= 20*time.Second {
		fail("an empty poll of 5 s returned after %v", waited)
	}
}

// takeSent finds the message in sent, compares the bodies, and removes it: each may come once.
func takeSent(sent map[string][]byte, view *rmq.MessageView) {
	body, ok := sent[view.GetMessageId()]
	if !ok {
		fail("message id never sent, or received twice: %s", view.GetMessageId())
	}
	delete(sent, view.GetMessageId())
	sameBody(body, view)
}

func tagOf(view *rmq.MessageView) string {
	if view.GetTag() == nil {
		return ""
	}
	return *view.GetTag()
}

func expectBodies(views []*rmq.MessageView, expected ...string) {
	var bodies []string
	for _, view := range views {
		bodies = append(bodies, string(view.GetBody()))
	}
	slices.Sort(bodies)
	if !slices.Equal(expected, bodies) {
		fail("bodies: expected %q, got %q", expected, bodies)
	}
}
