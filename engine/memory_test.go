package engine

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/releases"
)

// branch is world as a Repository: a model for what git can't take part in, virtual time. The real one is tested against real git.
type branch struct {
	mu     sync.Mutex
	w      *world
	rival  func(*world) // runs once, just before a push lands
	refuse error        // what the next pushes are answered
	down   error        // what looks are answered
	lose   error        // what a push is answered that landed, once
	pushes int
}

func newBranch(w *world) *branch { return &branch{w: w} }

func (b *branch) Fetch(context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.w.tip, b.down
}

func (b *branch) FS(commit string) (fs.FS, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.w.open(commit)
}

func (b *branch) Changes(_ context.Context, since, tip string) ([]releases.Change, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.w.changes
	end := slices.IndexFunc(all, func(c releases.Change) bool { return c.Commit == tip })
	begin := 0
	if since != "" {
		begin = slices.IndexFunc(all, func(c releases.Change) bool { return c.Commit == since }) + 1
		if begin == 0 || begin > end+1 {
			return nil, ErrDiverged
		}
	}
	return slices.Clone(all[begin : end+1]), nil
}

func (b *branch) Push(_ context.Context, base string, chain []releases.Draft) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rival := b.rival; rival != nil {
		b.rival = nil
		rival(b.w)
	}
	if b.refuse != nil {
		return nil, b.refuse
	}
	if b.w.tip != base {
		return nil, ErrMoved
	}
	b.pushes++
	var commits []string
	for _, d := range chain {
		files := map[string]string{}
		for name, data := range d.Files {
			files[name] = string(data)
		}
		commits = append(commits, b.w.commit("sluice", d.Message, files))
	}
	err := b.lose
	b.lose = nil
	return commits, err
}

// memory is a Store that keeps nothing when it is gone.
type memory struct {
	mu        sync.Mutex
	obs       Observed
	decided   map[string]bool // by commit: announced
	announced []string
}

func newMemory() *memory {
	return &memory{obs: Observed{Cells: map[string]*CellState{}, Refused: map[string]Refusal{}}, decided: map[string]bool{}}
}

func (m *memory) Cells(context.Context, ...string) (map[string]*CellState, error) {
	return maps.Clone(m.obs.Cells), nil
}

func (m *memory) Free(context.Context, string, []string) error { return nil }

func (m *memory) Lead(context.Context, time.Duration) (int64, bool, error) { return 1, true, nil }

func (m *memory) Resign(context.Context) error { return nil }

func (m *memory) Claim(context.Context, string, Registration) error { return ErrDenied }

func (m *memory) Register(context.Context, Registration) error { return ErrStale }

func (m *memory) Follow(context.Context, func(News)) error { return nil }

func (m *memory) Now(context.Context) (time.Time, error) { return time.Now(), nil }

func (m *memory) Known(context.Context) (Observed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.obs
	o.Cells, o.Refused = maps.Clone(o.Cells), maps.Clone(o.Refused)
	return o, nil
}

func (m *memory) Report(_ context.Context, batch []Reported) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range batch {
		m.obs.Cells[r.State.Name] = r.State
	}
	return nil
}

func (m *memory) Learn(_ context.Context, l Learned) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.obs.Learned.Accepted = append(m.obs.Learned.Accepted, l.Accepted...)
	m.obs.Learned.Finished = append(m.obs.Learned.Finished, l.Finished...)
	m.obs.Learned.Rollouts = append(m.obs.Learned.Rollouts, l.Rollouts...)
	return nil
}

func (m *memory) Grant(_ context.Context, offers []Offer) (grants []Granted, err error) {
	for _, o := range offers {
		grants = append(grants, o.Granted)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range grants {
		m.obs.Cells[g.Cell] = Give(m.obs.Cells[g.Cell], g)
	}
	return grants, nil
}

func (m *memory) Observe(_ context.Context, observations []Observation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.obs.Observations = merge(m.obs.Observations, observations)
	return nil
}

func (m *memory) Decided(_ context.Context, decisions []Decided) (fresh []Decided, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range decisions {
		if !m.decided[d.Commit] {
			m.decided[d.Commit] = false
			fresh = append(fresh, d)
		}
	}
	return fresh, nil
}

func (m *memory) Announced(_ context.Context, commits []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range commits {
		m.decided[c] = true
	}
	m.announced = append(m.announced, commits...)
	return nil
}

func (m *memory) Seen(_ context.Context, commit string, d *Divergence) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.obs.Seen, m.obs.Diverged = commit, d
	return nil
}

func (m *memory) Refused(_ context.Context, channel string, r *Refusal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r == nil {
		delete(m.obs.Refused, channel)
	} else {
		m.obs.Refused[channel] = *r
	}
	return nil
}
