package agent

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/releases"
)

// cell is an agent under test in this process.
type cell struct {
	settings
	stop func()
}

// start runs an agent until the test ends or stop is called.
func start(t testing.TB, s settings, change ...func(*Options)) *cell {
	t.Helper()
	o, err := s.options()
	must(t, err)
	for _, c := range change {
		c(&o)
	}
	a, err := New(o)
	must(t, err)
	return runForTest(t, s, a)
}

// startWithTestPoints is start with a callback for each test point.
func startWithTestPoints(t testing.TB, s settings, reached func(point string)) *cell {
	t.Helper()
	o, err := s.options()
	must(t, err)
	a, err := New(o)
	must(t, err)
	a.onTestPoint = reached
	return runForTest(t, s, a)
}

func runForTest(t testing.TB, s settings, a *Agent) *cell {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return &cell{s, stop}
}

func newSettings(t testing.TB, p *controlPlane) settings {
	t.Helper()
	dir := t.TempDir()
	return settings{
		Cell: "acme", Server: p.server.URL, State: filepath.Join(dir, "state"), Dir: filepath.Join(dir, "target"),
		HealthTimeout: 300 * time.Millisecond, HealthyFor: -1,
	}
}

// broken is a health command that fails for releases whose manifests contain the word.
const broken = `! grep -q broken "$SLUICE_DIR/manifests.yaml" || { echo it is broken; exit 1; }`

func brokenRelease(version string) map[string]string {
	return agenttest.Release(version, map[string]string{
		"base/broken.yaml":        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: broken}\n",
		"base/kustomization.yaml": "resources: [app.yaml, broken.yaml]\n"})
}

func TestInstallAndUpdate(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	c := start(t, newSettings(t, p))
	p.await(t, "pending", func(r cells.Report) bool { return r.State == cells.StatePending && r.Running == nil })
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.await(t, "healthy on 1.0.0", healthyOn(one))
	if got := appManifest(t, c.Dir); !strings.Contains(got, "version: 1.0.0") {
		t.Errorf("in place: %s", got)
	}
	two := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	p.assign(two)
	p.await(t, "healthy on 1.1.0", healthyOn(two))
	if got := appManifest(t, c.Dir); !strings.Contains(got, "version: 1.1.0") {
		t.Errorf("in place: %s", got)
	}
	since := p.reportCount()
	p.awaitAfter(t, since, "quiet", func(r cells.Report) bool { return len(r.Events) == 0 })
	want := []string{"started", "applied", "healthy", "started", "applied", "healthy"}
	if got := p.eventKinds(); !slices.Equal(got, want) {
		t.Errorf("history is %v, want %v", got, want)
	}
	// R14: each assignment was acknowledged before it began.
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range []cells.Assignment{one, two} {
		acknowledged := slices.IndexFunc(p.reports,
			func(r cells.Report) bool { return r.Acknowledged != nil && r.Acknowledged.Key() == a.Key() })
		if r := p.reports[acknowledged]; r.Applying != nil && r.Applying.Key() == a.Key() {
			t.Errorf("%s began before it was acknowledged", a.Release)
		}
	}
	boots := map[string]bool{}
	for _, r := range p.reports {
		boots[r.Boot] = true
		if r.Sent.IsZero() || r.Cell != "acme" || r.Agent != "test" {
			t.Fatalf("report says %+v", r)
		}
	}
	if len(boots) != 1 {
		t.Errorf("%d boot ids in one run (R26)", len(boots))
	}
}

// R14: an accepted assignment does not begin before the control plane has taken a report that says so.
func TestNothingBeginsUnconfirmed(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	seen := make(chan struct{})
	var once sync.Once
	p.update(func() {
		p.refuse = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPost {
				return false
			}
			var report cells.Report
			_ = json.NewDecoder(r.Body).Decode(&report)
			if report.Acknowledged != nil {
				once.Do(func() { close(seen) })
			}
			w.WriteHeader(http.StatusInternalServerError)
			return true
		}
	})
	p.assign(one)
	c := start(t, newSettings(t, p))
	<-seen
	if p.timesFetched(one.Digest) != 0 || appManifest(t, c.Dir) != "" {
		t.Error("it began")
	}
	p.update(func() { p.refuse = nil })
	p.await(t, "healthy", healthyOn(one))
}

