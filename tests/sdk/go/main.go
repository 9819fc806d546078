// The suite of the official Go client. The contract with the test driver is in ../README.md.
package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	// Enough to hide the waiting, few enough that a start on two cores keeps its time limits.
	casesAtOnce = 5
	// The client waits without bound for some answers; a case that hangs must still be reported.
	caseLimit = 120 * time.Second
)

type testCase struct {
	name string
	body func(*driver, *clients)
}

// Longest first, so that the waiting overlaps.
var independent = []testCase{
	{"dead_letter", deadLetter},
	{"push_failure_redelivers", pushFailureRedelivers},
	{"push_consumes", pushConsumes},
	{"send_receive_ack", sendReceiveAck},
	{"tag_filter", tagFilter},
	{"expired_ack_refused", expiredAckRefused},
	{"nack_redelivers", nackRedelivers},
	{"two_topics_one_producer", twoTopicsOneProducer},
	{"empty_receive", emptyReceive},
	{"transaction_commit_rollback", transactionCommitRollback},
	{"fifo_order", fifoOrder},
	{"sql_filter", sqlFilter},
	{"namespace", namespace},
	{"lite", lite},
	{"recall", recall},
	{"redrive", redrive},
	{"delayed", delayed},
	{"priority", priority},
}

func main() {
	rmq.EnableSsl = os.Getenv("BOLIDE_TLS") != "0"
	d := newDriver()
	ok := runTogether(d)
	ok = runRestarts(d) && ok
	if !ok {
		os.Exit(1)
	}
}

func runTogether(d *driver) bool {
	var cases, closing sync.WaitGroup
	var failed atomic.Bool
	slots := make(chan struct{}, casesAtOnce)
	for _, c := range independent {
		slots <- struct{}{}
		cases.Add(1)
		go func() {
			defer cases.Done()
			defer func() { <-slots }()
			opened := &clients{}
			if !report(d, c.name, func() { c.body(d, opened) }) {
				failed.Store(true)
			}
			closing.Add(1)
			go func() {
				defer closing.Done()
				if err := opened.close(); err != nil {
					fmt.Fprintf(os.Stderr, "closing the clients of %s: %v\n", c.name, err)
					failed.Store(true)
				}
			}()
		}()
	}
	cases.Wait()
	// No client may be under way when the restarts begin.
	closing.Wait()
	return !failed.Load()
}

// runRestarts leaves its clients open to the end of the process: closing is proven by the others, and would wait for
// a long poll.
func runRestarts(d *driver) bool {
	var survivor *survivor
	kill := report(d, "restart_kill", func() {
		survivor = newSurvivor(d, &clients{})
		survivor.round("kill")
	})
	term := report(d, "restart_term", func() {
		if survivor == nil {
			fail("the clients did not start")
		}
		survivor.round("term")
	})
	return kill && term
}

// report runs one case to its end or its limit and tells the driver; a failure is a panic of type failure.
func report(d *driver, name string, body func()) bool {
	ended := make(chan string, 1)
	go func() {
		defer func() {
			switch cause := recover().(type) {
			case nil:
				ended <- ""
			case failure:
				ended <- string(cause)
			default:
				ended <- fmt.Sprintf("panic: %v", cause)
			}
		}()
		body()
	}()
	detail := fmt.Sprintf("still running after %v", caseLimit)
	select {
	case detail = <-ended:
	case <-time.After(caseLimit):
	}
	if detail != "" {
		d.failed(name, detail)
		return false
	}
	d.passed(name)
	return true
}
