package engine

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/channels"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/reason"
	"github.com/sluice-cd/sluice/releases"
)

// loopTest is an engine in a bubble of virtual time, with one healthy cell in each channel.
type loopTest struct {
	*Engine
	t      *testing.T
	w      *World
	branch *branch
	store  *memoryStore
	watch  chan struct{}
	cells  map[string]cells.State
}

// runLoop runs f beside an engine's loop, in virtual time. All cells report every 30 s.
func runLoop(t *testing.T, w *World, f func(*loopTest)) { runLoopAs(t, w, "", f) }

// runLoopAs is runLoop of an engine that signs with a key; empty: it signs nothing.
func runLoopAs(t *testing.T, w *World, key string, f func(*loopTest)) {
	synctest.Test(t, func(t *testing.T) {
		w.T, w.Now = t, time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		r := &loopTest{t: t, w: w, branch: newBranch(w), store: newMemoryStore(), watch: make(chan struct{}, 1),
			cells: map[string]cells.State{}}
		e, err := New(ctx, r.branch, r.store, Options{Log: zerolog.New(zerolog.NewTestWriter(t)),
			Poll: 10 * time.Minute, Key: key})
		if err != nil {
			r.t.Fatal(err)
		}
		r.Engine = e
		done := make(chan error, 2)
		go func() { done <- e.Run(ctx, r.watch) }()
		synctest.Wait()
		for name := range w.Desired().Cells {
			r.cells[name] = cells.StateHealthy
		}
		go func() { r.reportCells(ctx); done <- nil }()
		synctest.Wait()
		f(r)
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// reportCells acts as every cell's agent: it applies assignments at once, and reports.
func (r *loopTest) reportCells(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		for name, state := range r.cells {
			d, _, ok := r.View().Cell(name)
			if !ok {
				continue
			}
			rep := cells.Report{Cell: name, Boot: "b", Sent: time.Now(), State: state, Running: d.Assignment}
			if d.Assignment == nil {
				rep.State = cells.StatePending
			}
			if _, err := r.Receive(ctx, &rep); err != nil && ctx.Err() == nil {
				r.t.Error(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *loopTest) push(author, message string, files map[string]string) {
	r.branch.mu.Lock()
	r.w.Now = time.Now()
	r.w.Commit(author, message, files)
	r.branch.mu.Unlock()
	r.watch <- struct{}{}
	synctest.Wait()
}

// checkPlan checks that a view's plan is what it would be without memory of the plans before.
func checkPlan(t *testing.T, v *view.View) {
	t.Helper()
	if want := plan.Make(v.Desired, v.Observed, v.Plan.Now); !reflect.DeepEqual(v.Plan, want) {
		t.Errorf("with memory:\n%+v\nwithout:\n%+v", v.Plan, want)
	}
}

func (r *loopTest) headOf(channel string) string {
	synctest.Wait()
	checkPlan(r.t, r.View())
	return r.View().Desired.Channels[channel].Effective.Release
}

func TestLoopPromotesWhenSoaked(t *testing.T) {
	runLoop(t, TwoChannels(t), func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		r.push("bob", "cut", Release("1.1.0"))
		if got := r.headOf("staging"); got != "1.1.0" {
			r.t.Fatalf("staging at %s: %v %v", got, r.View().Plan.Blocked, r.View().Plan.Actions)
		}
		time.Sleep(59 * time.Minute)
		if got := r.headOf("dedicated"); got != "1.0.0" {
			r.t.Fatalf("dedicated at %s before its soak", got)
		}
		time.Sleep(3 * time.Minute)
		if got := r.headOf("dedicated"); got != "1.1.0" {
			r.t.Fatalf("dedicated at %s: %v", got, r.View().Plan.Blocked)
		}
		if n := r.branch.pushes; n != 2 {
			r.t.Errorf("%d pushes", n)
		}
		if n := len(r.store.announced); n != 4 { // two adopted heads, two promotions
			r.t.Errorf("announced %d", n)
		}
	})
}

// Fault 4: the branch moves during a plan, and the engine decides again on the new tip.
func TestLoopDecidesAgainWhenTheBranchMoved(t *testing.T) {
	runLoop(t, TwoChannels(t), func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		r.branch.beforePush = func(w *World) {
			w.Commit("eve", "hold", map[string]string{"channels/staging/holds/stop.yaml": "reason: not now\n"})
		}
		r.push("bob", "cut", Release("1.1.0"))
		time.Sleep(time.Minute)
		if got := r.headOf("staging"); got != "1.0.0" {
			r.t.Fatalf("staging at %s, and was held", got)
		}
		if n := r.branch.pushes; n != 0 {
			r.t.Errorf("%d pushes", n)
		}
	})
}

// Fault 5: a refused push is shown, waited out, and made once.
func TestLoopWaitsOutARefusal(t *testing.T) {
	runLoop(t, TwoChannels(t), func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		r.branch.mu.Lock()
		r.branch.refusePush = &RefusedError{Reason: "pre-receive hook declined"}
		r.branch.mu.Unlock()
		r.push("bob", "cut", Release("1.1.0"))
		time.Sleep(time.Second)
		synctest.Wait()
		blocked, _ := r.View().Plan.BlockedIn("staging")
		if len(blocked) != 1 || blocked[0].Gate != "push" || !strings.Contains(blocked[0].Reason, "hook declined") {
			r.t.Fatalf("blocked %v", blocked)
		}
		r.branch.mu.Lock()
		r.branch.refusePush = nil
		r.branch.mu.Unlock()
		time.Sleep(6 * time.Minute)
		if got := r.headOf("staging"); got != "1.1.0" || r.branch.pushes != 1 {
			r.t.Fatalf("staging at %s after %d pushes", got, r.branch.pushes)
		}
	})
}

// Fault 5, R46: a host that refuses all pushes is asked once for each of its refusals, whatever there is to push; one
// that refuses the engine's key alone does not keep channels from moving, and lists the key later.
func TestLoopPushesOnceForARefusal(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbQgs9NiZHNzT2UplYCSxVYLQnw66oFtV4UEeAy3fGy"
	for name, refuses := range map[string]func(releases.Draft) bool{
		"all":              func(releases.Draft) bool { return true },
		"sluice.yaml":      func(d releases.Draft) bool { return d.Files["sluice.yaml"] != nil },
		"all but its list": func(d releases.Draft) bool { return d.Files["sluice.yaml"] == nil },
	} {
		t.Run(name, func(t *testing.T) {
			w := TwoChannels(t, map[string]string{"sluice.yaml": ""}) // so that no key can be listed at the start
			w.Signs = map[string]string{"sluice": key}
			runLoopAs(t, w, key, func(r *loopTest) {
				r.branch.mu.Lock()
				var asked []time.Time
				r.branch.judgePush = func(chain []releases.Draft) error {
					if !refuses(chain[0]) {
						return nil
					}
					asked = append(asked, time.Now())
					return &RefusedError{Reason: "protected branch"}
				}
				r.branch.mu.Unlock()
				r.push("bob", "cut", Union(Release("1.1.0"),
					map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\n"}))
				time.Sleep(10 * time.Minute)
				r.branch.mu.Lock()
				if n := len(asked); n > 20 {
					r.t.Errorf("asked %d times in ten minutes", n)
				}
				for i := 1; i < len(asked); i++ {
					if asked[i].Sub(asked[i-1]) < time.Second {
						r.t.Errorf("asked again after %s", asked[i].Sub(asked[i-1]))
					}
				}
				r.branch.mu.Unlock()
				if got := r.headOf("staging"); (got == "1.1.0") != (name == "sluice.yaml") {
					r.t.Errorf("staging at %s", got)
				}
				r.branch.mu.Lock()
				r.branch.judgePush = nil
				r.branch.mu.Unlock()
				time.Sleep(10 * time.Minute)
				if got := r.headOf("staging"); got != "1.1.0" || !r.View().Desired.Authority.Enforced() {
					r.t.Errorf("afterwards staging is at %s, keys %+v", got, r.View().Desired.Authority)
				}
			})
		})
	}
}

// R61: a host that asks to be left alone until an instant is not fetched from before, and not pushed to; what it said
// is shown, and afterwards each push is made once.
func TestR61HostAsksToWait(t *testing.T) {
	t.Run("fetch", func(t *testing.T) {
		runLoop(t, TwoChannels(t), func(r *loopTest) {
			time.Sleep(2 * time.Minute)
			until := time.Now().Add(20 * time.Minute)
			r.branch.mu.Lock()
			r.branch.fetchErr = &releases.BusyError{Reason: "429 Too Many Requests", Until: until}
			r.branch.mu.Unlock()
			r.push("bob", "cut", Release("1.1.0"))
			r.branch.mu.Lock()
			asked := len(r.branch.fetches)
			r.branch.mu.Unlock()
			time.Sleep(19 * time.Minute)
			r.branch.mu.Lock()
			if n := len(r.branch.fetches) - asked; n > 0 {
				r.t.Errorf("asked %d times before the host wants to be asked", n)
			}
			r.branch.fetchErr = nil
			r.branch.mu.Unlock()
			if why, _ := view.Why(r.View(), "staging", time.Time{}); r.Unread() == nil ||
				!strings.Contains(why.Lines[0], "429") {
				r.t.Errorf("why says %q", why.Lines)
			}
			time.Sleep(3 * time.Minute)
			if got := r.headOf("staging"); got != "1.1.0" || r.Unread() != nil {
				r.t.Errorf("staging at %s, unread: %v", got, r.Unread())
			}
		})
	})
	t.Run("push", func(t *testing.T) {
		runLoop(t, TwoChannels(t), func(r *loopTest) {
			time.Sleep(2 * time.Minute)
			until := time.Now().Add(20 * time.Minute)
			var asked atomic.Int32
			r.branch.mu.Lock()
			r.branch.judgePush = func([]releases.Draft) error {
				if asked.Add(1); time.Now().Before(until) {
					return &releases.BusyError{Reason: "429 Too Many Requests", Until: until}
				}
				return nil
			}
			r.branch.mu.Unlock()
			r.push("bob", "cut", Release("1.1.0"))
			time.Sleep(time.Second)
			blocked, _ := r.View().Plan.BlockedIn("staging")
			if len(blocked) != 1 || blocked[0].Gate != "push" || !strings.Contains(blocked[0].Reason, "asks to wait") ||
				blocked[0].Until.Before(until.Add(-time.Second)) {
				r.t.Errorf("blocked %v", blocked)
			}
			time.Sleep(19 * time.Minute)
			if n := asked.Load(); n != 1 {
				r.t.Errorf("pushed %d times before the host wants to be asked", n)
			}
			time.Sleep(5 * time.Minute)
			if got := r.headOf("staging"); got != "1.1.0" || asked.Load() != 2 {
				r.t.Errorf("staging at %s after %d pushes", got, asked.Load())
			}
		})
	})
}

// R61: a host that hangs is told about, also where nothing else happens that would wake the loop.
func TestR61HangingHostIsTold(t *testing.T) {
	w := NewWorld(t, Union(Policy("staging", ""), Release("1.0.0"), Head("staging", "1.0.0"))) // no cell reports
	runLoop(t, w, func(r *loopTest) {
		hang := make(chan struct{})
		r.branch.mu.Lock()
		r.branch.hang = hang
		r.branch.mu.Unlock()
		r.push("bob", "cut", Release("1.1.0"))
		time.Sleep(SlowHost * 5 / 2)
		if u := r.View().Unread; u == nil || !strings.Contains(u.Reason, "not answered") {
			r.t.Errorf("unread: %v", u)
		}
		r.branch.mu.Lock()
		r.branch.hang = nil
		r.branch.mu.Unlock()
		close(hang)
		time.Sleep(time.Second)
		if got := r.headOf("staging"); got != "1.1.0" || r.View().Unread != nil {
			r.t.Errorf("staging at %s, unread: %v", got, r.View().Unread)
		}
	})
}

// What people should know of the host is in every view, in status and in the first lines of why, and goes again;
// nothing stops for it.
func TestHostNotesAreShown(t *testing.T) {
	runLoop(t, TwoChannels(t), func(r *loopTest) {
		const note = "the git host refuses the engine's tags"
		shown := func() (n int) {
			v := r.View()
			for _, name := range []string{"staging", "s1"} {
				if why, _ := view.Why(v, name, time.Time{}); strings.HasPrefix(why.Lines[0], note) {
					n++
				}
			}
			if slices.Contains(view.StatusOf(v, view.StatusPage{}).Notes, note) {
				n++
			}
			return n
		}
		for _, notes := range [][]string{{note}, nil} {
			r.branch.mu.Lock()
			r.branch.hostNotes = notes
			r.branch.mu.Unlock()
			time.Sleep(15 * time.Minute) // a poll
			if n := shown(); n != 3*len(notes) {
				r.t.Errorf("with notes %q, %d places show it", notes, n)
			}
		}
		r.branch.mu.Lock()
		r.branch.hostNotes = []string{note}
		r.branch.mu.Unlock()
		r.push("bob", "cut", Release("1.1.0"))
		if got := r.headOf("staging"); got != "1.1.0" || shown() != 3 {
			r.t.Errorf("staging at %s; %d places show the note", got, shown())
		}
	})
}

// Fault 13: the git host is away for an hour, and requested changes are made afterwards, in order.
func TestLoopOutlivesTheGitHost(t *testing.T) {
	runLoop(t, TwoChannels(t), func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		r.branch.mu.Lock()
		r.branch.fetchErr = errors.New("connection refused")
		r.branch.mu.Unlock()
		r.push("bob", "cut", Release("1.1.0"))
		time.Sleep(time.Hour)
		if r.Unread() == nil || r.View().Unread == nil || r.headOf("staging") != "1.0.0" {
			r.t.Fatal("the host is away")
		}
		r.branch.mu.Lock()
		r.branch.fetchErr = nil
		r.branch.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if r.headOf("staging") != "1.1.0" {
			r.t.Fatalf("staging at %s", r.headOf("staging"))
		}
	})
}

// setHang makes the git host hang, or answer again.
func (r *loopTest) setHang(hangs bool) {
	r.branch.mu.Lock()
	defer r.branch.mu.Unlock()
	if r.branch.hang != nil {
		close(r.branch.hang)
		r.branch.hang = nil
	}
	if hangs {
		r.branch.hang = make(chan struct{})
	}
}

// R61: grants need no git. A host that takes a fetch, or the push for another channel, and never answers stops none of
// them, and is told.
func TestHungHostStopsNoGrants(t *testing.T) {
	healthyOn := func(r *loopTest) (n int) {
		synctest.Wait()
		for _, s := range r.View().Observed.Cells {
			if s.Release == "1.1.0" {
				n++
			}
		}
		return n
	}
	for name, opens := range map[string]string{"fetch": "0 12 * * *", "push": "10 0 * * *"} {
		t.Run(name, func(t *testing.T) {
			w := NewWorld(t, Union(
				Policy("staging", "rollout: {waves: [{cells: 1, soak: 20m}, {percent: 100}]}\n"),
				Policy("edge", "gates:\n  - window: {opens: \""+opens+"\", for: 10h}\n"),
				CellFiles("staging", "s1", "s2"), CellFiles("edge", "e1"), Release("1.0.0"),
				Head("staging", "1.0.0"), Head("edge", "1.0.0")))
			runLoop(t, w, func(r *loopTest) {
				time.Sleep(2 * time.Minute)
				r.push("bob", "cut", Release("1.1.0"))
				time.Sleep(2 * time.Minute)
				if n := healthyOn(r); n != 1 {
					r.t.Fatalf("%d cells after the first wave", n)
				}
				r.setHang(true)
				if name == "fetch" {
					r.watch <- struct{}{}
				}
				time.Sleep(25 * time.Minute)
				if n := healthyOn(r); n != 2 {
					r.t.Fatalf("%d cells have it while the host hangs", n)
				}
				if u := r.View().Unread; name == "fetch" &&
					(u == nil || !strings.Contains(u.Reason, "not answered yet")) {
					r.t.Errorf("not told: %+v", u)
				}
				const since = "a push has been under way since 2000-01-01T00:10"
				why, _ := view.Why(r.View(), "edge", time.Time{})
				said := strings.Contains(strings.Join(why.Lines, "\n"), since)
				if said != (name == "push") || said != slices.ContainsFunc(why.Blocked, func(v channels.Verdict) bool {
					return v.Code == reason.PushRefused && strings.Contains(v.Reason, "has not answered yet")
				}) {
					r.t.Errorf("edge: %q, %+v", why.Lines, why.Blocked)
				}
				why, _ = view.Why(r.View(), "s1", time.Time{})
				if said != strings.Contains(strings.Join(why.Lines, "\n"), since) {
					r.t.Errorf("s1: %q", why.Lines)
				}
				if got := r.headOf("edge"); got != "1.0.0" {
					r.t.Errorf("edge is at %s", got)
				}
				r.push("bob", "cut", Release("1.2.0")) // the fetch that hangs began before it
				r.setHang(false)
				time.Sleep(2 * time.Minute)
				if r.View().Desired.Releases["1.2.0"] == nil {
					r.t.Error("what was pushed while the host hung is not seen")
				}
				if notes := r.View().HostNotes; len(notes) > 0 {
					r.t.Errorf("the host answers again: %q", notes)
				}
				if u := r.Unread(); u != nil {
					r.t.Errorf("the host answers again: %v", u)
				}
				if got := r.headOf("edge"); name == "push" && got != "1.2.0" {
					r.t.Errorf("edge is at %s after the host answered", got)
				}
			})
		})
	}
}

// R61: a rival that moves the branch before each of many pushes delays a promotion by moments.
func TestRivalDelaysByMoments(t *testing.T) {
	runLoop(t, TwoChannels(t), func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		lost := 0
		var rival func(w *World)
		rival = func(w *World) {
			w.Commit("rival", "mine", map[string]string{"note": time.Now().String()})
			if lost++; lost < 200 {
				r.branch.beforePush = rival
			}
		}
		r.branch.mu.Lock()
		r.branch.beforePush = rival
		r.branch.mu.Unlock()
		r.push("bob", "cut", Release("1.1.0"))
		time.Sleep(10 * time.Second)
		if got := r.headOf("staging"); got != "1.1.0" || lost != 200 {
			r.t.Fatalf("staging at %s after %d lost races", got, lost)
		}
	})
}

// R5, fault 6: a force-push stops everything until a person accepts the branch as it is.
func TestLoopStopsAfterAForcePush(t *testing.T) {
	runLoop(t, TwoChannels(t), func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		r.push("bob", "cut", Release("1.1.0"))
		lost := r.headOf("staging")
		if lost != "1.1.0" {
			r.t.Fatalf("staging at %s", lost)
		}
		tip := r.w.Tip
		r.branch.mu.Lock()
		r.w.Rewind(2) // drops the promotion and the release
		r.w.Commit("eve", "something else", Release("1.2.0"))
		r.branch.mu.Unlock()
		r.watch <- struct{}{}
		time.Sleep(time.Hour)
		synctest.Wait()
		if blocked, _ := r.View().Plan.BlockedIn("staging"); len(blocked) != 1 || blocked[0].Gate != "diverged" {
			r.t.Fatalf("blocked %v", blocked)
		}
		r.push("eve", "accept\n\n"+releases.AcknowledgeTrailer+": "+tip, map[string]string{"README.md": "we know"})
		time.Sleep(time.Minute)
		e := r.View().Desired.Channels["staging"].Effective
		if e.Release != "1.2.0" || e.Sequence != 9 {
			r.t.Fatalf("staging at %+v: a sequence that was served must not come again", e.Head)
		}
	})
}

// R5: where there are owners, one of those from before accepts a force-push. Whoever rewrites the branch can also write
// that they own it.
func TestOwnersAcceptAForcePush(t *testing.T) {
	const adaKey, eveKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG/IvJAu8LPJhX0OlSHfgPWKQhCXLtftJpTNrYLUG3Xc",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO8xkaRxTFCOTk5gxy1V8yNS3sHLeRUnaD3kDFqGFyWX"
	owned := func(name, key string) map[string]string {
		return map[string]string{"sluice.yaml": "apiVersion: sluice/v1\nkind: Pipeline\nengine: unsigned\npeople:\n  " + name +
			": {email: " + name + "@example.com, keys: [\"" + key + "\"]}\nowners: [" + name + "]\n"}
	}
	w, anew := TwoChannels(t, owned("ada", adaKey)), TwoChannels(t, owned("eve", eveKey), Release("1.2.0"))
	anew.Signs = map[string]string{"ada": adaKey, "eve": eveKey}
	runLoop(t, w, func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		r.push("bob", "cut", Release("1.1.0"))
		tip := r.w.Tip
		if r.headOf("staging") != "1.1.0" {
			r.t.Fatalf("staging at %s", r.headOf("staging"))
		}
		r.branch.mu.Lock()
		maps.Copy(anew.Known, w.Known)
		maps.Copy(anew.Commits, w.Commits)
		anew.T, r.w, r.branch.w = r.t, anew, anew
		r.branch.mu.Unlock()
		accept := "accept\n\n" + releases.AcknowledgeTrailer + ": " + tip
		for _, by := range []string{"eve", "bob", "ada"} {
			r.push(by, accept, map[string]string{"README.md": by})
			time.Sleep(time.Minute)
			synctest.Wait()
			if diverged := r.View().Observed.Diverged; (diverged == nil) != (by == "ada") {
				r.t.Fatalf("%s accepts a new branch, on which eve is owner: %v", by, diverged)
			}
		}
	})
}

// Fault 5: a push landed and its answer was lost; the engine finds it on the branch, and does not push twice.
func TestLoopFindsAPushThatLanded(t *testing.T) {
	runLoop(t, TwoChannels(t), func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		r.branch.mu.Lock()
		r.branch.losePushAnswer = errors.New("connection reset")
		r.branch.mu.Unlock()
		r.push("bob", "cut", Release("1.1.0"))
		time.Sleep(time.Minute)
		if got := r.headOf("staging"); got != "1.1.0" || r.branch.pushes != 1 {
			r.t.Fatalf("staging at %s after %d pushes", got, r.branch.pushes)
		}
		if s := r.View().Observed.Cells["s1"]; s == nil || s.Release != "1.1.0" {
			r.t.Errorf("s1 is at %+v", s)
		}
	})
}

// R14: the loop plans until no grant is left: cells that already run a rollback's release need no slot and no report.
func TestTickGrantsAllItCan(t *testing.T) {
	w := One(t, "rollout: {maxInFlight: 1}\n")
	runLoop(t, w, func(r *loopTest) {
		time.Sleep(2 * time.Minute)
		r.push("bob", "cut", Release("1.1.0"))
		time.Sleep(2 * time.Minute)
		if p := r.View().Plan; len(p.Actions) > 0 {
			r.t.Errorf("a plan was shown that was not carried out: %s", Kinds(p))
		}
		for _, name := range []string{"s1", "s2"} {
			if s := r.View().Observed.Cells[name]; s.Release != "1.1.0" {
				r.t.Errorf("%s is at %s", name, s.Release)
			}
		}
	})
}
