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
	open      []stopper
	namespace string
	within    *clients
}

// in gives clients of another namespace, closed with these.
func (c *clients) in(namespace string) *clients {
	return &clients{namespace: namespace, within: c}
}

func (c *clients) keep(client stopper) {
	if c.within != nil {
		c.within.keep(client)
		return
	}
	c.open = append(c.open, client)
}

type stopper interface{ GracefulStop() error }

func (c *clients) producer(topics ...string) rmq.Producer {
	producer, err := rmq.NewProducer(c.config(""), rmq.WithTopics(topics...))
	noError(err, "new producer")
	noError(producer.Start(), "start of the producer")
	c.keep(producer)
	return producer
}

func (c *clients) simple(group, topic, tags string) rmq.SimpleConsumer {
	consumer, err := c.trySimple(group, topic, tags)
	noError(err, "start of the simple consumer")
	return consumer
}

func (c *clients) simpleFiltered(group, topic string, filter *rmq.FilterExpression) rmq.SimpleConsumer {
	consumer, err := c.openSimple(group, topic, filter)
	noError(err, "start of the simple consumer")
	return consumer
}

func (c *clients) trySimple(group, topic, tags string) (rmq.SimpleConsumer, error) {
	return c.openSimple(group, topic, rmq.NewFilterExpression(tags))
}

func (c *clients) openSimple(group, topic string, filter *rmq.FilterExpression) (rmq.SimpleConsumer, error) {
	consumer, err := rmq.NewSimpleConsumer(
		c.config(group),
		rmq.WithSimpleAwaitDuration(pollTime),
		rmq.WithSimpleSubscriptionExpressions(subscription(topic, filter)),
	)
	noError(err, "new simple consumer")
	if err := consumer.Start(); err != nil {
		return nil, err
	}
	c.keep(consumer)
	return consumer, nil
}

// transactional is a producer that can be asked about its transactions.
func (c *clients) transactional(topic string, check func(*rmq.MessageView) rmq.TransactionResolution) rmq.Producer {
	producer, err := rmq.NewProducer(
		c.config(""),
		rmq.WithTopics(topic),
		rmq.WithTransactionChecker(&rmq.TransactionChecker{Check: check}),
	)
	noError(err, "new producer")
	noError(producer.Start(), "start of the producer")
	c.keep(producer)
	return producer
}

func (c *clients) lite(group, topic string, listener func(*rmq.MessageView) rmq.ConsumerResult) rmq.LitePushConsumer {
	consumer, err := rmq.NewLitePushConsumer(
		c.config(group),
		rmq.NewLitePushConsumerConfig(topic, longLease),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: listener}),
	)
	noError(err, "new lite consumer")
	noError(consumer.Start(), "start of the lite consumer")
	c.keep(consumer)
	return consumer
}

func (c *clients) push(group, topic string, listener func(*rmq.MessageView) rmq.ConsumerResult) {
	c.pushFiltered(group, topic, rmq.NewFilterExpression("*"), listener)
}

func (c *clients) pushFiltered(
	group, topic string,
	filter *rmq.FilterExpression,
	listener func(*rmq.MessageView) rmq.ConsumerResult,
) {
	consumer, err := rmq.NewPushConsumer(
		c.config(group),
		rmq.WithPushSubscriptionExpressions(subscription(topic, filter)),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: listener}),
	)
	noError(err, "new push consumer")
	noError(consumer.Start(), "start of the push consumer")
	c.keep(consumer)
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

func (c *clients) config(group string) *rmq.Config {
	return &rmq.Config{
		Endpoint:      os.Getenv("BOLIDE_ENDPOINT"),
		NameSpace:     c.namespace,
		ConsumerGroup: group,
		Credentials:   &credentials.SessionCredentials{},
	}
}

func subscription(topic string, filter *rmq.FilterExpression) map[string]*rmq.FilterExpression {
	return map[string]*rmq.FilterExpression{topic: filter}
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
