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

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/flagserver"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/releases"
)

// gated is a flag of a feature that is on as far as it goes by itself.
func gated(feature string) json.RawMessage {
	return json.RawMessage(`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"on","metadata":{"feature":"` + feature + `","off":"off"}}`)
}

// bundle has a flag by the name of each gate's features, and one without a feature.
func bundleOf(gates ...flags.Gate) flags.Bundle {
	b := flags.Bundle{Version: flags.BundleVersion, Channel: "staging", Gates: gates, Flags: map[string]json.RawMessage{
		"plain": json.RawMessage(`{"state":"ENABLED","variants":{"off":false,"on":true},"defaultVariant":"on","metadata":{"off":"off"}}`),
	}}
	for _, g := range gates {
		for _, f := range g.Features {
			b.Flags[f] = gated(f)
		}
	}
	return b
}

// word makes what a cell is told, and has the plane serve it.
func (p *controlPlane) word(height int64, b flags.Bundle, killed ...string) *cells.Flags {
	raw := b.Encode()
	d := releases.DigestBytes(raw)
	p.mu.Lock()
	p.bundles[d] = raw
	p.mu.Unlock()
	return &cells.Flags{Height: height, Bundle: cells.FlagBundle{Digest: d, Size: int64(len(raw))}, Orders: agenttest.Orders(killed...)}
}

// withFlags lets an agent serve flags, and gives who asks there.
func withFlags(t testing.TB, s *settings) *product {
	t.Helper()
	dir, err := os.MkdirTemp("", "flags") // a socket's path is short
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	s.Flags = "unix://" + path
	return &product{t, askAt(path)}
}

// product is the product, which asks for flags.
type product struct {
	t testing.TB
	asking
}

// asking asks at a socket.
type asking struct{ http *http.Client }

func askAt(path string) asking {
	return asking{&http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}}
}

// ask gives what a flag is: "true", "false", or why it is not known.
func (c asking) ask(key string) string {
	response, err := c.http.Post("http://localhost/ofrep/v1/evaluate/flags/"+key, "application/json", strings.NewReader(`{"context":{"targetingKey":"u"}}`))
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

// until asks until a flag is as wanted.
func (c *product) until(key, want string) {
	c.t.Helper()
	for giveUp := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		got := c.ask(key)
		if got == want {
			return
		}
		if time.Now().After(giveUp) {
			c.t.Fatalf("%s is %s, want %s", key, got, want)
		}
	}
}

func (c *product) is(key, want string) {
	c.t.Helper()
	if got := c.ask(key); got != want {
		c.t.Errorf("%s is %s, want %s", key, got, want)
	}
}

func inForce(f *cells.Flags) func(cells.Report) bool {
	return func(r cells.Report) bool {
		return r.Flags != nil && r.Flags.Height == f.Height && r.Flags.Bundle == f.Bundle.Digest && r.Flags.Orders == f.Orders.Digest
	}
}

func stateIs(id string, want flags.CellState) func(cells.Report) bool {
	return func(r cells.Report) bool { return r.Flags != nil && r.Flags.States[id] == want }
}

// R40, fault 64, invariant 9: the release is in and its feature off; at the second it is on without a control plane, and not
// a moment before, though the cell's clock is two days ahead. A restart changes nothing.
func TestFlagFlipsOfflineAtItsTime(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	p.clock = -48 * time.Hour
	s := newSettings(t, p)
	who := withFlags(t, &s)
	c := start(t, s)
	who.until("classes", "503 Service Unavailable") // it answers before anything is installed or told
	one := p.ship(t, "1.0.0", 1, agenttest.Featured("1.0.0", "classes"))
	p.assign(one)
	at := p.now().Add(4 * time.Second).Unix()
	f := p.word(7, bundleOf(flags.Gate{ID: "a", Features: []string{"classes"}, At: at}, flags.Gate{ID: "b", Features: []string{"other"}, At: at}))
	p.tell(f)
	p.await(t, "healthy", healthyOn(one))
	p.await(t, "armed", stateIs("a", flags.Armed))
	p.await(t, "waiting", func(r cells.Report) bool { return stateIs("b", flags.Waiting)(r) && inForce(f)(r) })
	p.down(true)
	c.stop()
	c = start(t, s)
	who.until("plain", "true")
	for p.now().Unix() < at {
		if got := who.ask("classes"); got != "false" && p.now().Unix() < at {
			t.Fatalf("%s before its time", got)
		}
	}
	who.until("classes", "true")
	who.is("other", "false")
	c.stop()
	start(t, s)
	who.until("classes", "true")
	mark := p.mark()
	p.down(false)
	p.awaitAfter(t, mark, "on", stateIs("a", flags.On))
}

