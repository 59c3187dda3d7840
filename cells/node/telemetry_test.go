package node

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/imagerelay"
)

// testAgent is the agent's end of the way: the door that a real one has, and what came in.
type testAgent struct {
	access imagerelay.Access
	answer http.HandlerFunc

	mu     sync.Mutex
	came   []string
	header http.Header
}

func newTestAgent(t *testing.T) *testAgent {
	t.Helper()
	a := &testAgent{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	door, err := imagerelay.NewDoor(l.Addr().String(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a.access = door.Access()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	relay := imagerelay.New(imagerelay.Options{To: http.DefaultTransport, Log: zerolog.Nop()})
	go func() {
		defer close(ended)
		relay.ServeNodes(ctx, l, door, http.HandlerFunc(a.take))
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	return a
}

func (a *testAgent) take(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.came, a.header = append(a.came, r.Method+" "+r.URL.Path+" "+string(body)), r.Header.Clone()
	answer := a.answer
	a.mu.Unlock()
	if answer != nil {
		answer(w, r)
	}
}

func (a *testAgent) answerWith(h http.HandlerFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer = h
}

// newTestPart serves what a node part serves programs, and returns its address.
func newTestPart(t *testing.T, way http.RoundTripper) string {
	t.Helper()
	o := Options{Node: "n1", Agent: way, Log: zerolog.Nop()}
	p := &part{options: o, grants: newOperations(&o)}
	s := httptest.NewServer(p.localHandler())
	t.Cleanup(s.Close)
	return s.URL
}

func post(t *testing.T, address string, body io.Reader, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

// What a program on a node measures reaches the agent byte for byte, and nothing else does: no other path, no other
// header, nothing of a web page.
func TestTelemetryReachesTheAgent(t *testing.T) {
	t.Parallel()
	agent := newTestAgent(t)
	way := new(AgentWay)
	address := newTestPart(t, way)
	if answer, _ := post(t, address+"/v1/metrics", strings.NewReader("x")); answer.StatusCode !=
		http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("before the agent said where it is: %s", answer.Status)
	}
	if err := way.Take(agent.access); err != nil {
		t.Fatal(err)
	}
	agent.answerWith(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/logs" {
			w.Header().Set("Retry-After", "7")
			http.Error(w, "later", http.StatusTooManyRequests)
			return
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = io.WriteString(w, "taken")
	})
	answer, text := post(t, address+"/v1/metrics", strings.NewReader("\x00points"), "Content-Type",
		"application/x-protobuf", "Content-Encoding", "gzip", "Cookie", "secret", "Authorization", "Bearer secret")
	if answer.StatusCode != http.StatusOK || text != "taken" {
		t.Errorf("metrics: %s %s", answer.Status, text)
	}
	agent.mu.Lock()
	h := agent.header
	agent.mu.Unlock()
	if h.Get("Content-Encoding") != "gzip" || h.Get("Content-Type") != "application/x-protobuf" ||
		h.Get("Cookie") != "" || strings.Contains(h.Get("Authorization"), "secret") {
		t.Errorf("the agent got the headers %v", h)
	}
	if answer, _ := post(t, address+"/v1/logs", strings.NewReader("events")); answer.StatusCode !=
		http.StatusTooManyRequests || answer.Header.Get("Retry-After") != "7" {
		t.Errorf("an agent that has no room: %s", answer.Status)
	}
	for path, status := range map[string]int{"/v1/traces": http.StatusNotFound, "/v2/": http.StatusNotFound} {
		if answer, _ := post(t, address+path, nil); answer.StatusCode != status {
			t.Errorf("%s: %s", path, answer.Status)
		}
	}
	if answer, _ := post(t, address+"/v1/metrics", nil, "Origin", "https://evil.example"); answer.StatusCode !=
		http.StatusForbidden {
		t.Errorf("a web page: %s", answer.Status)
	}
	agent.mu.Lock()
	defer agent.mu.Unlock()
	if got := strings.Join(agent.came, "|"); got != "POST /v1/metrics \x00points|POST /v1/logs events" {
		t.Errorf("the agent got %q", got)
	}
}

// A node sends so much and no more, so that one node does not take what all have.
func TestTelemetryIsBounded(t *testing.T) {
	t.Parallel()
	agent := newTestAgent(t)
	way := new(AgentWay)
	if err := way.Take(agent.access); err != nil {
		t.Fatal(err)
	}
	address := newTestPart(t, way)
	if answer, _ := post(t, address+"/v1/metrics", strings.NewReader(strings.Repeat("a", maxTelemetry+1))); answer.
		StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %s", answer.Status)
	}
	hold := make(chan struct{})
	agent.answerWith(func(http.ResponseWriter, *http.Request) { <-hold })
	var under sync.WaitGroup
	for range telemetryAtOnce {
		under.Go(func() {
			answer, _ := post(t, address+"/v1/metrics", strings.NewReader("held"))
			if answer.StatusCode != http.StatusOK {
				t.Errorf("held: %s", answer.Status)
			}
		})
	}
	for n := 0; n < telemetryAtOnce; time.Sleep(time.Millisecond) {
		agent.mu.Lock()
		n = len(agent.came)
		agent.mu.Unlock()
	}
	if answer, _ := post(t, address+"/v1/metrics", strings.NewReader("more")); answer.StatusCode !=
		http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
		t.Errorf("more at once: %s", answer.Status)
	}
	close(hold)
	under.Wait()
	refused := false
	large := strings.Repeat("a", maxTelemetry)
	for n := 0; n < 50 && !refused; n++ {
		answer, _ := post(t, address+"/v1/metrics", strings.NewReader(large))
		refused = answer.StatusCode == http.StatusTooManyRequests
	}
	if !refused {
		t.Error("a node may send without an end")
	}
}
