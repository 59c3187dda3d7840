package engine

import (
	"strings"
	"sync"

	"github.com/sluice-cd/sluice/internal/wake"
)

// RecordWatch tells one reader which records of a kind other processes wrote.
type RecordWatch struct {
	prefix  string // KIND/
	changed wake.Signal

	mu         sync.Mutex // guards the fields below
	keys       map[string]bool
	everything bool
}

// maxWatchedKeys is how many keys are noted one by one.
const maxWatchedKeys = 1000

// NewRecordWatch returns a watch of a kind of records, for Options. It tells while the engine runs, of the writes of
// other processes only.
func NewRecordWatch(kind string) *RecordWatch {
	return &RecordWatch{prefix: kind + "/", changed: wake.New(), keys: map[string]bool{}}
}

// Changed receives after other processes' writes.
func (w *RecordWatch) Changed() <-chan struct{} { return w.changed }

// Take returns the keys of records that were written since the last call; everything: any of them may have been.
func (w *RecordWatch) Take() (keys []string, everything bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key := range w.keys {
		keys = append(keys, key)
	}
	everything = w.everything
	w.keys, w.everything = map[string]bool{}, false
	return keys, everything
}

// note notes an update of the store.
func (w *RecordWatch) note(n StoreUpdate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fresh := n.All
	w.everything = w.everything || n.All
	for _, name := range n.Records {
		if key, ours := strings.CutPrefix(name, w.prefix); ours {
			fresh = true
			w.keys[key] = true
		}
	}
	if len(w.keys) > maxWatchedKeys {
		w.everything = true
		clear(w.keys)
	}
	if fresh {
		w.changed.Notify()
	}
}
