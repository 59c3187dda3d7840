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
	notifyChannel     = "sluice"    // the channel of NOTIFY
	maxPayload        = 7900        // in bytes; PostgreSQL accepts fewer than 8000
	unchangedInterval = time.Second // how long reports that say nothing new are gathered
)

// notification is the payload of NOTIFY: what one open store wrote.
type notification struct {
	By       string   `json:"by"` // the writer's Store.name
	Cells    []string `json:"cells,omitempty"`
	Versions []int64  `json:"versions,omitempty"` // of the reports; nil: the cells were granted something
	Material bool     `json:"material,omitempty"`
	Known    bool     `json:"known,omitempty"`
	Pushed   bool     `json:"pushed,omitempty"`
	Flags    bool     `json:"flags,omitempty"`
	Records  []string `json:"records,omitempty"`
}

// payloads encodes a notification, as several payloads if it is too long for one.
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

// NotifyPush notifies the other stores that the branch may have moved.
func (s *Store) NotifyPush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.queue.Closed() {
		return ErrClosed
	}
	return wrapError("notify of a push", sendNotification(ctx, s.pool, s.timeout,
		notification{By: s.name, Pushed: true}))
}

// versionTracker holds the versions of cells that this store wrote or was notified of.
type versionTracker struct {
	store string

	mu        sync.Mutex       // guards the fields below
	unchanged map[string]int64 // reports that said nothing new, to be sent
	newest    map[string]int64 // the newest version by cell, written here or notified of
}

func newVersionTracker(by string) *versionTracker {
	return &versionTracker{store: by, unchanged: map[string]int64{}, newest: map[string]int64{}}
}

// recordWritten records versions of committed reports, and gathers those that said nothing new.
func (n *versionTracker) recordWritten(material, unchanged map[string]int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, version := range material {
		n.newest[name] = max(n.newest[name], version)
		delete(n.unchanged, name)
	}
	for name, version := range unchanged {
		n.newest[name] = max(n.newest[name], version)
		n.unchanged[name] = version
	}
}

// recordReceived records what another store wrote.
func (n *versionTracker) recordReceived(of notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, version := range of.Versions {
		n.newest[of.Cells[i]] = max(n.newest[of.Cells[i]], version)
	}
}

// takeMissed returns the cells whose versions are above the newest, and records these versions.
func (n *versionTracker) takeMissed(stored map[string]int64) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for name, version := range stored {
		if version > n.newest[name] {
			n.newest[name] = version
			names = append(names, name)
		}
	}
	return names
}

// takeUnchanged returns and clears what was gathered.
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

// restoreUnchanged gathers again what could not be sent.
func (n *versionTracker) restoreUnchanged(unsent notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, name := range unsent.Cells {
		n.unchanged[name] = max(n.unchanged[name], unsent.Versions[i])
	}
}

// sendUnchanged sends what was gathered, until Close.
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
			s.log.Debug().Err(err).Int("cells", len(gathered.Cells)).
				Msg("other processes could not be notified of reports: they find them by comparing versions")
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

// decodeNotification decodes a payload; ok is false for a malformed one, and for one that this store sent.
func (s *Store) decodeNotification(payload string) (out engine.StoreUpdate, ok bool) {
	var n notification
	if json.Unmarshal([]byte(payload), &n) != nil || n.By == s.name {
		return out, false
	}
	if len(n.Versions) == len(n.Cells) {
		s.versions.recordReceived(n)
	}
	return engine.StoreUpdate{Cells: n.Cells, Material: n.Material, Known: n.Known, Pushed: n.Pushed, Flags: n.Flags,
			Records: n.Records},
		true
}
