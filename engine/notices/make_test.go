package notices_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// teller looks at a world as the notifier does, and keeps what was told.
type teller struct {
	*World
	memory  notices.Memory
	notices []notices.WholeNotice
	unread  *view.Unread
}

func tellerOf(w *World) *teller {
	t := &teller{World: w, memory: notices.Memory{}}
	t.look()
	return t
}

func (t *teller) view() *view.View {
	return &view.View{Desired: t.Desired(), Observed: &t.Obs, Plan: t.Plan(), Unread: t.unread}
}

// look looks twice, with time to settle in between, and returns what is told.
func (t *teller) look() []notices.WholeNotice {
	t.T.Helper()
	var fresh []notices.WholeNotice
	for range 2 {
		now, memory, _ := notices.Make(t.view(), t.memory, t.Now)
		again, _, _ := notices.Make(t.view(), t.memory, t.Now)
		if !slices.EqualFunc(now, again, func(a, b notices.WholeNotice) bool { return a.ID == b.ID }) {
			t.T.Fatal("the same view and memory tell another thing")
		}
		t.memory = memory
		fresh = append(fresh, now...)
		t.Now = t.Now.Add(time.Minute)
	}
	t.notices = append(t.notices, fresh...)
	return fresh
}

// pass lets time pass, with a look each minute.
func (t *teller) pass(d time.Duration) {
	for end := t.Now.Add(d); t.Now.Before(end); {
		t.look()
	}
}

func (t *teller) want(kinds ...notices.Kind) {
	t.T.Helper()
	var got []notices.Kind
	ids := map[string]bool{}
	for _, n := range t.notices {
		got = append(got, n.Kind)
		if ids[n.ID] {
			t.T.Errorf("%s twice", n.ID)
		}
		ids[n.ID] = true
	}
	if !slices.Equal(got, kinds) {
		t.T.Fatalf("told %v, want %v\n%s", got, kinds, t.text())
	}
}

func (t *teller) text() string {
	var b strings.Builder
	for _, n := range t.notices {
		fmt.Fprintf(&b, "%s [%s] %s\n    %s\n", n.ID, n.Severity, n.Line(), strings.Join(n.Text(), "\n    "))
	}
	return b.String()
}

func TestPromotionIsToldOnce(t *testing.T) {
	p := tellerOf(One(t, ""))
	p.want() // what was there when observing began is no news
	p.CutAndInstall("staging", "1.1.0")
	p.pass(time.Hour)
	p.want(notices.Promotion)
	if n := p.notices[0]; n.Release != "1.1.0" || n.Severity != notices.Info || !n.Over ||
		n.Line() != "staging is now at 1.1.0, from 1.0.0" {
		t.Errorf("%+v", n)
	}
	// While nobody looked, two came: one message says so.
	p.CutAndInstall("staging", "1.2.0")
	p.CutAndInstall("staging", "1.3.0")
	p.look()
	p.want(notices.Promotion, notices.Promotion)
	if text := strings.Join(p.notices[1].Text(), "\n"); !strings.Contains(text, "1 decision in between") {
		t.Error(text)
	}
}

// A head that moved just before the first look is news; one that moved long ago is none.
func TestTheFirstLook(t *testing.T) {
	w := One(t, "")
	w.CutAndInstall("staging", "1.1.0")
	w.Now = w.Now.Add(-time.Minute)
	tellerOf(w).want(notices.Promotion)
	w.Now = w.Now.Add(time.Hour)
	tellerOf(w).want()
}

func TestWaitingForApproval(t *testing.T) {
	p := tellerOf(One(t, "gates:\n  - approval: {count: 1}\n", map[string]string{
		"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\ntrustAuthors: true\npeople:\n  ada: {email: ada@example.com}\n"}))
	p.Commit("bob", "cut", Release("1.1.0"))
	p.Settle()
	p.pass(48 * time.Hour)
	p.want(notices.Waiting)
	if n := p.notices[0]; n.Severity != notices.Info || !strings.Contains(strings.Join(n.Text(), "\n"),
		"sluice approve staging 1.1.0") {
		t.Errorf("%s", p.text())
	}
	p.Commit("ada", "approve", map[string]string{
		"channels/staging/approvals/1.1.0/ada.yaml": "digest: @digest:1.1.0\n"})
	p.InstallAll()
	p.WantHead("staging", "1.1.0")
	p.pass(time.Hour)
	p.want(notices.Waiting, notices.Promotion)
}

