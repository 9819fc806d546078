package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

// Order, time, transactions, filters, priorities, lite topics, dead letters that come back, namespaces.

const (
	longLease = 30 * time.Second
	steps     = 8
)

var groups = []string{"g0", "g1", "g2", "g3"}

func text(view *rmq.MessageView) string { return string(view.GetBody()) }

func texts(views []*rmq.MessageView) string {
	var all []string
	for _, view := range views {
		all = append(all, text(view))
	}
	return strings.Join(all, " ")
}

func plain(topic, body string) *rmq.Message {
	return &rmq.Message{Topic: topic, Body: []byte(body)}
}

// consume receives until count messages came, most at a time, and acks each.
func consume(consumer rmq.SimpleConsumer, count int, most int32) []*rmq.MessageView {
	var came []*rmq.MessageView
	for deadline := time.Now().Add(time.Minute); len(came) < count; {
		if time.Now().After(deadline) {
			fail("%d of %d came: %s", len(came), count, texts(came))
		}
		views, err := consumer.Receive(context.Background(), most, longLease)
		if status, ok := rmq.AsErrRpcStatus(err); ok && status.GetCode() == int32(v2.Code_MESSAGE_NOT_FOUND) {
			continue
		}
		noError(err, "receive")
		for _, view := range views {
			ack(consumer, view)
			came = append(came, view)
		}
	}
	return came
}

// tally keeps bodies by message group or lite topic.
type tally struct {
	mutex sync.Mutex
	seen  map[string][]string
}

func (t *tally) add(key, body string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.seen == nil {
		t.seen = map[string][]string{}
	}
	t.seen[key] = append(t.seen[key], body)
}

func (t *tally) count() int {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	count := 0
	for _, bodies := range t.seen {
		count += len(bodies)
	}
	return count
}

func (t *tally) is(expected map[string][]string, what string) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if !maps.EqualFunc(expected, t.seen, slices.Equal[[]string]) {
		fail("%s: expected %v, got %v", what, expected, t.seen)
	}
}

func groupOf(view *rmq.MessageView) string {
	if group := view.GetMessageGroup(); group != nil {
		return *group
	}
	return ""
}

func fifoOrder(d *driver, c *clients) {
	topic := d.typedTopic("fifo", "fifo")
	producer := c.producer(topic)
	expected := map[string][]string{}
	for step := range steps {
		for _, group := range groups {
			body := fmt.Sprintf("%s-%d", group, step)
			message := plain(topic, body)
			message.SetMessageGroup(group)
			mustSend(producer, message)
			expected[group] = append(expected[group], body)
		}
	}

	// No listener fails here: this client goes on behind a failed message by itself while it waits to try it again.
	var pushed tally
	c.push(d.groupWith("fifo-push", "--ordered"), topic, func(view *rmq.MessageView) rmq.ConsumerResult {
		pushed.add(groupOf(view), text(view))
		return rmq.SUCCESS
	})

	consumer := c.simple(d.group("fifo-simple"), topic, "*")
	var simple tally
	givenBack := false
	for deadline := time.Now().Add(time.Minute); simple.count() < len(groups)*steps; {
		if time.Now().After(deadline) {
			fail("only %v", simple.seen)
		}
		views, err := poll(consumer, longLease)
		noError(err, "receive")
		givingUp := false
		for _, view := range views {
			if text(view) == "g2-2" && !givenBack {
				givenBack, givingUp = true, true
			}
			if groupOf(view) == "g2" && givingUp {
				// The head, and those behind it that this batch holds as well.
				noError(consumer.ChangeInvisibleDuration(view, time.Second), "giving back")
				continue
			}
			ack(consumer, view)
			simple.add(groupOf(view), text(view))
		}
	}
	if !givenBack {
		fail("the head of g2 was never seen")
	}
	simple.is(expected, "order of the simple consumer")
	receivesNothing(consumer, longLease, pollTime, "all were acked")

	eventually(time.Minute, func() bool { return pushed.count() >= len(groups)*steps }, "not all were pushed")
	pushed.is(expected, "order of the push consumer")
}

