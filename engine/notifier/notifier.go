// Package notifier is the loop around notices.Make: it watches the engine's views beside the engine's own loop, and
// posts what is to be told to the outbox. It decides nothing itself, and nothing in the engine waits for it.
//
// Every replica keeps the subscriptions at hand, for the sender; only the leader calls notices.Make. What Make
// remembers is in the store's records, one for each channel. Notices are posted before the memory is stored, and each
// ID is posted once, so that a crash in between tells nothing twice and leaves nothing out. If notices.yaml has faults,
// the last valid one is in force, also after a restart.
//
// Subscriptions may be called from any goroutine; Run must be called once.
package notifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/view"
	"github.com/sluice-cd/sluice/internal/manifest"
)

// Engine is what is watched: an engine.Engine.
type Engine interface {
	View() *view.View
	Changed() <-chan struct{} // closed when View returns another
	Leads() bool
	Now() time.Time
}

// Files reads a commit of the release repository.
type Files interface {
	FS(commit string) (fs.FS, error)
}

// Options of a Notifier. All but Log, Posted, Record and Gap are required.
type Options struct {
	Engine  Engine
	Files   Files
	Outbox  engine.Outbox
	Records records.Store
	Posted  func() // called after something was posted; may be nil
	// Record commits what came of letters to customers; nil: customers are told nothing.
	Record func(ctx context.Context, outcomes []notices.Outcome) error
	Log    zerolog.Logger
	Gap    time.Duration // the least time between two looks at the views; default 2 s
}

const (
	// After a look, the next one waits for so many times its duration, so that a twentieth of a core is used at most;
	// for longestRest at most, since a look may have waited for the disk or for other programs.
	restFactor  = 20
	longestRest = 10 * time.Second

	retryAfter = 5 * time.Second
)

// Notifier is the loop.
type Notifier struct {
	opts  Options
	cache manifest.Cache

	mu            sync.Mutex // guards the fields below
	subscriptions *notices.Subscriptions
	known         bool // a commit was read

	// The fields below belong to Run's goroutine.
	commit  string         // whose notices.yaml was read
	memory  notices.Memory // nil: it is to be read from the store
	stored  map[string]records.Record
	leads   bool
	restart time.Time         // not before
	queued  map[string]bool   // IDs of letters that were posted
	noted   map[string]string // what was recorded of cells, until the view has it
	record  time.Time         // not before: the last try failed
}

// New returns a notifier.
func New(o Options) (*Notifier, error) {
	if o.Engine == nil || o.Files == nil || o.Outbox == nil || o.Records == nil {
		return nil, errors.New("make notifier: it needs an engine, files, an outbox and records")
	}
	if o.Posted == nil {
		o.Posted = func() {}
	}
	if o.Gap <= 0 {
		o.Gap = 2 * time.Second
	}
	return &Notifier{opts: o, queued: map[string]bool{}, noted: map[string]string{}}, nil
}

// Subscriptions returns the subscriptions in force; nil: there are none. ok is false until a commit was read.
func (n *Notifier) Subscriptions() (s *notices.Subscriptions, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.subscriptions, n.known
}

// Run runs until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		changed := n.opts.Engine.Changed()
		wait := n.look(ctx)
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			continue
		case <-changed:
		}
		if !n.rest(ctx) {
			return nil
		}
	}
}

