package engine

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases"
)

// addToken adds a token for a cell's current identity.
func (r *replicas) addToken(hash, cell string) {
	i, _ := r.a.observations.identityOf(cell)
	s := r.a.store.sharedDatabase
	s.mu.Lock()
	s.tokens[hash] = &token{cell: cell, serial: i.Serial, expires: time.Now().Add(time.Hour)}
	s.mu.Unlock()
}

func (r *replicas) mustJoin(at *replica, hash, cell, key string) cells.Identity {
	r.t.Helper()
	i, err := at.RegisterKey(r.t.Context(), cell, hash, key, "token of ada")
	if err != nil {
		r.t.Fatal(err)
	}
	return i
}

// wantCellOf compares both replicas' rosters with the wanted cell after two seconds.
func (r *replicas) wantCellOf(key, want string) {
	r.t.Helper()
	time.Sleep(2 * time.Second)
	synctest.Wait()
	for name, e := range map[string]*replica{"a": r.a, "b": r.b} {
		if got, ok := e.Roster().CellOfKey(key); got != want || ok != (want != "") {
			r.t.Errorf("at %s, %s is of %q (%s), want %q", name, key, got, e.Roster().RejectionReason(key), want)
		}
	}
}

func (r *replicas) committedIdentity(cell string) cells.Identity {
	r.t.Helper()
	synctest.Wait()
	r.branch.mu.Lock()
	defer r.branch.mu.Unlock()
	return r.w.Desired().Cells[cell].Identity
}

// R25, R28: a registration counts at once on every replica and is committed; only the same token and key succeed again.
func TestJoin(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.addToken("t1", "s1")
		changed := r.b.RosterChanged()
		i := r.mustJoin(r.b, "t1", "s1", "ed25519:one")
		if i.Epoch != 1 || i.Serial != 1 || i.PublicKey != "ed25519:one" {
			r.t.Fatalf("registered %+v", i)
		}
		if got, ok := r.b.Roster().CellOfKey("ed25519:one"); got != "s1" || !ok {
			r.t.Fatal("the one who registered it does not know the cell")
		}
		<-changed
		r.wantCellOf("ed25519:one", "s1")
		if got := r.committedIdentity("s1"); got != i {
			r.t.Errorf("committed %+v, want %+v", got, i)
		}
		r.branch.mu.Lock()
		message, pushes := r.w.Changes[len(r.w.Changes)-1].Message, r.branch.pushes
		r.branch.mu.Unlock()
		if !strings.HasPrefix(message, "identify s1\n\nCell: s1 registered, by token of ada\nDecided-On: ") ||
			pushes != 1 {
			r.t.Errorf("%d pushes, the last: %s", pushes, message)
		}
		for _, e := range []*replica{r.a, r.b} {
			if again := r.mustJoin(e, "t1", "s1", "ed25519:one"); again != i {
				r.t.Errorf("the same token and key registered %+v", again)
			}
		}
		for _, c := range [][3]string{
			{"t1", "s1", "ed25519:two"}, {"t1", "s2", "ed25519:two"}, {"t0", "s1", "ed25519:two"},
			{"t1", "nobody", "ed25519:two"}, {"t1", "s1", ""},
		} {
			if _, err := r.a.RegisterKey(r.t.Context(), c[1], c[0], c[2], ""); !errors.Is(err, plan.ErrDenied) {
				r.t.Errorf("%v: %v", c, err)
			}
		}
		r.addToken("t2", "s2")
		if _, err := r.a.RegisterKey(r.t.Context(), "s2", "t2", "ed25519:one", ""); !errors.Is(err, plan.ErrDenied) {
			r.t.Errorf("a key of another cell: %v", err)
		}
		r.addToken("t3", "s1")
		if i := r.mustJoin(r.a, "t3", "s1", "ed25519:three"); i.Epoch != 2 || i.Serial != 2 {
			r.t.Errorf("another key has %+v", i)
		}
		r.wantCellOf("ed25519:one", "")
		r.wantCellOf("ed25519:three", "s1")
		time.Sleep(time.Minute)
		if r.branch.pushes != 2 {
			r.t.Errorf("%d pushes", r.branch.pushes)
		}
	})
}