// R43: a kill is in force whatever becomes of the bundle, is reported, and outlives restarts; a commit lifts it.
func TestKillNeedsNothingElse(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	who := withFlags(t, &s)
	c := start(t, s)
	one := p.ship(t, "1.0.0", 1, agenttest.Featured("1.0.0", "classes"))
	p.assign(one)
	f := p.word(7, bundleOf(flags.Gate{ID: "a", Features: []string{"classes"}}))
	p.tell(f)
	p.await(t, "on", stateIs("a", flags.On))
	who.is("classes", "true")

	kill := p.word(7, bundleOf(flags.Gate{ID: "z"}), "classes", "plain")
	bundle := p.bundles[kill.Bundle.Digest]
	p.change(func() { delete(p.bundles, kill.Bundle.Digest) }) // no replica has it
	p.tell(kill)
	r := p.await(t, "killed", func(r cells.Report) bool {
		return stateIs("a", flags.Killed)(r) && r.Flags.Orders == kill.Orders.Digest && r.Flags.Fault != ""
	})
	if r.Flags.Bundle != f.Bundle.Digest || !strings.Contains(r.Flags.Fault, "503") {
		t.Errorf("told as %+v", r.Flags)
	}
	who.is("classes", "false")
	p.tell(f) // a replica that does not know of the kill (R39)
	who.is("classes", "false")
	p.down(true)
	c.stop()
	start(t, s)
	who.until("classes", "false")
	mark := p.mark()
	p.tell(kill)
	p.change(func() { p.bundles[kill.Bundle.Digest] = bundle })
	p.down(false)
	p.awaitAfter(t, mark, "the new bundle, and the kill", func(r cells.Report) bool { return inForce(kill)(r) && r.Flags.Fault == "" })
	who.is("classes", "404 Not Found")

	low := p.word(6, bundleOf(flags.Gate{ID: "a", Features: []string{"classes"}}))
	p.tell(low)
	r = p.awaitAfter(t, mark, "refused", func(r cells.Report) bool { return strings.Contains(r.Flags.Fault, "height 6") })
	if r.Flags.Height != 7 {
		t.Errorf("told as %+v", r.Flags)
	}
	lifted := p.word(8, bundleOf(flags.Gate{ID: "a", Features: []string{"classes"}}))
	p.tell(lifted)
	p.awaitAfter(t, mark, "lifted", inForce(lifted))
	who.is("classes", "true")
}

