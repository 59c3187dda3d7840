package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/cells/kubernetes"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/cluster"
)

const wait = 3 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	until := time.Now().Add(wait)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("not within %s: %s: %v", wait, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// bundle returns a bundle with the flag "editor", which belongs to a feature, and as many other flags as fill that many
// bytes that can't be compressed by much.
func bundle(t testing.TB, filled int) []byte {
	t.Helper()
	b := &flags.Bundle{Version: flags.BundleVersion, Channel: "staging", Flags: map[string]json.RawMessage{
		"editor": json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on",` +
			`"metadata":{"off":"off"}}`),
	}}
	random := rand.New(rand.NewPCG(1, 2))
	for i := 0; filled > 0; i++ {
		text := make([]byte, 4000)
		for j := range text {
			text[j] = byte('0' + random.IntN(74))
			if text[j] == '\\' {
				text[j] = 'x'
			}
		}
		b.Flags[fmt.Sprintf("filler-%06d", i)] = json.RawMessage(fmt.Sprintf(
			`{"state":"ENABLED","variants":{"on":%q},"defaultVariant":"on"}`, text))
		filled -= len(text)
	}
	return b.Encode()
}

// cell is an agent's side and a node part, which meet in a real API server.
type cell struct {
	maps         *kubernetes.ConfigMaps
	beats        *kubernetes.Heartbeats
	maintenances *Board
	publisher    *Publisher
	shared       flagserver.Shared
	state        string
	stop         func()
}

func newCell(t *testing.T, c *cluster.Cluster) *cell {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	must(t, err)
	namespace := c.Namespace(t)
	maps, err := kubernetes.NewConfigMaps(config, namespace)
	must(t, err)
	beats, err := kubernetes.NewHeartbeats(config, namespace)
	must(t, err)
	acting := func(context.Context) error { return nil }
	l := &cell{maps: maps, beats: beats, maintenances: NewBoard(maps, beats, "flags", acting),
		publisher: NewPublisher(maps, "flags", acting), state: t.TempDir(),
		shared: flagserver.Shared{Cell: "acme", Order: "a", Height: 7, Release: "1.0.0", Time: time.Now()}}
	l.start(t)
	return l
}

func (l *cell) socket() string { return filepath.Join(l.state, "s") }

func (l *cell) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Options{Maps: l.maps, Heartbeats: l.beats, Name: "flags", Node: "n1", StateDir: l.state,
			Listen: []string{"unix://" + l.socket()}})
	}()
	l.stop = func() {
		cancel()
		must(t, <-done)
		l.stop = func() {}
	}
	t.Cleanup(func() { l.stop() })
}

func (l *cell) share(t *testing.T, raw []byte) {
	t.Helper()
	l.shared.Bundle = releases.DigestBytes(raw)
	must(t, l.publisher.Share(t.Context(), l.shared, func() ([]byte, error) { return raw, nil }))
}

// value asks the node for a flag, as a pod does.
func (l *cell) value(key string) (any, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.socket())
		}}}
	answer, err := client.Post("http://localhost/ofrep/v1/evaluate/flags/"+key, "application/json",
		strings.NewReader(`{"context":{"targetingKey":"u"}}`))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %w", answer.Status, body, err)
	}
	var v struct{ Value any }
	return v.Value, json.Unmarshal(body, &v)
}

func (l *cell) await(t *testing.T, want bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("editor is %t", want), func() error {
		got, err := l.value("editor")
		if err == nil && got != want {
			err = fmt.Errorf("it is %v", got)
		}
		return err
	})
}

func (l *cell) killed(keys ...string) {
	l.shared.Orders = flags.Orders{}
	for _, k := range keys {
		l.shared.Orders.Killed = append(l.shared.Orders.Killed, flags.KilledFlag{Flag: k, Reason: "r"})
	}
}