// A registration finds a cell that was committed just now, without a notified push.
func TestJoinFindsANewCell(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.branch.mu.Lock()
		r.w.Commit("eve", "add", CellFiles("staging", "s9"))
		r.branch.mu.Unlock()
		r.addToken("t9", "s9")
		if i := r.mustJoin(r.a, "t9", "s9", "ed25519:nine"); i.Epoch != 1 {
			r.t.Errorf("registered %+v", i)
		}
	})
}

// R57: a stranger's registration has no effect on the git host. Those with a token share a fetch in ten seconds, and
// each finds its cell.
func TestR57RegistrationsFetchRarely(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.addToken("other", "s1")
		r.addToken("gone", "no-longer")
		fetchesSince := func(begun time.Time) (n int) {
			r.branch.mu.Lock()
			defer r.branch.mu.Unlock()
			for _, at := range r.branch.fetches {
				if at.After(begun) {
					n++
				}
			}
			return n
		}
		begun := time.Now()
		for n := range 20 {
			for _, token := range []string{"none", "", "other"} {
				_, err := r.a.RegisterKey(r.t.Context(), fmt.Sprint("nosuch-", n), token, "ed25519:x", "")
				if !errors.Is(err, plan.ErrDenied) {
					r.t.Errorf("token %q: %v", token, err)
				}
			}
		}
		synctest.Wait()
		if n := fetchesSince(begun); n != 0 || time.Since(begun) > time.Second {
			r.t.Errorf("strangers caused %d fetches, in %s", n, time.Since(begun))
		}
		begun = time.Now()
		for range 4 { // a token outlives its cell's folder
			if _, err := r.a.RegisterKey(r.t.Context(), "no-longer", "gone", "ed25519:x", ""); err == nil {
				r.t.Error("registered as a cell that is not there")
			}
		}
		var all sync.WaitGroup
		for _, cell := range []string{"n1", "n2", "n3"} {
			r.branch.mu.Lock()
			r.w.Commit("eve", "add", CellFiles("staging", cell))
			r.branch.mu.Unlock()
			r.addToken("token of "+cell, cell)
			all.Go(func() { r.mustJoin(r.a, "token of "+cell, cell, "ed25519:"+cell) })
			time.Sleep(time.Second)
		}
		all.Wait()
		// Each registration is committed, and read back.
		if took, n := time.Since(begun), fetchesSince(begun); n > int(took/minFetchInterval)+1+3 {
			r.t.Errorf("%d fetches in %s", n, took)
		}
	})
}

