package debugfolder_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/debugfolder"
	"github.com/sluice-cd/sluice/cells/debug"
	"github.com/sluice-cd/sluice/cells/debug/debugtest"
	"github.com/sluice-cd/sluice/releases/diagnostics"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func at(since time.Duration) debug.Moment { return debug.Moment{Boot: "b", Since: since} }

func newRequest(t *testing.T, scope debug.Scope) debug.SignedRequest {
	t.Helper()
	return debugtest.NewRequest(t, debugtest.NewSigner(t), func(r *debug.Request) {
		r.Scope, r.Made, r.Expires = scope, noon, noon.Add(time.Hour)
	})
}

func keep(t *testing.T, f debugfolder.Folder, scope debug.Scope) string {
	t.Helper()
	s := newRequest(t, scope)
	if isNew, err := f.Keep(s, "", at(0), noon); err != nil || !isNew {
		t.Fatal(isNew, err)
	}
	return s.ID()
}

func permission() debug.Permission { return debug.Permission{Made: at(0), For: time.Hour} }

// D1, D3: a session begins only under a permission, and once, whoever tries at the same time.
func TestD1PermissionServesOnce(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	id := keep(t, f, debug.Read)
	if _, err := f.Begin(id, at(0), noon); err == nil {
		t.Fatal("a session began without a permission")
	}
	if err := f.Approve(id, permission(), noon); err != nil {
		t.Fatal(err)
	}
	if err := f.Approve(id, permission(), noon); err == nil {
		t.Error("it was approved twice")
	}
	var began atomic.Int32
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			switch _, err := debugfolder.Folder(string(f)).Begin(id, at(time.Minute), noon); {
			case err == nil:
				began.Add(1)
			case !errors.Is(err, debugfolder.ErrUsed):
				t.Error(err)
			}
		})
	}
	group.Wait()
	if began.Load() != 1 {
		t.Fatalf("%d sessions began", began.Load())
	}
	e, err := f.Load(id)
	if err != nil || e.State(at(2*time.Minute), noon) != debugfolder.Live {
		t.Error(e.State(at(2*time.Minute), noon), err)
	}
	if e.State(at(2*time.Hour), noon) != debugfolder.Ended {
		t.Error("a session whose agent died counts as live when its time is over")
	}
	if err := f.Deny(id, debugfolder.Denial{}); err == nil {
		t.Error("a session that began was denied, and not stopped")
	}
	if err := f.MustEnd(id); err != nil {
		t.Error("the session has to end, without a reason", err)
	}
	if err := f.Revoke(id, "the key is named no more"); err != nil || f.MustEnd(id).Error() != "the key is named no more" {
		t.Error("the reason is not kept", err, f.MustEnd(id))
	}
	if err := f.Stop(id); err != nil || !errors.Is(f.MustEnd(id), debugfolder.ErrStopped) {
		t.Error("the owner's stop is not seen", err)
	}
	if err := f.Revoke(id, "later"); err != nil || !errors.Is(f.MustEnd(id), debugfolder.ErrStopped) {
		t.Error("what the owner stopped has another reason", err)
	}
}

// Approve and deny at once: whatever the order, a denied request has no session.
func TestDenyWins(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	for range 20 {
		id := keep(t, f, debug.Read)
		var group sync.WaitGroup
		var denied, began atomic.Bool
		group.Go(func() { _ = f.Approve(id, permission(), noon) })
		group.Go(func() { denied.Store(f.Deny(id, debugfolder.Denial{Reason: "no"}) == nil) })
		group.Go(func() {
			_, err := f.Begin(id, at(0), noon)
			began.Store(err == nil)
		})
		group.Wait()
		if denied.Load() == began.Load() {
			t.Fatalf("denied %v, began %v", denied.Load(), began.Load())
		}
		if denied.Load() {
			if _, err := f.Begin(id, at(0), noon); err == nil {
				t.Fatal("a session began after the denial")
			}
			if err := f.Approve(id, permission(), noon); err == nil {
				t.Fatal("a denied request was approved")
			}
		}
	}
}