func delayed(d *driver, c *clients) {
	topic := d.typedTopic("delayed", "delay")
	producer, consumer := c.producer(topic), c.simple(d.group("delayed"), topic, "*")
	due := time.Now().Add(3 * time.Second)
	for body, at := range map[string]time.Time{"past": due.Add(-time.Minute), "later": due} {
		message := plain(topic, body)
		message.SetDelayTimestamp(at)
		mustSend(producer, message)
	}
	arrival := map[string]time.Time{}
	for deadline := time.Now().Add(20 * time.Second); len(arrival) < 2; {
		if time.Now().After(deadline) {
			fail("only %v", arrival)
		}
		views, err := poll(consumer, longLease)
		noError(err, "receive")
		for _, view := range views {
			arrival[text(view)] = time.Now()
			ack(consumer, view)
			if at := view.GetDeliveryTimestamp(); text(view) == "later" && (at == nil || at.Unix() != due.Unix()) {
				fail("delivery time: expected %v, got %v", due, at)
			}
		}
	}
	if arrival["past"].After(due) {
		fail("the one of the past was held back")
	}
	late := arrival["later"].Sub(due)
	if late < -50*time.Millisecond || late > 1500*time.Millisecond {
		fail("%v after its time", late)
	}
}

func recall(d *driver, c *clients) {
	topic := d.typedTopic("recall", "delay")
	producer, consumer := c.producer(topic), c.simple(d.group("recall"), topic, "*")
	handles := map[string]string{}
	due := time.Now().Add(3 * time.Second)
	for _, body := range []string{"gone", "kept"} {
		message := plain(topic, body)
		message.SetDelayTimestamp(due)
		receipts, err := producer.Send(context.Background(), message)
		noError(err, "send")
		handles[body] = receipts[0].RecallHandle
	}
	for range 2 {
		_, err := producer.Recall(context.Background(), topic, handles["gone"])
		noError(err, "recall")
	}
	equal("kept", texts(consume(consumer, 1, 32)), "what came")
	_, err := producer.Recall(context.Background(), topic, handles["kept"])
	if status, ok := rmq.AsErrRpcStatus(err); !ok || status.GetCode() != int32(v2.Code_PRECONDITION_FAILED) {
		fail("recall of a delivered message: %v", err)
	}
	receivesNothing(consumer, longLease, pollTime, "it was recalled")
}

func transactionCommitRollback(d *driver, c *clients) {
	topic := d.typedTopic("transaction", "transaction")
	var asked tally
	producer := c.transactional(topic, func(view *rmq.MessageView) rmq.TransactionResolution {
		asked.add(view.GetMessageId(), text(view))
		return rmq.COMMIT
	})
	consumer := c.simple(d.group("transaction"), topic, "*")
	half := func(body string) (rmq.Transaction, string) {
		transaction := producer.BeginTransaction()
		receipts, err := producer.SendWithTransaction(context.Background(), plain(topic, body), transaction)
		noError(err, "half message")
		return transaction, receipts[0].MessageID
	}
	committed, _ := half("committed")
	noError(committed.Commit(), "commit")
	rolledBack, _ := half("rolled-back")
	noError(rolledBack.RollBack(), "rollback")
	_, undecided := half("undecided")
	equal("committed undecided", texts(consume(consumer, 2, 32)), "what came")
	if count := asked.count(); count == 0 {
		fail("nobody was asked")
	}
	asked.is(map[string][]string{undecided: slices.Repeat([]string{"undecided"}, asked.count())}, "questions")
	receivesNothing(consumer, longLease, pollTime, "the third was rolled back")
}

