// Package clients tests the flags of a cell with the providers that OpenFeature publishes for Go and JavaScript, as a
// product without a provider of Sluice's does. It is a module of its own, to keep its dependencies out of the main
// module.
package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	remote "github.com/open-feature/go-sdk-contrib/providers/ofrep"
	"github.com/open-feature/go-sdk/openfeature"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/ofrep"
	"github.com/sluice-cd/sluice/test/debian"
)

// testSource is the flags of one cell, as its agent has them.
type testSource struct {
	compiled *flags.Compiled

	mu      sync.Mutex // guards the fields below
	folded  *flags.Folded
	changed chan struct{}
}

func (c *testSource) Current() (*flags.Folded, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.folded, time.Now().Unix()
}

func (c *testSource) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func (c *testSource) applyOrders(o flags.Orders) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.folded = c.compiled.Fold(o, flags.Facts{Cell: "acme", Channel: "staging"}, time.Now().Unix())
	if c.changed != nil {
		close(c.changed)
	}
	c.changed = make(chan struct{})
}

const bundleJSON = `{
	"version": 1, "channel": "staging", "gates": [],
	"flags": {
		"mail": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off", "metadata": {"expose": "client"},
			"targeting": {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", "off"]}},
		"color": {"state": "ENABLED", "variants": {"red": "#f00", "blue": "#00f"}, "defaultVariant": "red"},
		"size": {"state": "ENABLED", "variants": {"s": 1.5, "l": 2}, "defaultVariant": "s"},
		"shape": {"state": "ENABLED", "variants": {"a": {"corners": 4}}, "defaultVariant": "a"},
		"where": {"state": "ENABLED", "variants": {"here": "here", "there": "there"}, "defaultVariant": "there",
			"targeting": {"if": [{"==": [{"var": "cell"}, "acme"]}, "here"]}},
		"gone": {"state": "DISABLED", "variants": {"on": true}, "defaultVariant": "on"},
		"late": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "on", "metadata": {"feature": "ssh", "off": "off"}}
	}
}`

// pageOrigin is the origin of pages that may read answers.
const pageOrigin = "https://console.example.com"

