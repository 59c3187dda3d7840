package transport

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

// connPair returns a connection, and its peer's end.
func connPair(t testing.TB) (c *asyncConn, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if peer, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c = newAsyncConn(accepted)
	t.Cleanup(func() { _ = c.Close() })
	return c, peer
}

// Deadlines that are only noted count: for the next read, and for one in progress, whichever was set before.
func TestReadDeadlines(t *testing.T) {
	t.Parallel()
	c, peer := connPair(t)
	past, later := time.Unix(1, 0), func() time.Time { return time.Now().Add(time.Hour) }
	read := func() error { _, err := c.Read(make([]byte, 1)); return err }
	timesOut := func(what string) {
		t.Helper()
		var timeout net.Error
		if err := read(); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%s: %v", what, err)
		}
	}
	reads := func(what string) {
		t.Helper()
		if _, err := peer.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := read(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	set := func(at time.Time) {
		t.Helper()
		if err := c.SetReadDeadline(at); err != nil {
			t.Fatal(err)
		}
	}
	reads("without a deadline")
	set(past)
	timesOut("one that has passed")
	set(later())
	reads("a later one after it")
	set(time.Now().Add(20 * time.Millisecond))
	timesOut("one that passes meanwhile, earlier than that")
	set(time.Time{})
	reads("none after one that passed")
	for _, first := range []time.Time{{}, later()} { // a read in progress is ended, as net/http does
		set(first)
		ended := make(chan error, 1)
		go func() { ended <- read() }()
		for c.reading.Load() == 0 {
			runtime.Gosched()
		}
		set(past)
		if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read in progress: %v", err)
		}
		set(time.Time{})
		reads("after it")
	}
}

// Whenever a deadline comes, before a read or in it, the read ends.
func TestReadDeadlinesRace(t *testing.T) {
	t.Parallel()
	c, _ := connPair(t)
	for range 2000 {
		if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			ended <- err
		}()
		if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("the read goes on")
		}
	}
}
