package cluster

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Kubelet serves containers' logs to the API server, as the kubelets of all nodes do: since no container runs, a test
// says what each wrote. All methods may be called at once.
type Kubelet struct {
	mu      sync.Mutex
	lines   map[string][]logLine // by POD/CONTAINER
	changed chan struct{}        // closed when anything below changed
	cuts    int                  // how often connections were cut
}

type logLine struct {
	at   time.Time
	text string
}

// NewKubelet has the API server ask this process for logs of all nodes' pods.
func NewKubelet(t testing.TB, c *Cluster) *Kubelet {
	t.Helper()
	k := &Kubelet{lines: map[string][]logLine{}, changed: make(chan struct{})}
	s := httptest.NewTLSServer(k)
	t.Cleanup(s.Close)
	_, port, _ := strings.Cut(s.Listener.Addr().String(), ":")
	patch := `{"status":{"addresses":[{"type":"InternalIP","address":"127.0.0.1"}],` +
		`"daemonEndpoints":{"kubeletEndpoint":{"Port":` + port + `}}}}`
	for _, node := range strings.Fields(c.Run(t, "", "get", "nodes", "-o", "name")) {
		c.Run(t, "", "patch", node, "--subresource=status", "--type=strategic", "-p", patch)
	}
	return k
}

func (k *Kubelet) change(do func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	do()
	close(k.changed)
	k.changed = make(chan struct{})
}

// Add has a container, which is POD/CONTAINER, write a line; with " before" at the end, before it was started anew.
func (k *Kubelet) Add(container, text string) {
	k.change(func() { k.lines[container] = append(k.lines[container], logLine{time.Now(), text}) })
}

// Cut cuts all connections off.
func (k *Kubelet) Cut() { k.change(func() { k.cuts++ }) }

// ServeHTTP implements http.Handler.
func (k *Kubelet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
