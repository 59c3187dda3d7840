package test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/test/proxy"
)

const (
	briefSoak  = 20 * time.Second // without SOAK
	judgedSoak = 5 * time.Minute  // from here on memory and descriptors are judged
	// Two mirrors are repacked beyond 24 packs; of each, the pack and its index may be open, and as many from before.
	maxOpenPacks = 2 * 24 * 2 * 2
	soakCalm     = 2 * time.Minute // phases with and without restarts take turns, so that processes grow old
)

// soak is a control plane and three cells that are disturbed without a pause, while releases are cut and flags change.
type soak struct {
	*flagWorld
	people *world // the flags repository, as people use it
	link   *proxy.Proxy
	rand   *rand.Rand
	began  time.Time
	skew   time.Duration   // of the cell drifter
	disks  []string        // small file systems; none: this user can't mount
	undo   []delayed       // what ends disturbances
	counts map[string]int  // of disturbances
	broken map[string]bool // releases
	newest string          // the newest release that is not broken
	value  bool            // the flag's
	usage  map[string][]usage
	cuts   int
}

type delayed struct {
	at time.Time
	do func()
}

// usage is what a process used at an instant.
type usage struct {
	after       time.Duration
	memory      float64 // MiB resident
	descriptors float64 // open files but packs
	packs       float64 // open packs of mirrors, which rise until a repack joins them
}

// SOAK=30m makes it long. Whatever disks, links, logs, clocks and power do for so long, the end is right, and memory
// and descriptors stay flat. The test prints them as a table. The clocks are those of a cell that the test plays.
func TestSoak(t *testing.T) {
	t.Parallel()
	lasts := briefSoak
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if lasts, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SOAK: %v", err)
		}
	}
	s := newSoak(t)
	s.startAll()
	s.awaitFirstRead()
	s.began = time.Now()
	var disturb, cut, flip, sample time.Time
	for end := s.began.Add(lasts); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		s.endDisturbances(time.Now())
		s.every(&cut, 8*time.Second, s.cutNext)
		s.every(&flip, 7*time.Second, func() { s.setFlag(!s.value) })
		s.every(&disturb, 3*time.Second, s.disturb)
		s.every(&sample, 2*time.Second, func() {
			s.sample()
			s.reportAsDrifter()
		})
	}
	s.endDisturbances(time.Now().Add(time.Hour))
	s.checkEnd()
	t.Logf("%d releases, %d of them broken; disturbed: %v", s.cuts, len(s.broken), s.counts)
	s.judgeUsage(lasts)
}

func newSoak(t *testing.T) *soak {
	l := newFlagWorld(t)
	seed := environmentNumber(t, "SLUICE_SEED", time.Now().UnixNano())
	t.Logf("SLUICE_SEED=%d", seed)
	s := &soak{flagWorld: l, counts: map[string]int{}, broken: map[string]bool{}, usage: map[string][]usage{},
		rand: rand.New(rand.NewPCG(uint64(seed), 1))} //nolint:gosec // repeatable
	s.people = &world{t: t, dir: l.dir, repo: l.flags, clone: l.path("people")}
	git(t, l.dir, "clone", "-q", l.flags, s.people.clone)
	for _, dir := range []string{l.path("cells"), l.path("data")} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a test's
			t.Fatal(err)
		}
		if os.Getuid() != 0 || syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m") != nil {
			continue
		}
		t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
		s.disks = append(s.disks, dir)
	}
	if len(s.disks) == 0 {
		t.Log("no disk is filled: this user can't mount small ones")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	s.server.args = append(s.server.args, "--listen", address)
	s.link = proxy.New(t, address, proxy.Impairment{})
	for _, a := range s.agents {
		a.args = append(a.args, "--server", "http://"+s.link.Address())
	}
	s.pushFiles("a cell that the test plays, and bad releases are taken back", map[string]string{
		"channels/staging/channel.yaml": stagingPolicy + "onFailure: rollback\n",
		"channels/lab/channel.yaml":     "apiVersion: sluice/v1\nkind: Channel\n",
		"cells/drifter/cell.yaml":       "apiVersion: sluice/v1\nkind: Cell\nchannel: lab\n",
	})
	s.setFlag(true)
	return s
}

