package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
)

// featureFlag is a flag of a feature, on unless something turns it off.
func featureFlag(feature string) json.RawMessage {
	return json.RawMessage(`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"on",` +
		`"metadata":{"feature":"` + feature + `","off":"off"}}`)
}

// newBundle returns a bundle with a flag for each gate's features, and one flag without a feature.
func newBundle(gates ...flags.Gate) flags.Bundle {
	b := flags.Bundle{Version: flags.BundleVersion, Channel: "staging", Gates: gates, Flags: map[string]json.RawMessage{
		"plain": json.RawMessage(`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"on",` +
			`"metadata":{"off":"off"}}`),
	}}
	for _, g := range gates {
		for _, f := range g.Features {
			b.Flags[f] = featureFlag(f)
		}
	}
	return b
}

// newFlags returns flags for a cell and has the control plane serve their bundle.
func (p *controlPlane) newFlags(height int64, b flags.Bundle, killed ...string) *cells.Flags {
	raw := b.Encode()
	d := releases.DigestBytes(raw)
	p.mu.Lock()
	p.bundles[d] = raw
	p.mu.Unlock()
	return &cells.Flags{Height: height, Bundle: cells.FlagBundle{Digest: d, Size: int64(len(raw))},
		Orders: agenttest.KillOrders(killed...)}
}

// serveFlags configures an agent to serve flags and returns a client for them.
func serveFlags(t testing.TB, s *settings) *flagsProduct {
	t.Helper()
	dir, err := os.MkdirTemp("", "flags") // the path of a socket must be short
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	s.Flags = "unix://" + path
	return &flagsProduct{t, newFlagsClient(path)}
}

// flagsProduct is the product, which requests flags.
type flagsProduct struct {
	t testing.TB
	flagsClient
}

// flagsClient sends requests to a socket.
type flagsClient struct{ http *http.Client }

func newFlagsClient(path string) flagsClient {
	return flagsClient{&http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _,
		_ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}}
}

// evaluateFlag returns a flag's value, "true" or "false", or why it is not known.
func (c flagsClient) evaluateFlag(key string) string {
	response, err := c.http.Post("http://localhost/ofrep/v1/evaluate/flags/"+key, "application/json",
		strings.NewReader(`{"context":{"targetingKey":"u"}}`))
	if err != nil {
		return "nobody there"
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "nobody there"
	}
	var answer struct{ Value *bool }
	if response.StatusCode != http.StatusOK || json.Unmarshal(text, &answer) != nil || answer.Value == nil {
		return response.Status
	}
	if *answer.Value {
		return "true"
	}
	return "false"
}

// awaitFlag waits until a flag has the wanted value.
func (c *flagsProduct) awaitFlag(key, want string) {
	c.t.Helper()
	for giveUp := time.Now().Add(2 * time.Minute); ; time.Sleep(2 * time.Millisecond) {
		got := c.evaluateFlag(key)
		if got == want {
			return
		}
		if time.Now().After(giveUp) {
			c.t.Fatalf("%s is %s, want %s", key, got, want)
		}
	}
}

func (c *flagsProduct) wantFlag(key, want string) {
	c.t.Helper()
	if got := c.evaluateFlag(key); got != want {
		c.t.Errorf("%s is %s, want %s", key, got, want)
	}
}

func flagsInForce(f *cells.Flags) func(cells.Report) bool {
	return func(r cells.Report) bool {
		return r.Flags != nil && r.Flags.Height == f.Height && r.Flags.Bundle == f.Bundle.Digest &&
			r.Flags.Orders == f.Orders.Digest
	}
}

func announcementIs(id string, want flags.CellState) func(cells.Report) bool {
	return func(r cells.Report) bool { return r.Flags != nil && r.Flags.States[id] == want }
}