// rest waits until the next look is allowed. It returns false if ctx ended.
func (n *Notifier) rest(ctx context.Context) bool {
	t := time.NewTimer(time.Until(n.restart))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// look looks at the newest view, and returns how long to wait for another.
func (n *Notifier) look(ctx context.Context) (wait time.Duration) {
	began := time.Now()
	defer func() { n.restart = time.Now().Add(max(n.opts.Gap, min(longestRest, restFactor*time.Since(began)))) }()
	v := n.opts.Engine.View()
	if v == nil {
		return time.Hour
	}
	n.readSubscriptions(ctx, v.Desired.Commit)
	leads := n.opts.Engine.Leads()
	if leads != n.leads {
		// Another process may have written the memory meanwhile.
		n.leads, n.memory, n.queued, n.noted = leads, nil, map[string]bool{}, map[string]string{}
	}
	subscriptions, _ := n.Subscriptions()
	if !leads || subscriptions == nil {
		return time.Hour
	}
	var next time.Time
	var err error
	if len(subscriptions.Subscribe) > 0 {
		if next, err = n.postNotices(ctx, v, subscriptions); err != nil {
			n.memory = nil
		}
	}
	// What customers are told comes second: recording it takes as long as a push.
	again, customersErr := n.tellCustomers(ctx, v, subscriptions)
	if !again.IsZero() && (next.IsZero() || again.Before(next)) {
		next = again
	}
	err = errors.Join(err, customersErr)
	switch {
	case ctx.Err() != nil, errors.Is(err, plan.ErrDeposed):
		return time.Hour
	case err != nil:
		n.opts.Log.Warn().Err(err).Msg("notices could not be posted: trying again")
		return retryAfter
	case next.IsZero():
		return time.Hour
	}
	return max(next.Sub(n.opts.Engine.Now()), n.opts.Gap)
}

// postNotices posts what is to be told now, and stores what is to be remembered.
func (n *Notifier) postNotices(ctx context.Context, v *view.View, to *notices.Subscriptions) (next time.Time,
	err error) {
	if n.memory == nil {
		if n.memory, n.stored, err = readMemory(ctx, n.opts.Records); err != nil {
			return next, err
		}
	}
	now := n.opts.Engine.Now()
	told, memory, next := notices.Make(v, n.memory, now)
	labels := func(cell string) map[string]string {
		if c := v.Desired.Cells[cell]; c != nil {
			return c.Labels
		}
		return nil
	}
	var messages []plan.Message
	for _, t := range told {
		for _, d := range to.Route(t, labels, now) {
			m, err := outbox.NoticeMessage(d, now)
			if err != nil {
				return next, err
			}
			messages = append(messages, m)
		}
	}
	if err := n.post(ctx, messages); err != nil {
		return next, fmt.Errorf("post notices: %w", err)
	}
	if err := n.storeMemory(ctx, memory); err != nil {
		return next, err
	}
	n.memory = memory
	return next, nil
}

// post posts messages, each of which goes out once, however often it is posted.
func (n *Notifier) post(ctx context.Context, messages []plan.Message) error {
	if len(messages) == 0 {
		return nil
	}
	fresh, err := n.opts.Outbox.PostMessages(ctx, messages)
	if err == nil && len(fresh) > 0 {
		n.opts.Posted()
	}
	return err
}

// readSubscriptions reads notices.yaml of a commit, once.
func (n *Notifier) readSubscriptions(ctx context.Context, commit string) {
	if commit == n.commit {
		return
	}
	files, err := n.opts.Files.FS(commit)
	if err != nil {
		n.opts.Log.Warn().Err(err).Str("commit", commit).Msg("notices.yaml can't be read: what is known stays in force")
		return
	}
	found, faults := notices.Load(&n.cache, files)
	n.commit = commit
	if !manifest.Fatal(faults) {
		n.setSubscriptions(found)
		n.keepText(ctx, files)
		return
	}
	n.opts.Log.Error().Strs("faults", faultLines(faults)).Str("commit", commit).
		Msg("notices.yaml has faults: the last valid one is in force; run sluice validate")
	if _, known := n.Subscriptions(); !known {
		n.setSubscriptions(n.loadText(ctx))
	}
}

func (n *Notifier) setSubscriptions(s *notices.Subscriptions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.subscriptions, n.known = s, true
}

func faultLines(faults []manifest.Fault) []string {
	var lines []string
	for _, f := range faults {
		if !f.Warning && len(lines) < 10 {
			lines = append(lines, f.String())
		}
	}
	return lines
}

// The records of notices: the memory of each channel, and the last valid text of notices.yaml. No channel has the name
// of the latter.
const (
	recordKind = "notices"
	textKey    = "file/"
	partPrefix = "part/"
)

// keepText stores a valid notices.yaml, so that it is in force after a restart on a faulty one.
func (n *Notifier) keepText(ctx context.Context, files fs.FS) {
	text, err := fs.ReadFile(files, notices.File)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = nil, nil
	}
	var kept string
	r, readErr := n.opts.Records.Get(ctx, recordKind, textKey)
	if errors.Is(readErr, records.ErrNotFound) {
		r, readErr = records.Record{Kind: recordKind, Key: textKey}, nil
	}
	if err = errors.Join(err, readErr); err == nil {
		_ = json.Unmarshal(r.Body, &kept) // what can't be read is replaced
		if kept == string(text) {
			return
		}
		if r.Body, err = json.Marshal(string(text)); err == nil {
			_, err = n.opts.Records.Put(ctx, r)
		}
	}
	if err != nil && !errors.Is(err, records.ErrConflict) && ctx.Err() == nil { // a conflict: a replica stored it
		n.opts.Log.Warn().Err(err).Msg("notices.yaml could not be stored: after a restart on a faulty one there would be none")
	}
}

func (n *Notifier) loadText(ctx context.Context) *notices.Subscriptions {
	r, err := n.opts.Records.Get(ctx, recordKind, textKey)
	if err != nil {
		return nil
	}
	var text string
	if json.Unmarshal(r.Body, &text) != nil {
		return nil
	}
	return notices.Parse([]byte(text))
}

// readMemory reads the memory of all channels, with its records.
func readMemory(ctx context.Context, store records.Store) (notices.Memory, map[string]records.Record, error) {
	memory, stored := notices.Memory{}, map[string]records.Record{}
	for r, err := range records.All(ctx, store, recordKind, records.Page{Prefix: partPrefix}) {
		if err != nil {
			return nil, nil, fmt.Errorf("read what was told: %w", err)
		}
		channel := strings.TrimPrefix(r.Key, partPrefix)
		var p notices.Part
		if err := json.Unmarshal(r.Body, &p); err != nil {
			return nil, nil, fmt.Errorf("read what was told of %q: %w", channel, err)
		}
		memory[channel], stored[channel] = p, r
	}
	return memory, stored, nil
}

// storeMemory stores what changed since the last call.
func (n *Notifier) storeMemory(ctx context.Context, memory notices.Memory) error {
	for channel, p := range memory {
		if was, ok := n.memory[channel]; ok && reflect.DeepEqual(was, p) {
			continue
		}
		r := n.stored[channel]
		r.Kind, r.Key = recordKind, partPrefix+channel
		body, err := json.Marshal(p)
		if err == nil {
			r.Body = body
			r, err = n.opts.Records.Put(ctx, r)
		}
		if err != nil {
			return fmt.Errorf("store what was told of %q: %w", channel, err)
		}
		n.stored[channel] = r
	}
	for channel, r := range n.stored {
		if _, ok := memory[channel]; !ok {
			err := n.opts.Records.Delete(ctx, r.Kind, r.Key, r.Version)
			if err != nil && !errors.Is(err, records.ErrConflict) {
				return fmt.Errorf("forget what was told of %q: %w", channel, err)
			}
			delete(n.stored, channel)
		}
	}
	return nil
}
