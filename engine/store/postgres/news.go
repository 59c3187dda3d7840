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
	topic      = "sluice"    // of NOTIFY
	maxPayload = 7900        // bytes; PostgreSQL takes fewer than 8000
	tellEvery  = time.Second // what only says "still so" is gathered for so long
)

// note is what is sent: what one open store wrote.
type note struct {
	By       string   `json:"by"` // the writer's name
	Cells    []string `json:"cells,omitempty"`
	Versions []int64  `json:"versions,omitempty"` // of the reports; none: they were granted something
	Material bool     `json:"material,omitempty"`
	Known    bool     `json:"known,omitempty"`
	Pushed   bool     `json:"pushed,omitempty"`
	Flags    bool     `json:"flags,omitempty"`
}

// payloads spells a note out, in several where it is too long for one.
func (n note) payloads() ([]string, error) {
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

const notify = `SELECT pg_notify('` + topic + `', payload) FROM unnest($1::text[]) AS payload`

// NotifyPush tells the others that the branch may have moved.
func (s *Store) NotifyPush(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.queue.Closed() {
		return ErrClosed
	}
	return wrap("tell of a push", sendNow(ctx, s.pool, s.timeout, note{By: s.name, Pushed: true}))
}

// news is what this store wrote and heard of cells' versions.
type news struct {
	by string

	mu    sync.Mutex       // guards what follows
	still map[string]int64 // reports that said nothing new, to be sent
	known map[string]int64 // the newest version that was written here, or that Follow told of
}

func newNews(by string) *news {
	return &news{by: by, still: map[string]int64{}, known: map[string]int64{}}
}

// wrote notes versions of reports that are committed; those that said nothing new are gathered.
func (n *news) wrote(material, still map[string]int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, version := range material {
		n.known[name] = max(n.known[name], version)
		delete(n.still, name)
	}
	for name, version := range still {
		n.known[name] = max(n.known[name], version)
		n.still[name] = version
	}
}

// heard notes what another store wrote.
func (n *news) heard(of note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, version := range of.Versions {
		n.known[of.Cells[i]] = max(n.known[of.Cells[i]], version)
	}
}

// missed gives the cells whose versions are above those known here, and knows them from now on.
func (n *news) missed(kept map[string]int64) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var names []string
	for name, version := range kept {
		if version > n.known[name] {
			n.known[name] = version
			names = append(names, name)
		}
	}
	return names
}

// take gives what was gathered.
func (n *news) take() note {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := note{By: n.by, Versions: []int64{}}
	for name, version := range n.still {
		out.Cells, out.Versions = append(out.Cells, name), append(out.Versions, version)
	}
	clear(n.still)
	return out
}

// giveBack takes back what could not be sent.
func (n *news) giveBack(unsent note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, name := range unsent.Cells {
		n.still[name] = max(n.still[name], unsent.Versions[i])
	}
}

// tellStill sends, until Close, what was gathered.
func (s *Store) tellStill() {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-s.life.Done():
			ended = true
		}
		gathered := s.news.take()
		if len(gathered.Cells) == 0 {
			continue
		}
		if err := sendNow(context.Background(), s.pool, s.timeout, gathered); err != nil {
			s.news.giveBack(gathered)
			s.log.Debug().Err(err).Int("cells", len(gathered.Cells)).Msg("can't tell others of reports; they compare versions now and then")
		}
	}
}

func sendNow(ctx context.Context, pool *pgxpool.Pool, within time.Duration, n note) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	payloads, err := n.payloads()
	if err != nil {
		return err
	}
	_, err = pool.Exec(ctx, notify, payloads)
	return err
}

// readNote turns a payload into news; ok is false for one that this store sent, or that is none.
func (s *Store) readNote(payload string) (out engine.StoreUpdate, ok bool) {
	var n note
	if json.Unmarshal([]byte(payload), &n) != nil || n.By == s.name {
		return out, false
	}
	if len(n.Versions) == len(n.Cells) {
		s.news.heard(n)
	}
	return engine.StoreUpdate{Cells: n.Cells, Material: n.Material, Known: n.Known, Pushed: n.Pushed, Flags: n.Flags}, true
}