// A cell renews its key: the old and the new one are valid until the new one is used.
func TestRotation(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		ctx := r.t.Context()
		r.addToken("t1", "s1")
		r.mustJoin(r.a, "t1", "s1", "ed25519:one")
		must := func(err error) {
			r.t.Helper()
			if err != nil {
				r.t.Fatal(err)
			}
		}
		must(r.b.ChangeIdentity(ctx, "s1", "ada", func(i *cells.Identity) { i.Rotate = true }))
		time.Sleep(2 * time.Second)
		d, etag, _ := r.a.View().Cell("s1")
		if len(d.Notices) != 1 || d.Notices[0].Code != cells.NoticeRotate {
			r.t.Errorf("notices %+v", d.Notices)
		}
		must(r.b.ReplaceKey(ctx, "s1", "ed25519:lost"))
		must(r.b.ReplaceKey(ctx, "s1", "ed25519:two"))
		must(r.a.ReplaceKey(ctx, "s1", "ed25519:two"))
		r.wantCellOf("ed25519:lost", "")
		r.wantCellOf("ed25519:one", "s1")
		r.wantCellOf("ed25519:two", "s1")
		if d, now, _ := r.a.View().Cell("s1"); len(d.Notices) != 0 || now == etag {
			r.t.Errorf("notices %+v under %s, before %s", d.Notices, now, etag)
		}
		if !r.a.Roster().IsNewKey("ed25519:two") || r.a.Roster().IsNewKey("ed25519:one") {
			r.t.Error("the next key is not known as that")
		}
		must(r.a.RetirePreviousKey(ctx, "s1", "ed25519:one"))
		r.wantCellOf("ed25519:one", "s1")
		must(r.a.RetirePreviousKey(ctx, "s1", "ed25519:two"))
		r.wantCellOf("ed25519:one", "")
		r.wantCellOf("ed25519:two", "s1")
		if i := r.committedIdentity("s1"); i.PublicKey != "ed25519:two" || i.Previous != "" || i.Epoch != 1 ||
			i.Rotate {
			r.t.Errorf("committed %+v", i)
		}
		if err := r.a.ReplaceKey(ctx, "s1", "ed25519:four"); !errors.Is(err, plan.ErrDenied) { // R46
			r.t.Errorf("a key that nobody asked for: %v", err)
		}
		if err := r.a.ReplaceKey(ctx, "s2", "ed25519:three"); !errors.Is(err, plan.ErrDenied) {
			r.t.Errorf("a cell without a key renewed it: %v", err)
		}
		if err := r.a.ReplaceKey(ctx, "s2", "ed25519:two"); !errors.Is(err, plan.ErrDenied) {
			r.t.Errorf("another cell's key: %v", err)
		}
	})
}

// R29: a revoked key is out on all replicas within two seconds, whoever revoked it, and never comes back.
func TestRevocation(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.addToken("t1", "s1")
		r.mustJoin(r.a, "t1", "s1", "ed25519:one")
		r.wantCellOf("ed25519:one", "s1")
		if err := r.b.ChangeIdentity(r.t.Context(), "s1", "ada", func(i *cells.Identity) {
			i.Revoked = true
		}); err != nil {
			r.t.Fatal(err)
		}
		r.wantCellOf("ed25519:one", "")
		if why := r.a.Roster().RejectionReason("ed25519:one"); why != "s1: revoked" || !r.a.Roster().HasKey("s1") {
			r.t.Errorf("out because %q", why)
		}
		r.addToken("t2", "s1")
		if _, err := r.a.RegisterKey(r.t.Context(), "s1", "t2", "ed25519:one", ""); !errors.Is(err, plan.ErrDenied) {
			r.t.Errorf("a revoked key: %v", err)
		}
		r.mustJoin(r.a, "t2", "s1", "ed25519:two")
		r.wantCellOf("ed25519:two", "s1")
		i := r.committedIdentity("s1")
		i.Serial, i.Revoked = i.Serial+1, true
		text := "apiVersion: sluice/v1\nkind: Identity\nepoch: 2\nserial: 4\npublicKey: ed25519:two\nrevoked: true\n"
		r.push("eve", "revoke", map[string]string{"cells/s1/identity.yaml": text})
		r.wantCellOf("ed25519:two", "")
		if got := r.committedIdentity("s1"); got != i {
			r.t.Errorf("a person's word became %+v", got)
		}
	})
}