func TestApproveRefusals(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	id, shell := keep(t, f, debug.Read), keep(t, f, debug.Shell)
	longer, short, each := permission(), permission(), permission()
	longer.For, short.For, each.PerCommand = 2*time.Hour, time.Second, true
	pod := debug.Pod{Namespace: "shop", Name: "queue-0", Container: "main", UID: "1"}
	inPod, withUser, anyPod, outside := permission(), permission(), permission(), permission()
	inPod.Pod, withUser.Pod, withUser.User = &pod, &pod, "nobody"
	anyPod.Pod = &debug.Pod{Namespace: "shop", Name: "queue-0", Container: "main"}
	outside.Pod = &debug.Pod{Namespace: "..", Name: "queue-0", Container: "main", UID: "1"}
	for name, err := range map[string]error{
		"longer than asked":  f.Approve(id, longer, noon),
		"too short":          f.Approve(id, short, noon),
		"expired":            f.Approve(id, permission(), noon.Add(time.Hour)),
		"shell, per command": f.Approve(shell, each, noon),
		"no such":            f.Approve("../../etc", permission(), noon),
		"pod, no shell":      f.Approve(id, inPod, noon),
		"pod and user":       f.Approve(shell, withUser, noon),
		"whatever pod":       f.Approve(shell, anyPod, noon),
		"path as a pod":      f.Approve(shell, outside, noon),
	} {
		if err == nil {
			t.Errorf("%s: approved", name)
		}
	}
	if err := f.Approve(shell, inPod, noon); err != nil {
		t.Error(err)
	}
	if e, err := f.Load(shell); err != nil || *e.Permission.Pod != pod {
		t.Error(e.Permission, err)
	}
	if err := f.Approve(id, permission(), noon); err != nil {
		t.Fatal(err)
	}
	e, err := f.Load(id)
	late := at(debug.BeginWithin + time.Second)
	if _, begin := f.Begin(id, late, noon); err != nil || begin == nil || e.State(late, noon) != debugfolder.Expired {
		t.Error("a session began too late", err, e.State(late, noon))
	}
}

// A hostile control plane can't fill the folder, nor put a request in another's place, and what it takes back after the
// owner's answer stays.
func TestInbox(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	first := newRequest(t, debug.Read)
	for range 2 {
		if _, err := f.Keep(first, "release signers", at(0), noon); err != nil {
			t.Fatal(err)
		}
	}
	for range debugfolder.MaxOpen - 1 {
		keep(t, f, debug.Read)
	}
	if _, err := f.Keep(newRequest(t, debug.Read), "", at(0), noon); !errors.Is(err, debugfolder.ErrFull) {
		t.Error(err)
	}
	forged := first
	forged.Document = bytes.Replace(forged.Document, []byte("4711"), []byte("4712"), 1)
	if _, err := f.Keep(forged, "", at(0), noon); err == nil {
		t.Error("a forged request was kept")
	}
	all, err := f.List()
	if err != nil || len(all) != debugfolder.MaxOpen {
		t.Fatal(len(all), err)
	}
	got, err := f.Find(first.ID()[:6], nil)
	if err != nil || got.Vouched != "release signers" || got.Request.Reason != "it hangs" {
		t.Error(got, err)
	}
	if err := f.Approve(first.ID(), permission(), noon); err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		removed, err := f.Withdraw(e.ID)
		if err != nil || removed == (e.ID == first.ID()) {
			t.Error(e.ID, removed, err)
		}
	}
	info, err := os.Stat(string(f))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info.Mode(), err)
	}
}