func serve(t *testing.T) (c *testSource, address string) {
	t.Helper()
	var b flags.Bundle
	if err := json.Unmarshal([]byte(bundleJSON), &b); err != nil {
		t.Fatal(err)
	}
	compiled, err := flags.Compile(&b)
	if err != nil {
		t.Fatal(err)
	}
	c = &testSource{compiled: compiled}
	c.applyOrders(flags.Orders{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := ofrep.Server(ctx, ofrep.New(c, zerolog.Nop(), ofrep.Options{Origins: []string{pageOrigin}}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = s.Close()
		<-done
	})
	return c, "http://" + l.Addr().String()
}

// evaluation is a client's result of a flag.
type evaluation struct {
	Value     any    `json:"value"`
	Variant   string `json:"variant"`
	Reason    string `json:"reason"`
	ErrorCode string `json:"errorCode"`
}

// expected are the evaluations for ada in acme. She claims to be in another cell (R36, fault 62).
var expected = map[string]evaluation{
	"mail":  {true, "on", "TARGETING_MATCH", ""},
	"color": {"#f00", "red", "STATIC", ""},
	"size":  {1.5, "s", "STATIC", ""},
	"shape": {map[string]any{"corners": 4.0}, "a", "STATIC", ""},
	"where": {"here", "here", "TARGETING_MATCH", ""},
	"gone":  {true, "", "DISABLED", ""},
	"late":  {false, "off", "STATIC", ""},
	"wrong": {true, "", "ERROR", "TYPE_MISMATCH"},
	"none":  {"mine", "", "ERROR", "FLAG_NOT_FOUND"},
}

func TestGo(t *testing.T) {
	_, address := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := openfeature.SetNamedProviderWithContextAndWait(ctx, t.Name(), remote.NewProvider(address)); err != nil {
		t.Fatal(err)
	}
	c := openfeature.NewClient(t.Name())
	ada := openfeature.NewEvaluationContext("ada", map[string]any{"email": "ada@example.com", "cell": "beta"})
	boolean := func(flag string, otherwise bool) (any, openfeature.EvaluationDetails) {
		d, _ := c.BooleanValueDetails(ctx, flag, otherwise, ada)
		return d.Value, d.EvaluationDetails
	}
	text := func(flag, otherwise string) (any, openfeature.EvaluationDetails) {
		d, _ := c.StringValueDetails(ctx, flag, otherwise, ada)
		return d.Value, d.EvaluationDetails
	}
	for name, ask := range map[string]func() (any, openfeature.EvaluationDetails){
		"mail":  func() (any, openfeature.EvaluationDetails) { return boolean("mail", false) },
		"color": func() (any, openfeature.EvaluationDetails) { return text("color", "") },
		"size": func() (any, openfeature.EvaluationDetails) {
			d, _ := c.FloatValueDetails(ctx, "size", 0, ada)
			return d.Value, d.EvaluationDetails
		},
		"shape": func() (any, openfeature.EvaluationDetails) {
			d, _ := c.ObjectValueDetails(ctx, "shape", nil, ada)
			return d.Value, d.EvaluationDetails
		},
		"where": func() (any, openfeature.EvaluationDetails) { return text("where", "") },
		"gone":  func() (any, openfeature.EvaluationDetails) { return boolean("gone", true) },
		"late":  func() (any, openfeature.EvaluationDetails) { return boolean("late", true) },
		"wrong": func() (any, openfeature.EvaluationDetails) { return boolean("color", true) },
		"none":  func() (any, openfeature.EvaluationDetails) { return text("none", "mine") },
	} {
		value, d := ask()
		got := evaluation{value, d.Variant, string(d.Reason), string(d.ErrorCode)}
		if !reflect.DeepEqual(got, expected[name]) {
			t.Errorf("%s is %+v, want %+v", name, got, expected[name])
		}
	}
}

func TestJavaScript(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "client.mjs"} {
		text, err := os.ReadFile(filepath.Join("js", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := debian.Program(ctx, "npm", "nodejs", "npm"); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	run.Dir = dir
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	c, address := serve(t)
	node := exec.CommandContext(ctx, "node", "client.mjs", address, pageOrigin)
	node.Dir = dir
	var complaints bytes.Buffer
	node.Stderr = &complaints
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Wait() }()
	lines := bufio.NewScanner(out)
	next := func() (said struct {
		Server, Page map[string]evaluation
		Error        string
	}) {
		if !lines.Scan() {
			t.Fatalf("the client ended: %s", complaints.String())
		}
		if err := json.Unmarshal(lines.Bytes(), &said); err != nil || said.Error != "" {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		return said
	}
	want := maps.Clone(expected)
	// This provider treats an answer without a value, OFREP's form of the caller's default, as an error, and returns
	// the default.
	want["gone"] = evaluation{true, "", "ERROR", "GENERAL"}
	if got := next().Server; !reflect.DeepEqual(got, want) {
		t.Errorf("the server's provider says\n%+v, want\n%+v", got, want)
	}
	// R45: only what is exposed
	before := map[string]evaluation{"mail": expected["mail"], "color": {"mine", "", "ERROR", "FLAG_NOT_FOUND"}}
	if got := next().Page; !reflect.DeepEqual(got, before) {
		t.Errorf("the page's provider says\n%+v, want\n%+v", got, before)
	}
	c.applyOrders(flags.Orders{Killed: []flags.KilledFlag{{Flag: "mail"}}})
	after := map[string]evaluation{"mail": {false, "off", "STATIC", ""}, "color": before["color"]}
	if got := next().Page; !reflect.DeepEqual(got, after) {
		t.Errorf("after the kill the page's provider says\n%+v, want\n%+v", got, after)
	}
}