// Many registrations become one commit without removed cells; a refusing host is tried later; a crash repeats nothing.
func TestIdentifyIsOneCommit(t *testing.T) {
	w := TwoChannels(t)
	runReplicas(t, w, func(r *replicas) {
		r.branch.mu.Lock()
		r.branch.refusePush = &releases.RefusedError{Reason: "closed for today"}
		r.branch.mu.Unlock()
		for _, name := range []string{"acme", "s1", "s2"} {
			r.addToken("t-"+name, name)
			r.mustJoin(r.b, "t-"+name, name, "ed25519:"+name)
		}
		r.wantCellOf("ed25519:acme", "acme") // even while the host refuses
		r.push("eve", "remove", map[string]string{"cells/s2/cell.yaml": "", "cells/s2/identity.yaml": ""})
		r.wantCellOf("ed25519:s2", "")
		if about, _ := r.a.View().Plan.BlockedIn(""); len(about) != 1 || about[0].Gate != "push" ||
			!strings.Contains(about[0].Reason, "closed for today") {
			r.t.Errorf("blocked %v", about)
		}
		r.branch.mu.Lock()
		r.branch.refusePush = nil
		r.branch.mu.Unlock()
		time.Sleep(6 * time.Minute)
		if i := r.committedIdentity("acme"); i.PublicKey != "ed25519:acme" || r.branch.pushes != 1 {
			r.t.Fatalf("committed %+v in %d pushes", i, r.branch.pushes)
		}
		r.branch.mu.Lock()
		last := r.w.Changes[len(r.w.Changes)-1]
		r.branch.mu.Unlock()
		if !strings.HasPrefix(last.Message, "identify 2 cells\n") || len(last.Files) != 2 {
			r.t.Errorf("%s, %d files", last.Message, len(last.Files))
		}
		r.a.stop()
		r.b.stop()
		r.a, r.b = r.start(r.a.store), r.start(r.b.store)
		time.Sleep(time.Minute)
		if r.branch.pushes != 1 {
			r.t.Errorf("%d pushes", r.branch.pushes)
		}
		r.wantCellOf("ed25519:s1", "s1")
	})
}

// History tells heads and identities apart: a committed identity answers no request and moves no head.
func TestIdentitiesAreNoDecisions(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	before := len(w.Desired().Channels["staging"].History)
	w.Obs.Registered = map[string]plan.Registration{"s1": {Cell: "s1", By: "ada",
		Identity: cells.Identity{APIVersion: "sluice/v1", Kind: "Identity", Epoch: 1, Serial: 1,
			PublicKey: "ed25519:one"}}}
	w.Commit("bob", "cut", Release("1.1.0"))
	for _, want := range []string{"promote 1.1.0 staging",
		"grant 1.1.0 staging s1+s2; identify"} { // one after the other
		if got := Kinds(w.Run()); !strings.HasPrefix(got, want) {
			t.Fatalf("did %q, want %q", got, want)
		}
	}
	if got := len(w.Desired().Channels["staging"].History); got != before+1 {
		t.Errorf("%d heads, before %d", got, before)
	}
	if i := w.Desired().Cells["s1"].Identity; i != w.Obs.Registered["s1"].Identity {
		t.Errorf("committed %+v", i)
	}
	w.WantActions("grant 1.1.0 staging s1") // under its new epoch
}

// R27, fault 38: a key that two machines use is shut out on every replica, with their names; a new token ends that.
func TestCloneIsShutOut(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.addToken("t1", "s1")
		r.mustJoin(r.a, "t1", "s1", "ed25519:one")
		for i := range 4 {
			to, boot := r.a, "north"
			if i%2 == 1 {
				to, boot = r.b, "south"
			}
			if _, err := to.Receive(r.t.Context(), &cells.Report{Cell: "s1", Boot: boot,
				State: cells.StatePending}); err != nil {
				r.t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		r.wantCellOf("ed25519:one", "")
		if why := r.b.Roster().RejectionReason("ed25519:one"); !strings.Contains(why, "north") ||
			!strings.Contains(why, "south") {
			r.t.Errorf("out because %q", why)
		}
		if i := r.committedIdentity("s1"); !strings.Contains(i.Quarantined, "report in turns") {
			r.t.Errorf("committed %+v", i)
		}
		r.addToken("t2", "s1")
		if i := r.mustJoin(r.b, "t2", "s1", "ed25519:two"); i.Quarantined != "" || i.Epoch != 2 {
			r.t.Errorf("registered %+v", i)
		}
		if _, err := r.a.Receive(r.t.Context(), &cells.Report{Cell: "s1", Boot: "south",
			State: cells.StatePending}); err != nil {
			r.t.Fatal(err)
		}
		r.wantCellOf("ed25519:two", "s1")
	})
}

