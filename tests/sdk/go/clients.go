package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
)

const pollTime = 5 * time.Second

// clients are those of one case, opened with everything at the client's defaults and closed together.
type clients struct {
	open []stopper
}

type stopper interface{ GracefulStop() error }

func (c *clients) producer(topics ...string) rmq.Producer {
	producer, err := rmq.NewProducer(config(""), rmq.WithTopics(topics...))
	noError(err, "new producer")
	noError(producer.Start(), "start of the producer")
	c.open = append(c.open, producer)
	return producer
}

func (c *clients) simple(group, topic, tags string) rmq.SimpleConsumer {
	consumer, err := c.trySimple(group, topic, tags)
	noError(err, "start of the simple consumer")
	return consumer
}

func (c *clients) trySimple(group, topic, tags string) (rmq.SimpleConsumer, error) {
	consumer, err := rmq.NewSimpleConsumer(
		config(group),
		rmq.WithSimpleAwaitDuration(pollTime),
		rmq.WithSimpleSubscriptionExpressions(subscription(topic, tags)),
	)
	noError(err, "new simple consumer")
	if err := consumer.Start(); err != nil {
		return nil, err
	}
	c.open = append(c.open, consumer)
	return consumer, nil
}

func (c *clients) push(group, topic string, listener func(*rmq.MessageView) rmq.ConsumerResult) {
	consumer, err := rmq.NewPushConsumer(
		config(group),
		rmq.WithPushSubscriptionExpressions(subscription(topic, "*")),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: listener}),
	)
	noError(err, "new push consumer")
	noError(consumer.Start(), "start of the push consumer")
	c.open = append(c.open, consumer)
}

// close waits for a push consumer's long poll, 20 s at most.
func (c *clients) close() error {
	errs := make([]error, len(c.open))
	var stopping sync.WaitGroup
	for n, client := range c.open {
		stopping.Add(1)
		go func() {
			defer stopping.Done()
			errs[n] = client.GracefulStop()
		}()
	}
	stopping.Wait()
	return errors.Join(errs...)
}

func config(group string) *rmq.Config {
	return &rmq.Config{
		Endpoint:      os.Getenv("BOLIDE_ENDPOINT"),
		ConsumerGroup: group,
		Credentials:   &credentials.SessionCredentials{},
	}
}

func subscription(topic, tags string) map[string]*rmq.FilterExpression {
	return map[string]*rmq.FilterExpression{topic: rmq.NewFilterExpression(tags)}
}

// send returns the message id.
func send(producer rmq.Producer, message *rmq.Message) (string, error) {
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return "", err
	}
	equal(1, len(receipts), "results of one send")
	return receipts[0].MessageID, nil
}

func mustSend(producer rmq.Producer, message *rmq.Message) string {
	id, err := send(producer, message)
	noError(err, "send")
	return id
}

// collector keeps what a push consumer's listener has seen.
type collector struct {
	mutex sync.Mutex
	views []*rmq.MessageView
}

func (c *collector) add(view *rmq.MessageView) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.views = append(c.views, view)
}

func (c *collector) all() []*rmq.MessageView {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return append([]*rmq.MessageView(nil), c.views...)
}

func (c *collector) count() int {
	return len(c.all())
}

func (c *collector) clear() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.views = nil
}