// A file that was damaged or exchanged permits nothing, and keeps no other request from being seen.
func TestDamagedFolder(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	good, other, bad := keep(t, f, debug.Read), keep(t, f, debug.Read), keep(t, f, debug.Read)
	if err := f.Approve(other, permission(), noon); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(string(f), other, "permission.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{string(text), "{", strings.Repeat(" ", 300<<10)} {
		if err := os.WriteFile(filepath.Join(string(f), bad, "permission.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Begin(bad, at(0), noon); err == nil {
			t.Errorf("a session began by the permission %.40q", content)
		}
	}
	all, err := f.List()
	if err == nil || len(all) != 2 || all[0].ID != good && all[1].ID != good {
		t.Error(len(all), err)
	}
}

func TestPerCommand(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	id := keep(t, f, debug.Read)
	if p, err := f.Pending(id); p != nil || err != nil {
		t.Fatal(p, err)
	}
	for n := 1; n <= 2; n++ {
		if err := f.Ask(id, debugfolder.Pending{Number: n, Command: []string{"df"}}); err != nil {
			t.Fatal(err)
		}
		if p, err := f.Pending(id); err != nil || p == nil || p.Number != n {
			t.Fatal(p, err)
		}
		if err := f.Answer(id, n+1, true); err == nil {
			t.Error("a command that was not asked for was allowed")
		}
		if err := f.Answer(id, n, n == 1); err != nil {
			t.Fatal(err)
		}
		if err := f.Answer(id, n, true); err == nil {
			t.Error("it was answered twice")
		}
		if allow, answered, err := f.Answered(id, n); err != nil || !answered || allow != (n == 1) {
			t.Error(allow, answered, err)
		}
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	open, denied, unanswered := keep(t, f, debug.Read), keep(t, f, debug.Read), keep(t, f, debug.Read)
	if err := f.Deny(denied, debugfolder.Denial{At: noon}); err != nil {
		t.Fatal(err)
	}
	if err := f.Prune(at(0), noon); err != nil {
		t.Fatal(err)
	}
	if all, _ := f.List(); len(all) != 3 {
		t.Error(len(all))
	}
	_, _ = open, unanswered
	if err := f.Prune(at(0), noon.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if all, _ := f.List(); len(all) != 1 || all[0].ID != denied {
		t.Error(len(all))
	}
	if err := f.Prune(at(0), noon.Add(debugfolder.Retention+time.Hour)); err != nil {
		t.Fatal(err)
	}
	if all, _ := f.List(); len(all) != 0 {
		t.Error(len(all))
	}
}

// A record that the control plane has not stays in the cell, however old it is: a cell may be cut off for months.
func TestUnsentRecordStays(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	id := keep(t, f, debug.Read)
	if err := f.Approve(id, permission(), noon); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Begin(id, at(0), noon); err != nil {
		t.Fatal(err)
	}
	old := noon.Add(debugfolder.Retention + time.Hour)
	prune := func() (left int) {
		t.Helper()
		if err := f.Prune(at(2*time.Hour), old); err != nil {
			t.Fatal(err)
		}
		all, err := f.List()
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if prune() != 1 {
		t.Error("a record that was not sealed is gone")
	}
	if err := f.End(id, debug.SignedSeal{}); err != nil {
		t.Fatal(err)
	}
	if prune() != 1 {
		t.Error("a record that was not sent is gone")
	}
	if err := f.MarkSent(id); err != nil {
		t.Fatal(err)
	}
	if prune() != 0 {
		t.Error("a record that was sent stays after its time")
	}
}

// D1, D4: what the owner approved is what can run, whatever the release declares later, and no other document.
func TestD1PermissionIsOfWhatWasShown(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	id := keep(t, f, debug.Read)
	declare := func(program string) {
		t.Helper()
		if err := f.SaveDeclared(diagnostics.List{{Name: "disk", Run: []string{program}}}); err != nil {
			t.Fatal(err)
		}
	}
	declare("df")
	if err := f.Approve(id, permission(), noon); err != nil {
		t.Fatal(err)
	}
	declare("rm")
	e, err := f.Load(id)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := f.Commands(&e); err != nil || len(l) != 1 || l[0].Run[0] != "df" {
		t.Error(l, err)
	}
	for name, old := range map[string]string{"commands.json": "df", "permission.json": e.Signed.Hash()} {
		file := filepath.Join(string(f), id, name)
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte(old)) {
			t.Fatalf("%s: %s %v", name, text, err)
		}
		text = bytes.Replace(text, []byte(old), []byte(strings.Repeat("0", len(old))), 1)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := f.Commands(&e); err == nil {
		t.Error("commands were permitted that the owner did not see", l)
	}
	if _, err := f.Begin(id, at(0), noon); err == nil {
		t.Error("a session began by the permission of another document")
	}
}

// A hostile control plane that floods the cell with requests drives out neither a record that it has not taken, nor
// what the owner answered, as long as others can give way; and what a removal left is no permission.
func TestFlood(t *testing.T) {
	t.Parallel()
	f := debugfolder.Of(t.TempDir())
	used := keep(t, f, debug.Read)
	if err := f.Approve(used, permission(), noon); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Begin(used, at(0), noon); err != nil {
		t.Fatal(err)
	}
	if err := f.End(used, debug.SignedSeal{}); err != nil {
		t.Fatal(err)
	}
	eve := debugtest.NewSigner(t)
	for n := range debugfolder.MaxKept + 16 { // each is valid for a second
		now := noon.Add(time.Duration(n) * time.Second)
		s := debugtest.NewRequest(t, eve, func(r *debug.Request) { r.Made, r.Expires = now, now.Add(time.Second) })
		if _, err := f.Keep(s, "", at(0), now); err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(string(f)); err != nil || len(entries) > debugfolder.MaxKept {
			t.Fatalf("%d are kept (%v)", len(entries), err)
		}
	}
	if e, err := f.Load(used); err != nil || e.Seal == nil {
		t.Error("the flood drove out a record", err)
	}
	left := newRequest(t, debug.Read)
	dir := filepath.Join(string(f), left.ID())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "permission.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Keep(left, "", at(0), noon.Add(5*time.Minute)); err != nil { // the flood is over
		t.Fatal(err)
	}
	if e, err := f.Load(left.ID()); err != nil || e.Permission != nil {
		t.Error("a leftover permitted a session", err)
	}
}
