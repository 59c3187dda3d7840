package engine

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	. "github.com/sluice-cd/sluice/engine/enginetest"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/internal/backoff"
	"github.com/sluice-cd/sluice/releases"
)

// branch is a World as a Repository: a model, since real git can't take part in virtual time. Other tests use real git.
type branch struct {
	mu         sync.Mutex
	w          *World
	beforePush func(*World)                       // runs once, just before a push lands
	refusePush error                              // answer to the next pushes
	judgePush  func(chain []releases.Draft) error // answer to pushes; nil: refusePush is
	fetchErr   error                              // answer to fetches
	// until it is closed, the host takes calls and gives no answer; nil: it answers
	hang           chan struct{}
	losePushAnswer error // answer to the next push that lands
	hostNotes      []string
	pushes         int
	fetches        []time.Time
}

func newBranch(w *World) *branch { return &branch{w: w} }

// waitForHost returns once the host does not hang.
func (b *branch) waitForHost(ctx context.Context) error {
	b.mu.Lock()
	hang := b.hang
	b.mu.Unlock()
	if hang == nil {
		return nil
	}
	select {
	case <-hang:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *branch) Fetch(ctx context.Context) (string, error) {
	if err := b.waitForHost(ctx); err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fetches = append(b.fetches, time.Now())
	return b.w.Tip, b.fetchErr
}

func (b *branch) FS(commit string) (fs.FS, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.w.Open(commit)
}

func (b *branch) Changes(_ context.Context, since, tip string) ([]releases.Change, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var line []releases.Change
	for at := tip; at != since; {
		c, known := b.w.Known[at]
		if !known {
			return nil, ErrDiverged
		}
		line, at = append(line, c), c.Parent
	}
	slices.Reverse(line)
	return line, nil
}

func (b *branch) LastTip() string { return "" }

func (b *branch) ReadErrors() uint64 { return 0 }

func (b *branch) HostNotes() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hostNotes
}

func (b *branch) Contains(ctx context.Context, commit, tip string) (bool, error) {
	_, err := b.Changes(ctx, commit, tip)
	return !errors.Is(err, ErrDiverged), nil
}

func (b *branch) Push(ctx context.Context, base string, chain []releases.Draft) ([]string, error) {
	if err := b.waitForHost(ctx); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if rival := b.beforePush; rival != nil {
		b.beforePush = nil
		rival(b.w)
	}
	if b.refusePush != nil {
		return nil, b.refusePush
	}
	if b.judgePush != nil {
		if err := b.judgePush(chain); err != nil {
			return nil, err
		}
	}
	if b.w.Tip != base {
		return nil, ErrMoved
	}
	b.pushes++
	var commits []string
	for _, d := range chain {
		files := map[string]string{}
		for name, data := range d.Files {
			files[name] = string(data)
		}
		commits = append(commits, b.w.Commit("sluice", d.Message, files))
	}
	err := b.losePushAnswer
	b.losePushAnswer = nil
	return commits, err
}

// memoryStore is one process's Store in memory. Several with the same sharedDatabase are replicas.
type memoryStore struct {
	*sharedDatabase
	name        string
	onUpdate    func(StoreUpdate) // set while Follow runs; guarded by the database's mu
	unreachable bool              // the store can't be reached; guarded by the database's mu
	unreadable  bool              // updates arrive, reads fail; guarded by the database's mu
	term        int64             // the newest that this process led; guarded by the database's mu
}

// sharedDatabase is the database of one or more memoryStores.
type sharedDatabase struct {
	mu          sync.Mutex
	obs         plan.Observed
	grants      map[string]plan.Granted
	decided     map[string]bool // by commit: announced
	announced   []string
	clockOffset time.Duration  // how far the database's clock is ahead
	replicas    []*memoryStore // followers; none without hasReplicas
	hasReplicas bool

	term   int64
	holder *memoryStore
	until  time.Time

	tokens map[string]*token // by hash
}

// token is a one-time token of a cell.
type token struct {
	cell    string
	serial  int64
	expires time.Time
	key     string // the key that used the token
}

func newMemoryStore() *memoryStore {
	s := &sharedDatabase{grants: map[string]plan.Granted{}, decided: map[string]bool{}, tokens: map[string]*token{},
		obs: plan.Observed{
			Cells: map[string]*plan.CellState{}, Served: map[string]int64{}, Refused: map[string]plan.Refusal{},
			Registered: map[string]plan.Registration{}, Slots: map[string][]string{},
		}}
	return &memoryStore{sharedDatabase: s, name: "a"}
}

// replica returns another process's handle on the same database.
func (m *memoryStore) replica(name string) *memoryStore {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hasReplicas = true
	return &memoryStore{sharedDatabase: m.sharedDatabase, name: name}
}

