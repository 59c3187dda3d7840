package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells/maintenance"
	"github.com/sluice-cd/sluice/cells/maintenance/server"
	"github.com/sluice-cd/sluice/releases"
)

// agent serves maintenances on a socket, and can be killed.
type agent struct {
	t      *testing.T
	socket string
	server *server.Server
	http   *http.Server
}

func startAgent(t *testing.T) *agent {
	a := &agent{t: t, socket: filepath.Join(t.TempDir(), "s")}
	a.start()
	t.Cleanup(a.kill)
	return a
}

func (a *agent) start() {
	var config net.ListenConfig
	listener, err := config.Listen(a.t.Context(), "unix", a.socket)
	if err != nil {
		a.t.Fatal(err)
	}
	a.server = server.New(func() {})
	a.http = &http.Server{Handler: a.server.Handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = a.http.Serve(listener) }()
}

func (a *agent) kill() { _ = a.http.Close() }

// refuse begins a maintenance for so long.
func (a *agent) refuse(d time.Duration) {
	now := time.Now()
	a.server.Set(maintenance.Combine(&maintenance.Record{Phase: maintenance.Draining, Begins: now, Until: now.Add(d),
		Release: "1.1.0", Shows: releases.Maintenance{Texts: releases.Texts{
			"en": {"default": "Back in {minutes} minutes.", "start": "No start now."},
			"de": {"start": "Gerade kein Start, {kind}."}, "pt-BR": {"start": "Agora não."}}}}, nil, nil, now))
}

func (a *agent) end() { a.server.Set(maintenance.State{Phase: maintenance.Off}) }