// R13: profile and values are part of what runs; the cell's own values stay in the cell.
func TestValuesAndProfile(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	c := start(t, newSettings(t, p), func(o *Options) {
		o.Values = map[string]any{"secret": "hush", "meant for another": 1}
	})
	a := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	a.Values = map[string]any{"colour": "green", "replicas": 3}
	p.assign(a)
	p.await(t, "healthy", healthyOn(a))
	if got := appManifest(t, c.Dir); !strings.Contains(got, "colour: green") || !strings.Contains(got, "secret: hush") {
		t.Errorf("in place: %s", got)
	}
	text, err := os.ReadFile(filepath.Join(c.Dir, "current", "manifests.yaml"))
	must(t, err)
	if got := string(text); !strings.Contains(got, "replicas: 3\n") || strings.Contains(got, "sluice-values") ||
		strings.Count(got, "---\n") != 1 {
		t.Errorf("manifests: %s", got)
	}
	a.Profile = "small"
	p.assign(a)
	p.await(t, "healthy, small", healthyOn(a))
	if _, err := os.Stat(filepath.Join(c.Dir, "current", "deployment-shop-small-app.yaml")); err != nil {
		t.Error(err)
	}
	for _, r := range p.received() {
		if text, _ := json.Marshal(r); strings.Contains(string(text), "hush") {
			t.Fatalf("the cell's own value left the cell: %s", text)
		}
	}
}

// Fault 32, invariant 7: one automatic rollback, offline. The failure is remembered, and only a higher sequence is
// tried again.
func TestPoisonIsRolledBackOffline(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Health = broken
	c := start(t, s)
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	bad := p.addRelease(t, "1.1.0", 2, brokenRelease("1.1.0"))
	p.assign(bad)
	for !strings.Contains(appManifest(t, c.Dir), "version: 1.1.0") {
		time.Sleep(time.Millisecond)
	}
	tars := p.tars
	p.update(func() { p.tars = nil }) // nothing can be fetched any more
	r := p.await(t, "failed and back", func(r cells.Report) bool { return failedAt(bad)(r) && healthyOn(good)(r) })
	p.update(func() { p.tars = tars })
	if f := r.Failures[0]; f.Values || !strings.Contains(f.Reason, "it is broken") || f.At.IsZero() {
		t.Errorf("the failure is told as %+v", f)
	}
	if got := appManifest(t, c.Dir); !strings.Contains(got, "version: 1.0.0") {
		t.Errorf("in place: %s", got)
	}
	// The same assignment is not tried again, by this process or the next.
	p.assign(bad)
	c.stop()
	since := p.reportCount()
	start(t, c.settings)
	p.awaitAfter(t, since, "healthy after a restart, the failure remembered",
		func(r cells.Report) bool { return healthyOn(good)(r) && failedAt(bad)(r) })
	count := func() int {
		return len(slices.DeleteFunc(p.eventKinds(), func(k string) bool { return k != "started" }))
	}
	if n := count(); n != 2 {
		t.Errorf("%d attempts in %v, want 2", n, p.eventKinds())
	}
	again := bad
	again.Sequence = 3
	p.assign(again)
	p.await(t, "a second failure", failedAt(again))
}

// Fault 52, R13: values that do not work roll back this cell alone, and do not count against the release.
func TestBadValuesGoBack(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	start(t, newSettings(t, p))
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	for _, values := range []map[string]any{{"colour": "blue"}, {"colur": "red"}, {"replicas": "many"}} {
		bad := good
		bad.Values = values
		p.assign(bad)
		r := p.await(t, "failed, still healthy",
			func(r cells.Report) bool { return failedAt(bad)(r) && healthyOn(good)(r) })
		if f := r.Failures[len(r.Failures)-1]; !f.Values {
			t.Errorf("%v counts against the release: %s", values, f.Reason)
		}
	}
	for _, k := range p.eventKinds() {
		if k == "rolled-back" {
			t.Error("nothing had been written: there was nothing to roll back")
		}
	}
	p.assign(good) // the corrected values
	fixed := good
	fixed.Values = map[string]any{"colour": "green"}
	p.assign(fixed)
	p.await(t, "healthy on other values", healthyOn(fixed))
}