// R38: a rollback suspends before its first write, an update lights up after health held; both by themselves, offline.
func TestFlagsFollowTheRelease(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Health = broken
	who := withFlags(t, &s)
	var phase atomic.Value
	phase.Store("")
	startWatched(t, s, func(point string) {
		switch what := phase.Load().(string); {
		case point == "applying" && what != "", point == "target has it" && what == "forward":
			who.is("classes", "false") // before the first write; and forward, until health held
			who.is("plain", "true")
		}
	})
	p.tell(p.word(7, bundleOf(flags.Gate{ID: "a", Features: []string{"classes"}})))
	one := p.ship(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.await(t, "waiting", func(r cells.Report) bool { return healthyOn(one)(r) && stateIs("a", flags.Waiting)(r) })
	phase.Store("forward")
	two := p.ship(t, "1.1.0", 2, agenttest.Featured("1.1.0", "classes"))
	p.assign(two)
	p.await(t, "on", func(r cells.Report) bool { return healthyOn(two)(r) && stateIs("a", flags.On)(r) })
	who.is("classes", "true")
	phase.Store("back")
	back := one
	back.Sequence = 3
	mark := p.mark()
	p.assign(back)
	p.awaitAfter(t, mark, "suspended", func(r cells.Report) bool { return healthyOn(back)(r) && stateIs("a", flags.Suspended)(r) })
	phase.Store("forward")
	again := two
	again.Sequence = 4
	p.assign(again)
	p.awaitAfter(t, mark, "resumed", func(r cells.Report) bool { return healthyOn(again)(r) && stateIs("a", flags.On)(r) })
	// One that fails goes back by itself: off meanwhile, and on again.
	phase.Store("back")
	files := brokenRelease("1.2.0")
	bad := p.ship(t, "1.2.0", 5, files)
	mark = p.mark()
	p.assign(bad)
	p.awaitAfter(t, mark, "suspended", stateIs("a", flags.Suspended))
	p.awaitAfter(t, mark, "back and on", func(r cells.Report) bool { return failedAt(bad)(r) && healthyOn(again)(r) && stateIs("a", flags.On)(r) })
	who.is("classes", "true")
}

// R43: what the owner holds stays off, whatever is announced, and with a mistake in the file too.
func TestOwnerHoldsAFeature(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	who := withFlags(t, &s)
	c := start(t, s)
	one := p.ship(t, "1.0.0", 1, agenttest.Featured("1.0.0", "classes"))
	p.assign(one)
	p.tell(p.word(7, bundleOf(flags.Gate{ID: "a", Features: []string{"classes"}})))
	p.await(t, "on", stateIs("a", flags.On))
	_, err := ChangeOwner(s.State, func(o *cells.Owner) error {
		o.Features, o.Reasons = []string{"classes"}, map[string]string{"classes": "training"}
		return nil
	})
	must(t, err)
	r := p.await(t, "held", func(r cells.Report) bool { return stateIs("a", flags.Held)(r) && r.Owner != nil })
	if r.Owner.Reasons["classes"] != "training" {
		t.Errorf("the vendor is told %+v", r.Owner)
	}
	who.is("classes", "false")
	must(t, os.WriteFile(filepath.Join(s.State, OwnerFile), []byte("oops"), 0o600))
	mark := p.mark()
	p.awaitAfter(t, mark, "a mistake", func(r cells.Report) bool { return r.Owner != nil && strings.Contains(r.Owner.Paused, "owner.yaml") })
	who.is("classes", "false")
	c.stop()
	start(t, s)
	who.until("plain", "true")
	who.is("classes", "false")
	must(t, os.Remove(filepath.Join(s.State, OwnerFile)))
	who.until("classes", "true")
}

// A bundle that is another, can't be read or can't be compiled leaves the last good one in force, and the report says why.
func TestBundleThatCantBeUsed(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	who := withFlags(t, &s)
	start(t, s)
	f := p.word(1, bundleOf())
	p.tell(f)
	p.await(t, "in force", inForce(f))
	height := int64(1)
	try := func(name string, serve []byte, d digest, want string) {
		t.Helper()
		height++
		p.change(func() { p.bundles[d] = serve })
		mark := p.mark()
		p.tell(&cells.Flags{Height: height, Bundle: cells.FlagBundle{Digest: d}, Orders: agenttest.Orders()})
		r := p.awaitAfter(t, mark, name, func(r cells.Report) bool { return r.Flags.Height == height && r.Flags.Fault != "" })
		if r.Flags.Bundle != f.Bundle.Digest || !strings.Contains(r.Flags.Fault, want) {
			t.Errorf("%s: told as %+v", name, r.Flags)
		}
		who.is("plain", "true")
	}
	other := bundleOf(flags.Gate{ID: "a", At: 1})
	good := other.Encode()
	try("another", append(bytes.Clone(good), ' '), releases.DigestBytes(good), "has digest")
	try("no bundle", []byte("{}"), releases.DigestBytes([]byte("{}")), "bundle")
	rotten := flags.Bundle{Version: flags.BundleVersion, Channel: "staging", Flags: map[string]json.RawMessage{"x": json.RawMessage(`{"state":"MAYBE"}`)}}
	try("no flag", rotten.Encode(), releases.DigestBytes(rotten.Encode()), `"x"`)
	large := append(bytes.Clone(good), make([]byte, flags.MaxBundle)...)
	try("too large", large, releases.DigestBytes(large), "bytes")
	fetched := p.fetched[releases.DigestBytes([]byte("{}"))]
	next := p.word(height+1, bundleOf(flags.Gate{ID: "b", At: 1}))
	p.tell(next)
	p.await(t, "the next one", func(r cells.Report) bool { return inForce(next)(r) && r.Flags.Fault == "" })
	if fetched != 1 {
		t.Errorf("what can't be used was fetched %d times", fetched)
	}
}

// Damage on the disk: what is damaged is dropped and fetched again, and what was ordered stays.
func TestDamagedFlagFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"bundle", "flags.json", "clock.json", "inforce.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			s := newSettings(t, p)
			who := withFlags(t, &s)
			c := start(t, s)
			f := p.word(7, bundleOf(flags.Gate{ID: "a", Features: []string{"x"}}), "plain")
			p.tell(f)
			p.await(t, "in force", inForce(f))
			who.is("plain", "false")
			c.stop()
			file := filepath.Join(s.State, name)
			if name == "bundle" {
				file = filepath.Join(s.State, "flags", f.Bundle.Digest.Hex()+".json")
			}
			text, err := os.ReadFile(file)
			must(t, err)
			text[len(text)/2] ^= 1
			must(t, os.WriteFile(file, text, 0o600))
			p.down(true)
			c = start(t, s)
			for who.ask("plain") == "nobody there" {
				time.Sleep(time.Millisecond)
			}
			if got := who.ask("plain"); got == "true" {
				t.Error("the kill is forgotten")
			}
			mark := p.mark()
			p.down(false)
			p.awaitAfter(t, mark, "in force again", inForce(f))
			who.is("plain", "false")
			c.stop()
		})
	}
}