func (a *agent) request(method, path, body string, headers ...string) (int, http.Header, string) {
	a.t.Helper()
	c := New(a.socket, Options{})
	request, err := http.NewRequestWithContext(a.t.Context(), method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := c.http.Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

// A user sees the text in the user's own language, and when to try again.
func TestRefusal(t *testing.T) {
	a := startAgent(t)
	a.refuse(90 * time.Second)
	for language, text := range map[string]string{"": "No start now.", "de-AT, en;q=0.5": "Gerade kein Start, start.",
		"pt": "Agora não.", "xx": "No start now.", ";;;": "No start now.",
		strings.Repeat("a-", 5000): "No start now."} {
		status, header, body := a.request("POST", "/v1/operations", `{"kind":"start","key":"ws-1"}`,
			"Accept-Language", language)
		var problem struct{ Detail string }
		if err := json.Unmarshal([]byte(body), &problem); err != nil {
			t.Fatal(err)
		}
		if status != http.StatusLocked || problem.Detail != text || header.Get("Retry-After") != "90" ||
			header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%.20q: %d %v %s", language, status, header, body)
		}
	}
	c := New("unix://"+a.socket, Options{})
	_, err := c.Begin(WithLanguage(t.Context(), "de"), "start", "ws-1")
	refused := new(Refused)
	if !errors.As(err, &refused) || refused.Text != "Gerade kein Start, start." || refused.After < time.Minute ||
		refused.Unconfirmed {
		t.Errorf("%+v", err)
	}
	if op, err := c.Begin(t.Context(), "fork", "ws-1"); err != nil {
		t.Error(err)
	} else {
		op.End()
	}
}

func TestWrongRequests(t *testing.T) {
	a := startAgent(t)
	for _, test := range []struct {
		method, path, body string
		status             int
		headers            []string
	}{
		{"POST", "/v1/operations", "", 400, nil},
		{"POST", "/v1/operations", "[]", 400, nil},
		{"POST", "/v1/operations", `{"kind":"start"}`, 400, nil},
		{"POST", "/v1/operations", `{"kind":"Start now","key":"k"}`, 400, nil},
		{"POST", "/v1/operations", `{"kind":"start","key":"` + strings.Repeat("k", 5000) + `"}`, 400, nil},
		{"POST", "/v1/operations", `{"kind":"start","key":"k"}`, 403, []string{"Origin", "https://evil.example"}},
		{"GET", "/v1/maintenance?wait=61", "", 400, nil},
		{"GET", "/v1/maintenance?wait=-1", "", 400, nil},
		{"GET", "/v1/maintenance?kind=%2e%2e", "", 400, nil},
		{"PUT", "/v1/maintenance", "", 404, nil},
		{"GET", "/v1/other", "", 404, nil},
		{"DELETE", "/v1/operations/start/unknown", "", 204, nil},
		{"DELETE", "/v1/operations/start/a%0Ab", "", 400, nil},
	} {
		if status, _, body := a.request(test.method, test.path, test.body, test.headers...); status != test.status {
			t.Errorf("%s %s %.40s: %d %s", test.method, test.path, test.body, status, body)
		}
	}
}

// A key of any characters names the same operation when it is ended.
func TestKeysAreEscaped(t *testing.T) {
	a := startAgent(t)
	c := New(a.socket, Options{})
	op, err := c.Begin(t.Context(), "start", "Ada's/ws 7?ü%2F")
	if err != nil {
		t.Fatal(err)
	}
	a.refuse(time.Minute)
	if b := a.server.Busy(); b.Count != 1 {
		t.Fatalf("%+v", b)
	}
	op.End()
	if b := a.server.Busy(); b.Count != 0 {
		t.Errorf("%+v", b)
	}
}

// 1,000 askers at the boundary: what was granted is under way when the drain begins, and nothing is granted after.
func TestAThousandAskersAtTheBoundary(t *testing.T) {
	a := startAgent(t)
	c := New(a.socket, Options{Renew: time.Hour, Timeout: time.Minute})
	var granted, refused, late atomic.Int64
	var draining atomic.Bool
	var askers sync.WaitGroup
	begin := make(chan struct{})
	for i := range 1000 {
		askers.Go(func() {
			<-begin
			asked := draining.Load()
			op, err := c.Begin(t.Context(), "start", fmt.Sprint(i))
			switch isRefused := new(Refused); {
			case err == nil && op.Unconfirmed:
				t.Error("the agent could not be asked")
			case err == nil && asked:
				late.Add(1)
			case err == nil:
				granted.Add(1)
			case errors.As(err, &isRefused):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	close(begin)
	for a.server.Busy().Count == 0 && granted.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	a.refuse(time.Minute)
	draining.Store(true)
	before := a.server.Busy().Count
	askers.Wait()
	after := a.server.Busy().Count
	if before != after || int64(after) != granted.Load() || late.Load() > 0 || granted.Load()+refused.Load() != 1000 {
		t.Errorf("%d were under way when the drain began, %d are now; %d granted, %d refused, %d late", before, after,
			granted.Load(), refused.Load(), late.Load())
	}
}

// It ends by itself, and whoever waits learns of it.
func TestItEndsByItself(t *testing.T) {
	a := startAgent(t)
	c := New(a.socket, Options{})
	states := make(chan State, 10)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go c.Watch(ctx, func(s State) { states <- s })
	if s := <-states; s.Phase != "off" {
		t.Fatalf("%+v", s)
	}
	a.refuse(2 * time.Second)
	if s := <-states; s.Phase != "draining" || s.Text != "Back in 1 minutes." || s.Seconds < 1 || s.Seconds > 2 {
		t.Errorf("%+v", s)
	}
	if s := <-states; s.Phase != "off" || s.Text != "" {
		t.Errorf("%+v", s)
	}
	if op, err := c.Begin(t.Context(), "start", "ws"); err != nil {
		t.Error(err)
	} else {
		op.End()
	}
	_, _, metrics := a.request("GET", "/metrics", "")
	_, after, _ := strings.Cut(metrics, "\nsluice_maintenance_seconds_total ")
	text, _, _ := strings.Cut(after, "\n")
	refused, err := strconv.ParseFloat(text, 64)
	if err != nil || refused < 1.9 || refused > 60 || !strings.Contains(metrics, "sluice_maintenances_total 1\n") {
		t.Error(metrics)
	}
}

// Without an answer the client goes by what it was told last, until the end that it was told then.
func TestWithoutAnAgent(t *testing.T) {
	a := startAgent(t)
	c := New(a.socket, Options{Renew: 20 * time.Millisecond, Timeout: time.Minute})
	a.refuse(2 * time.Second)
	if _, err := c.Begin(t.Context(), "start", "ws-1"); err == nil {
		t.Fatal("granted")
	}
	a.kill()
	refused := new(Refused)
	if _, err := c.Begin(t.Context(), "start", "ws-1"); !errors.As(err, &refused) || !refused.Unconfirmed ||
		refused.Text != "No start now." {
		t.Fatalf("%v", err)
	}
	var op *Operation
	for op == nil {
		var err error
		if op, err = c.Begin(t.Context(), "start", "ws-1"); err != nil {
			time.Sleep(20 * time.Millisecond)
		}
	}
	if !op.Unconfirmed {
		t.Error("it does not say that nobody was asked")
	}
	a.start()
	a.refuse(time.Minute) // the agent is back, drains, and learns that an operation is under way
	for a.server.Busy().Count == 0 {
		time.Sleep(time.Millisecond)
	}
	if names := a.server.Busy().Names; names != "start ws-1" {
		t.Error(names)
	}
	op.End()
	if b := a.server.Busy(); b.Count != 0 || b.Quiet { // a new process waits for other holders
		t.Errorf("%+v", b)
	}
	a.end()
	if op, err := c.Begin(t.Context(), "start", "ws-1"); err != nil || op.Unconfirmed {
		t.Errorf("%v", err)
	}
	a.kill()
	if op, err := c.Begin(t.Context(), "start", "ws-2"); err != nil || !op.Unconfirmed {
		t.Errorf("the agent said that it is over: %v", err)
	}
}

// What is under way is renewed, and taken over, in a maintenance too: that ends no refusal that the client knows of.
func TestRenewalsEndNoRefusal(t *testing.T) {
	a := startAgent(t)
	c := New(a.socket, Options{Renew: time.Hour, Timeout: time.Minute})
	op, err := c.Begin(t.Context(), "start", "before")
	if err != nil {
		t.Fatal(err)
	}
	defer op.cancel()
	a.refuse(time.Hour)
	if _, err := c.Begin(t.Context(), "start", "now"); err == nil {
		t.Fatal("granted")
	}
	for _, op := range []*Operation{op, {Kind: "start", Key: "of a process that is gone"}} {
		if err := c.ask(t.Context(), op, true); err != nil {
			t.Fatal(err)
		}
	}
	a.kill()
	refused := new(Refused)
	if _, err := c.Begin(t.Context(), "start", "now"); !errors.As(err, &refused) || !refused.Unconfirmed {
		t.Errorf("%v", err)
	}
}

// A renewal that is under way when the operation ends does not come after the end, which would keep the lease.
func TestEndComesAfterARenewal(t *testing.T) {
	s := server.New(func() {})
	asked, arrived, goOn := 0, make(chan struct{}), make(chan struct{})
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			if asked++; asked == 2 { // one at a time asks
				close(arrived)
				<-goOn
			}
		}
		s.Handler().ServeHTTP(w, r)
	}))
	defer agent.Close()
	c := New(agent.URL, Options{Renew: time.Millisecond, Timeout: time.Minute})
	op, err := c.Begin(t.Context(), "start", "ws-1")
	if err != nil {
		t.Fatal(err)
	}
	<-arrived
	time.AfterFunc(100*time.Millisecond, func() { close(goOn) })
	op.End()
	agent.Close() // once all is answered
	if b := s.Busy(); b.Count != 0 {
		t.Errorf("%+v", b)
	}
}

// sockets is where programs ask: a number of interruptions, negative while they can't.
type sockets int64

func (s sockets) Reachable() (bool, int64) { return s >= 0, max(int64(s), -int64(s)) }

// While the socket is gone nothing is known to be quiet, nor for a lease's time after it is back: programs may have
// begun operations by themselves meanwhile, and say so by then.
func TestASocketThatWasGone(t *testing.T) {
	now := time.Now()
	o := maintenance.NewOperations(now.Add(-maintenance.LeaseTime))
	o.Set(maintenance.State{Phase: maintenance.Draining, Refused: maintenance.DefaultKinds(),
		Until: now.Add(time.Hour)}, now)
	if !o.Busy(now).Quiet {
		t.Fatal("nobody asks")
	}
	o.Interrupted(now)
	op := maintenance.Operation{Kind: "start", Key: "by itself"}
	if b := o.Busy(now.Add(maintenance.LeaseTime - 1)); b.Quiet || !strings.Contains(b.Names, "could not ask") {
		t.Errorf("%+v", b)
	}
	if o.Begin(op, true, now) != maintenance.Granted || o.Busy(now).Names != "start by itself" {
		t.Error("it is taken over")
	}
	if o.End(op); !o.Busy(now.Add(maintenance.LeaseTime)).Quiet {
		t.Error("quiet, and known to be")
	}
	synctest.Test(t, func(t *testing.T) {
		s := server.New(func() {})
		s.Set(maintenance.State{Phase: maintenance.Draining, Refused: maintenance.DefaultKinds(),
			Until: time.Now().Add(time.Hour)})
		for _, step := range []struct {
			after time.Duration
			at    sockets
			quiet bool
		}{{0, 0, false}, {maintenance.LeaseTime, 0, true}, {time.Minute, -1, false}, {time.Minute, -1, false},
			{0, 1, false}, {maintenance.LeaseTime, 1, true}, {0, 2, false}, {maintenance.LeaseTime, 2, true}} {
			time.Sleep(step.after)
			if b := s.BusyAt(step.at); b.Quiet != step.quiet {
				t.Errorf("%+v: %+v", step, b)
			}
		}
		s.Set(maintenance.State{Phase: maintenance.Off})
	})
}

// A stream tells of each change, with the tag of the state.
func TestEvents(t *testing.T) {
	a := startAgent(t)
	c := New(a.socket, Options{})
	response, err := c.send(t.Context(), http.MethodGet, "/v1/maintenance/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	buffer := make([]byte, 4096)
	read := func() string {
		n, err := response.Body.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}
	if text := read(); !strings.Contains(text, `data: {"phase":"off"}`) {
		t.Error(text)
	}
	a.refuse(time.Minute)
	text := read()
	_, header, _ := a.request("GET", "/v1/maintenance", "")
	if tag := strings.Trim(header.Get("ETag"), `"`); !strings.Contains(text, `"phase":"draining"`) ||
		!strings.HasPrefix(text, "id: "+tag+"\n") {
		t.Errorf("%s with tag %s", text, tag)
	}
	if status, _, body := a.request("GET", "/v1/maintenance", "", "If-None-Match", header.Get("ETag")); status != 304 ||
		body != "" {
		t.Error(status, body)
	}
}

// The largest texts that a release may have fit, and one more is refused where the release is checked.
func TestTwentyLanguages(t *testing.T) {
	texts := releases.Texts{}
	languages := strings.Fields("bg cs da de el en es et fi fr hr hu it lt lv nl pl pt ro sv")
	for _, l := range languages {
		texts[l] = map[string]string{"default": l + strings.Repeat(" ü", releases.MaxTexts/len(languages)/3-1)}
	}
	all := releases.Maintenance{Texts: texts}
	if faults := all.Check(); len(faults) > 0 {
		t.Fatal(faults)
	}
	a := startAgent(t)
	now := time.Now()
	a.server.Set(maintenance.Combine(&maintenance.Record{Phase: maintenance.Draining, Until: now.Add(time.Minute),
		Shows: all}, nil, nil, now))
	for _, l := range languages {
		if _, _, body := a.request("GET", "/v1/maintenance", "", "Accept-Language", l); !strings.Contains(body,
			`"text":"`+l+" ü") {
			t.Errorf("%s: %.60s", l, body)
		}
	}
	texts["sk"] = map[string]string{"default": strings.Repeat("x", 3000), "start": strings.Repeat("x", 3000)}
	if faults := all.Check(); len(faults) != 1 || faults[0].At != "texts" {
		t.Error(faults)
	}
	texts["sk"] = map[string]string{"default": "{when}", "stop": " ", "start": "a\x1b[0m", "Snap": "x"}
	found := all.Check()
	if len(found) != 4 || !slices.ContainsFunc(found, func(f releases.TextFault) bool {
		return f.At == "texts.sk.default" && strings.Contains(f.Reason, "{until}")
	}) {
		t.Error(found)
	}
}