// R2: neither an older assignment nor other bytes under the same number are accepted.
func TestOrderIsHeld(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	start(t, newSettings(t, p))
	old := p.addRelease(t, "1.0.0", 41, agenttest.Release("1.0.0", nil))
	now := p.addRelease(t, "1.1.0", 42, agenttest.Release("1.1.0", nil))
	p.assign(now)
	p.await(t, "healthy", healthyOn(now))
	for name, a := range map[string]cells.Assignment{"older": old,
		"alarm": func() cells.Assignment { a := old; a.Sequence = 42; return a }()} {
		since := p.reportCount()
		p.assign(a)
		p.awaitAfter(t, since, "refused: "+name, func(r cells.Report) bool {
			return slices.ContainsFunc(r.Events,
				func(e cells.Event) bool { return e.Kind == "refused" && strings.Contains(e.Detail, name) })
		})
	}
	since := p.reportCount()
	p.awaitAfter(t, since, "still the same", healthyOn(now))
	wayOut := old
	wayOut.Epoch, wayOut.Sequence = 2, 1
	p.assign(wayOut)
	p.await(t, "a higher epoch outranks", healthyOn(wayOut))
}

// Fault 31 and invariant 6: bytes that don't match the digest, or are too many, are refused; what runs keeps running.
func TestContentIsVerified(t *testing.T) {
	t.Parallel()
	good := agenttest.Release("1.0.0", nil)
	for name, tar := range map[string][]byte{
		"other bytes": agenttest.Pack(t, agenttest.Release("6.6.6", nil)),
		"not a tar":   []byte("<html>captive portal</html>"),
		"cut short":   agenttest.Pack(t, agenttest.Release("1.1.0", nil))[:1500],
		"inflation bomb": agenttest.Pack(t, map[string]string{"a": strings.Repeat("0", 10<<20),
			"b": strings.Repeat("0", 10<<20)}),
		"too many files": agenttest.Pack(t, manyFiles(11_000)),
	} {
		t.Run(name, func(t *testing.T) {
			p := newControlPlane(t)
			c := start(t, newSettings(t, p), func(o *Options) { o.MaxContent = 12 << 20 })
			one := p.addRelease(t, "1.0.0", 1, good)
			p.assign(one)
			p.await(t, "healthy", healthyOn(one))
			two := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
			right := p.tars[two.Digest]
			p.update(func() { p.tars[two.Digest] = tar })
			p.assign(two)
			r := p.await(t, "refused", func(r cells.Report) bool {
				return strings.Contains(r.Message, "refused: release "+string(two.Digest))
			})
			if r.State != cells.StateApplying || r.Running.Key() != one.Key() || failedAt(two)(r) {
				t.Errorf("told as %+v", r)
			}
			if got := appManifest(t, c.Dir); !strings.Contains(got, "version: 1.0.0") {
				t.Errorf("in place: %s", got)
			}
			left, err := filepath.Glob(filepath.Join(c.State, "releases", disk.UnfinishedPattern))
			if must(t, err); len(left) > 0 {
				t.Errorf("staging is left: %v", left)
			}
			p.update(func() { p.tars[two.Digest] = right })
			p.await(t, "healthy once the bytes are right", healthyOn(two))
		})
	}
}

func manyFiles(n int) map[string]string {
	files := map[string]string{}
	for i := range n {
		files["f"+strconv.Itoa(i)] = ""
	}
	return files
}

// Fault 47: a newer head supersedes a hook that hangs; two applies never run at once.
func TestNewerTakesOver(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	log := filepath.Join(t.TempDir(), "log")
	s.Hook = "echo begin $SLUICE_RELEASE >>" + log + "; trap 'echo end $SLUICE_RELEASE >>" + log + "; exit 1' TERM; " +
		"case $SLUICE_RELEASE in 1.1.*) sleep 600 & wait;; esac; echo end $SLUICE_RELEASE >>" + log
	c := start(t, s)
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.await(t, "healthy", healthyOn(one))
	for i := range 3 {
		hangs := "1.1." + strconv.Itoa(i)
		p.assign(p.addRelease(t, hangs, int64(2+2*i), agenttest.Release(hangs, nil)))
		for !strings.Contains(readFile(t, log), "begin "+hangs) {
			time.Sleep(time.Millisecond)
		}
		works := "1.2." + strconv.Itoa(i)
		next := p.addRelease(t, works, int64(3+2*i), agenttest.Release(works, nil))
		p.assign(next)
		p.await(t, "healthy on "+works, healthyOn(next))
	}
	c.stop()
	open := ""
	for line := range strings.Lines(readFile(t, log)) {
		verb, release, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case verb == "begin" && open == "":
			open = release
		case verb == "end" && open == release:
			open = ""
		default:
			t.Fatalf("hooks overlap:\n%s", readFile(t, log))
		}
	}
	for _, r := range p.received() {
		if len(r.Failures) > 0 {
			t.Fatalf("being superseded is no failure: %+v", r.Failures)
		}
	}
}

