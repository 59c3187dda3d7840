package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine/controlplane/metrics"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/listen"
)

// R57: of the descriptors, a share is kept back, and strangers get at most half of the rest.
func TestR57DescriptorShares(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int][2]int{
		0: {1, 1}, 64: {1, 1}, 256: {192, 96}, 1024: {768, 384}, 3000: {2250, 1125}, 20000: {18976, 4096},
		1 << 20: {1<<20 - 1024, 4096},
	} {
		if connections, strangers := descriptorShares(limit); [2]int{connections, strangers} != want {
			t.Errorf("%d descriptors: %d connections, %d strangers, not %d", limit, connections, strangers, want)
		}
	}
	if n := descriptorLimit(); n < 64 {
		t.Errorf("this process may have %d descriptors", n)
	}
}

// visitor is a connection and its peer's end.
type visitor struct {
	conn *asyncConn
	peer net.Conn
}

func newVisitor(t *testing.T) visitor {
	t.Helper()
	server, client := net.Pipe()
	t.Cleanup(func() { client.Close() })
	return visitor{newAsyncConn(server), client}
}

func (v visitor) isOpen() bool {
	_ = v.peer.SetReadDeadline(time.Now())
	_, err := v.peer.Read(make([]byte, 1))
	return !errors.Is(err, io.EOF)
}

// R57: where room is needed, the oldest stranger that keeps the server waiting goes. Peers that are known, or wait for
// the server, stay, and if none can go, the newcomer is refused.
func TestR57OldestStrangersGoFirst(t *testing.T) {
	t.Parallel()
	counted, err := metrics.New(metrics.Options{Registry: prometheus.NewRegistry(),
		View: func() *view.View { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	a := &admission{maxStrangers: 3, metrics: counted}
	begun := time.Now()
	enter := func(after time.Duration) visitor {
		v := newVisitor(t)
		if !a.enter(v.conn, begun.Add(after)) {
			t.Fatal("refused")
		}
		return v
	}
	known, queued := enter(0), enter(1)
	known.conn.key = "its key"
	known.conn.Welcome()
	a.heardPeer(&queued.conn.visit)
	old, middle, young := enter(4), enter(3), enter(5)
	a.heardPeer(&middle.conn.visit) // it sends a byte now and then
	a.awaitPeer(&middle.conn.visit)
	newest := enter(6)
	for name, c := range map[string]struct {
		visitor
		open bool
	}{"known": {known, true}, "queued": {queued, true}, "old": {old, true}, "middle": {middle, false},
		"young": {young, true}, "newest": {newest, true}} {
		if c.isOpen() != c.open {
			t.Errorf("%s: open %t", name, !c.open)
		}
	}
	a.makeRoom() // a quarter of three, rounded up
	if old.isOpen() || !young.isOpen() || !known.isOpen() || !queued.isOpen() {
		t.Error("another than the oldest stranger went")
	}
	for _, v := range []visitor{known, queued, young, newest, old, middle} {
		v.conn.Close()
		v.conn.Close()
	}
	if a.open != 0 || len(a.waiting) != 0 || len(a.ofKey) != 0 {
		t.Errorf("%d connections are counted, %d wait, %d keys have some", a.open, len(a.waiting), len(a.ofKey))
	}
}

// R57: a flood of silent connections has an effect on silent connections only, and each is closed in time.
func TestR57SilentPeersAreDropped(t *testing.T) {
	t.Parallel()
	counted, err := metrics.New(metrics.Options{Registry: prometheus.NewRegistry(),
		View: func() *view.View { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := listen.Loopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Log: zerolog.Nop(), Metrics: counted}
	a := &admission{metrics: counted}
	l := s.guard(plain, a)
	defer l.Close()
	begun := time.Now()
	silent, err := net.Dial("tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	speaks, err := net.Dial("tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer speaks.Close()
	if _, err := io.WriteString(speaks, "hello"); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	said := make([]byte, 5)
	if _, err := io.ReadFull(c, said); err != nil || string(said) != "hello" {
		t.Errorf("%q (%v)", said, err)
	}
	_ = silent.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the silent connection: %v", err)
	}
	if took := time.Since(begun); took < firstByteTimeout {
		t.Errorf("the silent connection was closed after %s", took)
	}
}
