package provider

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-feature/go-sdk/openfeature"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/ofrep"
)

// testSource is a source that a test changes.
type testSource struct {
	mu      sync.Mutex
	folded  *flags.Folded
	later   int64 // seconds after testStart
	changed chan struct{}
}

const testStart = 1_800_000_000

func newTestSource() *testSource { return &testSource{changed: make(chan struct{})} }

func (h *testSource) Current() (*flags.Folded, int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.folded, testStart + h.later
}

func (h *testSource) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

func (h *testSource) setFlags(f *flags.Folded) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.folded = f
	close(h.changed)
	h.changed = make(chan struct{})
}

const testBundle = `{
	"version": 1, "channel": "staging", "gates": [],
	"flags": {
		"mail": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
			"targeting": {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", "off"]}},
		"color": {"state": "ENABLED", "variants": {"red": "#f00", "blue": "#00f"}, "defaultVariant": "red", "metadata": {"owner": "web"}},
		"size": {"state": "ENABLED", "variants": {"s": 1.5, "l": 2}, "defaultVariant": "s"},
		"shape": {"state": "ENABLED", "variants": {"a": {"corners": 4}}, "defaultVariant": "a"},
		"where": {"state": "ENABLED", "variants": {"here": "here", "there": "there"}, "defaultVariant": "there",
			"targeting": {"if": [{"==": [{"var": "cell"}, "acme"]}, "here"]}},
		"gone": {"state": "DISABLED", "variants": {"on": true}, "defaultVariant": "on"},
		"late": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on", "metadata": {"feature": "ssh", "off": "off"}}
	}
}`

func foldBundle(t testing.TB, orders flags.Orders) *flags.Folded {
	t.Helper()
	var b flags.Bundle
	if err := json.Unmarshal([]byte(testBundle), &b); err != nil {
		t.Fatal(err)
	}
	c, err := flags.Compile(&b)
	if err != nil {
		t.Fatal(err)
	}
	return c.Fold(orders, flags.Facts{Cell: "acme", Channel: "staging"}, 1_800_000_000)
}

// newClient returns a client of the provider, in a domain of the test's own.
func newClient(t testing.TB, p *Provider) *openfeature.Client {
	t.Helper()
	domain := t.Name()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := openfeature.SetNamedProviderWithContextAndWait(ctx, domain, p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Shutdown)
	return openfeature.NewClient(domain)
}

func TestEvaluations(t *testing.T) {
	t.Parallel()
	source := newTestSource()
	source.setFlags(foldBundle(t, flags.Orders{}))
	checkEvaluations(t, newClient(t, New(source)))
}

// checkEvaluations checks a client's evaluations against testBundle in the cell acme.
func checkEvaluations(t *testing.T, c *openfeature.Client) {
	t.Helper()
	ada := openfeature.NewEvaluationContext("ada", map[string]any{"email": "ada@example.com", "cell": "beta"}) // R36
	for _, want := range []struct {
		flag, variant string
		kind          openfeature.Type
		otherwise     any
		value         any
		reason        openfeature.Reason
		code          openfeature.ErrorCode
	}{
		{"mail", "on", openfeature.Boolean, false, true, openfeature.TargetingMatchReason, ""},
		{"color", "red", openfeature.String, "", "#f00", openfeature.StaticReason, ""},
		{"size", "s", openfeature.Float, 0.0, 1.5, openfeature.StaticReason, ""},
		{"size", "s", openfeature.Int, int64(0), int64(1), openfeature.StaticReason, ""},
		{"where", "here", openfeature.String, "", "here", openfeature.TargetingMatchReason, ""},
		{"gone", "", openfeature.Boolean, true, true, openfeature.DisabledReason, ""},
		{"late", "off", openfeature.Boolean, true, false, openfeature.StaticReason, ""},
		{"color", "", openfeature.Boolean, true, true, openfeature.ErrorReason, openfeature.TypeMismatchCode},
		{"none", "", openfeature.String, "mine", "mine", openfeature.ErrorReason, openfeature.FlagNotFoundCode},
	} {
		var got any
		var d openfeature.EvaluationDetails
		switch want.kind {
		case openfeature.Boolean:
			r, _ := c.BooleanValueDetails(t.Context(), want.flag, want.otherwise.(bool), ada)
			got, d = r.Value, r.EvaluationDetails
		case openfeature.String:
			r, _ := c.StringValueDetails(t.Context(), want.flag, want.otherwise.(string), ada)
			got, d = r.Value, r.EvaluationDetails
		case openfeature.Float:
			r, _ := c.FloatValueDetails(t.Context(), want.flag, want.otherwise.(float64), ada)
			got, d = r.Value, r.EvaluationDetails
		case openfeature.Int:
			r, _ := c.IntValueDetails(t.Context(), want.flag, want.otherwise.(int64), ada)
			got, d = r.Value, r.EvaluationDetails
		}
		if got != want.value || d.Variant != want.variant || d.Reason != want.reason || d.ErrorCode != want.code {
			t.Errorf("%s as %s: %v, variant %q, %s %s: want %+v", want.flag, want.kind, got, d.Variant, d.Reason,
				d.ErrorCode, want)
		}
	}
	shape, err := c.ObjectValue(t.Context(), "shape", nil, ada)
	if text, _ := json.Marshal(shape); err != nil || string(text) != `{"corners":4}` {
		t.Errorf("shape is %s, %v", text, err)
	}
	if d, err := c.StringValueDetails(t.Context(), "color", "", ada); err != nil || d.FlagMetadata["owner"] != "web" {
		t.Errorf("color has the metadata %v, %v", d.FlagMetadata, err)
	}
}

