package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/internal/window"
	"github.com/sluice-cd/sluice/releases"
)

// changeOwner changes the owner's decisions on the cell's machine.
func changeOwner(t testing.TB, dir string, f func(*cells.Owner)) {
	t.Helper()
	_, err := ChangeOwner(dir, func(o *cells.Owner) error { f(o); return nil })
	must(t, err)
}

// messageContains matches reports whose message contains why.
func messageContains(why string) func(cells.Report) bool {
	return func(r cells.Report) bool { return strings.Contains(r.Message, why) }
}

// R18: nothing begins, and nothing is accepted, against the owner's decisions. The vendor sees them, and when they end,
// the offer goes on.
func TestOwnerIsObeyed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after func(o *cells.Owner, next cells.Assignment)
		why           string
	}{
		"pause": {
			func(o *cells.Owner, _ cells.Assignment) { o.Paused = "quarter end" },
			func(o *cells.Owner, _ cells.Assignment) { o.Paused = "" }, "paused by the cell's owner: quarter end",
		},
		"pin": {
			func(o *cells.Owner, _ cells.Assignment) { o.Pin = "1.0.0" },
			func(o *cells.Owner, next cells.Assignment) { o.Pin = next.Release }, "pinned to 1.0.0",
		},
		"approval": {
			func(o *cells.Owner, _ cells.Assignment) { o.Approval = true },
			func(o *cells.Owner, next cells.Assignment) { o.Approved = append(o.Approved, next.Digest) },
			"waits for the approval",
		},
		"window": {
			func(o *cells.Owner, _ cells.Assignment) {
				o.Windows = []window.Window{{Opens: "0 0 29 2 *", For: time.Minute}}
			},
			func(o *cells.Owner, _ cells.Assignment) {
				o.Windows = append(o.Windows, window.Window{Opens: "* * * * *", For: 2 * time.Minute})
			}, "outside the windows",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newControlPlane(t)
			s := newSettings(t, p)
			cell := start(t, s)
			one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
			p.assign(one)
			p.await(t, "healthy", healthyOn(one))
			next := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
			changeOwner(t, s.State, func(o *cells.Owner) { c.before(o, next) })
			p.await(t, "the vendor sees it", func(r cells.Report) bool { return r.Owner != nil })
			p.assign(next)
			p.await(t, "withheld", messageContains(c.why))
			cell.stop()
			since := p.reportCount()
			start(t, s) // a restart does not forget
			r := p.awaitAfter(t, since, "still withheld", messageContains(c.why))
			p.withLock(t, func() {
				if p.fetched[next.Digest] > 0 && name != "approval" { // which the owner gives with a look at it
					t.Error("it was fetched")
				}
			})
			if r.Acknowledged == nil || r.Acknowledged.Key() != one.Key() || r.State != cells.StateHealthy &&
				r.State != cells.StateUnhealthy {
				t.Errorf("told as %+v", r)
			}
			changeOwner(t, s.State, func(o *cells.Owner) { c.after(o, next) })
			p.await(t, "healthy on what was withheld", healthyOn(next))
		})
	}
}

// R18: a decision holds from the moment at which it is made, however soon an offer follows.
func TestOwnerIsObeyedAtOnce(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	start(t, s)
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.await(t, "healthy", healthyOn(one))
	next := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	changeOwner(t, s.State, func(o *cells.Owner) { o.Paused = "quarter end" })
	p.assign(next)
	p.await(t, "withheld", messageContains("paused by the cell's owner"))
	p.withLock(t, func() {
		if p.fetched[next.Digest] > 0 {
			t.Error("it was fetched")
		}
	})
}

// withLock runs f under the lock.
func (p *controlPlane) withLock(t testing.TB, f func()) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// R18: the owner's decisions do not hold back the cell's own rollback.
func TestReturnGoesOnWhilePaused(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Health, s.HealthTimeout = broken, 4*time.Second
	c := start(t, s)
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	bad := p.addRelease(t, "1.1.0", 2, brokenRelease("1.1.0"))
	p.assign(bad)
	for !strings.Contains(appManifest(t, c.Dir), "version: 1.1.0") {
		time.Sleep(time.Millisecond)
	}
	changeOwner(t, s.State, func(o *cells.Owner) { o.Paused = "something is wrong" })
	p.await(t, "paused", func(r cells.Report) bool { return r.Owner != nil && r.Owner.Paused != "" })
	p.await(t, "failed and back", func(r cells.Report) bool { return failedAt(bad)(r) && healthyOn(good)(r) })
}

