package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
)

// driver is the test driver at the other end of stdin and stdout: it takes results, creates topics and restarts
// the server.
type driver struct {
	prefix  string
	answers *bufio.Reader
	printed sync.Mutex
	pending sync.Mutex
}

func newDriver() *driver {
	return &driver{prefix: os.Getenv("BOLIDE_TOPIC_PREFIX"), answers: bufio.NewReader(os.Stdin)}
}

// topic creates a topic, because the server never does by itself, and returns its full name.
func (d *driver) topic(name string) string {
	return d.typedTopic(name, "normal")
}

func (d *driver) typedTopic(name, kind string) string {
	full := d.prefix + "-" + name
	d.request("topic " + full + " " + kind)
	return full
}

// group returns the full name of a group that its first use will create.
func (d *driver) group(name string) string {
	return d.prefix + "-" + name
}

// groupWith creates a group with options of `bolide admin group create`.
func (d *driver) groupWith(name, options string) string {
	full := d.group(name)
	d.request("group " + full + " " + options)
	return full
}

// restart takes "kill" for kill -9 or "term" for SIGTERM.
func (d *driver) restart(how string) {
	d.request("restart " + how)
}

func (d *driver) passed(name string) {
	d.line("CASE " + name + " OK")
}

func (d *driver) failed(name, detail string) {
	d.line("CASE " + name + " FAIL " + strings.Join(strings.Fields(detail), " "))
}

// request is one that must succeed.
func (d *driver) request(text string) {
	if err := d.try(text); err != nil {
		fail("%v", err)
	}
}

// try sends one request at a time: the answers carry no name.
func (d *driver) try(text string) error {
	d.pending.Lock()
	defer d.pending.Unlock()
	d.line("REQUEST " + text)
	answer, err := d.answers.ReadString('\n')
	answer = strings.TrimSpace(answer)
	if err != nil || answer != "DONE" {
		return fmt.Errorf("driver answered %q (%v) to: %s", answer, err, text)
	}
	return nil
}

func (d *driver) line(text string) {
	d.printed.Lock()
	defer d.printed.Unlock()
	fmt.Fprintln(os.Stdout, text)
}