// A hook's context counts like the caller's, and the hook sees the result.
func TestHooks(t *testing.T) {
	t.Parallel()
	source := newTestSource()
	source.setFlags(foldBundle(t, flags.Orders{}))
	c := newClient(t, New(source))
	h := &mailHook{}
	c.AddHooks(h)
	on, err := c.BooleanValue(t.Context(), "mail", false, openfeature.EvaluationContext{})
	if err != nil || !on || h.provider != name || h.variant != "on" {
		t.Errorf("mail is %v, %v; the hook saw variant %q of provider %q", on, err, h.variant, h.provider)
	}
}

type mailHook struct {
	openfeature.UnimplementedHook
	provider, variant string
}

func (h *mailHook) Before(
	_ context.Context, c openfeature.HookContext, _ openfeature.HookHints,
) (*openfeature.EvaluationContext, error) {
	h.provider = c.ProviderMetadata().Name
	more := openfeature.NewEvaluationContext("ada", map[string]any{"email": "ada@example.com"})
	return &more, nil
}

func (h *mailHook) After(
	_ context.Context, _ openfeature.HookContext, d openfeature.InterfaceEvaluationDetails, _ openfeature.HookHints,
) error {
	h.variant = d.Variant
	return nil
}

// countEvents counts a client's events of a kind.
func countEvents(c *openfeature.Client, kind openfeature.EventType) *atomic.Int64 {
	var n atomic.Int64
	callback := func(openfeature.EventDetails) { n.Add(1) }
	c.AddHandler(kind, &callback)
	return &n
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestNotReadyUntilThereAreFlags(t *testing.T) {
	t.Parallel()
	source := newTestSource()
	p := New(source)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := openfeature.SetNamedProviderWithContextAndWait(ctx, t.Name(), p); err == nil {
		t.Fatal("it is ready without flags")
	}
	t.Cleanup(p.Shutdown)
	c := openfeature.NewClient(t.Name())
	d, err := c.BooleanValueDetails(t.Context(), "mail", true, openfeature.EvaluationContext{})
	if err == nil || !d.Value || d.ErrorCode != openfeature.ProviderNotReadyCode {
		t.Errorf("without flags: %+v, %v", d, err)
	}
	source.setFlags(foldBundle(t, flags.Orders{}))
	eventually(t, "ready", func() bool { return c.State() == openfeature.ReadyState })
	changes := countEvents(c, openfeature.ProviderConfigChange)
	source.setFlags(foldBundle(t, flags.Orders{Killed: []flags.KilledFlag{{Flag: "mail"}}}))
	eventually(t, "told of a change", func() bool { return changes.Load() == 1 })
}

// serve serves flags as an agent, on a socket that can be closed and opened again.
func serve(t *testing.T, socket string, source flags.Source) (stop func()) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := ofrep.Server(ctx, ofrep.New(source, zerolog.Nop(), ofrep.Options{}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); err != http.ErrServerClosed {
			t.Error(err)
		}
	}()
	return sync.OnceFunc(func() {
		cancel()
		_ = s.Close()
		<-done
	})
}