// badRollout returns a world with n cells, which may fail up to half.
func badRollout(t *testing.T, n int, more string) *teller {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("cell-%03d", i)
	}
	w := NewWorld(t, Union(Policy("staging", fmt.Sprintf("rollout: {failureBudget: %d}\n%s", n/2, more)),
		CellFiles("staging", names...), Release("1.0.0"), Head("staging", "1.0.0"))).ReportInstalled()
	w.InstallAll()
	p := tellerOf(w)
	p.Commit("bob", "cut", Release("1.1.0"))
	p.Settle()
	p.look()
	p.notices = nil // the promotion
	return p
}

// One bad rollout over 500 cells is two messages: that it fails, and that it went back, whatever happens in between.
func TestBadRolloutIsFewMessages(t *testing.T) {
	p := badRollout(t, 500, "")
	for i := range 300 {
		p.ReportFailed(fmt.Sprintf("cell-%03d", i), "hook <b>exits</b> 1")
		if i%50 == 49 {
			for rest := i + 1; rest < 500; rest++ {
				p.ReportBegun(fmt.Sprintf("cell-%03d", rest))
			}
			p.Settle()
			p.look()
		}
	}
	if last := p.Settle(); p.Desired().Channels["staging"].Effective.Release != "1.0.0" {
		t.Fatalf("nothing went back: %v", last.Blocked[:min(5, len(last.Blocked))])
	}
	p.InstallAll()
	p.pass(20 * time.Minute)
	t.Logf("one bad rollout over 500 cells: %d messages\n%s", len(p.notices), p.text())
	if len(p.notices) > 3 {
		t.Errorf("%d messages", len(p.notices))
	}
	first, last := p.notices[0], p.notices[len(p.notices)-1]
	if first.Kind != notices.Failing || last.Kind != notices.Rollback || first.Thread != last.Thread || !last.Over ||
		last.Severity != notices.Critical || last.Count < 250 || len(last.Cells) != notices.MaxCells {
		t.Errorf("first %+v\nlast %+v", first.Notice, last.Notice)
	}
	if !strings.Contains(strings.Join(last.Text(), "\n"), "1.1.0 is quarantined") {
		t.Error("the quarantine is not in the last message")
	}
}

func TestHaltAndItsEnd(t *testing.T) {
	p := badRollout(t, 4, "onFailure: halt\n")
	for i := range 3 {
		p.ReportFailed(fmt.Sprintf("cell-%03d", i), "exits 1")
	}
	p.Settle()
	p.pass(3 * time.Hour)
	p.want(notices.Halt)
	if n := p.notices[0]; n.Severity != notices.Critical || n.Count != 3 {
		t.Errorf("%+v", n)
	}
	p.Unhold()
	p.Commit("bob", "cut", Release("1.2.0"))
	p.InstallAll()
	p.WantHead("staging", "1.2.0")
	p.pass(time.Hour)
	p.want(notices.Halt, notices.Promotion, notices.Halt)
	if n := p.notices[2]; !n.Over || n.Thread != p.notices[0].Thread || n.Number != 2 || n.Severity != notices.Info {
		t.Errorf("%+v", n)
	}
}

