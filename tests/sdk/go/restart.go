package main

import (
	"context"
	"fmt"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	batch     = 3
	reconnect = 30 * time.Second
	everyone  = 60 * time.Second
)

type ids map[string]bool

// survivor holds client objects that carry on while the server goes away and returns, through every round.
type survivor struct {
	driver         *driver
	pulled, pushed string
	producer       rmq.Producer
	simple         rmq.SimpleConsumer
	pushSeen       collector
	// undecided are bodies whose send failed on the client's side: the server may have stored them or not.
	undecided map[string]bool
}

func newSurvivor(d *driver, c *clients) *survivor {
	s := &survivor{driver: d, undecided: map[string]bool{}}
	s.pulled = d.topic("restart")
	s.pushed = d.topic("restart-push")
	s.producer = c.producer(s.pulled, s.pushed)
	s.simple = c.simple(d.group("restart"), s.pulled, "*")
	c.push(d.group("restart-push"), s.pushed, func(view *rmq.MessageView) rmq.ConsumerResult {
		s.pushSeen.add(view)
		return rmq.SUCCESS
	})
	return s
}

func (s *survivor) round(how string) {
	pushedBefore := s.send(s.pushed, how+"-push-before")
	s.awaitPush(pushedBefore)

	acked := s.send(s.pulled, how+"-acked")
	leased := time.Now()
	for _, view := range receive(s.simple, batch, lease, reconnect) {
		if !acked[view.GetMessageId()] {
			fail("unexpected message %s", view.GetBody())
		}
		ack(s.simple, view)
	}
	kept := s.send(s.pulled, how+"-kept")
	// Time is the condition: a push consumer acks behind its listener's back, and these acks must have reached
	// the server.
	time.Sleep(2 * time.Second)
	s.pushSeen.clear()

	s.driver.restart(how)

	after := s.send(s.pulled, how+"-after")
	pushedAfter := s.send(s.pushed, how+"-push-after")
	s.drain(acked, kept, after, leased.Add(lease))
	s.awaitPush(pushedAfter)
	for _, view := range s.pushSeen.all() {
		if pushedBefore[view.GetMessageId()] {
			fail("acked before the restart, pushed after it: %s", view.GetBody())
		}
	}
}

// drain receives and acks until everything of kept and after came, then once more in vain, and not before leaseEnd: a
// lost ack would show only then.
func (s *survivor) drain(acked, kept, after ids, leaseEnd time.Time) {
	missing := ids{}
	for _, set := range []ids{kept, after} {
		for id := range set {
			missing[id] = true
		}
	}
	deadline := time.Now().Add(everyone)
	for idle := false; len(missing) > 0 || !idle; {
		if time.Now().After(deadline) {
			fail("%d messages did not come within %v", len(missing), everyone)
		}
		views := retry(reconnect, func() ([]*rmq.MessageView, error) { return poll(s.simple, lease) }, "no receive")
		idle = len(views) == 0 && time.Now().After(leaseEnd)
		for _, view := range views {
			id := view.GetMessageId()
			if acked[id] {
				fail("acked before the restart, delivered after it: %s", view.GetBody())
			}
			// The client repeats a send by itself, so one of the later messages may be there twice.
			if !missing[id] && !after[id] && !s.undecided[string(view.GetBody())] {
				fail("unexpected message %s, attempt %d", view.GetBody(), view.GetDeliveryAttempt())
			}
			delete(missing, id)
			retry(reconnect, func() (any, error) {
				return nil, s.simple.Ack(context.Background(), view)
			}, "no ack")
		}
	}
}

func (s *survivor) awaitPush(expected ids) {
	eventually(everyone, func() bool {
		seen := ids{}
		for _, view := range s.pushSeen.all() {
			seen[view.GetMessageId()] = true
		}
		for id := range expected {
			if !seen[id] {
				return false
			}
		}
		return true
	}, "the push consumer did not get all messages")
}

// send sends a few messages, each for as long as a client may need to find its server, and returns their ids.
func (s *survivor) send(topic, name string) ids {
	sent := ids{}
	attempt := 0
	for n := range batch {
		id := retry(reconnect, func() (string, error) {
			body := fmt.Sprintf("%s-%d-try%d", name, n, attempt)
			attempt++
			id, err := send(s.producer, &rmq.Message{Topic: topic, Body: []byte(body)})
			if err != nil {
				s.undecided[body] = true
			}
			return id, err
		}, "no send")
		sent[id] = true
	}
	return sent
}