// lock locks the database, unless it can't be reached.
func (m *memoryStore) lock() error {
	m.mu.Lock()
	if m.unreachable {
		m.mu.Unlock()
		return plan.ErrBusy
	}
	return nil
}

// lockAsLeader locks the database for a write that only the leader may make.
func (m *memoryStore) lockAsLeader() error {
	if err := m.lock(); err != nil {
		return err
	}
	if m.holder != m || m.term != m.sharedDatabase.term || !time.Now().Before(m.until) {
		m.mu.Unlock()
		return plan.ErrDeposed
	}
	return nil
}

// broadcast notifies the other processes; the caller holds the lock.
func (m *memoryStore) broadcast(n StoreUpdate) {
	for _, r := range m.replicas {
		if r != m && !r.unreachable {
			r.onUpdate(n)
		}
	}
}

func (m *memoryStore) Follow(ctx context.Context, told func(StoreUpdate)) error {
	m.mu.Lock()
	if !m.hasReplicas {
		m.mu.Unlock()
		return nil
	}
	m.onUpdate = told
	m.replicas = append(m.replicas, m)
	m.mu.Unlock()
	told(StoreUpdate{All: true})
	for backoff.Sleep(ctx, time.Second) == nil {
		m.mu.Lock()
		deaf := m.unreachable
		m.mu.Unlock()
		if !deaf {
			told(StoreUpdate{})
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.replicas = slices.DeleteFunc(m.replicas, func(r *memoryStore) bool { return r == m })
	return ctx.Err()
}

// setReachable cuts this process off from the database, or connects it again.
func (m *memoryStore) setReachable(yes bool) {
	m.mu.Lock()
	m.unreachable = !yes
	told := m.onUpdate
	m.mu.Unlock()
	if yes && told != nil {
		told(StoreUpdate{All: true})
	}
}

func (m *memoryStore) Now(context.Context) (time.Time, error) {
	if err := m.lock(); err != nil {
		return time.Time{}, err
	}
	defer m.mu.Unlock()
	return time.Now().Add(m.clockOffset), nil
}

func (m *memoryStore) AcquireLease(_ context.Context, length time.Duration) (int64, bool, error) {
	if err := m.lock(); err != nil {
		return 0, false, err
	}
	defer m.mu.Unlock()
	now := time.Now()
	if m.holder != nil && m.holder != m && now.Before(m.until) {
		return m.sharedDatabase.term, false, nil
	}
	if m.holder != m || !now.Before(m.until) {
		m.sharedDatabase.term++
	}
	m.holder, m.until, m.term = m, now.Add(length), m.sharedDatabase.term
	return m.term, true, nil
}

func (m *memoryStore) ReleaseLease(context.Context) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if m.holder == m {
		m.holder = nil
	}
	return nil
}

func (m *memoryStore) HasToken(_ context.Context, cell, hash string) (bool, error) {
	if err := m.lock(); err != nil {
		return false, err
	}
	defer m.mu.Unlock()
	t := m.tokens[hash]
	return t != nil && t.cell == cell && time.Now().Before(t.expires), nil
}

func (m *memoryStore) ClaimToken(_ context.Context, hash string, r plan.Registration) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	t := m.tokens[hash]
	switch {
	case t == nil || t.cell != r.Cell || !time.Now().Before(t.expires):
		return plan.ErrDenied
	case t.key == r.Identity.PublicKey:
		return nil
	case t.key != "" || t.serial != r.Identity.Serial-1 ||
		r.Identity.Serial <= m.obs.Registered[r.Cell].Identity.Serial:
		return plan.ErrDenied
	}
	t.key = r.Identity.PublicKey
	m.obs.Registered[r.Cell] = r
	m.broadcast(StoreUpdate{Known: true})
	return nil
}

func (m *memoryStore) Register(_ context.Context, r plan.Registration) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if r.Identity.Serial <= m.obs.Registered[r.Cell].Identity.Serial {
		return plan.ErrStale
	}
	m.obs.Registered[r.Cell] = r
	m.broadcast(StoreUpdate{Known: true})
	return nil
}

