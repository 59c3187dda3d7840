package postgres

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sluice-cd/sluice/engine"
)

const (
	notifyChannel     = "sluice"    // of NOTIFY
	maxPayload        = 7900        // bytes; PostgreSQL takes fewer than 8000
	unchangedInterval = time.Second // what only says "still so" is gathered for so long
)

// notification is what is sent: what one open store wrote.
type notification struct {
	By       string   `json:"by"` // the writer's name
	Cells    []string `json:"cells,omitempty"`
	Versions []int64  `json:"versions,omitempty"` // of the reports; none: they were granted something
	Material bool     `json:"material,omitempty"`
	Known    bool     `json:"known,omitempty"`
	Pushed   bool     `json:"pushed,omitempty"`
	Flags    bool     `json:"flags,omitempty"`
}

// payloads spells a note out, in several where it is too long for one.
func (n notification) payloads() ([]string, error) {
	var all []string
	for {
		part, rest, size := n, n, 100+len(n.By)
		fit := 0
		for ; fit < len(n.Cells); fit++ {
			if size += len(n.Cells[fit]) + 24; size > maxPayload { // quotes, commas and a number; names are DNS labels
				break
			}
		}
		part.Cells, rest.Cells = n.Cells[:fit], n.Cells[fit:]
		if n.Versions != nil {
			part.Versions, rest.Versions = n.Versions[:fit], n.Versions[fit:]
		}
		payload, err := json.Marshal(part)
		if err != nil {
			return nil, err
		}
		all = append(all, string(payload))
		if rest.Known = false; len(rest.Cells) == 0 {
			return all, nil
		}
		n = rest
	}
}

const notifyStatement = `SELECT pg_notify('` + notifyChannel + `', payload) FROM unnest($1::text[]) AS payload`

// NotifyPush tells the others that the branch may have moved.
func (s *Store) NotifyPush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.queue.Closed() {
		return ErrClosed
	}
	return wrapError("tell of a push", sendNotification(ctx, s.pool, s.timeout, notification{By: s.name, Pushed: true}))
}

// versionTracker is what this store wrote and heard of cells' versions.
type versionTracker struct {
	store string

	mu        sync.Mutex       // guards what follows
	unchanged map[string]int64 // reports that said nothing new, to be sent
	newest    map[string]int64 // the newest version that was written here, or that Follow told of
}

func newVersionTracker(by string) *versionTracker {
	return &versionTracker{store: by, unchanged: map[string]int64{}, newest: map[string]int64{}}
}

// recordWritten notes versions of reports that are committed; those that said nothing new are gathered.
func (n *versionTracker) recordWritten(material, still map[string]int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, version := range material {
		n.newest[name] = max(n.newest[name], version)
		delete(n.unchanged, name)
	}
	for name, version := range still {
		n.newest[name] = max(n.newest[name], version)
		n.unchanged[name] = version
	}
}

// recordReceived notes what another store wrote.
func (n *versionTracker) recordReceived(of notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, version := range of.Versions {
		n.newest[of.Cells[i]] = max(n.newest[of.Cells[i]], version)
	}
}

// takeMissed gives the cells whose versions are above those known here, and knows them from now on.
func (n *versionTracker) takeMissed(kept map[string]int64) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for name, version := range kept {
		if version > n.newest[name] {
			n.newest[name] = version
			names = append(names, name)
		}
	}
	return names
}

// takeUnchanged gives what was gathered.
func (n *versionTracker) takeUnchanged() notification {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := notification{By: n.store, Versions: []int64{}}
	for name, version := range n.unchanged {
		out.Cells, out.Versions = append(out.Cells, name), append(out.Versions, version)
	}
	clear(n.unchanged)
	return out
}

// restoreUnchanged takes back what could not be sent.
func (n *versionTracker) restoreUnchanged(unsent notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, name := range unsent.Cells {
		n.unchanged[name] = max(n.unchanged[name], unsent.Versions[i])
	}
}

// sendUnchanged sends, until Close, what was gathered.
func (s *Store) sendUnchanged() {
	tick := time.NewTicker(unchangedInterval)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-s.lifetime.Done():
			ended = true
		}
		gathered := s.versions.takeUnchanged()
		if len(gathered.Cells) == 0 {
			continue
		}
		if err := sendNotification(context.Background(), s.pool, s.timeout, gathered); err != nil {
			s.versions.restoreUnchanged(gathered)
			s.log.Debug().Err(err).Int("cells", len(gathered.Cells)).Msg("can't tell others of reports; they compare versions now and then")
		}
	}
}

func sendNotification(ctx context.Context, pool *pgxpool.Pool, within time.Duration, n notification) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	payloads, err := n.payloads()
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, notifyStatement, payloads)
	return err
}

// decodeNotification turns a payload into news; ok is false for one that this store sent, or that is none.
func (s *Store) decodeNotification(payload string) (out engine.StoreUpdate, ok bool) {
	var n notification
	if json.Unmarshal([]byte(payload), &n) != nil || n.By == s.name {
		return out, false
	}
	if len(n.Versions) == len(n.Cells) {
		s.versions.recordReceived(n)
	}
	return engine.StoreUpdate{Cells: n.Cells, Material: n.Material, Known: n.Known, Pushed: n.Pushed, Flags: n.Flags}, true
}