// R43, R39: a kill reaches the node. What it knew last holds while the API server is away, also after a restart of the
// node part. What is older, damaged or no flags at all changes nothing; another order of heights starts anew.
func TestR43WithoutTheAPIServer(t *testing.T) {
	c := cluster.New(t, 0)
	l := newCell(t, c)
	raw := bundle(t, 0)
	if _, err := l.value("editor"); err == nil {
		t.Error("something is answered before anything is known")
	}
	l.share(t, raw)
	l.await(t, true)
	l.killed("editor")
	l.share(t, raw)
	l.await(t, false)

	c.StopAPIServer()
	l.stop()
	l.start(t)
	l.await(t, false)
	must(t, c.StartAPIServer(t.Context()))
	l.killed()
	l.shared.Height++
	eventually(t, "shared again", func() error {
		return l.publisher.Share(t.Context(), l.shared, func() ([]byte, error) { return raw, nil })
	})
	l.await(t, true)

	for name, text := range map[string]string{"damaged": "{", "no flags": `{"cell":"acme","bundle":"x"}`,
		"older": fmt.Sprintf(`{"cell":"acme","order":"a","height":1,"bundle":%q,"orders":{"killed":[{"flag":"editor"}]}}`,
			l.shared.Bundle)} {
		must(t, l.maps.Write(t.Context(), "flags", map[string][]byte{sharedFile: []byte(text)}))
		l.shared.Height++
		l.killed("other")
		l.share(t, raw) // the node takes one after the other
		if got, err := l.value("editor"); got != true {
			t.Errorf("%s: editor is %v, %v", name, got, err)
		}
	}
	l.shared.Order, l.shared.Height = "b", 1
	l.killed("editor")
	l.share(t, raw)
	l.await(t, false)
}

// A bundle that no ConfigMap holds comes in parts, and a smaller one after it. One that all parts together do not hold
// is refused with its size.
func TestLargeBundle(t *testing.T) {
	l := newCell(t, shared.Get(t))
	large := bundle(t, 3<<20)
	l.share(t, large)
	eventually(t, "all of the bundle", func() error {
		_, err := l.value("filler-000700")
		return err
	})
	files, err := l.maps.Read(t.Context(), PartName("flags", 3))
	if err != nil || files == nil {
		t.Errorf("there is no third part: %v", err)
	}
	l.shared.Height++
	l.share(t, bundle(t, 0))
	eventually(t, "the smaller bundle", func() error {
		if _, err := l.value("filler-000700"); err == nil {
			return fmt.Errorf("the flag is there")
		}
		_, err := l.value("editor")
		return err
	})
	_, err = split(large, 1000, MaxParts)
	if err == nil || !strings.Contains(err.Error(), "the cell's nodes take 8000") {
		t.Errorf("too large: %v", err)
	}
}

// Somebody damages a part: the bundle of before stays in force, until the agent writes the next.
func TestDamagedPart(t *testing.T) {
	l := newCell(t, shared.Get(t))
	l.share(t, bundle(t, 0))
	l.await(t, true)
	next := bundle(t, 100)
	l.shared.Height++
	l.shared.Bundle = releases.DigestBytes(next)
	must(t, l.maps.Write(t.Context(), PartName("flags", 1), map[string][]byte{digestFile: []byte(l.shared.Bundle),
		partsFile: []byte("1"), partFile: []byte("damaged")}))
	l.publisher.written, l.publisher.at = l.shared.Bundle, time.Now()
	l.killed("filler-000000")
	l.share(t, next)
	l.await(t, true)
	l.publisher.written = ""
	l.share(t, next)
	eventually(t, "the next bundle", func() error {
		_, err := l.value("filler-000000")
		return err
	})
}

// What somebody changed or deleted is there again after a while, for a node part that begins with nothing.
func TestPartsAreWrittenAgain(t *testing.T) {
	l := newCell(t, shared.Get(t))
	raw := bundle(t, 0)
	l.share(t, raw)
	l.await(t, true)
	l.stop()
	must(t, l.maps.Write(t.Context(), PartName("flags", 1), map[string][]byte{partFile: []byte("damaged")}))
	l.share(t, raw)
	part := func() map[string][]byte {
		files, err := l.maps.Read(t.Context(), PartName("flags", 1))
		must(t, err)
		return files
	}
	if files := part(); len(files) != 1 {
		t.Errorf("it is written with each share: %d files", len(files))
	}
	l.publisher.at = time.Now().Add(-partsEvery)
	l.share(t, raw)
	if files := part(); string(files[digestFile]) != string(l.shared.Bundle) {
		t.Errorf("the part has %d files", len(files))
	}
	l.state = t.TempDir()
	l.start(t)
	l.await(t, true)
}

var shared cluster.Shared

func TestMain(m *testing.M) { os.Exit(shared.RunTests(m)) }
