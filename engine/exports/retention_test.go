package exports_test

import (
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/engine/exports"
)

// What is kept of a cell goes with it: one that gets the name later, and has an identity of its own, sees none of it,
// and neither does who asks for it.
func TestFormerCellsAreForgotten(t *testing.T) {
	ctx := t.Context()
	first, hash := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 1, At: start,
		Gap: &cells.ExportGap{From: start, To: start, Why: "the owner removed it"}}, gauge("queue", 1))
	again, againHash := batch(t, cells.ExportHeader{Cell: "acme", Sequence: 1, At: start.Add(time.Hour)})
	clean := func(after time.Duration, epochs map[string]int64) func(*exports.Keeper) error {
		return func(k *exports.Keeper) error { return k.Clean(ctx, epochs, start.Add(after)) }
	}
	for name, tt := range map[string]struct {
		forget func(k *exports.Keeper) error
		kept   bool
	}{
		"it is still there":    {clean(exports.Retention-time.Second, map[string]int64{"acme": 1}), true},
		"it is gone":           {clean(0, map[string]int64{"globex": 1}), false},
		"another has the name": {clean(0, map[string]int64{"acme": 2}), false},
		"it exports no more":   {clean(exports.Retention, map[string]int64{"acme": 1}), false},
		"another exports": {func(k *exports.Keeper) error {
			b, err := exports.Parse(again)
			if err != nil {
				return err
			}
			r, err := k.Take(ctx, b, 2, start)
			if want := (cells.ExportReceipt{Sequence: 1, Hash: againHash}); r != want {
				t.Errorf("the next cell's first batch: %+v, want %+v", r, want)
			}
			return err
		}, false},
	} {
		k := newKeeper(t, nil)
		if got := take(t, k, first); got.Hash != hash {
			t.Fatal(got)
		}
		if err := tt.forget(k); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s, err := k.Load(ctx, "acme")
		if err != nil || (len(s.Values) > 0) != tt.kept || (len(s.Gaps) > 0) != tt.kept {
			t.Errorf("%s: kept is %+v (%v)", name, s, err)
		}
	}
}