func (m *memoryStore) Cells(_ context.Context, names ...string) (map[string]*plan.CellState, error) {
	if err := m.lock(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	all := map[string]*plan.CellState{}
	for name, s := range m.obs.Cells {
		c := s.Stored()
		c.LastReport = c.LastReport.Round(0)
		all[name] = c
	}
	for name, g := range m.grants { // over states of writers that did not know the grant
		s := all[name]
		if s == nil || s.Granted == nil || !cells.Newer(*s.Granted, g.Assignment) {
			all[name] = plan.WithGrant(s, g)
			if s != nil {
				all[name].StartedAt = s.StartedAt
			}
		}
	}
	if len(names) > 0 {
		maps.DeleteFunc(all, func(name string, _ *plan.CellState) bool { return !slices.Contains(names, name) })
	}
	return all, nil
}

func (m *memoryStore) Known(context.Context) (plan.Observed, error) {
	if err := m.lock(); err != nil {
		return plan.Observed{}, err
	}
	defer m.mu.Unlock()
	if m.unreadable {
		return plan.Observed{}, plan.ErrBusy
	}
	o := m.obs
	o.Cells = nil
	o.Served, o.Refused, o.Registered, o.Slots = maps.Clone(o.Served), maps.Clone(o.Refused), maps.Clone(o.Registered),
		maps.Clone(o.Slots)
	return o, nil
}

func (m *memoryStore) NotifyPush(context.Context) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.broadcast(StoreUpdate{Pushed: true})
	return nil
}

func (m *memoryStore) RecordReports(_ context.Context, batch []plan.Reported) error {
	if err := m.lock(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	n := StoreUpdate{}
	for _, r := range batch {
		kept := int64(0)
		if s := m.obs.Cells[r.State.Name]; s != nil {
			kept = s.Version
		}
		if r.State.Version != kept+1 {
			return plan.ErrStale
		}
		n.Cells, n.Material = append(n.Cells, r.State.Name), n.Material || r.Material
	}
	for _, r := range batch {
		m.obs.Cells[r.State.Name] = r.State
	}
	m.broadcast(n)
	return nil
}

func (m *memoryStore) RecordLearned(_ context.Context, l plan.Learned) error {
	if err := m.lockAsLeader(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	all := &m.obs.Learned
	all.Accepted = append(slices.Clip(all.Accepted), l.Accepted...)
	all.Finished = append(slices.Clip(all.Finished), l.Finished...)
	all.Waves = append(slices.Clip(all.Waves), l.Waves...)
	all.Cohorts = append(slices.Clip(all.Cohorts), l.Cohorts...)
	m.broadcast(StoreUpdate{Known: true})
	return nil
}

func (m *memoryStore) RecordGrants(_ context.Context, offers []plan.Offer) (made []plan.Granted, err error) {
	if err := m.lockAsLeader(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	n := StoreUpdate{Material: true}
	for _, o := range offers {
		channel := o.Assignment.Channel
		used := m.obs.Slots[channel]
		if o.Cap > 0 && !slices.Contains(used, o.Cell) {
			if len(used) >= o.Cap {
				continue
			}
			m.obs.Slots[channel] = append(slices.Clone(used), o.Cell)
		}
		if g, ok := m.grants[o.Cell]; !ok || !cells.Newer(g.Assignment, o.Assignment) {
			m.grants[o.Cell] = o.Granted
		}
		made, n.Cells = append(made, o.Granted), append(n.Cells, o.Cell)
	}
	m.broadcast(n)
	return made, nil
}

func (m *memoryStore) FreeSlots(_ context.Context, channel string, names []string) error {
	if err := m.lockAsLeader(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.obs.Slots[channel] = slices.DeleteFunc(slices.Clone(m.obs.Slots[channel]),
		func(name string) bool { return slices.Contains(names, name) })
	m.broadcast(StoreUpdate{Known: true})
	return nil
}

func (m *memoryStore) RecordObservations(_ context.Context, observations []plan.Observation) error {
	if err := m.lockAsLeader(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.obs.Observations = plan.MergeObservations(m.obs.Observations, observations)
	m.broadcast(StoreUpdate{Known: true})
	return nil
}

func (m *memoryStore) RecordDecisions(_ context.Context, decisions []plan.Decided) (fresh []plan.Decided, err error) {
	if err := m.lockAsLeader(); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	m.obs.AddDecided(decisions)
	for _, d := range decisions {
		if announced, known := m.decided[d.Commit]; !known || !announced {
			m.decided[d.Commit] = false
			fresh = append(fresh, d)
		}
	}
	m.broadcast(StoreUpdate{Known: true})
	return fresh, nil
}

func (m *memoryStore) MarkAnnounced(_ context.Context, commits []string) error {
	if err := m.lockAsLeader(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	for _, c := range commits {
		m.decided[c] = true
	}
	m.announced = append(m.announced, commits...)
	return nil
}

func (m *memoryStore) RecordSeen(_ context.Context, commit string, d *plan.Divergence) error {
	if err := m.lockAsLeader(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	m.obs.Seen, m.obs.Diverged = commit, d
	m.broadcast(StoreUpdate{Known: true})
	return nil
}

func (m *memoryStore) RecordRefusal(_ context.Context, channel string, r *plan.Refusal) error {
	if err := m.lockAsLeader(); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if r == nil {
		delete(m.obs.Refused, channel)
	} else {
		m.obs.Refused[channel] = *r
	}
	m.broadcast(StoreUpdate{Known: true})
	return nil
}