// R27: each replica knows the boot of the newest report to any of them, under the cell's identity.
func TestR27ReportedBootReachesEveryReplica(t *testing.T) {
	runReplicas(t, TwoChannels(t), func(r *replicas) {
		r.addToken("t1", "s1")
		epoch := r.mustJoin(r.a, "t1", "s1", "ed25519:one").Epoch
		for range 3 {
			sent := time.Now()
			_, err := r.a.Receive(r.t.Context(), &cells.Report{Cell: "s1", Boot: "north", State: cells.StatePending})
			if err != nil {
				r.t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			if boot, at := r.b.View().ReportedBoot("s1", epoch); boot != "north" || at.Before(sent) {
				r.t.Errorf("the other replica knows of %q at %s, sent %s", boot, at, sent)
			}
		}
		if boot, _ := r.b.View().ReportedBoot("s1", epoch+1); boot != "" {
			r.t.Errorf("%q is of an earlier identity", boot)
		}
		if boot, _ := r.b.View().ReportedBoot("s2", epoch); boot != "" {
			r.t.Errorf("%q is of another cell", boot)
		}
	})
}

// R27, R46: why shows each change of a cell's key, who asked for it, and the commit that has it.
func TestR27WhyShowsKeyChanges(t *testing.T) {
	w := TwoChannels(t).ReportInstalled()
	w.Settle()
	id := cells.Identity{APIVersion: "sluice/v1", Kind: "Identity"}
	change := func(by, key string, edit func(*cells.Identity)) {
		id.Serial++
		if id.PublicKey != key {
			id.Previous, id.PublicKey = id.PublicKey, key
		}
		edit(&id)
		w.Obs.Registered = map[string]plan.Registration{"s1": {Cell: "s1", By: by, Identity: id, At: w.Now}}
		w.Now = w.Now.Add(time.Hour)
	}
	why := func() string {
		v := &view.View{Desired: w.Desired(), Observed: &w.Obs, Plan: w.Plan()}
		why, _ := view.Why(v, "s1", time.Time{})
		return strings.Join(why.Lines, "\n")
	}
	change("token of ada", "ed25519:one", func(i *cells.Identity) { i.Epoch = 1 })
	if got := why(); !strings.Contains(got, "registered, by token of ada (not committed yet)") {
		t.Errorf("before the commit:\n%s", got)
	}
	w.Settle()
	change("bob", "ed25519:one", func(i *cells.Identity) { i.Rotate = true })
	w.Settle()
	change("the cell", "ed25519:two", func(i *cells.Identity) { i.Rotate = false })
	w.Settle()
	change("the cell", "ed25519:two", func(i *cells.Identity) { i.Previous = "" })
	w.Settle()
	change("clone found", "ed25519:two", func(i *cells.Identity) { i.Quarantined = "boots N and S report in turns" })
	w.Settle()
	got, rest := why(), why()
	for _, want := range []string{
		"registered, by token of ada (in ", "is asked for a new key, by bob (in ", "has a new key, by the cell (in ",
		"uses its new key only, by the cell (in ", "quarantined: boots N and S report in turns, by clone found (in ",
	} {
		var found bool
		if _, rest, found = strings.Cut(rest, want); !found {
			t.Errorf("%q is not there, or not in order:\n%s", want, got)
		}
	}
	if text := w.Files["cells/s1/identity.yaml"]; text == "" {
		t.Fatal("there is no identity.yaml")
	} else if c := w.Commit("carol", "revoke s1", map[string]string{
		"cells/s1/identity.yaml": text + "revoked: true\n"}); !strings.Contains(why(), "revoked, by carol (in "+c[:7]) {
		t.Errorf("a person revoked it:\n%s", why())
	}
	if strings.Contains(why(), "s2") {
		t.Errorf("another cell:\n%s", why())
	}
	for range 20 {
		change("bob", "ed25519:two", func(i *cells.Identity) { i.Rotate = !i.Rotate })
		w.Settle()
	}
	if n := strings.Count(why(), "its key at "); n > 8 {
		t.Errorf("%d lines about the key", n)
	}
}
