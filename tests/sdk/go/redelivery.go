package main

import (
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

// Longer than the back-off of a group's first two attempts, however the table is counted.
const backedOff = 60 * time.Second

func nackRedelivers(d *driver, c *clients) {
	topic := d.topic("nack")
	body := []byte("come back")
	id := mustSend(c.producer(topic), &rmq.Message{Topic: topic, Body: body})

	consumer := c.simple(d.group("nack"), topic, "*")
	first := receiveOne(consumer, time.Minute, soon)
	delivered(first, id, body, 1)
	begun := time.Now()
	noError(consumer.ChangeInvisibleDuration(first, short), "change of the invisible duration")
	second := receiveOne(consumer, lease, soon)
	away := time.Since(begun)
	delivered(second, id, body, 2)
	if away < 950*time.Millisecond {
		fail("hidden for 1 s, but it came back after %v", away)
	}
	ack(consumer, second)
}

// The simple consumer's Ack does not look at the answer's status, so that a refusal shows by what follows: the
// message comes back, and the call that does look says why.
func expiredAckRefused(d *driver, c *clients) {
	topic := d.topic("expired")
	body := []byte("too late")
	id := mustSend(c.producer(topic), &rmq.Message{Topic: topic, Body: body})

	consumer := c.simple(d.group("expired"), topic, "*")
	first := receiveOne(consumer, short, soon)
	delivered(first, id, body, 1)
	// Time is the condition: the lease of one second runs out.
	time.Sleep(1500 * time.Millisecond)
	ack(consumer, first)
	second := receiveOne(consumer, short, soon)
	delivered(second, id, body, 2)
	// The handle of the first delivery must not end the second one either.
	ack(consumer, first)
	third := receiveOne(consumer, lease, soon)
	delivered(third, id, body, 3)
	status, ok := rmq.AsErrRpcStatus(consumer.ChangeInvisibleDuration(first, lease))
	if !ok {
		fail("the handle of an earlier delivery changed the invisible duration")
	}
	equal(int32(v2.Code_INVALID_RECEIPT_HANDLE), status.GetCode(), "code for the handle of an earlier delivery")
	ack(consumer, third)
	receivesNothing(consumer, lease, lease, "the third delivery was acked")
}

func pushFailureRedelivers(d *driver, c *clients) {
	topic := d.topic("push-fail")
	body := []byte("fails once")
	id := mustSend(c.producer(topic), &rmq.Message{Topic: topic, Body: body})

	var seen collector
	arrivals := make(chan time.Time, 100)
	c.push(d.group("push-fail"), topic, func(view *rmq.MessageView) rmq.ConsumerResult {
		arrivals <- time.Now()
		seen.add(view)
		if view.GetDeliveryAttempt() == 1 {
			return rmq.FAILURE
		}
		return rmq.SUCCESS
	})
	eventually(backedOff, func() bool { return seen.count() >= 2 }, "the failed message did not come back")
	first := <-arrivals
	if away := (<-arrivals).Sub(first); away < 950*time.Millisecond {
		fail("the back-off is 1 s at least, but the message came back after %v", away)
	}
	// Time is the condition: longer than the back-off of either attempt, so that a lost ack would show.
	time.Sleep(12 * time.Second)
	expectTwoAttempts(seen.all(), id, body)
}

// Once by a simple consumer's leases, once by a push consumer's failing listener.
func deadLetter(d *driver, c *clients) {
	topic := d.topic("dead")
	leased := d.groupWith("dead-leased", "--max-attempts 2")
	pushed := d.groupWith("dead-pushed", "--max-attempts 2")
	body := randomBytes(300, 42)
	id := mustSend(c.producer(topic), &rmq.Message{Topic: topic, Body: body})

	var seen collector
	c.push(pushed, topic, func(view *rmq.MessageView) rmq.ConsumerResult {
		seen.add(view)
		return rmq.FAILURE
	})

	consumer := c.simple(leased, topic, "*")
	for attempt := range 2 {
		view := receiveOne(consumer, lease, soon)
		delivered(view, id, body, attempt+1)
		noError(consumer.ChangeInvisibleDuration(view, short), "change of the invisible duration")
	}
	expectDeadLetter(c, leased, id, body)
	receivesNothing(consumer, lease, 0, "both attempts were used up")

	eventually(backedOff, func() bool { return seen.count() >= 2 }, "the failed message did not come back")
	expectDeadLetter(c, pushed, id, body)
	expectTwoAttempts(seen.all(), id, body)
}

func expectDeadLetter(c *clients, group, id string, body []byte) {
	queue := "%DLQ%" + group
	// The queue appears with its first message; a consumer cannot start before.
	consumer := retry(backedOff, func() (rmq.SimpleConsumer, error) {
		return c.trySimple(group+"-letters", queue, "*")
	}, "no consumer of "+queue)
	view := receiveOne(consumer, lease, backedOff)
	equal(queue, view.GetTopic(), "topic of the dead letter")
	equal(id, view.GetMessageId(), "message id of the dead letter")
	sameBody(body, view)
	ack(consumer, view)
}

func expectTwoAttempts(views []*rmq.MessageView, id string, body []byte) {
	equal(2, len(views), "deliveries")
	for n, view := range views {
		delivered(view, id, body, n+1)
	}
}

func delivered(view *rmq.MessageView, id string, body []byte, attempt int) {
	equal(id, view.GetMessageId(), "message id")
	sameBody(body, view)
	equal(int32(attempt), view.GetDeliveryAttempt(), "delivery attempt")
}