func sqlFilter(d *driver, c *clients) {
	topic := d.topic("sql")
	producer := c.producer(topic)
	for number := range 6 {
		message := plain(topic, fmt.Sprintf("n%d", number))
		message.SetTag([]string{"B", "A"}[number%2])
		message.AddProperty("number", fmt.Sprint(number))
		mustSend(producer, message)
	}
	filter := rmq.NewFilterExpressionWithType("number BETWEEN 2 AND 4 AND NOT TAGS = 'A'", rmq.SQL92)
	consumer := c.simpleFiltered(d.group("sql"), topic, filter)
	came := strings.Fields(texts(consume(consumer, 2, 32)))
	sort.Strings(came)
	equal("n2 n4", strings.Join(came, " "), "what came")
	var pushed tally
	c.pushFiltered(d.group("sql-push"), topic, filter, func(view *rmq.MessageView) rmq.ConsumerResult {
		pushed.add(text(view), text(view))
		return rmq.SUCCESS
	})
	eventually(soon, func() bool { return pushed.count() >= 2 }, "two were not pushed")
	receivesNothing(consumer, longLease, pollTime, "the others do not match")
	pushed.is(map[string][]string{"n2": {"n2"}, "n4": {"n4"}}, "what was pushed")
}

func priority(d *driver, c *clients) {
	topic := d.typedTopic("priority", "priority")
	producer, consumer := c.producer(topic), c.simple(d.group("priority"), topic, "*")
	for _, level := range []int32{1, 9, 5, 0, 7} {
		message := plain(topic, fmt.Sprint(level))
		noError(message.SetPriority(level), "priority")
		mustSend(producer, message)
	}
	equal("9 7 5 1 0", texts(consume(consumer, 5, 1)), "order of priorities")
}

func lite(d *driver, c *clients) {
	topic := d.typedTopic("lite", "lite")
	producer := c.producer(topic)
	var pushed tally
	consumer := c.lite(d.group("lite-push"), topic, func(view *rmq.MessageView) rmq.ConsumerResult {
		pushed.add(view.GetLiteTopic(), text(view))
		return rmq.SUCCESS
	})
	sendLite := func(one, body string) {
		message := plain(topic, body)
		message.SetLiteTopic(one)
		mustSend(producer, message)
	}
	noError(consumer.SubscribeLite("alpha"), "subscribe")
	noError(consumer.SubscribeLite("beta"), "subscribe")
	expected := map[string][]string{}
	for step := range 4 {
		for _, one := range []string{"alpha", "beta", "gamma"} {
			body := fmt.Sprintf("%s-%d", one, step)
			sendLite(one, body)
			if one != "gamma" {
				expected[one] = append(expected[one], body)
			}
		}
	}
	eventually(soon, func() bool { return pushed.count() >= 8 }, "eight messages were not pushed")
	pushed.is(expected, "what was pushed")
	noError(consumer.UnSubscribeLite("beta"), "unsubscribe")
	sendLite("beta", "beta-more")
	sendLite("alpha", "alpha-more")
	expected["alpha"] = append(expected["alpha"], "alpha-more")
	eventually(soon, func() bool { return pushed.count() >= 9 }, "the ninth message was not pushed")
	pushed.is(expected, "what was pushed after unsubscribing")
}

func redrive(d *driver, c *clients) {
	topic, doomed := d.topic("redrive"), d.groupWith("redrive", "--max-attempts 1")
	consumer := c.simple(doomed, topic, "*")
	id := mustSend(c.producer(topic), plain(topic, "again"))
	first := receiveOne(consumer, longLease, soon)
	noError(consumer.ChangeInvisibleDuration(first, time.Second), "giving back")
	retry(soon, func() (any, error) { return nil, d.try("admin dlq redrive " + doomed + " --id " + id) }, "redrive")
	came := consume(consumer, 1, 32)[0]
	equal(id, came.GetMessageId(), "id")
	equal(1, came.GetDeliveryAttempt(), "attempt")
}

func namespace(d *driver, c *clients) {
	topic := d.topic("spaced")
	spaces := []string{"ns-one", "ns-two"}
	for _, space := range spaces {
		noError(d.try("admin --namespace "+space+" topic create "+topic), "topic")
	}
	for _, space := range spaces {
		mustSend(c.in(space).producer(topic), plain(topic, space))
	}
	for _, space := range spaces {
		consumer := c.in(space).simple(d.group("spaced"), topic, "*")
		equal(space, texts(consume(consumer, 1, 32)), "what came in "+space)
		receivesNothing(consumer, longLease, pollTime, "the other namespace is another")
	}
}
