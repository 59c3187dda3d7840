package engine

import (
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-cd/sluice/internal/wake"
)

// A watch tells of its own kind, of everything after a lost connection, and of many writes as of everything.
func TestRecordWatch(t *testing.T) {
	t.Parallel()
	w := NewRecordWatch("sessions")
	f := &follower{signals: newSignals(), pendingCells: map[string]bool{}, pending: wake.New(),
		watches: []*RecordWatch{w}}
	woken := func() bool {
		select {
		case <-w.Changed():
			return true
		default:
			return false
		}
	}
	f.handleUpdate(StoreUpdate{Records: []string{"cursors/a", "sessions2/b"}})
	f.handleUpdate(StoreUpdate{})
	if keys, everything := w.Take(); woken() || len(keys) > 0 || everything {
		t.Errorf("other kinds: %v, %t", keys, everything)
	}
	f.handleUpdate(StoreUpdate{Records: []string{"sessions/a/b"}})
	f.handleUpdate(StoreUpdate{Records: []string{"sessions/c"}})
	keys, everything := w.Take()
	if slices.Sort(keys); !woken() || fmt.Sprint(keys) != "[a/b c]" || everything {
		t.Errorf("its own: %v, %t", keys, everything)
	}
	f.handleUpdate(StoreUpdate{All: true})
	if keys, everything := w.Take(); !woken() || len(keys) > 0 || !everything {
		t.Errorf("all: %v, %t", keys, everything)
	}
	for n := range 2 * maxWatchedKeys {
		f.handleUpdate(StoreUpdate{Records: []string{fmt.Sprintf("sessions/%d", n)}})
	}
	if keys, everything := w.Take(); !woken() || len(keys) > maxWatchedKeys || !everything {
		t.Errorf("many: %d, %t", len(keys), everything)
	}
}