func TestFollowsAnAgent(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sluice-") // short: the path of a socket has a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	source := newTestSource()
	source.setFlags(foldBundle(t, flags.Orders{}))
	stop := serve(t, socket, source)
	p, err := Dial("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, p)
	checkEvaluations(t, c)
	if _, at := p.source.Current(); at < 1_800_000_000 || at > 1_800_000_060 {
		t.Errorf("rules see the instant %d, and the agent's is 1800000000", at)
	}

	changes := countEvents(c, openfeature.ProviderConfigChange)
	source.setFlags(foldBundle(t, flags.Orders{Killed: []flags.KilledFlag{{Flag: "color"}}}))
	eventually(t, "told of a change", func() bool { return changes.Load() > 0 })
	d, err := c.StringValueDetails(t.Context(), "color", "", openfeature.EvaluationContext{})
	if err != nil || d.FlagMetadata["killed"] != true {
		t.Errorf("killed, color is %+v, %v", d, err)
	}

	stop()
	eventually(t, "stale", func() bool { return c.State() == openfeature.StaleState })
	if v, err := c.StringValue(t.Context(), "color", "", openfeature.EvaluationContext{}); err != nil || v != "#f00" {
		t.Errorf("stale, color is %q, %v", v, err)
	}
	source.setFlags(foldBundle(t, flags.Orders{}))
	t.Cleanup(serve(t, socket, source))
	eventually(t, "ready again", func() bool { return c.State() == openfeature.ReadyState })
	eventually(t, "what changed meanwhile is known", func() bool {
		d, err := c.StringValueDetails(t.Context(), "color", "", openfeature.EvaluationContext{})
		return err == nil && d.FlagMetadata["killed"] == nil
	})
}

// Issue 13, part 10: a program that follows an agent learns that a rule's time has come, though the document is as it
// was.
func TestFollowsTheTimeOfRules(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "sluice-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	late := json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",
		"targeting":{"if":[{">=":[{"var":"$flagd.timestamp"},1800086400]},"on"]}}`)
	compiled, err := flags.Compile(&flags.Bundle{Version: flags.BundleVersion, Channel: "staging",
		Flags: map[string]json.RawMessage{"late": late}})
	if err != nil {
		t.Fatal(err)
	}
	source := newTestSource()
	source.setFlags(compiled.Fold(flags.Orders{}, flags.Facts{}, testStart))
	t.Cleanup(serve(t, filepath.Join(dir, "s"), source))
	p, err := Dial("unix://" + filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, p)
	changes := countEvents(c, openfeature.ProviderConfigChange)
	source.mu.Lock()
	source.later = 86_400
	source.mu.Unlock()
	source.setFlags(compiled.Fold(flags.Orders{}, flags.Facts{}, testStart+86_400))
	eventually(t, "told of a change", func() bool { return changes.Load() > 0 })
	if on, err := c.BooleanValue(t.Context(), "late", false, openfeature.EvaluationContext{}); err != nil || !on {
		t.Errorf("it is %v, %v", on, err)
	}
}

func TestDialRefuses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1:80", "https://example.com", "http://", "unix://relative",
		"http://127.0.0.1:1/path"} {
		if _, err := Dial(address); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}

// Whatever flag and context, an evaluation returns a value and never panics.
func FuzzEvaluation(f *testing.F) {
	f.Add("mail", "ada", []byte(`{"email":"ada@example.com"}`))
	f.Add("where", "", []byte(`{"cell":["beta"],"":null}`))
	source := newTestSource()
	source.setFlags(foldBundle(f, flags.Orders{}))
	p := New(source)
	f.Fuzz(func(t *testing.T, flag, key string, raw []byte) {
		c := openfeature.FlattenedContext{}
		_ = json.Unmarshal(raw, &c)
		if c == nil {
			c = openfeature.FlattenedContext{}
		}
		c[openfeature.TargetingKey] = key
		if d := p.StringEvaluation(t.Context(), flag, "mine", c); d.Error() != nil && d.Value != "mine" {
			t.Errorf("%q fails with the value %q", flag, d.Value)
		}
	})
}

// constant is the simplest possible provider.
type constant struct{ openfeature.NoopProvider }

func (constant) Metadata() openfeature.Metadata { return openfeature.Metadata{Name: "constant"} }

func BenchmarkClient(b *testing.B) {
	source := newTestSource()
	source.setFlags(foldBundle(b, flags.Orders{}))
	ada := openfeature.NewEvaluationContext("ada", map[string]any{"email": "ada@example.com"})
	for which, p := range map[string]openfeature.FeatureProvider{"constant": constant{}, "rule": New(source)} {
		if err := openfeature.SetNamedProviderAndWait(b.Name()+which, p); err != nil {
			b.Fatal(err)
		}
		c := openfeature.NewClient(b.Name() + which)
		b.Run(which, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.BooleanValue(context.Background(), "mail", false, ada)
			}
		})
	}
}

// A whole number that may be another one as an int64 is TYPE_MISMATCH, with the caller's default, and metadata
// are read by the SDK's own accessors.
func TestNumbersDoNotChangeSilently(t *testing.T) {
	b := flags.Bundle{Version: flags.BundleVersion, Channel: "c",
		Flags: map[string]json.RawMessage{"n": json.RawMessage(
			`{"state":"ENABLED","variants":{"max":9223372036854775807,"huge":1e300,"low":-1e19,"odd":9007199254740993,` +
				`"safe":9007199254740991,"negative":-3.9},"defaultVariant":"max","targeting":{"var":"v"},` +
				`"metadata":{"whole":2,"part":0.5,"great":1e300}}`)}}
	c, err := flags.Compile(&b)
	if err != nil {
		t.Fatal(err)
	}
	source := newTestSource()
	source.setFlags(c.Fold(flags.Orders{}, flags.Facts{}, 1))
	p := New(source)
	for variant, want := range map[string]int64{"safe": 1<<53 - 1, "negative": -3} {
		d := p.IntEvaluation(t.Context(), "n", 7, openfeature.FlattenedContext{"v": variant})
		if d.Value != want || d.ResolutionDetail().ErrorCode != "" {
			t.Errorf("%s: %+v", variant, d)
		}
	}
	for _, variant := range []string{"max", "huge", "low", "odd"} {
		d := p.IntEvaluation(t.Context(), "n", 7, openfeature.FlattenedContext{"v": variant})
		if d.Value != 7 || d.ResolutionDetail().ErrorCode != openfeature.TypeMismatchCode {
			t.Errorf("%s: %+v", variant, d)
		}
		whole, err := d.FlagMetadata.GetInt("whole")
		part, err2 := d.FlagMetadata.GetFloat("part")
		great, err3 := d.FlagMetadata.GetFloat("great")
		if err != nil || err2 != nil || err3 != nil || whole != 2 || part != 0.5 || great != 1e300 {
			t.Errorf("metadata %v: %v, %v, %v", d.FlagMetadata, err, err2, err3)
		}
	}
}

// A provider whose events nobody reads goes on, and keeps the newest events for whoever reads later.
func TestNobodyReadsEvents(t *testing.T) {
	p := New(newTestSource())
	for range 100 {
		p.emit(openfeature.ProviderConfigChange, "")
	}
	p.emit(openfeature.ProviderStale, "the last")
	var last openfeature.Event
	for len(p.events) > 0 {
		last = <-p.events
	}
	if last.Message != "the last" {
		t.Errorf("the last event is %+v", last)
	}
}

// The agent's time is taken though the flags are unchanged; a step back is published, since rules may compute with it.
func TestTimeOfUnchangedFlags(t *testing.T) {
	source := newTestSource()
	source.setFlags(foldBundle(t, flags.Orders{}))
	server := httptest.NewServer(ofrep.New(source, zerolog.Nop(), ofrep.Options{}))
	defer server.Close()
	a := &agentSource{base: server.URL, http: server.Client(), changed: make(chan struct{})}
	for _, c := range []struct {
		later int64
		wakes bool
	}{{0, true}, {3600, false}, {0, true}} {
		source.mu.Lock()
		source.later = c.later
		source.mu.Unlock()
		changed := a.Changed()
		if err := a.refetch(t.Context()); err != nil {
			t.Fatal(err)
		}
		woken := false
		select {
		case <-changed:
			woken = true
		default:
		}
		if _, at := a.Current(); at < testStart+c.later || at > testStart+c.later+600 || woken != c.wakes {
			t.Errorf("%d s later it is %d, published: %t", c.later, at-testStart, woken)
		}
	}
}