// every calls do if it is due, and says when it is due again: after the mean time, more or less.
func (s *soak) every(due *time.Time, mean time.Duration, do func()) {
	if now := time.Now(); !now.Before(*due) {
		*due = now.Add(mean/2 + time.Duration(s.rand.Int64N(int64(mean))))
		do()
	}
}

func (s *soak) later(after time.Duration, do func()) {
	s.undo = append(s.undo, delayed{time.Now().Add(after), do})
}

func (s *soak) endDisturbances(now time.Time) {
	s.undo = slices.DeleteFunc(s.undo, func(d delayed) bool {
		due := !d.at.After(now)
		if due {
			d.do()
		}
		return due
	})
}

// processes returns all that run or should, the control plane first.
func (s *soak) processes() []*process {
	return []*process{s.server, s.agents["eu-1"], s.agents["acme"], s.agents["beta"]}
}

// disturb begins one disturbance, for some seconds.
func (s *soak) disturb() {
	p := s.processes()[s.rand.IntN(4)]
	lasts := time.Duration(s.rand.IntN(4000)) * time.Millisecond
	kinds := []string{"logs", "link", "link", "clock", "disk", "disk"}
	if int(time.Since(s.began)/soakCalm)%2 == 0 {
		kinds = append(kinds, "kill", "kill", "restart")
	}
	kind := kinds[s.rand.IntN(len(kinds))]
	switch kind {
	case "kill", "restart":
		if p.cmd == nil {
			return
		}
		if kind == "kill" {
			p.kill()
		} else {
			p.stop()
		}
		s.later(lasts, func() { p.start() })
	case "logs":
		s.rotate(p)
	case "clock":
		s.skew = time.Duration(s.rand.IntN(7)-3) * time.Minute
	case "link":
		bad := []proxy.Impairment{{BlockUp: true}, {BlockDown: true}, {Latency: time.Second}, {ResetAfter: 2000},
			{Rate: 2000}}
		s.link.Impair(bad[s.rand.IntN(len(bad))])
		if s.rand.IntN(2) == 0 {
			s.link.ResetConns()
		}
		s.later(lasts, func() { s.link.Impair(proxy.Impairment{}) })
	case "disk":
		if len(s.disks) == 0 {
			return
		}
		ballast := filepath.Join(s.disks[s.rand.IntN(len(s.disks))], "ballast")
		fillDisk(s.t, ballast)
		s.later(lasts, func() { _ = os.Remove(ballast) })
	}
	s.counts[kind]++
}

// fillDisk writes a file until its disk is full.
func fillDisk(t testing.TB, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil { // full already
		return
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
}

// rotate puts a process's log aside, as logrotate does with copytruncate, and sends the SIGHUP that others want.
func (s *soak) rotate(p *process) {
	log := s.path(p.name + ".log")
	text, err := os.ReadFile(log)
	if err == nil {
		err = os.WriteFile(log+".1", text, 0o600)
	}
	if err == nil {
		err = os.Truncate(log, 0)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGHUP)
	}
}

// cutNext cuts the next release; one in six is broken.
func (s *soak) cutNext() {
	s.cuts++
	version, note := fmt.Sprintf("1.%d.0", s.cuts), "fine"
	if s.cuts > 1 && s.rand.IntN(6) == 0 {
		note, s.broken[version] = "broken", true
	} else {
		s.newest = version
	}
	s.cutRelease(version, note)
}

// setFlag changes the flag's default, as a person does.
func (s *soak) setFlag(value bool) {
	s.value = value
	s.people.pushFiles(fmt.Sprintf("%s: %v", newEditor, value), map[string]string{"flags/ui.yaml": fmt.Sprintf(
		"flags:\n  %s: {state: ENABLED, variants: {\"yes\": true, \"no\": false}, defaultVariant: %q, "+
			"metadata: {off: \"no\"}}\n", newEditor, map[bool]string{true: "yes", false: "no"}[value])})
}

// reportAsDrifter reports as the cell whose clock is off. Without a control plane nobody hears it.
func (s *soak) reportAsDrifter() {
	if s.server.cmd != nil && s.status().Commit != "" {
		_, _ = s.tryReport("drifter", s.skew)
	}
}