// R45: the owner sees how flags are, what is killed and why; but nothing of what is under embargo before its time.
func TestOwnerSeesHowFlagsAre(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	if v, err := flagserver.LoadInForce(s.State); v != nil || err != nil {
		t.Errorf("before anything was told: %+v, %v", v, err)
	}
	start(t, s)
	at := p.now().Add(3 * time.Second).Unix()
	f := p.word(7, bundleOf(
		flags.Gate{ID: "open", Features: []string{"x"}, At: at + 3600},
		flags.Gate{ID: "secret", Features: []string{"y"}, At: at, Embargo: true},
	), "plain")
	f.Labels = map[string]string{"region": "eu"}
	p.tell(f)
	p.await(t, "in force", inForce(f))
	v, err := flagserver.LoadInForce(s.State)
	must(t, err)
	if len(v.Announcements) != 1 || v.Announcements[0].ID != "open" || v.Announcements[0].At.Unix() != at+3600 || v.Announcements[0].State != flags.Waiting {
		t.Errorf("shown: %+v", v.Announcements)
	}
	if v.Height != 7 || v.Bundle != f.Bundle.Digest || len(v.Killed) != 1 || v.Killed[0].Reason != "it breaks" || v.Labels["region"] != "eu" || v.Since.IsZero() {
		t.Errorf("shown: %+v", v)
	}
	for giveUp := time.Now().Add(30 * time.Second); len(v.Announcements) != 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("after its time: %+v", v.Announcements)
		}
		v, err = flagserver.LoadInForce(s.State)
		must(t, err)
	}
}
