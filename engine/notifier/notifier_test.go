package notifier_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/notifier"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// scene has the views that a notifier watches, of a world that the test changes.
type scene struct {
	*World
	store *store.Store

	mu      sync.Mutex // guards the fields below, and the world while a notifier runs
	view    *view.View
	changed chan struct{}
	update  bool
	leads   atomic.Bool
}

func (s *scene) View() *view.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

func (s *scene) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *scene) Leads() bool { return s.leads.Load() }

func (s *scene) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.World.Now
}

func (s *scene) FS(commit string) (fs.FS, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Open(commit)
}

// change changes the world, lets a second pass, and publishes what it is then.
func (s *scene) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if do != nil {
		do()
	}
	s.World.Now = s.World.Now.Add(time.Second)
	p := s.Plan()
	s.view = &view.View{Desired: s.Desired(), Observed: &s.Obs, Plan: p}
	if s.update { // an infrastructure update that a customer is to hear of
		s.view.Desired.Infrastructure = []infrastructure.Update{{Number: 7, Notes: "seven", Order: []string{"role"}}}
		s.view.Desired.Cells["s1"].Found = &cells.LoadedCell{Infrastructure: &cells.InfrastructureRecord{}}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

func newScene(t *testing.T) *scene {
	kept, err := store.OpenWith(t.Context(), filepath.Join(t.TempDir(), "s.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	s := &scene{World: One(t, ""), store: kept, changed: make(chan struct{})}
	s.leads.Store(true)
	s.change(func() { s.Commit("ada", "tell", map[string]string{notices.File: file}) })
	return s
}

func (s *scene) start(t *testing.T, box engine.Outbox) (n *notifier.Notifier, stop func()) {
	t.Helper()
	n, err := notifier.New(notifier.Options{Engine: s, Files: s, Outbox: box, Records: s.store.Records(),
		Record: func(context.Context, []notices.Outcome) error { return nil }, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return n, stop
}

// wantPosted publishes the view again after the notifier looked at it, and compares what is posted then.
func (s *scene) wantPosted(t *testing.T, want int) {
	t.Helper()
	settle()
	s.change(nil)
	settle()
	found, err := s.store.Messages(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != want {
		t.Fatalf("posted %d notices, want %d", len(found), want)
	}
	for _, m := range found {
		if got := m.Event.Type + " " + m.Webhook; got != "promotion notices/chat" {
			t.Error(got)
		}
	}
}

// settle waits, in the bubble's time, for longer than a notifier rests.
func settle() {
	time.Sleep(time.Minute)
	synctest.Wait()
}

const file = "apiVersion: sluice/v1\nkind: Notices\nsinks: {chat: {type: slack, secret: chat}}\n" +
	"subscribe: [{sink: chat}]\n"

func wantSubscriptions(t *testing.T, n *notifier.Notifier, want bool) {
	t.Helper()
	settle()
	if found, known := n.Subscriptions(); !known || (found != nil) != want {
		t.Fatalf("subscriptions: %v, known: %t, want any: %t", found, known, want)
	}
}

func TestPostsOnceThroughRestartsAndFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		n, stop := s.start(t, s.store)
		wantSubscriptions(t, n, true)
		s.wantPosted(t, 0)
		s.change(func() { s.CutAndInstall("staging", "1.1.0") })
		s.wantPosted(t, 1)
		stop()

		// After a restart the same is not told again. A file with faults leaves the last valid one in force.
		s.change(func() { s.Commit("ada", "mistype", map[string]string{notices.File: file + "sbuscribe: []\n"}) })
		n, stop = s.start(t, s.store)
		wantSubscriptions(t, n, true)
		s.wantPosted(t, 1)
		s.change(func() { s.CutAndInstall("staging", "1.2.0") })
		s.wantPosted(t, 2)
		stop()

		// Who does not lead tells nothing, and knows the subscriptions for when it does.
		s.leads.Store(false)
		s.change(func() { s.Commit("ada", "mend", map[string]string{notices.File: file}) })
		n, _ = s.start(t, s.store)
		wantSubscriptions(t, n, true)
		s.change(func() { s.CutAndInstall("staging", "1.3.0") })
		s.wantPosted(t, 2)
		s.leads.Store(true)
		s.wantPosted(t, 3)
		// Without the file nobody is told.
		s.change(func() { s.Commit("ada", "silence", map[string]string{notices.File: ""}) })
		wantSubscriptions(t, n, false)
	})
}

// hardOutbox is a store that loses the first answer, as if the process died after posting, or is slow.
type hardOutbox struct {
	*store.Store
	loses bool
	lacks string // a sink whose messages it refuses
	slow  time.Duration
	posts []time.Time // when each ended

	refused int
}

func (f *hardOutbox) PostMessages(ctx context.Context, m []plan.Message) ([]string, error) {
	time.Sleep(f.slow)
	isRefused := func(m plan.Message) bool { return f.lacks != "" && strings.Contains(m.Webhook, f.lacks) }
	if slices.ContainsFunc(m, isRefused) {
		f.refused++
		return nil, errors.New("refused")
	}
	fresh, err := f.Store.PostMessages(ctx, m)
	f.posts = append(f.posts, time.Now())
	if f.loses && len(f.posts) == 1 {
		return nil, fmt.Errorf("the answer is lost: %w", plan.ErrBusy)
	}
	return fresh, err
}

// Fault 3: the messages were stored and the process did not hear of it: they are posted again, and stored once.
func TestPostedAgainAfterALostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		box := &hardOutbox{Store: s.store, loses: true}
		s.start(t, box)
		s.wantPosted(t, 0)
		s.change(func() { s.CutAndInstall("staging", "1.1.0") })
		s.wantPosted(t, 1)
		if len(box.posts) != 2 {
			t.Errorf("posted %d times, want 2", len(box.posts))
		}
	})
}

// What can't be told to customers does not keep operators from hearing of anything.
func TestOperatorsHearThoughCustomersDoNot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		s.change(func() {
			s.update = true
			s.Commit("ada", "tell customers", map[string]string{notices.File: strings.Replace(file, "sinks: {",
				"sinks: {tickets: {type: webhook, url: https://tickets.example, secret: tickets}, ", 1) +
				"customers: [tickets]\n"})
		})
		box := &hardOutbox{Store: s.store, lacks: "tickets"}
		s.start(t, box)
		s.wantPosted(t, 0)
		s.change(func() { s.CutAndInstall("staging", "1.1.0") })
		s.wantPosted(t, 1)
		if box.refused == 0 {
			t.Error("there was no letter to a customer")
		}
	})
}

// A look that waited for a slow disk is followed by a short rest: the next notice is not minutes late.
func TestRestAfterASlowLookIsShort(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		box := &hardOutbox{Store: s.store, slow: 30 * time.Second}
		s.start(t, box)
		s.wantPosted(t, 0)
		s.change(func() { s.CutAndInstall("staging", "1.1.0") })
		time.Sleep(box.slow / 2)
		s.change(func() { s.CutAndInstall("staging", "1.2.0") })
		s.wantPosted(t, 2)
		if rest := box.posts[1].Sub(box.posts[0]) - box.slow; rest < 2*time.Second || rest > 10*time.Second {
			t.Errorf("rested for %s", rest)
		}
	})
}