// R40, fault 64, invariant 9: a feature of an installed release turns on at its second without a control plane, and not
// a moment before, though the cell's clock is two days ahead. A restart changes nothing.
func TestFlagFlipsOfflineAtItsTime(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	p.clockSkew = -48 * time.Hour
	s := newSettings(t, p)
	product := serveFlags(t, &s)
	c := start(t, s)
	product.awaitFlag("classes", "503 Service Unavailable") // it responds before anything is installed or received
	one := p.addRelease(t, "1.0.0", 1, agenttest.ReleaseWithFeatures("1.0.0", "classes"))
	p.assign(one)
	at := p.now().Add(4 * time.Second).Unix()
	f := p.newFlags(7, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}, At: at},
		flags.Gate{ID: "b", Features: []string{"other"}, At: at}))
	p.setFlags(f)
	p.await(t, "healthy", healthyOn(one))
	p.await(t, "armed", announcementIs("a", flags.Armed))
	p.await(t, "waiting", func(r cells.Report) bool {
		return announcementIs("b", flags.Waiting)(r) && flagsInForce(f)(r)
	})
	p.setDown(true)
	c.stop()
	c = start(t, s)
	product.awaitFlag("plain", "true")
	for p.now().Unix() < at {
		if got := product.evaluateFlag("classes"); got != "false" && p.now().Unix() < at {
			t.Fatalf("%s before its time", got)
		}
	}
	product.awaitFlag("classes", "true")
	product.wantFlag("other", "false")
	c.stop()
	start(t, s)
	product.awaitFlag("classes", "true")
	since := p.reportCount()
	p.setDown(false)
	p.awaitAfter(t, since, "on", announcementIs("a", flags.On))
}

// R43: a kill is in force whatever becomes of the bundle, is reported, and survives restarts; a commit lifts it.
func TestKillNeedsNothingElse(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	product := serveFlags(t, &s)
	c := start(t, s)
	one := p.addRelease(t, "1.0.0", 1, agenttest.ReleaseWithFeatures("1.0.0", "classes"))
	p.assign(one)
	f := p.newFlags(7, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}}))
	p.setFlags(f)
	p.await(t, "on", announcementIs("a", flags.On))
	product.wantFlag("classes", "true")

	kill := p.newFlags(7, newBundle(flags.Gate{ID: "z"}), "classes", "plain")
	bundle := p.bundles[kill.Bundle.Digest]
	p.update(func() { delete(p.bundles, kill.Bundle.Digest) }) // no replica serves it
	p.setFlags(kill)
	r := p.await(t, "killed", func(r cells.Report) bool {
		return announcementIs("a", flags.Killed)(r) && r.Flags.Orders == kill.Orders.Digest && r.Flags.Fault != ""
	})
	if r.Flags.Bundle != f.Bundle.Digest || !strings.Contains(r.Flags.Fault, "503") {
		t.Errorf("told as %+v", r.Flags)
	}
	product.wantFlag("classes", "false")
	p.setFlags(f) // a replica that does not know of the kill (R39)
	product.wantFlag("classes", "false")
	p.setDown(true)
	c.stop()
	start(t, s)
	product.awaitFlag("classes", "false")
	since := p.reportCount()
	p.setFlags(kill)
	p.update(func() { p.bundles[kill.Bundle.Digest] = bundle })
	p.setDown(false)
	p.awaitAfter(t, since, "the new bundle, and the kill",
		func(r cells.Report) bool { return flagsInForce(kill)(r) && r.Flags.Fault == "" })
	product.wantFlag("classes", "404 Not Found")

	low := p.newFlags(6, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}}))
	p.setFlags(low)
	r = p.awaitAfter(t, since, "refused", func(r cells.Report) bool {
		return strings.Contains(r.Flags.Fault, "height 6")
	})
	if r.Flags.Height != 7 {
		t.Errorf("told as %+v", r.Flags)
	}
	lifted := p.newFlags(8, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}}))
	p.setFlags(lifted)
	p.awaitAfter(t, since, "lifted", flagsInForce(lifted))
	product.wantFlag("classes", "true")
}

// R38: a rollback suspends before its first write, and an update turns on after health held; both without a control
// plane.
func TestFlagsFollowTheRelease(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Health = broken
	product := serveFlags(t, &s)
	var phase atomic.Value
	phase.Store("")
	startWithTestPoints(t, s, func(point string) {
		switch what := phase.Load().(string); {
		case point == "applying" && what != "", point == "target has it" && what == "forward":
			product.wantFlag("classes", "false") // before the first write; and after an update, until health held
			product.wantFlag("plain", "true")
		}
	})
	p.setFlags(p.newFlags(7, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}})))
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.await(t, "waiting", func(r cells.Report) bool {
		return healthyOn(one)(r) && announcementIs("a", flags.Waiting)(r)
	})
	phase.Store("forward")
	two := p.addRelease(t, "1.1.0", 2, agenttest.ReleaseWithFeatures("1.1.0", "classes"))
	p.assign(two)
	p.await(t, "on", func(r cells.Report) bool { return healthyOn(two)(r) && announcementIs("a", flags.On)(r) })
	product.wantFlag("classes", "true")
	phase.Store("back")
	back := one
	back.Sequence = 3
	since := p.reportCount()
	p.assign(back)
	p.awaitAfter(t, since, "suspended", func(r cells.Report) bool {
		return healthyOn(back)(r) && announcementIs("a", flags.Suspended)(r)
	})
	phase.Store("forward")
	again := two
	again.Sequence = 4
	p.assign(again)
	p.awaitAfter(t, since, "resumed", func(r cells.Report) bool {
		return healthyOn(again)(r) && announcementIs("a", flags.On)(r)
	})
	// A failing release is rolled back automatically: the feature is off meanwhile, and on again.
	phase.Store("back")
	files := brokenRelease("1.2.0")
	bad := p.addRelease(t, "1.2.0", 5, files)
	since = p.reportCount()
	p.assign(bad)
	p.awaitAfter(t, since, "suspended", announcementIs("a", flags.Suspended))
	p.awaitAfter(t, since, "back and on", func(r cells.Report) bool {
		return failedAt(bad)(r) && healthyOn(again)(r) && announcementIs("a", flags.On)(r)
	})
	product.wantFlag("classes", "true")
}

