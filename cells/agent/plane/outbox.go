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

// maxOutbox is the size, in bytes on disk, beyond which the older half of the history gives way to one gap
// record (R35).
const maxOutbox = 16 << 20

// Outbox keeps the cell's history until the control plane has it: a file of one JSON line an event, numbered
// for the cell's whole life, fsynced before Add returns. The first line holds the number of the last event that
// was acknowledged. It is safe for concurrent use.
type Outbox struct {
	name  string
	limit int64

	mu    sync.Mutex
	file  *os.File // open for appending
	size  int64
	acked int64         // all events up to this are the control plane's
	kept  []cells.Event // the others, in order
}

// outboxHead is the first line.
type outboxHead struct {
	Acknowledged int64 `json:"acknowledged"`
}

// OpenOutbox reads the history of the cell with a state folder.
func OpenOutbox(stateDir string) (*Outbox, error) { return openOutbox(stateDir, maxOutbox) }

// openOutbox reads it. A last line that a power loss cut short was never promised to anyone.
func openOutbox(dir string, limit int64) (*Outbox, error) {
	o := &Outbox{name: filepath.Join(dir, "outbox"), limit: limit}
	if err := o.load(); err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	if err := o.rewrite(); err != nil {
		return nil, fmt.Errorf("read the outbox: %w", err)
	}
	return o, nil
}

func (o *Outbox) load() error {
	f, err := os.Open(o.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewReader(io.LimitReader(f, 4*o.limit))
	for first := true; ; first = false {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if first {
			var head outboxHead
			if err := json.Unmarshal(line, &head); err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			o.acked = head.Acknowledged
			continue
		}
		var e cells.Event
		if json.Unmarshal(line, &e) != nil {
			return nil // written over a power loss: nothing behind it was promised either
		}
		o.kept = append(o.kept, e)
	}
}

// rewrite replaces the file by what is kept.
func (o *Outbox) rewrite() error {
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	if err := lines.Encode(outboxHead{o.acked}); err != nil {
		return err
	}
	for _, e := range o.kept {
		if err := lines.Encode(e); err != nil {
			return err
		}
	}
	if err := disk.Replace(o.name, text.Bytes()); err != nil {
		return err
	}
	if o.file != nil {
		_ = o.file.Close() // replaced
	}
	f, err := os.OpenFile(o.name, os.O_WRONLY|os.O_APPEND, 0o600)
	o.file, o.size = f, int64(text.Len())
	return err
}

// last is the number of the newest event.
func (o *Outbox) last() int64 {
	if n := len(o.kept); n > 0 {
		return o.kept[n-1].Number
	}
	return o.acked
}

// confirmed is the number of the newest event that is known to be acknowledged; 0: none.
func (o *Outbox) confirmed() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.acked
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
		numbered[i].Number, numbered[i].At = o.last()+int64(i)+1, now
		if err := lines.Encode(numbered[i]); err != nil {
			return fmt.Errorf("write the outbox: %w", err)
		}
	}
	if o.size+int64(text.Len()) > o.limit {
		o.kept = append(o.kept, numbered...)
		o.makeRoom(now)
		if err := o.rewrite(); err != nil {
			return fmt.Errorf("write the outbox: %w", err)
		}
		return nil
	}
	if _, err := o.file.Write(text.Bytes()); err != nil {
		return fmt.Errorf("write the outbox: %w", errors.Join(err, o.rewrite())) // a part of it may be there
	}
	if err := o.file.Sync(); err != nil {
		return fmt.Errorf("write the outbox: %w", err)
	}
	o.kept = append(o.kept, numbered...)
	o.size += int64(text.Len())
	return nil
}

// makeRoom puts one visible gap record in place of the older half. It has the number of the last event that it
// stands for, so that numbers still rise and what is missing can be counted.
func (o *Outbox) makeRoom(now time.Time) {
	half := len(o.kept) / 2
	if half == 0 {
		return
	}
	first, last := o.acked+1, o.kept[half-1].Number
	gap := cells.Event{Number: last, At: now, Kind: "gap", Detail: fmt.Sprintf("events %d to %d were dropped: the outbox was full", first, last)}
	o.kept = append([]cells.Event{gap}, o.kept[half:]...)
}

// batch is the oldest events, in order: at most limit bytes of JSON and n in number.
func (o *Outbox) batch(limit, n int) []cells.Event {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, e := range o.kept[:min(n, len(o.kept))] {
		text, err := json.Marshal(e)
		if limit -= len(text) + 1; err != nil || limit < 0 {
			return slices.Clone(o.kept[:i])
		}
	}
	return slices.Clone(o.kept[:min(n, len(o.kept))])
}

// acknowledge forgets what the control plane has, and reports whether events that it does not have are left.
func (o *Outbox) acknowledge(number int64) (more bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	number = min(number, o.last())
	if number <= o.acked {
		return false, nil // whatever is left, asking again at once would not help
	}
	i, _ := slices.BinarySearchFunc(o.kept, number+1, func(e cells.Event, n int64) int { return int(min(1, max(-1, e.Number-n))) })
	o.kept = slices.Clone(o.kept[i:])
	o.acked = number
	if err := o.rewrite(); err != nil {
		return false, fmt.Errorf("write the outbox: %w", err)
	}
	return len(o.kept) > 0, nil
}

// stub replaces the oldest event by a short word of it: the control plane will not have it as it is.
func (o *Outbox) stub(why string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.kept) == 0 {
		return nil
	}
	o.kept = slices.Clone(o.kept)
	e := o.kept[0]
	o.kept[0] = cells.Event{Number: e.Number, At: e.At, Kind: "rejected", Detail: words.Clip(e.Kind+": "+why, 200)}
	return o.rewrite()
}

// Close ends the use of the file.
func (o *Outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.file.Close()
}
