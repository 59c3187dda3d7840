package notifier_test

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/notifier"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/view"
)

// scene has the views that a notifier watches, of a world that the test changes.
type scene struct {
	*World
	store *store.Store

	mu      sync.Mutex // guards the fields below, and the world while a notifier runs
	view    *view.View
	changed chan struct{}
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
	close(s.changed)
	s.changed = make(chan struct{})
}

func newScene(t *testing.T, file string) *scene {
	kept, err := store.OpenWith(t.Context(), file, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kept.Close() })
	s := &scene{World: One(t, ""), store: kept, changed: make(chan struct{})}
	s.leads.Store(true)
	return s
}

func (s *scene) start(t *testing.T) (n *notifier.Notifier, stop func()) {
	t.Helper()
	n, err := notifier.New(notifier.Options{Engine: s, Files: s, Outbox: s.store, Records: s.store.Records(),
		Log: zerolog.Nop(), Gap: 5 * time.Millisecond})
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

func (s *scene) readPosted(t *testing.T) (all []string) {
	t.Helper()
	found, err := s.store.Messages(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range found {
		all = append(all, m.Event.Type+" "+m.Webhook)
	}
	return all
}

// await waits until so many messages are posted, while views come.
func (s *scene) await(t *testing.T, n int) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		got := s.readPosted(t)
		if len(got) == n {
			return
		}
		if len(got) > n || time.Now().After(end) {
			t.Fatalf("posted %v, want %d", got, n)
		}
		s.change(nil)
	}
}

const file = "apiVersion: sluice/v1\nkind: Notices\nsinks: {chat: {type: slack, secret: chat}}\n" +
	"subscribe: [{sink: chat}]\n"

func TestPostsOnceThroughRestartsAndFaults(t *testing.T) {
	t.Parallel()
	s := newScene(t, filepath.Join(t.TempDir(), "s.db"))
	s.change(func() { s.Commit("ada", "tell", map[string]string{notices.File: file}) })
	n, stop := s.start(t)
	await(t, "read", func() bool { found, known := n.Subscriptions(); return known && found != nil })
	awaitBegun(t, s)
	s.change(func() { s.CutAndInstall("staging", "1.1.0") })
	s.await(t, 1)
	stop()

	// After a restart the same is not told again. A file with faults leaves the last valid one in force.
	s.change(func() { s.Commit("ada", "mistype", map[string]string{notices.File: file + "sbuscribe: []\n"}) })
	n, stop = s.start(t)
	await(t, "in force as it was", func() bool { found, known := n.Subscriptions(); return known && found != nil })
	s.change(func() { s.CutAndInstall("staging", "1.2.0") })
	s.await(t, 2)
	stop()

	// Who does not lead tells nothing, and knows the subscriptions for when it does.
	s.leads.Store(false)
	s.change(func() { s.Commit("ada", "mend", map[string]string{notices.File: file}) })
	n, _ = s.start(t)
	await(t, "read", func() bool { found, known := n.Subscriptions(); return known && found != nil })
	s.change(func() { s.CutAndInstall("staging", "1.3.0") })
	s.change(nil)
	if got := s.readPosted(t); len(got) != 2 {
		t.Errorf("without leading: %v", got)
	}
	s.leads.Store(true)
	s.await(t, 3)
	for _, got := range s.readPosted(t) {
		if got != "promotion notices/chat" {
			t.Error(got)
		}
	}
	// Without the file nobody is told.
	s.change(func() { s.Commit("ada", "silence", map[string]string{notices.File: ""}) })
	await(t, "silent", func() bool { found, _ := n.Subscriptions(); return found == nil })
}

// awaitBegun waits until the memory is stored, without which the head that is there would not be known.
func awaitBegun(t *testing.T, s *scene) {
	t.Helper()
	await(t, "begun", func() bool {
		s.change(nil)
		_, err := s.store.Records().Get(t.Context(), "notices", "part/staging")
		return err == nil
	})
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never " + what)
		}
	}
}

// failingStore fails to store the memory, as if the process died after posting.
type failingStore struct {
	*store.Store
	posts atomic.Int64
}

func (f *failingStore) PostMessages(ctx context.Context, m []plan.Message) ([]string, error) {
	if f.posts.Add(1) == 1 {
		if _, err := f.Store.PostMessages(ctx, m); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("the answer is lost: %w", plan.ErrBusy)
	}
	return f.Store.PostMessages(ctx, m)
}

// Fault 3: the messages were stored and the process did not hear of it: they are posted again, and stored once.
func TestPostedAgainAfterALostAnswer(t *testing.T) {
	t.Parallel()
	s := newScene(t, filepath.Join(t.TempDir(), "s.db"))
	s.change(func() { s.Commit("ada", "tell", map[string]string{notices.File: file}) })
	f := &failingStore{Store: s.store}
	n, err := notifier.New(notifier.Options{Engine: s, Files: s, Outbox: f, Records: s.store.Records(),
		Log: zerolog.Nop(), Gap: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = n.Run(ctx) }()
	awaitBegun(t, s)
	s.change(func() { s.CutAndInstall("staging", "1.1.0") })
	await(t, "posted twice", func() bool { s.change(nil); return f.posts.Load() >= 2 })
	if got := strings.Join(s.readPosted(t), "\n"); got != "promotion notices/chat" {
		t.Error(got)
	}
}