func readFile(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	must(t, err)
	return string(text)
}

// R20: a forward-only release never rolls back; a later release may replace it.
func TestForwardOnlyIsStuck(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Health = broken
	c := start(t, s)
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.await(t, "healthy", healthyOn(one))
	bad := p.addRelease(t, "2.0.0", 2, brokenRelease("2.0.0"))
	bad.ForwardOnly = true
	p.assign(bad)
	p.await(t, "stuck", func(r cells.Report) bool { return r.State == cells.StateStuck && failedAt(bad)(r) })
	c.stop()
	since := p.reportCount()
	start(t, s)
	p.awaitAfter(t, since, "still stuck after a restart",
		func(r cells.Report) bool { return r.State == cells.StateStuck })
	// The next release fails too and is not forward-only: there is still no rollback to 1.0.0.
	worse := p.addRelease(t, "2.0.1", 3, brokenRelease("2.0.1"))
	p.assign(worse)
	p.await(t, "stuck again", func(r cells.Report) bool { return r.State == cells.StateStuck && failedAt(worse)(r) })
	if got := appManifest(t, s.Dir); !strings.Contains(got, "version: 2.0.1") {
		t.Errorf("in place: %s", got)
	}
	mended := p.addRelease(t, "2.0.2", 4, agenttest.Release("2.0.2", nil))
	p.assign(mended)
	p.await(t, "healthy", healthyOn(mended))
}