// What ends by itself before it settles is not told, and what comes and goes is one thread.
func TestFlappingIsOneThread(t *testing.T) {
	p := tellerOf(One(t, ""))
	since := p.Now
	p.unread = &view.Unread{Since: since, Reason: "no route"}
	fresh, memory, next := notices.Make(p.view(), p.memory, p.Now)
	if len(fresh) != 0 || !next.After(p.Now) {
		t.Fatalf("told %v at once, next %v", fresh, next)
	}
	p.memory, p.unread = memory, nil
	p.pass(time.Hour)
	p.want()
	for range 20 {
		p.unread = &view.Unread{Since: p.Now, Reason: "no route to https://user:word@git.example.com"}
		p.pass(4 * time.Minute)
		p.unread = nil
		fresh, memory, _ = notices.Make(p.view(), p.memory, p.Now) // shorter than calm
		p.notices, p.memory = append(p.notices, fresh...), memory
		p.Now = p.Now.Add(time.Minute)
	}
	p.want(notices.Unreadable)
	if strings.Contains(p.text(), "user:word") {
		t.Error("a password is shown")
	}
	p.pass(time.Hour)
	p.want(notices.Unreadable, notices.Unreadable)
	if n := p.notices[1]; n.Line() != "the release repository can be read again" || !n.Over {
		t.Errorf("%+v", n)
	}
	// Once more, later: another thread, under other IDs; an hour on it is critical.
	p.unread = &view.Unread{Since: p.Now, Reason: "no route"}
	for range 100 {
		p.ReportFirst("s1")
		p.look()
	}
	if n := p.notices[len(p.notices)-1]; n.Severity != notices.Critical {
		t.Errorf("%s", p.text())
	}
}

func TestQuarantineShutOutStuck(t *testing.T) {
	p := tellerOf(One(t, "", Release("0.9.0")))
	p.Commit("ada", "quarantine", map[string]string{
		"quarantine/0.9.0.yaml": "digest: @digest:0.9.0\nreason: leaks <script>alert(1)</script>\nby: ada\n"})
	p.look()
	p.want(notices.Quarantine)
	p.Commit("ada", "revoke", map[string]string{"cells/s1/identity.yaml": "apiVersion: sluice/v1\nkind: Identity\n" +
		"epoch: 1\nserial: 2\nrevoked: true\n"})
	p.pass(10 * time.Minute)
	p.want(notices.Quarantine, notices.ShutOut)
	s := *p.Obs.Cells["s2"]
	s.State = cells.StateStuck
	p.Obs.Cells["s2"] = &s
	p.pass(10 * time.Minute)
	p.want(notices.Quarantine, notices.ShutOut, notices.Stuck)
	if n := p.notices[2]; n.Count != 1 || n.Cells[0] != "s2" {
		t.Errorf("%+v", n)
	}
}

// A restart tells nothing twice: the memory survives its encoding, and without it nothing old is news.
func TestRestart(t *testing.T) {
	p := badRollout(t, 10, "")
	p.ReportFailed("cell-000", "exits 1")
	p.pass(10 * time.Minute)
	p.want(notices.Failing)
	id := p.notices[0].ID
	p.memory = throughJSON(t, p.memory)
	p.pass(10 * time.Minute)
	p.want(notices.Failing)
	// A crash after posting and before the memory was stored: the same ID again, which an outbox posts once.
	q := badRollout(t, 10, "")
	q.ReportFailed("cell-000", "exits 1")
	_, before, _ := notices.Make(q.view(), q.memory, q.Now)
	first, _, _ := notices.Make(q.view(), before, q.Now.Add(time.Minute))
	second, _, _ := notices.Make(q.view(), before, q.Now.Add(90*time.Second))
	if len(first) != 1 || len(second) != 1 || first[0].ID != second[0].ID || first[0].Kind != notices.Failing {
		t.Errorf("%v and %v (%s)", first, second, id)
	}
}

func TestFleetOfTenThousandIsLookedAtQuickly(t *testing.T) {
	d, o := Fleet(t, 10, 10_000, 4)
	v := &view.View{Desired: d, Observed: o, Plan: plan.Plan{Now: Start}}
	_, memory, _ := notices.Make(v, notices.Memory{}, Start)
	allocs := testing.AllocsPerRun(3, func() { notices.Make(v, memory, Start) })
	if allocs > 2_000 { // far fewer than one for each cell
		t.Errorf("%v allocations for 10,000 cells that are well", allocs)
	}
}