// A pause withdraws an attempt that is still fetching: the target has not been touched.
func TestPauseTakesBackWhatIsFetched(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	start(t, s)
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	next := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	tar := p.tars[next.Digest]
	p.update(func() { delete(p.tars, next.Digest) })
	p.assign(next)
	p.await(t, "it can't be fetched", messageContains("no such release"))
	changeOwner(t, s.State, func(o *cells.Owner) { o.Paused = "not now" })
	r := p.await(t, "taken back", func(r cells.Report) bool {
		return messageContains("paused by")(r) && r.Applying == nil
	})
	p.update(func() { p.tars[next.Digest] = tar })
	since := p.reportCount()
	for i := range 5 {
		r = p.awaitAfter(t, since+i, "quiet", func(cells.Report) bool { return true })
	}
	if r.Running.Key() != good.Key() || r.Applying != nil {
		t.Errorf("told as %+v", r)
	}
	changeOwner(t, s.State, func(o *cells.Owner) { o.Paused = "" })
	p.await(t, "healthy", healthyOn(next))
	kinds := p.eventKinds()
	if !slices.Contains(kinds, "withheld") {
		t.Errorf("history is %v", kinds)
	}
}

// R6: an invalid owner.yaml lets nothing begin, is reported with its line, and reads as a pause to the vendor; the
// other decisions remain in force.
func TestOwnerFileThatIsNotValid(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	start(t, s)
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	changeOwner(t, s.State, func(o *cells.Owner) { o.Pin = "1.1.0" })
	p.await(t, "pinned", func(r cells.Report) bool { return r.Owner != nil && r.Owner.Pin == "1.1.0" })
	file := filepath.Join(s.State, OwnerFile)
	valid := readFile(t, file)
	must(t, os.WriteFile(file, []byte("apiVersion: sluice/v1\nkind: Owner\npaussed: typo\n"), 0o600))
	where := file + `:3: unknown field "paussed"`
	r := p.await(t, "it says where", func(r cells.Report) bool {
		return r.Owner != nil && strings.Contains(r.Owner.Paused, where)
	})
	if r.Owner.Pin != "1.1.0" {
		t.Errorf("the pin is gone: %+v", r.Owner)
	}
	next := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	p.assign(next)
	p.await(t, "withheld", messageContains(where))
	if _, err := ChangeOwner(s.State, func(o *cells.Owner) error { o.Paused = ""; return nil }); err == nil ||
		!strings.Contains(err.Error(), where) {
		t.Errorf("what is not valid was written over: %v", err)
	}
	must(t, os.WriteFile(file, []byte(valid), 0o600))
	p.await(t, "healthy", healthyOn(next))
	must(t, os.Remove(file))
	since := p.reportCount()
	p.awaitAfter(t, since, "nothing is decided", func(r cells.Report) bool { return r.Owner == nil })
}

// The owner's commands show the control plane's last word, and what runs.
func TestOfferedIsShown(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	start(t, s)
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	payload := fmt.Sprintf(`{"channel":"staging","release":"1.1.0","digest":"%s","sequence":2}`,
		releases.DigestBytes([]byte("x")))
	changeOwner(t, s.State, func(o *cells.Owner) { o.Approval = true })
	p.update(func() {
		p.version++
		p.desired.Head = cells.Sealed{Payload: []byte(payload), Digest: releases.DigestBytes([]byte(payload))}
		p.desired.Hold = &cells.Hold{Gate: "owner", Reason: "waits"}
	})
	var o Offer
	for o.Head == nil || o.Running == nil {
		time.Sleep(time.Millisecond)
		var err error
		o, err = LoadOffer(s.State)
		must(t, err)
	}
	if o.Head.Release != "1.1.0" || o.Running.Key() != good.Key() || o.Hold.Gate != "owner" ||
		o.Assignment.Key() != good.Key() {
		t.Errorf("shown: %+v", o)
	}
	told, err := LoadReported(s.State)
	if err != nil || told.State != cells.StateHealthy || told.Running.Key() != good.Key() || len(told.Events) == 0 {
		t.Errorf("shown of the reports: %+v, %v", told, err)
	}
	if decodeHead(cells.Sealed{Payload: []byte(payload), Digest: releases.DigestBytes([]byte("y"))}) != nil {
		t.Error("a head that is not what its digest says is shown")
	}
	if cell, keyed, err := StateDirCell(s.State); cell != "acme" || keyed || err != nil {
		t.Errorf("%s, %v, %v", cell, keyed, err)
	}
}

