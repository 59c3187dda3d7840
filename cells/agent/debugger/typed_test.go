package debugger

import (
	"bufio"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// ^C interrupts a command also after more was pasted than can wait; of what waits, no line is cut.
func TestInterruptAfterAPaste(t *testing.T) {
	t.Parallel()
	const line = "greet who=world\r"
	from, to := io.Pipe()
	defer time.AfterFunc(time.Minute, func() { _ = from.Close() }).Stop() // in vain
	typed := readTyped(from)
	say := func(text string) {
		t.Helper()
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal("what is typed is not read: ", err)
		}
	}
	interrupted := make(chan struct{})
	over := typed.onInterrupt(sync.OnceFunc(func() { close(interrupted) }))
	say(strings.Repeat(line, 3*maxTyped/len(line)))
	say("\x03")
	<-interrupted
	over()
	if typed.lostSome() {
		t.Error("^C dropped what the person wants to know of")
	}

	over = typed.onInterrupt(func() {})
	say(strings.Repeat(line, 3*maxTyped/len(line)))
	over()
	go func() { _, _ = io.WriteString(to, "half a line\rexit\r") }()
	lines, kept := bufio.NewReader(typed), 0
	for {
		got, err := lines.ReadString('\r')
		if err != nil || got == "exit\r" {
			break
		}
		if kept++; got != line && got != "half a line\r" {
			t.Fatalf("%q is not a line that was typed", got)
		}
	}
	if kept == 0 || kept*len(line) > maxTyped+2*4<<10 || !typed.lostSome() {
		t.Errorf("%d lines waited", kept)
	}
}
