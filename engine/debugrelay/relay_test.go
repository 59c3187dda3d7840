package debugrelay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/engine/debugrelay"
)

func always(context.Context) bool { return true }

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	far, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if near, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// join joins both sides and returns the connections' far ends. ended is closed once both ends were let go.
func join(t *testing.T, r *debugrelay.Relay, allowed [2]func(context.Context) bool) (far [2]net.Conn,
	ended chan struct{}) {
	t.Helper()
	done := make(chan error, 2)
	hellos := [2]string{"the agent's", "the person's"}
	for side := range 2 {
		near, end := tcpPair(t)
		far[side] = end
		go func() {
			seat, err := r.Meet(context.Background(), "acme/1", debugrelay.Side(side), hellos[side], allowed[side])
			if err == nil {
				if seat.Hello() != hellos[1-side] {
					err = errors.New("another hello: " + seat.Hello())
				}
				seat.Run(near, []byte{byte(side)})
			}
			done <- err
		}()
	}
	ended = make(chan struct{})
	go func() {
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		close(ended)
	}()
	for side := range 2 {
		var first [1]byte
		if _, err := io.ReadFull(far[side], first[:]); err != nil || first[0] != byte(1-side) {
			t.Fatalf("side %d: what came early did not arrive: %v %v", side, first, err)
		}
	}
	return far, ended
}

// awaitEnd waits until the relay has let an end go, at most a second (D2).
func awaitEnd(t *testing.T, far net.Conn) {
	t.Helper()
	_ = far.SetReadDeadline(time.Now().Add(time.Second))
	var timeout net.Error
	if n, err := io.Copy(io.Discard, far); errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the end is still served (%d bytes)", n)
	}
}

func TestBytesPassBothWays(t *testing.T) {
	t.Parallel()
	r := debugrelay.New(debugrelay.Limits{}, nil)
	far, ended := join(t, r, [2]func(context.Context) bool{always, always})
	if n := r.Sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	sent := make([]byte, 5<<20)
	_, _ = rand.Read(sent)
	for side := range 2 {
		go func() { _, _ = far[side].Write(sent) }()
		got := make([]byte, len(sent))
		if _, err := io.ReadFull(far[1-side], got); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("from side %d: %v", side, err)
		}
	}
	_ = far[debugrelay.Agent].Close()
	awaitEnd(t, far[debugrelay.Person])
	<-ended
	if n := r.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// D2: a cell that is revoked, and a person whose token is removed, lose the session within a second; both ends do.
func TestD2EndsThatAreNoLongerAllowedAreCut(t *testing.T) {
	t.Parallel()
	for side := range 2 {
		var revoked atomic.Bool
		allowed := [2]func(context.Context) bool{always, always}
		allowed[side] = func(context.Context) bool { return !revoked.Load() }
		far, ended := join(t, debugrelay.New(debugrelay.Limits{}, nil), allowed)
		revoked.Store(true)
		awaitEnd(t, far[0])
		awaitEnd(t, far[1])
		<-ended
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	both := [2]func(context.Context) bool{always, always}
	t.Run("bytes", func(t *testing.T) {
		t.Parallel()
		far, ended := join(t, debugrelay.New(debugrelay.Limits{Bytes: 1 << 20}, nil), both)
		go func() { _, _ = far[0].Write(make([]byte, 2<<20)) }()
		if n, _ := io.Copy(io.Discard, far[1]); n > 1<<20 {
			t.Errorf("%d bytes passed", n)
		}
		<-ended
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		far, ended := join(t, debugrelay.New(debugrelay.Limits{Idle: 50 * time.Millisecond}, nil), both)
		awaitEnd(t, far[0])
		<-ended
	})
	t.Run("lifetime", func(t *testing.T) {
		t.Parallel()
		far, ended := join(t, debugrelay.New(debugrelay.Limits{Lifetime: 50 * time.Millisecond}, nil), both)
		awaitEnd(t, far[1])
		<-ended
	})
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		stop := make(chan struct{})
		far, ended := join(t, debugrelay.New(debugrelay.Limits{}, stop), both)
		close(stop)
		awaitEnd(t, far[0])
		<-ended
	})
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		r := debugrelay.New(debugrelay.Limits{AgentWait: time.Millisecond, Wait: time.Millisecond, Sessions: 1}, nil)
		for side := range 2 {
			_, err := r.Meet(t.Context(), "a", debugrelay.Side(side), "", always)
			if !errors.Is(err, debugrelay.ErrAlone) {
				t.Errorf("side %d: %v", side, err)
			}
		}
		waiting := debugrelay.New(debugrelay.Limits{Sessions: 1}, nil)
		results := make(chan error, 3)
		meet := func(key string) {
			_, err := waiting.Meet(t.Context(), key, debugrelay.Person, "", always)
			results <- err
		}
		go meet("a")
		go meet("a") // one of both replaces the other
		if err := <-results; !errors.Is(err, debugrelay.ErrReplaced) {
			t.Error(err)
		}
	})
	t.Run("live", func(t *testing.T) {
		t.Parallel()
		r := debugrelay.New(debugrelay.Limits{}, nil)
		far, ended := join(t, r, both)
		if _, err := r.Meet(t.Context(), "acme/1", debugrelay.Agent, "", always); !errors.Is(err, debugrelay.ErrLive) {
			t.Error(err)
		}
		_ = far[1].Close()
		<-ended
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		r := debugrelay.New(debugrelay.Limits{Sessions: 1}, nil)
		far, ended := join(t, r, both)
		if _, err := r.Meet(t.Context(), "acme/2", debugrelay.Agent, "", always); !errors.Is(err, debugrelay.ErrFull) {
			t.Error(err)
		}
		_ = far[1].Close()
		<-ended
	})
}