// Concurrent changes do not undo each other, and each is made completely or not at all.
func TestOwnersDecideAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			digest := releases.DigestBytes([]byte{byte(i)})
			if _, err := ChangeOwner(dir, func(o *cells.Owner) error {
				o.Approved = append(o.Approved, digest)
				return nil
			}); err != nil {
				t.Error(err)
			}
			if _, err := LoadOwner(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	o, err := LoadOwner(dir)
	must(t, err)
	if len(o.Approved) != 20 {
		t.Errorf("%d of 20 decisions are there", len(o.Approved))
	}
	before := readFile(t, filepath.Join(dir, OwnerFile))
	for name, f := range map[string]func(*cells.Owner){
		"a pin that is no release": func(o *cells.Owner) { o.Pin = "latest" },
		"a long reason":            func(o *cells.Owner) { o.Paused = strings.Repeat("x", 2000) },
		"a window that never is": func(o *cells.Owner) {
			o.Windows = []window.Window{{Opens: "0 0 30 2 *", For: time.Hour}}
		},
		"many windows": func(o *cells.Owner) { o.Windows = make([]window.Window, 17) },
	} {
		if _, err := ChangeOwner(dir, func(o *cells.Owner) error { f(o); return nil }); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if readFile(t, filepath.Join(dir, OwnerFile)) != before {
		t.Error("what was refused was written")
	}
}

// Fault 29 and R6: faults in owner.yaml are reported with their line.
func TestOwnerFaults(t *testing.T) {
	t.Parallel()
	const head = "apiVersion: sluice/v1\nkind: Owner\n"
	for text, want := range map[string]string{
		"":                                   ":1: ",
		"kind: Owner\n":                      ":1: apiVersion",
		head + "pin: newest\n":               ":3: ",
		head + "paused:\n":                   ":3: paused is empty",
		head + "approved: []\n":              ":3: approved is empty",
		head + "paused: [a]\n":               ":3: ",
		head + "pin: 1.0.0\npin: 1.0.0\n":    ":4: ",
		head + "approved: [\n  sha256:12]\n": ":4: ",
		head + "windows:\n- {opens: \"0 9 * * *\", for: 1h, zone: Europe/Berlinn}\n":         ":4: ",
		head + "windows:\n- opens: 0 9 * * *\n  for: -1h\n":                                  ":5: ",
		head + "windows:\n- opens: 61 9 * * *\n  for: 1h\n":                                  ":4: ",
		head + "paused: " + strings.Repeat("x", 2000) + "\n":                                 "paused has more than",
		head + "approval: " + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "\n":     ":3: ",
		head + "paused: " + strings.Repeat("x", maxOwnerFile) + "\n":                         "is larger than",
		head + "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\npaused: *c\n":                     ":3: ",
		head + "windows: [" + strings.Repeat("{opens: \"0 9 * * *\", for: 1h},", 17) + "]\n": "more than 16 windows",
		head + "export:\n  metrics:\n  - {name: queue, type: gauges}\n":                      ":5: ",
		head + "export:\n  metrics:\n  - {name: a b, type: gauge}\n":                         ":5: ",
		head + "export:\n  of: true\n":                                                       ":4: unknown field",
		head + "export: {off: yess}\n":                                                       ":3: ",
		head + "export:\n  hold: -1h\n":                                                      "hold",
	} {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, OwnerFile), []byte(text), 0o600))
		_, err := LoadOwner(dir)
		var invalid *OwnerError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", text, err, want)
		}
	}
}
