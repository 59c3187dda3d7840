package plane

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/internal/words"
)

// maxOutbox is the size on disk, in bytes, beyond which a gap event replaces the older half of the history (R35).
const maxOutbox = 16 << 20

// Outbox keeps the cell's history until the control plane acknowledges it. Its file has one JSON line for each event,
// numbered for the cell's whole life and fsynced before Add returns. The first line holds the number of the last
// acknowledged event. An Outbox is safe for concurrent use.
type Outbox struct {
	path  string
	limit int64

	mu           sync.Mutex
	file         *os.File // open for appending; nil: it could not be written so far
	size         int64
	acknowledged int64         // all events up to this number are acknowledged
	pending      []cells.Event // the other events, in order
	damaged      bool          // load left out what was no event, in the middle of the file
}

type outboxHeader struct {
	Acknowledged int64 `json:"acknowledged"`
}

// OpenOutbox opens the history of a state folder. A history whose beginning is damaged is put aside, under the name
// that is returned, and a new one begins: the control plane then takes the agent as one that was restored. One that is
// damaged further on goes on with its other events, and is kept aside as it was. The error says that the machine does
// not let the agent read it.
func OpenOutbox(stateDir string) (_ *Outbox, aside string, err error) {
	o, aside, err := openOutbox(stateDir, maxOutbox)
	if disk.IsDamage(err) {
		if aside, err = disk.PutAside(filepath.Join(stateDir, "outbox"), time.Now()); err == nil {
			o, _, err = openOutbox(stateDir, maxOutbox)
		}
	}
	return o, aside, err
}

// openOutbox reads the history and drops a last line that a power loss cut short: Add had not returned for it.
func openOutbox(dir string, limit int64) (_ *Outbox, aside string, err error) {
	o := &Outbox{path: filepath.Join(dir, "outbox"), limit: limit}
	if err := o.load(); err != nil {
		return nil, "", fmt.Errorf("read the outbox: %w", err)
	}
	if o.damaged {
		if aside, err = disk.KeepAside(o.path, time.Now()); err != nil {
			return nil, "", fmt.Errorf("keep the damaged outbox: %w", err)
		}
	}
	_ = o.rewrite() // Add tries again and says why not: with a full disk the agent must start nevertheless
	return o, aside, nil
}

func (o *Outbox) load() error {
	f, err := os.Open(o.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewReader(io.LimitReader(f, 4*o.limit))
	bad := false // the line before
	for first := true; ; first = false {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if first {
			var head outboxHeader
			if err := json.Unmarshal(line, &head); err != nil {
				return fmt.Errorf("%s: %w", o.path, err)
			}
			o.acknowledged = head.Acknowledged
			continue
		}
		o.damaged = o.damaged || bad // a last line was cut short by a power loss: Add had not returned for its event
		var e cells.Event
		if bad = json.Unmarshal(line, &e) != nil || e.Number <= o.lastNumber(); !bad {
			o.pending = append(o.pending, e)
		}
	}
}

func (o *Outbox) rewrite() error {
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	if err := lines.Encode(outboxHeader{o.acknowledged}); err != nil {
		return err
	}
	for _, e := range o.pending {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	if err := disk.ReplaceFile(o.path, text.Bytes()); err != nil {
		return err
	}
	if o.file != nil {
		_ = o.file.Close() // the file was replaced
	}
	f, err := os.OpenFile(o.path, os.O_WRONLY|os.O_APPEND, 0o600)
	o.file, o.size = f, int64(text.Len())
	return err
}

func (o *Outbox) lastNumber() int64 {
	if n := len(o.pending); n > 0 {
		return o.pending[n-1].Number
	}
	return o.acknowledged
}

// lastAcknowledged returns the number of the newest event known to be acknowledged; 0: none.
func (o *Outbox) lastAcknowledged() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acknowledged
}

// Add numbers the events and returns once they are durable.
func (o *Outbox) Add(events []cells.Event, now time.Time) error {
	if len(events) == 0 {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	numbered := slices.Clone(events)
	for i := range numbered {
		numbered[i].Number, numbered[i].At = o.lastNumber()+int64(i)+1, now
		if err := lines.Encode(numbered[i]); err != nil {
			return fmt.Errorf("write the outbox: %w", err)
		}
	}
	if o.file == nil {
		if err := o.rewrite(); err != nil {
			return fmt.Errorf("write the outbox: %w", err)
		}
	}
	if o.size+int64(text.Len()) > o.limit {
		o.pending = append(o.pending, numbered...)
		o.dropOlderHalf(now)
		if err := o.rewrite(); err != nil {
			return fmt.Errorf("write the outbox: %w", err)
		}
		return nil
	}
	_, err := o.file.Write(text.Bytes())
	if err == nil {
		err = o.file.Sync()
	}
	if err != nil { // a part may have been written, under numbers that serve again: nothing follows it in this file
		_ = o.file.Close()
		o.file = nil
		return fmt.Errorf("write the outbox: %w", errors.Join(err, o.rewrite()))
	}
	o.pending = append(o.pending, numbered...)
	o.size += int64(text.Len())
	return nil
}

// dropOlderHalf replaces the older half of the events by one gap event. The gap has the number of the last event that
// it replaces, so that numbers still rise and missing events can be counted.
func (o *Outbox) dropOlderHalf(now time.Time) {
	half := len(o.pending) / 2
	if half == 0 {
		return
	}
	first, last := o.acknowledged+1, o.pending[half-1].Number
	gap := cells.Event{Number: last, At: now, Kind: "gap",
		Detail: fmt.Sprintf("events %d to %d were dropped: the outbox was full", first, last)}
	o.pending = append([]cells.Event{gap}, o.pending[half:]...)
}

// nextBatch returns the oldest events, in order: at most limit bytes of JSON, and at most n events.
func (o *Outbox) nextBatch(limit, n int) []cells.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, e := range o.pending[:min(n, len(o.pending))] {
		text, err := json.Marshal(e)
		if limit -= len(text) + 1; err != nil || limit < 0 {
			return slices.Clone(o.pending[:i])
		}
	}
	return slices.Clone(o.pending[:min(n, len(o.pending))])
}

// acknowledge drops the events up to number, and reports whether events are left.
func (o *Outbox) acknowledge(number int64) (more bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	number = min(number, o.lastNumber())
	if number <= o.acknowledged {
		return false, nil // nothing new: another report at once would not help
	}
	i, _ := slices.BinarySearchFunc(o.pending, number+1,
		func(e cells.Event, n int64) int { return int(min(1, max(-1, e.Number-n))) })
	o.pending = slices.Clone(o.pending[i:])
	o.acknowledged = number
	if err := o.rewrite(); err != nil {
		return false, fmt.Errorf("write the outbox: %w", err)
	}
	return len(o.pending) > 0, nil
}

// stubOldest replaces the oldest event by a short summary: the control plane refuses the full event.
func (o *Outbox) stubOldest(why string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.pending) == 0 {
		return nil
	}
	o.pending = slices.Clone(o.pending)
	e := o.pending[0]
	o.pending[0] = cells.Event{Number: e.Number, At: e.At, Kind: "rejected", Detail: words.Clip(e.Kind+": "+why, 200)}
	return o.rewrite()
}

func (o *Outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