// sample notes what every process uses.
func (s *soak) sample() {
	for _, p := range s.processes() {
		if p.cmd == nil {
			continue
		}
		proc := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
		status, err := os.ReadFile(filepath.Join(proc, "status"))
		open, openErr := os.ReadDir(filepath.Join(proc, "fd"))
		_, rest, found := strings.Cut(string(status), "VmRSS:")
		if err != nil || openErr != nil || !found {
			continue
		}
		kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		u := usage{after: time.Since(s.began), memory: kib / 1024}
		for _, d := range open {
			name, err := os.Readlink(filepath.Join(proc, "fd", d.Name()))
			if err == nil && strings.Contains(name, "/objects/pack/") {
				u.packs++
			} else {
				u.descriptors++
			}
		}
		s.usage[p.name] = append(s.usage[p.name], u)
	}
}

// checkEnd cuts one more release, and waits until all is as if nothing had happened.
func (s *soak) checkEnd() {
	s.skew = 0
	for _, p := range s.processes() {
		if p.cmd == nil {
			s.t.Fatalf("%s does not run", p.name)
		}
	}
	last := "2.0.0"
	s.cutRelease(last, "fine")
	for _, cell := range []string{"eu-1", "acme", "beta"} {
		s.eventually(func() (string, bool) {
			s.reportAsDrifter()
			return s.isHealthyOn(cell, last)()
		})
		s.awaitValue(cell, s.value)
	}
	for _, channel := range []string{"staging", "dedicated"} {
		seen := map[string]bool{}
		for _, subject := range s.headSubjects(channel) {
			release, promoted := strings.CutPrefix(subject, "promote ")
			release, _, _ = strings.Cut(release, " ")
			if promoted && (seen[release] || channel == "dedicated" && s.broken[release]) {
				s.t.Errorf("%s to %s: twice, or though it is broken", subject, channel)
			}
			seen[release] = seen[release] || promoted
		}
	}
	if out, err := s.runSluice("validate", s.repo); err != nil {
		s.t.Errorf("%v\n%s", err, out)
	}
	s.stopAll()
}

// judgeUsage prints what the processes used, and fails if that grew.
func (s *soak) judgeUsage(lasts time.Duration) {
	const warm = 1.0 / 8 // of the time
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %8s %26s %10s %22s %10s %22s\n", "process", "samples", "MiB first/last third", "MiB/h",
		"files first/last third", "files/h", "packs first/last third")
	for _, p := range s.processes() {
		samples := slices.DeleteFunc(slices.Clone(s.usage[p.name]), func(u usage) bool {
			return u.after < time.Duration(warm*float64(lasts))
		})
		if len(samples) < 6 {
			continue
		}
		memory := trendOf(samples, func(u usage) float64 { return u.memory })
		files := trendOf(samples, func(u usage) float64 { return u.descriptors })
		packs := trendOf(samples, func(u usage) float64 { return u.packs })
		fmt.Fprintf(&b, "%-8s %8d %14.1f %11.1f %10.1f %11.0f %10.0f %10.1f %11.0f %10.0f\n", p.name, len(samples),
			memory.first, memory.last, memory.slope, files.first, files.last, files.slope, packs.first, packs.last)
		if lasts < judgedSoak {
			continue
		}
		if memory.last > memory.first+max(16, memory.first/4) {
			s.t.Errorf("%s: memory grew from %.1f to %.1f MiB", p.name, memory.first, memory.last)
		}
		if files.last > files.first+8 {
			s.t.Errorf("%s: open files grew from %.0f to %.0f", p.name, files.first, files.last)
		}
		if packs.last > maxOpenPacks {
			s.t.Errorf("%s: %.0f packs are open", p.name, packs.last)
		}
	}
	s.t.Logf("%v:\n%s", lasts, b.String())
}

// trend is how a figure moved.
type trend struct {
	first, last float64 // medians of thirds
	slope       float64 // an hour, by least squares
}

func trendOf(samples []usage, figure func(usage) float64) (t trend) {
	median := func(part []usage) float64 {
		all := make([]float64, 0, len(part))
		for _, u := range part {
			all = append(all, figure(u))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	n := len(samples)
	t.first, t.last = median(samples[:n/3]), median(samples[n-n/3:])
	var x, y, xx, xy float64
	for _, u := range samples {
		h, v := u.after.Hours(), figure(u)
		x, y, xx, xy = x+h, y+v, xx+h*h, xy+h*v
	}
	if d := float64(n)*xx - x*x; d > 0 {
		t.slope = (float64(n)*xy - x*y) / d
	}
	return t
}