// R43: a feature that the owner holds stays off, whatever is announced, even if owner.yaml becomes invalid.
func TestOwnerHoldsAFeature(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	product := serveFlags(t, &s)
	c := start(t, s)
	one := p.addRelease(t, "1.0.0", 1, agenttest.ReleaseWithFeatures("1.0.0", "classes"))
	p.assign(one)
	p.setFlags(p.newFlags(7, newBundle(flags.Gate{ID: "a", Features: []string{"classes"}})))
	p.await(t, "on", announcementIs("a", flags.On))
	_, err := ChangeOwner(s.State, func(o *cells.Owner) error {
		o.Features, o.Reasons = []string{"classes"}, map[string]string{"classes": "training"}
		return nil
	})
	must(t, err)
	r := p.await(t, "held", func(r cells.Report) bool { return announcementIs("a", flags.Held)(r) && r.Owner != nil })
	if r.Owner.Reasons["classes"] != "training" {
		t.Errorf("the vendor is told %+v", r.Owner)
	}
	product.wantFlag("classes", "false")
	must(t, os.WriteFile(filepath.Join(s.State, OwnerFile), []byte("oops"), 0o600))
	since := p.reportCount()
	p.awaitAfter(t, since, "a mistake", func(r cells.Report) bool {
		return r.Owner != nil && strings.Contains(r.Owner.Paused, "owner.yaml")
	})
	product.wantFlag("classes", "false")
	c.stop()
	start(t, s)
	product.awaitFlag("plain", "true")
	product.wantFlag("classes", "false")
	must(t, os.Remove(filepath.Join(s.State, OwnerFile)))
	product.awaitFlag("classes", "true")
}

// A bundle that does not match its digest, can't be read or can't be compiled leaves the last good one in force, and
// the report says why.
func TestBundleThatCantBeUsed(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	product := serveFlags(t, &s)
	start(t, s)
	f := p.newFlags(1, newBundle())
	p.setFlags(f)
	p.await(t, "in force", flagsInForce(f))
	height := int64(1)
	try := func(name string, serve []byte, d digest, want string) {
		t.Helper()
		height++
		p.update(func() { p.bundles[d] = serve })
		since := p.reportCount()
		p.setFlags(&cells.Flags{Height: height, Bundle: cells.FlagBundle{Digest: d}, Orders: agenttest.KillOrders()})
		r := p.awaitAfter(t, since, name, func(r cells.Report) bool {
			return r.Flags.Height == height && r.Flags.Fault != ""
		})
		if r.Flags.Bundle != f.Bundle.Digest || !strings.Contains(r.Flags.Fault, want) {
			t.Errorf("%s: told as %+v", name, r.Flags)
		}
		product.wantFlag("plain", "true")
	}
	other := newBundle(flags.Gate{ID: "a", At: 1})
	good := other.Encode()
	try("another", append(bytes.Clone(good), ' '), releases.DigestBytes(good), "have digest")
	try("no bundle", []byte("{}"), releases.DigestBytes([]byte("{}")), "bundle")
	rotten := flags.Bundle{Version: flags.BundleVersion, Channel: "staging",
		Flags: map[string]json.RawMessage{"x": json.RawMessage(`{"state":"MAYBE"}`)}}
	try("no flag", rotten.Encode(), releases.DigestBytes(rotten.Encode()), `"x"`)
	large := append(bytes.Clone(good), make([]byte, flags.MaxBundle)...)
	try("too large", large, releases.DigestBytes(large), "bytes")
	fetched := p.timesFetched(releases.DigestBytes([]byte("{}")))
	next := p.newFlags(height+1, newBundle(flags.Gate{ID: "b", At: 1}))
	p.setFlags(next)
	p.await(t, "the next one", func(r cells.Report) bool { return flagsInForce(next)(r) && r.Flags.Fault == "" })
	if fetched != 1 {
		t.Errorf("what can't be used was fetched %d times", fetched)
	}
}

