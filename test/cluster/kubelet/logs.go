package kubelet

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/cluster"
)

// Logs serves containers' logs: no container runs, so a test says what each wrote. All methods may be called at once.
type Logs struct {
	mu      sync.Mutex
	lines   map[string][]logLine // by POD/CONTAINER
	changed chan struct{}        // closed when anything below changed
	cuts    int                  // how often connections were cut
}

type logLine struct {
	at   time.Time
	text string
}

// NewLogs serves the logs of all nodes' pods.
func NewLogs(t testing.TB, c *cluster.Cluster) *Logs {
	t.Helper()
	k := &Logs{lines: map[string][]logLine{}, changed: make(chan struct{})}
	Serve(t, c, k, strings.Fields(c.Run(t, "", "get", "nodes", "-o", "name"))...)
	return k
}

func (k *Logs) change(do func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	do()
	close(k.changed)
	k.changed = make(chan struct{})
}

// Add has a container, which is POD/CONTAINER, write a line; with " before" at the end, before it was started anew.
func (k *Logs) Add(container, text string) {
	k.change(func() { k.lines[container] = append(k.lines[container], logLine{time.Now(), text}) })
}

// Cut cuts all connections off.
func (k *Logs) Cut() { k.change(func() { k.cuts++ }) }

// ServeHTTP implements http.Handler.
func (k *Logs) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	part := strings.Split(r.URL.Path, "/") // /containerLogs/NAMESPACE/POD/CONTAINER
	if len(part) != 5 || part[1] != "containerLogs" {
		http.NotFound(w, r)
		return
	}
	q := r.URL.Query()
	container, after := part[3]+"/"+part[4], time.Time{}
	if q.Get("previous") == "true" {
		container += " before"
	}
	if seconds, err := strconv.Atoi(q.Get("sinceSeconds")); err == nil {
		after = time.Now().Add(-time.Duration(seconds) * time.Second)
	}
	if at, err := time.Parse(time.RFC3339, q.Get("sinceTime")); err == nil {
		after = at
	}
	sent, first, cuts := 0, true, -1
	for {
		k.mu.Lock()
		all, changed := k.lines[container], k.changed
		if cuts < 0 {
			cuts = k.cuts
		}
		isCut := k.cuts > cuts
		k.mu.Unlock()
		if tail, err := strconv.Atoi(q.Get("tailLines")); err == nil && first {
			sent = max(0, len(all)-tail)
		}
		for ; sent < len(all); sent++ {
			if all[sent].at.Before(after) {
				continue
			}
			_, _ = fmt.Fprintf(w, "%s %s\n", all[sent].at.Format(time.RFC3339Nano), all[sent].text)
		}
		first = false
		_ = http.NewResponseController(w).Flush()
		if q.Get("follow") != "true" || isCut {
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}
