package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	v2 "github.com/apache/rocketmq-clients/golang/v5/protocol/v2"
)

// failure ends a case; it travels as a panic, so that expectations read as one line each.
type failure string

func fail(format string, values ...any) {
	panic(failure(fmt.Sprintf(format, values...)))
}

func noError(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func equal[T comparable](expected, actual T, what string) {
	if expected != actual {
		fail("%s: expected %v, got %v", what, expected, actual)
	}
}

func sameBody(expected []byte, view *rmq.MessageView) {
	actual := view.GetBody()
	if !bytes.Equal(expected, actual) {
		fail("body of %s differs: %d bytes sent, %d received", view.GetMessageId(), len(expected), len(actual))
	}
}

func randomBytes(length int, seed int64) []byte {
	body := make([]byte, length)
	rand.New(rand.NewSource(seed)).Read(body)
	return body
}

// poll is one receive in which "no message", an error to this client, is an empty list.
func poll(consumer rmq.SimpleConsumer, lease time.Duration) ([]*rmq.MessageView, error) {
	views, err := consumer.Receive(context.Background(), 32, lease)
	if status, ok := rmq.AsErrRpcStatus(err); ok && status.GetCode() == int32(v2.Code_MESSAGE_NOT_FOUND) {
		return nil, nil
	}
	return views, err
}

// receive polls until count messages have come.
func receive(consumer rmq.SimpleConsumer, count int, lease, within time.Duration) []*rmq.MessageView {
	var views []*rmq.MessageView
	for deadline := time.Now().Add(within); len(views) < count && time.Now().Before(deadline); {
		more, err := poll(consumer, lease)
		noError(err, "receive")
		views = append(views, more...)
	}
	equal(count, len(views), fmt.Sprintf("messages received within %v", within))
	return views
}

func receiveOne(consumer rmq.SimpleConsumer, lease, within time.Duration) *rmq.MessageView {
	return receive(consumer, 1, lease, within)[0]
}

// receivesNothing polls at least once and for at least span; any message is a failure.
func receivesNothing(consumer rmq.SimpleConsumer, lease, span time.Duration, why string) {
	for until := time.Now().Add(span); ; {
		views, err := poll(consumer, lease)
		noError(err, "receive")
		for _, view := range views {
			fail("%s, yet received %s, attempt %d", why, view.GetMessageId(), view.GetDeliveryAttempt())
		}
		if time.Now().After(until) {
			return
		}
	}
}

func ack(consumer rmq.SimpleConsumer, view *rmq.MessageView) {
	noError(consumer.Ack(context.Background(), view), "ack")
}

func eventually(within time.Duration, condition func() bool, otherwise string) {
	for deadline := time.Now().Add(within); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			fail("%s within %v", otherwise, within)
		}
	}
}

// retry repeats action until it succeeds: a client that lost its server needs a moment to find it again.
func retry[T any](within time.Duration, action func() (T, error), what string) T {
	for deadline := time.Now().Add(within); ; time.Sleep(500 * time.Millisecond) {
		value, err := action()
		if err == nil {
			return value
		}
		if time.Now().After(deadline) {
			fail("%s, even after %v: %v", what, within, err)
		}
	}
}