// Damaged files on disk are fetched again, and orders remain in force.
func TestDamagedFlagFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bundle", "flags.json", "clock.json", "inforce.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			s := newSettings(t, p)
			product := serveFlags(t, &s)
			c := start(t, s)
			f := p.newFlags(7, newBundle(flags.Gate{ID: "a", Features: []string{"x"}}), "plain")
			p.setFlags(f)
			p.await(t, "in force", flagsInForce(f))
			product.wantFlag("plain", "false")
			c.stop()
			file := filepath.Join(s.State, name)
			if name == "bundle" {
				file = filepath.Join(s.State, "flags", f.Bundle.Digest.Hex()+".json")
			}
			text, err := os.ReadFile(file)
			must(t, err)
			text[len(text)/2] ^= 1
			must(t, os.WriteFile(file, text, 0o600))
			p.setDown(true)
			c = start(t, s)
			for product.evaluateFlag("plain") == "nobody there" {
				time.Sleep(time.Millisecond)
			}
			if got := product.evaluateFlag("plain"); got == "true" {
				t.Error("the kill is forgotten")
			}
			since := p.reportCount()
			p.setDown(false)
			p.awaitAfter(t, since, "in force again", flagsInForce(f))
			product.wantFlag("plain", "false")
			c.stop()
		})
	}
}

// R45: the owner sees which flags are in force, which are killed and why, but nothing under embargo before its time.
func TestOwnerSeesHowFlagsAre(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	if v, err := flagserver.LoadInForce(s.State); v != nil || err != nil {
		t.Errorf("before anything was told: %+v, %v", v, err)
	}
	start(t, s)
	at := p.now().Add(3 * time.Second).Unix()
	f := p.newFlags(7, newBundle(
		flags.Gate{ID: "open", Features: []string{"x"}, At: at + 3600},
		flags.Gate{ID: "secret", Features: []string{"y"}, At: at, Embargo: true},
	), "plain")
	f.Labels = map[string]string{"region": "eu"}
	p.setFlags(f)
	p.await(t, "in force", flagsInForce(f))
	v, err := flagserver.LoadInForce(s.State)
	must(t, err)
	if len(v.Announcements) != 1 || v.Announcements[0].ID != "open" || v.Announcements[0].At.Unix() != at+3600 ||
		v.Announcements[0].State != flags.Waiting {
		t.Errorf("shown: %+v", v.Announcements)
	}
	if v.Height != 7 || v.Bundle != f.Bundle.Digest || len(v.Killed) != 1 || v.Killed[0].Reason != "it breaks" ||
		v.Labels["region"] != "eu" || v.Since.IsZero() {
		t.Errorf("shown: %+v", v)
	}
	for giveUp := time.Now().Add(2 * time.Minute); len(v.Announcements) != 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("after its time: %+v", v.Announcements)
		}
		v, err = flagserver.LoadInForce(s.State)
		must(t, err)
	}
}

// A bundle that comes with the desired state is in force without a request. Bytes of another digest are no use: then it
// is fetched, as ever.
func TestBundleComesWithDesiredState(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	p.streams = true
	s := newSettings(t, p)
	product := serveFlags(t, &s)
	start(t, s)
	p.assign(p.addRelease(t, "1.0.0", 1, agenttest.ReleaseWithFeatures("1.0.0", "classes")))
	packer, err := zstd.NewWriter(nil)
	must(t, err)
	send := func(height int64, bytes []byte, b flags.Bundle) *cells.Flags {
		f := p.newFlags(height, b)
		f.Bundle.Content = packer.EncodeAll(bytes, nil)
		p.setFlags(f)
		p.await(t, "in force", flagsInForce(f))
		return f
	}
	first := newBundle()
	f := send(1, first.Encode(), first)
	product.wantFlag("plain", "true")
	if n := p.timesFetched(f.Bundle.Digest); n != 0 {
		t.Errorf("it was fetched %d times, though its bytes had come", n)
	}
	second := newBundle(flags.Gate{ID: "a", Features: []string{"classes"}})
	f = send(2, first.Encode(), second)
	product.awaitFlag("classes", "true")
	if n := p.timesFetched(f.Bundle.Digest); n != 1 {
		t.Errorf("after bytes of another bundle it was fetched %d times", n)
	}
}