// A first install takes the same path. If it fails, there is nothing to roll back to, and the cell says so.
func TestFirstInstallFails(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Health = broken
	start(t, s)
	bad := p.addRelease(t, "1.0.0", 1, brokenRelease("1.0.0"))
	p.assign(bad)
	p.await(t, "failed", func(r cells.Report) bool {
		return r.State == cells.StateFailed && r.Running == nil && failedAt(bad)(r)
	})
	good := p.addRelease(t, "1.0.1", 2, agenttest.Release("1.0.1", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
}

// Fault 46: a hook that fails or hangs rolls the cell back.
func TestFailingHookGoesBack(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Hook = `case $SLUICE_RELEASE in 1.1.0) echo migration failed; exit 3;; esac`
	c := start(t, s)
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	bad := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	p.assign(bad)
	r := p.await(t, "failed and back", func(r cells.Report) bool { return failedAt(bad)(r) && healthyOn(good)(r) })
	if !strings.Contains(r.Failures[0].Reason, "hook: exit status 3: migration failed") {
		t.Errorf("reason is %q", r.Failures[0].Reason)
	}
	if got := appManifest(t, c.Dir); !strings.Contains(got, "version: 1.0.0") {
		t.Errorf("in place: %s", got)
	}
}

// Fault 36: a release whose health fails within HealthyFor is rolled back; later, bad health is only reported.
func TestWatch(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	sick := filepath.Join(t.TempDir(), "sick")
	s.Health = "! test -e " + sick
	s.HealthyFor = 500 * time.Millisecond
	start(t, s)
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	for p.lastGoodKey(s.State) != good.Key() {
		time.Sleep(time.Millisecond)
	}
	must(t, os.WriteFile(sick, nil, 0o600))
	since := p.reportCount()
	r := p.awaitAfter(t, since, "unhealthy, without going anywhere",
		func(r cells.Report) bool { return r.State == cells.StateUnhealthy })
	if len(r.Failures) > 0 || r.Running.Key() != good.Key() {
		t.Errorf("told as %+v", r)
	}
	must(t, os.Remove(sick))
	p.awaitAfter(t, since, "healthy again", healthyOn(good))

	flaps := p.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	p.assign(flaps)
	p.await(t, "healthy at first", healthyOn(flaps))
	must(t, os.WriteFile(sick, nil, 0o600))
	p.await(t, "failed", failedAt(flaps))
	must(t, os.Remove(sick))
	since = p.reportCount()
	p.awaitAfter(t, since, "back", healthyOn(good))
}

func (p *controlPlane) lastGoodKey(dir string) string {
	j, _, err := loadJournal(dir, "acme", func(string) bool { return false })
	if err != nil {
		return err.Error()
	}
	return assignmentKey(j.LastGood)
}

func TestDriftIsHealed(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	c := start(t, newSettings(t, p))
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.await(t, "healthy", healthyOn(one))
	p.setDown(true) // healing needs no control plane
	must(t, os.WriteFile(filepath.Join(c.Dir, "current", "configmap-shop-app.yaml"), []byte("drift"), 0o600))
	for !strings.Contains(appManifest(t, c.Dir), "version: 1.0.0") {
		time.Sleep(time.Millisecond)
	}
	p.setDown(false)
	p.await(t, "healed", func(r cells.Report) bool {
		return slices.ContainsFunc(r.Events,
			func(e cells.Event) bool { return e.Kind == "healed" && e.Detail == "1 object restored" })
	})
}

// Fault 48: the content to roll back to is gone from disk. Offline the cell says so and keeps what runs; later it
// fetches the content.
func TestRollbackContentGone(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	s := newSettings(t, p)
	s.Health = broken
	s.HealthTimeout = 2 * time.Second
	c := start(t, s)
	good := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(good)
	p.await(t, "healthy", healthyOn(good))
	bad := p.addRelease(t, "1.1.0", 2, brokenRelease("1.1.0"))
	p.assign(bad)
	for !strings.Contains(appManifest(t, c.Dir), "version: 1.1.0") {
		time.Sleep(time.Millisecond)
	}
	gone := func(d releases.Digest) { p.update(func() { delete(p.tars, d) }) }
	tar := p.tars[good.Digest]
	gone(good.Digest)
	for _, folder := range []string{"releases", "rendered"} {
		files, err := filepath.Glob(filepath.Join(c.State, folder, "*"))
		must(t, err)
		for _, f := range files {
			must(t, os.Remove(f))
		}
	}
	p.await(t, "can't go back", func(r cells.Report) bool {
		return r.State == cells.StateFailed && failedAt(bad)(r) && strings.Contains(r.Message, "404") &&
			strings.Contains(r.Message, "1.0.0")
	})
	if got := appManifest(t, c.Dir); !strings.Contains(got, "version: 1.1.0") {
		t.Errorf("what ran is gone: %s", got)
	}
	p.update(func() { p.tars[good.Digest] = tar })
	p.await(t, "back", func(r cells.Report) bool { return healthyOn(good)(r) && failedAt(bad)(r) })
}

// Damaged bytes on disk are fetched again.
func TestDamagedDiskIsFetchedAgain(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	c := start(t, newSettings(t, p))
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	p.await(t, "healthy", healthyOn(one))
	c.stop()
	for _, folder := range []string{"releases", "rendered"} {
		files, err := filepath.Glob(filepath.Join(c.State, folder, "*"))
		must(t, err)
		for _, f := range files {
			text := []byte(readFile(t, f))
			text[len(text)/3] ^= 1
			must(t, os.WriteFile(f, text, 0o600))
		}
	}
	must(t, os.RemoveAll(c.Dir))
	since := p.reportCount()
	start(t, c.settings)
	p.awaitAfter(t, since, "healthy", healthyOn(one))
	if !strings.Contains(appManifest(t, c.Dir), "version: 1.0.0") || p.timesFetched(one.Digest) != 2 {
		t.Errorf("fetched %d times; in place: %s", p.timesFetched(one.Digest), appManifest(t, c.Dir))
	}
}

func TestStateFolderIsGuarded(t *testing.T) {
	p := newControlPlane(t)
	s := newSettings(t, p)
	start(t, s)
	p.await(t, "pending", func(cells.Report) bool { return true })
	o, err := s.options()
	must(t, err)
	a, err := New(o)
	must(t, err)
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("two agents on one folder: %v", err)
	}
	other := newSettings(t, p)
	must(t, os.MkdirAll(other.State, 0o700))
	must(t, os.WriteFile(journalFile(other.State), []byte(`{"cell":"globex"}`), 0o600))
	o.StateDir = other.State
	if a, err = New(o); err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to cell globex") {
		t.Errorf("another cell's folder: %v", err)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := New(Options{})
	for _, want := range []string{"no cell", "no state folder", "no target"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}
